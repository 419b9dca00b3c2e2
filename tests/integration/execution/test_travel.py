"""Tasks that cannot be sent to another process."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import luigi
import pytest

from superluigi.engine.engine import run_graph
from superluigi.testing.executor_tasks import LoggedTask


class Locked(luigi.Task):
    """Holds what no pickle takes."""

    lock = luigi.Parameter()

    def run(self) -> None:
        raise AssertionError("it cannot come here")


@pytest.mark.filterwarnings("ignore:Parameter .*is not of type string", "ignore:Task .*without outputs")
@pytest.mark.parametrize("way", ["processes", "pool"])
def test_a_task_that_cannot_travel_fails_alone_and_says_what_to_do(way: str, tmp_path: Path) -> None:
    tasks = [Locked(lock=threading.Lock()), LoggedTask(folder=str(tmp_path), name="other")]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        report = run_graph(tasks, num_workers=2, executor=pool if way == "pool" else way)
    assert report.outcomes[tasks[1].task_id] == "ran"
    (failure,) = report.failures
    assert "cannot be sent to another process" in str(failure.error) and '"threads"' in str(failure.error)

"""Dask workers and the Dask scheduler die while tasks run on them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi.engine.engine import run_graph
from superluigi.errors import ExecutorLostError
from superluigi.testing.executor_tasks import Sleeps, journal

pytest.importorskip("distributed")

from dask_support import DaskCluster


def soon(folder: str, act: Callable[[list[list[str]]], None]) -> threading.Thread:
    """Call `act` with the journal once two tasks have begun."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while sum(line[0] == "begin" for line in journal(folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        act(journal(folder))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_tasks_of_a_dask_worker_that_died_run_again(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with DaskCluster(tmp_path) as address:
        killer = soon(folder, lambda lines: os.kill(int(lines[0][3]), signal.SIGKILL))
        tasks = [Sleeps(folder=folder, name=f"s{i}", seconds=0.5) for i in range(6)]
        report = run_graph(tasks, num_workers=2, executor=address)
        killer.join()
    assert report.success, report.describe()
    assert all((tmp_path / f"s{i}.txt").read_text() == f"s{i}" for i in range(6))


def test_losing_the_dask_scheduler_is_a_clear_error_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path)
    cluster = DaskCluster(tmp_path)
    with cluster as address:
        killer = soon(folder, lambda _: cluster.processes[0].kill())
        tasks = [Sleeps(folder=folder, name=f"s{i}", seconds=1.0) for i in range(8)]
        report = run_graph(tasks, num_workers=2, executor=address)
        killer.join()
    assert not report.success
    assert {type(failure.error) for failure in report.failures} == {ExecutorLostError}
    assert "only what is missing runs" in report.describe()
    assert report.counts()["not run"] >= 4

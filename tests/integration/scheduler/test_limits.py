"""`rate_limits` and `resources`: what they refuse, and from when a rate counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.engine.engine import run_graph
from superluigi.errors import OptionError, TaskFailedError
from superluigi.task_runner import run_task
from superluigi.testing.executor_tasks import journal, note


class SlowToArrive:
    """Takes a second to be unpickled, as a task does whose modules are imported for the first time."""

    def __reduce__(self) -> Any:
        return time.sleep, (1.0,)


class Call(luigi.Task):
    folder = luigi.Parameter()
    name = luigi.Parameter()
    channel = "api"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return 2 if self.name == "first" else 1

    def complete(self) -> bool:
        return (Path(self.folder) / self.name).exists()

    def run(self) -> None:
        note(self.folder, "run", self.name)
        (Path(self.folder) / self.name).touch()


def test_a_rate_counts_from_the_beginning_of_an_attempt_not_from_its_way_to_a_process(tmp_path: Path) -> None:
    first, second = (Call(folder=str(tmp_path), name=name) for name in ("first", "second"))
    first.slow = SlowToArrive()
    report = run_graph([first, second], num_workers=2, executor="processes", rate_limits={"api": "1/0.3s"})
    assert report.success, report.describe()
    assert [line[1] for line in journal(str(tmp_path))] == ["first", "second"]


@pytest.mark.parametrize("rate_limits", [["gpu"], 5, "gpu=1", {1: 2}, {"gpu": "3/0s"}, {"gpu": "0/s"}, {"gpu": 1.5}])
def test_limits_that_mean_nothing_are_refused_with_an_example(rate_limits: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="10/minute"):
        run_task(Call(folder=str(tmp_path), name="never"), rate_limits=rate_limits)
    assert not journal(str(tmp_path))


@pytest.mark.parametrize("resources", [["gpu"], {"gpu": "one"}, {"gpu": -1}])
def test_resources_that_mean_nothing_are_refused_with_an_example(resources: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'gpu': 1"):
        run_task(Call(folder=str(tmp_path), name="never"), resources=resources)
    assert not journal(str(tmp_path))


class Hungry(Call):
    resources = {"gpu": 3}


class AboveHungry(Call):
    def requires(self) -> Any:
        return Hungry(folder=self.folder, name="hungry")


@pytest.mark.parametrize(
    ("options", "there"),
    [({}, 1), ({"resources": {"gpu": 2}}, 2), ({"rate_limits": {"gpu": 0}}, 0)],
)
def test_a_task_that_needs_more_than_there_is_says_so(options: Any, there: int, tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match=f"3 of gpu, of which there is {there}") as caught:
        run_task(AboveHungry(folder=str(tmp_path), name="above"), **options)
    above = AboveHungry(folder=str(tmp_path), name="above")
    assert f"    blocks {above}" in str(caught.value)

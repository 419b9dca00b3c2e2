"""Tasks that run together as one (`batch_method`), as Luigi does, and what is said when they fail."""

from __future__ import annotations

from pathlib import Path

import luigi

from superluigi.engine.engine import run_graph
from superluigi.testing.executor_tasks import journal, note


class Batched(luigi.Task):
    numbers = luigi.IntParameter(batch_method=max)
    folder = luigi.Parameter()

    def complete(self) -> bool:
        return any(int(line[1]) >= self.numbers for line in journal(self.folder))

    def run(self) -> None:
        note(self.folder, "batch", self.numbers)


def test_tasks_are_batched_as_luigi_does(tmp_path: Path) -> None:
    report = run_graph([Batched(numbers=i, folder=str(tmp_path)) for i in range(5)])
    assert report.success, report.describe()
    assert journal(tmp_path) == [["batch", "4"]]


class FailsInBatch(Batched):
    def run(self) -> None:
        raise ValueError("no")


def test_all_tasks_of_a_failed_batch_are_named(tmp_path: Path) -> None:
    report = run_graph([FailsInBatch(numbers=i, folder=str(tmp_path)) for i in range(4)])
    assert [f.instance.numbers for f in report.failures] == [0, 1, 2, 3]
    assert {(f.kind, str(f.error), f.attempts) for f in report.failures} == {("failed", "no", 1)}


class FailsOnce(luigi.Task):
    """A batch is a task of its own here: its parameter is none of those of the tasks in it."""

    folder = luigi.Parameter()
    names = luigi.Parameter(batch_method=",".join)
    max_batch_size = 3
    retry_count = 2

    def complete(self) -> bool:
        return [self.names] in journal(self.folder)

    def run(self) -> None:
        if not journal(self.folder):
            note(self.folder, "failed")
            raise ValueError("no")
        for name in self.names.split(","):
            note(self.folder, name)


def test_a_batch_that_fails_and_then_succeeds_is_a_success(tmp_path: Path) -> None:
    report = run_graph([FailsOnce(names=name, folder=str(tmp_path)) for name in "abcd"])
    assert report.success and report.status == "SUCCESS_WITH_RETRY", report.summary
    assert "failed" not in report.counts() and not report.failures

"""What a task requires is removed before the task reads it, or is not to be made at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest

from superluigi.engine.engine import run_graph
from superluigi.errors import TargetMissingError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.executor_tasks import LoggedTask, journal, note


class Base(AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/base.txt")

    def run(self, output_path: Path) -> None:
        note(self.folder, "base")
        output_path.write_text("base")


class Vandal(LoggedTask):
    """Removes what others need while the run goes on."""

    priority = 10
    resources: ClassVar[dict[str, int]] = {"turn": 1}

    def work(self) -> None:
        (Path(self.folder) / "base.txt").unlink()


class Reads(LoggedTask):
    resources: ClassVar[dict[str, int]] = {"turn": 1}

    def requires(self) -> luigi.Task:
        return Base(folder=self.folder)

    def work(self) -> None:
        with self.input().open() as stream:
            note(self.folder, "read", stream.read())


class ReadsInCopy(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    resources: ClassVar[dict[str, int]] = {"turn": 1}

    def requires(self) -> luigi.Task:
        return Base(folder=self.folder)

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/copy.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text(input_path.read_text())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_requirement_that_is_removed_during_the_run_is_made_again(tmp_path: Path, workers: int) -> None:
    folder = str(tmp_path)
    run_graph(Base(folder=folder))
    (tmp_path / "journal").unlink()
    vandal, readers = Vandal(folder=folder, name="v"), [Reads(folder=folder, name="r"), ReadsInCopy(folder=folder)]
    report = run_graph([vandal, *readers], num_workers=workers)
    assert report.success, report.describe()
    assert journal(tmp_path).count(["base"]) == 1 and journal(tmp_path).count(["read", "base"]) == 1
    assert (tmp_path / "copy.txt").read_text() == "base"


@pytest.mark.parametrize("config", [{"max_reschedules": 0}, {"check_unfulfilled_deps": False}])
def test_a_removed_requirement_is_not_made_again_where_nobody_wants_that(tmp_path: Path, config: Any) -> None:
    folder = str(tmp_path)
    run_graph(Base(folder=folder))
    report = run_graph([Vandal(folder=folder, name="v"), Reads(folder=folder, name="r")], worker_config=config)
    assert journal(tmp_path).count(["base"]) == 1
    assert [type(failure.error) for failure in report.failures] == [TargetMissingError]


class Retired(LoggedTask):
    disabled = True


class NeedsRetired(LoggedTask):
    def requires(self) -> list[luigi.Task]:
        return [Retired(folder=self.folder, name="old"), Base(folder=self.folder)]


def test_a_disabled_task_is_named_as_what_blocks_the_rest(tmp_path: Path) -> None:
    report = run_graph(NeedsRetired(folder=str(tmp_path), name="root"))
    assert sorted(report.outcomes.values()) == ["disabled", "not run", "ran"]
    assert "Retired(" in report.describe() and "is disabled" in report.describe()
    assert "blocks NeedsRetired(" in report.describe()
    assert run_graph(Retired(folder=str(tmp_path), name="old")).failures[0].kind == "disabled"

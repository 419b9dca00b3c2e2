"""Targets of Luigi's that are no files, as those of tables: they work where no file is asked for, and say so there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest

from superluigi import cli, plan, run_task
from superluigi.errors import TargetError, TaskFailedError
from superluigi.lineage.staleness.why import why
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task, TaskWithMetadata


class Table(luigi.Target):
    """As `luigi.contrib.sqla.SQLAlchemyTarget`: a row says whether it is there, and it refuses to be opened."""

    rows: ClassVar[set[str]] = set()
    is_away = False

    def __init__(self, name: str) -> None:
        self.target_table = name

    def exists(self) -> bool:
        if Table.is_away:
            raise RuntimeError("the database is away")
        return self.target_table in self.rows

    def open(self, mode: str = "r") -> Any:
        raise NotImplementedError("Cannot open() a table")


class Unopened(luigi.Target):
    """As those of Luigi's that have no `open` at all."""

    def exists(self) -> bool:
        return True


class Load(luigi.Task):
    def output(self) -> Table:
        return Table("items")

    def run(self) -> None:
        Table.rows.add("items")


class LoadOfOurs(Load, Task):
    pass


class Given(luigi.ExternalTask):
    def output(self) -> Unopened:
        return Unopened()


class Report(AtomicTaskWithMetadata):
    source = luigi.TaskParameter()

    def requires(self) -> Any:
        return {"table": self.source()}

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.source.__name__}.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text(metadata["input"]["table"]["type"])


class Reads(Report):
    def run(self, input_path: Any, output_path: Path) -> None:
        output_path.write_text("")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Table, "rows", set())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("source", "said"), [(Load, "Table"), (LoadOfOurs, "Table"), (Given, "Unopened")])
def test_a_table_is_an_input_of_a_task_that_asks_for_no_path(source: Any, said: str) -> None:
    assert run_task(Report(source)).read_text() == said
    assert not plan(Report(source)).counts
    with pytest.raises(TaskFailedError, match=r"no file that input_path could name\. Leave input_path out"):
        run_task(Reads(source), force=True)


@pytest.mark.parametrize("base", [AtomicTaskWithMetadata, TaskWithMetadata])
def test_a_task_that_keeps_records_says_who_may_make_a_table(base: Any) -> None:
    class Makes(base):  # type: ignore[misc]
        def output(self) -> Table:
            return Table("made")

        def run(self) -> None:
            pass

    with pytest.raises(TaskFailedError, match=r"derive from superluigi\.tasks\.Task"):
        run_task(Makes())


@pytest.mark.parametrize(
    "ask",
    [why, lambda task: run_task(task, refresh="all"), lambda task: run_task(task, dry_run=True)],
    ids=["why", "refresh", "dry run"],
)
def test_a_database_that_is_away_is_told_with_the_task_whose_table_it_has(
    ask: Callable[[luigi.Task], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task(Report(Load))
    monkeypatch.setattr(Table, "is_away", True)
    with pytest.raises(
        TargetError, match=r"Load\(\): whether its output .* exists.*RuntimeError: the database is away"
    ):
        ask(Report(Load))


@pytest.mark.parametrize("command", ["status", "why", "graph"])
def test_commands_tell_it_in_a_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Table, "is_away", True)
    assert cli.main([command, __name__, "Load"]) == 1
    told = capfd.readouterr().err
    assert told.startswith("TargetError: Load(): whether") and len(told.splitlines()) == 1

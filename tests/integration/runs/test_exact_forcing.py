"""Each forced task runs exactly once per run: counted on disk, for every executor and number of workers."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.engine.engine import run_graph
from superluigi.errors import TaskFailedError
from superluigi.runs.context import RunContext
from superluigi.runs.force import ForcePlan
from superluigi.runs.resume import ForcedRunJournal
from superluigi.targets import LocalFileTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.executor_tasks import Discovers, Joins, journal, note

WAYS = [(1, None), (2, "threads"), (8, "threads"), (2, "processes"), (8, "processes"), (2, "dask")]


class Counted(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    name = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.name}.txt")

    def run(self, output_path: Any) -> None:  # type: ignore[override]
        note(self.folder, "run", self.name)
        output_path.write_text(self.name)


class Unsteady(Counted):
    """Fails twice in every run, then succeeds: tries since the last success decide."""

    retry_count = 5

    def requires(self) -> Any:
        return [Counted(folder=self.folder, name=f"leaf{i}") for i in range(3)]

    def run(self, output_path: Any) -> None:  # type: ignore[override]
        note(self.folder, "try", self.name)
        if sum(line == ["try", self.name] for line in journal(self.folder)) % 3:
            raise ValueError("not yet")
        note(self.folder, "run", self.name)
        output_path.write_text("at last")


class Root(Counted):
    """Static requirements, one of them unsteady, and discovered ones."""

    def requires(self) -> Any:
        leaves = [Counted(folder=self.folder, name=f"leaf{i}") for i in range(4)]
        return [*leaves, Unsteady(folder=self.folder, name="unsteady")]

    def run(self, output_path: Any) -> Any:  # type: ignore[override]
        yield Counted(folder=self.folder, name="found1")
        yield [Counted(folder=self.folder, name="found2"), Counted(folder=self.folder, name="leaf0")]
        note(self.folder, "run", self.name)
        output_path.write_text("root")


EVERYTHING = ["found1", "found2", "leaf0", "leaf1", "leaf2", "leaf3", "root", "unsteady"]


def ran(folder: str) -> Counter[str]:
    return Counter(line[1] for line in journal(folder) if line[0] == "run")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def quick_retries(tmp_path: Path) -> dict[str, dict[str, str]]:
    return {"scheduler": {"retry_delay": "0.01"}}


@pytest.mark.parametrize(("num_workers", "executor"), WAYS)
def test_force_upstream_runs_everything_once_with_retries_and_discoveries(
    num_workers: int, executor: str | None, folder: str, quick_retries: Any
) -> None:
    if executor == "dask":
        pytest.importorskip("distributed")
    options: dict[str, Any] = {"num_workers": num_workers, "executor": executor, "config": quick_retries}
    run_task(Root(folder=folder, name="root"), **options)
    assert ran(folder) == Counter(EVERYTHING)
    run_task(Root(folder=folder, name="root"), force_upstream=True, **options)
    assert ran(folder) == Counter(EVERYTHING * 2)


@pytest.mark.parametrize(("num_workers", "executor"), WAYS[:4])
def test_force_upstream_to_a_class_runs_the_paths_to_it_once(
    num_workers: int, executor: str | None, folder: str, quick_retries: Any
) -> None:
    options: dict[str, Any] = {"num_workers": num_workers, "executor": executor, "config": quick_retries}
    run_task(Root(folder=folder, name="root"), **options)
    run_task(Root(folder=folder, name="root"), force_upstream_to_task_cls=Unsteady, **options)
    assert ran(folder) == Counter([*EVERYTHING, "root", "unsteady"])


class Breaks(Counted):
    """Fails as long as a file says so."""

    def requires(self) -> Any:
        return [Counted(folder=self.folder, name=f"leaf{i}") for i in range(3)]

    def run(self, output_path: Any) -> None:  # type: ignore[override]
        if (Path(self.folder) / "broken").exists():
            raise ValueError("broken")
        note(self.folder, "run", self.name)
        output_path.write_text("whole")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_forced_run_that_failed_resumes_with_what_is_missing(folder: str, num_workers: int) -> None:
    root = Breaks(folder=folder, name="root")
    run_task(root, num_workers=num_workers)
    (Path(folder) / "broken").touch()
    with pytest.raises(TaskFailedError):
        run_task(root, force_upstream=True, num_workers=num_workers)
    assert (Path(folder) / "root.txt").read_text() == "whole"
    (Path(folder) / "broken").unlink()
    run_task(root, force_upstream=True, resume=True, num_workers=num_workers)
    assert ran(folder) == Counter({"leaf0": 2, "leaf1": 2, "leaf2": 2, "root": 2})


@pytest.mark.parametrize(("num_workers", "executor"), [(1, None), (2, "threads"), (2, "processes")])
@pytest.mark.parametrize("root_class", [Joins, Discovers])
def test_plain_luigi_tasks_are_forced_exactly_once(
    num_workers: int, executor: Any, root_class: Callable[..., luigi.Task], folder: str
) -> None:
    options = {"width": 3} if root_class is Joins else {}
    root = root_class(folder=folder, name="root", **options)
    for times in (1, 2):
        run = RunContext(plan=ForcePlan(everything=True))
        report = run_graph([root], run, num_workers=num_workers, executor=executor)
        assert report.success, report.describe()
        ended = Counter(line[1] for line in journal(folder) if line[0] == "end")
        assert set(ended.values()) == {times}


def test_two_forcing_runs_at_once_do_not_disturb_each_other(folder: str) -> None:
    root = Breaks(folder=folder, name="root")
    run_task(root)
    errors: list[BaseException] = []

    def force() -> None:
        try:
            run_task(root, force_upstream=True)
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=force) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    counted = ran(folder)
    assert all(2 <= counted[name] <= 3 for name in ("leaf0", "leaf1", "leaf2", "root")), counted
    assert (Path(folder) / "root.txt").read_text() == "whole"


class Plain(luigi.Task):
    """A task of Luigi's own: there is no record of it."""

    folder = luigi.Parameter()
    name = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(str(Path(self.folder) / f"{self.name}.txt"))

    def run(self) -> None:
        note(self.folder, "run", self.name)
        Path(self.output().path).write_text(self.name)


class Above(Counted):
    def requires(self) -> Any:
        return Plain(folder=self.folder, name="plain")


class Special(Above):
    """Its own requirement is known only to who asks it."""


class Finds(Counted):
    """Nothing but records tell that it needs anything."""

    def run(self, output_path: Any) -> Any:  # type: ignore[override]
        yield Plain(folder=self.folder, name="found-plain")
        yield {"special": Special(folder=self.folder, name="special")}
        if (Path(self.folder) / "broken").exists():
            raise ValueError("broken")
        note(self.folder, "run", self.name)
        output_path.write_text("found")


@pytest.mark.parametrize(
    ("meant", "forced"),
    [
        (Above, ["special", "root"]),
        ("Above", ["special", "root"]),
        (lambda folder: Plain(folder=folder, name="plain"), ["plain", "special", "root"]),
        (lambda folder: Plain(folder=folder, name="found-plain"), ["found-plain", "root"]),
        (Plain, ["plain", "found-plain", "special", "root"]),
    ],
    ids=["base class", "its name", "below a discovered task", "without a record", "class without records"],
)
def test_discovered_tasks_are_found_by_base_class_and_below_and_without_a_record(
    meant: Any, forced: list[str], folder: str
) -> None:
    root = Finds(folder=folder, name="root")
    run_task(root)
    before = ran(folder)
    named = isinstance(meant, (str, type))
    run_task(
        root, **{"force_upstream_to_task_cls" if named else "force_upstream_to_task": meant if named else meant(folder)}
    )
    assert ran(folder) - before == Counter(forced)


class Late(Counted):
    """Makes for the first time, in a forced run, what tells of its requirement."""

    def run(self, output_path: Any) -> Any:  # type: ignore[override]
        yield Counted(folder=self.folder, name="leaf-late")
        note(self.folder, "run", self.name)
        output_path.write_text("late")


class BreaksLate(Breaks):
    def requires(self) -> Any:
        return [Late(folder=self.folder, name="late"), Counted(folder=self.folder, name="leaf")]


def test_a_forced_run_resumes_though_its_first_half_brought_new_requirements_to_light(folder: str) -> None:
    root = BreaksLate(folder=folder, name="root")
    (Path(folder) / "broken").touch()
    with pytest.raises(TaskFailedError):
        run_task(root, force_downstream_of="Counted")
    (Path(folder) / "broken").unlink()
    run_task(root, force_downstream_of="Counted", resume=True)
    assert ran(folder) == Counter(["leaf", "leaf-late", "late", "root"])


class AbovePlain(Breaks):
    """Its requirements leave no records; one of them has no output at all."""

    def requires(self) -> Any:
        return [Plain(folder=self.folder, name="plain"), Silent(folder=self.folder, name="silent")]


class Silent(luigi.Task):
    folder = luigi.Parameter()
    name = luigi.Parameter()

    def run(self) -> None:
        note(self.folder, "run", self.name)
        (Path(self.folder) / "silent").touch()

    def complete(self) -> bool:
        return (Path(self.folder) / "silent").exists()


@pytest.mark.parametrize(("num_workers", "executor"), [(1, None), (2, "threads"), (2, "processes")])
def test_a_resumed_run_knows_what_it_made_without_leaving_records(
    folder: str, num_workers: int, executor: str | None
) -> None:
    root = AbovePlain(folder=folder, name="root")
    options: dict[str, Any] = {"num_workers": num_workers, "executor": executor}
    run_task(root, **options)
    (Path(folder) / "broken").touch()
    for resume in (False, True):
        with pytest.raises(TaskFailedError):
            run_task(root, force_upstream=True, resume=resume, **options)
    (Path(folder) / "broken").unlink()
    run_task(root, force_upstream=True, resume=True, **options)
    assert ran(folder) == Counter({"plain": 2, "silent": 2, "root": 2})
    run_task(root, force_upstream=True, resume=True, **options)  # nothing to resume any more: a forced run
    assert ran(folder) == Counter({"plain": 3, "silent": 3, "root": 3})
    assert not [*(Path(os.environ["SUPERLUIGI_WORKSPACE"]) / "forced").iterdir()]


def test_a_forced_run_that_ends_well_leaves_the_memory_of_a_later_one_of_the_same_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path))
    first, second = RunContext(), RunContext()

    def memory() -> ForcedRunJournal:
        return ForcedRunJournal("Root__1", ForcePlan(everything=True), {"force_upstream": True})

    with pytest.raises(ZeroDivisionError), ExitStack() as earlier:
        earlier.enter_context(memory().kept(first))
        with memory().kept(second):
            earlier.close()
            raise ZeroDivisionError
    assert memory().resumed(RunContext()).id == second.id

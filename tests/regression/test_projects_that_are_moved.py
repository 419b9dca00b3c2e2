"""A folder of outputs that is moved as a whole stays up to date; what was changed since is stale there as well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superluigi import lineage, run_task
from superluigi.lineage.staleness.why import why
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask

#: Where `Sum` is made: the place of its input stays when only this is another.
HOME = {"sum": "out"}


class Delivered(ExternalTask):
    def output(self) -> LocalFolderTarget:
        return LocalFolderTarget("inbox")


class Numbers(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return Delivered()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget("data/numbers.txt", metadata_path="records/numbers.json")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text((input_path / "a.txt").read_text())


class Parts(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return [Numbers()]

    def output(self) -> LocalFolderTarget:
        return LocalFolderTarget("data/parts")

    def run(self, input_path: Any, output_path: Path) -> None:
        (output_path / "a.txt").write_text(input_path[0].read_text())


class Sum(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return {"numbers": Numbers(), "parts": Parts()}

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{HOME['sum']}/sum.txt")

    def run(self, input_path: Any, output_path: Path) -> None:
        output_path.write_text(input_path["numbers"].read_text() * 2)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made here, and moved from here: the current folder is where it lies now."""
    before, now = tmp_path / "before", tmp_path / "now" / "deeper"
    (before / "inbox").mkdir(parents=True)
    (before / "inbox" / "a.txt").write_text("1")
    monkeypatch.setitem(HOME, "sum", "out")
    monkeypatch.chdir(before)
    run_task(Sum())
    now.parent.mkdir()
    shutil.move(before, now)
    monkeypatch.chdir(now)
    return now


def reasons() -> dict[str, str]:
    return {type(one.task).__name__: one.reason for one in why(Sum(), refresh="all")}


FRESH = dict.fromkeys(("Delivered", "Numbers", "Parts", "Sum"), "up to date")


def test_what_was_moved_together_is_up_to_date_and_nothing_runs(project: Path) -> None:
    assert reasons() == FRESH
    made = project / "out" / "sum.txt"
    before = os.stat(made)
    run_task(Sum(), refresh="all")
    assert os.stat(made).st_ino == before.st_ino


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda: Path("inbox/a.txt").write_text("22"), "Numbers"),
        (lambda: Path("inbox/more.txt").write_text("1"), "Numbers"),
        (lambda: run_task(Numbers(), force=True) and Path("data/numbers.txt").write_text("3"), "Parts"),
        (lambda: shutil.rmtree("data/parts"), "Sum"),
    ],
    ids=["external data", "one file more", "an input by hand", "an input is gone"],
)
def test_what_has_changed_there_is_stale(project: Path, change: Callable[[], object], stale: str) -> None:
    change()
    assert reasons()[stale] in ("input changed", "record missing")
    if stale == "Numbers":
        run_task(Sum(), refresh="inputs")
        assert reasons() == FRESH


@pytest.mark.parametrize("moved_first", [False, True])
def test_what_was_accepted_is_accepted_where_it_lies(
    moved_first: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [project] if moved_first else [project.parents[1] / "before", project]
    for number, place in enumerate(places):
        if place != Path.cwd():
            shutil.move(Path.cwd(), place)
            monkeypatch.chdir(place)
        if number == 0:
            Path("inbox/a.txt").write_text("22")
            assert reasons()["Numbers"] == "input changed"
            assert lineage.accept(Numbers(), why="no matter", inputs=True)
        assert reasons() == FRESH


def test_an_output_that_was_moved_alone_has_its_inputs_where_they_were(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task(Sum(), force_upstream=True)
    Sum().output().move("elsewhere/sum.txt")
    monkeypatch.setitem(HOME, "sum", "elsewhere")
    shutil.copytree("data", "elsewhere/data")  # what lies there as well is not what is required
    assert reasons() == FRESH

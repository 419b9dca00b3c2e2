"""Rule: what has become of the notes about a run fails nothing: neither a run whose outputs are there, nor a look."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import cached, run_task
from superluigi.cli import main
from superluigi.errors import TaskFailedError
from superluigi.parameters import ChoiceParameter, IntParameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


class Noted(AtomicTaskWithMetadata):
    n: int = IntParameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"noted/{self.n}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text(f"{self.n}")


def a_file(place: Path) -> Path:
    place.write_text("")
    return place


def below_a_file(place: Path) -> Path:
    return a_file(place) / "workspace"


def a_circle_of_links(place: Path) -> Path:
    place.symlink_to(place)
    return place


def a_name_too_long(place: Path) -> Path:
    return place / ("n" * 300)


def of_files(place: Path) -> Path:
    place.mkdir()
    for name in ("jobs", "spare", "running", "forced"):
        (place / name).write_text("")
    return place


class Kept(Noted):
    resumable = True

    def run(self, output_path: Path) -> None:
        print("one line")
        output_path.write_text(f"{self.terms()}")

    @cached("terms.json")
    def terms(self) -> int:
        return self.n


class Wanting(Noted):
    what: str = ChoiceParameter(choices=["task_dir", "checkpoint_path", "shared_path"])

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"wanting/{self.what}/{self.n}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text(str(self.shared_path("models") if self.what == "shared_path" else self.task_dir))


class Elsewhere(Wanting):
    chdir = True


class Resumable(Wanting):
    resumable = True

    def run(self, output_path: Path, checkpoint_path: Path) -> None:
        output_path.write_text(str(checkpoint_path))


class All(luigi.WrapperTask):
    def requires(self) -> list[Noted]:
        return [
            Wanting(n=1, what="task_dir"),
            Wanting(n=1, what="shared_path"),
            Resumable(n=1, what="checkpoint_path"),
            Elsewhere(n=2, what="task_dir"),
        ]


SEVERAL: tuple[dict[str, Any], ...] = ({}, {"force": True}, {"executor": "threads"}, {"num_workers": 2})
WAYS: tuple[Any, ...] = (
    {},
    {"executor": "threads"},
    {"num_workers": 2},
    pytest.param({"queue": "default"}, marks=pytest.mark.long),
)
PLACES = [a_file, below_a_file, a_circle_of_links, a_name_too_long, of_files]


@pytest.mark.parametrize("made", PLACES, ids=lambda made: made.__name__)
def test_a_workspace_that_can_be_none_fails_no_run_and_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Callable[[Path], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(made(tmp_path / "place")))
    for number, options in enumerate(SEVERAL):
        assert Path(run_task(Noted(n=number), **options)).read_text() == f"{number}"
    named = [__name__, "Noted", "--n", "0"]
    for command, code in (("status", 0), ("logs", 1), ("cancel", 1), ("why", 0)):
        assert main([command, *named]) == code, command
        assert "Traceback" not in "".join(capsys.readouterr()), command


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_only_keeps_notes_runs_and_what_needs_a_folder_says_which_setting_names_one_in_every_way_of_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(below_a_file(tmp_path / "place")))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert Path(run_task(Kept(n=3), **way)).read_text() == "3"
        with pytest.raises(TaskFailedError) as caught:
            run_task(All(), **way)
    assert len(told) <= 1, "what is told is told once"
    failures = [text for _, text in caught.value.failures]
    assert len(failures) == len(All().requires())
    assert all("takes no files" in text and "SUPERLUIGI_WORKSPACE" in text for text in failures), failures


class Loud(Noted):
    def run(self, output_path: Path) -> None:
        print("one line")
        super().run(output_path)


def test_a_full_disk_is_told_as_that_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "superluigi.tasks.runtime.workspace.task_folder.TaskFolder.open_log",
        lambda *_: os.open("/dev/full", os.O_WRONLY),
    )
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "full"))
    with pytest.warns(RuntimeWarning, match=r"takes no files: .*/full: No space left.*SUPERLUIGI_WORKSPACE"):
        assert Path(run_task(Loud(n=1))).read_text() == "1"

"""Rule: what has become of the notes about a run fails nothing: neither a run whose outputs are there, nor a look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi import run_task
from superluigi.cli import main
from superluigi.parameters import IntParameter
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


PLACES = [a_file, below_a_file, a_circle_of_links, a_name_too_long, of_files]


@pytest.mark.parametrize("made", PLACES, ids=lambda made: made.__name__)
def test_a_workspace_that_can_be_none_fails_no_run_and_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Callable[[Path], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(made(tmp_path / "place")))
    for number, options in enumerate(({}, {"force": True}, {"executor": "threads"})):
        assert Path(run_task(Noted(n=number), **options)).read_text() == f"{number}"
    named = [__name__, "Noted", "--n", "0"]
    for command, code in (("status", 0), ("logs", 1), ("cancel", 1), ("why", 0)):
        assert main([command, *named]) == code, command
        assert "Traceback" not in "".join(capsys.readouterr()), command

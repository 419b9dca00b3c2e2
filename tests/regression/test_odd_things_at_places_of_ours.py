"""What is no file, where a small file of ours is looked for: nothing waits for it, and it is told in our words."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superluigi import cli, lineage
from superluigi.errors import RecordError, SuperLuigiError
from superluigi.storage import small_files
from superluigi.storage.local import cleanup
from superluigi.storage.local.stages import staging
from superluigi.targets import LocalFileTarget, LocalFolderTarget

RECORD, PENDING = ".metadata.json", ".metadata.json.pending"


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _link_to_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("a pipe"))
    place.symlink_to("a pipe")


def _socket(place: Path) -> None:
    with contextlib.chdir(place.parent), socket.socket(socket.AF_UNIX) as one:
        one.bind(place.name)


def _endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


def _circle(place: Path) -> None:
    place.symlink_to(place.name)


def _folder(place: Path) -> None:
    place.mkdir()


@pytest.fixture(autouse=True)
def _not_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")


ODD = [_pipe, _link_to_pipe, _socket, _endless, _circle, _folder]


def _written(target: Any) -> None:
    with target.tmp_write_path() as path:
        (path / "a" if path.is_dir() else path).write_text("1")


def _looks(target: Any) -> None:
    """Everything that reads what lies beside an output; only errors of ours."""
    place = Path(target.path)
    looks: list[Callable[[], object]] = [
        target.exists, target.read_metadata, lambda: lineage.read(str(place)), lambda: lineage.verify(str(place)),
        lambda: list(cleanup.clean(place.parent)), lambda: _written(target), target.remove,
    ]  # fmt: skip
    for look in looks:
        with contextlib.suppress(SuperLuigiError):
            look()


def test_nothing_waits_for_what_is_no_file(tmp_path: Path) -> None:
    targets: list[Any] = []
    kinds = (LocalFileTarget, LocalFolderTarget)
    for odd, kind, suffix in (
        *itertools.product((_pipe,), kinds, (RECORD, PENDING, "swap")),
        *itertools.product(ODD[1:], kinds[:1], (RECORD,)),
        (_folder, LocalFolderTarget, PENDING),
    ):
        folder = tmp_path / f"{odd.__name__} {kind.__name__} {suffix}"
        targets.append(kind(folder / "out"))
        _written(targets[-1])
        place = staging.swap_journal(folder / "out") if suffix == "swap" else folder / f"out{suffix}"
        place.unlink(missing_ok=True)
        odd(place)
    begun = tmp_path / "begun"
    looking = multiprocessing.get_context("fork").Process(
        target=lambda: [_looks(one) for one in targets if begun.write_text(f"{one.path}\n")]
    )
    looking.start()
    looking.join(100)
    if looking.exitcode is None:
        looking.kill()
    assert looking.exitcode == 0, f"it waits, or ended by an error that is not ours, at {begun.read_text()}"


@pytest.mark.parametrize("odd", ODD)
def test_a_record_of_another_task_inside_a_folder_that_is_no_file_keeps_nobody(
    tmp_path: Path, odd: Callable[[Path], None]
) -> None:
    target = LocalFolderTarget(tmp_path / "out")
    _written(target)
    odd(tmp_path / "out" / f"x{RECORD}")
    with contextlib.suppress(SuperLuigiError):
        _written(target)
    assert target.exists()


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "large"
    with place.open("wb") as file:
        file.truncate(small_files.LIMIT_BYTES + 1)
    with pytest.raises(RecordError, match="too large"):
        small_files.read(place)


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "a\0b",
        "x" * 5000,
        "relative",
        "/proc/self/mem/x",
        "/dev/null",
        "/dev/zero",
        "..",
        "/",
        "//",
        "/.",
        3,
        "file:///x",
        "\ud800",
    ],
)
@pytest.mark.parametrize("kind", ["LocalFileTarget", "LocalFolderTarget", "no such", None])
def test_cleaning_survives_what_a_pending_record_says(tmp_path: Path, path: object, kind: object) -> None:
    pending = tmp_path / f"out{PENDING}"
    said = {"type": kind, "path": path, "size": 1}
    pending.write_text(json.dumps({"output": {key: value for key, value in said.items() if value is not None}}))
    cleanup.clean(tmp_path)


@pytest.mark.parametrize("name", [".", ".."])
@pytest.mark.parametrize("said", ["{}", '{"schema": "superluigi.lineage/1", "output": {"path": "/", "size": 1}}', "["])
def test_a_record_of_nothing_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / f"{name}.metadata.json").write_text(said)
    with LocalFileTarget(tmp_path / "made").tmp_write_path() as path:
        path.write_text("made")
    states = {Path(one.path).name: one.state for one in lineage.verify(tmp_path)}
    assert states[f"{name}.metadata.json"] == "changed" and "made" in states
    assert cli.main(["lineage", str(tmp_path / f"{name}.metadata.json")]) == 1
    assert "record of nothing" in capsys.readouterr().err

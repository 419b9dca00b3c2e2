"""A process whose folder has been removed: relative paths are refused with advice, absolute ones work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi import cli, lineage
from superluigi.errors import TargetMissingError
from superluigi.targets import LocalFileTarget, LocalFolderTarget


@pytest.fixture
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.usefixtures("_nowhere")
@pytest.mark.parametrize(
    "call",
    [
        lambda: LocalFileTarget("a"),
        lambda: LocalFolderTarget(Path("a/b")),
        lambda: LocalFileTarget("/a", metadata_path="b"),
        lambda: lineage.read("a"),
        lambda: lineage.verify("a"),
        lambda: lineage.trace("a"),
    ],
)
def test_a_relative_path_is_refused_with_advice(call: Callable[[], object]) -> None:
    with pytest.raises(TargetMissingError, match=r"has been removed.* Change to one"):
        call()


@pytest.mark.usefixtures("_nowhere")
@pytest.mark.parametrize("words", [["verify", "a"], ["lineage", "a"], ["status", "a.py", "B"], ["run", "mod", "B"]])
def test_commands_refuse_them_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    told = capsys.readouterr().err
    assert "has been removed" in told and "Traceback" not in told


@pytest.mark.usefixtures("_nowhere")
def test_absolute_paths_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = LocalFileTarget(tmp_path / "there" / "a")
    with target.tmp_write_path() as path:
        path.write_text("a")
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "there"))
    assert cli.main(["ls", "--in", str(tmp_path / "there")]) == 0
    assert cli.main(["verify", str(tmp_path / "there")]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err

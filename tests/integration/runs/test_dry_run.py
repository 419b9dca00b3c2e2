"""`dry_run=True` prints the tree with each task's state and touches nothing."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.errors import TaskFailedError
from superluigi.targets import LocalFileTarget, S3ObjectTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server
from superluigi.visuals import tree


class Given(ExternalTask):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "given.txt")


class Step(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    name = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.name}.txt")

    def run(self, output_path: Any) -> None:  # type: ignore[override]
        output_path.write_text(self.name)


class Plain(luigi.Task):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(str(Path(self.folder) / "plain.txt"))

    def run(self) -> None:
        Path(self.output().path).write_text("plain")


class Middle(Step):
    def requires(self) -> Any:
        return [Step(folder=self.folder, name="leaf"), Given(folder=self.folder), Plain(folder=self.folder)]


class Top(Step):
    def requires(self) -> Any:
        return {name: Middle(folder=self.folder, name=name) for name in ("left", "right")}

    def run(self, output_path: Any) -> None:  # type: ignore[override]
        if (Path(self.folder) / "broken").exists():
            raise ValueError("broken")
        output_path.write_text("top")


def told(text: str) -> dict[str, str]:
    """Task by its name -> what the tree says of it."""
    lines = re.findall(r"^[│├└─ ]*(\w+)\((.*?)\)  (.*)$", text, re.MULTILINE)
    return {
        (re.findall(r"name=(\w+)", params) or [family])[0]: re.split(r":| \(", state)[0]
        for family, params, state in lines
    }


def everything_in(*folders: Path) -> list[tuple[str, int, int]]:
    found = [path for folder in folders for path in [folder, *folder.rglob("*")]]
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in found if path.exists())


def test_the_tree_has_the_state_of_each_task_and_nothing_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path(os.environ["SUPERLUIGI_WORKSPACE"]).parent
    folder = tmp_path / "out"
    root = Top(folder=str(folder), name="top")

    def states(**options: Any) -> dict[str, str]:
        before = everything_in(tmp_path, home)
        capsys.readouterr()
        run_task(root, dry_run=True, **options)
        assert everything_in(tmp_path, home) == before
        return told(capsys.readouterr().out)

    names = ("top", "left", "right", "leaf", "Plain")
    assert states() == {**dict.fromkeys(names, "would run"), "Given": "missing external"}
    assert not folder.exists()
    folder.mkdir()
    (folder / "given.txt").touch()
    run_task(root)
    assert states() == dict.fromkeys([*names, "Given"], "complete")
    assert states(force_upstream=True) == {**dict.fromkeys(names, "forced"), "Given": "complete"}
    forced = {"top": "forced", "left": "forced", "right": "forced", "Plain": "forced"}
    assert states(force_downstream_of="Plain") == {**forced, "leaf": "complete", "Given": "complete"}
    (folder / "leaf.txt").unlink()
    assert states()["leaf"] == "not needed"
    (folder / "left.txt").unlink()
    (folder / "top.txt").unlink()
    assert states() == {
        **{"top": "would run", "left": "would run", "leaf": "would run"},
        **{"right": "complete", "Plain": "complete", "Given": "complete"},
    }


def test_a_task_with_two_dependants_is_shown_whole_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_task(Top(folder=str(tmp_path), name="top"), dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 4 + 1
    assert lines[-1] == "6 tasks: 5 would run, 1 missing external"


class Link(Step):
    number = luigi.IntParameter()

    def requires(self) -> Any:
        return Link(folder=self.folder, name="link", number=self.number - 1) if self.number else []


@pytest.mark.parametrize("listed", [tree.LISTED, 10_000])
def test_a_long_chain_is_a_narrow_tree_and_a_short_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    monkeypatch.setattr(tree, "LISTED", listed)
    run_task(Link(folder=str(tmp_path), name="link", number=1500), dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == min(1500, listed) + 2
    assert max(map(len, lines)) < 500


def test_what_a_resumed_forced_run_has_made_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Top(folder=str(tmp_path), name="top")
    (tmp_path / "given.txt").touch()
    run_task(root)
    (tmp_path / "broken").touch()
    with pytest.raises(TaskFailedError):
        run_task(root, force_upstream=True)
    capsys.readouterr()
    run_task(root, force_upstream=True, resume=True, dry_run=True)
    names = ("left", "right", "leaf", "Plain", "Given")
    assert told(capsys.readouterr().out) == {**dict.fromkeys(names, "complete"), "top": "forced"}


def test_a_dry_run_only_asks_s3(s3_server: S3Server, s3_bucket: str, local_root: Path) -> None:
    class Part(AtomicTaskWithMetadata):
        number = luigi.IntParameter()

        def requires(self) -> Any:
            return [Part(number=self.number - 1)] if self.number else []

        def output(self) -> S3ObjectTarget:
            return S3ObjectTarget(s3_bucket, f"parts/{self.number}", **s3_server.client_options)

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            output_path.write_text(str(self.number))

    run_task(Part(number=4))
    before = everything_in(local_root)
    for options in ({}, {"force_upstream": True}, {"force_upstream_to_task_cls": "Part"}, {"refresh": "all"}):
        with s3_server.counted() as seen:
            run_task(Part(number=5), dry_run=True, **options)  # type: ignore[arg-type]
        assert {request.method for request in seen} <= {"HEAD", "GET"}
        assert len(seen) <= 8 * 6, [str(request) for request in seen]
    assert everything_in(local_root) == before


def test_a_run_does_not_fail_because_its_terminal_cannot_show_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "grün…"
    folder.mkdir()
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    root = Step(folder=str(folder), name="leaf")
    run_task(root, dry_run=True)
    assert run_task(root) == folder / "leaf.txt"
    assert rb"gr\xfcn\u2026" in printed.getvalue()

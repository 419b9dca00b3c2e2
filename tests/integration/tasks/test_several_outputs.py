"""A task with several outputs, stopped at every step: each output is old or new, and a mix is not complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing import fault_injection

SERVER: dict[str, Any] = {}


class Several(AtomicTaskWithMetadata):
    """A file and a folder, and with a bucket an object and a prefix too; what they hold is told by a file."""

    place = luigi.Parameter()
    bucket = luigi.Parameter(default="")

    def output(self) -> dict[str, Any]:
        place = Path(self.place)
        found: dict[str, Any] = {
            "file": LocalFileTarget(place / "file"),
            "folder": [LocalFolderTarget(place / "folder")],
        }
        if self.bucket:
            found["object"] = S3ObjectTarget(self.bucket, "object", **SERVER)
            found["prefix"] = S3PrefixTarget(self.bucket, "prefix/", **SERVER)
        return found

    def run(self, output_path: Mapping[str, Any], metadata: dict[str, Any]) -> None:
        text = metadata["text"] = (Path(self.place) / "text").read_text()
        for path in (output_path["file"], output_path.get("object")):
            if path:
                path.write_text(text)
        for path in (output_path["folder"][0], output_path.get("prefix")):
            if path:
                (path / "a").write_text(text)
                (path / "b").write_text(text)


def make(place: Path, bucket: str, text: str) -> None:
    (place / "text").write_text(text)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_task(Several(str(place), bucket), force=True, raise_exception=True)


def seen(task: Several) -> dict[str, tuple[str, str]]:
    """For each output that is there: its text, and the text that its record speaks of."""
    found = {}
    for name, target in task.output().items():
        target = target[0] if isinstance(target, list) else target
        if target.exists():
            with target.tmp_read_path() as path:
                texts = {file.read_text() for file in (path.iterdir() if path.is_dir() else [path])}
            assert len(texts) == 1, f"{name} is a mix: {texts}"
            record = target.read_metadata()
            assert record is not None, f"{name} has lost its record"
            found[name] = texts.pop(), record["text"]
    return found


def check(task: Several, old: str | None) -> bool:
    """Each output is old or new with its own record; the task is complete only if they belong together.

    Whether all is as it was.
    """
    found = seen(task)
    for name, (text, recorded) in found.items():
        assert text == recorded and text in (old, "new"), (name, text, recorded)
    whole = len(found) == len(task.output()) and len({text for text, _ in found.values()}) == 1
    assert task.complete() == whole, found
    return whole and ("new", "new") not in found.values() if old else not found


@pytest.mark.parametrize("old", ["old", pytest.param(None, marks=pytest.mark.long)], ids=["overwriting", "first"])
def test_an_error_at_any_step_leaves_each_output_old_or_new_and_a_mix_incomplete(
    tmp_path: Path, s3_server: Any, s3_bucket: str, old: str | None
) -> None:
    SERVER.update(s3_server.client_options)
    task = Several(str(tmp_path), s3_bucket)
    make(tmp_path, s3_bucket, "old")
    n = total = 0
    intact = False
    while n <= total:
        if not intact:
            for target in (task.output()[name] for name in task.output()):
                (target[0] if isinstance(target, list) else target).remove()
            if old:
                make(tmp_path, s3_bucket, old)
        with contextlib.suppress(OSError), fault_injection.stopping_at(n, "error") as steps:
            make(tmp_path, s3_bucket, "new")
        total = total if n else len(steps)
        n += 1
        intact = check(task, old)
    assert n > 10
    make(tmp_path, s3_bucket, "last")
    assert set(seen(task).values()) == {("last", "last")} and task.complete()


def make_on(server: dict[str, Any], place: Path, bucket: str) -> None:
    """In another process, which has to be told of the server."""
    SERVER.update(server)
    make(place, bucket, "new")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("on_s3", [False, True], ids=["local", "all-four"])
def test_a_death_at_any_step_leaves_each_output_old_or_new_and_a_mix_incomplete(
    tmp_path: Path, s3_server: Any, s3_bucket: str, on_s3: bool
) -> None:
    bucket = s3_bucket if on_s3 else ""
    SERVER.update(s3_server.client_options)
    task = Several(str(tmp_path), bucket)
    n, code = 0, fault_injection.DEATH
    while code == fault_injection.DEATH:
        make(tmp_path, bucket, "old")
        n += 1
        code = fault_injection.stopped_in_child(n, "death", make_on, dict(SERVER), tmp_path, bucket)
        check(task, "old")
    assert n > (30 if on_s3 else 10) and code == 0
    make(tmp_path, bucket, "last")
    assert set(seen(task).values()) == {("last", "last")} and task.complete()
    assert sorted(os.listdir(tmp_path)) == ["file", "file.metadata.json", "folder", "folder.metadata.json", "text"]

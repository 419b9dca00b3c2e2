"""What fails after a commit's swap is a warning; a swap that can neither go on nor back keeps what its end needs."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from superluigi.errors import CommitError
from superluigi.storage.local import atomic, copy
from superluigi.targets import LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, look, publish

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
RIGS = {
    "file": LocalFileRig,
    "folder": LocalFolderRig,
    "record inside": lambda folder: LocalFolderRig(folder, metadata_inside_folder=True),
}


@pytest.mark.parametrize("kind", RIGS)
def test_an_error_at_any_step_after_the_swap_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """As long as data and record are there, the commit succeeded."""
    rig = RIGS[kind](tmp_path)  # type: ignore[no-untyped-call]
    publish(rig, "old")
    with fault_injection.stopping_at(0, "error") as begun:
        publish(rig, "old")
    swap = max(n for n, name in enumerate(begun) if name in ("exchange", "flush folder"))
    if kind == "file":
        swap = [n for n, name in enumerate(begun) if name == "rename"][1]
    for n in range(swap + 2, len(begun) + 1):
        caplog.clear()
        with fault_injection.stopping_at(n, "error"):
            publish(rig, f"new{n}")
        assert look(rig) == (f"new{n}", f"new{n}"), begun[n - 1]
        assert "injected" in caplog.text and "unchanged" not in caplog.text
    publish(rig, "last")
    assert rig.leftovers() == []


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
def test_what_cannot_be_removed_after_a_commit_to_s3_is_a_warning(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    target = kind(s3_bucket, "k", **s3_server.client_options)
    monkeypatch.setattr(copy, "remove_tree", refuse)
    with pytest.raises(ZeroDivisionError), target.tmp_write_path() as path:
        raise ZeroDivisionError
    with target.tmp_write_path() as path:
        (path / "x" if target.is_folder else path).write_text("1")
    assert target.exists() and "could not be removed (Operation not permitted)" in caplog.text


def test_a_copy_that_cannot_be_removed_keeps_no_other(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copies = []
    for key in "ab":
        target = S3ObjectTarget(s3_bucket, key, **s3_server.client_options)
        with target.tmp_write_path() as path:
            path.write_text("1")
        copies.append(target.download())
    remove = copy.remove_tree
    monkeypatch.setattr(copy, "remove_tree", lambda path, **how: (refuse if path == copies[0] else remove)(path, **how))
    target.location.cache.clear()
    assert [path.exists() for path in copies] == [True, False]
    assert f"s3://{s3_bucket}/a cannot be removed" in caplog.text


@pytest.mark.parametrize("old", ["the old one", "the new one"])
def test_a_swap_that_can_neither_be_finished_nor_taken_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    rig = LocalFolderRig(tmp_path)
    publish(rig, "old")
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_exchange_function", lambda: None)
        real, moved_away = atomic.replace, []

        def replace(source: Any, destination: Any) -> None:
            if moved_away:
                raise OSError(5, "Input/output error")
            real(source, destination)
            moved_away.extend([1] if str(source) == str(rig.target().path) else [])

        patch.setattr(atomic, "replace", replace)
        with pytest.raises(CommitError, match="finishes the swap") as raised:
            publish(rig, "new")
        assert "unchanged" not in str(raised.value)
    journal = tmp_path / ".superluigi.swap.output"
    assert journal.exists()
    if old == "the old one":  # the new one is gone: the old one comes back
        [new] = tmp_path.glob(".superluigi-*.new")
        copy.remove_tree(new)
    seen, recorded = look(rig)
    assert seen == ("old" if old == "the old one" else "new") == recorded
    publish(rig, "last")
    assert look(rig) == ("last", "last") and rig.leftovers() == []


def commit_closed_folder(path: Path) -> tuple[int, str]:
    os.setuid(65534)
    for _ in range(2):
        with LocalFolderTarget(path).tmp_write_path() as staged:
            (staged / "x").write_text("x")
            staged.chmod(0o555)
    left = sorted(name for name in os.listdir(path.parent) if name.startswith("."))
    return stat.S_IMODE(path.stat().st_mode), " ".join(left)


@needs_root
def test_a_folder_that_its_writer_closed_is_committed_as_it_is() -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.chmod(root, 0o777)
        assert fault_injection.in_child(commit_closed_folder, Path(root, "out")) == (0o555, "")

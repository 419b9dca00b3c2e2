"""What fails after a commit's swap is a warning; a swap that can neither go on nor back keeps what its end needs."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from superluigi.errors import CommitError, OutputNotWrittenError
from superluigi.storage.local import atomic, copy
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
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


@pytest.mark.parametrize("kind", RIGS)
def test_a_commit_of_the_same_bytes_that_fails_leaves_the_record_of_those_that_are_there(
    tmp_path: Path, kind: str
) -> None:
    rig = RIGS[kind](tmp_path)  # type: ignore[no-untyped-call]
    target = rig.target()

    def commit(who: str) -> None:
        with target.stage() as staged:
            (staged.path / "x" if target.is_folder else staged.path).write_text("the same")
            staged.commit({"text": who})

    commit("first")
    with fault_injection.stopping_at(0, "error") as begun:
        commit("first")
    for n in range(1, len(begun) + 1):
        failed = False
        with fault_injection.stopping_at(n, "error"):
            try:
                commit(f"at {n}")
            except OSError:
                failed = True
        assert target.read_metadata()["text"] == ("first" if failed else f"at {n}"), begun[n - 1]
        assert rig.leftovers() == [] or not failed, begun[n - 1]
        commit("first")
    assert rig.leftovers() == []


@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_an_output_whose_folder_was_moved_meanwhile_says_so(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    (tmp_path / "now").symlink_to("v1")
    target = kind(tmp_path / "now/out")
    with pytest.raises(OutputNotWrittenError, match="leads elsewhere by now"), target.tmp_write_path() as path:
        (path / "x" if target.is_folder else path).write_text("x")
        (tmp_path / "now").unlink()
        (tmp_path / "now").symlink_to("v2")


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

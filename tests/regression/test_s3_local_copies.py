"""Local copies of S3 data: one that cannot be kept fails nothing, one that is not what we made is not served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from superluigi.errors import SuperLuigiError
from superluigi.storage.cache import cache
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import S3Server

KINDS = pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])


def made(kind: Any, server: S3Server, bucket: str, **more: Any) -> Any:
    """A target whose data is there, and has no local copy."""
    target = kind(bucket, "in/x", **server.client_options, **more)
    client, root = server.client(), Path(target.location.local_root)
    for key in ("in/x/a", "in/x/b") if target.is_folder else ("in/x",):
        client.put_object(Bucket=bucket, Key=key, Body=b"content " * 4000)
    target.location.external = True
    assert not root.exists() or not list(root.rglob("a"))
    return target


def text_of(path: Path) -> set[str]:
    return {file.read_text() for file in ([path] if path.is_file() else path.iterdir())}


CONTENT = {"content " * 4000}


def test_what_a_local_copy_cannot_name_is_fetched_when_it_is_asked_for(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = S3PrefixTarget(s3_bucket, "long", **s3_server.client_options)
    with target.tmp_write_path() as path:
        (path / ("n" * 250)).write_text("1")
    assert text_of(target.download()) == {"1"} and not caplog.records


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A folder on a small disk of its own, mounted as told."""
    if os.geteuid() != 0:
        pytest.skip("needs a root user")
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@KINDS
@pytest.mark.parametrize("how", ["full", "read-only", "a file is in the way"])
def test_where_no_copy_can_be_kept_data_is_read_all_the_same(
    s3_server: S3Server, s3_bucket: str, disk: Callable[[str], Path], tmp_path: Path, kind: Any, how: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(cache, "_refusing", set())
    if how == "a file is in the way":
        (tmp_path / "data").touch()
        root = tmp_path / "data" / "copies"
    else:
        root = disk("size=12k" if how == "full" else "ro")
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(root))
    monkeypatch.setenv("SUPERLUIGI_CACHE_MIN_FREE_BYTES", "0")
    target = made(kind, s3_server, s3_bucket)
    for _ in range(2):
        with target.tmp_read_path() as path:
            assert text_of(path) == CONTENT
            (path / "mine" if target.is_folder else path).write_text("mine")
        assert not path.exists()
    warnings = [entry.getMessage() for entry in caplog.records if "SUPERLUIGI_LOCAL_DATA_DIR" in entry.getMessage()]
    assert len(warnings) == 1 and str(root) in warnings[0]
    with pytest.raises(SuperLuigiError, match="SUPERLUIGI_LOCAL_DATA_DIR"):
        target.download()
    if how != "full":
        with pytest.raises(SuperLuigiError, match="SUPERLUIGI_LOCAL_DATA_DIR"):
            target.stage()
    assert not [file for file in root.rglob("*") if file.is_file() and file.stat().st_size > 4096]


@KINDS
def test_where_no_copy_can_be_made_at_all_the_error_names_the_setting(
    s3_server: S3Server, s3_bucket: str, disk: Callable[[str], Path], kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    root = disk("size=12k")
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(root))
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    target = made(kind, s3_server, s3_bucket)
    with pytest.raises(PermissionError, match=r"No space.*SUPERLUIGI_LOCAL_DATA_DIR"), target.tmp_read_path():
        pass
    assert not [file for file in root.rglob("*") if file.is_file() and file.stat().st_size > 4096]


@KINDS
def test_a_copy_that_cannot_be_kept_does_not_fail_a_commit(
    s3_server: S3Server, s3_bucket: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.CacheEntry, "_publish", full)
    target = kind(s3_bucket, "out", **s3_server.client_options)
    with target.tmp_write_path() as path:
        (path / "%~is odd" if target.is_folder else path).write_text("1")
    assert target.exists()


def test_names_that_a_copy_spells_in_another_way_do_not_fail_a_commit(s3_server: S3Server, s3_bucket: str) -> None:
    target = S3PrefixTarget(s3_bucket, "out", **s3_server.client_options)
    with target.tmp_write_path() as path:
        for name in ("%~is odd", "%~empty", "plain"):
            (path / name).write_text(name)
    assert {file.read_text() for file in target.download().iterdir()} == {"%~is odd", "%~empty", "plain"}


# ---------------------------------------------------------------- what is served


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)


def flip_and_hide(file: Path) -> None:
    status = file.stat()
    flip(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(file: Path) -> None:
    other = file.with_name("other")
    shutil.copy2(file, other)
    flip_and_hide(other)
    os.replace(other, file)


HARM: dict[str, Callable[[Path], object]] = {
    "shorter": lambda file: os.truncate(file, 100),
    "empty": lambda file: os.truncate(file, 0),
    "flipped": flip,
    "flipped, its mtime kept": flip_and_hide,
    "another file": replace,
    "gone": lambda file: file.unlink(),
    "another user's": lambda file: os.chown(file, 4001, 4001) if os.geteuid() == 0 else flip(file),
}


@KINDS
@pytest.mark.parametrize("harm", HARM)
def test_a_copy_that_changed_is_fetched_again(s3_server: S3Server, s3_bucket: str, kind: Any, harm: str) -> None:
    target = made(kind, s3_server, s3_bucket)
    path = target.download()
    HARM[harm](path / "a" if target.is_folder else path)
    with target.tmp_read_path() as copy:
        assert text_of(copy) == CONTENT
    path = target.download()
    assert text_of(path) == CONTENT
    with s3_server.counted() as seen:
        assert target.download() == path
    assert not [entry for entry in seen if entry.method == "GET" and entry.path.endswith(("/x", "/a", "/b"))]


@KINDS
def test_a_copy_that_was_made_by_a_clock_ahead_is_fetched_again_where_that_is_asked_for(
    s3_server: S3Server, s3_bucket: str, kind: Any
) -> None:
    target = made(kind, s3_server, s3_bucket)
    path = target.download()
    (state,) = Path(target.location.local_root).rglob("cache/*.json")
    state.write_text(json.dumps({**json.loads(state.read_text()), "made": 9_999_999_999.0}))
    with s3_server.counted() as seen:
        assert target.download(force_local_download=True) == path
    assert [entry for entry in seen if entry.method == "GET" and entry.path.endswith(("/x", "/a", "/b"))]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@KINDS
def test_what_another_user_says_of_a_copy_is_not_believed(
    s3_server: S3Server, s3_bucket: str, kind: Any, tmp_path: Path
) -> None:
    target = made(kind, s3_server, s3_bucket)
    path = target.download()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("1")
    (state_file,) = target.location.cache.state_folder.glob("*.json")
    forged = (path / "a" if target.is_folder else path).read_bytes()
    state = json.loads(state_file.read_text())
    for place in (os.path.relpath(victim, target.location.local_root), str(victim)):
        for owner in (4001, 0):  # also of our own: a state never names what lies outside
            state_file.unlink(missing_ok=True)
            state_file.write_text(json.dumps({**state, "path": place}))
            os.chown(state_file, owner, owner)
            with target.tmp_read_path() as copy:
                assert text_of(copy) == CONTENT and forged
            assert (victim / "precious").read_text() == "1"
            target.location.cache.clear()
            assert (victim / "precious").read_text() == "1"


@KINDS
@pytest.mark.parametrize("engine", ["", "boto3"])
@pytest.mark.parametrize("limit", [100, 16 << 20])
def test_a_call_that_writes_less_than_it_was_given_loses_nothing(
    s3_server: S3Server, s3_bucket: str, kind: Any, engine: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", limit)
    target, whole = made(kind, s3_server, s3_bucket), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: whole(file, data[:777], offset))
    with target.tmp_read_path() as path:
        assert text_of(path) == CONTENT


#: What may lie where a small file of the cache is looked for.
STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link in a circle": lambda file: file.symlink_to(file),
    "a folder": lambda file: file.mkdir(),
    "other text": lambda file: file.write_text("{]"),
}


@pytest.mark.timeout(120)
@KINDS
@pytest.mark.parametrize("strange", STRANGE)
def test_nothing_waits_for_what_is_no_file_where_the_cache_keeps_its_own(
    s3_server: S3Server, s3_bucket: str, kind: Any, strange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_CACHE_LIMIT_BYTES", str(1 << 30))
    target = made(kind, s3_server, s3_bucket)
    target.download()
    for file in sorted(target.location.cache.state_folder.iterdir()):
        file.unlink()
        STRANGE[strange](file)
        for _ in range(2):
            with target.tmp_read_path() as path:
                assert text_of(path) == CONTENT
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)

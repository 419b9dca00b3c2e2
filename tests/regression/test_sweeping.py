"""Sweeps and removals follow no link, and touch only what this user made."""

from __future__ import annotations

import itertools
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from superluigi.cli import main as command
from superluigi.storage import owner_token
from superluigi.storage.local import copy
from superluigi.storage.local.cleanup import clean
from superluigi.storage.local.stages import staging
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.cleanup import clean as clean_s3
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.s3.store import opened
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3PrefixTarget
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server, open_uploads

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
GONE = "4194999-1-0123456789ab"
DEAD = f"{owner_token.host()}-{owner_token.world()}-{GONE}"
OLD_FORM = f"otherhost-{GONE}"
ELSEWHERE = f"otherhost-{'f' * 12}.4026531836-{GONE}"


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.chmod(root, 0o1777)
        yield Path(root)


def before_call(monkeypatch: pytest.MonkeyPatch, n: int, work: Callable[[], None]) -> None:
    """Do `work` just before the `n`-th call of the system that removing makes."""
    calls = itertools.count(1)
    for name in ("unlink", "rmdir", "scandir", "open", "rename"):
        real = getattr(os, name)

        def call(*arguments: object, real: Callable[..., object] = real, **options: object) -> object:
            if next(calls) == n:
                work()
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 25, 27])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_folder_that_becomes_a_link_while_it_is_removed_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, depth: int
) -> None:
    victim, top = tmp_path / "victim", tmp_path / "top"
    inner = top.joinpath(*"abcde"[:depth])
    for folder in (victim, inner):
        folder.mkdir(parents=True)
        for name in range(20):
            (folder / str(name)).touch()

    def swap() -> None:
        for folder in (inner, *top.iterdir()):  # wherever it has been moved by now
            if folder.is_dir() and not folder.is_symlink():
                folder.rename(tmp_path / "aside")
                folder.symlink_to(victim)
                return

    with monkeypatch.context() as patch:
        before_call(patch, n, swap)
        copy.remove_tree(top)
    assert len(os.listdir(victim)) == 20
    assert not top.exists()


def test_a_link_at_the_top_is_removed_itself(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/x").touch()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    copy.remove_tree(tmp_path / "link")
    copy.remove_tree(tmp_path / "link")
    assert os.listdir(tmp_path) == ["victim"] and os.listdir(tmp_path / "victim") == ["x"]


def remove_as_nobody(path: Path) -> None:
    os.setuid(65534)
    copy.remove_tree(path)


@needs_root
@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_folders_that_forbid_everything_are_removed_by_their_owner(open_to_all: Path, mode: int) -> None:
    inner = open_to_all / "top/a/b/c"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (inner, *inner.parents[:3]):
        os.chown(folder, 65534, 65534)
        folder.chmod(mode)
    fault_injection.in_child(remove_as_nobody, open_to_all / "top")
    assert os.listdir(open_to_all) == []
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o1777, "the folder around it stays as it is"


def commit_as_nobody(folder: Path) -> None:
    os.setuid(65534)
    for target in (LocalFileTarget(folder / "file"), LocalFolderTarget(folder / "folder")):
        with target.tmp_write_path() as path:
            (path / "x" if path.is_dir() else path).write_text("x")


@needs_root
def test_a_run_sweeps_only_what_its_own_user_made(open_to_all: Path) -> None:
    names = {}
    for owner in (65534, 65533):
        for name in (f".superluigi-{DEAD}.{owner}", f".superluigi-{DEAD}{owner}"):
            top = open_to_all / name
            (top / "sub").mkdir(parents=True)
            (top / "sub/x").touch()
            for path in (top, top / "sub", top / "sub/x"):
                os.chown(path, owner, owner)
            top.chmod(0o777)
            (top / "sub").chmod(0o777)
            names[name] = owner
    mixed = open_to_all / f".superluigi-{DEAD}.mixed"
    mixed.mkdir()
    (mixed / "of-another").touch()
    (mixed / "own").touch()
    for path, owner in ((mixed, 65534), (mixed / "of-another", 65533), (mixed / "own", 65534)):
        os.chown(path, owner, owner)
    fault_injection.in_child(commit_as_nobody, open_to_all)
    there = {path.name for path in open_to_all.iterdir() if path.name.startswith(".")}
    kept = {name for name, owner in names.items() if owner == 65533 and name.startswith(f".superluigi-{DEAD}.")}
    assert kept <= there
    assert (
        not {name for name, owner in names.items() if owner == 65534 and name.startswith(f".superluigi-{DEAD}.")}
        & there
    )
    assert os.listdir(mixed) == ["of-another"]


def test_one_who_was_stopped_while_it_looked_looks_again_as_soon_as_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, listed = [1000.0], os.listdir

    def stopped_for_an_hour(folder: str) -> list[str]:
        now[0] += 3600
        return listed(folder)

    monkeypatch.setattr(staging, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(staging.os, "listdir", stopped_for_an_hour)
    assert staging.sweep(tmp_path) == []
    left = tmp_path / f".superluigi-{DEAD}"
    left.mkdir()
    now[0] += 1
    assert staging.sweep(tmp_path) == [left]
    assert staging.sweep(tmp_path, always=True) == [left]


def test_a_planted_journal_renames_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    for text in (
        '{"final": "out", "new": "private", "old": "private"}',
        '{"final": "out", "new": "../x", "old": "../x"}',
        "[1]", "{}", "null", '"text"',
    ):  # fmt: skip
        (tmp_path / ".superluigi.swap.out").write_text(text)
        assert not LocalFolderTarget(tmp_path / "out").exists()
        assert (tmp_path / "private").is_dir()
    with LocalFolderTarget(tmp_path / "out").tmp_write_path() as path:
        (path / "x").touch()


@pytest.mark.parametrize("token", [ELSEWHERE, OLD_FORM])
def test_clean_lists_what_others_left_and_removes_it_only_by_age(
    tmp_path: Path, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [
        tmp_path / f".superluigi-{token}",
        tmp_path / f".superluigi-{token}.out.txt",
        tmp_path / f".superluigi/{token}",
    ]
    for stage in stages:
        stage.mkdir(parents=True)
        (stage / "x").write_text("x")
    (tmp_path / f".superluigi-{DEAD}").mkdir()
    assert command(["clean", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(stage.exists() for stage in stages) and not (tmp_path / f".superluigi-{DEAD}").exists()
    assert shown.count("kept unfinished output of otherhost") == 3 and "--older-than" in shown
    assert clean(tmp_path, older_than=timedelta(hours=1)) == []
    for stage in stages[1:]:
        for path in (stage / "x", stage):
            os.utime(path, (1, 1))
    os.utime(stages[0], (1, 1))  # but in it something is new
    assert command(["clean", str(tmp_path), "--older-than", "1"]) == 0
    assert [stage.exists() for stage in stages] == [True, False, False]


def test_two_may_remove_the_same_tree_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        top = tmp_path / "top"
        for n in range(30):
            (top / f"{n}/a/b").mkdir(parents=True)
            (top / f"{n}/a/x").touch()
        errors: list[BaseException] = []

        def remove(top: Path = top, errors: list[BaseException] = errors) -> None:
            try:
                copy.remove_tree(top)
            except BaseException as error:  # noqa: BLE001 - told to the test
                errors.append(error)

        threads = [threading.Thread(target=remove) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and not top.exists(), sys.version


@pytest.mark.parametrize("body", ["", "3", "{}", '{"commit": 3, "holder": "x"}'])
def test_what_stands_in_the_place_of_a_claim_and_is_none_goes_when_clean_says_so(
    s3_server: S3Server, s3_bucket: str, body: str
) -> None:
    target = S3PrefixTarget(s3_bucket, "out", **s3_server.client_options)
    with target.tmp_write_path() as path:
        (path / "a").write_text("1")
    key = f"{target.location.record_uri.partition(f'{s3_bucket}/')[2]}.pending"
    s3_server.client().put_object(Bucket=s3_bucket, Key=key, Body=body.encode())
    told = clean_s3(f"s3://{s3_bucket}", older_than=timedelta(seconds=-5), options=s3_server.client_options)
    assert [left.path for left in told] == [f"s3://{s3_bucket}/{key}"]
    assert target.exists()
    assert clean_s3(f"s3://{s3_bucket}", older_than=timedelta(seconds=-5), options=s3_server.client_options) == []


def test_an_upload_in_parts_that_a_dead_process_began_to_try_a_server_out_goes_with_its_note(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    store, client = opened(S3Options.of(s3_server.client_options)), s3_server.client()

    def begun(key: str) -> None:
        upload = client.create_multipart_upload(Bucket=s3_bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=s3_bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"1")

    key, other = f"f/{intent_log.MARK}{fault_injection.in_child(owner_token.token)}", "f/theirs"
    begun(key)
    begun(other)
    intent_log.delete(store, {"bucket": s3_bucket, "key": key}, tmp_path)
    assert [upload["Key"] for upload in open_uploads(client, s3_bucket)] == [other]
    begun(key)  # on its way when its process died
    clean_s3(f"s3://{s3_bucket}", options=s3_server.client_options)
    assert [upload["Key"] for upload in open_uploads(client, s3_bucket)] == [other]

"""Local copies of S3 data: right bytes or none, filled once, bounded; processes are real and really killed."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from superluigi import config
from superluigi.storage import owner_token
from superluigi.storage.cache import cache
from superluigi.storage.cache.cache import Cache
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import S3Server


@pytest.fixture
def thing(s3_server: S3Server, s3_bucket: str) -> S3ObjectTarget:
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/thing.txt", Body=b"one")
    return S3ObjectTarget(s3_bucket, "a/thing.txt", **s3_server.client_options)


def gets(requests: list[Any]) -> list[str]:
    """Keys whose bodies were fetched: a look asks for one byte at most."""
    return [r.path for r in requests if r.method == "GET" and r.query == "" and r.headers.get("range") != "bytes=0-0"]


def test_copies_lie_where_people_find_them(
    s3_server: S3Server, s3_bucket: str, thing: S3ObjectTarget, local_root: Path
) -> None:
    place = urlsplit(s3_server.endpoint_url)
    path = thing.download()
    assert path == thing.local_path == local_root / f"{place.hostname}_{place.port}" / s3_bucket / "a" / "thing.txt"
    assert path.read_bytes() == b"one"
    assert [item.name for item in local_root.iterdir() if not item.name.startswith(".")] == [
        f"{place.hostname}_{place.port}"
    ]


def test_a_warm_read_costs_one_request_and_no_body(s3_server: S3Server, thing: S3ObjectTarget) -> None:
    thing.download()
    with s3_server.counted() as seen, thing.tmp_read_path() as path:
        assert path.read_bytes() == b"one"
    assert [request.method for request in seen] == ["HEAD"]


def test_same_size_and_other_bytes_is_a_miss(s3_server: S3Server, s3_bucket: str, thing: S3ObjectTarget) -> None:
    thing.download()
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/thing.txt", Body=b"two")
    assert thing.download().read_bytes() == b"two"


@pytest.mark.parametrize("damage", ["truncate", "append", "overwrite", "remove", "replace by a folder"])
def test_a_damaged_copy_is_noticed_and_fetched_again(thing: S3ObjectTarget, damage: str) -> None:
    path = thing.download()
    time.sleep(0.01)
    if damage == "truncate":
        os.truncate(path, 1)
    elif damage == "append":
        path.write_bytes(b"onemore")
    elif damage == "overwrite":
        path.write_bytes(b"eno")
    else:
        path.unlink()
        if damage != "remove":
            path.mkdir()
    assert thing.download().read_bytes() == b"one"


def test_a_lost_or_torn_state_is_a_miss(thing: S3ObjectTarget) -> None:
    thing.download()
    for state in thing.location.cache.state_folder.glob("*.json"):
        state.write_text("{")
    assert thing.download().read_bytes() == b"one"


def test_force_fetches_again(s3_server: S3Server, thing: S3ObjectTarget) -> None:
    thing.download()
    with s3_server.counted() as seen:
        thing.download(force_local_download=True)
    assert len(gets(seen)) == 1


def test_what_was_uploaded_is_the_copy(s3_server: S3Server, s3_bucket: str) -> None:
    thing = S3ObjectTarget(s3_bucket, "new", **s3_server.client_options)
    folder = S3PrefixTarget(s3_bucket, "f", **s3_server.client_options)
    with thing.tmp_write_path() as path:
        path.write_bytes(b"1")
        inode = path.stat().st_ino
    with folder.tmp_write_path() as path:
        (path / "x").write_bytes(b"1")
    with s3_server.counted() as seen:
        assert thing.download().stat().st_ino == inode
        assert (folder.download() / "x").read_bytes() == b"1"
    assert not [key for key in gets(seen) if not key.endswith(".json")]


def test_a_shared_reader_gets_the_copy_itself_and_keeps_it(
    s3_server: S3Server, s3_bucket: str, thing: S3ObjectTarget
) -> None:
    thing.download()
    with thing.tmp_read_path(shared=True) as path:
        assert path == thing.local_path
        s3_server.client().put_object(Bucket=s3_bucket, Key="a/thing.txt", Body=b"two")
        with thing.tmp_read_path(shared=True) as other:
            assert other.read_bytes() == b"two" and other != path
        thing.location.cache.clear()
        assert path.read_bytes() == b"one"
    assert thing.download().read_bytes() == b"two" and thing.local_path == path


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(
    s3_server: S3Server, s3_bucket: str, monkeypatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_CACHE_LIMIT_BYTES", "3500")
    targets = []
    for number in range(5):
        s3_server.client().put_object(Bucket=s3_bucket, Key=f"{number}", Body=bytes(1000))
        targets.append(S3ObjectTarget(s3_bucket, f"{number}", **s3_server.client_options))
    for target in targets[:3]:
        target.download()
        time.sleep(0.02)
    targets[0].download()  # used again: number 1 is the oldest now
    targets[3].download()
    assert [target.local_path.exists() for target in targets] == [True, False, True, True, False]
    with targets[2].tmp_read_path(shared=True) as used:
        for number in (4, 1):
            targets[number].download()
        assert used.exists()
    s3_server.client().put_object(Bucket=s3_bucket, Key="large", Body=bytes(9000))
    large = S3ObjectTarget(s3_bucket, "large", **s3_server.client_options)
    assert large.download().stat().st_size == 9000
    assert not any(target.local_path.exists() for target in targets)


@pytest.mark.parametrize("how", ["environment", "config", "argument"])
def test_the_bound_may_be_given_in_three_ways(s3_server: S3Server, s3_bucket: str, monkeypatch, how: str) -> None:
    options: dict[str, Any] = dict(s3_server.client_options)
    with contextlib.ExitStack() as stack:
        if how == "environment":
            monkeypatch.setenv("SUPERLUIGI_CACHE_LIMIT_BYTES", "1500")
        elif how == "config":
            stack.enter_context(config.applied({"superluigi": {"cache_limit_bytes": "1500B"}}))
        else:
            options["cache_limit_bytes"] = 1500
        targets = [S3ObjectTarget(s3_bucket, f"{number}", **options) for number in range(3)]
        for target in targets:
            s3_server.client().put_object(Bucket=s3_bucket, Key=target.object_key, Body=bytes(1000))
            target.download()
    assert [target.local_path.exists() for target in targets] == [False, False, True]


def test_free_disk_space_is_left(thing: S3ObjectTarget, local_root: Path) -> None:
    thing.download()
    cache = Cache(local_root, min_free_bytes=1 << 60)
    assert cache.evict_to_fit(1) == 3 and cache.entries() == []


# ---------------------------------------------------------------- many processes


def _read_all(bucket: str, options: dict[str, Any], rounds: int, count: int, wrong: Any) -> None:
    for turn in range(rounds):
        number = (os.getpid() + turn * 7) % count
        with S3ObjectTarget(bucket, f"k{number}", **options).tmp_read_path(shared=turn % 2 == 0) as path:
            if path.read_bytes() != b"%d" % number * 1000:
                wrong.value += 1


_FILL = """
import os, sys, time
from superluigi.targets import S3ObjectTarget

def hang(_):
    print("filling", flush=True)
    time.sleep(60)

S3ObjectTarget(sys.argv[1], sys.argv[2], endpoint_url=sys.argv[3], progress=hang).download()
"""


def _filler(bucket: str, key: str, server: S3Server) -> subprocess.Popen[str]:
    """A process that is in the middle of a fetch, holding the lock."""
    command = [sys.executable, "-c", _FILL, bucket, key, server.endpoint_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "filling\n"
    return process


@pytest.mark.parametrize("killed", [False, True], ids=["", "a filler is killed"])
def test_8_processes_and_50_reads_of_20_keys_fetch_each_key_once(
    s3_server: S3Server, s3_bucket: str, killed: bool
) -> None:
    for number in range(20):
        s3_server.client().put_object(Bucket=s3_bucket, Key=f"k{number}", Body=b"%d" % number * 1000)
    context = multiprocessing.get_context("forkserver")
    wrong = context.Value("i", 0)
    with s3_server.counted() as seen, contextlib.ExitStack() as stack:
        if killed:
            filler = stack.enter_context(_filler(s3_bucket, "k7", s3_server))
        arguments = (s3_bucket, s3_server.client_options, 50, 20, wrong)
        processes = [context.Process(target=_read_all, args=arguments) for _ in range(8)]
        for process in processes:
            process.start()
        if killed:
            while len(gets(s3_server.requests)) < 10:  # they are at work, and soon wait for the one who has k7
                time.sleep(0.01)
            filler.kill()
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0] * 8 and wrong.value == 0
    assert Counter(gets(seen)) == {f"/{s3_bucket}/k{number}": 1 + (killed and number == 7) for number in range(20)}


def download_in_threads(thing: S3ObjectTarget) -> None:
    threads = [threading.Thread(target=thing.download) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_fill_once(s3_server: S3Server, thing: S3ObjectTarget) -> None:
    with s3_server.counted() as seen:
        download_in_threads(thing)
    assert len(gets(seen)) == 1


def test_a_reader_that_finds_no_copy_does_not_hold_the_entry_while_another_fills_it(tmp_path: Path, mocker) -> None:
    entry = Cache(tmp_path).entry("", "bucket", "key")
    lock = mocker.spy(cache, "lock")

    def locks_of_a_failing_read() -> list[str]:
        lock.reset_mock()
        with pytest.raises(ConnectionError), entry.open("a version", mocker.Mock(side_effect=ConnectionError)):
            pass
        return [call.args[0].suffix for call in lock.call_args_list]

    assert locks_of_a_failing_read() == [".fill"]
    (tmp_path / "new").write_text("1")
    entry.insert(tmp_path / "new", "a version", {"": {}})
    entry.path.write_text("damaged")
    assert locks_of_a_failing_read() == [".fill"]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_readers_of_a_new_version_keep_what_they_got_while_the_old_one_is_in_use(tmp_path: Path, folder: bool) -> None:
    def fetch(tag: str, path: Path, _: object) -> dict[str, dict[str, str]]:
        (path / "part" if folder else path).write_text(tag)
        return {"part" if folder else "": {"etag": tag}}

    def opened(tag: str) -> tuple[str, contextlib.ExitStack, Path]:
        reader = stack.enter_context(contextlib.ExitStack())
        entry = Cache(tmp_path).entry("", "b", "key", folder)
        path = reader.enter_context(entry.open(tag, functools.partial(fetch, tag), shared=True))
        return tag, reader, path / "part" if folder else path

    with contextlib.ExitStack() as stack:
        readers = [opened(tag) for tag in ("old", "new", "new", "newer", "new", "old")]
        while readers:
            assert [path.read_text() for _, _, path in readers] == [tag for tag, _, _ in readers]
            readers.pop(1 if len(readers) > 1 else 0)[1].close()
    copies = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_text() in ("old", "new", "newer")]
    assert copies == [tmp_path / "b" / "key" / "part" if folder else tmp_path / "b" / "key"]


def test_threads_mend_a_damaged_copy_once(s3_server: S3Server, thing: S3ObjectTarget) -> None:
    thing.download().write_bytes(b"damaged")
    with s3_server.counted() as seen:
        download_in_threads(thing)
    assert len(gets(seen)) == 1 and thing.download().read_bytes() == b"one"


def test_a_killed_filler_frees_its_lock_and_leaves_nothing(
    s3_server: S3Server, s3_bucket: str, thing: S3ObjectTarget, local_root: Path
) -> None:
    with _filler(s3_bucket, "a/thing.txt", s3_server) as process:
        waiter = threading.Thread(target=thing.download)
        waiter.start()
        process.kill()
        waiter.join(30)
        assert not waiter.is_alive()
    assert thing.download().read_bytes() == b"one"
    hidden = [path.name for path in (local_root / ".superluigi").rglob("*")]
    assert not [name for name in hidden if owner_token.is_token(name) or "partial" in name]


def test_an_interrupted_prefix_download_goes_on_where_it_stopped(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, local_root: Path, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    folder = S3PrefixTarget(s3_bucket, "f", **{**s3_server.client_options, "endpoint_url": proxy.url})
    with folder.tmp_write_path() as path:
        for number in range(12):
            (path / f"{number:02}").write_bytes(b"%d" % number)
    folder.location.cache.clear()
    rule = proxy.add(Fault.STATUS, method="GET", path="f/11", status=403, code="AccessDenied", times=None)
    with pytest.raises(OSError, match="refuses"):
        folder.download()
    proxy.rules.remove(rule)
    torn = max(file for file in local_root.rglob(".superluigi/cache/*.partial/f/*") if file.suffix != ".part")
    torn.write_bytes(b"")  # what a process that is killed while it writes leaves
    with s3_server.counted() as seen:
        path = folder.download()
    expected = {f"{number:02}": b"%d" % number for number in range(12)}
    assert {file.name: file.read_bytes() for file in path.iterdir()} == expected
    fetched = [key.rpartition("/")[2] for key in gets(seen) if "/f/" in key]
    assert torn.name in fetched and len(fetched) < 12


def test_of_a_new_version_only_what_changed_is_fetched(s3_server: S3Server, s3_bucket: str, local_root: Path) -> None:
    options = s3_server.client_options
    here = S3PrefixTarget(s3_bucket, "f", **options)
    there = S3PrefixTarget(s3_bucket, "f", local_root=local_root / "elsewhere", **options)
    for version in (b"1", b"2"):
        with there.tmp_write_path() as path:
            for number in range(5):
                (path / f"{number}").write_bytes(b"same%d" % number)
            (path / "changed").write_bytes(version)
        with s3_server.counted() as seen:
            assert (here.download() / "changed").read_bytes() == version
    assert [key for key in gets(seen) if "/f/" in key] == [f"/{s3_bucket}/f/changed"]


# ---------------------------------------------------------------- the command


def _superluigi(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "superluigi", *arguments], capture_output=True, text=True, check=False)


def test_the_cache_command(s3_bucket: str, thing: S3ObjectTarget) -> None:
    path = thing.download()
    assert "1\n" in _superluigi("cache", "info").stdout
    assert f"s3://{s3_bucket}/a/thing.txt" in _superluigi("cache", "list").stdout
    assert _superluigi("cache", "verify").returncode == 0
    status = path.stat()
    path.write_bytes(b"eno")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert _superluigi("cache", "verify").returncode in (0, 1)  # without a digest only size and time can tell
    thing.download(force_local_download=True)
    assert _superluigi("cache", "prune", "--to", "0B").stdout == "freed 3 B\n"
    thing.download()
    assert _superluigi("cache", "clear").returncode == 1
    assert path.exists()
    assert _superluigi("cache", "clear", "--yes").returncode == 0
    assert not path.exists()

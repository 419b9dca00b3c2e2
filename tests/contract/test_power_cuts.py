"""Power cuts that lose what was not flushed, on real file systems over a disk that records its writes and flushes.

A state after a cut is everything up to the last flush, and any part of what was written after it. The file system
mounts it as it would after a crash, and the promises are looked at there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import recording_disk

from superluigi.queue.models import Pool, TaskSpec
from superluigi.queue.store import claims, registry, submit, views
from superluigi.queue.store.claims import Result
from superluigi.queue.store.database import Database
from superluigi.storage.cache.cache import Cache
from superluigi.storage.local import atomic
from superluigi.storage.local.cleanup import clean
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, look, publish

SYSTEMS = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum_seed"], 16, "ext4", "defaults"),
    "ext4 writeback": (["mkfs.ext4", "-q", "-F"], 16, "ext4", "data=writeback,noauto_da_alloc"),
    "xfs": (["mkfs.xfs", "-q", "-f"], 300, "xfs", "nouuid"),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 120, "btrfs", "defaults"),
}
BLOCK = 4096
VERSIONS = ("v1", "v2", "v3")


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def mounted(image: Path, point: Path, kind: str, options: str) -> Iterator[None]:
    point.mkdir(exist_ok=True)
    device = _run("losetup", "--find", "--show", image)
    try:
        _run("mount", "-t", kind, "-o", options, device, point)
        try:
            yield
        finally:
            _run("umount", point)
    finally:
        _run("losetup", "--detach", device)


@dataclass
class Disk:
    """A file system over a recording disk, and what was acknowledged at which length of its log."""

    folder: Path
    system: str

    def __post_init__(self) -> None:
        command, megabytes, self.kind, self.options = SYSTEMS[self.system]
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not there")
        self.log, self.point = self.folder / "log", self.folder / "point"
        self.before = self.folder / "before"
        with open(self.before, "wb") as file:
            file.truncate(megabytes << 20)
        _run(*command, self.before)
        self.acknowledged: list[tuple[int, str]] = [(0, "")]

    def acknowledge(self, what: str) -> None:
        self.acknowledged.append((self.log.stat().st_size, what))

    @contextlib.contextmanager
    def recording(self) -> Iterator[Path]:
        """The mounted file system, whose power is cut at the end."""
        image, user = self.folder / "now", self.folder / "fuse"
        user.mkdir()
        _run("cp", "--sparse=always", self.before, image)
        server = subprocess.Popen(
            [sys.executable, recording_disk.__file__, user, image, self.log], stderr=subprocess.PIPE, text=True
        )
        try:
            while not (user / recording_disk.NAME).exists():
                if server.poll() is not None:
                    pytest.skip(f"no file system in user space here: {server.stderr and server.stderr.read()}")
                time.sleep(0.01)
            with mounted(user / recording_disk.NAME, self.point, self.kind, self.options):
                yield self.point
                self.entries = list(self._entries())  # what comes after is the work of unmounting
        finally:
            subprocess.run(["umount", user], check=False, capture_output=True)
            server.wait()
            if server.stderr:
                server.stderr.close()

    def _entries(self) -> Iterator[tuple[int, int, bytes]]:
        """End in the log, offset and bytes of each write; offset -1 for a flush."""
        header = recording_disk.HEADER
        with open(self.log, "rb") as file:
            while begin := file.read(header.size):
                offset, length = header.unpack(begin)
                body = file.read(length)
                yield file.tell(), offset, body

    def states(self, count: int, seed: int) -> Iterator[tuple[str, str, str]]:
        """Mount so many states after a cut; what was acknowledged last before it, what was begun next, and a name.

        The first ones are cut right after an acknowledgement, and have nothing of what was not flushed.
        """
        chance = random.Random(seed)
        ends = [end for end, _, _ in self.entries]
        begun = next(length for length, what in self.acknowledged if what)
        certain = [length for length, what in self.acknowledged if what]
        for number in range(count):
            at = certain[number] if number < len(certain) else chance.choice([end for end in ends if end >= begun])
            keep = 0.0 if number < len(certain) else chance.choice([0.0, 0.3, 0.7, 1.0])
            image = self._cut(at, keep, chance)
            told = [what for length, what in self.acknowledged if length <= at]
            following = [what for length, what in self.acknowledged if length > at][:1] or told[-1:]
            with mounted(image, self.point, self.kind, self.options):
                yield told[-1], following[0], f"cut at {at} of {ends[-1]}, kept {keep:.0%}"

    def _cut(self, at: int, keep: float, chance: random.Random) -> Path:
        image = self.folder / "after"
        _run("cp", "--sparse=always", self.before, image)
        entries = [entry for entry in self.entries if entry[0] <= at]
        flushed = max((number for number, entry in enumerate(entries) if entry[1] < 0), default=0)
        with open(image, "r+b") as file:
            for number, (_, offset, body) in enumerate(entries):
                if offset < 0:
                    continue
                for start in range(0, len(body), BLOCK):
                    if number < flushed or chance.random() < keep:
                        file.seek(offset + start)
                        file.write(body[start : start + BLOCK])
        return image


# ---------------------------------------------------------------- what is cut


def _write_outputs(kind: type[LocalFileRig]) -> tuple[Callable[[Disk, Path], None], Callable[[Path, str, str], None]]:
    def work(disk: Disk, point: Path) -> None:
        rig = kind(point)
        for version in VERSIONS:
            publish(rig, version)
            publish(rig, version, "deep/in/new/folders" if version == "v1" else version)
            disk.acknowledge(version)

    def check(point: Path, told: str, following: str) -> None:
        rig = kind(point)
        text, record = look(rig)
        assert text == record, f"{text!r} has the record of {record!r}"
        assert text in (told, following), f"{text!r} is there, {told!r} was acknowledged"
        for version in VERSIONS[: VERSIONS.index(told) + 1]:
            name = "deep/in/new/folders" if version == "v1" else version
            assert look(rig, name) == (version, version), f"{name} was acknowledged"
        publish(rig, "last")
        assert look(rig) == ("last", "last")
        clean(point)

    return work, check


def _fill_cache(disk: Disk, point: Path) -> None:
    for version in VERSIONS:
        with Cache(point / "cache", None, 0).entry("", "b", "key").open(version, _fetch(version), shared=True):
            pass
        os.sync()
        disk.acknowledge(version)


def _fetch(version: str) -> Callable[..., dict[str, dict[str, str]]]:
    def fetch(path: Path, _: object) -> dict[str, dict[str, str]]:
        path.write_text(version * 1000)
        return {"": {"etag": version}}

    return fetch


def _check_cache(point: Path, told: str, following: str) -> None:
    for version in (*VERSIONS, told):
        with Cache(point / "cache", None, 0).entry("", "b", "key").open(version, _fetch(version), shared=True) as path:
            assert path.read_text() == version * 1000, f"a copy of {version} was served that is none"


def _use_queue(disk: Disk, point: Path) -> None:
    queue = Database(str(point / "q.sqlite"))
    with queue.write() as connection:
        registry.save_pools(connection, {"default": Pool()})
    for version in VERSIONS:
        with queue.write() as connection:
            submit.add_run(connection, version, 0.0, "{}")
            submit.add(connection, [TaskSpec(version, "T", "m", "{}")], version)
        disk.acknowledge(version)
        with queue.write(flush=False) as connection:
            claim = claims.claim(connection, "w", "default", 0.0, 60.0)
            assert claim is not None
            claims.finish(connection, claim, Result("succeeded"), 0.0)
    queue.close()


def _check_queue(point: Path, told: str, following: str) -> None:
    queue = Database(str(point / "q.sqlite"))
    with queue.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        rows = {row.id: row.state for row in views.rows(connection)}
    assert {*VERSIONS[: VERSIONS.index(told) + 1]} <= rows.keys() <= {*VERSIONS}, f"{told} was submitted: {rows}"
    assert set(rows.values()) <= {"PENDING", "RUNNING", "SUCCEEDED"}
    queue.close()


WORKS = {
    "file": _write_outputs(LocalFileRig),
    "folder": _write_outputs(LocalFolderRig),
    "cache": (_fill_cache, _check_cache),
    "queue": (_use_queue, _check_queue),
}


@pytest.fixture
def may_mount() -> None:
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("losetup") is None:
        pytest.skip("mounting needs root, /dev/fuse and losetup")
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("mfusepy (and libfuse) make the disk that records")


def cut(folder: Path, system: str, work: str, count: int, seed: int) -> int:
    disk = Disk(folder, system)
    do, check = WORKS[work]
    with disk.recording() as point:
        do(disk, point)
    played = 0
    for told, following, name in disk.states(count, seed):
        try:
            check(disk.point, told, following)
        except Exception as error:
            raise AssertionError(f"{system}, {work}, {name}: {error}") from error
        played += 1
    return played


@pytest.mark.xdist_group("power")
@pytest.mark.parametrize(
    "system, work", [("ext4", "file"), ("ext4 writeback", "folder"), ("ext4", "cache"), ("xfs", "queue")]
)
def test_a_sample_of_power_cuts_loses_nothing_that_was_acknowledged(
    may_mount: None, tmp_path: Path, system: str, work: str
) -> None:
    assert cut(tmp_path, system, work, 5, seed=1) == 5


@pytest.mark.long
@pytest.mark.xdist_group("power")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_no_power_cut_loses_what_was_acknowledged(may_mount: None, tmp_path: Path, system: str, work: str) -> None:
    assert cut(tmp_path, system, work, 25, seed=random.randrange(10**9)) == 25


FLUSHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the file": lambda patches: patches.setattr(atomic, "flush_file", lambda _: None),
    "the folder": lambda patches: patches.setattr(atomic, "flush_folder", lambda _: None),
    "the record": lambda patches: patches.setattr(
        atomic, "write_new", lambda path, content, *, flush, write=atomic.write_new: write(path, content, flush=False)
    ),
}


@pytest.mark.xdist_group("power")
@pytest.mark.parametrize("flush", FLUSHES)
def test_without_one_of_the_flushes_a_power_cut_loses_something(
    may_mount: None, tmp_path: Path, flush: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FLUSHES[flush](monkeypatch)
    with pytest.raises(AssertionError):
        cut(tmp_path, "ext4 writeback", "file", 12, seed=1)

"""Commits under fire: killed at random, watched while they happen, on disks that are full or refuse."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import resource
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from superluigi import lineage
from superluigi.errors import CommitError, StorageAccessError, TargetError, TargetKindError
from superluigi.storage import failpoints
from superluigi.storage.base import SCHEMA
from superluigi.storage.local import cleanup
from superluigi.storage.local import copy as copying
from superluigi.storage.objects import cleanup as s3_cleaning
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3PrefixTarget
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import (
    LocalFileRig,
    LocalFolderRig,
    S3ObjectRig,
    S3PrefixRig,
    TargetRig,
    look,
    publish,
)

KINDS = ["file", "folder", "object", "prefix"]


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> TargetRig:
    if request.param == "file":
        return LocalFileRig(tmp_path)
    if request.param == "folder":
        return LocalFolderRig(tmp_path)
    server: S3Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("s3_bucket")
    options = dict(server.client_options)
    return S3ObjectRig(bucket, options) if request.param == "object" else S3PrefixRig(bucket, options)


def commit_for_ever(rig: TargetRig, beginning: int) -> None:
    version = beginning
    while True:
        publish(rig, f"v{version:07d}")
        version += 1


def commit_versions(rig: TargetRig, count: int) -> None:
    for version in range(count):
        publish(rig, f"v{version:07d}")


def started(function: Callable[..., None], *arguments: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def kill_again_and_again(rig: TargetRig, kills: int) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for kill in range(kills):
        process = started(commit_for_ever, rig, kill * 1000)
        time.sleep(0.02 + chance.random() * 0.15)
        process.kill()
        process.join()
        seen, recorded = fault_injection.in_child(look, rig)
        absent_is_allowed = seen is None and isinstance(rig, S3PrefixRig)
        assert recorded == seen or absent_is_allowed, (
            f"kill {kill} of seed {seed}: {seen} with the record of {recorded}"
        )
    publish(rig, "after")
    assert look(rig) == ("after", "after")
    if isinstance(rig, S3PrefixRig):
        # What was on its way to the server when its writer died may arrive after the next commit has cleaned up.
        s3_cleaning.clean(f"s3://{rig.bucket}", options=rig.options)
    assert rig.leftovers() == []


def test_a_writer_killed_at_random_leaves_one_whole_version_with_its_own_record(rig: TargetRig) -> None:
    publish(rig, "first")
    kill_again_and_again(rig, 20 if isinstance(rig, LocalFileRig) else 8)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_writer_killed_two_hundred_times_leaves_one_whole_version_each_time(rig: TargetRig) -> None:
    publish(rig, "first")
    kill_again_and_again(rig, 200)


def watch(rig: TargetRig, versions: int) -> None:
    publish(rig, "v-before")
    writer = started(commit_versions, rig, versions)
    looks = 0
    while writer.is_alive():
        before = rig.target().read_metadata()
        try:
            with rig.target().tmp_read_path() as path:
                text = rig.read(path)
        except FileNotFoundError:
            assert isinstance(rig, S3PrefixRig), "a swap never shows an absent output here"
            continue
        after = rig.target().read_metadata()
        assert text.startswith("v")
        if before and after and before["text"] == after["text"]:
            assert before["text"] == text
            looks += 1
    writer.join()
    assert writer.exitcode == 0
    assert look(rig) == (f"v{versions - 1:07d}",) * 2
    assert looks > 0 or isinstance(rig, S3PrefixRig)


def test_a_watcher_never_sees_a_part_or_a_record_of_other_bytes(rig: TargetRig) -> None:
    watch(rig, 500 if isinstance(rig, LocalFileRig) else 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_watcher_of_five_hundred_versions_never_sees_a_part(rig: TargetRig) -> None:
    watch(rig, 500)


# ---------------------------------------------------------------- disks that refuse


def as_nobody(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a process without root's rights, which no mode stops."""
    return fault_injection.in_child(_without_rights, function, *arguments)


def _without_rights(function: Callable[..., Any], *arguments: Any) -> Any:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    return function(*arguments)


def _limited(function: Callable[..., Any], size: int, *arguments: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return function(*arguments)


def write_much(rig: TargetRig, data: int, record: int) -> None:
    with rig.target().stage() as staged:
        place = staged.path / "a.txt" if staged.path.is_dir() else staged.path
        place.write_bytes(b"x" * data)
        staged.commit({"schema": SCHEMA, "run": {"id": "much"}, "text": "y" * record})


@pytest.mark.parametrize("data, record", [(200_000, 10), (10, 200_000)], ids=["data", "record"])
@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
def test_when_the_disk_is_full_the_old_output_stands(tmp_path: Path, kind: Any, data: int, record: int) -> None:
    rig = kind(tmp_path)
    publish(rig, "old")
    with pytest.raises(OSError) as caught:
        fault_injection.in_child(_limited, write_much, 100_000, rig, data, record)
    assert caught.value.errno == errno.EFBIG
    assert look(rig) == ("old", "old")
    assert rig.leftovers() == []


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user may look into; pytest's own are closed again whenever another pytest starts."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
def test_a_folder_that_may_not_be_written_is_a_clear_error(open_to_all: Path, kind: Any) -> None:
    rig = kind(open_to_all / "locked")
    publish(rig, "old")
    rig.folder.chmod(0o555)
    with pytest.raises(StorageAccessError, match="Check the owner and mode"):
        as_nobody(publish, rig, "new")
    assert as_nobody(look_shared, rig) == "old"
    rig.folder.chmod(0o755)
    assert look(rig) == ("old", "old")


@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
def test_bytes_are_flushed_before_they_get_their_name_and_the_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    rig = kind(tmp_path)
    publish(rig, "one")
    done: list[str | int] = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append(os.fstat(descriptor).st_ino), flush(descriptor)))
    monkeypatch.setattr(failpoints, "hook", done.append)
    publish(rig, "two")
    path, record = rig.target().path, rig.target().metadata_path
    renames = [n for n, what in enumerate(done) if what in ("rename", "exchange")]
    assert len(renames) >= 3, "the record waits under its name, the data is swapped, the record is named"
    before, after = set(done[: renames[-2]]), set(done[renames[-2] :])
    assert {one.stat().st_ino for one in (path, record, *path.rglob("*"))} <= before
    assert tmp_path.stat().st_ino in before & after

    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    done.clear()
    publish(rig, "three")
    assert {type(what) for what in done} == {str}


def look_shared(rig: TargetRig, name: str = "output") -> str:
    with rig.target(name).tmp_read_path(shared=True) as path:
        return rig.read(path)


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_absent_output(open_to_all: Path) -> None:
    rig = LocalFileRig(open_to_all / "secret")
    publish(rig, "old")
    rig.folder.chmod(0o700)
    with pytest.raises(StorageAccessError, match="Whether it exists is unknown"):
        as_nobody(rig_exists, rig)


def rig_exists(rig: TargetRig) -> bool:
    return rig.target().exists()


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(CommitError, match="too long"):
        LocalFileTarget(tmp_path / ("n" * 240)).stage()
    with pytest.raises(TargetError, match="too long"):
        LocalFileTarget(tmp_path / ("n" * 300)).exists()
    assert list(tmp_path.iterdir()) == []


def test_names_up_to_the_limit_work_in_every_alphabet(tmp_path: Path) -> None:
    for name in ("n" * 229 + ".csv", "ж" * 114 + ".csv", "漢" * 76 + ".txt"):
        target = LocalFileTarget(tmp_path / name)
        with target.stage() as staged:
            assert staged.path.suffix == Path(name).suffix
            staged.path.write_text("x")
            staged.commit({"run": {"id": "r"}})
        assert target.exists() and target.read_metadata() is not None


# ---------------------------------------------------------------- as plain open() would have done


def test_modes_are_those_of_a_plain_open(tmp_path: Path) -> None:
    rig = LocalFileRig(tmp_path)
    path = rig.target().path
    before = os.umask(0o027)
    try:
        publish(rig, "one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        publish(rig, "two")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604, "a replaced file keeps its mode"
        with rig.target().tmp_write_path() as temporary:
            temporary.write_text("three")
            temporary.chmod(0o755)
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, "a mode that the writer chose stays"
    finally:
        os.umask(before)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """As the kernel takes it: tag, rights and, of a named user, its number."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ALL, A_USER = 0xFFFFFFFF, 4001
GIVEN_TO_NEW = access_list((1, 7, ALL), (2, 7, A_USER), (4, 5, ALL), (16, 7, ALL), (32, 0, ALL))
OF_ITS_OWN = access_list((1, 7, ALL), (2, 5, A_USER), (4, 5, ALL), (16, 5, ALL), (32, 0, ALL))


def rights(path: Path) -> tuple[object, ...]:
    lists = {name: os.getxattr(path, name) for name in os.listxattr(path) if "posix_acl" in name}
    return oct(path.stat().st_mode), path.stat().st_gid, lists


@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_groups_and_access_lists_are_those_of_a_plain_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[LocalFileTarget | LocalFolderTarget]
) -> None:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "data"))  # where stages rest in between
    folder = tmp_path / "out"
    folder.mkdir()

    def made(name: str) -> tuple[Path, Path]:
        target, plain = kind(folder / name), folder / f"plain-{name}"
        with target.tmp_write_path() as staged:
            (staged / "x" if target.is_folder else staged).write_text("x")
        if target.is_folder:
            plain.mkdir(exist_ok=True)
        (plain / "x" if target.is_folder else plain).write_text("x")
        return Path(target.path), plain

    def compare(name: str) -> tuple[Path, Path]:
        ours, plain = made(name)
        assert rights(ours) == rights(plain)
        if ours.is_dir():
            assert rights(ours / "x") == rights(plain / "x")
        return ours, plain

    for name in ("first", "second", "third"):
        compare(name)
    os.chown(folder, -1, 4005 if os.geteuid() == 0 else -1)
    folder.chmod(0o2775)
    compare("of its folder's group by now")
    try:
        os.setxattr(folder, "system.posix_acl_default", GIVEN_TO_NEW)
    except OSError:
        pytest.skip("this disk has no access lists")
    for change in (lambda _: None, lambda path: path.chmod(0o2700), set_its_own):
        for path in compare("with a list"):
            change(path)
    compare("with a list")
    os.removexattr(folder, "system.posix_acl_default")
    compare("without")


def set_its_own(path: Path) -> None:
    os.setxattr(path, "system.posix_acl_access", OF_ITS_OWN)


def test_a_replaced_output_keeps_its_owner_and_a_new_one_is_the_writers(open_to_all: Path) -> None:
    me = os.geteuid()
    other, group = (65534, 65533) if me == 0 else (me, os.getegid())  # only root can give files to others
    for kind in (LocalFileRig, LocalFolderRig):
        rig = kind(open_to_all / kind.__name__)
        publish(rig, "one")
        path = rig.target().path
        assert path.stat().st_uid == me
        os.chown(path, other, group)
        path.chmod(0o750)
        publish(rig, "two")
        assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (other, group, 0o750)
        os.chown(path, me, os.getegid())
        rig.folder.chmod(0o777)
        as_nobody(publish, rig, "three")
        assert path.stat().st_uid == other, "who may not give files away becomes the owner, as of any new file"
        assert look(rig) == ("three", "three")


@pytest.mark.parametrize("of_parent", [False, True], ids=["plain parent", "parent with a list"])
@pytest.mark.parametrize("own", ["list", "no list", "group"])
def test_what_is_made_in_a_replaced_folder_gets_what_it_got_before(tmp_path: Path, own: str, of_parent: bool) -> None:
    output = tmp_path / "folder"
    target = LocalFolderTarget(output)
    try:
        if of_parent:
            os.setxattr(tmp_path, "system.posix_acl_default", GIVEN_TO_NEW)
        fill(target)
        if own == "list":
            os.setxattr(output, "system.posix_acl_default", OF_ITS_OWN)
        elif own == "no list" and of_parent:
            os.removexattr(output, "system.posix_acl_default")
    except OSError:
        pytest.skip("this disk has no access lists")
    if own == "group":
        os.chown(output, -1, 4005 if os.geteuid() == 0 else -1)
        output.chmod(0o2775)
    os.setxattr(output, "user.about", b"the old bytes")
    fill_plainly(output)
    before = [rights(path) for path in (output, output / "in it", output / "in it" / "x")]
    fill(target)
    assert [rights(path) for path in (output, output / "in it", output / "in it" / "x")] == before
    assert "user.about" not in os.listxattr(output)


def fill(target: LocalFolderTarget) -> None:
    with target.tmp_write_path() as staged:
        fill_plainly(staged)


def fill_plainly(folder: Path) -> None:
    shutil.rmtree(folder / "in it", ignore_errors=True)
    (folder / "in it").mkdir()
    (folder / "in it" / "x").write_text("x")


@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
def test_what_another_user_left_stops_nobody(open_to_all: Path, kind: Any) -> None:
    rig = kind(open_to_all / "shared")
    rig.folder.mkdir()
    rig.folder.chmod(0o1777)
    assert fault_injection.stopped_in_child(4, "death", publish, rig, "of root") == fault_injection.DEATH
    before = rig.leftovers()
    assert before
    as_nobody(publish, rig, "mine", "other")
    assert as_nobody(look_shared, rig, "other") == "mine"
    assert rig.leftovers() == (before if os.geteuid() == 0 else [])
    publish(rig, "of root")
    assert rig.leftovers() == []


def test_a_link_at_the_destination_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for kind, real in (
        (LocalFileTarget, tmp_path / "real" / "file"),
        (LocalFolderTarget, tmp_path / "real" / "folder"),
    ):
        link = tmp_path / f"link-{real.name}"
        link.symlink_to(real)
        rig = _LinkRig(kind, link)
        publish(rig, "one")
        publish(rig, "two")
        assert link.is_symlink()
        assert real.exists()
        assert look(rig) == ("two", "two")


class _LinkRig(LocalFileRig):
    def __init__(self, kind: Any, link: Path) -> None:
        super().__init__(link.parent)
        self.kind, self.link = kind, link

    def target(self, name: str = "output", **options: Any) -> Any:
        return self.kind(self.link)


def test_a_folder_keeps_modes_links_and_empty_sub_folders(tmp_path: Path) -> None:
    target = LocalFolderTarget(tmp_path / "tree")
    with target.tmp_write_path() as path:
        (path / "tool").write_text("#!/bin/sh\n")
        (path / "tool").chmod(0o750)
        (path / "empty" / "deeper").mkdir(parents=True)
        (path / "link").symlink_to("tool")
    with target.tmp_read_path() as copy:
        for tree in (target.path, copy):
            assert stat.S_IMODE((tree / "tool").stat().st_mode) == 0o750
            assert (tree / "empty" / "deeper").is_dir()
            assert os.readlink(tree / "link") == "tool"


@pytest.fixture(params=KINDS)
def rig_with_records_elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TargetRig]:
    """Records on another file system than the data, or in another bucket."""
    if request.param in ("file", "folder"):
        elsewhere = Path("/dev/shm") / f"superluigi-test-{os.getpid()}"
        if elsewhere.parent.stat().st_dev == tmp_path.stat().st_dev:
            pytest.fail("this test needs a machine where /dev/shm is a file system of its own")
        kind = LocalFileRig if request.param == "file" else LocalFolderRig
        yield _ElsewhereRig(kind(tmp_path), {"metadata_path": elsewhere / "record.json"})
        copying.remove_tree(elsewhere)
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        kind = S3ObjectRig if request.param == "object" else S3PrefixRig
        yield _ElsewhereRig(
            kind(server.create_bucket(), dict(server.client_options)), {"metadata_bucket": server.create_bucket()}
        )


class _ElsewhereRig(TargetRig):
    def __init__(self, rig: TargetRig, options: dict[str, Any]) -> None:
        self.rig, self.options = rig, options

    def target(self, name: str = "output", **options: Any) -> Any:
        return self.rig.target(name, **{**self.options, **options})

    def leftovers(self) -> list[str]:
        return self.rig.leftovers()

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        self.rig.overwrite_as_external_writer(name)


def stopped_at_each_step(rig: TargetRig, how: fault_injection.How, old: str | None) -> None:
    """Data and record agree wherever a commit stops, and the next one needs no help."""
    publish(rig, "new")  # what is found out once is no step
    allowed = {old, "new"} | ({None} if how == "death" and isinstance(rig.target(), S3PrefixTarget) else set())
    n, total = 0, 1
    while n <= total:
        rig.target().remove()
        if old:
            publish(rig, old)
        if how == "death" and n:
            assert fault_injection.stopped_in_child(n, how, publish, rig, "new") == fault_injection.DEATH
        else:
            with contextlib.suppress(OSError), fault_injection.stopping_at(n, how) as failpoints:
                publish(rig, "new")
            total = total if n else len(failpoints)
        seen, recorded = look(rig)
        assert seen == recorded and seen in allowed, f"step {n}: {seen} with the record of {recorded}"
        n += 1
    assert total > 5
    publish(rig, "last")
    assert look(rig) == ("last", "last")
    assert rig.leftovers() == []


@pytest.mark.parametrize("old", ["old", pytest.param(None, marks=pytest.mark.long)], ids=["overwriting", "first"])
def test_a_record_in_another_place_agrees_with_its_data_after_an_error_at_any_step(
    rig_with_records_elsewhere: TargetRig, old: str | None
) -> None:
    stopped_at_each_step(rig_with_records_elsewhere, "error", old)


@pytest.mark.long
def test_a_record_in_another_place_agrees_with_its_data_after_a_death_at_any_step(
    rig_with_records_elsewhere: TargetRig,
) -> None:
    stopped_at_each_step(rig_with_records_elsewhere, "death", "old")


def test_a_clock_that_is_set_back_confuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (LocalFileRig, LocalFolderRig):
        rig = kind(tmp_path / kind.__name__)
        now = time.time_ns()
        for version in range(5):
            monkeypatch.setattr(time, "time_ns", lambda version=version, now=now: now - version * 3600 * 10**9)
            publish(rig, f"v{version}")
            assert look(rig) == (f"v{version}", f"v{version}")


def test_a_moved_store_keeps_its_records(tmp_path: Path) -> None:
    import shutil

    for kind in (LocalFileRig, LocalFolderRig):
        publish(kind(tmp_path / "here"), "one")
        shutil.copytree(tmp_path / "here", tmp_path / "there")
        assert look(kind(tmp_path / "there")) == ("one", "one")
        shutil.rmtree(tmp_path / "there")
        shutil.rmtree(tmp_path / "here")


def test_an_output_named_like_the_record_of_another_is_refused(rig: TargetRig) -> None:
    if isinstance(rig, (LocalFileRig, S3ObjectRig)):
        rig.suffix = ""
    publish(rig, "one", "x")
    for name in ("x.metadata.json", "x.metadata.json.pending"):
        with pytest.raises(TargetKindError, match=r"record of .*x goes.*such as .*x\.json"):
            publish(rig, "two", name)
    assert look(rig, "x") == ("one", "one")
    assert rig.leftovers() == []


# ---------------------------------------------------------------- cleaning


def test_clean_removes_what_the_dead_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    from superluigi.storage.local.cleanup import clean

    rig = LocalFileRig(tmp_path)
    publish(rig, "one")
    for n in (1, 3, 4, 6):
        assert (
            fault_injection.stopped_in_child(n, "death", publish, LocalFileRig(tmp_path), "new")
            == fault_injection.DEATH
        )
    for n in (1, 5):
        assert (
            fault_injection.stopped_in_child(n, "death", publish, LocalFolderRig(tmp_path / "deep"), "new")
            == fault_injection.DEATH
        )
    with rig.target().stage() as living:
        living.path.write_text("still writing")
        (tmp_path / ".superluigi-otherhost-1-1-0123456789ab.output.txt").write_text("of another host")
        listed = clean(tmp_path, dry_run=True)
        assert listed and rig.leftovers()
        assert {item.path for item in clean(tmp_path)} == {item.path for item in listed}
        assert living.path.read_text() == "still writing"
    assert clean(tmp_path) == []
    assert rig.leftovers() == [".superluigi-otherhost-1-1-0123456789ab.output.txt"]
    seen, recorded = look(rig)
    assert seen in ("one", "new") and recorded == seen


def cleaned(rig: TargetRig, *, dry_run: bool = False) -> set[str]:
    """What `superluigi clean` finds in the place of a rig."""
    if isinstance(rig, S3ObjectRig):
        found = s3_cleaning.clean(f"s3://{rig.bucket}/place", dry_run=dry_run, options=rig.options)
    else:
        found = cleanup.clean(rig.folder, dry_run=dry_run)
    return {item.path for item in found}


def everything(rig: TargetRig) -> list[str]:
    """All names that can be seen in the place of a rig and, for S3, in the folder of what is being sent."""
    seen = rig.keys() if isinstance(rig, S3ObjectRig) else [str(path) for path in rig.folder.rglob("*")]
    return sorted([*seen, *rig.leftovers()])


@pytest.mark.parametrize("share", [7, pytest.param(1, marks=pytest.mark.long)], ids=["some-steps", "all-steps"])
def test_cleaning_after_a_death_removes_what_it_said_it_would_and_leaves_a_sound_output(
    rig: TargetRig, share: int
) -> None:
    publish(rig, "new")
    publish(rig, "old")
    with fault_injection.stopping_at(0, "error") as begun:
        publish(rig, "new")
    for n in range(share, len(begun) + 1, share):
        publish(rig, "old")
        assert fault_injection.stopped_in_child(n, "death", publish, rig, "new") == fault_injection.DEATH
        before = everything(rig)
        told = cleaned(rig, dry_run=True)
        assert everything(rig) == before
        assert bool(told) == bool(rig.leftovers()), f"step {n}"
        assert cleaned(rig) == told, f"step {n}"
        assert rig.leftovers() == [], f"step {n}"
        assert cleaned(rig) == set()
        seen = look(rig)
        assert seen in (("old", "old"), ("new", "new")), f"step {n}"
        assert [one.state for one in lineage.verify(rig.target())] == ["ok"], f"step {n}"

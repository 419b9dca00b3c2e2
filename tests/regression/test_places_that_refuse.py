"""Where there is no space, or no right, for a copy: the next place is tried, and else the message names the setting."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from superluigi.errors import CommitError, StorageAccessError
from superluigi.runs.context import RunContext
from superluigi.runs.force import ForcePlan
from superluigi.runs.resume import ForcedRunJournal
from superluigi.storage import owner_token
from superluigi.storage.local import cleanup, scratch
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing import fault_injection

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, and become another user")
NOBODY, SOMEBODY = 65534, 65533


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> None:
    with open(disk / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def written(kind: type, path: Path) -> AtomicTarget:
    target: AtomicTarget = kind(path)
    with target.tmp_write_path() as staged:
        (staged / "x" if staged.is_dir() else staged).write_text("x" * 20_000)
    return target


def text(target: AtomicTarget) -> str:
    with target.tmp_read_path() as path:
        return (path / "x" if path.is_dir() else path).read_text()


@needs_root
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
@pytest.mark.parametrize("clones", [True, False])
@pytest.mark.parametrize("full", ["the data's disk", "the copies' disk"])
def test_an_input_is_read_while_one_of_the_disks_is_full(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, kind: type, clones: bool, full: str
) -> None:
    data, copies = (small_disk, tmp_path) if full == "the data's disk" else (tmp_path, small_disk)
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(copies / "copies"))
    monkeypatch.setattr(scratch, "_can_clone_in", lambda _: clones)
    target = written(kind, data / "in")
    fill(small_disk)
    assert text(target) == "x" * 20_000
    left = {path for disk in (small_disk, tmp_path) for path in disk.glob("**/.superluigi*/*")}
    assert {path for path in left if "spare" not in path.parts} == set()


@needs_root
def test_when_no_place_has_room_the_setting_is_named(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(small_disk / "copies"))
    target = written(LocalFileTarget, small_disk / "in")
    fill(small_disk)
    with pytest.raises(CommitError, match=r"No space left.*SUPERLUIGI_LOCAL_DATA_DIR"):
        text(target)
    assert target.exists()


def read_as(user: int, path: Path, data: Path) -> tuple[str, str]:
    os.setgid(100)
    os.setuid(user)
    os.environ["SUPERLUIGI_LOCAL_DATA_DIR"] = str(data)
    try:
        return "", text(LocalFileTarget(path))
    except (StorageAccessError, CommitError) as error:
        return type(error).__name__, str(error)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.chmod(root, 0o777)
        (Path(root) / "in").write_text("x")
        yield Path(root)


@needs_root
@pytest.mark.parametrize("clones", [True, False])
def test_two_users_read_from_one_folder_and_copy_into_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, clones: bool
) -> None:
    monkeypatch.setattr(scratch, "_can_clone_in", lambda _: clones)
    (project / "copies").mkdir()
    (project / "copies").chmod(0o777)
    for user in (NOBODY, SOMEBODY, NOBODY):
        assert fault_injection.in_child(read_as, user, project / "in", project / "copies") == ("", "x")
    assert not [path for path in project.rglob("*") if "-65" in path.name]


@needs_root
def test_an_unwritable_home_names_the_setting(project: Path) -> None:
    (project / "home").mkdir(mode=0o755)
    (project / "closed").mkdir(mode=0o755)
    (project / "closed/in").write_text("x")
    kind, message = fault_injection.in_child(read_as, NOBODY, project / "closed/in", project / "home/data")
    assert kind == "StorageAccessError"
    assert "SUPERLUIGI_LOCAL_DATA_DIR" in message and str(project / "home/data") in message
    assert fault_injection.in_child(read_as, NOBODY, project / "in", project / "home/data") == ("", "x"), (
        "beside the input"
    )


@pytest.mark.parametrize("when", ["from the beginning", "later"])
def test_the_memory_of_a_forced_run_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "ws"))
    if when == "from the beginning":
        (tmp_path / "ws").write_text("a file in its place")
    run = RunContext(plan=ForcePlan(everything=True))
    memory = ForcedRunJournal("root", run.plan, {})
    with memory.kept(run), io.FileIO("/dev/full", "w") as full:
        if when == "later":
            monkeypatch.setattr(memory, "_lines", full)
        memory.remember("a")
    assert "SUPERLUIGI_WORKSPACE" in caplog.text


@needs_root
def test_a_folder_that_is_out_of_sight_is_removed_though_its_owner_keeps_what_was_in_it(project: Path) -> None:

    def made() -> None:
        os.setuid(SOMEBODY)
        written(LocalFolderTarget, project / "out")

    def removed() -> None:
        os.setuid(NOBODY)
        target = LocalFolderTarget(project / "out")
        target.remove()
        assert not target.exists()

    for work in (made, removed):
        actor = multiprocessing.get_context("fork").Process(target=work)
        actor.start()
        actor.join()
        assert actor.exitcode == 0, work.__name__
    assert [path.name for path in project.glob("out*")] == [], "no record without its data either"


def refused(user: int, work: str, kind: str, path: Path) -> str:
    """What is said to `user`, who may not do this."""
    os.setuid(user)
    target = (LocalFileTarget if kind == "file" else LocalFolderTarget)(path)
    try:
        if work == "remove":
            target.remove()
        elif work == "write":
            written(type(target), path)
        else:
            return " ".join(one.kept for one in cleanup.clean(path.parent))
    except StorageAccessError as error:
        return str(error)
    return ""


@needs_root
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("work", ["remove", "write", "clean"])
def test_advice_about_rights_names_what_the_user_knows(project: Path, work: str, kind: str) -> None:
    project.chmod(0o1777)
    written(LocalFileTarget if kind == "file" else LocalFolderTarget, project / "out")
    left = project / f".superluigi-{owner_token.host()}-{owner_token.world()}-4194999-1-0123456789ab"
    (left / "inner").mkdir(parents=True)
    told = fault_injection.in_child(refused, NOBODY, work, kind, project / "out")
    assert re.search(rf"owner and mode of {re.escape(str(left if work == 'clean' else project / 'out'))}\b", told), told

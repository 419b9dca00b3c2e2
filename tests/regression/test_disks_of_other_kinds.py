"""Disks that are not the usual one: what is mounted in a folder, trees on btrfs, names on a disk that knows no case."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import CommitError, OutputClashError, TargetKindError
from superluigi.storage.local.copy import remove_tree
from superluigi.storage.local.stages import staging
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.runtime import supervisor

Mount = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mount at a folder, by these words; all mounts below `tmp_path` go at the end, wherever they are by then."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    loops: list[str] = []

    def mount(*words: Any) -> Path:
        done = subprocess.run([*map(str, words)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this cannot be mounted here: {words} ({done.stderr.strip()})")
        if words[0] == "losetup":
            loops.append(done.stdout.strip())
        return Path(loops[-1] if words[0] == "losetup" else words[-1])

    try:
        yield mount
    finally:
        for place in reversed(mounts(tmp_path)):
            subprocess.run(["umount", place], check=True)
        for loop in loops:
            subprocess.run(["losetup", "-d", loop], check=True)
    assert mounts(tmp_path) == []


def mounts(folder: Path) -> list[str]:
    """Where something is mounted below a folder, the earliest first."""
    found = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place) for place in found]
    return [place for place in places if place.startswith(f"{folder}/")]


@pytest.fixture(params=["btrfs", "exfat"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, mounted: Mount) -> Path:
    """A small disk of another kind."""
    make, mount = {"btrfs": ("mkfs.btrfs", "mount"), "exfat": ("mkfs.exfat", "mount.exfat-fuse")}[request.param]
    if shutil.which(make) is None or shutil.which(mount) is None:
        pytest.skip(f"no {make} or {mount} on this machine")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(120 << 20)
    subprocess.run([make, image], check=True, capture_output=True)
    return mounted(mount, mounted("losetup", "--find", "--show", image), folder)


class Made(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    name = luigi.Parameter(default="out")
    kind = luigi.Parameter(default="folder")

    def output(self) -> Any:
        return (LocalFolderTarget if self.kind == "folder" else LocalFileTarget)(Path(self.place) / self.name)

    def run(self, output_path: Path) -> None:
        if self.kind == "folder":
            (output_path / "a/b/c").mkdir(parents=True)
            (output_path / "a/b/c/x").write_text(self.name)
        else:
            output_path.write_text(self.name)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_replaced_and_removed_on_any_disk_leaves_nothing(disk: Path, kind: str) -> None:
    task = Made(str(disk), kind=kind)
    for _ in range(2):
        run_task(task, force=True)
        assert task.output().exists() and task.output().read_metadata()["task_id"] == task.task_id
    task.output().remove()
    assert [path.name for path in disk.iterdir() if path.name not in ("lost+found", staging.STAGING)] == []


@pytest.mark.parametrize("disk", ["exfat"], indirect=True)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_on_a_disk_that_knows_no_case_the_other_spelling_is_neither_complete_nor_overwritten(
    disk: Path, kind: str
) -> None:
    first, second = (Made(str(disk), name, kind) for name in ("Case", "case"))
    run_task(first)
    assert first.complete() and not second.complete()
    with pytest.raises(OutputClashError, match="upper from lower case"):
        run_task(second, raise_exception=True)
    assert first.complete() and first.output().read_metadata()["task_id"] == first.task_id


@pytest.mark.parametrize("depth", ["", "a/b"])
@pytest.mark.parametrize("what", ["another disk", "a folder of the same disk"])
def test_what_is_mounted_in_an_output_is_not_emptied_with_it(
    tmp_path: Path, mounted: Mount, what: str, depth: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "another disk":
        mounted("mount", "-t", "tmpfs", "tmpfs", elsewhere)
    (elsewhere / "precious").write_text("x")
    task = Made(str(tmp_path))
    run_task(task)
    inside = tmp_path / "out" / depth / "mounted"
    inside.mkdir()
    mounted("mount", "--bind", elsewhere, inside)
    run_task(task, force=True)
    task.output().remove()
    assert (elsewhere / "precious").exists() and not task.complete()


@pytest.mark.parametrize("what", ["another disk", "a folder of the same disk"])
@pytest.mark.parametrize("name", ["out", "o u\tt\\"])
def test_an_output_where_something_is_mounted_is_refused_and_told_why(
    tmp_path: Path, mounted: Mount, what: str, name: str
) -> None:
    place, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    if what == "another disk":
        mounted("mount", "-t", "tmpfs", "tmpfs", place)
    else:
        mounted("mount", "--bind", elsewhere, place)
    (place / "precious").write_text("x")
    task = Made(str(tmp_path), name)
    for work in (lambda: run_task(task, force=True, raise_exception=True), task.output().remove):
        with pytest.raises(CommitError, match="Something is mounted there"):
            work()
    assert [path.name for path in place.iterdir()] == ["precious"]
    if what == "another disk":
        with pytest.raises(CommitError):  # before the work
            task.output().stage()
    task = Made(str(place))
    run_task(task)
    assert task.complete(), "a folder in it is fine"


def test_a_folder_of_a_lower_layer_that_cannot_be_moved_away_is_told_with_what_to_do(
    tmp_path: Path, mounted: Mount
) -> None:
    layers, merged = tmp_path / "layers", tmp_path / "merged"
    layers.mkdir()
    merged.mkdir()
    mounted("mount", "-t", "tmpfs", "tmpfs", layers)
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    with LocalFolderTarget(layers / "lower" / "out").tmp_write_path() as made:
        (made / "x").write_text("old")
    where = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work,redirect_dir=off"
    mounted("mount", "-t", "overlay", "overlay", "-o", where, merged)
    target = LocalFolderTarget(merged / "out")
    with (
        pytest.raises(CommitError, match=r"came with a container's image.* remove it by hand"),
        target.tmp_write_path() as path,
    ):
        (path / "x").write_text("new")
    with pytest.raises(CommitError, match="remove it by hand"):
        target.remove()
    with target.tmp_read_path() as path:
        assert (path / "x").read_text() == "old"
    shutil.rmtree(merged / "out")
    with target.tmp_write_path() as path:
        (path / "x").write_text("new")
    assert target.exists()


def test_what_is_mounted_in_the_folder_of_a_task_outlives_that(tmp_path: Path, mounted: Mount) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "ws/jobs/Task/0123"
    (folder / "mounted").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (folder / "stderr.log").touch()
    os.utime(folder / "stderr.log", (0, 0))
    mounted("mount", "--bind", elsewhere, folder / "mounted")
    supervisor.prune(tmp_path / "ws", keep_days=1)
    assert (elsewhere / "precious").exists()
    subprocess.run(["umount", folder / "mounted"], check=True)
    remove_tree(folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", [".superluigi", ".superluigi.running", ".superluigi-notes"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_output_with_a_name_of_ours_is_refused_before_it_is_made(tmp_path: Path, kind: str, name: str) -> None:
    task = Made(str(tmp_path), name, kind)
    with pytest.raises(TargetKindError, match="are ours in local folders"):
        run_task(task, raise_exception=True)
    assert not task.complete()


HOLES = [(), ((0, b"a"),), ((1 << 20, b"b"),), ((0, b"a"), (5 << 20, b"b")), (((8 << 20) - 1, b"c"),)]


@pytest.mark.parametrize("parts", HOLES, ids=lambda parts: str(len(parts)))
def test_a_copy_of_a_file_with_holes_has_its_bytes_and_its_holes(
    tmp_path: Path, mounted: Mount, parts: tuple[tuple[int, bytes], ...]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    target = LocalFileTarget(mounted("mount", "-t", "tmpfs", "tmpfs", disk) / "out")
    with target.tmp_write_path() as path, path.open("wb") as file:
        file.truncate(8 << 20)
        for at, data in parts:
            file.seek(at)
            file.write(data)
    with target.tmp_read_path() as copy:
        assert copy.read_bytes() == (disk / "out").read_bytes()
        assert copy.stat().st_blocks * 512 < 1 << 20

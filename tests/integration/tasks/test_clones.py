"""Where files can be cloned, inputs cost no copy: on a small XFS made for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from superluigi.targets import LocalFileTarget, LocalFolderTarget

MEBIBYTE = 1 << 20
needs_xfs = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mkfs.xfs") is None,
    reason="needs root and mkfs.xfs (Debian package xfsprogs) to mount a file system that can clone",
)


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "xfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * MEBIBYTE)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs a machine whose kernel mounts XFS on a loop device: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def used(place: Path) -> int:
    os.sync()
    facts = os.statvfs(place)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


@needs_xfs
def test_reading_a_large_file_takes_no_space_and_is_still_safe(xfs: Path) -> None:
    target = LocalFileTarget(xfs / "large.bin")
    with target.tmp_write_path() as path:
        path.write_bytes(os.urandom(100 * MEBIBYTE))
    before = used(xfs)
    with target.tmp_read_path() as copy:
        assert used(xfs) - before < 5 * MEBIBYTE
        with copy.open("r+b") as file:
            file.write(b"spoilt")
        assert target.path.read_bytes()[:6] != b"spoilt"
        assert copy.stat().st_size == 100 * MEBIBYTE
    assert sorted(path.name for path in xfs.iterdir()) == ["large.bin"]


@needs_xfs
def test_reading_a_folder_clones_each_file(xfs: Path) -> None:
    target = LocalFolderTarget(xfs / "folder")
    with target.tmp_write_path() as path:
        for number in range(10):
            (path / str(number)).write_bytes(os.urandom(8 * MEBIBYTE))
    before = used(xfs)
    with target.tmp_read_path() as copy:
        assert used(xfs) - before < 5 * MEBIBYTE
        (copy / "0").unlink()
    assert (target.path / "0").stat().st_size == 8 * MEBIBYTE


def test_a_folder_of_ten_thousand_files_is_read_whole_and_safely(tmp_path: Path) -> None:
    target = LocalFolderTarget(tmp_path / "many")
    with target.tmp_write_path() as path:
        for number in range(10_000):
            (path / f"{number:05d}").write_text(str(number))
    with target.tmp_read_path() as copy:
        assert sum(1 for _ in copy.iterdir()) == 10_000
        (copy / "00042").write_text("spoilt")
    assert (target.path / "00042").read_text() == "42"
    with target.tmp_read_path(shared=True) as real:
        assert real == target.path

"""On a disk that does not tell upper from lower case, two names that differ in that only are not one output."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import OutputClashError, TaskFailedError
from superluigi.storage.local import case
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A mounted exFAT image, where root may mount one and FUSE knows it."""
    tools = [shutil.which(name) for name in ("mkfs.exfat", "mount.exfat-fuse", "losetup")]
    if os.getuid() or not all(tools) or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root, FUSE, exfat-fuse and exfatprogs")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    device = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True).stdout
    try:
        subprocess.run(["mount.exfat-fuse", device.strip(), folder], check=True, capture_output=True)
        yield folder
    finally:
        for _ in range(50):
            if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        subprocess.run(["losetup", "-d", device.strip()], check=False)


class Named(AtomicTaskWithMetadata):
    path = luigi.Parameter()
    folder = luigi.BoolParameter(default=False)

    def output(self) -> Any:
        return LocalFolderTarget(self.path) if self.folder else LocalFileTarget(self.path)

    def run(self, output_path: Path) -> None:
        (output_path / "x" if self.folder else output_path).write_text(self.path)


@pytest.mark.parametrize("kind", ["file", "folder", "file without record", "folder above"])
def test_another_spelling_is_another_output_and_cannot_be_made_beside_it(exfat: Path, kind: str) -> None:
    folder = kind == "folder"
    one, other = (("Up/a", "up/a") if kind == "folder above" else ("Case", "case")) if kind else ("", "")
    if kind == "file without record":
        (exfat / one).write_text("a stranger's")
    else:
        run_task(Named(str(exfat / one), folder))
    before = sorted(str(path) for path in exfat.rglob("*"))
    first, second = Named(str(exfat / one), folder), Named(str(exfat / other), folder)
    assert (exfat / other).exists(), "this disk tells upper from lower case"
    assert first.complete() and not second.complete()
    assert second.output().read_metadata() is None
    with pytest.raises((OutputClashError, TaskFailedError), match="upper from lower case"):
        run_task(second)
    second.output().remove()
    assert first.complete() and sorted(str(path) for path in exfat.rglob("*")) == before
    run_task(first, force=True)
    assert first.complete() and first.output().read_metadata() is not None


def test_a_disk_that_tells_them_apart_is_asked_once_a_folder(tmp_path: Path) -> None:
    case.folding.clear()
    for name in ("a.txt", "A.TXT", "b.txt"):
        (tmp_path / name).write_text(name)
    assert all(LocalFileTarget(tmp_path / name).exists() for name in ("a.txt", "A.TXT", "b.txt"))
    assert case.folding == {str(tmp_path): False}

"""Copy, digest and remove files and trees on local disks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from superluigi.errors import TargetKindError

_CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl_ficlone(2)


def copy_or_clone(source: int, destination: Path) -> None:
    """Copy the open file `source` to the new file `destination`, by reference where it can be cloned.

    FICLONE first (btrfs, xfs: no bytes move, later writes stay apart), then copy_file_range(2) and
    sendfile(2) inside the kernel, then a plain copy.
    """
    with open(destination, "xb") as target:
        size = os.fstat(source).st_size
        if size == 0 or clone(source, target.fileno()):
            return
        offset = 0
        while offset < size:
            try:
                moved = os.sendfile(target.fileno(), source, offset, min(size - offset, 1 << 30))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOVERFLOW) or offset:
                    raise
                with open(os.dup(source), "rb") as reader:
                    reader.seek(0)
                    shutil.copyfileobj(reader, target, _CHUNK)
                return
            if moved == 0:
                break
            offset += moved


def clone(source: int, destination: int) -> bool:
    """Make the empty open file `destination` share the bytes of `source`; False where that is impossible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError:
        return False
    return True


def walk(
    root: str | Path, skip: Callable[[str], bool] | None = None, *, tolerant: bool = False
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder from `root` down, before those in it, by name, with its entries; links are not followed.

    However deep: Python's own walks give up after a thousand levels. Entries whose name `skip` accepts are left out,
    and, if `tolerant`, folders that are gone or may not be read.
    """
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            found = entries(folder)
        except OSError:
            if not tolerant:
                raise
            continue
        if skip is not None:
            found = [entry for entry in found if not skip(entry.name)]
        yield folder, found
        waiting += sorted((entry.path for entry in found if entry.is_dir(follow_symlinks=False)), reverse=True)


def copy_tree(source: Path, destination: Path, skip: Callable[[str], bool]) -> None:
    """Copy a folder: sub-folders, empty ones, symlinks (as links), modes; files are cloned where possible.

    Entries whose name `skip` accepts are left out.
    """
    cut, folders = len(str(source)), []
    for folder, found in walk(source, skip):
        target = f"{destination}{folder[cut:]}"
        os.mkdir(target)
        folders.append((folder, target))
        for entry in found:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), f"{target}/{entry.name}")
            elif entry.is_file():
                copy_file(Path(entry.path), Path(target, entry.name))
            elif not entry.is_dir():  # opening a pipe would wait for its writer
                raise TargetKindError(
                    f"{entry.path} is a pipe, socket or device; a folder holds files, folders and links."
                )
    for folder, target in folders:
        os.chmod(target, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)


def copy_file(source: Path, destination: Path) -> None:
    """Copy one file with its mode; the copy can be written even if the source cannot."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        copy_or_clone(descriptor, destination)
        os.chmod(destination, stat.S_IMODE(os.fstat(descriptor).st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return digested(str(path))[0]


def digested(path: str) -> tuple[str, os.stat_result]:
    """Hex SHA-256 of a file's bytes, and its status; one read for small files, of which there may be thousands."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        digest = hashlib.sha256()
        if status.st_size <= _CHUNK:
            size = status.st_size or _CHUNK  # a buffer of a whole chunk is memory fetched and given back for each file
            while data := os.read(descriptor, size):
                digest.update(data)
                if len(data) == size:
                    break
        else:
            buffer = memoryview(bytearray(_CHUNK))
            while count := os.readv(descriptor, [buffer]):
                digest.update(buffer[:count])
        return digest.hexdigest(), status
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a file or folder, whatever its modes and depth; nothing happens when it is gone.

    Folders in folders are moved up to the top before they are emptied, so that no path gets too long.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    top = str(path)
    while folders := _without_files(top):
        for folder in folders:
            for inner in _without_files(folder):
                _forced(os.rename, inner, f"{top}/{secrets.token_hex(8)}")
            _forced(os.rmdir, folder)
    _forced(os.rmdir, top)


def _without_files(folder: str) -> list[str]:
    """Remove all from `folder` but the folders in it, which are returned."""
    folders = []
    for entry in _forced(entries, folder) or ():
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        else:
            _forced(os.unlink, entry.path)
    return folders


def entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in one folder."""
    with os.scandir(folder) as scan:
        return list(scan)


def _forced(function: Callable[..., Any], path: str, *more: str) -> Any:
    """Call it, if need be after taking all rights to the folders concerned; None for what is gone."""
    with contextlib.suppress(FileNotFoundError):
        try:
            return function(path, *more)
        except PermissionError:
            for name in (path, *map(os.path.dirname, (path, *more))):
                if stat.S_ISDIR(os.lstat(name).st_mode):
                    os.chmod(name, stat.S_IRWXU)
            return function(path, *more)

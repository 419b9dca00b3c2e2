"""Copy, digest and remove files and trees on local disks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from superluigi.errors import TargetKindError

_CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl_ficlone(2)


def copy_or_clone(source: int, destination: Path) -> None:
    """Copy the open file `source` to the new file `destination`, by reference where it can be cloned.

    FICLONE first (btrfs, xfs: no bytes move, later writes stay apart), then copy_file_range(2) and
    sendfile(2) inside the kernel, then a plain copy. Holes stay holes.
    """
    with open(destination, "xb") as target:
        status = os.fstat(source)
        size = status.st_size
        if size == 0:  # so say files of /proc, which have content all the same
            while data := os.read(source, _CHUNK):
                target.write(data)
            return
        if clone(source, target.fileno()):
            return
        moved = 0
        for offset, end in _data(source, status):
            os.lseek(target.fileno(), offset, os.SEEK_SET)
            while offset < end:
                try:
                    moved = os.sendfile(target.fileno(), source, offset, min(end - offset, 1 << 30))
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOVERFLOW) or moved:
                        raise
                    with open(os.dup(source), "rb") as reader:
                        reader.seek(0)
                        target.seek(0)
                        shutil.copyfileobj(reader, target, _CHUNK)
                    return
                if moved == 0:
                    return
                offset += moved
        if os.fstat(target.fileno()).st_size < size:
            os.truncate(target.fileno(), size)


def _data(source: int, status: os.stat_result) -> Iterator[tuple[int, int]]:
    """From where to where an open file holds data; the rest of it are holes."""
    size, end = status.st_size, 0
    if status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a disk that does not tell
                yield end, size
            return
        yield start, end


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


#: Names of POSIX access-control lists: of a file or folder itself, and of what is made in a folder.
ACL, ACL_OF_NEW = "system.posix_acl_access", "system.posix_acl_default"


def access_list(path: str | Path, name: str = ACL) -> bytes:
    """An access-control list as the kernel tells it; empty where there is none."""
    try:
        return os.getxattr(path, name)
    except (OSError, AttributeError):  # another disk or system
        return b""


def read_file(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file, by the fewest system calls."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


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


_NEEDED = 4  # descriptors that `remove_tree` has open at a time


class _Reserve:
    """Pipes to give up where a process that has no more descriptors must remove what it staged."""

    def __init__(self) -> None:
        self._held: dict[int, os.stat_result] = {}

    def keep(self) -> None:
        """Hold as many as are needed."""
        with contextlib.suppress(OSError):  # there are none left, as it seems
            while len(self._held) < _NEEDED:
                self._held.update((fd, os.fstat(fd)) for fd in os.pipe())

    def give(self) -> bool:
        """Close them; whether there were any. What a task has closed, and opened as something else, is not ours."""
        held, self._held = self._held, {}
        for fd, was in held.items():
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(fd), was):
                    os.close(fd)
        return bool(held)


_reserve = _Reserve()
keep_reserve = _reserve.keep


def remove_tree(path: Path, *, owner: int | None = None) -> None:
    """Remove a file or folder, whatever its modes and depth; nothing happens when it is gone.

    It is reached by the descriptor of the folder that holds it, so nothing outside is touched when others put a link
    in the place of a folder meanwhile. Folders in folders are moved up to the top before they are emptied, so that no
    chain of them gets too long. With `owner`, only what that user made is removed.
    """
    try:
        _remove_tree(path, owner)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or not _reserve.give():
            raise
        _remove_tree(path, owner)


def _remove_tree(path: Path, owner: int | None) -> None:
    parent, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError), _opened(parent or ".") as here:
        if owner is not None and _owner_of(name, here) != owner:
            return
        folder = _folder(name, here)
        if folder is None:
            os.unlink(name, dir_fd=here)
            return
        try:
            if owner is None or os.fstat(folder).st_uid == owner:  # still the one that was looked at
                _empty(folder, owner)
                _remove_folder(name, here, owner, force=False)
        finally:
            os.close(folder)


def _empty(top: int, owner: int | None) -> None:
    stays: set[str] = set()  # of another owner, or something of another owner is in it
    moved: set[str] = set()
    while folders := set(_without_files(top, owner)) - stays:
        for found in folders:
            # emptied under another name only: where something is mounted that is refused, and what is there is not ours
            name = found if found in moved else _move_up(found, top, top)
            try:
                folder = _folder(name, top)
            except FileNotFoundError:  # another process removes it as well
                continue
            if folder is None:  # a link by now: the next look takes it away
                continue
            try:
                for inner in _without_files(folder, owner):
                    moved.add(_move_up(inner, folder, top))
            finally:
                os.close(folder)
            if not _remove_folder(name, top, owner, force=True):
                stays.add(name)


def _remove_folder(name: str, parent: int, owner: int | None, *, force: bool) -> bool:
    """Remove an empty folder; False if it is not empty, since it holds what another than `owner` made."""
    try:
        _forced(functools.partial(os.rmdir, name, dir_fd=parent), *((parent,) if force else ()))
    except NotADirectoryError:  # a link by now
        _forced(functools.partial(os.unlink, name, dir_fd=parent), *((parent,) if force else ()))
    except OSError as error:
        if owner is None or error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _without_files(folder: int, owner: int | None) -> list[str]:
    """Remove all from an open folder but the folders in it, whose names are returned: of `owner`, if one is given."""
    os.lseek(folder, 0, os.SEEK_SET)  # btrfs tells an open folder nothing that has come since it was opened or rewound
    with os.scandir(folder) as scan:
        found = list(scan)
    folders = []
    for entry in found:
        if owner is not None and _owner_of(entry.name, folder) != owner:
            continue
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            _forced(functools.partial(os.unlink, entry.name, dir_fd=folder), folder)
    return folders


def _owner_of(name: str, folder: int) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid
    return None


def _move_up(name: str, folder: int, top: int) -> str:
    """Give the folder `name` a place, and the returned name, in `top`; nothing for what is gone."""
    new = secrets.token_hex(8)
    move = functools.partial(os.rename, name, new, src_dir_fd=folder, dst_dir_fd=top)
    try:
        _forced(move, folder, top)
    except PermissionError:  # the kernel wants to write `..` into it
        _take_rights(name, folder)
        _forced(move, folder, top)
    return new


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _folder(name: str, parent: int) -> int | None:
    """A descriptor of the folder `name`, readable whatever its mode; None if it is something else, a link too."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(name, flags, dir_fd=parent)
        except PermissionError:
            _take_rights(name, parent)
            return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _take_rights(name: str, parent: int) -> None:
    """Let us do everything in the folder `name`, and follow no link."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, stat.S_IRWXU, dir_fd=parent, follow_symlinks=False)
        return
    folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{folder}", stat.S_IRWXU)
    finally:
        os.close(folder)


def _forced(work: Callable[[], object], *folders: int) -> None:
    """Do it, if need be after taking all rights to the open folders concerned; nothing for what is gone."""
    with contextlib.suppress(FileNotFoundError):
        try:
            work()
        except PermissionError:
            for folder in folders:
                os.fchmod(folder, stat.S_IRWXU)
            work()


def entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in one folder."""
    with os.scandir(folder) as scan:
        return list(scan)

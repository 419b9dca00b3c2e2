"""The only module that renames, flushes, locks or exchanges: how local bytes become visible, and stay."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import logging
import os
import re
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from superluigi.errors import CommitError, StorageAccessError, TargetError
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import copy

_log = logging.getLogger(__name__)

_RENAME_EXCHANGE = 2  # renameat2(2)
_AT_FDCWD = -100
_SYNCFS_FROM = 32  # from so many files on, one syncfs(2) is cheaper than an fsync each


def replace(source: str | Path, destination: str | Path) -> None:
    """Move `source` to `destination`; readers see the old file or the new one, never a part."""
    failpoint("rename")
    os.replace(source, destination)


def write_new(path: str, content: bytes, *, flush: bool) -> None:
    """Write a new file whole; its mode is that of a plain `open(path, "w")`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(content)
        while left:  # a full disk takes a part before it refuses
            left = left[os.write(descriptor, left) :]
        failpoint("flush record")
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(source: Path, destination: Path) -> None:
    """Move a folder of ours into another one; its mode does not matter (the kernel wants to write `..` into it)."""
    failpoint("rename")
    try:
        os.replace(source, destination)
    except PermissionError:
        mode = stat.S_IMODE(os.lstat(source).st_mode)
        if mode & stat.S_IWUSR:
            raise
        os.chmod(source, mode | stat.S_IRWXU)
        os.replace(source, destination)
        os.chmod(destination, mode)


def exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where kernel or file system cannot (nothing has changed then).

    Linux renameat2(2) with RENAME_EXCHANGE, macOS renamex_np(2) with RENAME_SWAP.
    """
    failpoint("exchange")
    if (swap := _exchange_function()) is None:
        return False
    if swap(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


@functools.lru_cache(maxsize=1)
def _exchange_function() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return swap and (lambda first, second: swap(first, second, 2))
    swap = getattr(library, "renameat2", None)
    return swap and (lambda first, second: swap(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE))


class locked:  # noqa: N801 - used like a function, on the way of every commit
    """Hold the publishing lock of `folder`: an flock(2) on the folder itself, so no lock file exists.

    Freed by the kernel when its process dies. Where the file system knows no locks, writers are not kept
    apart (docs/promises.md says so).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        if _held.folders and _same_folder(self.descriptor) in _held.folders:
            return  # by `locked_together`, of this thread: a second descriptor would wait for ever
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        except OSError:
            pass
        except BaseException:  # Ctrl-C while waiting
            os.close(self.descriptor)
            raise

    def __exit__(self, *exc_info: object) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # by hand: a forked child may share the descriptor
        except OSError:
            pass
        finally:
            os.close(self.descriptor)


class _Held(threading.local):
    folders: frozenset[tuple[int, int]] = frozenset()


_held = _Held()


def _same_folder(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def locked_together(folders: Iterable[str | Path]) -> Iterator[None]:
    """Hold the publishing locks of several folders, taken in one order everywhere.

    In this block, and this thread, `locked` has them already.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted({os.path.realpath(folder) for folder in folders}):
            lock = locked(folder)
            stack.enter_context(lock)
            stack.callback(setattr, _held, "folders", _held.folders)
            _held.folders |= {_same_folder(lock.descriptor)}
        yield


def as_plain_open(staged: Path, final: str | Path) -> bool:
    """Give `staged` the mode, owner and access list that `open(final, "w")` would have left; whether there is one.

    A new file or folder has those of its folder already. A replaced one keeps its own, unless the writer chose a mode
    by itself.
    """
    try:
        old = os.stat(final)
    except OSError:
        return False
    new, had, has = os.stat(staged), copy.access_list(final), copy.access_list(staged)
    differs = had != has or stat.S_IMODE(old.st_mode) != stat.S_IMODE(new.st_mode)
    if differs and new.st_mode & 0o777 == _usual_mode(staged.parent, new.st_mode):
        if had != has:
            os.setxattr(staged, copy.ACL, had) if had else os.removexattr(staged, copy.ACL)
        os.chmod(staged, stat.S_IMODE(old.st_mode))
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(PermissionError):  # only root may give files away
            os.chown(staged, old.st_uid, old.st_gid)
    return True


def pass_on(old: Path, new: Path) -> None:
    """Let what is made in the folder `new` get the group and access list that it gets in `old`, if that is there."""
    with contextlib.suppress(FileNotFoundError):
        there, here = os.stat(old), os.stat(new)
        given = copy.access_list(old, copy.ACL_OF_NEW)
        if given != copy.access_list(new, copy.ACL_OF_NEW):
            os.setxattr(new, copy.ACL_OF_NEW, given) if given else os.removexattr(new, copy.ACL_OF_NEW)
        if (there.st_mode & stat.S_ISGID, there.st_gid) == (here.st_mode & stat.S_ISGID, here.st_gid):
            return
        with contextlib.suppress(PermissionError):  # one may give only to groups that one is in
            os.chown(new, -1, there.st_gid)
            os.chmod(new, stat.S_IMODE(here.st_mode) & ~stat.S_ISGID | there.st_mode & stat.S_ISGID)


_USER, _GROUP, _MASK, _OTHER = 1, 4, 16, 32  # acl(5)


def _usual_mode(folder: Path, kind: int) -> int:
    """Of a new file or folder in `folder`: by its default list, else by the umask."""
    usual = 0o777 if stat.S_ISDIR(kind) else 0o666
    given: dict[int, int] = {
        tag: rights for tag, rights, _ in struct.iter_unpack("<HHI", copy.access_list(folder, copy.ACL_OF_NEW)[4:])
    }
    if not given:
        return usual & ~current_umask()
    return usual & (given[_USER] << 6 | given.get(_MASK, given[_GROUP]) << 3 | given[_OTHER])


def current_umask() -> int:
    """This process's umask, read without changing it where /proc tells."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def stamp(path: Path) -> None:
    """Set the modification time to now in nanoseconds, so that no two commits share one."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


# ---------------------------------------------------------------- flush


def flush_file(path: str | Path) -> None:
    """fsync(2) one file's data."""
    failpoint("flush file")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: str | Path) -> None:
    """fsync(2) a folder, so that names made in it survive a power cut."""
    failpoint("flush folder")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def flush_tree(root: Path) -> None:
    """Flush every file and folder below `root`, by one syncfs(2) where there are many."""
    files: list[str] = []
    folders: list[str] = []
    for folder, entries in copy.walk(root):
        folders.append(folder)
        files += [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]  # a pipe would wait
        if len(files) + len(folders) >= _SYNCFS_FROM and _syncfs(root):
            return
    for path in files:
        flush_file(path)
    for path in folders:
        flush_folder(path)


def _syncfs(path: Path) -> bool:
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if function(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
        return True
    finally:
        os.close(descriptor)


def is_mount(folder: str) -> bool:
    """Whether another disk is mounted at a folder, as far as this system tells: it cannot be replaced then."""
    with contextlib.suppress(OSError):
        if os.lstat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev:  # or it is a subvolume of btrfs
            real = os.fsencode(os.path.realpath(folder))
            known = copy.read_file("/proc/self/mountinfo").splitlines()
            meant = functools.partial(_OCTAL.sub, lambda found: bytes([int(found[1], 8)]))
            return any(meant(line.split(b" ")[4]) == real for line in known)
    return False


_OCTAL = re.compile(rb"\\(\d{3})")


# ---------------------------------------------------------------- errors


_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then run again.",
    errno.EDQUOT: "The disk quota is used up: free some space, then run again.",
    errno.EFBIG: "The file is larger than the limit of this process (ulimit -f) or file system.",
    errno.EROFS: "The file system is read-only: have it mounted writable, or choose another place.",
    errno.ENAMETOOLONG: "The name, with that of its record, is too long for the file system: choose a shorter one.",
    errno.EBUSY: "Something is mounted there: make the output a file or a folder in it, or unmount it.",
    errno.EXDEV: "It came with a container's image, whose folders cannot be moved: remove it by hand, then run again.",
    errno.ENOTDIR: "A part of the path is a file, not a folder.",
}


#: Names that no user gave: of stages, and of folders that are open.
_PASSING = re.compile(r"/\.superluigi-|^/proc/self/fd/|^[^/]*$")


def advice(error: OSError) -> str:
    """What to do about an error of the system."""
    return _ADVICE.get(error.errno or 0, "")


class mended_later:  # noqa: N801 - used like a function, on the way of every commit
    """Work that a commit no longer depends on: if the system refuses it, a warning says how things stand."""

    def __init__(self, state: str) -> None:
        self.state = state

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, OSError):
            return False
        if isinstance(error, PermissionError):
            who = "Let the owner run `superluigi clean` there."
        else:
            who = "The next run there, or `superluigi clean`, sees to it."
        _log.warning("%s (%s). %s", self.state, error.strerror or error, who)
        return True


class explained:  # noqa: N801 - used like a function, on the way of every commit
    """Turn the system's errors into ours: what failed, where, what now."""

    def __init__(self, action: str, path: Path | str, state: str = "") -> None:
        """`state` says how things stand when it fails, if that is known."""
        self.action, self.path, self.state = action, path, state

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, OSError) or (isinstance(error, TargetError) and type(error) is not TargetError):
            return
        if type(error) is TargetError:  # says already what could not be read
            told = [str(error)]
        else:
            told = [f"Cannot {self.action} {self.path}: {error.strerror or error}.", advice(error)]
        if isinstance(error, PermissionError):
            named = (error.filename2, error.filename)  # of a rename, the destination first
            refusing = next((one for one in named if one and not _PASSING.search(os.fsdecode(one))), self.path)
            told.append(f"Check the owner and mode of {refusing} and of its folder, and their attributes.")
            raise StorageAccessError(" ".join(filter(None, told))) from error
        wrapped = CommitError(" ".join(filter(None, (*told, self.state))))
        wrapped.errno = error.errno
        raise wrapped from error

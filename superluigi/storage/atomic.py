"""The only module that renames, flushes, locks, clones or exchanges: how local bytes become visible.

New content is written beside its destination, on the same file system, as
`.superluigi-<host>-<pid>-<start>-<random>.<final name>` (see `identity`), so that publishing is one rename and no
inode is made in vain: file systems such as ext4 keep away from freed inodes for seconds, which makes every
create-and-delete slow. Private folders for copies are `<parent>/.superluigi/<host>-<pid>-<start>-<random>/`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from superluigi.errors import CommitError, StorageAccessError, TargetError
from superluigi.storage import identity
from superluigi.storage.steps import step

STAGING = ".superluigi"
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_RENAME_EXCHANGE = 2  # renameat2(2)
_AT_FDCWD = -100
_SYNCFS_FROM = 32  # from so many files on, one syncfs(2) is cheaper than an fsync each


# ---------------------------------------------------------------- names beside a destination

_PREFIX = STAGING + "-"
_SWAP = STAGING + ".swap."
NAME_MAX = 255  # bytes; NAME_MAX of all common file systems
_SWEEP_SHARE = 20  # looking for left-overs may take a twentieth of the time

_active: set[str] = set()
_sweeps: dict[Path, tuple[float, float]] = {}


def is_ours(name: str) -> bool:
    """Whether a name is one of ours beside destinations: never part of anybody's data."""
    return name.startswith(STAGING)


def staged_path(final: Path) -> tuple[str, Path]:
    """A new token, and the path beside `final` where its replacement is written; the suffix is kept."""
    token = identity.token()
    prefix = f"{_PREFIX}{token}."
    room = NAME_MAX - len(prefix)
    name = (
        os.fsencode(final.name)[-room:].decode("utf-8", "ignore") if len(os.fsencode(final.name)) > room else final.name
    )
    _active.add(token)
    return token, final.with_name(prefix + name)


def forget(token: str) -> None:
    """What this token named is done with; whatever of it is still there may be swept."""
    _active.discard(token)


def swap_journal(final: Path) -> Path:
    """Where a swap of `final` by two renames is written down."""
    return final.with_name(_SWAP + final.name)


def sweep(parent: Path, *, always: bool = False) -> list[Path]:
    """What is left below `parent` by dead processes of this host, or by this one without need.

    Reads the folder, so it answers with nothing while the last look is too recent for its cost, unless `always`.
    """
    last = _sweeps.get(parent)
    began = time.perf_counter()
    if last is not None and not always and began - last[0] < _SWEEP_SHARE * last[1]:
        return []
    try:
        names = [name for name in os.listdir(parent) if name.startswith(_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    ended = time.perf_counter()
    if len(_sweeps) > 10_000:
        _sweeps.clear()
    _sweeps[parent] = ended, ended - began
    found = []
    for name in names:
        token = identity.token_in(name[len(_PREFIX) :])
        if token and (identity.is_dead(token) or (identity.is_own(token) and token not in _active)):
            found.append(parent / name)
    return found


# ---------------------------------------------------------------- staging folders


def staging_folder(parent: Path) -> Path:
    """A fresh private folder below `parent` (which is made if missing), named after this process."""
    shared = parent / STAGING
    folder = shared / identity.token()
    step("make staging folder")
    while True:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(shared)
            os.mkdir(folder)
            return folder
        except FileNotFoundError:  # no parent yet, or another process removed the empty `.superluigi`
            parent.mkdir(parents=True, exist_ok=True)


def drop_staging(folder: Path) -> None:
    """Remove a staging folder with all it holds, and `.superluigi` above it when that is empty."""
    step("remove staging folder")
    try:
        os.rmdir(folder)  # empty after a commit
    except OSError:
        remove_tree(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)


def dead_staging(parent: Path) -> list[Path]:
    """Staging folders below `parent` whose process of this host no longer runs."""
    try:
        names = os.listdir(parent / STAGING)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [parent / STAGING / name for name in names if identity.is_dead(name)]


def missing_parents(folder: Path) -> list[Path]:
    """The folders that must be made for `folder` to exist, deepest first."""
    missing = []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` (deepest first) that are empty; stop at the first that is not."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


# ---------------------------------------------------------------- publish


def replace(source: Path, destination: Path) -> None:
    """Move `source` to `destination`; readers see the old file or the new one, never a part."""
    step("rename")
    os.replace(source, destination)


def exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where kernel or file system cannot (nothing has changed then).

    Linux renameat2(2) with RENAME_EXCHANGE, macOS renamex_np(2) with RENAME_SWAP.
    """
    step("exchange")
    swap = _exchange_function()
    if swap is None:
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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the publishing lock of `folder`: an flock(2) on the folder itself, so no lock file exists.

    Freed by the kernel when its process dies. Where the file system knows no locks, writers are not kept
    apart (docs/promises.md says so).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):  # by hand: a forked child may share the descriptor
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def as_plain_open(staged: Path, final: Path) -> None:
    """Give `staged` the mode and owner that `open(final, "w")` would have left.

    A new file has the umask's mode already. A replaced file keeps its mode and owner, unless the writer
    chose a mode by itself.
    """
    try:
        old = os.stat(final)
    except OSError:
        return
    new = os.stat(staged)
    old_mode, new_mode = stat.S_IMODE(old.st_mode), stat.S_IMODE(new.st_mode)
    if old_mode != new_mode and new_mode == 0o666 & ~current_umask():
        os.chmod(staged, old_mode)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(PermissionError):  # only root may give files away
            os.chown(staged, old.st_uid, old.st_gid)


def current_umask() -> int:
    """This process's umask, read without changing it where /proc tells."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
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


def flush_file(path: Path) -> None:
    """fsync(2) one file's data."""
    step("flush file")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """fsync(2) a folder, so that names made in it survive a power cut."""
    step("flush folder")
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
    files: list[Path] = []
    folders: list[Path] = []
    for current, _, names in os.walk(root):
        folders.append(Path(current))
        files += [Path(current, name) for name in names[:_SYNCFS_FROM]]
        if len(files) >= _SYNCFS_FROM and _syncfs(root):
            return
        files += [Path(current, name) for name in names[_SYNCFS_FROM:]]
    for file in files:
        if not file.is_symlink():
            flush_file(file)
    for folder in folders:
        flush_folder(folder)


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


# ---------------------------------------------------------------- copy and digest


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


def copy_tree(source: Path, destination: Path) -> None:
    """Copy a folder: sub-folders, empty ones, symlinks (as links), modes; files are cloned where possible."""
    destination.mkdir()
    with os.scandir(source) as scan:
        entries = list(scan)
    for entry in entries:
        if is_ours(entry.name):
            continue
        target = destination / entry.name
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_dir():
            copy_tree(Path(entry.path), target)
        else:
            copy_file(Path(entry.path), target)
    shutil.copymode(source, destination)
    os.chmod(destination, stat.S_IMODE(os.stat(destination).st_mode) | stat.S_IRWXU)


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
            while data := os.read(descriptor, _CHUNK):
                digest.update(data)
                if len(data) == status.st_size:
                    break
        else:
            buffer = memoryview(bytearray(_CHUNK))
            while count := os.readv(descriptor, [buffer]):
                digest.update(buffer[:count])
        return digest.hexdigest(), status
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a file or folder, whatever its modes; nothing happens when it is gone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return

    def unlock(function: Any, name: str, _: Any) -> None:
        if isinstance(_[1], FileNotFoundError):
            return
        os.chmod(os.path.dirname(name), stat.S_IRWXU)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(name, stat.S_IRWXU)
            function(name)

    shutil.rmtree(path, onerror=unlock)


# ---------------------------------------------------------------- errors


_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then run again.",
    errno.EDQUOT: "The disk quota is used up: free some space, then run again.",
    errno.EFBIG: "The file is larger than the limit of this process (ulimit -f) or file system.",
    errno.EROFS: "The file system is read-only: choose another place.",
    errno.ENAMETOOLONG: "The name, with that of its record, is too long for the file system: choose a shorter one.",
    errno.ENOTDIR: "A part of the path is a file, not a folder.",
}


def advice(error: OSError) -> str:
    """What to do about an error of the system."""
    return _ADVICE.get(error.errno or 0, "What was there before is unchanged.")


@contextlib.contextmanager
def explained(action: str, path: Path | str) -> Iterator[None]:
    """Turn the system's errors into ours: what failed, where, what now."""
    try:
        yield
    except TargetError:
        raise
    except PermissionError as error:
        raise StorageAccessError(
            f"Cannot {action} {path}: {error.strerror}. Check the owner and mode of {error.filename or path}."
        ) from error
    except OSError as error:
        wrapped = CommitError(f"Cannot {action} {path}: {error.strerror or error}. {advice(error)}")
        wrapped.errno = error.errno
        raise wrapped from error

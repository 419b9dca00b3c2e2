"""Who is making an output of a folder just now: locks that die with their process.

A folder in which attempts run holds one file, `.superluigi.running`, open in every process that has a lease there. A
lease is a lock on a range of it (open file description locks of Linux, POSIX ones elsewhere; nothing is written at
that place): its start is told by the output's name, its length says which line of the file names the process, and how
long after that line the lease was taken. So taking one costs two calls of the system, and who finds it taken can say
by whom. The kernel frees it when the process dies, however that happens; on a shared disk the file server does when it
has not heard from the host for its lease (NFS 4: 90 seconds), so that no clock and no process table of ours is asked.

The file goes with the last lease: who can lock the whole of it may remove it, and who has locked a removed one looks
again. While a run of this process is on, files stay open and there, since the next task wants the same one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import struct
import threading
import time
from collections.abc import Iterator

from superluigi.errors import CommitConflictError
from superluigi.storage import owner_token
from superluigi.storage.base import Holder, Lease
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local.stages import staging

NAME = f"{staging.STAGING}.running"
_LINE = 160  # bytes: a token, when (seconds since the epoch), spaces
_SECONDS_BITS, _LINE_BITS, _PLACE_BITS = 21, 11, 30
_OPEN = 64  # folders whose files are open while no lease is taken there
_TRIES = 1000
_NO_LOCKS = (errno.ENOLCK, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_TAKEN = (errno.EAGAIN, errno.EACCES)

#: Locks of an open file rather than of a process: to open and close the file elsewhere in this process frees nothing.
_SET, _GET = getattr(fcntl, "F_OFD_SETLK", None), getattr(fcntl, "F_OFD_GETLK", None)
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


class _NoLocksError(Exception):
    """This file system knows no locks."""


class _File:
    """The file of one folder, open, and what this process has locked in it."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, NAME)
        self.descriptor = _opened(self.path, folder)
        try:
            status = os.fstat(self.descriptor)
            self.inode = status.st_dev, status.st_ino
            self.since, self.token = int(time.time()), owner_token.token()
            self.line = self._signed()
        except BaseException:
            os.close(self.descriptor)
            raise
        #: Start of a range -> who has it here.
        self.held: dict[int, Holder] = {}

    def _signed(self) -> int:
        """The number, from 1, of the line that names this process; 0 where there is none left."""
        try:
            os.write(self.descriptor, f"{self.token} {self.since}\n".encode().rjust(_LINE))
        except OSError:  # a full disk: who we are will not be known
            return 0
        number = os.lseek(self.descriptor, 0, os.SEEK_CUR) // _LINE
        return number if number < (1 << _LINE_BITS) - 1 else 0

    def lock(self, start: int) -> bool:
        """Lock the range that begins at `start`, unless another process has it."""
        seconds = min(max(0, int(time.time()) - self.since), (1 << _SECONDS_BITS) - 1)
        return self._set(fcntl.F_WRLCK, start, 1 + (self.line << _SECONDS_BITS | seconds))

    def unlock(self, start: int) -> None:
        self._set(fcntl.F_UNLCK, start, 1 << (_LINE_BITS + _SECONDS_BITS))

    def lock_all(self) -> bool:
        return self._set(fcntl.F_WRLCK, 0, 0)

    def holder(self, start: int) -> Holder | None:
        """Who has locked the range that begins at `start`; None if it is free."""
        return _holder(self.descriptor, start)

    def is_current(self) -> bool:
        """Whether the file is still the one that others find."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.inode

    def _set(self, kind: int, start: int, length: int) -> bool:
        try:
            if _SET is None:
                command = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(self.descriptor, command, length, start)
            else:
                fcntl.fcntl(self.descriptor, _SET, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno in _NO_LOCKS:
                raise _NoLocksError from error
            raise
        return True


def _holder(descriptor: int, start: int) -> Holder | None:
    if _GET is None:
        return Holder()
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    kind, _, _, length, _ = _FLOCK.unpack(fcntl.fcntl(descriptor, _GET, asked))
    if kind == fcntl.F_UNLCK:
        return None
    if not length:  # the whole: it is about to be removed
        return Holder()
    number, seconds = (length - 1) >> _SECONDS_BITS, (length - 1) & ((1 << _SECONDS_BITS) - 1)
    line = os.pread(descriptor, _LINE, (number - 1) * _LINE) if number else b""
    with contextlib.suppress(ValueError):
        token, since = line.decode("ascii", "replace").split()
        return Holder(token, float(since) + seconds)
    return Holder()


def _opened(path: str, folder: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            shared = stat.S_IMODE(os.stat(folder).st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
            if shared:  # others who may write here may run tasks here, too
                os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) | shared)
            return descriptor
    return os.open(path, flags)


class _Process:
    """What this process has open."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self._begin()

    def _begin(self) -> None:
        self.guard = threading.RLock()
        self.files.clear()
        self.runs = 0

    def forked(self) -> None:
        """In a forked child: the leases are its parent's, and end with that."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                os.close(file.descriptor)
        self._begin()


_here = _Process()
os.register_at_fork(after_in_child=_here.forked)


class LocalLease(Lease):
    """A range that this process has locked."""

    def __init__(self, folder: str, file: _File, start: int) -> None:
        self._folder, self._file, self._start, self._pid = folder, file, start, os.getpid()

    def confirm(self) -> None:
        """On a disk of this machine it cannot be taken while this process lives; the server of a shared one may."""
        if _GET is None or self._pid != os.getpid():
            return
        taker: Holder | None = None
        with contextlib.suppress(OSError):
            taker = self._file.holder(self._start)  # our own lock is none to the system
        if taker is not None:
            raise CommitConflictError(
                f"The lease of an output in {self._folder} was taken over: it is {taker}. What there is of ours was "
                "discarded."
            )

    def release(self) -> None:
        if self._pid != os.getpid():
            return
        with _here.guard:
            if self._file.held.pop(self._start, None) is None:
                return
            with contextlib.suppress(OSError, _NoLocksError):
                self._file.unlock(self._start)
            if _here.files.get(self._folder) is not self._file:
                if not self._file.held:
                    os.close(self._file.descriptor)
            elif not _here.runs:
                _tidy(self._folder)


def take(folder: str, name: str, *, make: bool) -> Lease | Holder | None:
    """A lease for the output `name` in `folder`, or who has it; None where there can be none.

    The folder is made if it is missing and `make` says so.
    """
    start = _start(name)
    with _here.guard:
        try:
            for _ in range(_TRIES):
                file = _here.files.get(folder) or _open(folder, make)
                if start in file.held:
                    return file.held[start]
                if not file.lock(start):
                    if (holder := file.holder(start)) is None:
                        continue  # it has just ended
                    if holder.token or not _is_removed_soon(file, start):
                        return holder
                    continue
                failpoint("a lease is locked")
                if file.is_current():
                    file.held[start] = Holder(file.token, time.time())
                    return LocalLease(folder, file, start)
                file.unlock(start)
                _forget(folder)
        except (OSError, _NoLocksError):
            return None
    return None


def holder(folder: str, name: str) -> Holder | None:
    """Who has the lease for the output `name` in `folder`, as far as can be told; nothing is changed."""
    start = _start(name)
    with _here.guard, contextlib.suppress(OSError, _NoLocksError):
        if (known := _here.files.get(folder)) is not None:
            return known.held.get(start) or known.holder(start)
        descriptor = os.open(os.path.join(folder, NAME), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return _holder(descriptor, start)
        finally:
            os.close(descriptor)
    return None


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While a run of this process is on: files in which no lease is taken stay for the next task."""
    with _here.guard:
        _here.runs += 1
    try:
        yield
    finally:
        with _here.guard:
            _here.runs -= 1
            if not _here.runs:
                for folder in list(_here.files):
                    _tidy(folder)


def left_by_the_dead(folder: str) -> bool:
    """Whether the file of `folder` is there although no process has a lease in it."""
    path = os.path.join(folder, NAME)
    with _here.guard, contextlib.suppress(OSError, _NoLocksError):
        if folder in _here.files or not os.path.lexists(path):
            return False
        file = _File(folder)
        try:
            return file.lock_all()
        finally:
            os.close(file.descriptor)
    return False


def remove_left(folder: str) -> None:
    """Remove the file that a dead process left in `folder`, unless another process has a lease there by now."""
    with _here.guard, contextlib.suppress(OSError, _NoLocksError):
        if left_by_the_dead(folder):
            _open(folder, make=False)
            _tidy(folder)


def _start(name: str) -> int:
    digest = hashlib.blake2b(os.fsencode(name), digest_size=4).digest()
    return (int.from_bytes(digest, "big") >> (32 - _PLACE_BITS)) << (_LINE_BITS + _SECONDS_BITS)


def _open(folder: str, make: bool) -> _File:
    if len(_here.files) >= _OPEN:
        for other in list(_here.files):
            _tidy(other)
    found: list[_File] = []

    def work() -> None:
        found.append(_File(folder))

    if make:
        staging.with_folders(work, folder)
    else:
        work()
    _here.files[folder] = found[0]
    return found[0]


def _is_removed_soon(file: _File, start: int) -> bool:
    """Whether what has locked the range is about to remove the file: it will be gone at once."""
    time.sleep(0.001)
    return not file.is_current() or file.holder(start) is None


def _tidy(folder: str) -> None:
    """Remove the file of `folder` if no lease is taken in it; it stays open while others have."""
    file = _here.files[folder]
    if file.held:
        return
    with contextlib.suppress(OSError, _NoLocksError):
        if not file.lock_all():
            if _here.runs:
                return
        elif file.is_current():
            failpoint("remove file of leases")
            os.unlink(file.path)
    _forget(folder)


def _forget(folder: str) -> None:
    file = _here.files.pop(folder, None)
    if file is not None and not file.held:
        with contextlib.suppress(OSError):
            os.close(file.descriptor)

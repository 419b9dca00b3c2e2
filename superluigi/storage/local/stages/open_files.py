"""Which files below a folder this process still has open for writing, with bytes that are not in them yet.

A file that is published while its writer still holds bytes back is a part, whatever its name says. What holds a
descriptor decides: a file object of Python's is flushed, and if that moves its position there were such bytes; an
archive that is not closed lacks its end; of a library's own descriptor nothing can be known, so it counts, but for
databases of SQLite, which write whole transactions, and for mapped memory, which is the file.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_SQLITE = b"SQLite format 3\0"
#: Writers that put the end of their file there when they are closed, and where they keep the file.
_ARCHIVES = (
    ("zipfile", "ZipFile", "fp"),
    ("tarfile", "TarFile", "fileobj"),
    ("gzip", "GzipFile", "fileobj"),
    ("bz2", "BZ2File", "_fp"),
    ("lzma", "LZMAFile", "_fp"),
)


def unwritten(folder: str) -> list[str]:
    """The paths, relative to `folder`, of files whose bytes are not all there yet; empty where there is no /proc.

    `folder` is told by its last part, which must be unique, so that links on the way to it do not matter.
    """
    mark = f"/{os.path.basename(folder)}/"
    if not _open_below(mark):
        return []
    gc.collect()  # what only waits to be collected closes itself
    suspects = _open_below(mark)
    if not suspects:
        return []
    holders = _holders(set(suspects))
    lacking = {path for fd, path in suspects.items() if _has_more(fd, path, holders.get(fd, []))}
    return sorted(path.partition(mark)[2] for path in lacking)


def surely_closed(path: Path) -> bool:
    """Whether no process has the file open for writing, where the kernel tells at once: much cheaper than a look.

    It grants a read lease (fcntl(2), F_SETLEASE) only then. Should another process open the file while we hold the
    lease, we are sent SIGURG, which is ignored by default, instead of SIGIO, which kills; it goes on when we are done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # a link, say, which an S3 object may be written as
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # given back when it is closed
    except OSError:  # open for writing, another user's, or the file system knows no leases
        return False
    finally:
        os.close(descriptor)
    return True


def _open_below(mark: str) -> dict[int, str]:
    """Descriptors that are open for writing, and their files, whose paths contain `mark`."""
    found: dict[int, str] = {}
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return {}
    for text in descriptors:
        try:
            path = os.readlink(f"/proc/self/fd/{text}")
            if mark in path and fcntl.fcntl(int(text), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                found[int(text)] = path
        except OSError:  # closed meanwhile
            continue
    return found


def _holders(descriptors: set[int]) -> dict[int, list[object]]:
    """The Python objects that write to each of these descriptors: file objects, and archives over them."""
    archives = [
        (getattr(sys.modules[module], name), place) for module, name, place in _ARCHIVES if module in sys.modules
    ]
    place_of = {kind: place for archive, place in archives for kind in _kinds(archive)}
    writers = _kinds(io.FileIO, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper).union(place_of)
    holders: dict[int, list[object]] = {}
    # By type, at a tenth of what `isinstance` takes: there may be millions.
    for found in [thing for thing in gc.get_objects() if type(thing) in writers]:
        try:
            file = getattr(found, place_of[type(found)]) if type(found) in place_of else found
            if file is not None and not file.closed and (fd := file.fileno()) in descriptors:
                holders.setdefault(fd, []).append(found)
        except (ReferenceError, ValueError, OSError, AttributeError):  # half closed, or no real file
            continue
    return holders


def _kinds(*classes: type) -> set[type]:
    """These classes and all that are derived from them."""
    found: set[type] = set()
    waiting = list(classes)
    while waiting:
        if (kind := waiting.pop()) not in found:
            found.add(kind)
            waiting += type.__subclasses__(kind)
    return found


def _has_more(fd: int, name: str, holders: Sequence[object]) -> bool:
    """Whether the file behind `fd` lacks bytes, as far as can be known."""
    files = [holder for holder in holders if isinstance(holder, io.IOBase) and type(holder).__module__ == "_io"]
    if len(files) < len(holders):
        return True  # an archive without its end
    if not files:  # a library's own descriptor
        return not (_begins_with(fd, _SQLITE) or _is_mapped(name))
    before = os.fstat(fd)
    os.utime(fd, ns=(0, 0))  # a write sets it to now
    for file in files:
        file.flush()
    if os.fstat(fd).st_mtime_ns != 0:
        return True
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    return False


def _begins_with(fd: int, mark: bytes) -> bool:
    try:
        return os.pread(fd, len(mark), 0) == mark
    except OSError:  # for writing only
        return False


def _is_mapped(path: str) -> bool:
    """Whether the file is mapped into memory to be written through it: numpy's memmap."""
    with open("/proc/self/maps", errors="replace") as maps:
        return any(" rw-s " in line and line.rstrip("\n").endswith(path) for line in maps)

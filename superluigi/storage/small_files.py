"""Reading the small files that say how things stand: records, journals, notes.

They lie in folders that others may write to, so that anything can be where one of them is looked for: a pipe on which
a reader would wait for ever, a device that never ends, a link in a circle.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from superluigi.errors import RecordError

_CHUNK = 1 << 16
#: Nothing that we write is so large: what is would only fill the memory.
LIMIT_BYTES = 1 << 30
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)


def read(path: Path | str) -> bytes:
    """The bytes of a small file: see `read_with_status`."""
    return read_with_status(path)[0]


def read_with_status(path: Path | str) -> tuple[bytes, os.stat_result]:
    """The bytes of a small file, and what it is; `open` would ask for its size, kind and position as well.

    Raises:
        RecordError: what is there is no file, or one that is too large.
        OSError: it is not there, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _no_file(path) from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(path)
        if status.st_size > LIMIT_BYTES:
            raise RecordError(
                f"{path} is too large ({status.st_size:,} bytes) for what is kept there. Restore it, or remove it."
            )
        parts = [os.read(descriptor, _CHUNK)]
        while len(parts[-1]) == _CHUNK:
            parts.append(os.read(descriptor, _CHUNK))
    finally:
        os.close(descriptor)
    return (parts[0] if len(parts) == 1 else b"".join(parts)), status


def _no_file(path: Path | str) -> RecordError:
    return RecordError(
        f"{path} is no file that can be read, but a folder, pipe, socket, device or a link in a circle. Remove it: "
        "only a file of ours belongs there."
    )

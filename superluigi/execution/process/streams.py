"""What this process prints, and the buffers that it lies in for a while."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys


def flush() -> None:
    """Hand on what Python and C keep in their buffers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    library = c_library()
    if library is not None:
        library.fflush(None)


@functools.lru_cache(maxsize=1)
def c_library() -> ctypes.CDLL | None:
    """The C library of this process; None where it cannot be had."""
    try:
        library = ctypes.CDLL(None)
        library.fflush  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library

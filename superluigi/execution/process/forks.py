"""A child that a task has forked does not go on as its parent."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from superluigi.errors import traceback_of


class ends_forks:  # noqa: N801 - used like a function, around every attempt
    """End a child that a task has forked and that leaves the block: what follows is for the process that entered it.

    A child that cleaned up as its parent would take away what that one still writes.
    """

    def __enter__(self) -> None:
        self._entered = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if os.getpid() != self._entered:
            _end_fork(SystemExit(0) if error is None else error)


def _end_fork(error: BaseException) -> NoReturn:
    """As Python ends by itself."""
    code = error.code if isinstance(error, SystemExit) else 1
    with contextlib.suppress(Exception):
        if not isinstance(error, SystemExit):
            sys.stderr.write(traceback_of(error))
        elif not isinstance(code, (int, type(None))):
            sys.stderr.write(f"{code}\n")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))

"""How a script ends that does not catch a `TaskFailedError`, or Ctrl-C: with its own lines.

What failed, or was interrupted, has been told before it.
"""

from __future__ import annotations

import linecache
import sys
import threading
import traceback
from types import TracebackType

from superluigi import config
from superluigi.errors import USERS_CODE, TaskFailedError, lifetime_of
from superluigi.runs.tracebacks import is_of_library, trim
from superluigi.terminal import same_place, say


def end_in_a_line(error: TaskFailedError | KeyboardInterrupt) -> None:
    """Have Python end with the line of the script that ran the tasks, should nothing catch `error`.

    For an interruption these are the lines that it was at, which are the user's.

    Python's own traceback would show our frames and the cause once more; the only way to shorten it is
    `sys.excepthook`. It is changed where it is Python's own, answers for this one error, and is put back when the
    error is forgotten, as it is when the script catches it. Debuggers and services that have set a hook keep it.
    """
    own = sys.excepthook is sys.__excepthook__ and threading.current_thread() is threading.main_thread()
    if own and not config.get("full_tracebacks"):
        _Hook(error)


class told_in_short:  # noqa: N801 - used like a function, around a run
    """`end_in_a_line` for an interruption that leaves the block."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            trim(error)
            end_in_a_line(error)


class _Hook:
    """Stands in `sys.excepthook` for as long as its error lives."""

    def __init__(self, error: TaskFailedError | KeyboardInterrupt) -> None:
        sys.excepthook = self
        self._lifetime = lifetime_of(error, lambda _: self._leave())

    def _leave(self) -> None:
        if sys.excepthook is self:
            sys.excepthook = sys.__excepthook__

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if lifetime_of(error)() is self._lifetime():
            with USERS_CODE:
                say(_line(error, trace) if isinstance(error, TaskFailedError) else _lines(error, trace), err=True)
                return
        sys.__excepthook__(kind, error, trace)


def _lines(error: BaseException, trace: TracebackType | None) -> str:
    """A traceback of the user's frames alone, without what `error` came in the way of."""
    own = [frame for frame in traceback.extract_tb(trace) if not is_of_library(frame.filename)]
    told = "".join(traceback.format_exception_only(error)).rstrip()
    return "".join(["Traceback (most recent call last):\n", *traceback.format_list(own), told])


def _line(error: TaskFailedError, trace: TracebackType | None) -> str:
    place = code = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not is_of_library(file):
            place, code = f"{file}:{trace.tb_lineno}: ", linecache.getline(file, trace.tb_lineno).strip()
        trace = trace.tb_next
    name = type(error).__name__
    if error.told and same_place(sys.stdout, sys.stderr):
        count = len(error.failures)
        return f"{place}{name}: {f'{count} tasks' if count > 1 else 'a task'} failed, as told above"
    return f"{place}{code}\n{name}: {error}" if place else f"{name}: {error}"

"""How a script ends that does not catch a `TaskFailedError`: in one line, since what failed has been told before it."""

from __future__ import annotations

import linecache
import sys
import threading
import weakref
from types import TracebackType

from superluigi import config
from superluigi.errors import USERS_CODE, TaskFailedError
from superluigi.runs.tracebacks import is_of_library
from superluigi.terminal import same_place, say


def end_in_a_line(error: TaskFailedError) -> None:
    """Have Python end with the line of the script that ran the tasks, should nothing catch `error`.

    Python's own traceback would show our frames and the cause once more; the only way to shorten it is
    `sys.excepthook`. It is changed where it is Python's own, answers for this one error, and is put back when the
    error is forgotten, as it is when the script catches it. Debuggers and services that have set a hook keep it.
    """
    own = sys.excepthook is sys.__excepthook__ and threading.current_thread() is threading.main_thread()
    if own and not config.get("full_tracebacks"):
        _Hook(error)


class _Hook:
    """Stands in `sys.excepthook` for as long as its error lives."""

    def __init__(self, error: TaskFailedError) -> None:
        sys.excepthook = self
        self._error = weakref.ref(error, lambda _: self._leave())

    def _leave(self) -> None:
        if sys.excepthook is self:
            sys.excepthook = sys.__excepthook__

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if error is self._error() and isinstance(error, TaskFailedError):
            with USERS_CODE:
                say(_line(error, trace), err=True)
                return
        sys.__excepthook__(kind, error, trace)


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

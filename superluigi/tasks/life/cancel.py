"""Cancellation: a task is asked to stop from anywhere, cleans up, and publishes nothing.

`Cancelled` is raised inside the task: by a signal in the main thread (which ends a sleep too), by the interpreter
in other threads (at their next line of Python). `except Exception` does not catch it. A task that swallows it all
the same gets it again, and from then on at each line that follows a handler, which no loop around a handler survives.
Its commit is refused in any case.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from superluigi.errors import TaskCancelledError
from superluigi.tasks.life import folder as folders
from superluigi.tasks.life.scope import Scope

#: A task that goes on as if nothing had been is told again after so long,
AGAIN_SECONDS = 5.0
#: and one that is still handling the exception, that is cleaning up, after so long.
CLEANUP_SECONDS = 30.0
#: How the main thread is woken; only where nobody else uses this signal.
SIGNAL = signal.SIGUSR2

_guard = threading.Lock()
_scopes: list[Scope] = []


class Cancelled(BaseException):
    """Raised inside a task that was cancelled; no `Exception`, so that a task does not swallow it by accident."""


class _Delivered(Cancelled):
    """As the interpreter raises it in a thread: it makes the object there, in time to stay with the task."""

    def __init__(self) -> None:
        super().__init__()
        _insist(sys._getframe(1))


def cancel(task: Any, reason: str = "cancelled") -> None:
    """Ask the attempt at `task` that runs now, in this process or in another one with the same workspace, to stop."""
    found = [scope for scope in running() if scope.task.task_id == task.task_id]
    for scope in found:
        interrupt(scope, reason)
    if not found:
        base = folders.folder_of(task)
        base.mkdir(parents=True, exist_ok=True)
        (base / folders.CANCEL).write_text(reason)


def running() -> list[Scope]:
    """The attempts that run in this process."""
    with _guard:
        return list(_scopes)


@contextlib.contextmanager
def watched(scope: Scope, frame: FrameType) -> Iterator[None]:
    """Let `scope` be found by `cancel`; turns a cancellation into TaskCancelledError. The attempt is above `frame`."""
    scope.frame = frame
    with _guard:
        _scopes.append(scope)
    try:
        with _wakeable(scope):
            yield
            refuse_if_cancelled(scope)
    except Cancelled as error:
        _calm(scope)
        if scope.cancelled is None:  # meant for a task around this one
            raise
        raise TaskCancelledError(f"{scope.task} was cancelled: {scope.cancelled}.") from error
    finally:
        scope.frame = None
        if scope.insisting:
            sys.settrace(None)
        with _guard:
            _scopes.remove(scope)


def refuse_if_cancelled(scope: Scope) -> None:
    """The last moment at which a cancellation counts: afterwards the output is published.

    Raises:
        Cancelled: it has been asked for, whatever the task made of it.
    """
    with scope.guard:
        if scope.cancelled is not None and not scope.committing:
            _calm(scope)
            raise Cancelled(scope.cancelled)
        scope.committing = True


def interrupt(scope: Scope, reason: str) -> None:
    """Raise Cancelled in the thread of `scope`, unless it has begun to commit."""
    with scope.guard:
        if scope.committing or not scope.active:
            return
        scope.cancelled = scope.cancelled or reason
        scope.told, scope.tellings = time.monotonic(), scope.tellings + 1
        if scope.thread == threading.main_thread().ident:
            if signal.getsignal(SIGNAL) is _on_signal:
                signal.pthread_kill(scope.thread, SIGNAL)
            else:
                _raise_in(scope.thread, _Delivered)
        else:
            _raise_in(scope.thread, _Delivered)


def look(scope: Scope) -> None:
    """Whether somebody has left a cancellation in the task's folder, or one was swallowed: called now and then."""
    if scope.told is not None:
        patience = CLEANUP_SECONDS if _handled(_being_handled(scope.thread)) else AGAIN_SECONDS
        if time.monotonic() - scope.told > patience:
            interrupt(scope, "cancelled")
        return
    if "task_hash" in scope.task.__dict__:
        mark = Path(folders.place_of(scope.task), folders.CANCEL)
        with contextlib.suppress(OSError):
            if mark.stat().st_mtime >= scope.started - 1:
                reason = mark.read_text() or "cancelled"
                mark.unlink(missing_ok=True)
                interrupt(scope, reason)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind))


def _calm(scope: Scope) -> None:
    """Forget an exception that was set for this thread but not raised yet."""
    if scope.cancelled is not None:
        _raise_in(scope.thread, None)


@contextlib.contextmanager
def _wakeable(scope: Scope) -> Iterator[None]:
    in_main = scope.thread == threading.main_thread().ident
    if not in_main or signal.getsignal(SIGNAL) is not signal.SIG_DFL:
        yield
        return
    signal.signal(SIGNAL, _on_signal)
    try:
        yield
    finally:
        signal.signal(SIGNAL, signal.SIG_DFL)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _insist(frame):
        raise Cancelled


def _insist(frame: FrameType | None) -> bool:
    """Whether this thread runs a task that was cancelled; told for the second time, its lines are watched.

    Our own frames, which clean up, and those of whoever called us are left alone.
    """
    here = threading.get_ident()
    scopes = [s for s in running() if s.thread == here and s.cancelled is not None and s.active and not s.committing]
    if not scopes:
        return False
    scope = scopes[-1]
    if scope.tellings < 2:
        return True
    if sys.gettrace() is None:  # a debugger that is there traces already
        sys.settrace(_no_tracing)
        scope.insisting = True
    while frame is not None and frame is not scope.frame:
        if not str(frame.f_globals.get("__name__")).startswith("superluigi."):
            frame.f_trace = _again
        frame = frame.f_back
    return True


def _no_tracing(frame: FrameType, event: str, arg: Any) -> None:
    """For frames that begin from now on."""


def _again(frame: FrameType, event: str, arg: Any) -> Any:
    """Raise Cancelled once more where it is no longer being handled."""
    if event == "line" and not _handled(sys.exc_info()[1]):
        raise Cancelled
    return _again


def _handled(error: BaseException | None) -> bool:
    """Whether a cancellation is being handled, perhaps by code that handles something else meanwhile."""
    while error is not None and not isinstance(error, Cancelled):
        error = error.__context__
    return error is not None


def _being_handled(thread: int) -> BaseException | None:
    found: Any = sys._current_exceptions().get(thread)
    handled: BaseException | None = found[1] if isinstance(found, tuple) else found  # a tuple before Python 3.12
    return handled

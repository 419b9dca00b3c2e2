"""Cancellation: a task is asked to stop from anywhere, cleans up, and publishes nothing.

`Cancelled` is raised inside the task: by a signal in the main thread (which ends a sleep too), by the interpreter
in other threads (at their next line of Python). `except Exception` does not catch it. A task that swallows it all
the same is told again every `AGAIN_SECONDS`, and its commit is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from superluigi.errors import TaskCancelledError
from superluigi.tasks.life import folder as folders
from superluigi.tasks.life.scope import Scope

#: A task's clean-up may take as long before it is interrupted once more.
AGAIN_SECONDS = 10.0
#: How the main thread is woken; only where nobody else uses this signal.
SIGNAL = signal.SIGUSR2

_guard = threading.Lock()
_scopes: list[Scope] = []


class Cancelled(BaseException):
    """Raised inside a task that was cancelled; no `Exception`, so that a task does not swallow it by accident."""


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
def watched(scope: Scope) -> Iterator[None]:
    """Let `scope` be found by `cancel`; turns a cancellation into TaskCancelledError."""
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
        scope.__dict__["_told"] = time.monotonic()
        if scope.thread == threading.main_thread().ident:
            if signal.getsignal(SIGNAL) is _on_signal:
                signal.pthread_kill(scope.thread, SIGNAL)
            else:
                _raise_in(scope.thread, Cancelled)
        else:
            _raise_in(scope.thread, Cancelled)


def look(scope: Scope) -> None:
    """Whether somebody has left a cancellation in the task's folder, or one was swallowed: called now and then."""
    told: float | None = scope.__dict__.get("_told")
    if told is not None:
        if time.monotonic() - told > AGAIN_SECONDS:
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


def _on_signal(signum: int, frame: object) -> None:
    main = threading.main_thread().ident
    if any(s.cancelled is not None and s.active and not s.committing for s in running() if s.thread == main):
        raise Cancelled

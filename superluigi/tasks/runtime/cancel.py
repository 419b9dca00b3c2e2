"""Cancellation: a task is asked to stop from anywhere, cleans up, and publishes nothing.

`Cancelled` is raised inside the task: by a signal in the main thread (which ends a sleep too), by the interpreter
in other threads (at their next line of Python). `except Exception` does not catch it. A task that swallows it all
the same gets it again, and from then on at each line that follows a handler, which no loop around a handler survives.
Its commit is refused in any case.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from superluigi.errors import TaskCancelledError
from superluigi.execution.process import signals
from superluigi.execution.process.raising import raise_in, take_back
from superluigi.runs.context import RunContext
from superluigi.storage.failpoints import failpoint
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.workspace import inbox
from superluigi.tasks.runtime.workspace.task_folder import workspace

#: A task that goes on as if nothing had been is told again after so long,
AGAIN_SECONDS = 5.0
#: and one that is still handling the exception, that is cleaning up, after so long.
CLEANUP_SECONDS = 30.0
#: How long a process may take to say whether it runs the task.
ANSWER_SECONDS = 20.0
#: In the folder of a process behind a command prefix: the one that started it passes a cancellation on.
PASSED_ON = ".cancel"
#: How the main thread is woken; only where nothing else uses this signal.
SIGNAL = signal.SIGUSR2

_guard = threading.Lock()
_scopes: list[AttemptContext] = []


class Cancelled(BaseException):
    """Raised inside a task that was cancelled; no `Exception`, so that a task does not swallow it by accident."""


class _Delivered(Cancelled):
    """As the interpreter raises it in a thread: it makes the object there, in time to stay with the task."""

    def __init__(self) -> None:
        super().__init__()
        _escalate(sys._getframe(1))


def cancel(task: object, reason: str = "cancelled") -> bool:
    """Stop the attempts at `task` that run now, here and in other processes with the same workspace.

    Whether there was one; an attempt that begins later is not meant. See `asked` for processes that do not answer.
    """
    return asked(task, reason)[0]


def asked(task: Any, reason: str = "cancelled") -> tuple[bool, list[str]]:
    """`cancel`, and the tokens of processes that live but did not say whether they run the task."""
    elsewhere, silent = inbox.ask(workspace(), task.task_id, reason, ANSWER_SECONDS)
    return _interrupt_all(task.task_id, reason) or elsewhere, silent


def answer_others() -> None:
    """Do what other processes ask of attempts here: called now and then."""
    inbox.answer(_interrupt_all)


def _interrupt_all(task_id: str, reason: str) -> bool:
    told = [interrupt(scope, reason) for scope in running() if scope.task.task_id == task_id]
    return any(told)


def running() -> list[AttemptContext]:
    """The attempts that run in this process."""
    with _guard:
        return list(_scopes)


class known:  # noqa: N801 - used like a function, around every attempt
    """Let `scope` be found by `cancel` while this is open, here and from other processes.

    What surrounds the attempt is made inside of it: what is asked meanwhile is done as soon as that stands.
    """

    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        if not self._scope.behind_prefix:  # the process that started this one answers
            inbox.ready(workspace())
        try:
            with _guard:
                _scopes.append(self._scope)
            failpoint("an attempt is known")
        except BaseException:  # Ctrl-C, say: nothing is entered, so nothing will be left
            self._forget()
            raise

    def _forget(self) -> None:
        with _guard:
            if self._scope in _scopes:
                _scopes.remove(self._scope)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._forget()
        if self._scope.cancelled is None or isinstance(error, TaskCancelledError):
            return
        if isinstance(error, Exception):  # from its clean-up, say; it is not tried again
            raise _cancelled(self._scope) from error


class Waiting:
    """A run waits for another's attempt at `task`: until `end`, a cancellation of the task finds the wait, too."""

    def __init__(self, task: object, run: RunContext) -> None:
        # of no thread, and without a frame: nothing is raised, who waits looks now and then
        self._scope = AttemptContext(task, run, own_process=False, thread=-1)
        self._known = known(self._scope)
        self._known.__enter__()

    @property
    def cancelled(self) -> TaskCancelledError | None:
        """What has come, if anything."""
        return None if self._scope.cancelled is None else _cancelled(self._scope)

    def end(self) -> None:
        """The wait is over."""
        with self._scope.guard:
            self._scope.active = False
        self._known.__exit__(None, None, None)


@contextlib.contextmanager
def cancellable(scope: AttemptContext, frame: FrameType) -> Iterator[None]:
    """Raise Cancelled in what runs inside, above `frame`; it leaves as TaskCancelledError."""
    try:
        with scope.guard:
            scope.frame = frame
        failpoint("an attempt is watched")
        if scope.cancelled is not None:  # while its surroundings were made
            raise Cancelled
        with _wakeable(scope):
            yield
            refuse_if_cancelled(scope)
    except Cancelled as error:
        _end(scope)
        if scope.cancelled is None:  # meant for a task around this one
            raise
        raise _cancelled(scope) from error
    finally:
        _end(scope)


def _end(scope: AttemptContext) -> None:
    """From now on nothing is raised in the attempt, what is on its way to it neither."""
    with scope.guard:
        scope.committing, scope.frame = True, None
        _clear(scope)
    if scope.insisting:
        sys.settrace(scope.tracing_before)
        scope.insisting = False


def _cancelled(scope: AttemptContext) -> TaskCancelledError:
    return TaskCancelledError(f"{scope.task} was cancelled: {scope.cancelled}.")


def refuse_if_cancelled(scope: AttemptContext) -> None:
    """The last moment at which a cancellation counts: afterwards the output is published.

    Raises:
        Cancelled: it has been asked for, whatever the task made of it.
    """
    with scope.guard:
        if scope.cancelled is not None and not scope.committing:
            _clear(scope)
            raise Cancelled(scope.cancelled)
        scope.committing = True


def interrupt(scope: AttemptContext, reason: str) -> bool:
    """Raise Cancelled in the thread of `scope`; False when it has begun to commit, or has ended."""
    with scope.guard:
        if scope.committing or not scope.active:
            return False
        scope.cancelled = scope.cancelled or reason
        if scope.frame is None:  # `cancellable` finds it
            return True
        scope.told, scope.tellings = time.monotonic(), scope.tellings + 1
        if scope.pass_on is not None and scope.tellings == 1:
            scope.pass_on(reason)
        elif scope.thread == threading.main_thread().ident:
            if signals.handler_of(SIGNAL) is _on_signal:
                signal.pthread_kill(scope.thread, SIGNAL)
            else:
                raise_in(scope.thread, _Delivered)
        else:
            raise_in(scope.thread, _Delivered)
        return True


def look(scope: AttemptContext) -> None:
    """Tell an attempt once more that swallowed its cancellation: called now and then."""
    if scope.told is not None:
        cleans_up = scope.pass_on is not None or _handled(_being_handled(scope.thread))
        if time.monotonic() - scope.told > (CLEANUP_SECONDS if cleans_up else AGAIN_SECONDS):
            interrupt(scope, "cancelled")
    elif scope.behind_prefix and scope.given_folder is not None:
        with contextlib.suppress(OSError):
            interrupt(scope, (scope.given_folder / PASSED_ON).read_text())


def _clear(scope: AttemptContext) -> None:
    """Forget an exception that is on its way to this thread."""
    if scope.cancelled is not None and scope.thread == threading.get_ident():
        take_back()


@contextlib.contextmanager
def _wakeable(scope: AttemptContext) -> Iterator[None]:
    in_main = scope.thread == threading.main_thread().ident
    if not in_main or signals.handler_of(SIGNAL) != signal.SIG_DFL:
        yield
        return
    signals.take(SIGNAL, _on_signal)
    try:
        yield
    finally:
        signals.give_back(SIGNAL, _on_signal)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _escalate(frame):
        raise Cancelled


def _escalate(frame: FrameType | None) -> bool:
    """Whether this thread runs a task that was cancelled; told for the second time, its lines are watched.

    Our own frames, which clean up, and those of our caller are left alone.
    """
    here = threading.get_ident()
    scopes = [s for s in running() if s.thread == here and s.cancelled is not None and s.active and not s.committing]
    if not scopes:
        return False
    scope = scopes[-1]
    if scope.tellings < 2:
        return True
    if not scope.insisting:
        scope.insisting, scope.tracing_before = True, sys.gettrace()
        sys.settrace(_no_tracing)  # in place of a debugger's or a coverage's, which may know nothing of what frames ask
    while frame is not None and frame is not scope.frame:
        if not str(frame.f_globals.get("__name__")).startswith("superluigi."):
            frame.f_trace = _reraise
        frame = frame.f_back
    return True


def _no_tracing(frame: FrameType, event: str, arg: object) -> None:
    """For frames that begin from now on."""


def _reraise(frame: FrameType, event: str, arg: object) -> object:
    """Raise Cancelled once more where it is no longer being handled."""
    if event == "line" and not _handled(sys.exc_info()[1]):
        raise Cancelled
    return _reraise


def _handled(error: BaseException | None) -> bool:
    """Whether a cancellation is being handled, perhaps by code that handles something else meanwhile."""
    while error is not None and not isinstance(error, Cancelled):
        error = error.__context__
    return error is not None


def _being_handled(thread: int) -> BaseException | None:
    found: Any = sys._current_exceptions().get(thread)
    handled: BaseException | None = found[1] if isinstance(found, tuple) else found  # a tuple before Python 3.12
    return handled

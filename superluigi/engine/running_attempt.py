"""An attempt that runs somewhere, and words for how it ended."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from luigi.task import Task
from luigi.task_status import FAILED
from luigi.worker import TaskStatusReporter

from superluigi import graph
from superluigi.engine.backends import ExecutorBackend
from superluigi.errors import ExecutorLostError, TaskCancelledError, TaskTimeoutError, WorkerLostError, tellable
from superluigi.execution.attempt import AttemptResult
from superluigi.execution.process import process_state
from superluigi.execution.process.raising import Interruptible
from superluigi.runs import tracebacks
from superluigi.scheduler.terms import Terms

#: An attempt that is asked to end may take so long to clean up.
ENDING_SECONDS = 5.0
#: A process may take so long to start and load the task; then its time limit counts all the same.
START_SECONDS = 60.0


class Waiting(Protocol):
    """A wait that can be cancelled."""

    @property
    def cancelled(self) -> TaskCancelledError | None: ...
    def end(self) -> None: ...


@dataclass
class RunningAttempt:
    """An attempt that runs somewhere."""

    task: Task
    backend: ExecutorBackend
    terms: Terms = field(default_factory=Terms)
    status_reporter: TaskStatusReporter | None = None
    future: Future[object] | None = None
    #: The call in a thread, where that is one of this process.
    call: Interruptible | None = None
    #: Seconds on the monotonic clock; None without a time limit.
    deadline: float | None = None
    timeout: float = 0.0
    started: float = field(default_factory=time.time)
    timed_out: bool = False
    #: Why it has been asked to end although nothing is wrong with it; None where it has not.
    ending: TaskCancelledError | None = None
    #: While another process makes the same: when to look again (monotonic), the pause before that, what was told.
    look_at: float = 0.0
    pause: float = 0.0
    told: str = ""
    #: Until when (monotonic) it may wait so; None without a time limit.
    wait_until: float | None = None
    #: What a cancellation finds meanwhile.
    waiting: Waiting | None = None
    #: Resources whose rate counts from the beginning of the attempt, which has not been told yet.
    delayed: dict[str, int] | None = None

    def let_go(self) -> None:
        """Wait no longer for it: it can publish nothing, and what is around the process is not its own to put back."""
        if (abandon := graph.written(self.task, "abandon_attempts")) is not None:
            abandon()  # what it has staged goes
        if self.call is not None:
            process_state.let_go(self.call.thread)

    def is_alive(self) -> bool:
        return False  # Luigi's __exit__ asks; ending attempts is the backends' business


class CompletedView:
    """The ids of all that is complete by now, as a live view."""

    def __init__(self, made: dict[str, None], known: dict[str, bool]) -> None:
        self._made = made
        self._known = known

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._made or bool(self._known.get(task_id))  # type: ignore[call-overload]


def timeout_error(attempting: RunningAttempt) -> TaskTimeoutError:
    return TaskTimeoutError(
        f"{attempting.task} timed out after {attempting.timeout:g} seconds and was terminated. Give it more time "
        "(worker_timeout on the task, or [worker] timeout), or split it."
    )


def kind_of(error: BaseException) -> str:
    if isinstance(error, TaskTimeoutError):
        return "timeout"
    if isinstance(error, TaskCancelledError):
        return "cancelled"
    return "lost" if isinstance(error, WorkerLostError) else "failed"


def failed_at_start(task: Task, error: Exception) -> AttemptResult:
    """The outcome of an attempt that could not begin, for a reason that is the task's."""
    text = tracebacks.text_of(error)
    return AttemptResult(
        task.task_id,
        FAILED,
        expl=text,
        error=tellable(error, text),
        traceback=text,
        executor_lost=isinstance(error, ExecutorLostError),
        started=time.time(),
    )


def ask_to_end(attempting: RunningAttempt, cause: Task) -> None:
    """Have a running attempt clean up and end, because `cause` has failed; nothing happens when it has ended."""
    future, backend, task = attempting.future, attempting.backend, attempting.task
    if future is None or future.done():
        return
    attempting.ending = reason = TaskCancelledError(f"{task} was ended because {cause} failed (on_error='stop').")
    attempting.deadline, attempting.timed_out = time.monotonic() + ENDING_SECONDS, False
    # First: an executor that is not ours may call a future cancelled while the task goes on (Dask's does).
    if _tell(attempting) or future.cancel():
        return  # it cleans up, wherever it runs, and its result says so; or it has not begun
    if backend.shares_memory:
        if attempting.call is not None:
            attempting.call.interrupt()
    elif backend.reports_start:
        if not backend.end(future, reason):
            attempting.ending = None  # its result is on the way
    elif not _can_be_told(task):
        backend.end(future, reason)


def give_up(attempting: RunningAttempt) -> bool:
    """Wait no longer for an attempt that was asked to end; False when that cannot be."""
    if attempting.backend.shares_memory:
        attempting.let_go()
        return True
    if attempting.future is not None and attempting.ending is not None:
        _tell(attempting)  # once more: it may have begun only meanwhile
        attempting.backend.end(attempting.future, attempting.ending)
    return False


def end_as_interrupted(attempting: RunningAttempt) -> bool:
    """End an attempt in processes of others, since the run is interrupted; whether it has heard, or not begun."""
    future = attempting.future
    if future is not None and future.done():
        return True
    attempting.ending = reason = TaskCancelledError(f"{attempting.task} was ended: its run was interrupted.")
    if _tell(attempting) or (future is not None and future.cancel()):
        return True
    if future is None:  # on its way to the executor when the interruption came: it may begin yet
        return False
    ended = attempting.backend.end(future, reason)
    return ended and attempting.backend.reports_start  # else only what has not begun is ended so


def _tell(attempting: RunningAttempt) -> bool:
    """Tell an attempt in a process that is not ours to end; whether it has heard."""
    backend = attempting.backend
    told: Any = attempting.task
    if backend.shares_memory or backend.reports_start or not _can_be_told(told):
        return False
    return bool(told.cancel(str(attempting.ending)))


def _can_be_told(task: object) -> bool:
    return hasattr(type(task), "abandon_attempts") and callable(getattr(task, "cancel", None))

"""An attempt that runs somewhere, and words for how it ended."""

from __future__ import annotations

import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from luigi.task import Task
from luigi.task_status import FAILED
from luigi.worker import TaskStatusReporter

from superluigi.errors import TaskCancelledError, TaskTimeoutError, WorkerLostError, tellable
from superluigi.scheduling.attempt import Outcome
from superluigi.scheduling.places import Place
from superluigi.scheduling.terms import Terms

#: A process may take so long to start and load the task; then its time limit counts all the same.
START_SECONDS = 60.0


@dataclass
class Attempting:
    """An attempt that runs somewhere."""

    task: Task
    place: Place
    terms: Terms = field(default_factory=Terms)
    status_reporter: TaskStatusReporter | None = None
    future: Future[Any] | None = None
    #: The thread that it runs in, where that is one of this process.
    thread: int | None = None
    #: Seconds on the monotonic clock; None without a time limit.
    deadline: float | None = None
    timeout: float = 0.0
    started: float = field(default_factory=time.time)
    timed_out: bool = False
    #: Resources whose rate counts from the beginning of the attempt, which has not been told yet.
    delayed: dict[str, int] | None = None

    def is_alive(self) -> bool:
        return False  # Luigi's __exit__ asks; ending attempts is the places' business


class Done:
    """The ids of all that is complete by now, as a live view."""

    def __init__(self, made: dict[str, None], known: dict[str, bool]) -> None:
        self._made = made
        self._known = known

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._made or bool(self._known.get(task_id))  # type: ignore[call-overload]


def timeout_error(attempting: Attempting) -> TaskTimeoutError:
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


def failed_at_start(task: Task, error: Exception) -> Outcome:
    """The outcome of an attempt that could not begin, for a reason that is the task's."""
    text = traceback.format_exc()
    return Outcome(task.task_id, FAILED, expl=text, error=tellable(error, text), traceback=text, started=time.time())

"""Ctrl-C for attempts in threads of this process, and for those in processes of an executor that we were given."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from superluigi.engine.running_attempt import RunningAttempt, end_as_interrupted
from superluigi.execution.process.process_tree import started_by
from superluigi.execution.threads import ThreadExecutor

if TYPE_CHECKING:
    from luigi.task import Task

#: How long an interrupted thread may clean up.
GRACE_SECONDS = 3.0
#: How long processes that are not ours may take to say that they have been told.
ANSWER_SECONDS = 5.0


def end_elsewhere(attempts: Iterable[RunningAttempt]) -> list[Task]:
    """Have what runs in processes of others clean up and end; gives the tasks that may go on all the same."""
    left = [attempt for attempt in attempts if attempt.backend.must_be_told]
    heard: set[str] = set()

    def tell(attempt: RunningAttempt) -> None:
        with contextlib.suppress(Exception):  # the executor's own, or the workspace's; then it may go on
            if end_as_interrupted(attempt):
                heard.add(attempt.task.task_id)

    # One that does not answer keeps no other waiting, and not the end of this process.
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(tell, attempt), daemon=True) for attempt in left
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    ours = [attempt.future for attempt in left if attempt.future is not None and not attempt.backend.outlives_us]
    wait(ours, GRACE_SECONDS)  # their processes are ended next
    return [attempt.task for attempt in left if attempt.backend.outlives_us and attempt.task.task_id not in heard]


def end_threads(attempts: Iterable[RunningAttempt]) -> None:
    """End what runs in threads; our own executor has interrupted its own already.

    A thread inside one long call in C notices nothing until it returns: what its attempt has staged is removed
    nevertheless, so that no temporary file is left behind.
    """
    left = [(attempt, future) for attempt in attempts if (future := _running(attempt)) is not None]
    external = [
        (attempt, future) for attempt, future in left if not isinstance(attempt.backend.executor, ThreadExecutor)
    ]
    for attempt, future in external:
        if not future.cancel() and attempt.call is not None:
            attempt.call.interrupt()
    wait([future for _, future in external], GRACE_SECONDS)
    for attempt, _ in left:
        if _running(attempt) is not None:
            attempt.let_go()


def programs_of(attempts: Iterable[RunningAttempt]) -> dict[int, int]:
    """What tasks in threads of this process have started and still runs (pid → start)."""
    calls = [attempt.call for attempt in attempts if attempt.call is not None]
    return {pid: start for call in calls for pid, start in started_by(call.native_thread, call.began).items()}


def _running(attempt: RunningAttempt) -> Future[object] | None:
    future = attempt.future if attempt.backend.shares_memory else None
    return None if future is None or future.done() else future

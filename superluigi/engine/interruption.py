"""Ctrl-C for attempts that run in threads of this process, ours or of an executor that we were given."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from superluigi.execution.threads import ThreadExecutor

if TYPE_CHECKING:
    from superluigi.engine.running_attempt import RunningAttempt

#: How long an interrupted thread may clean up.
GRACE_SECONDS = 3.0


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
            abandon = getattr(attempt.task, "abandon_attempts", None)
            if abandon is not None:
                abandon()


def _running(attempt: RunningAttempt) -> Future[Any] | None:
    future = attempt.future if attempt.backend.shares_memory else None
    return None if future is None or future.done() else future

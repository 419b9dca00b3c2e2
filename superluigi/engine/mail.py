"""Messages of the scheduler on their way to attempts."""

from __future__ import annotations

import threading

from luigi.worker import SchedulerMessage

from superluigi.engine.running_attempt import RunningAttempt
from superluigi.luigi_compat.engine import id_of


class Mail:
    """Keeps what arrives while no attempt of its task can hear it; the next one that can is given it, in order.

    Messages come with pings, on a thread of Luigi's: also between the moment when a task is claimed and the one when
    its executor has it, while it waits there for a process, and while its outcome is on the way back.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[SchedulerMessage]] = {}
        self._guard = threading.Lock()

    def keep(self, task_id: str, message: SchedulerMessage) -> None:
        """Have `message` given out."""
        with self._guard:
            self._kept.setdefault(task_id, []).append(message)

    def give_out(self, attempting: RunningAttempt | None) -> None:
        """Give an attempt what was kept for its task, as far as it can hear it now."""
        if attempting is None or not attempting.terms.accepts_messages:
            return
        with self._guard:
            waiting = self._kept.get(attempting.task.task_id, [])
            while waiting and _given(attempting, waiting[0]):
                del waiting[0]


def _given(attempting: RunningAttempt, message: SchedulerMessage) -> bool:
    reporter, backend = attempting.status_reporter, attempting.backend
    if backend.shares_memory:
        if reporter is None:
            return False
        reporter.scheduler_messages.put(message)
        return True
    told = (id_of(message), message.content, message.payload)
    return backend.send(attempting.future, attempting.task.task_id, told)

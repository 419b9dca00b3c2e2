"""Tasks of this run that another process makes just now: they take no place here, and are looked after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from superluigi.engine.running_attempt import RunningAttempt
from superluigi.errors import USERS_CODE, TaskCancelledError, TaskTimeoutError
from superluigi.execution.observer import Observer
from superluigi.runs import logs
from superluigi.runs.context import RunContext, entered
from superluigi.storage.base import Holder

#: Between two looks, seconds; the third where a look costs a request.
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_FAR = 0.02, 1.0, 5.0


class SetAside:
    """The attempts that wait; `resume` is called with one when no other attempt makes its task any more."""

    def __init__(self, run: RunContext, observer: Observer, resume: Callable[[RunningAttempt], object]) -> None:
        self._run, self._observer, self._resume = run, observer, resume
        self._waiting: dict[str, RunningAttempt] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, attempting: RunningAttempt, holder: Holder) -> None:
        """Free the place of an attempt until what another process makes is made, or given up."""
        told, reporter = str(holder), attempting.status_reporter
        if attempting.told != told and reporter is not None:
            attempting.told = told
            reporter.update_status_message(told)
            self._observer.waits(attempting.task, told)
            logs.logger.info("%s waits: it is %s", attempting.task, told)
        if attempting.waiting is None:
            attempting.waiting = getattr(attempting.task, "_superluigi_waits")(self._run)  # noqa: B009
        pause, now = attempting.pause or FIRST_PAUSE, time.monotonic()
        if attempting.timeout and attempting.wait_until is None:
            attempting.wait_until = now + attempting.timeout
        attempting.deadline, attempting.look_at = attempting.wait_until, now + pause
        attempting.pause = min(1.5 * pause, LONGEST_FAR if holder.far else LONGEST_PAUSE)
        self._waiting[attempting.task.task_id] = attempting

    def look(self, places: int) -> bool:
        """Look after those that are due, and go on with as many as there are `places`; whether there was one."""
        now, resumed = time.monotonic(), 0
        for attempting in list(self._waiting.values()):
            if attempting.look_at > now or resumed >= places:
                continue
            task = attempting.task
            holder: Holder | None = None
            with entered(self._run), USERS_CODE:  # what it raises, the attempt will raise
                holder = getattr(task, "_superluigi_holder")(self._run)  # noqa: B009
            if holder is not None:
                self.put(attempting, holder)
                continue
            self._take_out(attempting)
            attempting.told = ""
            if attempting.status_reporter is not None:
                attempting.status_reporter.update_status_message("")
            resumed += 1
            self._resume(attempting)
        return bool(resumed)

    def _take_out(self, attempting: RunningAttempt) -> None:
        del self._waiting[attempting.task.task_id]
        if attempting.waiting is not None:
            attempting.waiting.end()
        attempting.deadline, attempting.waiting = None, None

    def ended(self) -> Iterator[tuple[RunningAttempt, TaskCancelledError | TaskTimeoutError]]:
        """Those whose wait is over though the other goes on: cancelled, or as long as their time limit."""
        now = time.monotonic()
        for attempting in list(self._waiting.values()):
            error: TaskCancelledError | TaskTimeoutError | None = None
            if attempting.waiting is not None:
                error = attempting.waiting.cancelled
            if error is None and attempting.wait_until is not None and now > attempting.wait_until:
                error = TaskTimeoutError(
                    f"{attempting.task} has waited {attempting.timeout:g} seconds, which is its time limit: it is "
                    f"{attempting.told}. Give it more time (worker_timeout on the task, or [worker] timeout), or see "
                    "why that one takes so long."
                )
            if error is not None:
                self._take_out(attempting)
                yield attempting, error

    def given_up(self) -> list[RunningAttempt]:
        """Those that were waited for, and are no longer."""
        waiting = list(self._waiting.values())
        for attempting in waiting:
            self._take_out(attempting)
        return waiting

    def patience(self) -> list[float]:
        """Seconds until the next look, if there is to be one."""
        now = time.monotonic()
        return [max(0.0, attempting.look_at - now) for attempting in self._waiting.values()]

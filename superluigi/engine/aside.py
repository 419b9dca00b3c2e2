"""Tasks of this run that another process makes just now: they take no place here, and are looked after."""

from __future__ import annotations

import time
from collections.abc import Callable

from superluigi.engine.running_attempt import RunningAttempt
from superluigi.errors import USERS_CODE
from superluigi.execution.observer import Observer
from superluigi.runs import logs
from superluigi.runs.context import RunContext, entered
from superluigi.storage.base import Holder

#: Between two looks, seconds; the third where a look costs a request.
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_FAR = 0.02, 1.0, 5.0


class SetAside:
    """The attempts that wait; `resume` is called with one when nobody else makes its task any more."""

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
        pause = attempting.pause or FIRST_PAUSE
        attempting.deadline, attempting.look_at = None, time.monotonic() + pause
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
            del self._waiting[task.task_id]
            attempting.told = ""
            if attempting.status_reporter is not None:
                attempting.status_reporter.update_status_message("")
            resumed += 1
            self._resume(attempting)
        return bool(resumed)

    def given_up(self) -> list[RunningAttempt]:
        """Those that were waited for, and are no longer."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting

    def patience(self) -> list[float]:
        """Seconds until the next look, if there is to be one."""
        now = time.monotonic()
        return [max(0.0, attempting.look_at - now) for attempting in self._waiting.values()]

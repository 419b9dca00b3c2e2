"""Failures of a queue, told where it is worked on or waited for, and the ending: the voice of a run without a queue."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from sqlalchemy import text

from superluigi.errors import QueueError
from superluigi.queue import models
from superluigi.queue.failures import failure_of, shown_as
from superluigi.queue.models import TaskRow
from superluigi.queue.store import tables, views
from superluigi.queue.store.database import Database
from superluigi.runs.logs import tell_failure
from superluigi.runs.report import Report
from superluigi.runs.telling import Teller

#: A queue is asked for new failures at most so often: that reads its table of tasks once.
_INTERVAL_SECONDS = 1.0
_T, _A = tables.tasks.name, tables.attempts.name
#: Failed attempts of what has failed, the latest of a task first.
_FAILING = text(
    f"SELECT t.task_id, t.failures, t.fence, t.state, a.fence AS failed FROM {_T} t "
    f"LEFT JOIN {_A} a ON a.task = t.id AND a.outcome = 'FAILED' "
    "WHERE t.failures > 0 OR t.state = 'FAILED' ORDER BY t.id, a.fence DESC"
)
_ATTEMPTS = text(
    f"SELECT a.fence, a.number, a.ended, a.error, a.log FROM {_A} a JOIN {_T} t ON t.id = a.task "
    "WHERE t.task_id = :task_id ORDER BY a.fence"
)
#: The id of a task, and the fencing token of the attempt that failed.
_Failed = tuple[str, int]


class FailureFeed:
    """Tells the failures that happen from now on, each once, by Luigi's logger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._teller = Teller()
        self._known = set(self._found())
        self._asked = time.monotonic()

    def tell(self, *, at_once: bool = False) -> None:
        """Tell what is new; a queue that does not answer just now is asked later."""
        if not at_once and time.monotonic() - self._asked < _INTERVAL_SECONDS:
            return
        with contextlib.suppress(QueueError):
            new = {failed: again for failed, again in self._found().items() if failed not in self._known}
            if new:
                self._tell(new)
            self._known |= set(new)
        self._asked = time.monotonic()

    def _found(self) -> dict[_Failed, bool]:
        """Which attempts have failed since their tasks were submitted or retried, and whether others followed them."""
        found: dict[_Failed, bool] = {}
        counted: Counter[str] = Counter()
        with self._database.read() as connection:
            for row in connection.execute(_FAILING):
                if row.state == models.FAILED:  # a worker that was lost may have been the last straw
                    found[row.task_id, row.fence] = False
                if row.failed is not None and counted[row.task_id] < row.failures:  # of earlier ones no more is said
                    counted[row.task_id] += 1
                    found.setdefault((row.task_id, row.failed), True)
        return found

    def _tell(self, new: Mapping[_Failed, bool]) -> None:
        fences: dict[str, list[int]] = {}
        for task_id, fence in new:
            fences.setdefault(task_id, []).append(fence)
        told = []
        with self._database.read() as connection:
            for row in views.rows(connection, ids=list(fences)):
                attempts = {one.fence: one for one in connection.execute(_ATTEMPTS, {"task_id": row.id})}
                for fence in fences[row.id]:
                    if (one := attempts.get(fence)) is not None:
                        then = replace(row, state=models.FAILED, error=one.error, log=one.log, attempts=one.number)
                        told.append((one.ended, then, new[row.id, fence]))
        for _, row, again in sorted(told, key=lambda one: float(one[0])):
            tell_failure(self._teller.text(failure_of(row), again), final=not again)


def outcomes_of(rows: Sequence[TaskRow], edges: Sequence[tuple[str, str]], ran: Callable[[TaskRow], bool]) -> dict[
    str, str
]:  # fmt: skip
    """Task id -> the word of a run for how it ended; "behind missing" for what waits for a missing external task."""
    behind = behind_missing(rows, edges)
    return {row.id: _outcome(row, ran, behind) for row in rows}


def _outcome(row: TaskRow, ran: Callable[[TaskRow], bool], behind: Mapping[str, str]) -> str:
    if row.state == models.SUCCEEDED:
        return "ran" if ran(row) else "complete"
    if row.state in (models.FAILED, models.KILLED):
        return "failed"
    if row.state == models.BLOCKED:
        return "blocked"
    if row.external and row.state == models.WAITING:
        return "missing"
    return "behind missing" if row.id in behind else "not run"


def behind_missing(rows: Sequence[TaskRow], edges: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Waiting tasks -> the missing external task that they wait for."""
    following: dict[str, list[str]] = {}
    for upper, lower in edges:
        following.setdefault(upper, []).append(lower)
    return views.reached({row.id: row.id for row in rows if row.external and row.state == models.WAITING}, following)


def report_of(
    rows: Sequence[TaskRow], edges: Sequence[tuple[str, str]], ran: Callable[[TaskRow], bool]
) -> Report:  # fmt: skip
    """What has come of these rows, as a run's; `ran` tells what is not just complete."""
    words, behind = outcomes_of(rows, edges, ran), behind_missing(rows, edges)
    waiting = [row for row in rows if row.blocked_by or row.id in behind]
    return Report(
        run_id="", summary="", status="", success=all(word in ("ran", "complete") for word in words.values()),
        outcomes={name: "blocked" if word == "behind missing" else word for name, word in words.items()},
        failures=tuple(failure_of(row) for word in ("failed", "missing") for row in rows if words[row.id] == word),
        blocked={row.id: (row.blocked_by or behind[row.id],) for row in waiting},
        names={row.id: shown_as(row) for row in waiting},
    )  # fmt: skip


def report_since(database: Database, began: float) -> Report:
    """What has come of a queue, as a run's: "ran" is what has ended since `began`, by the clock of the database."""
    with database.read() as connection:
        rows, edges = views.rows(connection), views.edges(connection)
    moment = datetime.fromtimestamp(began, timezone.utc)
    return report_of(rows, edges, lambda row: bool(row.attempts and row.ended and row.ended >= moment))

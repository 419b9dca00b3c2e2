"""Failures of a queue, told where it is worked on or waited for, and the ending: the voice of a run without a queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
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
_FAILING = text(
    f"SELECT task_id, failures, fence, state FROM {tables.tasks.name} WHERE failures > 0 OR state = 'FAILED'"
)


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
            new = {key: again for key, again in self._found().items() if key not in self._known}
            if new:
                self._tell({task_id: again for (task_id, _), again in new.items()})
            self._known |= set(new)
        self._asked = time.monotonic()

    def _found(self) -> dict[tuple[str, str], bool]:
        """Which failures there are, and whether another attempt follows."""
        with self._database.read() as connection:
            return {
                (row.task_id, f"{row.failures}" if row.failures else f"fence {row.fence}"): row.state != models.FAILED
                for row in connection.execute(_FAILING)
                if row.state != models.SUCCEEDED
            }

    def _tell(self, new: Mapping[str, bool]) -> None:
        with self._database.read() as connection:
            rows = views.rows(connection, ids=list(new))
        for row in sorted(rows, key=lambda one: str(one.ended)):
            tell_failure(self._teller.text(failure_of(row), new[row.id]), final=not new[row.id])


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


def blocked_names(rows: Sequence[TaskRow], behind: Mapping[str, str]) -> dict[str, str]:
    """The texts of tasks that wait for what failed or is missing."""
    return {row.id: shown_as(row) for row in rows if row.blocked_by or row.id in behind}


def report_since(database: Database, began: float) -> Report:
    """What has come of a queue, as a run's: "ran" is what has ended since `began`, by the clock of the database."""
    with database.read() as connection:
        rows, edges = views.rows(connection), views.edges(connection)
    moment = datetime.fromtimestamp(began, timezone.utc)
    words = outcomes_of(rows, edges, lambda row: bool(row.attempts and row.ended and row.ended >= moment))
    behind = behind_missing(rows, edges)
    return Report(
        run_id="", summary="", status="", success=all(word in ("ran", "complete") for word in words.values()),
        outcomes={name: "blocked" if word == "behind missing" else word for name, word in words.items()},
        failures=tuple(failure_of(row) for word in ("failed", "missing") for row in rows if words[row.id] == word),
        blocked={row.id: (row.blocked_by or behind[row.id],) for row in rows if row.blocked_by or row.id in behind},
        names=blocked_names(rows, behind),
    )  # fmt: skip

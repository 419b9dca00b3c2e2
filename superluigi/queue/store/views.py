"""Verbs that only read: frozen rows, counts, what is blocked by what, and whether all is consistent."""

from __future__ import annotations

import fnmatch
import json
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from superluigi.errors import QueueTaskMissingError
from superluigi.queue import models
from superluigi.queue.models import AttemptRow, TaskRow
from superluigi.queue.store import tables
from superluigi.queue.store.submit import chunks

Key = TypeVar("Key", bound=Hashable)

_T = tables.tasks.name
_E = tables.edges.name


def rows(
    connection: Connection, *, ids: Collection[str] | None = None, state: str | None = None,
    name: str | None = None, tags: Mapping[str, str] | None = None,
) -> list[TaskRow]:  # fmt: skip
    """Tasks in the order in which they were submitted; conditions are joined by "and".

    WAITING includes the blocked ones; `name` may hold `*` and `?`.
    """
    blocked = blockers(connection) if state in (None, models.WAITING, models.BLOCKED) else {}
    column = tables.tasks.c
    query = select(tables.tasks, tables.codes.c.pickle).outerjoin(tables.codes, tables.codes.c.digest == column.code)
    if state is not None:
        query = query.where(column.state == (models.WAITING if state == models.BLOCKED else state))
    if ids is None:
        found = list(connection.execute(query.order_by(column.id)))
    else:
        parts = [connection.execute(query.where(column.task_id.in_(chunk))) for chunk in chunks(list(ids))]
        found = sorted((row for part in parts for row in part), key=lambda row: int(row.id))
    return [
        _row(row, blocked.get(row.id))
        for row in found
        if (state != models.BLOCKED or row.id in blocked)
        and (name is None or fnmatch.fnmatchcase(row.name, name))
        and (not tags or _has_tags(row.tags, tags))
    ]


#: What `rows` reads of each column: SQLite keeps whatever another program puts there.
_KINDS = tuple(
    (column.type.python_type, type(None), *([int] if column.type.python_type is float else []))
    for column in (*tables.tasks.c, tables.codes.c.pickle)
)


def _row(row: Any, blocked_by: str | None) -> TaskRow:
    with tables.as_stored(f"The row of {row.task_id!r}"):
        return _read_row(row, blocked_by)


def _read_row(row: Any, blocked_by: str | None) -> TaskRow:
    if not all(map(isinstance, row, _KINDS)):
        odd = [name for name, one, kind in zip(row._fields, row, _KINDS, strict=True) if not isinstance(one, kind)]
        raise TypeError(f"of another kind: {', '.join(odd)}")
    if row.state not in models.STATES:
        raise ValueError(f"{row.state!r} is no state")
    stored: dict[str, Any] = json.loads(row.params)
    tags: dict[str, Any] = dict(models.load_json(row.tags))
    values = {name: held["value"] for name, held in stored.items() if not isinstance(held, str)}
    return TaskRow(
        id=row.task_id, name=row.name,
        params={name: held["text"] if name in values else held for name, held in stored.items()}, values=values,
        state=models.BLOCKED if blocked_by else row.state, attempts=row.attempts, error=row.error,
        exit_code=row.exit_code, worker=row.worker, started=_moment(row.started), ended=_moment(row.ended),
        log=row.log, module=row.module, pool=row.pool, priority=row.priority, blocked_by=blocked_by,
        tags=tags, run=row.run, failures=row.failures,
        external=bool(row.external), code=row.pickle,
        progress=row.progress, status_message=row.status_message, tracking_url=row.tracking_url,
    )  # fmt: skip


def _has_tags(text_: str | None, wanted: Mapping[str, str]) -> bool:
    tags = models.load_json(text_)
    return all(key in tags and _same(tags[key], value) for key, value in wanted.items())


def _same(value: Any, wanted: str) -> bool:
    try:
        return str(value) == wanted or float(value) == float(wanted)  # .1 is 0.1
    except (TypeError, ValueError):
        return False


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def blockers(connection: Connection) -> dict[int, str]:
    """Waiting rows behind a failed or killed task -> the task id of that one."""
    stopped = {
        row.id: row.task_id
        for row in connection.execute(
            text(f"SELECT id, task_id FROM {_T} WHERE state IN ('FAILED', 'KILLED') ORDER BY id")
        )
    }
    if not stopped:
        return {}
    below: dict[int, list[int]] = defaultdict(list)
    for upstream, downstream in connection.execute(
        text(f"SELECT e.upstream, e.downstream FROM {_E} e JOIN {_T} t ON t.id = e.downstream "
             "WHERE t.state = 'WAITING'")
    ):  # fmt: skip
        below[upstream].append(downstream)
    return reached(stopped, below)


def reached(causes: Mapping[Key, str], below: Mapping[Key, Sequence[Key]]) -> dict[Key, str]:
    """What lies behind the tasks that `causes` has, near or far -> the name of one that it waits for."""
    found: dict[Key, str] = {}
    waiting = list(causes.items())
    while waiting:
        key, cause = waiting.pop()
        for lower in below.get(key, ()):
            if lower not in found:
                found[lower] = cause
                waiting.append((lower, cause))
    return found


def attempts(connection: Connection, task_id: str) -> list[AttemptRow]:
    """Every attempt at a task that has ended, the first one first."""
    query = (
        select(tables.attempts)
        .join(tables.tasks, tables.tasks.c.id == tables.attempts.c.task)
        .where(tables.tasks.c.task_id == task_id)
        .order_by(tables.attempts.c.fence)
    )
    return [
        AttemptRow(
            number=row.number, outcome=row.outcome, worker=row.worker, host=row.host,
            started=_moment(row.started), ended=_moment(row.ended), exit_code=row.exit_code, error=row.error,
            stdout=row.log, stderr=models.stderr_of(row.log) if row.log else None,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def counts(connection: Connection) -> dict[str, int]:
    """How many tasks are in each stored state; zeros included."""
    column = tables.tasks.c
    query = select(column.state, func.count()).group_by(column.state)
    found = {state: number for state, number in connection.execute(query)}  # noqa: C416 rows are no pairs to mypy
    return {state: found.get(state, 0) for state in models.STATES}


@dataclass(frozen=True)
class Activity:
    """What could still happen in a queue, without a submission or a retry."""

    running: int
    #: Ready tasks of pools that are not paused, by pool.
    pending: dict[str, int]
    #: Whether tasks wait for their next attempt (external tasks that are missing do not count).
    delayed: bool

    @property
    def settled(self) -> bool:
        """Nothing more can run; a paused queue is settled when nothing runs."""
        return not (self.running or self.pending or self.delayed)


# One statement, so that it sees one moment: between two, what runs may end and release what then is pending.
_ACTIVITY = text(
    f"""
    SELECT 'running' AS kind, '' AS pool, COUNT(*) AS number FROM {_T} WHERE state = 'RUNNING'
    UNION ALL
    SELECT 'pending', p.name, (
        SELECT COUNT(*) FROM (SELECT 1 FROM {_T} t WHERE t.state = 'PENDING' AND t.pool = p.name LIMIT 1000) few)
    FROM {tables.pools.name} p WHERE p.paused = 0
    UNION ALL
    SELECT 'delayed', '', COUNT(*) FROM (
        SELECT 1 FROM {_T} WHERE due IS NOT NULL AND state = 'WAITING' AND external = 0
        AND EXISTS (SELECT 1 FROM {tables.pools.name} p WHERE p.name = pool AND p.paused = 0) LIMIT 1) few
    """
)


def activity(connection: Connection) -> Activity:
    """What could still happen; costs the same for long and short queues."""
    found = {(kind, pool): number for kind, pool, number in connection.execute(_ACTIVITY)}
    pending = {pool: number for (kind, pool), number in found.items() if kind == "pending" and number}
    return Activity(found["running", ""], pending, bool(found["delayed", ""]))


def times(connection: Connection) -> list[tuple[str, int, float, float, float]]:
    """Of each family: `(name, attempts that succeeded, total, mean, longest)`, in seconds."""
    query = text(
        f"SELECT t.name, COUNT(*), SUM(a.ended - a.started), AVG(a.ended - a.started), MAX(a.ended - a.started) "
        f"FROM {tables.attempts.name} a JOIN {_T} t ON t.id = a.task WHERE a.outcome = 'SUCCEEDED' "
        "GROUP BY t.name ORDER BY 3 DESC"
    )
    return [tuple(row) for row in connection.execute(query)]


def check(connection: Connection) -> list[str]:
    """Broken invariants, in words; an empty list for a sound queue."""
    wrong = [
        f"{row.task_id} counts {row.unmet} unmet requirements, it has {row.real}"
        for row in connection.execute(
            text(
                f"SELECT * FROM (SELECT task_id, unmet, (SELECT COUNT(*) FROM {_E} e JOIN {_T} u ON u.id = e.upstream "
                f"WHERE e.downstream = t.id AND u.state <> 'SUCCEEDED') AS real FROM {_T} t) x WHERE unmet <> real"
            )
        )
    ]
    for said, condition in (
        ("is RUNNING without a lease", "state = 'RUNNING' AND lease IS NULL"),
        ("has a lease but is not RUNNING", "state <> 'RUNNING' AND lease IS NOT NULL"),
        ("is PENDING with unmet requirements", "state = 'PENDING' AND unmet > 0"),
        ("has a time to wait for but is not WAITING", "state <> 'WAITING' AND due IS NOT NULL"),
        ("is WAITING for nothing", "state = 'WAITING' AND unmet = 0 AND due IS NULL"),
    ):
        found = connection.execute(text(f"SELECT task_id FROM {_T} WHERE {condition}"))
        wrong.extend(f"{row.task_id} {said}" for row in found)
    return wrong


def running(connection: Connection, pool: str) -> int:
    """How many tasks of a pool run."""
    query = text(f"SELECT COUNT(*) FROM {_T} WHERE state = 'RUNNING' AND pool = :pool")
    return int(connection.execute(query, {"pool": pool}).scalar_one())


def edges(connection: Connection) -> list[tuple[str, str]]:
    """Pairs of task ids: what is required, and what requires it."""
    query = text(
        f"SELECT u.task_id, d.task_id FROM {_E} e JOIN {_T} u ON u.id = e.upstream JOIN {_T} d ON d.id = e.downstream "
        "ORDER BY e.downstream, e.upstream"
    )
    return [(upstream, downstream) for upstream, downstream in connection.execute(query)]


def unfinished(connection: Connection, ids: Collection[str]) -> int:
    """How many of these tasks can still change by themselves."""
    column = tables.tasks.c
    blocked = blockers(connection)
    count = 0
    for chunk in chunks(list(ids)):
        query = select(column.id, column.state).where(column.task_id.in_(chunk))
        for row in connection.execute(query):
            ended = row.state in (models.SUCCEEDED, models.FAILED, models.KILLED) or row.id in blocked
            count += not ended
    return count


def require(connection: Connection, shown: str, ids: Collection[str]) -> None:
    """See that the queue `shown` has a task of each of these ids.

    Raises:
        QueueTaskMissingError: one that no task has.
    """
    column = tables.tasks.c.task_id
    found = {
        one
        for chunk in chunks(list(ids))
        for one in connection.execute(select(column).where(column.in_(chunk))).scalars()
    }
    if unknown := [one for one in ids if one not in found]:
        raise QueueTaskMissingError(
            f"The queue {shown} has no task {', '.join(unknown[:3])}: it was not submitted there, or was forgotten "
            "(prune), so that what came of it is not known. `superluigi queue tasks` shows what there is."
        )

"""Verbs of a worker: claim, renew, finish; and of everybody: sweep what is overdue.

A claim gives a lease (until when the claim holds) and a fence (a number that grows with every claim of the
row). Whatever a worker says about a task later counts only while its fence is the row's: who lost the lease
cannot change anything any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, text

from superluigi.queue import states, tables
from superluigi.queue.specs import TaskSpec
from superluigi.queue.store import plan
from superluigi.storage import identity

#: A task whose workers vanish this often is not given to another: it probably ends them (out of memory).
MAX_LOSSES = 5
_T = tables.tasks.name


@dataclass(frozen=True)
class Claim:
    """A task in the hands of one worker, until `lease`."""

    row: int
    task_id: str
    name: str
    module: str
    params: str
    code: str | None
    run: str
    fence: int
    attempt: int
    timeout: float | None
    #: JSON text of the task's tags, which are no parameters.
    tags: str | None
    worker: str
    #: Seconds since the epoch.
    started: float
    lease: float


@dataclass(frozen=True)
class Result:
    """How an attempt ended. `kind`:

    succeeded · complete (was done already: not counted as an attempt) · failed · killed · requeued (put back
    by a worker that must go) · waiting (for `requirements`, yielded) · missing (external data, not there yet)
    """

    kind: str
    error: str | None = None
    exit_code: int | None = None
    log: str | None = None
    #: Rows of yielded requirements and what they need, and the ids of those that `run` waits for.
    specs: Sequence[TaskSpec] = ()
    codes: dict[str, bytes] = field(default_factory=dict)
    requirements: Sequence[str] = ()


_FIRST = (
    "SELECT x.{} FROM " + _T + " x WHERE x.state = 'PENDING' AND x.pool = :pool AND x.need = n.id "
    "ORDER BY x.priority DESC, x.id LIMIT 1"
)
# One statement. For each kind of need (there are few) it reads one entry of the claim index; among those whose
# resources suffice, the most urgent wins, the oldest of equals. Scalar sub-queries, not a join: PostgreSQL would
# choose to hash the whole table while it has no statistics of it yet, right after a submission.
_CLAIM = text(
    f"""
    UPDATE {_T} SET state = 'RUNNING', worker = :worker, fence = fence + 1, lease = :lease,
        attempts = attempts + 1, started = :now, ended = NULL, exit_code = NULL, kill = 0
    WHERE id = (
        SELECT f.id FROM (
            SELECT ({_FIRST.format("id")}) AS id, ({_FIRST.format("priority")}) AS priority
            FROM {tables.needs.name} n
            WHERE NOT EXISTS (
                SELECT 1 FROM {tables.need_items.name} i LEFT JOIN {tables.resources.name} r ON r.name = i.resource
                WHERE i.need = n.id AND i.amount > COALESCE(r.total, 1) - (
                    SELECT COALESCE(SUM(u.amount), 0) FROM {_T} b JOIN {tables.need_items.name} u ON u.need = b.need
                    WHERE b.state = 'RUNNING' AND u.resource = i.resource))
        ) f WHERE f.id IS NOT NULL ORDER BY f.priority DESC, f.id LIMIT 1)
    AND EXISTS (
        SELECT 1 FROM {tables.pools.name} p WHERE p.name = :pool AND p.paused = 0
        AND (p.max_workers IS NULL OR p.max_workers > (
            SELECT COUNT(*) FROM {_T} c WHERE c.state = 'RUNNING' AND c.pool = :pool)))
    RETURNING id AS row, task_id, name, module, params, code, run, fence, attempts AS attempt, timeout,
        tags
    """
)


def claim(connection: Connection, worker: str, pool: str, now: float, lease_seconds: float) -> Claim | None:
    """Take the next task of `pool`, or None: nothing is ready, the pool is full or paused, resources are short."""
    parameters = {"worker": worker, "pool": pool, "now": now, "lease": now + lease_seconds}
    row = connection.execute(_CLAIM, parameters).first()
    if row is None:
        return None
    return Claim(**row._mapping, worker=worker, started=now, lease=now + lease_seconds)


_STATUS = text(f"SELECT kill FROM {_T} WHERE id = :row AND fence = :fence AND state = 'RUNNING'")
_RENEW = text(f"UPDATE {_T} SET lease = :lease WHERE id = :row AND fence = :fence AND state = 'RUNNING' RETURNING kill")


def status(connection: Connection, claim: Claim) -> str:
    """What became of a claim meanwhile: `held`, `kill` (somebody asked for it) or `lost`."""
    return _word(connection.execute(_STATUS, {"row": claim.row, "fence": claim.fence}).first())


def renew(connection: Connection, claim: Claim, until: float) -> str:
    """Extend the lease; answers like `status`."""
    return _word(connection.execute(_RENEW, {"row": claim.row, "fence": claim.fence, "lease": until}).first())


def _word(row: Any) -> str:
    if row is None:
        return "lost"
    return "kill" if row.kill else "held"


_CURRENT = text(
    f"SELECT failures, max_failures, retry_delay, rerun, unmet, kill FROM {_T} "
    "WHERE id = :row AND fence = :fence AND state = 'RUNNING'"
)
_END = text(
    f"UPDATE {_T} SET state = :state, due = :due, lease = NULL, kill = 0, ended = :now, attempts = :attempts, "
    "failures = :failures, losses = 0, error = :error, exit_code = :exit_code, log = COALESCE(:log, log), "
    "run = COALESCE(rerun, run), rerun = NULL WHERE id = :row"
)
_RELEASE_DEPENDENTS = text(
    f"UPDATE {_T} SET unmet = unmet - 1, "
    "state = CASE WHEN state = 'WAITING' AND unmet = 1 AND due IS NULL THEN 'PENDING' ELSE state END "
    f"WHERE id IN (SELECT downstream FROM {tables.edges.name} WHERE upstream = :row)"
)
_ADD_ATTEMPT = insert(tables.attempts)


def finish(connection: Connection, claim: Claim, result: Result, now: float, recheck_seconds: float = 60.0) -> bool:
    """Record how the attempt of `claim` ended; False, and nothing changes, when the lease was lost."""
    row = connection.execute(_CURRENT, {"row": claim.row, "fence": claim.fence}).first()
    if row is None:
        return False
    failures = row.failures + (result.kind == "failed")
    state, due = _state_after(result, row, failures, now, recheck_seconds)
    counted = result.kind not in ("complete", "waiting", "missing")
    connection.execute(
        _END,
        {
            "row": claim.row, "state": state, "due": due, "now": now, "failures": failures,
            "attempts": claim.attempt if counted else claim.attempt - 1,
            "error": result.error, "exit_code": result.exit_code, "log": result.log,
        },
    )  # fmt: skip
    if counted or result.kind == "waiting":
        outcome = result.kind.upper()
        _keep_attempt(connection, claim, outcome, claim.started, now, result.exit_code, result.error, result.log)
    if state == states.SUCCEEDED:
        connection.execute(_RELEASE_DEPENDENTS, {"row": claim.row})
    elif result.kind == "waiting":
        plan.add_codes(connection, result.codes)
        plan.add(connection, result.specs, claim.run)
        plan.add_requirements(connection, claim.row, result.requirements)
        plan.recount(connection, [claim.row])
    return True


def _state_after(
    result: Result, row: Any, failures: int, now: float, recheck_seconds: float
) -> tuple[str, float | None]:
    """State and due time of a row whose attempt ended."""
    ready = states.WAITING if row.unmet else states.PENDING
    if result.kind == "killed" or (row.kill and result.kind not in ("succeeded", "complete")):
        return states.KILLED, None
    if row.rerun is not None:
        return ready, None
    if result.kind in ("succeeded", "complete"):
        return states.SUCCEEDED, None
    if result.kind == "missing":
        return states.WAITING, now + recheck_seconds
    if result.kind == "failed":
        if failures >= row.max_failures:
            return states.FAILED, None
        return (states.WAITING, now + row.retry_delay) if row.retry_delay > 0 else (ready, None)
    return ready, None


def _keep_attempt(
    connection: Connection, claim: Claim, outcome: str, started: float | None, ended: float,
    exit_code: int | None, error: str | None, log: str | None,
) -> None:  # fmt: skip
    connection.execute(
        _ADD_ATTEMPT,
        {
            "task": claim.row, "fence": claim.fence, "number": claim.attempt, "outcome": outcome,
            "worker": claim.worker, "host": host_of(claim.worker), "started": started, "ended": ended,
            "exit_code": exit_code, "error": error, "log": log,
        },
    )  # fmt: skip


def host_of(worker: str) -> str:
    """The host in a worker's name (`storage.identity.token`)."""
    return worker.rsplit("-", 3)[0] if identity.is_token(worker) else worker


_DUE = text(
    f"UPDATE {_T} SET due = NULL, state = CASE WHEN unmet > 0 THEN 'WAITING' ELSE 'PENDING' END "
    "WHERE due IS NOT NULL AND due <= :now AND state = 'WAITING'"
)
_ANY_DUE = text(f"SELECT 1 FROM {_T} WHERE due IS NOT NULL AND due <= :now AND state = 'WAITING' LIMIT 1")


def overdue(connection: Connection, now: float, dead_workers: Collection[str] = ()) -> bool:
    """Whether `sweep` would change anything; only reads."""
    if connection.execute(_ANY_DUE, {"now": now}).first() is not None:
        return True
    return bool(_lost(connection, now, dead_workers))


def sweep(connection: Connection, now: float, dead_workers: Collection[str] = ()) -> int:
    """Make due what was delayed, and take back tasks whose lease ran out or whose worker is dead.

    Returns the number of tasks taken back.
    """
    connection.execute(_DUE, {"now": now})
    lost = _lost(connection, now, dead_workers)
    for row in lost:
        _take_back(connection, row, now)
    return len(lost)


def _lost(connection: Connection, now: float, dead_workers: Collection[str]) -> list[Any]:
    columns = tables.tasks.c
    running = connection.execute(select(tables.tasks).where(columns.state == states.RUNNING))
    return [row for row in running if row.lease < now or row.worker in dead_workers]


def _take_back(connection: Connection, row: Any, now: float) -> None:
    losses = row.losses + 1
    error = f"The worker {row.worker} was lost while it ran this task (killed, or its host went down)."
    state = states.WAITING if row.unmet else states.PENDING
    if row.kill:
        state, error = states.KILLED, "Killed on request; its worker was lost meanwhile."
    elif losses >= MAX_LOSSES:
        state = states.FAILED
        error += f" That happened {losses} times: perhaps the task ends its worker (memory?). Retry it if not."
    connection.execute(
        tables.tasks.update()
        .where(tables.tasks.c.id == row.id)
        .values(state=state, lease=None, kill=0, ended=now, losses=losses, error=error, due=None,
                run=row.rerun or row.run, rerun=None)
    )  # fmt: skip
    claim = Claim(
        row.id, row.task_id, row.name, row.module, row.params, row.code, row.run, row.fence, row.attempts,
        row.timeout, row.tags, row.worker, row.started, row.lease,
    )  # fmt: skip
    _keep_attempt(connection, claim, "LOST", row.started, now, None, error, None)

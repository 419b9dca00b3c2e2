"""Verbs of a worker: claim, renew, finish; and of every process: sweep what is overdue.

A claim gives a lease (until when the claim holds) and a fence (a number that grows with every claim of the
row). Whatever a worker says about a task later counts only while its fence is the row's: who lost the lease
cannot change anything any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from superluigi.queue import models
from superluigi.queue.models import Result
from superluigi.queue.store import submit, tables
from superluigi.queue.store.statement import Statement
from superluigi.storage import owner_token

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
    fencing_token: int
    attempt: int
    timeout: float | None
    #: JSON text of the task's tags, which are no parameters.
    tags: str | None
    worker: str
    #: Seconds since the epoch.
    started: float
    lease: float


_FIRST = (
    "SELECT x.{} FROM " + _T + " x WHERE x.state = 'PENDING' AND x.pool = :pool AND x.need = n.id "
    "ORDER BY x.priority DESC, x.id LIMIT 1"
)
# One statement. For each kind of need (there are few) it reads one entry of the claim index; among those whose
# resources suffice, the most urgent wins, the oldest of equals. Scalar sub-queries, not a join: PostgreSQL would
# choose to hash the whole table while it has no statistics of it yet, right after a submission.
CLAIM = Statement(
    f"""
    UPDATE {_T} SET state = 'RUNNING', worker = :worker, fence = fence + 1, lease = :lease,
        attempts = attempts + 1, started = :now, ended = NULL, exit_code = NULL, kill = 0,
        progress = NULL, status_message = NULL, tracking_url = NULL
    WHERE id = (
        SELECT f.id FROM (
            SELECT ({_FIRST.format("id")}) AS id, ({_FIRST.format("priority")}) AS priority
            FROM {tables.needs.name} n
            WHERE NOT EXISTS (
                SELECT 1 FROM {tables.need_items.name} i LEFT JOIN {tables.resources.name} r ON r.name = i.resource
                WHERE i.need = n.id AND i.amount > COALESCE(r.total, 1) - (
                    SELECT COALESCE(SUM(u.amount), 0) FROM {_T} b JOIN {tables.need_items.name} u
                    ON u.need = COALESCE(b.held, b.need)
                    WHERE b.state = 'RUNNING' AND u.resource = i.resource))
        ) f WHERE f.id IS NOT NULL ORDER BY f.priority DESC, f.id LIMIT 1)
    AND EXISTS (
        SELECT 1 FROM {tables.pools.name} p WHERE p.name = :pool AND p.paused = 0
        AND (p.max_workers IS NULL OR p.max_workers > (
            SELECT COUNT(*) FROM {_T} c WHERE c.state = 'RUNNING' AND c.pool = :pool)))
    RETURNING id, task_id, name, module, params, code, run, fence, attempts, timeout, tags
    """
)


def claim(connection: Connection, worker: str, pool: str, now: float, lease_seconds: float) -> Claim | None:
    """Take the next task of `pool`, or None: nothing is ready, the pool is full or paused, resources are short."""
    parameters = {"worker": worker, "pool": pool, "now": now, "lease": now + lease_seconds}
    row = CLAIM(connection, parameters)
    return None if row is None else claimed(row, parameters)


def claimed(row: Sequence[object], parameters: Mapping[str, object]) -> Claim:
    """The claim that the row which `CLAIM` returned stands for."""
    values: tuple[Any, ...] = (*row, parameters["worker"], parameters["now"], parameters["lease"])
    return Claim(*values)


# The worker's name as well as the fence: a crash of the server may take back a claim that was not flushed, and
# the next claim of the row gets the same number.
_MINE = "WHERE id = :row AND fence = :fence AND worker = :worker AND state = 'RUNNING'"
_STATUS = Statement(f"SELECT kill FROM {_T} {_MINE}")
_RENEW = Statement(f"UPDATE {_T} SET lease = :lease {_MINE} RETURNING kill")


def status(connection: Connection, claim: Claim) -> str:
    """What became of a claim meanwhile: `held`, `kill` (it was asked for) or `lost`."""
    return _word(_STATUS(connection, _mine(claim)))


def renew(connection: Connection, claim: Claim, until: float) -> str:
    """Extend the lease; answers like `status`."""
    return _word(_RENEW(connection, {**_mine(claim), "lease": until}))


def note(connection: Connection, claim: Claim, told: Mapping[str, Any]) -> None:
    """Write down what the task tells while it runs: `progress`, `status_message`, `tracking_url`, and `less`.

    `less` are amounts of resources that it needs no longer: others may have them, until the attempt ends.
    """
    column = tables.tasks.c
    mine = (
        (column.id == claim.row) & (column.fence == claim.fencing_token) & (column.worker == claim.worker)
        & (column.state == models.RUNNING)
    )  # fmt: skip
    values = {
        name: storable(value) if isinstance(value, str) else value for name, value in told.items() if name != "less"
    }
    if less := told.get("less"):
        held = connection.execute(select(func.coalesce(column.held, column.need)).where(mine)).scalar()
        values["held"] = None if held is None else submit.smaller_need(connection, held, less)
    if values:
        connection.execute(tables.tasks.update().where(mine).values(**values))


def _mine(claim: Claim) -> dict[str, object]:
    return {"row": claim.row, "fence": claim.fencing_token, "worker": claim.worker}


def _word(row: tuple[object, ...] | None) -> str:
    if row is None:
        return "lost"
    return "kill" if row[0] else "held"


# The state machine of an attempt's end, in one statement: what is decided first stands first.
_READY = "CASE WHEN unmet > 0 THEN 'WAITING' ELSE 'PENDING' END"
END = Statement(
    f"""
    UPDATE {_T} SET
        state = CASE
            WHEN :killed = 1 OR (kill = 1 AND :done = 0) THEN 'KILLED'
            WHEN rerun IS NOT NULL THEN {_READY}
            WHEN :done = 1 THEN 'SUCCEEDED'
            WHEN :missing = 1 THEN 'WAITING'
            WHEN :spent = 1 THEN 'FAILED'
            WHEN :failed = 1 AND retry_delay > 0 THEN 'WAITING'
            ELSE {_READY} END,
        due = CASE
            WHEN :killed = 1 OR :done = 1 OR kill = 1 OR rerun IS NOT NULL THEN NULL
            WHEN :missing = 1 THEN :recheck
            WHEN :failed = 1 AND :spent = 0 AND retry_delay > 0 THEN :now + retry_delay END,
        lease = NULL, kill = 0, held = NULL, ended = :now,
        attempts = :attempts, failures = failures + :failed, losses = 0,
        error = :error, exit_code = :exit_code, log = COALESCE(:log, log),
        run = COALESCE(rerun, run), rerun = NULL
    {_MINE} RETURNING state
    """
)
RELEASE_DEPENDENTS = Statement(
    f"UPDATE {_T} SET unmet = unmet - 1, "
    "state = CASE WHEN state = 'WAITING' AND unmet = 1 AND due IS NULL THEN 'PENDING' ELSE state END "
    f"WHERE id IN (SELECT downstream FROM {tables.edges.name} WHERE upstream = :row)"
)
ADD_ATTEMPT = Statement(
    f"INSERT INTO {tables.attempts.name} (task, fence, number, outcome, worker, host, started, ended, exit_code, "
    "error, log) VALUES (:row, :fence, :number, :outcome, :worker, :host, :started, :ended, :exit_code, :error, :log)"
)


def finish(connection: Connection, claim: Claim, result: Result, now: float, recheck_seconds: float = 60.0) -> bool:
    """Record how the attempt of `claim` ended; False, and nothing changes, when the lease was lost."""
    values = ended(claim, result, now, recheck_seconds)
    values["spent"] = int(result.kind == "failed" and (result.final or _is_spent(connection, claim, now)))
    row = END(connection, values)
    if row is None:
        return False
    if values["kept"]:
        ADD_ATTEMPT(connection, values)
    if row[0] == models.SUCCEEDED:
        RELEASE_DEPENDENTS(connection, values)
    elif result.kind == "waiting":
        submit.add_codes(connection, result.codes)
        submit.add(connection, result.specs, claim.run)
        submit.add_requirements(connection, claim.row, result.requirements)
        submit.recount(connection, [claim.row])
    return True


def ended(claim: Claim, result: Result, now: float, recheck_seconds: float) -> dict[str, object]:
    """The parameters of `END` (but `spent`), `ADD_ATTEMPT` and `RELEASE_DEPENDENTS`; `kept`: it was an attempt."""
    kind = result.kind
    counted = kind not in ("complete", "waiting", "missing")
    return {
        **_mine(claim), "now": now, "recheck": now + recheck_seconds,
        "killed": int(kind == "killed"), "done": int(kind in ("succeeded", "complete")),
        "missing": int(kind == "missing"), "failed": int(kind == "failed"),
        "attempts": claim.attempt if counted else claim.attempt - 1, "kept": int(counted or kind == "waiting"),
        "number": claim.attempt, "outcome": kind.upper(), "host": host_of(claim.worker), "started": claim.started,
        "ended": now, "error": storable(result.error), "exit_code": _exit_code(result.exit_code),
        "log": storable(result.log),
    }  # fmt: skip


def storable(words: str | None) -> str | None:
    """Words with what no database takes (lone surrogates, NUL) written out, and no more than anybody reads."""
    if words is None:
        return None
    if (over := len(words) - _MOST_CHARACTERS) > 0:
        words = f"{words[: _MOST_CHARACTERS // 2]}… ({over} characters) …{words[-_MOST_CHARACTERS // 2 :]}"
    return words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


_MOST_CHARACTERS = 1_000_000


def _exit_code(code: int | None) -> int | None:
    """An exit code that a column can hold: `sys.exit` takes any number."""
    return code if code is None or abs(code) <= models.LARGEST else 1


def _is_spent(connection: Connection, claim: Claim, now: float) -> bool:
    """Whether one more failure, now, is the last one, by the retry policy of the task as Luigi means it."""
    column = tables.tasks.c
    policy = select(column.failures, column.max_failures, column.retry_window, column.retry_deadline)
    row = connection.execute(policy.where(column.id == claim.row)).one()
    with tables.as_stored(f"How often {claim.task_id} may fail"):
        failures, most = int(row.failures), int(row.max_failures)
        window, deadline = (None if one is None else float(one) for one in (row.retry_window, row.retry_deadline))
    if window is None and deadline is None:
        return failures + 1 >= most
    attempt = tables.attempts.c
    query = select(attempt.ended).where(attempt.task == claim.row, attempt.outcome == "FAILED")
    # Those since the task was submitted or retried are the latest.
    times = connection.execute(query.order_by(attempt.fence.desc()).limit(failures)).scalars()
    counted = [time for time in times if window is None or time >= now - window]
    expired = deadline is not None and counted and now >= counted[-1] + deadline
    return bool(expired or len(counted) + 1 >= most)


def host_of(worker: str) -> str:
    """The host in a worker's name."""
    return owner_token.host_of(worker)


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


def _lost(connection: Connection, now: float, dead_workers: Collection[str]) -> list[object]:
    columns = tables.tasks.c
    running = connection.execute(select(tables.tasks).where(columns.state == models.RUNNING))
    # a lease without a time, which no worker writes, holds nothing
    return [row for row in running if not isinstance(row.lease, float) or row.lease < now or row.worker in dead_workers]


def _take_back(connection: Connection, row: Any, now: float) -> None:
    losses, worker = row.losses + 1, str(row.worker)
    error = f"The worker {worker} was lost while it ran this task (killed, or its host went down)."
    state = models.WAITING if row.unmet else models.PENDING
    if row.kill:
        state, error = models.KILLED, "Killed on request; its worker was lost meanwhile."
    elif losses >= MAX_LOSSES:
        state = models.FAILED
        error += f" That happened {losses} times: perhaps the task ends its worker (memory?). Retry it if not."
    connection.execute(
        tables.tasks.update()
        .where(tables.tasks.c.id == row.id)
        .values(state=state, lease=None, kill=0, held=None, ended=now, losses=losses, error=error,
                run=row.rerun or row.run, rerun=None)
    )  # fmt: skip
    attempt = {
        "row": row.id, "fence": row.fence, "number": row.attempts, "outcome": "LOST", "worker": worker,
        "host": host_of(worker), "started": row.started, "ended": now, "exit_code": None, "error": error,
        "log": None,
    }  # fmt: skip
    ADD_ATTEMPT(connection, attempt)

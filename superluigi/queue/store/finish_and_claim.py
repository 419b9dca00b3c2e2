"""A worker's turn: what came of one task and the claim of the next, in as few round trips as can be.

On PostgreSQL that is one: the session gets a function of its own (in its temporary schema, so that nothing stays in
the database and versions cannot differ) with the very statements of `claims`; a function that is VOLATILE, as this
one, sees what others have committed before each of its statements, hence after it has waited for the lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from superluigi.queue.models import Result
from superluigi.queue.store import claims
from superluigi.queue.store.claims import Claim
from superluigi.queue.store.connections import LOCK
from superluigi.queue.store.database import Database
from superluigi.queue.store.statement import Statement

#: Kinds of results that need nothing but the statements below.
_PLAIN = ("succeeded", "complete", "killed", "requeued", "missing")
Outcome = tuple[Claim, Result]


def finish_and_claim(
    database: Database, outcome: Outcome | None, worker: str, pool: str | None, lease_seconds: float,
    recheck_seconds: float,
) -> tuple[bool, Claim | None]:  # fmt: skip
    """Record `outcome` and claim the next task of `pool`, in one transaction; whether the outcome counts, the claim.

    Without `pool` nothing is claimed.
    Not flushed to the disk: a power cut may take it back, never a part of it.
    """
    if pool is not None and not database.is_sqlite and (outcome is None or outcome[1].kind in _PLAIN):
        with database.read() as connection:
            if _has_function(connection):
                now = database.now()
                next_claim = {"worker": worker, "pool": pool, "now": now, "lease": now + lease_seconds}
                return _at_once(connection, outcome, next_claim, recheck_seconds)
    with database.write(flush=False) as connection:
        now = database.now()
        counts = outcome is None or claims.finish(connection, *outcome, now, recheck_seconds)
        return counts, claims.claim(connection, worker, pool, now, lease_seconds) if pool is not None else None


_PARAMETERS = {
    "row": "integer", "fence": "integer", "by": "text", "worker": "text", "pool": "text", "now": "float",
    "lease": "float", "recheck": "float", "killed": "integer", "done": "integer", "missing": "integer",
    "attempts": "integer", "kept": "integer", "number": "integer", "outcome": "text", "host": "text",
    "started": "float", "error": "text", "exit_code": "integer", "log": "text",
}  # fmt: skip
_CREATE = f"""
CREATE OR REPLACE FUNCTION pg_temp.superluigi_turn({", ".join(f"_{name} {kind}" for name, kind in _PARAMETERS.items())})
RETURNS TABLE (
    recorded boolean, id integer, task_id text, name text, module text, params text, code text, run text,
    fence integer, attempts integer, timeout float, tags text
) LANGUAGE plpgsql VOLATILE AS $turn$
#variable_conflict use_column
DECLARE
    _state text;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM {LOCK};
    IF _row IS NOT NULL THEN
        {claims.END.inside_function(worker="_by", failed="0", spent="0")} INTO _state;
        IF _state IS NOT NULL AND _kept = 1 THEN
            {claims.ADD_ATTEMPT.inside_function(worker="_by", ended="_now")};
        END IF;
        IF _state = 'SUCCEEDED' THEN
            {claims.RELEASE_DEPENDENTS.inside_function()};
        END IF;
    END IF;
    {claims.CLAIM.inside_function()} INTO id, task_id, name, module, params, code, run, fence, attempts, timeout, tags;
    recorded := _state IS NOT NULL;
    RETURN NEXT;
END $turn$
"""
_TURN = Statement(f"SELECT * FROM pg_temp.superluigi_turn({', '.join(f':{name}' for name in _PARAMETERS)})")


def _has_function(connection: Connection) -> bool:
    """Whether this session has the function; it gets it now if it may have temporary objects."""
    known: bool | None = connection.info.get("superluigi_turn")
    if known is None:
        import psycopg

        try:
            Statement(_CREATE)(connection, {})
            known = True
        except psycopg.errors.InsufficientPrivilege:
            known = False
        connection.info["superluigi_turn"] = known
    return known


def _at_once(
    connection: Connection, outcome: Outcome | None, next_claim: Mapping[str, Any], recheck_seconds: float
) -> tuple[bool, Claim | None]:
    values: dict[str, object] = dict.fromkeys(_PARAMETERS)
    if outcome is not None:
        values.update(claims.ended(*outcome, next_claim["now"], recheck_seconds), by=outcome[0].worker)
    recorded, *claim = _TURN(connection, {**values, **next_claim}) or (False, None)
    return outcome is None or recorded, claims.claimed(claim, next_claim) if claim[0] is not None else None

"""Verbs about those who work on a queue: pools, workers, spawners; and which of them are dead."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Table, select, text
from sqlalchemy.engine import Connection

from superluigi.queue.models import Pool, WorkerRow
from superluigi.queue.store import tables
from superluigi.storage import owner_token


def save_pools(connection: Connection, pools: Mapping[str, Pool]) -> None:
    """Add pools, or change their definitions; whether they are paused stays."""
    for name, pool in pools.items():
        _put(connection, tables.pools, name, {"max_workers": pool.max_workers, "definition": _dump(pool)})


def _put(connection: Connection, table: Table, name: str, values: Mapping[str, object]) -> None:
    if not connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount:
        connection.execute(table.insert(), [{"name": name, **values}])


def load_pools(connection: Connection) -> dict[str, tuple[Pool, bool]]:
    """Every pool with whether it is paused."""
    rows = connection.execute(select(tables.pools).order_by(tables.pools.c.name))
    return {row.name: (_load(row.definition), bool(row.paused)) for row in rows}


def _dump(pool: Pool) -> str:
    values = dataclasses.asdict(pool)
    values["walltime"] = pool.longest.total_seconds() if pool.longest else None
    return json.dumps(values)


def _load(definition: str) -> Pool:
    with tables.as_stored("The definition of a pool"):
        values: dict[str, Any] = json.loads(definition)
        seconds = values.pop("walltime", None)
        return Pool(**values, walltime=timedelta(seconds=seconds) if seconds else None)


def save_resources(connection: Connection, totals: Mapping[str, float]) -> None:
    """Set how much of each resource all workers together may use; one of each not named here is 1."""
    for name, total in totals.items():
        _put(connection, tables.resources, name, {"total": float(total)})


_SEEN = text(f"UPDATE {tables.workers.name} SET seen = :now WHERE id = :id RETURNING stop")


def add_worker(connection: Connection, name: str, pool: str, now: float) -> None:
    row = {"id": name, "pool": pool, "boot_id": owner_token.world(), "started": now, "seen": now}
    connection.execute(tables.workers.insert(), [row])


def remove_worker(connection: Connection, name: str) -> None:
    connection.execute(tables.workers.delete().where(tables.workers.c.id == name))


def worker_seen(connection: Connection, name: str, now: float) -> bool:
    """Say that the worker lives; True when it should stop."""
    row = connection.execute(_SEEN, {"id": name, "now": now}).first()
    return row is None or bool(row.stop)


def stop_workers(connection: Connection) -> None:
    """Ask every worker to put back what it runs and to end."""
    connection.execute(tables.workers.update().values(stop=1))


def dead_workers(connection: Connection) -> list[str]:
    """Registered workers of this boot and container whose processes are gone."""
    query = select(tables.workers.c.id).where(tables.workers.c.boot_id == owner_token.world())
    return [name for name in connection.execute(query).scalars() if owner_token.owner_is_gone(name)]


def live_workers(connection: Connection, pool: str, now: float, lease_seconds: float) -> int:
    """How many registered workers of `pool` live, as far as can be known."""
    rows = connection.execute(select(tables.workers).where(tables.workers.c.pool == pool))
    return sum(not owner_token.owner_is_gone(row.id) and row.seen > now - 2 * lease_seconds for row in rows)


def lead(connection: Connection, name: str, pool: str, now: float, lease_seconds: float) -> bool:
    """Be or become the one spawner of `pool` that starts workers; False: another one is, stand by."""
    column = tables.spawners.c
    row = connection.execute(select(tables.spawners).where(column.pool == pool)).first()
    values = {"id": name, "boot_id": owner_token.world(), "lease": now + lease_seconds}
    if row is None:
        connection.execute(tables.spawners.insert(), [{"pool": pool, **values}])
        return True
    if row.id != name and row.lease > now and not owner_token.owner_is_gone(row.id):
        return False
    connection.execute(tables.spawners.update().where(column.pool == pool).values(**values))
    return True


def resign(connection: Connection, name: str) -> None:
    """Lead no pool any longer."""
    connection.execute(tables.spawners.delete().where(tables.spawners.c.id == name))


def set_paused(connection: Connection, pool: str | None, paused: bool) -> bool:
    """Pause or resume one pool, or all; False when there is no such pool."""
    statement = tables.pools.update().values(paused=int(paused))
    if pool is not None:
        statement = statement.where(tables.pools.c.name == pool)
    return bool(connection.execute(statement).rowcount)


def workers(connection: Connection) -> list[WorkerRow]:
    """The workers that are registered, oldest first."""
    rows = connection.execute(select(tables.workers).order_by(tables.workers.c.started))
    return [WorkerRow(row.id, row.pool, row.started, row.seen) for row in rows]

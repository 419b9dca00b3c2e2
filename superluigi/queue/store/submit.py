"""Verbs that change the plan: add a graph, take rows back, try again, kill, forget."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.engine import Connection

from superluigi.errors import DefinitionError
from superluigi.queue import models
from superluigi.queue.models import TaskSpec
from superluigi.queue.store import tables

_CHUNK = 500  # variables a statement; SQLite's limit was 999 for long
_T = tables.tasks.name
_E = tables.edges.name


@dataclass(frozen=True)
class Added:
    """What `add` did, by task id."""

    added: tuple[str, ...]
    done: tuple[str, ...]
    known: tuple[str, ...]
    stopped: tuple[str, ...]


def add_run(connection: Connection, run: str, started: float, definition: str) -> None:
    """Keep what the tasks of one run share; nothing happens when it is there."""
    found = connection.execute(select(tables.runs.c.id).where(tables.runs.c.id == run)).first()
    if found is None:
        connection.execute(tables.runs.insert(), [{"id": run, "started": started, "definition": definition}])


def add_codes(connection: Connection, codes: Mapping[str, bytes]) -> None:
    """Keep task classes that travel by value."""
    if not codes:
        return
    known = set(connection.execute(select(tables.codes.c.digest)).scalars())
    new = [{"digest": digest, "pickle": pickle} for digest, pickle in codes.items() if digest not in known]
    if new:
        connection.execute(tables.codes.insert(), new)


def add(connection: Connection, specs: Sequence[TaskSpec], run: str, *, retry_failed: bool = False) -> Added:
    """Merge a graph into the plan; requirements come before what requires them.

    What is done and still complete stays as it is; what was done and is no longer complete (its output has
    gone, or it is forced) runs again; what runs meanwhile and is forced runs once more afterwards.
    """
    known = _existing(connection, [spec.task_id for spec in specs])
    need_of = _needs(connection, specs)
    next_id = (connection.execute(select(func.max(tables.tasks.c.id))).scalar() or 0) + 1
    new, ids = [], {task_id: row.id for task_id, row in known.items()}
    groups: dict[str, list[TaskSpec]] = {"added": [], "done": [], "known": [], "stopped": []}
    revived, finished, again = [], [], []
    for spec in specs:
        row = known.get(spec.task_id)
        if row is None:
            ids[spec.task_id] = next_id
            new.append(_new_row(spec, next_id, run, need_of))
            next_id += 1
            groups["done" if spec.complete else "added"].append(spec)
            continue
        kind = _merge(row, spec, run, retry_failed)
        groups[kind].append(spec)
        if kind == "added":
            revived.append(row.id)
        elif kind == "done" and row.state not in (models.SUCCEEDED, models.RUNNING):
            finished.append(row.id)
        elif row.state == models.RUNNING and spec.forced and row.run != run:
            again.append(row.id)
    if new:
        connection.execute(tables.tasks.insert(), new)
    changed = _merge_edges(connection, specs, ids, {row["id"] for row in new}, set(revived))
    _set(connection, revived, state=models.WAITING, run=run, failures=0, losses=0, kill=0, due=None)
    _set(connection, finished, state=models.SUCCEEDED, due=None, error=None)
    _set(connection, again, rerun=run)
    if new:
        _recount(connection, "id BETWEEN :first AND :last", {"first": new[0]["id"], "last": new[-1]["id"]})
    recount(connection, sorted({*_with_downstream(connection, [*revived, *finished]), *changed}))
    _redefine(connection, specs, known, need_of)
    return Added(**{kind: tuple(spec.task_id for spec in found) for kind, found in groups.items()})


def _merge(row: Any, spec: TaskSpec, run: str, retry_failed: bool) -> str:
    """What becomes of a row that is there when its task is submitted again: the group it belongs to."""
    state = row.state
    made_here = state == models.SUCCEEDED and row.run == run and not spec.tells
    if spec.complete or made_here:
        return "known" if state == models.RUNNING else "done"
    if state == models.SUCCEEDED or (state == models.FAILED and retry_failed):
        return "added"
    if state in (models.FAILED, models.KILLED):
        return "stopped"
    return "known"


#: Columns that say how a task is to be run; a later submission may change them.
_DEFINITION = (
    "module", "params", "code", "tags", "pool", "priority", "need", "timeout", "max_failures", "retry_delay",
    "retry_window", "retry_deadline", "external",
)  # fmt: skip


def _definition(spec: TaskSpec, need_of: Mapping[str, int]) -> dict[str, object]:
    return {
        "module": spec.module, "params": spec.params, "code": spec.code, "tags": spec.tags, "pool": spec.pool,
        "priority": spec.priority, "need": need_of[_signature(spec)], "timeout": spec.timeout,
        "max_failures": spec.max_failures, "retry_delay": spec.retry_delay, "retry_window": spec.retry_window,
        "retry_deadline": spec.retry_deadline, "external": int(spec.external),
    }  # fmt: skip


def _new_row(spec: TaskSpec, row_id: int, run: str, need_of: Mapping[str, int]) -> dict[str, Any]:
    state = models.SUCCEEDED if spec.complete else models.WAITING
    return {"id": row_id, "task_id": spec.task_id, "name": spec.name, "run": run, "state": state,
            **_definition(spec, need_of)}  # fmt: skip


def _redefine(
    connection: Connection, specs: Iterable[TaskSpec], known: Mapping[str, Any], need_of: Mapping[str, int]
) -> None:
    """Let rows that may yet run follow their tasks' present definitions; priorities of waiting ones only rise."""
    changed = []
    for spec in specs:
        row = known.get(spec.task_id)
        if row is None or spec.complete or row.state == models.RUNNING:
            continue
        values = _definition(spec, need_of)
        if row.state in (models.WAITING, models.PENDING):
            values["priority"] = max(row.priority, spec.priority)
        if any(getattr(row, name) != value for name, value in values.items()):
            changed.append({"row": row.id, **{f"new_{name}": value for name, value in values.items()}})
    if changed:
        statement = update(tables.tasks).where(tables.tasks.c.id == bindparam("row"))
        values = {name: bindparam(f"new_{name}") for name in _DEFINITION}
        connection.execute(statement.values(**values), changed)


def _existing(connection: Connection, task_ids: Sequence[str]) -> dict[str, Any]:
    columns = tables.tasks.c
    query = select(columns.id, columns.task_id, columns.state, columns.run, *(columns[name] for name in _DEFINITION))
    if connection.execute(select(columns.id).limit(1)).first() is None:
        return {}
    return {
        row.task_id: row
        for chunk in chunks(task_ids)
        for row in connection.execute(query.where(columns.task_id.in_(chunk)))
    }


def _signature(spec: TaskSpec) -> str:
    return json.dumps(spec.resources, sort_keys=True) if spec.resources else "{}"


def _needs(connection: Connection, specs: Iterable[TaskSpec]) -> dict[str, int]:
    """The id of each distinct need for resources; 0 is none."""
    return _ids_of_needs(connection, {_signature(spec): spec.resources for spec in specs})


def _ids_of_needs(connection: Connection, wanted: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    found = {row.signature: row.id for row in connection.execute(select(tables.needs))}
    for signature, resources in wanted.items():
        if signature in found:
            continue
        found[signature] = len(found)
        connection.execute(tables.needs.insert(), [{"id": found[signature], "signature": signature}])
        items = [{"need": found[signature], "resource": name, "amount": amount} for name, amount in resources.items()]
        connection.execute(tables.need_items.insert(), items)
    return found


def smaller_need(connection: Connection, need: int, less: Mapping[str, float]) -> int:
    """The need that is left of `need` when so much of each resource is given back."""
    items = connection.execute(select(tables.need_items).where(tables.need_items.c.need == need))
    left = {row.resource: max(0.0, row.amount - less.get(row.resource, 0.0)) for row in items}
    left = {resource: amount for resource, amount in left.items() if amount}
    signature = json.dumps(left, sort_keys=True)
    return _ids_of_needs(connection, {signature: left})[signature] if left else 0


def _merge_edges(
    connection: Connection, specs: Iterable[TaskSpec], ids: Mapping[str, int], new: set[int], revived: set[int]
) -> list[int]:
    """Let the edges follow the graph; the known rows whose requirements are others now.

    A requirement that `requires()` no longer names is dropped; what was yielded is kept until the row is revived.
    """
    wanted = {ids[spec.task_id]: {ids[dep] for dep in spec.deps} for spec in specs if not spec.complete}
    fresh = [{"upstream": up, "downstream": row} for row, ups in wanted.items() if row in new for up in sorted(ups)]
    if fresh:
        connection.execute(tables.edges.insert(), fresh)
    merged = [row for row in wanted if row not in new]
    there: dict[int, dict[int, int]] = {row: {} for row in merged}
    for chunk in chunks(merged):
        for edge in connection.execute(select(tables.edges).where(tables.edges.c.downstream.in_(chunk))):
            there[edge.downstream][edge.upstream] = edge.yielded
    more = [{"upstream": up, "downstream": row} for row in merged for up in wanted[row] - there[row].keys()]
    less = [
        {"up": up, "row": row}
        for row in merged
        for up, yielded in there[row].items()
        if up not in wanted[row] and (row in revived or not yielded)
    ]
    if more:
        connection.execute(tables.edges.insert(), more)
    if less:
        column = tables.edges.c
        here = (column.upstream == bindparam("up")) & (column.downstream == bindparam("row"))
        connection.execute(tables.edges.delete().where(here), less)
    return sorted({edge["downstream"] for edge in more} | {edge["row"] for edge in less})


def add_requirements(connection: Connection, row_id: int, task_ids: Sequence[str]) -> None:
    """Make a task wait for further ones, which a `yield` in its `run` asked for.

    Raises:
        DefinitionError: one of them waits for this very task.
    """
    upstream = [row.id for row in _existing(connection, task_ids).values()]
    cycle = connection.execute(_IN_DOWNSTREAM, {"row": row_id, "ids": upstream}).first() if upstream else None
    if cycle is not None:
        raise DefinitionError(f"cycle: run() yields {cycle.task_id}, which itself waits for this task.")
    if upstream:
        connection.execute(_ADD_YIELDED, [{"upstream": up, "downstream": row_id} for up in upstream])


_ADD_YIELDED = text(
    f"INSERT INTO {_E} (upstream, downstream, yielded) VALUES (:upstream, :downstream, 1) ON CONFLICT DO NOTHING"
)
_IN_DOWNSTREAM = text(
    f"WITH RECURSIVE down(id) AS (SELECT CAST(:row AS INTEGER) UNION "
    f"SELECT e.downstream FROM {_E} e JOIN down ON e.upstream = down.id) "
    f"SELECT t.task_id FROM down JOIN {_T} t ON t.id = down.id WHERE t.id IN :ids LIMIT 1"
).bindparams(bindparam("ids", expanding=True))


def _set(connection: Connection, ids: Sequence[int], **values: object) -> None:
    for chunk in chunks(ids):
        connection.execute(update(tables.tasks).where(tables.tasks.c.id.in_(chunk)).values(**values))


def _with_downstream(connection: Connection, ids: Sequence[int]) -> list[int]:
    column = tables.edges.c
    below = {
        found
        for chunk in chunks(ids)
        for found in connection.execute(select(column.downstream).where(column.upstream.in_(chunk))).scalars()
    }
    return sorted(below | set(ids))


def recount(connection: Connection, ids: Sequence[int]) -> None:
    """Count the unmet requirements of these rows anew, and let WAITING and PENDING follow."""
    for chunk in chunks(ids):
        numbers = ",".join(map(str, chunk))  # integers of our own: no quoting needed
        _recount(connection, f"id IN ({numbers})", {})


def _recount(connection: Connection, which: str, parameters: Mapping[str, object]) -> None:
    connection.execute(
        text(
            f"UPDATE {_T} SET unmet = (SELECT COUNT(*) FROM {_E} e JOIN {_T} u ON u.id = e.upstream "
            f"WHERE e.downstream = {_T}.id AND u.state <> 'SUCCEEDED') WHERE {which}"
        ),
        parameters,
    )
    connection.execute(
        text(
            f"UPDATE {_T} SET state = CASE WHEN unmet > 0 OR due IS NOT NULL THEN 'WAITING' ELSE 'PENDING' END "
            f"WHERE state IN ('WAITING', 'PENDING') AND {which}"
        ),
        parameters,
    )


def select_rows(
    connection: Connection, *, ids: Collection[str] | None, state: str | None, name: str | None
) -> list[tuple[int, str]]:
    """`(row id, stored state)` of the rows chosen; `name` may hold `*` and `?`."""
    columns = tables.tasks.c
    query = select(columns.id, columns.state, columns.name).order_by(columns.id)
    if state is not None:
        query = query.where(columns.state == state)
    if ids is None:
        rows = connection.execute(query).all()
    else:
        rows = [
            row for chunk in chunks(list(ids)) for row in connection.execute(query.where(columns.task_id.in_(chunk)))
        ]
    with tables.as_stored("The name of a task"):
        return [(row.id, row.state) for row in rows if name is None or fnmatch.fnmatchcase(row.name, name)]


def retry(connection: Connection, rows: Iterable[tuple[int, str]]) -> int:
    """Give rows that ended, or that are delayed, a fresh start; the count of them."""
    ids = [row_id for row_id, state in rows if state not in (models.RUNNING, models.PENDING)]
    _set(connection, ids, state=models.WAITING, failures=0, losses=0, kill=0, due=None)
    recount(connection, _with_downstream(connection, ids))
    return len(ids)


def kill(connection: Connection, rows: Iterable[tuple[int, str]], now: float) -> int:
    """Kill what has not ended; a running task is killed by the worker that owns it. The count of them."""
    chosen = list(rows)
    idle = [row_id for row_id, state in chosen if state in (models.WAITING, models.PENDING)]
    busy = [row_id for row_id, state in chosen if state == models.RUNNING]
    _set(connection, idle, state=models.KILLED, due=None, ended=now)
    _set(connection, busy, kill=1)
    return len(idle) + len(busy)


def chunks(items: Sequence[object]) -> Iterator[Sequence[object]]:
    """Parts that fit the variables of one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]

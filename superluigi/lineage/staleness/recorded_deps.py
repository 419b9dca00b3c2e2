"""Requirements that earlier runs discovered while they ran, as the records of their outputs tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import USERS_CODE, TargetError
from superluigi.lineage.records import resolve
from superluigi.lineage.staleness.rebuild_tasks import task_of
from superluigi.runs import force
from superluigi.runs.force import TaskGraph
from superluigi.storage.base import Record
from superluigi.targets.base import AtomicTarget


def with_recorded(known: TaskGraph) -> TaskGraph:
    """`known` with what its tasks required at run time, and with all that is below that.

    A task that a record names is made again where its class is loaded; of others the links between records are
    followed, never copies. What has no record is where the trail ends.
    """
    edges: dict[str, list[str]] = {}
    families: dict[str, str] = {}
    tasks: dict[str, luigi.Task] = {}
    waiting: list[luigi.Task | resolve.Reference] = list(known.tasks.values())
    while waiting:
        item = waiting.pop()
        below: list[Any] = []
        if isinstance(item, luigi.Task):
            task_id = item.task_id
            if task_id in tasks:
                continue
            tasks[task_id], families[task_id] = item, item.task_family
            if task_id not in known.tasks:
                below += _static(item)
            for record in _records_of(item):
                below += _references(record, "dynamic_input")
        else:
            task_id = str(item["task_id"])
            if task_id in known.tasks or task_id in families:
                continue
            found = _record_at(item)
            made = None if found is None else task_of(found)
            if made is not None:
                waiting.append(made)
                continue
            families[task_id] = str((found or item).get("task_family") or task_id.partition("_")[0])
            below += _references(found or {}, "input", "dynamic_input")
        if below:
            edges[task_id] = [one.task_id if isinstance(one, luigi.Task) else str(one["task_id"]) for one in below]
            waiting += below
    return known.merge(edges, families, tasks)


def _static(task: luigi.Task) -> list[luigi.Task]:
    with USERS_CODE:  # asked about a task of the past: it will say so when it runs
        return force.requirements(task)
    return []


def _records_of(task: luigi.Task) -> list[Record]:
    targets = [target for target in graph.flatten(task.output()) if isinstance(target, AtomicTarget)]
    records = (target.read_metadata() for target in targets[:1])  # all outputs of a task tell the same inputs
    return [record for record in records if record is not None]


def _record_at(reference: resolve.Reference) -> Record | None:
    if not reference.get("task_hash"):
        return None  # made by a task that keeps no records
    try:
        return resolve.location_at(
            str(reference["path"]), reference.get("type"), reference.get("metadata_path")
        ).read_record()
    except TargetError:
        return None  # where it was there is something else now


def _references(record: Mapping[str, object], *keys: str) -> list[resolve.Reference]:
    found = resolve.references([record.get(key) for key in keys])
    return [reference for reference in found if reference.get("task_id")]

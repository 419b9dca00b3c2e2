"""Tasks that earlier runs discovered while they ran (`yield`), made again from the records of their outputs."""

from __future__ import annotations

from typing import Any

import luigi
from luigi.parameter import ParameterException
from luigi.task_register import Register, TaskClassException

from superluigi import graph
from superluigi.errors import TargetError
from superluigi.lineage.records import resolve
from superluigi.runs import force
from superluigi.storage.base import Record


def requirements(task: luigi.Task) -> list[luigi.Task]:
    """What a task requires, and what it asked for by `yield` when its outputs were made, as far as records tell."""
    return graph.unique([*force.requirements(task), *discovered(task)])


def discovered(task: luigi.Task) -> list[luigi.Task]:
    """The tasks that the records of a task's outputs name as dynamic inputs, where their classes are loaded."""
    if "metadata" not in graph.written(task, "run_names", ()):
        return []
    found: dict[str, luigi.Task] = {}
    for target in graph.flatten(task.output())[:1]:  # all outputs of a task tell the same inputs
        record = target.read_metadata() if hasattr(target, "read_metadata") else None
        for reference in resolve.references((record or {}).get("dynamic_input")):
            made = _made(reference)
            if made is not None:
                found[made.task_id] = made
    return list(found.values())


def _made(reference: resolve.Reference) -> luigi.Task | None:
    if not reference.get("task_id"):
        return None
    try:
        location = resolve.location_at(reference["path"], reference.get("type"), reference.get("metadata_path"))
        record = location.read_record()
    except TargetError:
        return None  # where it was there is something else now; its reader is stale anyway
    return None if record is None else task_of(record)


def task_of(record: Record) -> luigi.Task | None:
    """The task that made a record; None when its class is not loaded, or its parameters make another task."""
    try:
        cls = Register.get_task_cls(record["task_family"])
        task = cls.from_str_params(_texts(cls, record.get("params") or {}))
    except (TaskClassException, ParameterException, ValueError, TypeError, KeyError):
        return None
    return task if task.task_id == record.get("task_id") else None


def _texts(cls: Any, params: dict[str, Any]) -> dict[str, str]:
    known = dict(cls.get_params())
    return {
        name: value if isinstance(value, str) or name not in known else known[name].serialize(value)
        for name, value in params.items()
    }

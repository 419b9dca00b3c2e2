"""Requirements that earlier runs discovered while they ran, as the records of their outputs tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import luigi

from superluigi import graph
from superluigi.lineage import places
from superluigi.storage.base import Record
from superluigi.targets.base import AtomicTarget


def discovered(tasks: Iterable[luigi.Task]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Task id -> ids it required at run time, and the family of each of these and of all they were made from.

    Only links between records are followed, never copies; what has no record is where the trail ends.
    """
    edges: dict[str, list[str]] = {}
    families: dict[str, str] = {}
    waiting: list[Mapping[str, Any]] = []
    for task in tasks:
        found = [reference for record in _records_of(task) for reference in _references(record, "dynamic_input")]
        if found:
            edges[task.task_id] = [str(reference["task_id"]) for reference in found]
            waiting += found
    while waiting:
        reference = waiting.pop()
        task_id = str(reference["task_id"])
        if task_id in families:
            continue
        record = places.location_at(
            str(reference["path"]), reference.get("type"), reference.get("metadata_path")
        ).read_record()
        families[task_id] = str(record["task_family"]) if record else task_id.partition("_")[0]
        if record:
            below = _references(record, "input") + _references(record, "dynamic_input")
            edges[task_id] = [str(item["task_id"]) for item in below]
            waiting += below
    return edges, families


def _records_of(task: luigi.Task) -> list[Record]:
    targets = [target for target in graph.flatten(task.output()) if isinstance(target, AtomicTarget)]
    records = (target.read_metadata() for target in targets[:1])  # all outputs of a task tell the same inputs
    return [record for record in records if record is not None]


def _references(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    waiting = [record.get(key)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, Mapping) and isinstance(item.get("path"), str) and "type" in item:
            if item.get("task_id"):
                found.append(item)
        elif isinstance(item, Mapping):
            waiting += item.values()
    return found

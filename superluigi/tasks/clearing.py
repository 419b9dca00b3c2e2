"""Removing outputs together with their records: of a class, of what a task needs, of what was made from it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import luigi

from superluigi import config, graph
from superluigi.scheduling import run as runs


def outputs_of(tasks: Iterable[luigi.Task]) -> list[Any]:
    """The outputs of tasks that are there, each once; those of external tasks and stand-ins are not ours to remove."""
    found: dict[str, Any] = {}
    for task in tasks:
        if isinstance(task, luigi.ExternalTask) or task.run is None or getattr(type(task), "is_stand_in", False):
            continue
        for target in graph.flatten(task.output()):
            if hasattr(target, "remove") and str(target) not in found and target.exists():
                found[str(target)] = target
    return list(found.values())


def upstream_of(task: luigi.Task) -> list[luigi.Task]:
    """`task` and everything it requires, the task itself last."""
    return [node for node, _ in graph.walk([task], lambda node: list(node.deps()))]


def remove(targets: Iterable[Any]) -> list[Any]:
    """Remove targets with their records; returns those that were removed."""
    gone = []
    for target in targets:
        target.remove()
        gone.append(target)
    return gone


def clear_class(cls: Any) -> list[Any]:
    """Remove the outputs of a class in the store, and those that its tasks in this process name."""
    living = [task for task in _living(cls) if type(task) is cls]
    targets = {str(target): target for target in outputs_of(living)}
    for target in _in_store(cls.get_task_family()):
        targets.setdefault(str(target), target)
    return remove(targets.values())


def _living(cls: type) -> Iterator[Any]:
    return (thing for thing in gc.get_referrers(cls) if isinstance(thing, cls))


def _in_store(family: str) -> Iterator[Any]:
    """Targets in the default home of a task family, found by their records."""
    store = str(runs.current().store or config.get("store"))
    if store.startswith("s3://"):
        yield from _in_s3_store(store, family)
        return
    from superluigi.targets import LocalFileTarget, LocalFolderTarget

    folder = Path(store).expanduser().absolute() / family
    for entry in sorted(folder.rglob("*.metadata.json")) if folder.is_dir() else ():
        path = entry.with_name(entry.name.removesuffix(".metadata.json"))
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not os.path.lexists(path):
            continue
        yield LocalFolderTarget(path) if path.is_dir() else LocalFileTarget(path)


def _in_s3_store(store: str, family: str) -> Iterator[Any]:
    import boto3  # type: ignore[import-untyped]

    from superluigi.targets import S3ObjectTarget

    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    inside = "/".join(filter(None, (prefix.strip("/"), family))) + "/"
    for page in boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=inside):
        for item in page.get("Contents", ()):
            if not item["Key"].endswith(".metadata.json"):
                yield S3ObjectTarget(bucket, item["Key"])

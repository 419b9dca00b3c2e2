"""Outputs by task, upstream and downstream of it or of a class; and their removal together with their records."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi

from superluigi import config, graph
from superluigi.errors import TargetMissingError
from superluigi.lineage import listing, places
from superluigi.scheduling import run as runs
from superluigi.storage.base import Location, Record
from superluigi.targets.base import AtomicTarget


@dataclass(frozen=True)
class Output:
    """One output that may be listed or removed."""

    path: str
    #: The family of the task that makes it.
    family: str
    present: bool
    #: Bytes; 0 for what is absent, None where the kind of target cannot tell.
    size: int | None
    #: A target or a location: what can be removed.
    place: Any

    def remove(self) -> None:
        """Remove the output with its record."""
        self.place.remove()


def outputs_of(tasks: Iterable[Any]) -> list[Output]:
    """The outputs of tasks, each once; those of external tasks and stand-ins are not ours and not listed."""
    found: dict[str, Output] = {}
    for task in tasks:
        stands_in = getattr(type(task), "_superluigi_stand_in", False)
        if stands_in or isinstance(task, luigi.ExternalTask) or task.run is None:
            continue
        for target in graph.flatten(task.output()):
            if hasattr(target, "remove"):
                found.setdefault(str(target), _output(target, task.get_task_family()))
    return list(found.values())


def upstream_of(task: Any) -> list[Any]:
    """Everything that `task` requires, and the task itself last."""

    def required(node: Any) -> list[Any]:
        return list(node.deps())

    return [node for node, _ in graph.walk([task], required)]


def downstream_of(task: Any, where: Iterable[str] = ()) -> list[Output]:
    """The outputs of `task` and every output that was made from them, as the records say; the last made first.

    Records are looked for in the store, beside the outputs of the task, and in the folders and prefixes `where`;
    only those called `….metadata.json` are found.
    """
    own = outputs_of([task])
    targets = [target for target in graph.flatten(task.output()) if isinstance(target, AtomicTarget)]
    made_from: dict[str, list[tuple[str, Record]]] = {}
    for address, record in _records({*where, store(), *map(_folder_of, targets)}):
        for reference in places.references([record.get("input"), record.get("dynamic_input")]):
            # a part of a folder has a path of its own, but the record of the whole
            for name in {str(reference["path"]), str(reference.get("metadata_path"))}:
                made_from.setdefault(name, []).append((address, record))
    found: dict[str, Output] = {}
    waiting = [name for target in targets for name in (target.location.uri, target.location.record_uri)]
    while waiting:
        for address, record in made_from.get(waiting.pop(), ()):
            path = record["output"]["path"]
            if path not in found:
                found[path] = _recorded(address, record)
                waiting += [path, address]
    return [*reversed(found.values()), *(output for output in own if output.path not in found)]


def clear_class(cls: Any) -> list[Any]:
    """Remove the outputs of a class in the store, and those that its tasks in this process name."""
    living = [thing for thing in gc.get_referrers(cls) if type(thing) is cls]
    found = {output.path: output for output in outputs_of(living) if output.present}
    home = f"{store().rstrip('/')}/{cls.get_task_family()}"
    for address, record in _records({f"{home}/" if places.is_s3(home) else home}):
        found.setdefault(record["output"]["path"], _recorded(address, record))
    for output in found.values():
        output.remove()
    return [output.place for output in found.values()]


def store() -> str:
    """The default home of outputs that is in force: an absolute folder or an `s3://` address."""
    named = str(runs.current().store or config.get("store"))
    return named if "://" in named else str(Path(named).expanduser().absolute())


def _output(target: Any, family: str) -> Output:
    present = bool(target.exists())
    location: Location | None = getattr(target, "location", None)
    described = (location.describe() or {}) if location is not None and present else {}
    path = location.uri if location is not None else str(getattr(target, "path", target))
    return Output(path, family, present, 0 if not present else described.get("size"), target)


def _recorded(address: str, record: Record) -> Output:
    output = record["output"]
    location = places.location_of(address)
    return Output(output["path"], str(record.get("task_family")), location.exists(), output.get("size"), location)


def _records(where: set[str]) -> Iterator[tuple[str, Record]]:
    """Addresses of records with what they say, each once; some of the folders and prefixes may not be there."""
    seen: set[str] = set()
    for place in sorted(where):
        try:
            for address in listing.record_addresses(place):
                record = listing.read_record_file(address) if address not in seen else None
                seen.add(address)
                if record is not None and (record.get("output") or {}).get("path"):
                    yield address, record
        except TargetMissingError:
            continue


def _folder_of(target: AtomicTarget) -> str:
    uri = target.location.uri.rstrip("/")
    return f"{uri.rpartition('/')[0]}/" if places.is_s3(uri) else os.path.dirname(uri)

"""Outputs by task, upstream and downstream of it or of a class; and their removal together with their records."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import luigi

from superluigi import config, graph
from superluigi.errors import USERS_CODE, RecordError, TargetMissingError
from superluigi.lineage.records import listing, resolve
from superluigi.lineage.staleness.rebuild_tasks import task_of
from superluigi.runs import context as runs
from superluigi.setting_texts import at_home
from superluigi.storage.base import Location, Record
from superluigi.storage.local.location import LocalLocation
from superluigi.storage.local_names import local_name
from superluigi.targets.base import AtomicTarget

_log = logging.getLogger(__name__)


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
    source: Any
    #: Why it is left alone; empty if it may be removed.
    kept: str = ""

    def remove(self) -> None:
        """Remove the output with its record.

        Raises:
            RecordError: it is known from a record only, which does not say truly what is beside it.
        """
        if self.kept:
            raise RecordError(f"{self.path} is left alone: {self.kept}.")
        self.source.remove()


def outputs_of(tasks: Iterable[Any]) -> list[Output]:
    """The outputs of tasks, each once; those of external tasks and stand-ins are not ours and not listed."""
    found: dict[str, Output] = {}
    for task in tasks:
        if graph.is_stand_in(task) or isinstance(task, luigi.ExternalTask) or task.run is None:
            continue
        for target in graph.flatten(task.output()):
            if hasattr(target, "remove"):
                found.setdefault(str(target), _output(target, task.get_task_family()))
    return list(found.values())


def upstream_of(task: luigi.Task) -> list[object]:
    """Everything that `task` requires, and the task itself last."""

    def required(node: luigi.Task) -> list[Any]:
        return list(node.deps())

    return [node for node, _ in graph.walk([task], required)]


def places_of_records(task: luigi.Task, where: Iterable[str] = ()) -> set[str]:
    """The store, where the outputs of `task` lie, and the folders and prefixes `where`."""
    return {*where, store(), *map(_folder_of, _targets_of(task))}


def downstream_of(task: luigi.Task, where: Iterable[str] = ()) -> list[Output]:
    """The outputs of `task` and every output that was made from them, as the records say; the last made first.

    Records are looked for in `places_of_records`; only those called `….metadata.json` are found. A record describes
    and does not command: what it names is an output here only where it lies beside its record and is what that says,
    or where the task that it names says so itself.
    """
    own = outputs_of([task])
    targets = _targets_of(task)
    made_from: dict[str, list[tuple[str, Record]]] = {}
    for address, record in _records(places_of_records(task, where)):
        for reference in resolve.references([record.get("input"), record.get("dynamic_input")]):
            # a part of a folder has a path of its own, but the record of the whole
            for name in {str(reference["path"]), str(reference.get("metadata_path"))}:
                made_from.setdefault(name, []).append((address, record))
    found: dict[str, Output] = {}
    waiting = [name for target in targets for name in (target.location.uri, target.location.record_uri)]
    while waiting:
        for address, record in made_from.get(waiting.pop(), ()):
            output = _recorded(address, record)
            if output.path not in found:
                found[output.path] = output
                waiting += [output.path, record["output"]["path"], address]
    return [*reversed(found.values()), *(output for output in own if output.path not in found)]


def clear_class(cls: Any) -> list[Any]:
    """Remove the outputs of a class in the store, and those that its tasks in this process name."""
    living = [thing for thing in gc.get_referrers(cls) if type(thing) is cls]
    found = {output.path: output for output in outputs_of(living) if output.present}
    home = f"{store().rstrip('/')}/{local_name(cls.get_task_family())}"
    for address, record in _records({f"{home}/" if resolve.is_s3(home) else home}):
        if record.get("task_family") == cls.get_task_family():
            output = _recorded(address, record)
            found.setdefault(output.path, output)
    for output in found.values():
        if output.kept:
            _log.warning("%s is left alone: %s.", output.path, output.kept)
    removed = [output.source for output in found.values() if output.present and not output.kept]
    remove_each(removed)
    return removed


def remove_each(targets: Iterable[Any]) -> None:
    """Remove all that can be removed; then the first refusal is raised, others are logged."""
    first: OSError | None = None
    for target in targets:
        try:
            target.remove()
        except OSError as error:
            if first is not None:
                _log.warning("%s", error)
            first = first or error
    if first is not None:
        raise first


def store() -> str:
    """The default home of outputs that is in force: an absolute folder or an `s3://` address."""
    named = str(runs.current().store or config.get("store"))
    return named if "://" in named else str(at_home(named).absolute())


def _output(target: Any, family: str) -> Output:
    present = bool(target.exists())
    location: Location | None = graph.asked(target, "location")
    described = (location.describe() or {}) if location is not None and present else {}
    path = location.uri if location is not None else str(getattr(target, "path", target))
    return Output(path, family, present, 0 if not present else described.get("size"), target)


def _recorded(address: str, record: Record) -> Output:
    """The output that a record describes: what is beside it, or what its task says is its own; and matches it."""
    family, size = str(record.get("task_family")), record["output"].get("size")
    target = _own_target(address, record)
    location = resolve.beside(address) if target is None else target.location
    source = target or location
    if not location.exists():
        recorded = str(record["output"]["path"]).rstrip("/")
        if target is not None or os.path.basename(recorded) == os.path.basename(location.uri.rstrip("/")):
            return Output(location.uri, family, False, size, source)
        kept = f"its record {address} lies elsewhere, and no task that is known here has it"
        return Output(recorded, family, True, size, source, kept)
    linked = target is None and isinstance(location, LocalLocation) and location.path.is_symlink()
    if linked or location.read_record() is None:
        kept = "it is a link" if linked else f"it is not what its record {address} describes"
        return Output(location.uri, family, True, size, source, kept)
    return Output(location.uri, family, True, size, source)


def _own_target(address: str, record: Record) -> AtomicTarget | None:
    """The output of the task that a record names, if that task, made again, has this record for its own."""
    task = task_of(record)
    targets: list[object] = []
    with USERS_CODE:  # the record is then judged by what is beside it
        targets = [] if task is None else graph.flatten(task.output())
    mine = [one for one in targets if isinstance(one, AtomicTarget) and one.location.record_uri == address]
    return mine[0] if mine else None


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


def _targets_of(task: luigi.Task) -> list[AtomicTarget]:
    return [target for target in graph.flatten(task.output()) if isinstance(target, AtomicTarget)]


def _folder_of(target: AtomicTarget) -> str:
    uri = target.location.uri.rstrip("/")
    return f"{uri.rpartition('/')[0]}/" if resolve.is_s3(uri) else os.path.dirname(uri)

"""What staleness is judged by, looked up for a task: its records, and its inputs and code as they are now."""

from __future__ import annotations

import os
from collections.abc import Container, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from superluigi import graph
from superluigi.errors import DefinitionError, SuperLuigiError, TargetError, TargetKindError, message_of
from superluigi.lineage.code_fingerprint.code import code_identity, code_parts
from superluigi.lineage.code_fingerprint.environment import packages
from superluigi.lineage.records import acceptance, comparing, resolve
from superluigi.lineage.records.record_io import validate
from superluigi.lineage.staleness.reasons import Facts
from superluigi.runs.completeness import is_plain_wrapper
from superluigi.storage.base import Location, Record, maker_in

THREADS = 32


def public_params(task: Any, *, only_significant: bool = False) -> dict[str, object]:
    """Parameters as a record shows them: JSON values where they are such, else text; private ones never."""
    shown: dict[str, object] = {}
    for name, parameter in task.get_params():
        if parameter.visibility == ParameterVisibility.PRIVATE or (only_significant and not parameter.significant):
            continue
        value = task.param_kwargs[name]
        plain = isinstance(value, (bool, int, float, str, type(None)))
        shown[name] = value if plain else parameter.serialize(value)
    beside = graph.written(task, "texts_beside_parameters")  # a seed, for instance
    if beside is not None:
        shown.update(beside())
    return shown


def keeps_records(task: luigi.Task) -> bool:
    """Whether this kind of task puts a record beside its outputs."""
    return "metadata" in graph.written(task, "run_names", ())


def refuse_others(task: luigi.Task, targets: Iterable[object]) -> None:
    """See that what a task that keeps records returns can have some.

    Raises:
        DefinitionError: names the one that cannot.
    """
    for target in targets:
        if not hasattr(target, "location"):
            raise DefinitionError(
                f"{task}: its output {address_of(target)} is a {type(target).__name__}, which has no record. Return a "
                "target of superluigi.targets, or derive from superluigi.tasks.Task, which may have any target."
            )


def _says_complete(task: luigi.Task) -> bool:
    """What the `complete` of a task without outputs says; Luigi's own says no, with a warning."""
    own = type(task).complete.__module__ not in ("luigi.task", "superluigi.tasks.base")
    return own and bool(task.complete())


class StalenessInputs:
    """Looks things up, each place once; one per plan or question, since places change."""

    def __init__(self) -> None:
        self._now: dict[str, Record | None] = {}
        self._outputs: dict[Hashable, list[object]] = {}

    def many(self, tasks: Iterable[luigi.Task]) -> dict[Hashable, Facts]:
        """Facts of many tasks, by their `graph.key`; those on S3 at the same time."""
        tasks = list(tasks)
        far = [task for task in tasks if any(resolve.is_s3(address_of(target)) for target in self.targets(task))]
        found: dict[Hashable, Facts] = {}
        if len(far) > 1:
            with ThreadPoolExecutor(min(THREADS, len(far)), "superluigi-facts") as pool:
                futures = [pool.submit(copy_context().run, self.of, task) for task in far]
                found.update((graph.key(task), future.result()) for task, future in zip(far, futures, strict=True))
        return {graph.key(task): found.get(graph.key(task)) or self.of(task) for task in tasks}

    def targets(self, task: luigi.Task) -> list[Any]:
        """The outputs of a task, flat."""
        name = graph.key(task)
        if name not in self._outputs:
            self._outputs[name] = graph.flatten(task.output())
        return self._outputs[name]

    def of(self, task: luigi.Task) -> Facts:
        """Facts of one task, as cheaply as they can be had: nothing is read for a task without outputs."""
        targets = self.targets(task)
        missing = tuple(address_of(target) for target in targets if not _exists(target, task))
        if missing or (not targets and not is_plain_wrapper(task) and not _says_complete(task)):
            return Facts(missing=missing or ("it has no output",))
        if graph.is_external(task) or not keeps_records(task):
            return Facts()
        refuse_others(task, targets)
        records = {address_of(target): target.read_metadata() for target in targets}
        records = {address: record and validate(record) for address, record in records.items()}
        unrecorded = tuple(address for address, record in records.items() if record is None)
        if unrecorded:
            return Facts(unrecorded=unrecorded)
        if len({maker_in(record) for record in records.values()} - {None}) > 1:  # as the task's own completeness has it
            return Facts(missing=(f"{', '.join(records)} come from different runs",))
        return self._compared(task, next(iter(records.values())))

    def _compared(self, task: luigi.Task, record: Record) -> Facts:
        required = {address_of(target): target for target in graph.flatten(task.input())}
        moved = resolve.Moved(str((record.get("output") or {}).get("path")), address_of(self.targets(task)[0]))
        recorded = {_now(one["path"], moved, required): one for one in resolve.references(record.get("input"))}
        dynamic = {one["path"]: one for one in resolve.references(record.get("dynamic_input"))}
        accepted = acceptance.accepted_inputs(record)
        accepted = accepted and {_now(path, moved, required): one for path, one in accepted.items()}
        noted = record.get("start_time")
        like = getattr(self.targets(task)[0], "location", None)
        everything = {**recorded, **dynamic}
        return Facts(
            record=record,
            params=public_params(task, only_significant=True),
            recorded_inputs=everything,
            accepted_inputs=accepted,
            inputs={
                address: self._there(address, reference, required.get(address), noted, like)
                for address, reference in {**(accepted or {}), **everything}.items()
            },
            required=frozenset(required),
            dynamic=frozenset(dynamic),
            code=_code(task),
            packages=packages(task),
        )

    def _there(
        self, address: str, reference: Mapping[str, object], target: object, noted: str | None, like: Location | None
    ) -> Record | None:
        """What is at an address now. A reference to data without a record carries its time, and is asked anew
        for each of its readers: they may have seen different content."""
        if address not in self._now or reference.get("mtime_ns") is not None:
            self._now[address] = self._look(reference, target, noted, like)
        return self._now[address]

    def _look(
        self, reference: Mapping[str, Any], target: Any, noted: str | None, like: Location | None
    ) -> Record | None:
        location = graph.asked(target, "location")
        if not isinstance(location, Location):
            if target is not None and not isinstance(target, luigi.LocalTarget):
                return dict(reference) if target.exists() else None  # no more can be told of such targets
            link = reference.get("metadata_path")
            location = resolve.location_at(reference["path"], reference.get("type"), link, like)
        try:
            return comparing.current(location, reference, noted)
        except TargetKindError:
            return {"type": "another kind"}


def _now(path: str, moved: resolve.Moved, required: Container[str]) -> str:
    """Where an input lies that was at `path`: it may have moved together with the output."""
    there = path if path in required else moved(path)
    return there if there in required else path


def _code(task: luigi.Task) -> dict[str, object]:
    known = code_identity(task)
    return {"digest": known["digest"], "parts": code_parts(task), "checks": known.get("checks")}


def _exists(target: luigi.Target, task: luigi.Task) -> bool:
    """Whether it does; where a target of others cannot tell, whose it is and what it is are told with its words."""
    try:
        return bool(target.exists())
    except SuperLuigiError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {message_of(error)}"
        raise TargetError(f"{task}: whether its output {address_of(target)} exists cannot be told: {words}") from error


def address_of(target: object) -> str:
    """What records call a target."""
    location = graph.asked(target, "location")
    if isinstance(location, Location):
        return location.uri
    path = graph.asked(target, "path")
    if path is None:
        return str(target)
    return str(Path(os.path.expanduser(path)).absolute()) if isinstance(target, luigi.LocalTarget) else str(path)

"""`accept` an output for code or inputs that have changed without need to make it again; `adopt` one without a record.

Nothing runs and no data is touched: a record gets a successor that says what was accepted, by whom, when and why. It
takes its place only if record and data are still those that were looked at.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.errors import NotAcceptableError, OptionError, TargetMissingError
from superluigi.jsonable import jsonable
from superluigi.lineage.code_fingerprint.code import code_identity
from superluigi.lineage.code_fingerprint.environment import packages
from superluigi.lineage.records import acceptance, builder, comparing, resolve
from superluigi.lineage.staleness import reasons, rebuild_tasks
from superluigi.lineage.staleness.facts import StalenessInputs, address_of, keeps_records, public_params, refuse_others
from superluigi.runs.completeness import is_plain_wrapper
from superluigi.runs.context import new_run_id
from superluigi.storage import owner_token
from superluigi.storage.base import Location, Record


@dataclass(frozen=True)
class Acceptance:
    """One task whose outputs are to get another record."""

    task: luigi.Task
    #: What has changed since it was made, or that it has no record, in words.
    detail: str
    #: Where, the record to be, and what must be there for it: in the order of the outputs.
    successors: list[tuple[Location, Record, Record]] = field(repr=False)

    def write(self) -> None:
        """Put the records in place.

        Raises:
            CommitConflictError: a record or its data has changed since it was looked at.
        """
        for location, record, expected in reversed(self.successors):  # the first one's is the one that is asked
            location.write_record(record, expected)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return {
            "task_id": self.task.task_id,
            "detail": self.detail,
            "paths": [location.uri for location, _, _ in self.successors],
        }

    def __str__(self) -> str:
        return f"{self.task}: {self.detail}"


@guarded
def accept(
    task: luigi.Task, *, why: str, code: bool = False, inputs: bool = False, upstream: bool = False
) -> list[Acceptance]:
    """Take what is there as good for the code (`code`) and the inputs (`inputs`) of now; both, if neither is named.

    With `upstream`, what the task requires as well. Gives what was accepted: nothing that was up to date.

    Raises:
        OptionError: no reason is given.
        NotAcceptableError: a parameter has changed, an input is gone, or there is no record.
        CommitConflictError: another process makes or replaces it meanwhile.
    """
    found = acceptances(task, why=why, code=code, inputs=inputs, upstream=upstream)
    for one in found:
        one.write()
    return found


def acceptances(
    task: luigi.Task, *, why: str, code: bool = False, inputs: bool = False, upstream: bool = False
) -> list[Acceptance]:
    """What `accept` would do; nothing is changed.

    Raises:
        OptionError, NotAcceptableError: as `accept`.
    """
    entry = _entry(why)
    both = code == inputs
    looked = StalenessInputs()
    order = [one for one, _ in graph.walk([task], rebuild_tasks.requirements)] if upstream else [task]
    found = []
    for one in order:
        if graph.is_external(one) or is_plain_wrapper(one) or (one is not task and not keeps_records(one)):
            continue
        facts = looked.of(one)
        record = facts.record
        known = reasons.reasons(facts)
        hopeless = [reason for reason in known if reason.word in (reasons.OUTPUT_MISSING, reasons.PARAMETER_CHANGED)]
        hopeless += [reason for reason in known if reason.word == reasons.RECORD_MISSING]
        gone = [address for address, now in facts.inputs.items() if now is None]
        if hopeless or record is None or (gone and (inputs or both)):
            why_not = (
                str(hopeless[0]) if hopeless else f"its input {gone[0]} is missing" if gone else "it has no record"
            )
            advice = " `superluigi adopt` gives it one." if "record" in why_not and keeps_records(one) else ""
            raise NotAcceptableError(f"{one} cannot be accepted: {why_not}.{advice}")
        new: dict[str, object] = {}
        words = {reason.word for reason in known}
        if (code or both) and words & {reasons.CODE_CHANGED, reasons.PACKAGE_CHANGED}:
            new |= {"code": jsonable(dict(code_identity(one))), "packages": dict(packages(one))}
        if (inputs or both) and reasons.INPUT_CHANGED in words:
            new["inputs"] = _references(one, facts.required or frozenset(), facts.dynamic)
        if new:
            covered = {reasons.INPUT_CHANGED: "inputs", reasons.CODE_CHANGED: "code", reasons.PACKAGE_CHANGED: "code"}
            detail = "; ".join(str(reason) for reason in known if covered.get(reason.word) in new)
            found.append(Acceptance(one, detail, _successors(one, {**entry, **new})))
    return found


@guarded
def adopt(task: luigi.Task, *, why: str = "it was there before") -> Acceptance:
    """Give the outputs of `task` that have no record (made by others, by hand) one that says so, and what for.

    What is not known is not in it: when and how long it ran, by which code, from what. It counts as made by this task
    from the code and inputs of now, so that `refresh` makes it again when those change.

    Raises:
        TargetMissingError: an output is not there.
        DefinitionError: one can have no record.
        NotAcceptableError: each has a record, or the task keeps none.
        CommitConflictError: another process makes or replaces it meanwhile.
    """
    found = adoption(task, why=why)
    found.write()
    return found


def adoption(task: luigi.Task, *, why: str = "it was there before") -> Acceptance:
    """What `adopt` would do; nothing is changed.

    Raises:
        TargetMissingError, NotAcceptableError: as `adopt`.
    """
    targets = graph.flatten(task.output())
    if graph.is_external(task) or not keeps_records(task) or not targets:
        raise NotAcceptableError(f"{task} keeps no record of its outputs, so there is nothing to adopt.")
    refuse_others(task, targets)
    entry = _entry(why)
    code, used = jsonable(dict(code_identity(task))), dict(packages(task))
    required = frozenset(address_of(target) for target in graph.flatten(task.input()))
    record: Record = {
        "task_family": task.get_task_family(),
        "task_id": task.task_id,
        "task_hash": graph.written(task, "task_hash"),
        "params": jsonable(public_params(task)),
        "run": {
            "id": new_run_id(),
            "reason": "adopted",
            "adopted": True,
            "accepted": [{**entry, "code": code, "packages": used, "inputs": _references(task, required, frozenset())}],
        },
        "code": {},
        "environment": {},
        "input": [],
    }
    successors = []
    for location in [target.location for target in targets]:
        where = location.uri
        if not location.has_data():
            raise TargetMissingError(f"{where} is not there, so {task} cannot be adopted. Check the path, or run it.")
        if location.read_record() is not None:
            continue  # of several outputs some may have lost theirs
        external, location.external = location.external, True  # what is there counts, of whatever origin
        try:
            seen = location.describe() or {}
        finally:
            location.external = external
        successors.append((location, record, {"output": seen}))
    if not successors:
        raise NotAcceptableError(f"{where} has a record: there is nothing to adopt. `superluigi accept` adds to it.")
    return Acceptance(task, "has no record", successors)


def _entry(why: str) -> dict[str, object]:
    if not why.strip():
        raise OptionError("Say why: the record keeps it for those who come later.")
    try:
        by = getpass.getuser()
    except (KeyError, OSError):
        by = "unknown"
    return {"by": by, "host": owner_token.host(), "time": builder.iso(builder.utc_now()), "why": why.strip()}


def _successors(task: luigi.Task, entry: Mapping[str, object]) -> list[tuple[Location, Record, Record]]:
    successors = []
    for target in graph.flatten(task.output()):
        record = target.read_metadata() or {}
        known = acceptance.entries(record)
        run = {**(record.get("run") or {}), "accepted": [*known, dict(entry)]}
        successors.append((target.location, {**record, "run": run}, record))
    return successors


def _references(task: luigi.Task, required: frozenset[str], dynamic: frozenset[str]) -> list[Record]:
    """How a record would refer to what the task reads now."""
    locations = {address_of(target): graph.asked(target, "location") for target in graph.flatten(task.input())}
    found = []
    for address in sorted(required | dynamic):
        location = locations.get(address) or resolve.location_of(address)
        made = location.read_record_summary()
        if made is not None:
            found.append(dict(builder.reference(made["output"], made, location.record_uri)))
        else:
            now = comparing.current(location, {}) or {"type": "unknown", "path": address}
            found.append(dict(builder.reference(now, None, None)))
    return found

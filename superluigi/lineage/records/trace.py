"""From an output back to its sources, along the links in the records: each ancestor once, from files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from superluigi.arguments import guarded
from superluigi.errors import SuperLuigiError
from superluigi.lineage.records import acceptance, comparing, resolve
from superluigi.lineage.records.reading import missing_record_error
from superluigi.lineage.records.record_io import validate
from superluigi.lineage.records.resolve import Place
from superluigi.storage.base import Location, Record
from superluigi.targets.addresses import hint_for_path

#: Requests under way at once when ancestors lie on S3.
CONCURRENT_READS = 32

OK = "ok"
CHANGED = "changed"
MISSING = "missing"
EXTERNAL = "external"
UNREADABLE = "unreadable"


@dataclass
class Trace:
    """An output with all its ancestors."""

    #: Address of the output that was asked about.
    root: str
    #: Address -> record; an ancestor without a record has the reference that its consumer recorded.
    nodes: dict[str, Record] = field(default_factory=dict)
    #: Address -> addresses of what it was made of, in the recorded order.
    inputs: dict[str, list[str]] = field(default_factory=dict)
    #: Address -> `ok`, `changed` (not what its consumer read), `missing`, `external` (never had a record)
    #: or `unreadable`.
    states: dict[str, str] = field(default_factory=dict)
    #: Address -> why the state is not `ok`, in words.
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def edges(self) -> list[tuple[str, str]]:
        """`(from, to)` pairs: from what was made to what it was made of."""
        return [(output, source) for output, sources in self.inputs.items() for source in sources]

    def as_json(self) -> dict[str, Any]:
        """`{"root", "nodes": {path: record}, "edges": [[from, to], …], "states", "notes"}`."""
        return {
            "root": self.root,
            "nodes": self.nodes,
            "edges": [list(edge) for edge in self.edges],
            "states": self.states,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Step:
    """One ancestor to look at: where it should be now, and how its consumer mentions it."""

    consumer: str
    path: str
    reference: Mapping[str, Any]
    noted: str | None
    moved: resolve.Moved
    #: The output that was asked about: how to reach its store.
    like: Location
    #: How it is mentioned by what its consumer was accepted for later.
    accepted: Mapping[str, object] | None = None


@dataclass(frozen=True)
class _Seen:
    """One ancestor as it is now; `now` is None when it is missing or unreadable."""

    path: str
    record: Record | None
    now: Record | None
    moved: resolve.Moved
    error: str = ""


@guarded(hint=hint_for_path)
def trace(place: Place) -> Trace:
    """The history of an output (a path, an `s3://` address or a target), read from its records.

    Each ancestor is read once. Records are followed by their links, also when a whole tree of outputs was
    copied elsewhere: links are then read relative to where the asked output was found.

    Raises:
        TargetMissingError: there is no such output.
        RecordError: its record is unreadable; unreadable ancestors are shown as such instead.
    """
    location = resolve.location_of(place)
    record = _record_of(location)
    if record is None and not location.exists():
        raise missing_record_error(location.uri)
    now = record["output"] if record else location.describe() or {}
    walk = _Walk(_Seen(location.uri, record, now, _moved(record, location.uri)), location)
    with ThreadPoolExecutor(CONCURRENT_READS, thread_name_prefix="superluigi-lineage") as pool:
        while walk.waiting:
            walk.read_level(pool)
    return walk.found


class _Walk:
    def __init__(self, root: _Seen, location: Location) -> None:
        self.location = location
        self.found = Trace(root.path, nodes={root.path: root.record or dict(root.now or {})})
        self.found.states[root.path] = OK if root.record else EXTERNAL
        if root.record and (told := acceptance.told(root.record)):
            self.found.notes[root.path] = told
        self.seen = {root.path: root}
        self.linked: set[tuple[str, str]] = set()
        self.waiting = list(_inputs_of(root, location))

    def read_level(self, pool: ThreadPoolExecutor) -> None:
        """Read every ancestor of this depth that is new, those on S3 at once; then judge it for each consumer."""
        steps, self.waiting = self.waiting, []
        fresh = {step.path: step for step in steps if step.path not in self.seen}
        far = [step for step in fresh.values() if resolve.is_s3(step.path)]
        near = [step for step in fresh.values() if not resolve.is_s3(step.path)]
        for step, seen in zip([*far, *near], [*pool.map(_look, far), *map(_look, near)], strict=True):
            try:
                self.waiting.extend(list(_inputs_of(seen, self.location)))
            except SuperLuigiError as error:  # the list of them is gone
                seen = replace(seen, error=f"{type(error).__name__}: {error}")
            self.seen[step.path] = seen
            self.found.nodes[step.path] = seen.record or dict(step.reference)
        for step in steps:
            self._judge(step, self.seen[step.path])

    def _judge(self, step: _Step, seen: _Seen) -> None:
        sources = self.found.inputs.setdefault(step.consumer, [])
        if (step.consumer, step.path) not in self.linked:
            self.linked.add((step.consumer, step.path))
            sources.append(step.path)
        state, note = _state(step, seen)
        if state == OK and not note and seen.record is not None:
            note = acceptance.told(seen.record)
        if self.found.states.get(step.path, OK) in (OK, EXTERNAL):  # one unhappy consumer is enough
            self.found.states[step.path] = state
            if note:
                self.found.notes[step.path] = note


def _state(step: _Step, seen: _Seen) -> tuple[str, str]:
    if seen.error:
        return UNREADABLE, seen.error
    if seen.now is None:
        return MISSING, "there is nothing at this address any more"
    accepted = step.accepted
    if comparing.differs(step.reference, seen.now) and (accepted is None or comparing.differs(accepted, seen.now)):
        return CHANGED, _what_changed(step.reference, seen.record)
    return (OK, "") if seen.record else (EXTERNAL, "")


def _inputs_of(seen: _Seen, like: Location) -> Iterator[_Step]:
    if seen.record is None:
        return
    noted = seen.record.get("start_time")
    accepted = acceptance.accepted_inputs(seen.record) or {}
    for key in ("input", "dynamic_input"):
        for reference in resolve.references(seen.record.get(key)):
            yield _Step(
                seen.path,
                seen.moved(reference["path"]),
                reference,
                noted,
                seen.moved,
                like,
                accepted.get(reference["path"]),
            )


def _look(step: _Step) -> _Seen:
    try:
        record, now = _read(step.path, step, step.moved)
        if now is None and step.path != step.reference["path"]:  # it was not moved along: look where it was made
            record, now = _read(step.reference["path"], step, None)
    except (SuperLuigiError, OSError) as error:
        return _Seen(step.path, None, None, step.moved, f"{type(error).__name__}: {error}")
    return _Seen(step.path, record, now, _moved(record, step.path) if record else step.moved)


def _read(path: str, step: _Step, moved: resolve.Moved | None) -> tuple[Record | None, Record | None]:
    """The record of an ancestor, if it has one, and what is there now, if anything is."""
    record_path = step.reference.get("metadata_path")
    if record_path and moved:
        record_path = moved(record_path)
    location = resolve.location_at(path, str(step.reference["type"]), record_path, step.like)
    if record_path:  # a reference without a link was to data that others made
        record = _record_of(location)
        if record is not None:
            return record, record["output"]
    return None, comparing.current(location, step.reference, step.noted)


def _record_of(location: Location) -> Record | None:
    record = validate(location.read_record() or {})
    return record if "output" in record else None


def _moved(record: Record | None, found: str) -> resolve.Moved:
    recorded = ((record or {}).get("output") or {}).get("path")
    return resolve.Moved(str(recorded or found), found)


def _what_changed(reference: Mapping[str, object], record: Record | None) -> str:
    before, after = reference.get("run"), ((record or {}).get("run") or {}).get("id")
    if record is None and before:
        return f"replaced by data without a record since run {before} made it"
    if before and after and before != after:
        return f"made again by run {after}, after its consumer had read what run {before} made"
    return "other bytes than its consumer read"

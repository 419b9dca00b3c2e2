"""Data of others among outputs: what these were made of is known by their records, and compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from superluigi.errors import SuperLuigiError
from superluigi.lineage.records import acceptance, comparing, listing, resolve
from superluigi.lineage.verification.findings import CHANGED, EXTERNAL, WITHOUT_RECORD, VerifyResult
from superluigi.storage.base import RECORD_SUFFIX
from superluigi.storage.objects.store import in_threads


@dataclass(frozen=True)
class _Reading:
    """What an output's record says of data of others."""

    path: str
    reference: Mapping[str, object]
    accepted: Mapping[str, object] | None
    family: object
    noted: str | None


def with_external(place: str, found: list[VerifyResult]) -> list[VerifyResult]:
    """The findings; data without a record that an output below `place` has read is `external`, or `changed`."""
    if all(one.state != WITHOUT_RECORD for one in found):
        return found
    read: dict[str, list[_Reading]] = {}
    for readings in in_threads(_readings, listing.record_addresses(place), listing.CONCURRENT_READS):
        for reading in readings:
            read.setdefault(reading.path, []).append(reading)
    states: dict[str, tuple[str, str]] = {}
    return [_classified(one, read, states) if one.state == WITHOUT_RECORD else one for one in found]


def _classified(one: VerifyResult, read: dict[str, list[_Reading]], states: dict[str, tuple[str, str]]) -> VerifyResult:
    """The finding by the records of the outputs that read it, or a folder or prefix around it."""
    around = one.path
    while around and around not in read:
        around = around.rpartition("/")[0]
    if not around:
        return one
    if around not in states:
        states[around] = _state(read[around])
    state, detail = states[around]
    return replace(one, state=state, detail=detail)


def _state(read: list[_Reading]) -> tuple[str, str]:
    for one in read:
        location = resolve.location_at(one.path, str(one.reference["type"]), None)
        try:
            now = comparing.current(location, one.reference, one.noted)
        except (SuperLuigiError, OSError) as error:
            return CHANGED, str(error)
        known = [one.reference] if one.accepted is None else [one.reference, one.accepted]
        if now is None or all(comparing.differs(before, now) for before in known):
            return CHANGED, f"not what {one.family} has read"
    return EXTERNAL, f"made by others; {read[0].family} has read it"


def _readings(address: str) -> list[_Reading]:
    """What one output has read of others: under the address of its record, and under that of today if it was moved."""
    try:
        record = listing.read_record_file(address) or {}
        references = [one for key in ("input", "dynamic_input") for one in resolve.references(record.get(key))]
    except SuperLuigiError:  # which `verify` tells
        return []
    recorded, beside = str((record.get("output") or {}).get("path")), address.removesuffix(RECORD_SUFFIX)
    same = PurePosixPath(recorded).name == PurePosixPath(beside).name  # else the record lies elsewhere
    moved = resolve.Moved(recorded, beside if same else recorded)
    accepted = acceptance.accepted_inputs(record) or {}
    found = []
    for reference in references:
        if not reference.get("metadata_path"):
            path = str(reference["path"]).rstrip("/")
            facts = (dict(reference), accepted.get(reference["path"]), record.get("task_family"))
            found += [_Reading(one, *facts, record.get("start_time")) for one in {path, moved(path)}]
    return found

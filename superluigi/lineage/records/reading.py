"""Records as they lie in the store; JSON only, nothing is ever unpickled here."""

from __future__ import annotations

from collections.abc import Iterator

from superluigi.arguments import guarded
from superluigi.errors import TargetMissingError
from superluigi.lineage.records import resolve
from superluigi.lineage.records.resolve import Place
from superluigi.storage.base import Record
from superluigi.targets.addresses import hint_for_path


@guarded(hint=hint_for_path)
def read(place: Place) -> Record | None:
    """The record of an output (a path, an `s3://` address, a target, or the record's own address).

    None for data that has no record of its own: made by others, or replaced since.

    Raises:
        TargetMissingError: there is no such output.
        RecordError: the record is there and unreadable.
    """
    location = resolve.location_of(place)
    record = location.read_record()
    if record is None and not location.exists():
        raise missing_record_error(location.uri)
    return record


@guarded(hint=hint_for_path)
def inputs(place: Place) -> Iterator[Record]:
    """What the record of an output says of its inputs, one by one, however many and wherever their list is kept.

    Each has `type`, `path`, what tells the bytes that were read, and the link to its own record. None for data that
    has no record.

    Raises:
        TargetMissingError: there is no such output.
        RecordError: the record, or its list of inputs, is unreadable.
    """
    record = read(place) or {}
    return (dict(one) for one in resolve.references([record.get("input"), record.get("dynamic_input")]))


def missing_record_error(uri: str) -> TargetMissingError:
    """The error for an address where nothing is."""
    return TargetMissingError(f"There is no output at {uri}. Check the path, or run the task that makes it.")

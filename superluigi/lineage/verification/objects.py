"""The part of `verify` that reads S3: every object is streamed and hashed, nothing is kept or repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from superluigi.errors import RecordError, TargetKindError, TargetMissingError
from superluigi.lineage.records import listing, resolve
from superluigi.lineage.records.reading import missing_record_error
from superluigi.lineage.verification.findings import (
    CHANGED,
    HALF_COMMITTED,
    MISSING,
    OK,
    WITHOUT_RECORD,
    Check,
    VerifyResult,
)
from superluigi.storage import first_records, input_lists
from superluigi.storage.base import RECORD_SUFFIX, Location, Record
from superluigi.storage.objects import intent_log, leases
from superluigi.storage.objects.object import ObjectLocation
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.prefix.prefix_location import PrefixLocation
from superluigi.storage.objects.prefix.prefix_steps import CLAIM
from superluigi.storage.objects.record import describes
from superluigi.storage.objects.store import in_threads

_CHUNK = 1 << 20
_AT_ONCE = 8
_STRANGE = "made by others, or by a task that keeps no record"


def checks(text: str) -> Iterator[Check]:
    """The checks of one output, or of all below a prefix or in a bucket."""
    if resolve.split_s3(text)[1]:
        location = resolve.location_of(text)
        if _is_output(location):
            yield lambda: [one(location)]
            return
    found = list(_below(text if text.endswith("/") else f"{text}/"))
    if not found:
        raise missing_record_error(text)
    yield from found


def _is_output(location: Location) -> bool:
    if isinstance(location, ObjectLocation) and location.head() is not None:
        return True
    return isinstance(location, (ObjectLocation, PrefixLocation)) and bool(_records(location)[0])


def one(location: Location) -> VerifyResult:
    """One object or prefix compared with its record."""
    try:
        if isinstance(location, PrefixLocation):
            return _prefix(location)
        if isinstance(location, ObjectLocation):
            return _object(location)
    except (RecordError, TargetKindError) as error:
        return VerifyResult(location.uri, CHANGED, str(error))
    record, there = location.read_record(), location.describe()  # a location of a kind that others made
    if there is None:
        raise missing_record_error(location.uri)
    return VerifyResult(location.uri, OK if record else WITHOUT_RECORD, "" if record else _STRANGE)


def _records(location: ObjectLocation | PrefixLocation) -> tuple[list[Record], str | None]:
    return location.register.read()


def _object(location: ObjectLocation) -> VerifyResult:
    uri, there, (records, _) = location.uri, location.head(), _records(location)
    if there is None:
        if not records:
            raise missing_record_error(uri)
        return VerifyResult(uri, MISSING, f"its record {location.record_uri} is there, the data is not")
    if not records:
        return VerifyResult(uri, WITHOUT_RECORD, _STRANGE)
    if first_records.is_foreign(records[0]):
        return _of_others(location, records[0])
    found = next((record for record in records if describes(record, there)), None)
    if found is None:
        return VerifyResult(uri, CHANGED, "replaced by another writer since its record was written")
    expected = (found["output"].get("digest") or {}).get("sha256")
    place = location.place
    if expected and _sha256(location, place.key, place.get_options) != expected:
        return VerifyResult(uri, CHANGED, "same size, other content")
    if records[0] is not found:
        return VerifyResult(uri, HALF_COMMITTED, "a writer died before it settled the record; reading it repairs it")
    return VerifyResult(uri, OK)


def _of_others(location: ObjectLocation | PrefixLocation, record: Record) -> VerifyResult:
    """What lies beside a record that is not of our making, perhaps of the first package's."""
    if not first_records.is_first(record):
        return VerifyResult(location.uri, WITHOUT_RECORD, _STRANGE)
    if location.read_record() is None:
        return VerifyResult(location.uri, CHANGED, "not what its ETags say")
    return VerifyResult(location.uri, OK)


def _prefix(location: PrefixLocation) -> VerifyResult:
    uri, place, (records, _) = location.uri, location.place, _records(location)
    there = {item.key: item for item in _listed(location)}
    claim = location.s3.head(place.record_bucket, location.where.claim_key, {})
    if not records:
        if claim is not None:
            return VerifyResult(
                uri, HALF_COMMITTED, "a commit is under way, or died; running its task again repairs it"
            )
        if there:
            return VerifyResult(uri, WITHOUT_RECORD, _STRANGE)
        raise missing_record_error(uri)
    if first_records.is_foreign(records[0]):
        return _of_others(location, records[0])
    named = manifest.read(location.s3, place.record_bucket, place.record_key, records[0]["output"], {})
    if named is None:
        return VerifyResult(uri, CHANGED, "the list of its contents is gone")
    if named and not there:
        return VerifyResult(uri, MISSING, f"its record {location.record_uri} is there, the data is not")
    wrong = [*_differences(named, there), *_damaged(location, [item for item in named if item.key in there])]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        state = HALF_COMMITTED if claim is not None else CHANGED
        return VerifyResult(uri, state, ", ".join(dict.fromkeys(wrong[:5])) + more)
    if claim is not None:
        return VerifyResult(uri, HALF_COMMITTED, "a later commit is under way, or died before it replaced anything")
    return VerifyResult(uri, OK)


def _listed(location: PrefixLocation) -> Iterator[Manifest]:
    place = location.place
    for item in location.s3.list(place.bucket, place.key, place.get_options):
        if location.where.is_content(item.key) and not (item.key.endswith("/") and item.size == 0):
            yield Manifest(item.key, item.size, item.etag)


def _differences(named: Iterable[Manifest], there: dict[str, Manifest]) -> Iterator[str]:
    known = {item.key: item for item in named}
    yield from (f"{key} is gone" for key in known if key not in there)
    yield from (f"{key} is new" for key in there if key not in known)
    for key, item in known.items():
        if key in there and item.etag and item.etag != there[key].etag:
            yield f"{key} has other content"


def _damaged(location: PrefixLocation, named: list[Manifest]) -> list[str]:
    def look(item: Manifest) -> str | None:
        intact = _sha256(location, item.key, location.place.get_options) == item.sha256
        return None if intact else f"{item.key} has other content"

    known = [item for item in named if item.sha256]
    return sorted(word for word in in_threads(look, known, _AT_ONCE) if word)


def _sha256(location: ObjectLocation | PrefixLocation, key: str, options: Any) -> str:
    """SHA-256 of an object, read in pieces; an empty text when it is gone by now."""
    digest = hashlib.sha256()
    try:
        for block in location.s3.read(location.place.bucket, key, options):
            digest.update(block)
    except TargetMissingError:
        return ""
    return digest.hexdigest()


def _below(prefix: str) -> Iterator[Check]:
    """Checks of all outputs whose records lie below a prefix, and of the data there that no record covers."""
    bucket, _ = resolve.split_s3(prefix)
    keys = [uri[len(f"s3://{bucket}/") :] for uri in listing.s3_keys(prefix)]
    records = [key for key in keys if key.endswith(RECORD_SUFFIX)]
    claims = [key.removesuffix(CLAIM) for key in keys if key.endswith(RECORD_SUFFIX + CLAIM)]
    covered: set[str] = set()
    prefixes: list[str] = []
    owners = in_threads(lambda key: _owner(bucket, key), dict.fromkeys([*records, *claims]), _AT_ONCE)
    for location in owners:
        if isinstance(location, PrefixLocation):
            prefixes.append(location.place.key)
        elif isinstance(location, ObjectLocation):
            covered.add(location.place.key)
        yield _one(location)
    ours = tuple({*records, *claims})
    for key in keys:
        inside = any(key.startswith(one) for one in prefixes) or key in covered
        if inside or key in ours or _is_bookkeeping(key, ours):
            continue
        yield _stranger(f"s3://{bucket}/{key}")


def _owner(bucket: str, record_key: str) -> Location:
    """The location that a record (or only its claim) in a bucket belongs to."""
    uri = f"s3://{bucket}/{record_key}"
    output = ((listing.read_record_file(uri) or {}).get("output")) or {}
    kind = str(output.get("type") or "S3PrefixTarget")
    beside = uri.removesuffix(RECORD_SUFFIX).rstrip("/") + ("/" if kind == "S3PrefixTarget" else "")
    recorded = str(output.get("path") or beside)
    moved = recorded.rstrip("/").rpartition("/")[2] == beside.rstrip("/").rpartition("/")[2]
    return resolve.location_at(beside if moved else recorded, kind, uri)


def _is_bookkeeping(key: str, records: tuple[str, ...]) -> bool:
    name = key.rpartition("/")[2]
    return (
        intent_log.MARK in key
        or key.endswith((RECORD_SUFFIX + CLAIM, RECORD_SUFFIX + leases.SUFFIX))
        or (manifest.MANIFEST in name and key.startswith(records))
        or input_lists.is_at(key)
    )


def _one(location: Location) -> Check:
    def check() -> list[VerifyResult]:
        try:
            return [one(location)]
        except TargetMissingError:
            return []  # removed while we looked

    return check


def _stranger(uri: str) -> Check:
    return lambda: [VerifyResult(uri, WITHOUT_RECORD, _STRANGE)]

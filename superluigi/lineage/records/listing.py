"""Which records there are below a place, and which data has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from superluigi.errors import RecordError, TargetMissingError
from superluigi.lineage.records import resolve
from superluigi.lineage.records.reading import missing_record_error
from superluigi.lineage.records.record_io import read_json, validate
from superluigi.storage import input_lists
from superluigi.storage.base import RECORD_SUFFIX, SCHEMA, Record, record_in
from superluigi.storage.local import copy
from superluigi.storage.local.stages.staging import is_ours

#: Requests under way at once when records lie on S3.
CONCURRENT_READS = 32


def record_addresses(place: str) -> Iterator[str]:
    """Addresses of all record files below a folder or an `s3://bucket/prefix`, sorted within each folder."""
    if resolve.is_s3(place):
        yield from (uri for uri in s3_keys(place) if uri.endswith(RECORD_SUFFIX))
        return
    root = resolve.path_of(place)
    if not root.exists():
        raise missing_record_error(str(root))
    if not root.is_dir():
        raise TargetMissingError(f"{root} is a file. Name the folder that holds the outputs.")
    for _, entries in copy.walk(root, is_ours, tolerant=True):
        yield from sorted(entry.path for entry in entries if entry.name.endswith(RECORD_SUFFIX) and not entry.is_dir())


def read_record_file(address: str) -> Record | None:
    """The record in a record file; None if it is gone or some other JSON that only looks like one by name.

    Raises:
        RecordError: it is no JSON.
    """
    record = _read_s3(address) if resolve.is_s3(address) else read_json(Path(address))
    return validate(record) if record is not None and record.get("schema") == SCHEMA else None


def s3_keys(place: str) -> Iterator[str]:
    """Addresses of all objects whose address begins with `place`, in the order of the store."""
    from superluigi.storage.objects.s3.options import S3Options
    from superluigi.storage.objects.s3.store import opened

    bucket, prefix = resolve.split_s3(place)
    for item in opened(S3Options()).list(bucket, prefix, {}):
        yield f"s3://{bucket}/{item.key}"


def _read_s3(uri: str) -> Record | None:
    from superluigi.storage.objects.record import Register
    from superluigi.storage.objects.s3.options import S3Options
    from superluigi.storage.objects.s3.store import opened

    bucket, key = resolve.split_s3(uri)
    store = opened(S3Options())
    found = store.get(bucket, key, {})
    if found is None:
        return None
    try:
        value = record_in(found[0])
    except ValueError as error:
        raise RecordError(f"{uri} is not valid JSON ({error}). Restore it, or remove it to have none.") from error
    return input_lists.bound(value, Register(store, bucket, key, {}, {}).lists) if isinstance(value, dict) else None

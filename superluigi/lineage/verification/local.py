"""Re-read outputs against their records: every byte is read, nothing is written or repaired."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from superluigi.arguments import guarded
from superluigi.errors import RecordError, TargetError, TargetKindError
from superluigi.lineage.records import resolve
from superluigi.lineage.records.reading import missing_record_error
from superluigi.lineage.records.record_io import read_json, validate
from superluigi.lineage.records.resolve import Place
from superluigi.lineage.verification import external
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
from superluigi.storage.base import PENDING_SUFFIX, RECORD_SUFFIX, Location, Record
from superluigi.storage.local.folder import FolderLocation
from superluigi.storage.local.location import LocalLocation
from superluigi.storage.local.stages import staging
from superluigi.targets.addresses import hint_for_path

_LIVE_WRITER_S = 2.0


@guarded(hint=hint_for_path)
def verify(place: Place) -> list[VerifyResult]:
    """Compare the bytes of one output, or of all below a folder or prefix, with what their records say.

    A place is a path, an `s3://` address or a target. `missing` is a record whose data is gone;
    `half-committed` is what a dead writer left (reading the output or running its task again repairs it,
    `superluigi clean` removes orphans); `external` is data without a record that an output there has read, and that
    has not changed since. A writer at work is waited for, briefly. Sorted by address.

    Raises:
        TargetMissingError: nothing is there, neither data nor record.
    """
    checks = list(_checks(place))
    with ThreadPoolExecutor(os.cpu_count() or 1, "superluigi-verify") as pool:  # hashing frees the interpreter lock
        found = [one for several in pool.map(lambda check: check(), checks) for one in several]
    if len(found) > 1:
        found = external.with_external(os.fspath(place), found)
    return sorted(found, key=lambda one: one.path)


def _checks(place: Any) -> Iterator[Check]:
    location = getattr(place, "location", None)
    if not isinstance(location, Location):
        text = os.fspath(place)
        if resolve.is_s3(text):
            from superluigi.lineage.verification import objects

            yield from objects.checks(text)
            return
        path = resolve.path_of(text)
        if path.is_dir() and not _is_output(path):
            yield from _below(path)
            return
        location = resolve.location_of(path)
    yield lambda: [_one(location, asked=True)]


def _is_output(folder: Path) -> bool:
    beside = f"{folder}{RECORD_SUFFIX}"  # not `with_name`: "/" has none
    # not those of Path: a name that leaves no room for the suffix has no record
    return any(map(os.path.exists, (beside, f"{folder}/{RECORD_SUFFIX}", f"{beside}{PENDING_SUFFIX}")))


def _below(root: Path) -> Iterator[Check]:
    """Everything below a folder that is no output itself."""
    waiting = [root]  # not by recursion: folders may be thousands deep
    while waiting:
        folder = waiting.pop()
        if folder != root and _is_output(folder):
            yield _check(resolve.location_of(folder))
        else:
            yield from _in(folder, waiting)


def _in(folder: Path, waiting: list[Path]) -> Iterator[Check]:
    """What lies directly in a folder; folders in it that are not known as outputs are left to `waiting`."""
    names = sorted(os.listdir(folder))
    recorded = {
        name.removesuffix(PENDING_SUFFIX).removesuffix(RECORD_SUFFIX)
        for name in names
        if name.removesuffix(PENDING_SUFFIX).endswith(RECORD_SUFFIX)
    }
    for name in sorted(recorded):
        try:
            check = _check(resolve.location_of(folder / (name + RECORD_SUFFIX)))
        except RecordError as error:
            check = _spoilt(folder / (name + RECORD_SUFFIX), error)
        yield check
    for dead in (*staging.sweep(folder, always=True), *staging.dead_staging(folder)):
        yield _orphan(folder, dead)
    for name in names:
        if name in recorded or staging.is_ours(name) or name.removesuffix(PENDING_SUFFIX).endswith(RECORD_SUFFIX):
            continue
        path = folder / name
        if input_lists.is_at(str(path)):
            continue
        if path.is_dir() and not path.is_symlink():
            waiting.append(path)
        else:
            yield _without_record(path)


def _check(location: Location) -> Check:
    return lambda: [_one(location)]


def _spoilt(record: Path, error: RecordError) -> Check:
    return lambda: [VerifyResult(str(record), CHANGED, str(error))]


def _orphan(folder: Path, dead: Path) -> Check:
    detail = f"left unfinished by a process that has died; `superluigi clean {folder}` removes it"
    return lambda: [VerifyResult(str(dead), HALF_COMMITTED, detail)]


def _without_record(path: Path) -> Check:
    return lambda: [VerifyResult(str(path), WITHOUT_RECORD, "made by others, or by a task that keeps no record")]


def _one(location: Location, *, asked: bool = False) -> VerifyResult:
    """One output, looked at again while a live writer may be in the middle of a commit."""
    if not isinstance(location, LocalLocation):
        from superluigi.lineage.verification import objects

        return objects.one(location)
    deadline = time.monotonic() + _LIVE_WRITER_S
    while True:
        found = _local(location)
        if found.ok or time.monotonic() > deadline or not _is_being_written(location):
            break
        time.sleep(0.05)
    if asked and found.state == MISSING and not os.path.exists(location.record_uri):
        raise missing_record_error(location.uri)
    return found


def _is_being_written(location: LocalLocation) -> bool:
    folder = location.final.parent
    if not folder.is_dir():
        return False
    dead = {path.name for path in (*staging.sweep(folder, always=True), *staging.dead_staging(folder))}
    names = {name for name in os.listdir(folder) if staging.is_ours(name)} - {staging.STAGING}
    with contextlib.suppress(FileNotFoundError):
        names.update(os.listdir(folder / staging.STAGING))
    return bool(names - dead)


def _local(location: LocalLocation) -> VerifyResult:
    uri = location.uri
    try:
        record, pending = _checked(location.record_path), None
        with contextlib.suppress(RecordError):  # torn by a crash, before the data was touched
            pending = _checked(location.pending_path)
        there = _content(location)
    except (TargetError, RecordError) as error:
        return VerifyResult(uri, CHANGED, str(error))
    if there is None:
        if (pending is not None and record is None) or staging.swap_journal(location.final).exists():
            return VerifyResult(uri, HALF_COMMITTED, "a writer died in the middle; running its task repairs it")
        return VerifyResult(uri, MISSING, f"its record {location.record_path} is there, the data is not")
    if record is not None and first_records.is_first(record):
        same = location.is_of_first(record)
        return VerifyResult(uri, OK) if same else VerifyResult(uri, CHANGED, "not what its MD5 says")
    if record is not None and _same(record, there):
        return VerifyResult(uri, OK)
    if pending is not None and _same(pending, there):
        return VerifyResult(
            uri, HALF_COMMITTED, "a writer died before it named the record; reading the output repairs it"
        )
    if record is None:
        return VerifyResult(uri, WITHOUT_RECORD, "made by others, or by a task that keeps no record")
    return VerifyResult(uri, CHANGED, _how(record.get("output") or {}, there))


def _checked(path: Path) -> Record | None:
    record = read_json(path)
    return None if record is None else validate(record)


def _content(location: LocalLocation) -> Record | None:
    """What is there, read in full; None if nothing is.

    Raises:
        TargetKindError: a file where a folder is expected, or the reverse.
    """
    try:
        status = os.stat(location.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not location.matches_kind(status):
        raise TargetKindError(f"it is no longer of the kind that {location.kind} makes")
    if isinstance(location, FolderLocation):
        location = FolderLocation(location.path, location.record_path, contents_limit=2**31)
    return location.content(location.final)


def _same(record: Record, there: Record) -> bool:
    output = record.get("output") or {}
    return output.get("digest") == there.get("digest") and output.get("size") == there.get("size")


def _how(recorded: Record, there: Record) -> str:
    """What differs, naming files of a folder where the record lists them."""
    if "contents" in there:
        before = {item["path"]: item for item in recorded.get("contents") or ()}
        now = {item["path"]: item for item in there["contents"]}
        names = [f"{name} has other content" for name in before if name in now and before[name] != now[name]]
        names += [f"{name} is gone" for name in before if name not in now]
        if recorded.get("count") == len(before):
            names += [f"{name} is new" for name in now if name not in before]
        if names:
            return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if recorded.get("size") != there.get("size"):
        return f"{there.get('size')} bytes instead of {recorded.get('size')}"
    return "same size, other content"

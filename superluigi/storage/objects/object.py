"""One S3 object as a location: one PUT or one completed multipart upload makes it visible."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from superluigi.errors import (
    CommitConflictError,
    TargetKindError,
    TargetMissingError,
    TransferError,
)
from superluigi.storage import first_records, owner_token
from superluigi.storage.base import SCHEMA, Record, StagedWrite, check_name, refuse_unexpected
from superluigi.storage.cache import cache
from superluigi.storage.local import copy, members
from superluigi.storage.local.stages import stage_check
from superluigi.storage.objects import crc32, intent_log
from superluigi.storage.objects.intent_log import IntentLog, active, is_over
from superluigi.storage.objects.location import S3Location, afterwards, at_one_server, kind_error, suppress_errors
from superluigi.storage.objects.record import PreparedRecord, Register, commit_of, describes, lists_of
from superluigi.storage.objects.store import (
    ConditionalWrites,
    Head,
    ObjectEntry,
    ObjectStore,
    PutResult,
    Upload,
    WriteCondition,
)

_KIND = "S3ObjectTarget"
_RETRIES = 20
#: So often a server may refuse to publish although nothing has changed.
_REFUSALS = 4
_log = logging.getLogger(__name__)


class ObjectLocation(S3Location):
    """One object and its record."""

    kind = _KIND

    @at_one_server
    def exists(self) -> bool:
        if (there := self.head()) is None:
            self.saw_nothing()
        if there is None and self.external and self.other_kind(f"{self.place.key}/", prefix=True):
            raise kind_error(self.uri, "a prefix", f"{_KIND} expects an object", "S3PrefixTarget")
        return there is not None

    @at_one_server
    def describe(self) -> Record | None:
        if (there := self.head()) is None:
            return None
        known = {"etag": there.etag, "version": there.version, "commit": there.commit}
        if there.sha256:
            known["digest"] = {"sha256": there.sha256}  # type: ignore[assignment]
        return {"type": _KIND, "path": self.uri, "size": there.size, **{k: v for k, v in known.items() if v}}

    @at_one_server
    def read_record(self) -> Record | None:
        there = self.head()
        while there is not None:
            records, etag = self.register.read()
            found = next((record for record in records if describes(record, there)), None)
            if found is not None and first_records.is_first(found):
                return first_records.translated(found, self.describe() or {})
            if found is not None:
                if etag is not None and (records[0] != found or found["output"].get("etag") != there.etag):
                    found = self._repair(found, there, etag, records)
                return found
            if not records:
                return None
            before, there = there, self.head()
            if there is not None and (before.etag, before.commit) == (there.etag, there.commit):
                return None
        return None

    @at_one_server
    def run_id_of_data(self) -> str | None:
        there = self.head()
        return there.metadata.get("superluigi-run") if there else None

    @at_one_server
    def being_written(self) -> bool:
        there, (records, _) = self.head(), self.register.read()
        commits = {commit_of(record) for record in records} - {there.commit if there else None}
        return any(commit is not None and not is_over(commit) for commit in commits)

    @at_one_server
    def write_record(self, record: Mapping[str, object], expected: Mapping[str, object] | None = None) -> None:
        if (there := self.head()) is None:
            raise TargetMissingError(
                f"{self.uri} does not exist, so there is nothing that a record could describe. Write the data first."
            )

        def around(records: list[Record], _etag: str | None) -> tuple[object, list[Record]]:
            known = next((item for item in records if describes(item, there)), None)
            output = known["output"] if known else self.describe()
            refuse_unexpected(self.uri, known, output or {}, expected)
            return output, [item for item in records if item is not known and commit_of(item) is not None]

        self.register.replace(record, around, self.conditions)

    @at_one_server
    def stage(self) -> StagedObject:
        check_name(self.uri)
        if not self.place.key or self.place.key.endswith("/"):
            raise TargetKindError(
                f"{self.uri} ends with a slash, but {_KIND} expects an object. Use S3PrefixTarget, or another key."
            )
        self.refuse_long(self.place.key, self.place.record_key)
        self.clean()
        replaced = None if self.found_nothing() else self.head()
        return StagedObject(self, self.staging(), replaced)

    @at_one_server
    @contextlib.contextmanager
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        entry = self.cache.entry(self.s3.namespace, self.place.bucket, self.place.key)
        with contextlib.ExitStack() as stack:
            there = self._present()
            for _ in range(_RETRIES):
                opened = entry.open(_tag(there), self._fetching(there), size=there.size, shared=shared, refresh=refresh)
                try:
                    path = stack.enter_context(opened)
                except TargetMissingError:
                    before, there = there, self._present()
                    if before == there:
                        raise
                    continue  # another commit replaced it between our look and our request
                yield path
                return
        raise TransferError(f"{self.uri} is being replaced again and again; no whole version could be read.")

    def _present(self) -> Head:
        """What is there, which must be an object."""
        if (there := self.head()) is None:
            if self.other_kind(f"{self.place.key}/", prefix=True):
                raise kind_error(self.uri, "a prefix", f"{_KIND} expects an object", "S3PrefixTarget")
            raise TargetMissingError(
                f"{self.uri} does not exist. Run the task that makes it, or check bucket, key and endpoint."
            )
        return there

    def _fetching(self, there: Head) -> cache.Fetch:
        def fetch(path: Path, _: object) -> cache.Facts:
            member = ObjectEntry(self.place.key, path, there.size, there.etag, there.sha256, there.crc32)
            self.s3.download(self.place.bucket, member, self.place.get_options, self.place.progress)
            return {"": _known(there.etag, there.sha256)}

        return fetch

    @at_one_server
    def remove(self) -> None:
        """Remove what is there now with its record.

        Raises:
            CommitConflictError: another commit came in between; what it made stands.
        """
        there = self.head()
        self.forget_looks()
        if there is not None:
            self.s3.delete_if(self.place.bucket, self.place.key, there.etag, self.place.get_options)
        # After the data: a record without its data is no output. A commit under way keeps its own.
        self.register.clear(there.commit if there else None, self.head, self.conditions)

    def _repair(self, found: Record, there: Head, etag: str, records: list[Record]) -> Record:
        """Finish a commit whose process died before its last step; where we may not write, only read."""
        commit = commit_of(found) or ""
        if owner_token.is_of_this_world(commit) and not is_over(commit):
            return found  # its writer lives, and is about to do it
        known = {"etag": there.etag, **({"version": there.version} if there.version else {})}
        mended = {**found, "output": {**found["output"], **known}}
        others = [item for item in records if item is not found and not is_over(commit_of(item) or "")]
        if len(others) < len(records) - 1 and not self.is_described_by(found):
            return found  # who is over may have put its data there before it was: its record is the one in force
        prepared = PreparedRecord(etag, [item for item in others if commit_of(item)], False, records)
        suppress_errors(
            lambda: self.register.commit(mended, prepared, lambda: self.is_described_by(found), self.conditions)
        )
        return mended

    def is_described_by(self, record: Record) -> bool:
        """Whether what is there now is what `record` describes: one request."""
        there = self.head()
        return there is not None and describes(record, there)


def withdraw_dead(s3: ObjectStore, line: Mapping[str, Any], root: Path) -> None:
    """Take a dead process's record out of the register, unless its data is there."""
    there = s3.head(line["bucket"], line["key"], {})
    if there is None or there.commit != line["commit"]:
        register = Register(s3, line["record_bucket"], line["record_key"], {}, {})
        register.rollback(line["commit"], s3.conditional_writes(line["record_bucket"], line["record_key"], root))


class StagedObject(StagedWrite):
    """One file on its way to an object. `replaced` is what was there when the work began."""

    def __init__(self, location: ObjectLocation, folder: Path, replaced: Head | None) -> None:
        self.location, self.folder, self.replaced = location, folder, replaced
        self.commit_id = folder.name
        self.path = folder / "output" / location.name()
        self.path.parent.mkdir()
        self._output: Record | None = None
        self._lists: dict[str, bytes] = {}
        self._pieces: list[int] = []  # the CRC-32 of each part,
        self._part = 0  # which has so many bytes
        self._owes = False  # whether something of ours may remain on the server

    def prepare(self) -> Record:
        if self._output is None:
            self._check()
            size = os.stat(self.path).st_size
            with ThreadPoolExecutor(1) as other_core:
                if (part := self.location.s3.part_size(size)) is not None:
                    pieces = other_core.submit(crc32.of_pieces, self.path, part)
                digest = copy.sha256(self.path)
                self._pieces, self._part = (pieces.result(), part) if part is not None else ([], 0)
            self._output = {
                "type": _KIND,
                "path": self.location.uri,
                "size": size,
                "digest": {"sha256": digest},
                "commit": self.commit_id,
                **self.notes,
            }
        return self._output

    def commit(self, record: Record | None) -> Record | None:
        output = self.prepare()
        if record is not None:
            made = {"schema": SCHEMA, **record, "output": dict(output)}
            record, self._lists = self.location.register.split(made, self.commit_id)
        active.add(self.commit_id)
        try:
            published = self._publish(record)
        finally:
            active.discard(self.commit_id)
            self.location.forget_looks()  # missing while this was made, it is there now
        afterwards(self.location.uri, self.discard)
        return published

    def replaces(self, record: Record) -> bool:
        return self.replaced is not None and commit_of(record) == self.replaced.commit

    def discard(self) -> None:
        intent_log.drop(self.folder, self._owes)

    # ---- parts

    def _check(self) -> None:
        uri = self.location.uri
        if self.path.is_symlink():
            members.own_written(str(self.path), uri)  # the local copy would be what others can change
        if self.path.is_dir():
            raise TargetKindError(
                f"A folder was written to output_path, but the output {uri} is an {_KIND}. "
                "Write a file, or use S3PrefixTarget."
            )
        if not self.path.is_file():
            raise stage_check.not_written(self.path, uri)
        stage_check.check_alone(self.path, uri)
        stage_check.check_written(self.folder, uri, self.path)

    def _publish(self, record: Record | None) -> Record | None:
        location, place = self.location, self.location.place
        output = self.prepare()
        member = ObjectEntry(place.key, self.path, output["size"], sha256=output["digest"]["sha256"])
        labels = {"superluigi-commit": self.commit_id, "superluigi-sha256": output["digest"]["sha256"]}
        if record is not None and (record.get("run") or {}).get("id"):
            labels["superluigi-run"] = str(record["run"]["id"])
        if self._pieces:
            labels["superluigi-crc32"] = crc32.text(crc32.combined(self._pieces, member.size, self._part))
        upload = location.s3.upload(place.bucket, member, labels, place.put_options, place.progress, self._pieces)
        note = IntentLog(self.folder, location.s3.namespace)
        try:
            if upload.begin():
                note.add("abort", bucket=place.bucket, key=place.key, upload_id=upload.upload_id)
            expected_etag = upload.send()
            with location.commit_lock():
                if record is None:
                    put = self._swap(upload)
                    if self.replaced is not None:
                        old = self.replaced.commit
                        afterwards(location.uri, lambda: location.register.rollback(old, location.conditions))
                else:
                    put = self._swap_with_record(upload, record, expected_etag, note)
        finally:
            self._owes |= not upload.abort()
        now = Head(put.etag, output["size"], put.version, labels)
        entry = location.cache.entry(location.s3.namespace, place.bucket, place.key)
        entry.insert(self.path, _tag(now), {"": _known(put.etag, output["digest"]["sha256"])})
        return record

    def _swap_with_record(self, upload: Upload, record: Record, expected_etag: str, note: IntentLog) -> PutResult:
        location, place, register = self.location, self.location.place, self.location.register
        conditions = location.conditions
        output = record["output"]
        output["etag"] = expected_etag
        note.add(
            "withdraw", bucket=place.bucket, key=place.key, record_bucket=place.record_bucket,
            record_key=place.record_key, commit=self.commit_id,
        )  # fmt: skip
        try:
            self._note_lists(note, self._lists)
            register.put_lists(self._lists)
            prepared = register.prepare(record, self.replaced, conditions)
            self._note_lists(note, lists_of(prepared.before))
            put = self._swap(upload)
        except BaseException:
            self._owes = True
            self._owes = not suppress_errors(lambda: self._take_back(register, conditions))
            raise
        known = {"etag": put.etag, **({"version": put.version} if put.version else {})}
        record["output"] = {**output, **known}
        if not prepared.alone or record["output"] != output:
            try:
                register.commit(record, prepared, lambda: location.is_described_by(record), conditions)
            except Exception as error:  # noqa: BLE001  # data and record are there: the next reader does this step
                _log.warning("The record of %s has a pending part that readers will clear: %s", location.uri, error)
        return put

    def _note_lists(self, note: IntentLog, files: Iterable[str]) -> None:
        """Write down lists of inputs that no record may name if this process dies."""
        if lists := sorted(files):
            place = self.location.place
            note.add("lists", bucket=place.record_bucket, key=place.record_key, commit=self.commit_id, lists=lists)

    def _take_back(self, register: Register, conditions: ConditionalWrites) -> None:
        """Withdraw the record, unless the data came through after all: an interrupted request may have."""
        there = self.location.head()
        if there is None or there.commit != self.commit_id:
            register.rollback(self.commit_id, conditions)
            register.drop_lists(self._lists)

    def _swap(self, upload: Upload) -> PutResult:
        """Make the data visible if what is there is still what we are to replace."""
        location = self.location
        replaced = WriteCondition(self.replaced.etag if self.replaced else None)
        conditions = location.conditions
        honoured = (
            conditions.complete if upload.in_parts else conditions.create if replaced.etag is None else conditions.match
        )
        try:
            if not honoured:
                there = location.head()
                if (there.etag if there else None) != replaced.etag:
                    raise self._conflict(there)
            put = self._published(upload, replaced if honoured else None)
            if not honoured and ((there := location.head()) is None or there.commit != self.commit_id):
                raise self._conflict(there)
            return put
        except Exception as error:
            # A refusal, or no answer at all: did it happen? Whose object is there decides.
            if isinstance(error, CommitConflictError) and not honoured:
                raise
            there = location.head()
            if there is not None and there.commit == self.commit_id:
                return PutResult(there.etag, there.version)
            if isinstance(error, CommitConflictError):
                raise self._conflict(there) from error
            raise

    def _published(self, upload: Upload, condition: WriteCondition | None) -> PutResult:
        """What the server says of the last step; asked again while it refuses, and what is there is as it was.

        S3 answers 409 where another request for the key, of whatever kind, is under way at the same moment.
        """
        wanted = self.replaced.etag if self.replaced else None
        for attempt in range(_REFUSALS):
            try:
                return upload.publish(condition)
            except CommitConflictError:
                there = self.location.head()
                if (there.etag if there else None) != wanted:
                    raise
                time.sleep(random.uniform(0, 0.1) * attempt)
        return upload.publish(condition)

    def _conflict(self, there: Head | None) -> CommitConflictError:
        if (there.etag if there else None) == (self.replaced.etag if self.replaced else None):
            return CommitConflictError(
                f"The server refuses again and again to publish {self.location.uri}, as if another writer were at it, "
                "though what is there has not changed. Run again."
            )
        who = f"commit {there.commit or 'unknown'}" if there else "it was removed"
        return CommitConflictError(
            f"{self.location.uri} was changed by another writer since this one looked what is there ({who}). "
            "Its output stands, ours was discarded; check for two runs of the same task, or write again to replace it."
        )


def _tag(there: Head) -> str:
    """What a local copy is made from: the version where there are versions, for an ETag may come back."""
    return f"{there.etag} {there.version or ''}".strip()


def _known(etag: str, sha256: str | None) -> dict[str, str]:
    return {"etag": etag, **({"sha256": sha256} if sha256 else {})}

"""The record of an S3 object as a register that several writers share without losing the lineage of any.

The record's object holds the record of the data that is there and, under `superluigi_pending`, the records
of commits that are under way. It only ever changes by compare-and-swap (`If-Match` on its own ETag), and the
data's user metadata names the commit that wrote it: whatever moment a writer dies at, the record of the data
that is there is among those in the register.

Order of a commit: put the own record into the register; write the data, on the condition that it is still
what it was; leave only the own record. For a new object the first step writes the final record already, so
that the third is not needed: a record without its data is no output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from superluigi.errors import CommitConflictError, RecordError, TargetError, TargetKindError
from superluigi.storage import first_records, input_lists, owner_token
from superluigi.storage.base import SCHEMA, SURROGATES, Record, record_in, record_text, well_formed
from superluigi.storage.objects.intent_log import is_over
from superluigi.storage.objects.store import ConditionalWrites, Head, ObjectStore, WriteCondition

PENDING = "superluigi_pending"
#: The only key of what stands in a record's place while there is no output: no record of an older writer can come.
ABSENT = "superluigi_absent"
_ATTEMPTS = 20
#: Of commits on other hosts it cannot be known here whether they live: the youngest are kept.
_STRANGERS_KEPT = 64
#: A register that was not touched for so long, by the server's clock, has no commit under way.
_FORGOTTEN = timedelta(hours=24)


def commit_of(record: Mapping[str, object]) -> str | None:
    """The commit that wrote the data a record describes."""
    output = record.get("output")
    commit = output.get("commit") if isinstance(output, dict) else None
    return commit if isinstance(commit, str) else None


def describes(record: Mapping[str, object], there: Head) -> bool:
    """Whether `record` is of exactly the object that `there` is the head of."""
    output = record.get("output")
    if not isinstance(output, dict):
        return False
    if commit_of(record) != there.commit:
        return False
    etag = output.get("etag")
    if first_records.is_first(record):
        return first_records.plain(etag) == there.etag
    if etag == there.etag:
        return True
    # Our own write, whose ETag could not be expected_etag (KMS, some servers), and a crash before it was put right.
    unforetold = there.encryption not in (None, "AES256") or _odd(there.etag, etag)
    return there.commit is not None and output.get("size") == there.size and unforetold


def _odd(etag: str, expected_etag: object) -> bool:
    """Whether the server's ETag has another form than S3 gives, so that it proves nothing."""
    hexadecimal = all(character in "0123456789abcdef" for character in etag.partition("-")[0])
    return not hexadecimal or len(etag.partition("-")[0]) != 32 or ("-" in etag) != ("-" in str(expected_etag))


def without_pending(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != PENDING}


def to_json(record: Mapping[str, object]) -> bytes:
    return record_text(record).encode("utf-8", SURROGATES)


@dataclass(frozen=True)
class PreparedRecord:
    """What `Register.prepare` left: the register's ETag, commits besides ours that may still be under way,
    whether our record is the only one in it, and those it was put beside."""

    etag: str
    others: list[Record]
    alone: bool
    before: list[Record]


class Register:
    """The record's object of one output."""

    def __init__(
        self,
        s3: ObjectStore,
        bucket: str,
        key: str,
        get_options: Mapping[str, object],
        put_options: Mapping[str, object],
    ) -> None:
        self.s3, self.bucket, self.key = s3, bucket, key
        self.get_options = get_options
        self.put_options = {"ContentType": "application/json", **put_options}

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def read(self) -> tuple[list[Record], str | None]:
        """All records in the register (the one in force first) and its ETag; `[], None` if it is not there.

        Raises:
            RecordError: what is there is not a JSON object.
        """
        document, there = self.read_document()
        etag = there.etag if there else None
        if document is None or ABSENT in document:
            return [], etag
        pending = document.get(PENDING)
        others = pending if isinstance(pending, list) else []
        return [without_pending(document), *(well_formed(item) for item in others if isinstance(item, dict))], etag

    def read_document(self) -> tuple[Record | None, Head | None]:
        """What is there, as it is, and its head."""
        if (found := self.s3.get(self.bucket, self.key, self.get_options)) is None:
            return None, None
        try:
            document = record_in(found[0])
        except ValueError as error:
            raise RecordError(
                f"The record {self.uri} is not valid JSON ({error}). Restore it, or remove it to have none."
            ) from error
        if not isinstance(document, dict):
            raise RecordError(f"{self.uri} holds a JSON {type(document).__name__}, not a record.")
        pending = document.get(PENDING)
        for record in [document, *(pending if isinstance(pending, list) else [])]:
            if isinstance(record, dict):
                input_lists.bound(record, self.lists)
        return document, found[1]

    # ---- lists of inputs

    def rewrite(
        self, before: list[Record], records: list[Record], expected: str | None, conditions: ConditionalWrites
    ) -> None:
        """As `write`, over the records that were `before`; lists that none names any more are removed."""
        self.write(records, expected, conditions)
        with contextlib.suppress(TargetError):  # the record is there: `superluigi clean` finds what stays
            self.drop_lists(lists_of(before) - lists_of(records))

    def replace(
        self, record: Mapping[str, object],
        around: Callable[[list[Record], str | None], tuple[object, list[Record]]], conditions: ConditionalWrites,
    ) -> None:  # fmt: skip
        """Have `record` in force for data that stays; its lists are written before it.

        `around` says, of what is in the register and its ETag, the record's `output` and which others stay; it may
        refuse.

        Raises:
            CommitConflictError: others wrote here again and again, or `around` says so.
        """
        stored, lists = self.split(dict(record), owner_token.token())
        self.put_lists(lists)
        try:
            for _ in range(_ATTEMPTS):
                records, etag = self.read()
                output, others = around(records, etag)
                made = {"schema": SCHEMA, **stored, "output": output}
                with contextlib.suppress(CommitConflictError):
                    self.rewrite(records, [made, *others], etag, conditions)
                    return
            raise CommitConflictError(f"{self.uri} is being written by too many others at once. Try again.")
        except CommitConflictError:  # after any other error it may have been written nevertheless
            if lists and not lists_of(self.read()[0]).intersection(lists):
                self.drop_lists(lists)
            raise

    def lists(self) -> input_lists.Home:
        """Where they are."""

        def read(file: str) -> bytes | None:
            found = self.s3.get(self.bucket, self.list_key(file), self.get_options)
            return found and found[0]

        return input_lists.Home(self.uri + input_lists.SUFFIX, read, lambda: self.read_document()[0])

    def list_key(self, file: str) -> str:
        """The key of a list of inputs."""
        return f"{self.key}{input_lists.SUFFIX}/{file}"

    def split(self, record: Record, token: str) -> tuple[Record, dict[str, bytes]]:
        """As `input_lists.split`."""
        return input_lists.split(record, self.uri + input_lists.SUFFIX, token)

    def put_lists(self, lists: Mapping[str, bytes]) -> None:
        """Write lists, which no record names yet."""
        for file, content in lists.items():
            self.s3.put(self.bucket, self.list_key(file), content, None, self.put_options)

    def drop_lists(self, files: Iterable[str]) -> None:
        """Remove lists that no record names; nothing is asked if there are none."""
        if keys := [self.list_key(file) for file in files]:
            self.s3.delete(self.bucket, keys, self.get_options)

    def write(self, records: list[Record], expected: str | None, conditions: ConditionalWrites) -> str:
        """Swap the register from the state with ETag `expected` (None: absent) to `records`; its new ETag.

        Raises:
            CommitConflictError: it is in another state.
        """
        document = {**records[0], **({PENDING: records[1:]} if len(records) > 1 else {})}
        return self.swap(to_json(document), expected, conditions)

    def swap(self, text: bytes, expected: str | None, conditions: ConditionalWrites) -> str:
        """As `write`, for any content."""
        wanted: WriteCondition | None = WriteCondition(expected)
        if not (conditions.create if expected is None else conditions.match):
            there = self.s3.head(self.bucket, self.key, self.get_options)
            if (there.etag if there else None) != expected:
                raise CommitConflictError(f"{self.uri} changed.")
            wanted = None
        return self.s3.put(self.bucket, self.key, text, wanted, self.put_options).etag

    def prepare(self, record: Record, replaced: Head | None, conditions: ConditionalWrites) -> PreparedRecord:
        """Put `record` beside what is there.

        `replaced` is what the data will be swapped against. If that is nothing, nothing is expected in the
        register either, and the first request says so.
        """
        records: list[Record] = []
        expected: str | None = None
        if replaced is not None:
            records, expected = self.read()
        for _ in range(_ATTEMPTS):
            self._check_kind(record, records)
            others = [item for item in records if commit_of(item) != commit_of(record)]
            if len(others) == len(records) or expected is None:
                try:
                    expected = self.write([*others, record], expected, conditions)
                except CommitConflictError:  # or our own write, with a lost reply
                    records, expected = self.read()
                    continue
            # A process that is dead now, before the data is swapped, can never swap it afterwards.
            mayfollow = _alive([item for item in others if not (replaced and commit_of(item) == replaced.commit)])
            return PreparedRecord(expected, mayfollow, not others, others)
        raise CommitConflictError(f"{self.uri} is being written by too many others at once; ours was discarded.")

    def commit(
        self, record: Record, prepared: PreparedRecord, still_ours: Callable[[], bool], conditions: ConditionalWrites
    ) -> None:
        """Leave only `record`, and those of commits that may still be under way.

        `still_ours` says whether the data is still what `record` describes; if not, the one who replaced
        it has our record to care for, and we have none.
        """
        expected: str | None = prepared.etag
        others, before = prepared.others, prepared.before
        for _ in range(_ATTEMPTS):
            try:
                self.rewrite(before, [record, *others], expected, conditions)
                return
            except CommitConflictError:
                records, expected = self.read()
                before = [*before, *records]
                if records and records[0] == record:
                    return  # our own write, with a lost reply
                others = _alive([item for item in records if commit_of(item) != commit_of(record)])
                if not still_ours():  # asked after the look at who is dead: see `prepare`
                    return

    def rollback(self, commit: str | None, conditions: ConditionalWrites) -> None:
        """Take the record of `commit`, which will never be the data's, out of the register."""
        self._drop(lambda _: {commit}, conditions)

    def clear(self, commit: str | None, there: Callable[[], Head | None], conditions: ConditionalWrites) -> None:
        """Take out the records of data that is gone: that of `commit`, and those of commits that are over.

        `there` looks at what is there now. Another one may have put its data there since, and be over by now.
        """

        def doomed(commits: set[str | None]) -> set[str | None]:
            over = {other for other in commits if other is None or other == commit or is_over(other)}
            if not over - {commit}:
                return over
            # Asked after the look at who is over: who is had put its data there before, or never will.
            now = there()
            return over if now is None else over - {now.commit}

        self._drop(doomed, conditions, all_after=_FORGOTTEN)

    def _drop(
        self, doomed: Callable[[set[str | None]], set[str | None]], conditions: ConditionalWrites,
        all_after: timedelta | None = None,
    ) -> None:  # fmt: skip
        """Take out the records whose commits are `doomed`; all of them if nothing was written there for `all_after`."""
        for _ in range(_ATTEMPTS):
            records, expected = self.read()
            going = doomed({commit_of(item) for item in records})
            others = [item for item in records if commit_of(item) not in going]
            if others and all_after is not None:
                there = self.s3.head(self.bucket, self.key, self.get_options)
                if there and there.modified and self.s3.now and self.s3.now - there.modified > all_after:
                    others = []
            if len(others) == len(records) or expected is None:
                return
            try:
                if others:
                    self.write(others, expected, conditions)
                else:
                    self.delete(expected)
            except CommitConflictError:
                continue
            self.drop_lists(lists_of(records) - lists_of(others))
            return

    def delete(self, expected: str) -> None:
        """Remove the register if it is still in the state with ETag `expected`.

        Raises:
            CommitConflictError: it is in another state.
        """
        self.s3.delete_if(self.bucket, self.key, expected, self.get_options)

    @staticmethod
    def _check_kind(record: Record, records: list[Record]) -> None:
        ours = record["output"]
        for other in records:
            kind = (other.get("output") or {}).get("type", ours["type"])
            if kind != ours["type"] and kind in ("S3ObjectTarget", "S3PrefixTarget"):
                raise TargetKindError(
                    f"{other['output'].get('path')} was written as {kind}, and its record is where that of "
                    f"{ours['path']} ({ours['type']}) would be. Use {kind}, another key, or metadata_object_key."
                )


def drop_unnamed(s3: ObjectStore, line: Mapping[str, Any], _root: Path) -> None:
    """Remove those lists of inputs that a dead process noted down and no record names."""
    register = Register(s3, line["bucket"], line["key"], {}, {})
    named = lists_of(register.read()[0])
    register.drop_lists(file for file in line["lists"] if input_lists.token_of(file) and file not in named)


def lists_of(records: Iterable[Record]) -> frozenset[str]:
    """The lists of inputs that records name."""
    return frozenset(file for record in records for file in input_lists.named(record))


def _alive(records: list[Record]) -> list[Record]:
    """Those whose commit may still be under way: a record in the register before it was never ours to lose."""
    commits = [(commit, item) for item in records if (commit := commit_of(item)) and not is_over(commit)]
    unknown = [commit for commit, _ in commits if not owner_token.is_of_this_world(commit)]
    dropped = set(unknown[:-_STRANGERS_KEPT])
    return [item for commit, item in commits if commit not in dropped]

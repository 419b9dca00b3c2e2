"""All objects under one S3 prefix as a location: it exists exactly when its commit record does.

A reader that goes through here takes what the record names, each object by its ETag, and so never mixes two
commits. Readers of raw keys may see the objects of a commit that is under way (docs/promises.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi.errors import CommitConflictError, TargetKindError, TargetMissingError, TransferError
from superluigi.storage import cache, cache_files, s3_contents
from superluigi.storage.base import SCHEMA, Record, Staged, check_name
from superluigi.storage.s3_contents import Content
from superluigi.storage.s3_download import download_many
from superluigi.storage.s3_location import S3Location, S3Place, kind_error
from superluigi.storage.s3_prefix_recovery import CLAIM, PrefixPlace, recover
from superluigi.storage.s3_record import commit_of
from superluigi.storage.s3_transfer import Member, delete_many, head, listing

_KIND = "S3PrefixTarget"
#: Keys that one look asks for: record, manifest, claim, and what sorts between them and the data.
_LOOK_KEYS = 12
_RETRIES = 20


@dataclass(frozen=True)
class Seen:
    """What one look found. `data` is None where the look did not reach that far."""

    record: bool
    claim: bool
    data: bool | None

    @property
    def nothing(self) -> bool:
        return not self.record and not self.claim and self.data is False


class PrefixLocation(S3Location):
    """One prefix (`place.key`, with its slash) and its record."""

    kind = _KIND

    def __init__(self, place: S3Place, contents_limit: int = 10) -> None:
        super().__init__(place)
        self.contents_limit = contents_limit
        self.where = PrefixPlace(place.bucket, place.key, place.record_bucket, place.record_key)

    @property
    def local_path(self) -> Path:
        return self._entry().path

    def exists(self) -> bool:
        seen = self.look_around()
        if not seen.record and seen.claim and self.recover():
            seen = self.look_around()
        self.saw(seen)
        if seen.record and seen.data is not True:
            return self._has_contents()
        if not seen.record and self.external:
            return self._exists_without_record(seen)
        return seen.record

    def describe(self) -> Record | None:
        record = self._stored_record()
        if record is not None:
            return {key: value for key, value in record["output"].items() if key != "contents"}
        contents = self._listed() if self.external else []
        if not contents:
            return None
        output = s3_contents.output_of(_KIND, self.uri, contents, None, 0)
        return {key: value for key, value in output.items() if key != "contents"}

    def read_record(self) -> Record | None:
        for _ in range(_RETRIES):
            record = self._stored_record()
            if record is None:
                return None
            named = self._named(record)
            if named is not None and self._is_there(named):
                return record
            again = self._stored_record()
            if again is not None and commit_of(again) == commit_of(record):
                return None  # a stranger changed the data
        return None

    def made_by(self) -> str | None:
        record = self._stored_record()
        return None if record is None else (record.get("run") or {}).get("id")

    def write_record(self, record: Mapping[str, Any]) -> None:
        for _ in range(_RETRIES):
            records, etag = self.register.read()
            if records:
                output = records[0]["output"]
            else:
                contents = self._listed()
                if not contents:
                    raise TargetMissingError(
                        f"{self.uri} does not exist, so there is nothing that a record could describe. "
                        "Write the data first."
                    )
                output = s3_contents.output_of(_KIND, self.uri, contents, None, len(contents))
            try:
                self.register.write([{"schema": SCHEMA, **record, "output": output}], etag, self.conditions)
                return
            except CommitConflictError:
                continue
        raise CommitConflictError(f"{self.record_uri} is being written by too many others at once. Try again.")

    def stage(self) -> Staged:
        from superluigi.storage.s3_prefix_commit import StagedPrefix  # it needs this class

        check_name(self.uri)
        self.clean()
        seen = self.recent()
        if not isinstance(seen, Seen) or seen.data is None:
            seen = self.look_around()
        if seen.claim:
            self.recover()
            seen = self.look_around()
        replaced = self._stored_record() if seen.record else None
        return StagedPrefix(self, self.staging(), seen.nothing, commit_of(replaced) if replaced else None)

    @contextlib.contextmanager
    def open_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        with contextlib.ExitStack() as stack:
            for _ in range(_RETRIES):
                record, contents = self._current()
                tag = commit_of(record) if record else None
                if tag is None:
                    contents = contents if contents is not None else self._contents_of(record)
                    tag = f"listing {s3_contents.digest_of(contents)}"
                fetch = self._fetching(record, contents)
                size = record["output"].get("size", 0) if record else sum(item.size for item in contents or ())
                entry = self._entry()
                try:
                    path = stack.enter_context(entry.open(tag, fetch, size=size, shared=shared, refresh=refresh))
                except TargetMissingError as error:
                    if record is not None and self._still(record):
                        raise TransferError(
                            f"{self.uri} is not what its record says: {error} Somebody changed it outside of "
                            "Super Luigi; make the output again, or remove its record to take the data as it is."
                        ) from error
                    continue  # another commit replaced it while we read
                yield path
                return
        raise TransferError(f"{self.uri} is being replaced again and again; no whole version could be read.")

    def remove(self) -> None:
        self.register.remove()  # first: from here on the output is absent, and never a part of itself
        delete_many(self.s3, self.place.bucket, [item.key for item in self._listed()], self.place.get_options)
        ours = {self.where.claim_key}
        start = self.place.record_key + s3_contents.MANIFEST
        ours |= {item["Key"] for item in listing(self.s3, self.place.record_bucket, start, self.place.get_options)}
        delete_many(self.s3, self.place.record_bucket, ours, self.place.get_options)
        self.recent()  # forget it

    # ---- looking

    def look_around(self) -> Seen:
        """What is there, by one request where the record is beside the data.

        Record, claim and data have neighbouring names (`a.metadata.json`, `a.metadata.json.pending`, `a/…`),
        so that a listing of a few keys tells of all three.
        """
        place = self.place
        if place.record_bucket != place.bucket or place.record_key != f"{place.key[:-1]}.metadata.json":
            there = head(self.s3, place.record_bucket, place.record_key, place.get_options)
            seen = Seen(there is not None, there is None and self._has_claim(), None if there else self._has_data())
        else:
            seen = self._list_around()
        return seen

    def _list_around(self) -> Seen:
        place = self.place
        keys = []
        # Everything that sorts before the record but after this is a name that hardly anybody uses.
        before = place.record_key[:-1] + "m~"
        found = listing(
            self.s3, place.bucket, place.key[:-1], place.get_options, StartAfter=before, MaxKeys=_LOOK_KEYS, pages=1
        )
        for item in found:
            keys.append(item["Key"])
            if item["Key"].startswith(place.key) and self.where.is_content(item["Key"]):
                break
        else:
            if len(keys) >= _LOOK_KEYS:
                there = place.record_key in keys
                return Seen(there, place.record_key + CLAIM in keys or (not there and self._has_claim()), None)
        data = bool(keys) and keys[-1].startswith(place.key) and self.where.is_content(keys[-1])
        return Seen(place.record_key in keys, self.where.claim_key in keys, data)

    def _has_claim(self) -> bool:
        return head(self.s3, self.place.record_bucket, self.where.claim_key, {}) is not None

    def _has_data(self) -> bool:
        found = listing(self.s3, self.place.bucket, self.place.key, self.place.get_options)
        return any(self.where.is_content(item["Key"]) for item in found)

    def _has_contents(self) -> bool:
        """The record is there and the look saw no data behind it: is it a record of ours at all?"""
        record = self._stored_record()
        return record is not None and self._has_data()

    def _exists_without_record(self, seen: Seen) -> bool:
        if seen.data or (seen.data is None and self._has_data()):
            return True
        if self.other_kind(self.place.key[:-1], prefix=False):
            raise kind_error(self.uri, "an object", f"{_KIND} expects keys below it", "S3ObjectTarget")
        return False

    def recover(self) -> bool:
        """Finish or undo what a dead process left; False if somebody alive is at it."""
        try:
            return recover(self.s3, self.where, self.register.put_options, self.conditions)
        except CommitConflictError:
            return False  # another process is just doing it

    def _stored_record(self) -> Record | None:
        records, _ = self.register.read()
        if not records:
            if not self._has_claim() or not self.recover():
                return None
            records, _ = self.register.read()
        record = records[0] if records else None
        kind = (record.get("output") or {}).get("type", _KIND) if record else _KIND
        if kind != _KIND:
            raise TargetKindError(
                f"{self.record_uri} is the record of an {kind}, but {_KIND} expects a prefix at {self.uri}. "
                f"Use {kind}, another prefix, or metadata_object_key."
            )
        return record

    def _listed(self) -> list[Content]:
        """What is under the prefix now, whoever put it there."""
        found = listing(self.s3, self.place.bucket, self.place.key, self.place.get_options)
        return [
            Content(item["Key"], item["Size"], item["ETag"].strip('"'))
            for item in found
            if self.where.is_content(item["Key"]) and not (item["Key"].endswith("/") and item["Size"] == 0)
        ]

    def _named(self, record: Record) -> list[Content] | None:
        place = self.place
        return s3_contents.read(self.s3, place.record_bucket, place.record_key, record["output"], place.get_options)

    def _is_there(self, named: list[Content]) -> bool:
        """Whether exactly `named` is under the prefix, besides what a commit under way has put there."""
        found = {item.key: item.etag for item in self._listed()}
        if any(found.pop(item.key, None) != item.etag for item in named):
            return False
        extra = next(iter(found), None)
        if extra is None:
            return True
        there = head(self.s3, self.place.bucket, extra, self.place.get_options)
        return there is None or there.commit is not None

    # ---- reading

    def _current(self) -> tuple[Record | None, list[Content] | None]:
        """The record that is there, or without one what others have put there."""
        record = self._stored_record()
        contents = self._listed() if record is None and self.external else None
        if record is None and not contents:
            if self.other_kind(self.place.key[:-1], prefix=False):
                raise kind_error(self.uri, "an object", f"{_KIND} expects keys below it", "S3ObjectTarget")
            raise TargetMissingError(
                f"{self.uri} does not exist: it has no commit record at {self.record_uri}. Run the task that makes "
                "it; for data made by others declare it as the output of an ExternalTask."
            )
        return record, contents

    def _contents_of(self, record: Record | None) -> list[Content]:
        named = self._named(record) if record else None
        if named is None:
            raise TargetMissingError(f"The manifest of {self.uri} is gone.")  # replaced meanwhile, or removed
        return named

    def _still(self, record: Record) -> bool:
        again = self._stored_record()
        return again is not None and commit_of(again) == commit_of(record)

    def adopt(self, folder: Path, commit: str, facts: cache.Facts) -> None:
        """Make a folder that was just uploaded the local copy of the prefix."""
        self._entry().adopt(folder, commit, facts)

    def _entry(self) -> cache.Entry:
        return self.cache.entry(self.s3.place, self.place.bucket, self.place.key, folder=True)

    def _fetching(self, record: Record | None, listed: list[Content] | None) -> cache.Fetch:
        """Fetch what is not in the folder yet; a file that is there came whole, of the same version."""

        def fetch(folder: Path, reusable: Mapping[str, tuple[str, Path]]) -> cache.Facts:
            contents = listed if listed is not None else self._contents_of(record)
            facts, missing = {}, list[Member]()
            root, begun = str(folder), any(folder.iterdir())
            for item in contents:
                name = local_name(item.key[len(self.place.key) :])
                facts[name] = {"etag": item.etag, **({"sha256": item.sha256} if item.sha256 else {})}
                path = f"{root}/{name}"
                if begun and os.path.isfile(path) and os.path.getsize(path) == item.size:
                    continue
                etag, other = reusable.get(name, ("", folder))
                if etag == item.etag and _linked(other, path):
                    continue
                missing.append(Member(item.key, path, item.size, item.etag, item.sha256))
            download_many(self.s3, self.place.bucket, missing, self.place.get_options, self.place.progress)
            return facts

        return fetch


def local_name(relative: str) -> str:
    """The part of a key after the prefix as a relative path; itself wherever a file system allows."""
    return "/".join(cache_files.segment(part) for part in relative.split("/"))


def _linked(source: Path, path: str) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.link(source, path)
    except OSError:
        return False
    return True

"""What is at an S3 prefix now: record, claim and data, seen by as few requests as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from superluigi.errors import CommitConflictError, StorageAccessError, TargetKindError
from superluigi.storage import first_records
from superluigi.storage.base import Record
from superluigi.storage.cache import cache
from superluigi.storage.local import inner, members
from superluigi.storage.objects.location import S3Address, S3Location
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.prefix.prefix_recovery import recover
from superluigi.storage.objects.prefix.prefix_steps import BLOCKER_SIZE, PrefixKeys, PrefixStore
from superluigi.storage.objects.store import ListedObject

KIND = "S3PrefixTarget"
#: Keys that one look asks for: record, manifest, claim, and what sorts between them and the data.
_LOOK_KEYS = 12


@dataclass(frozen=True)
class PrefixSnapshot:
    """What one look found. `data` is None where the look did not reach that far; a blocker is no record."""

    record: bool
    claim: bool
    data: bool | None
    blocked: bool = False

    @property
    def nothing(self) -> bool:
        return not self.record and not self.claim and not self.blocked and self.data is False


#: Keys of others below a prefix that are read to see whether they are records: where more are, data is kept.
_STRANGERS = 100


class PrefixState(S3Location):
    """One prefix (`place.key`, with its slash), its record and its local copy."""

    kind = KIND

    def __init__(self, place: S3Address, contents_limit: int = 10) -> None:
        super().__init__(place)
        self.contents_limit = contents_limit
        self.where = PrefixKeys(place.bucket, place.key, place.record_bucket, place.record_key)

    @property
    def store(self) -> PrefixStore:
        """The requests of a commit."""
        return PrefixStore(self.s3, self.where, self.conditions, self.register.put_options, self.place.get_options)

    def snapshot(self) -> PrefixSnapshot:
        """What is there, by one request where the record is beside the data.

        Record, claim and data have neighbouring names (`a.metadata.json`, `a.metadata.json.pending`, `a/…`),
        so that a listing of a few keys tells of all three.
        """
        place = self.place
        if place.record_bucket != place.bucket or place.record_key != f"{place.key[:-1]}.metadata.json":
            return self._ask_around()
        seen = self._list_around()
        if seen.record and seen.data:
            self.s3.saw_order()
        elif not self.s3.in_order:  # SeaweedFS and others have `a/b` before `a.b`, and so passed something by
            return self._ask_around()
        return seen

    def _ask_around(self) -> PrefixSnapshot:
        there = self.s3.head(self.place.record_bucket, self.place.record_key, self.place.get_options)
        blocked = self._is_blocker(there.size if there else None)
        if there is not None and not blocked:
            return PrefixSnapshot(True, False, None)
        return PrefixSnapshot(False, self._has_claim(), self.has_data(), blocked)

    def _is_blocker(self, size: int | None) -> bool:
        """Whether what is at the record's key and has this size is no record; asks only where it may be none."""
        return size == BLOCKER_SIZE and self.store.standing().record is None

    def _list_around(self) -> PrefixSnapshot:
        place = self.place
        sizes: dict[str, int] = {}
        # Everything that sorts before the record but after this is a name that is hardly ever used.
        before = place.record_key[:-1] + "m~"
        found = self.s3.list(
            place.bucket, place.key[:-1], place.get_options, start_after=before, page_size=_LOOK_KEYS, pages=1
        )
        data: bool | None = False
        for item in found:
            sizes[item.key] = item.size
            if item.key.startswith(place.key) and self.is_data(item):
                data = True
                break
        else:
            if len(sizes) >= _LOOK_KEYS:
                data = None
        blocked = self._is_blocker(sizes.get(place.record_key))
        record = place.record_key in sizes and not blocked
        claim = self.where.claim_key in sizes or (data is None and not record and self._has_claim())
        return PrefixSnapshot(record, claim, data, blocked)

    def _has_claim(self) -> bool:
        try:
            return self.s3.head(self.place.record_bucket, self.where.claim_key, {}) is not None
        except StorageAccessError:
            if self.external:  # a process that may only read it has left no claim, and can mend none
                return False
            raise

    def has_data(self) -> bool:
        found = self.s3.list(self.place.bucket, self.place.key, self.place.get_options)
        return any(map(self.is_data, found))

    def is_data(self, item: ListedObject) -> bool:
        """Whether what a listing names is content: nothing of ours, and no mark that consoles leave for a folder."""
        return self.where.is_content(item.key) and not (item.key.endswith("/") and item.size == 0)

    def recover(self) -> bool:
        """Finish or undo what a dead process left; False if a living one is at it."""
        try:
            return recover(self.store)
        except CommitConflictError:
            return False  # another process is just doing it

    def stored_record(self) -> Record | None:
        records, _ = self.register.read()
        if not records:
            if not self._has_claim() or not self.recover():
                return None
            records, _ = self.register.read()
        self.forget_looks()
        record = records[0] if records else None
        output = record.get("output") if record else None
        kind = output.get("type", KIND) if isinstance(output, dict) else KIND
        if kind != KIND:
            raise TargetKindError(
                f"{self.record_uri} is the record of an {kind}, but {KIND} expects a prefix at {self.uri}. "
                f"Use {kind}, another prefix, or metadata_object_key."
            )
        if record is None or not first_records.is_foreign(record):
            return record
        return self._of_others(record)

    def _of_others(self, record: Record) -> Record | None:
        """What stands in the record's place in our terms, if the first package has written it."""
        contents = self.listed()
        cut = len(self.place.key)
        there = [(item.key[cut:], item.size, item.etag) for item in contents]
        if not contents or not first_records.is_first(record) or not first_records.is_of_prefix(record, there):
            return None
        output = manifest.output_of(KIND, self.uri, contents, None, len(contents))
        return first_records.translated(record, output)

    def listed(self) -> list[Manifest]:
        """What is under the prefix now, of whatever origin."""
        found = self.s3.list(self.place.bucket, self.place.key, self.place.get_options)
        return [Manifest(item.key, item.size, item.etag) for item in found if self.is_data(item)]

    def refuse_inner(self, action: str, there: Mapping[str, str], named: Callable[[], Mapping[str, Manifest]]) -> None:
        """Leave alone what other tasks have below the prefix.

        `there` is what is there (key -> ETag), `named` gives what the prefix's own record names.

        Raises:
            OutputClashError: names the outputs that would go with this one.
        """
        found = inner.candidates(there)
        # one that was put here by `metadata_object_key`; other names are not asked for, each would be a request
        texts = [key for key in there if key.endswith(".json") and key not in found]
        if not found and not texts:
            return
        own = named()
        address = f"s3://{self.place.bucket}/"
        strangers = [address + key for key in texts if key not in own][:_STRANGERS]

        def read(uri: str) -> bytes | None:
            got = self.s3.get(self.place.bucket, uri.removeprefix(address), self.place.get_options)
            return None if got is None else got[0]

        def is_member(uri: str) -> bool:
            item = own.get(uri.removeprefix(address))
            return item is not None and item.etag == there[item.key]

        inner.refuse(action, self.uri, [address + key for key in found], read, is_member, strangers)

    # ---- the local copy

    def insert(self, folder: Path, commit: str, facts: cache.Facts) -> None:
        """Make a folder that was just uploaded the local copy of the prefix, as others get it who download it."""
        members.as_downloaded(str(folder))
        self.entry().insert(folder, commit, facts)

    def entry(self) -> cache.CacheEntry:
        return self.cache.entry(self.s3.namespace, self.place.bucket, self.place.key, folder=True)

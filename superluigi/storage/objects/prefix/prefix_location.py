"""All objects under one S3 prefix as a location: it exists exactly when its commit record does.

A reader that goes through here takes what the record names, each object by its ETag, and so never mixes two
commits. Readers of raw keys may see the objects of a commit that is under way (docs/promises.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from superluigi.errors import CommitConflictError, RecordError, TargetMissingError, TargetReplacedError, TransferError
from superluigi.storage import input_lists, local_names
from superluigi.storage.base import Record, StagedWrite, check_name, maker_in, refuse_unexpected
from superluigi.storage.cache import cache
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.location import at_one_server, kind_error, suppress_errors
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.prefix.prefix_changes import check_abandoned, named_by
from superluigi.storage.objects.prefix.prefix_commit import StagedPrefix, note, take
from superluigi.storage.objects.prefix.prefix_recovery import Claim, ClaimFile, Hold
from superluigi.storage.objects.prefix.prefix_state import KIND, PrefixSnapshot, PrefixState
from superluigi.storage.objects.record import ABSENT, commit_of
from superluigi.storage.objects.store import ObjectEntry

_RETRIES = 20
#: How long a reader waits for the end of an exchange, and how often it looks.
_EXCHANGE_SECONDS, _PAUSE_SECONDS = 60.0, 0.1


class PrefixLocation(PrefixState):
    """The prefix as a location."""

    @property
    def local_path(self) -> Path:
        return self.entry().path

    @at_one_server
    def exists(self) -> bool:
        seen = self.snapshot()
        if not seen.record and seen.claim and self.recover():
            seen = self.snapshot()
        if seen.nothing:
            self.saw_nothing()
        else:
            self.forget_looks()
        if seen.record and seen.data is not True:
            return self._has_contents()
        if not seen.record and self.external:
            return self._exists_without_record(seen)
        return seen.record

    @at_one_server
    def describe(self) -> Record | None:
        if (record := self._matching_record()) is not None:
            return {key: value for key, value in record["output"].items() if key != "contents"}
        contents = self.listed() if self.external else []
        if not contents:
            return None
        output = manifest.output_of(KIND, self.uri, contents, None, 0)
        return {key: value for key, value in output.items() if key != "contents"}

    @at_one_server
    def read_record(self) -> Record | None:
        if self.external:
            return self._matching_record()
        for _ in range(_RETRIES):
            if (record := self.stored_record()) is None:
                return None
            named = self._named(record)
            if named is not None and self._is_there(named):
                return record
            again = self.stored_record()
            if again is not None and commit_of(again) == commit_of(record):
                return None  # another program changed the data
        return None

    @at_one_server
    def run_id_of_data(self) -> str | None:
        return maker_in(self.stored_record())

    @at_one_server
    def being_written(self) -> bool:
        seen = self.snapshot()
        return seen.claim or self._has_claim() or (not seen.record and seen.data is not False)

    @at_one_server
    def write_record(self, record: Mapping[str, object], expected: Mapping[str, object] | None = None) -> None:
        def around(records: list[Record], etag: str | None) -> tuple[object, list[Record]]:
            if records:
                output = records[0]["output"]
            elif etag is not None:
                raise CommitConflictError(f"{self.uri} is being written, so that there is nothing to describe now.")
            else:
                contents = self.listed()
                if not contents:
                    raise TargetMissingError(
                        f"{self.uri} does not exist, so there is nothing that a record could describe. "
                        "Write the data first."
                    )
                output = manifest.output_of(KIND, self.uri, contents, None, len(contents))
            refuse_unexpected(self.uri, records[0] if records else None, output, expected)
            return output, []

        self.register.replace(record, around, self.conditions)

    @at_one_server
    def stage(self) -> StagedWrite:
        check_name(self.uri)
        self.refuse_long(self.where.claim_key)
        self.clean()
        if self.found_nothing():
            return StagedPrefix(self, self.staging(), empty=True, replaced=None)
        seen = self.snapshot()
        if seen.claim:
            self.recover()
            seen = self.snapshot()
        replaced = self.stored_record() if seen.record else None
        return StagedPrefix(self, self.staging(), seen.nothing, commit_of(replaced) if replaced else None)

    @at_one_server
    @contextlib.contextmanager
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        with contextlib.ExitStack() as stack:
            for _ in range(_RETRIES):
                record, contents = self._current()
                tag = commit_of(record) if record else None
                if tag is None:
                    contents = contents if contents is not None else self._contents_of(record)
                    tag = f"listing {manifest.digest_of(contents)}"
                fetch = self._fetching(record, contents)
                size = record["output"].get("size", 0) if record else sum(item.size for item in contents or ())
                entry = self.entry()
                try:
                    path = stack.enter_context(entry.open(tag, fetch, size=size, shared=shared, refresh=refresh))
                except TargetMissingError as error:
                    if record is not None and self._still(record):
                        # Gone, or another one: the output as it was recorded is not there any more.
                        replaced = error.__cause__ is None or isinstance(error, TargetReplacedError)
                        kind = TransferError if replaced else TargetMissingError
                        raise kind(
                            f"{self.uri} is not what its record says: {error} It was changed outside of "
                            "Super Luigi; make the output again, or remove its record to take the data as it is."
                        ) from error
                    continue  # another commit replaced it while we read
                yield path
                return
        raise TransferError(f"{self.uri} is being replaced again and again; no whole version could be read.")

    @at_one_server
    def remove(self) -> None:
        """Remove data and record, as a writer of nothing.

        Raises:
            CommitConflictError: another process is writing it.
            OutputClashError: another task's record is inside.
        """
        seen = self.snapshot()
        if seen.claim and self.recover():
            seen = self.snapshot()
        if not seen.nothing:
            _remove_prefix(self)
        self.forget_looks()

    def _has_contents(self) -> bool:
        """The record is there and the look saw no data behind it: is it a record of ours at all?"""
        record = self.stored_record()
        return (record is not None or self.external) and self.has_data()

    def _exists_without_record(self, seen: PrefixSnapshot) -> bool:
        if seen.data or (seen.data is None and self.has_data()):
            return True
        if self.other_kind(self.place.key[:-1], prefix=False):
            raise kind_error(self.uri, "an object", f"{KIND} expects keys below it", "S3ObjectTarget")
        return False

    def _named(self, record: Record) -> list[Manifest] | None:
        place = self.place
        return manifest.read(self.s3, place.record_bucket, place.record_key, record["output"], place.get_options)

    def _is_there(self, named: list[Manifest]) -> bool:
        """Whether exactly `named` is under the prefix, besides what a commit under way has put there."""
        found = {item.key: item.etag for item in self.listed()}
        if any(found.pop(item.key, None) != item.etag for item in named):
            return False
        if (extra := next(iter(found), None)) is None:
            return True
        there = self.s3.head(self.place.bucket, extra, self.place.get_options)
        return there is None or there.commit is not None

    # ---- reading

    def _current(self) -> tuple[Record | None, list[Manifest] | None]:
        """The record that is there, or without one what others have put there."""
        record = self._matching_record()
        ends = time.monotonic() + _EXCHANGE_SECONDS
        while record is None and not self.external and self._is_exchanged() and time.monotonic() < ends:
            record = self._matching_record()
        contents = self.listed() if record is None and (self.external or self._is_described_by_others()) else None
        if record is None and not contents:
            if self.other_kind(self.place.key[:-1], prefix=False):
                raise kind_error(self.uri, "an object", f"{KIND} expects keys below it", "S3ObjectTarget")
            raise TargetMissingError(
                f"{self.uri} does not exist: it has no commit record at {self.record_uri}. Run the task that makes "
                "it; for data made by others declare it as the output of an ExternalTask."
            )
        return record, contents

    def _is_described_by_others(self) -> bool:
        """Whether what stands in the record's place is none of ours, so that the data is taken as it is."""
        document, _ = self.register.read_document()
        return document is not None and ABSENT not in document

    def _is_exchanged(self) -> bool:
        """Whether it is absent only because a living writer replaces it; gives that one time if it still does."""
        standing = self.store.standing()
        if standing.blocker is None or not self._has_claim():
            return standing.commit is not None
        time.sleep(_PAUSE_SECONDS)
        return True

    def _matching_record(self) -> Record | None:
        """The record that is there; what others have changed since is theirs, and has none."""
        record = self.stored_record()
        if record is None or not self.external:
            return record
        try:
            named = self._named(record)
        except RecordError:
            return None
        return record if named is not None and self._is_there(named) else None

    def _contents_of(self, record: Record | None) -> list[Manifest]:
        named = self._named(record) if record else None
        if named is None:
            raise TargetMissingError(f"The manifest of {self.uri} is gone.")  # replaced meanwhile, or removed
        return named

    def _still(self, record: Record) -> bool:
        again = self.stored_record()
        return again is not None and commit_of(again) == commit_of(record)

    def _fetching(self, record: Record | None, listed: list[Manifest] | None) -> cache.Fetch:
        """Fetch what is not in the folder yet; a file that is there came whole, of the same version."""

        def fetch(folder: Path, reusable: Mapping[str, tuple[str, Path]]) -> cache.Facts:
            contents = listed if listed is not None else self._contents_of(record)
            facts, missing = {}, list[ObjectEntry]()
            root, begun = str(folder), any(folder.iterdir())
            names = local_names.local_names([item.key[len(self.place.key) :] for item in contents])
            for item in contents:
                name = names[item.key[len(self.place.key) :]]
                facts[name] = {"etag": item.etag, **({"sha256": item.sha256} if item.sha256 else {})}
                path = f"{root}/{name}"
                if begun and os.path.isfile(path) and os.path.getsize(path) == item.size:
                    continue
                etag, other = reusable.get(name, ("", folder))
                if etag == item.etag and _linked(other, path):
                    continue
                missing.append(ObjectEntry(item.key, path, item.size, item.etag, item.sha256))
            self.s3.download_many(self.place.bucket, missing, self.place.get_options, self.place.progress)
            local_names.check_apart(root, facts)
            return facts

        return fetch


def _linked(source: Path, path: str) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.link(source, path)
    except OSError:
        return False
    return True


def _remove_prefix(location: PrefixState) -> None:
    """Remove data and record under a claim of our own.

    Raises:
        CommitConflictError: another process is writing it.
        OutputClashError: another task's record is inside.
    """
    folder = location.staging()
    store, token = location.store, folder.name
    failed: list[bool] = []

    def tidy(work: Callable[[], object]) -> None:
        failed.append(not suppress_errors(work))

    with contextlib.ExitStack() as cleaning:
        cleaning.callback(lambda: suppress_errors(lambda: intent_log.drop(folder, any(failed))))
        note(location, folder)
        cleaning.callback(tidy, lambda: store.revoke(token))
        store.put_gravestone(token)
        hold = cleaning.enter_context(Hold(ClaimFile(store), Claim(token, token)))
        cleaning.callback(tidy, hold.release)
        take(location, hold)
        standing = store.standing()
        hold.change()  # after that look: who takes over from now on changes the record
        stays = standing.stays or (standing.record is None and check_abandoned(location))
        there = {item.key: item.etag for item in store.contents()}
        location.refuse_inner("remove", there, lambda: named_by(store, standing.record))
        etag = store.block(standing.etag, token, stays)  # from here on it is absent, and never a part of itself
        if not stays:
            cleaning.callback(tidy, lambda: store.register.delete(etag))
        store.remove(there, token, {})
        start = store.place.record_key + manifest.MANIFEST
        manifests = [item.key for item in store.s3.list(store.place.record_bucket, start, {})]
        lists = map(store.register.list_key, input_lists.named(standing.record))
        store.s3.delete(store.place.record_bucket, [*manifests, *lists], {})

"""Replacing an S3 prefix: a short way into an empty one, a claimed way over what is there.

Into an empty prefix: each object with `If-None-Match: *`, the one whose key sorts first before the others, so
that of two writers one is stopped at once; then the record, with `If-None-Match: *`.

Over what is there, under the claim of `s3_prefix_recovery`: objects with the same bytes stay; new ones go up
beside the old, which is still complete by its record; changed ones go to staged keys. Only then, if anything
changed, the record goes (the output is absent), the server copies the staged objects, and the new record
comes. A failing upload therefore leaves the old output; a crash later is finished by whoever comes next.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from superluigi.errors import CommitConflictError, OutputNotWrittenError, TargetKindError
from superluigi.storage import cache_files, copying, owner_token, s3_contents, stage_check, staging
from superluigi.storage.base import SCHEMA, Record, Staged
from superluigi.storage.s3_contents import Content
from superluigi.storage.s3_leftovers import Note
from superluigi.storage.s3_location import quietly
from superluigi.storage.s3_prefix_recovery import (
    LEASE,
    Claim,
    ClaimFile,
    finish,
    publish_record,
    put_record,
    undo,
)
from superluigi.storage.s3_prefix_state import KIND, PrefixState
from superluigi.storage.s3_record import commit_of
from superluigi.storage.s3_transfer import Condition, Member, delete_many, head, in_threads, listing
from superluigi.storage.s3_upload import read_file, upload_many

_ATTEMPTS = 5


@dataclass(frozen=True)
class Changes:
    """What a commit does to a prefix; keys only, decided before anything is done."""

    same: dict[str, str]  # key -> ETag of what stays
    new: list[str]
    changed: list[str]
    gone: list[str]


def changes(wanted: Mapping[str, Content], old: Mapping[str, Content], there: Mapping[str, str]) -> Changes:
    """Compare what shall be with what the old record names (`old`) and what is really there (key -> ETag)."""
    same = {}
    for key, item in wanted.items():
        known = old.get(key)
        if known and known.sha256 and known.sha256 == item.sha256 and known.etag == there.get(key):
            same[key] = there[key]
    return Changes(
        same,
        new=[key for key in wanted if key not in there],
        changed=[key for key in wanted if key in there and key not in same],
        gone=[key for key in there if key not in wanted],
    )


class StagedPrefix(Staged):
    """A local folder on its way to a prefix; `replaced` is the commit of what was there when the work began."""

    def __init__(self, location: PrefixState, folder: Path, empty: bool, replaced: str | None) -> None:
        self.location, self.folder, self.empty, self.replaced = location, folder, empty, replaced
        self.commit_id = folder.name
        self.path = folder / "output" / location.name()
        self.path.mkdir(parents=True)
        self._output: Record | None = None
        self._members: list[Member] = []

    def prepare(self) -> Record:
        if self._output is None:
            prefix = self.location.place.key

            def described(item: tuple[str, str]) -> Member:
                name, path = item
                size = os.stat(path).st_size
                # A small file is read whole anyway: without the steps of a large one.
                small = size <= 1 << 20
                digest = hashlib.sha256(read_file(path)).hexdigest() if small else copying.sha256(Path(path))
                return Member(prefix + name, path, size, sha256=digest)

            found = in_threads(described, self._files(), os.cpu_count() or 2)
            self._members = sorted(found, key=lambda member: member.key)
            described_output = s3_contents.output_of(
                KIND, self.location.uri, self._contents(), self.commit_id, self.location.contents_limit
            )
            self._output = {**described_output, **self.notes}
        return self._output

    def commit(self, record: Record | None) -> Record | None:
        output = self.prepare()
        made = {"schema": SCHEMA, **(record or {}), "output": dict(output)}
        location, place = self.location, self.location.place
        Note(self.folder, location.s3).add(
            "prefix", bucket=place.bucket, prefix=place.key, record_bucket=place.record_bucket,
            record_key=place.record_key, commit=self.commit_id,
        )  # fmt: skip
        with location.alone():
            published = self._publish(made)
        facts = {
            cache_files.local_name(member.key[len(place.key) :]): {
                "etag": self._etags[member.key],
                "sha256": member.sha256,
            }
            for member in self._members
        }
        location.adopt(self.path, self.commit_id, facts)
        self.discard()
        return published if record is not None else None

    def discard(self) -> None:
        staging.drop_staging(self.folder)

    # ---- what was written

    def _files(self) -> list[tuple[str, str]]:
        if self.path.exists() and not self.path.is_dir():
            raise TargetKindError(
                f"A file was written to output_path, but the output {self.location.uri} is an {KIND}: output_path "
                "is an existing empty folder. Write into it, or use S3ObjectTarget."
            )
        below = _files_below(str(self.path)) if self.path.exists() else ()
        found = [(path[len(str(self.path)) + 1 :], path) for path in below]
        stage_check.check_alone(self.path, self.location.uri)
        stage_check.check_written(self.folder, self.location.uri)
        if not found:
            raise OutputNotWrittenError(
                f"Nothing was written into the folder output_path for {self.location.uri}; it is empty. "
                "Write at least one file into it."
            )
        reserved = [name for name, _ in found if not self.location.where.is_content(self.location.place.key + name)]
        if reserved:
            raise TargetKindError(
                f"{reserved[0]!r} was written into the folder of {self.location.uri}, but that key is where its "
                "record is. Choose another name, or another metadata_object_key."
            )
        return sorted(found)

    def _contents(self) -> list[Content]:
        return [Content(member.key, member.size, None, member.sha256) for member in self._members]

    def _with_etags(self) -> list[Content]:
        return [replace(item, etag=self._etags.get(item.key)) for item in self._contents()]

    # ---- the short way

    _etags: dict[str, str]

    def _publish(self, record: Record) -> Record:
        """Take the short way while nothing is there, else the claimed one.

        Two writers with different keys may stop each other in an empty prefix: then both withdraw, and chance
        decides who is first the next time.
        """
        empty = self.empty
        for attempt in range(_ATTEMPTS):
            try:
                return self._into_empty(record) if empty else self._over(record)
            except CommitConflictError:
                seen = self.location.look_around()
                if seen.record or self.replaced or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.1) * attempt)
                empty = seen.nothing
        raise self._conflict()

    def _into_empty(self, record: Record) -> Record:
        location = self.location
        create = location.conditions.create
        condition = Condition() if create else None
        if not create and not location.look_around().nothing:
            raise self._conflict()
        ordered = sorted(self._members, key=lambda member: member.key)
        self._etags = {}
        options = location.register.put_options
        try:
            for batch in (ordered[:1], ordered[1:]):
                self._etags |= self._upload(batch, condition)
            full = publish_record(
                location.s3, location.where, record, self._with_etags(), location.contents_limit, options
            )
            put_record(location.s3, location.where, full, options, location.conditions)
        except BaseException as error:
            self._undo()
            if isinstance(error, CommitConflictError):
                raise self._conflict() from error
            raise
        return full

    def _upload(self, members: Sequence[Member], condition: Condition | None) -> dict[str, str]:
        place = self.location.place
        labels = {"superluigi-commit": self.commit_id}
        done = upload_many(
            self.location.s3, place.bucket, members, labels, place.put_options, condition, self._progress
        )
        return {key: put.etag for key, put in done.items()}

    def _undo(self) -> None:
        quietly(lambda: undo(self.location.s3, self.location.where, self.commit_id))

    # ---- the claimed way

    _claim: Claim | None = None
    _alive_at = 0.0

    def _over(self, record: Record) -> Record:
        location = self.location
        file = self._file()
        mine = self._claim = self._take(file)
        self._alive_at, self._refreshing = time.monotonic(), threading.Lock()
        switching = False
        try:
            old, old_manifest, there = self._what_is_there()
            location.refuse_inner("replace", there, lambda: old)
            plan = changes({item.key: item for item in self._contents()}, old, there)
            self._send(plan, bool(self.replaced))
            full_plan = self._plan(record, plan, old_manifest)
            if plan.changed and self.replaced:
                mine = self._claim = file.write(replace(self._claim, state="switching", plan=full_plan))
                switching = True
                published = self._switch(file, mine)
            else:
                published = self._swap_record(full_plan)
            named = s3_contents.read(
                location.s3, location.place.record_bucket, location.place.record_key, published["output"], {}
            )
            self._etags = {item.key: item.etag or "" for item in named or ()}
            quietly(lambda: file.release(mine))
            return published
        except BaseException:
            if not switching:  # else whoever comes next finishes it: the claim says how
                self._undo()
                quietly(lambda: file.release(mine))
            raise

    def _switch(self, file: ClaimFile, claim: Claim) -> Record:
        """Carry out the plan; after an error once more, for there is no way back and all that is needed is there."""

        def carry_out() -> Record:
            return finish(self.location.s3, self.location.where, claim, self._record_options, self.location.conditions)

        try:
            return carry_out()
        except Exception:  # noqa: BLE001  # raised again by the second attempt if it lasts
            return carry_out()
        except BaseException:  # Ctrl-C: nothing half done remains
            quietly(carry_out)
            quietly(lambda: file.release(claim))
            raise

    @property
    def _record_options(self) -> dict[str, Any]:
        return self.location.register.put_options

    def _file(self) -> ClaimFile:
        location = self.location
        return ClaimFile(location.s3, location.where, self._record_options, location.conditions)

    def _take(self, file: ClaimFile) -> Claim:
        claim = Claim(self.commit_id, self.commit_id, str(self.folder))
        if not file.conditional and file.read() is not None and not self.location.recover():
            raise self._conflict()
        try:
            return file.write(claim)
        except CommitConflictError as error:
            if not self.location.recover():
                raise self._conflict() from error
        try:
            return file.write(claim)
        except CommitConflictError as error:
            raise self._conflict() from error

    def _what_is_there(self) -> tuple[dict[str, Content], str | None, dict[str, str]]:
        """What the old record names, its manifest's key, and key -> ETag of what is really there.

        Raises:
            CommitConflictError: it is no longer what it was when the work began, or somebody is at it.
        """
        location, place = self.location, self.location.place
        records, self._record_etag = location.register.read()
        if (commit_of(records[0]) if records else None) != self.replaced:
            raise self._conflict()
        found = [
            item for item in listing(location.s3, place.bucket, place.key, place.get_options)
            if location.where.is_content(item["Key"])
        ]  # fmt: skip
        if not records and found:
            self._check_abandoned(max(found, key=lambda item: item["LastModified"]))
        old: dict[str, Content] = {}
        manifest = None
        if records:
            output = records[0].get("output", {})
            named = s3_contents.read(location.s3, place.record_bucket, place.record_key, output, place.get_options)
            old = {item.key: item for item in named or ()}
            if s3_contents.is_cut(output):
                manifest = s3_contents.manifest_key(place.record_key, str(output.get("commit")))
        return old, manifest, {item["Key"]: item["ETag"].strip('"') for item in found}

    def _check_abandoned(self, newest: Mapping[str, Any]) -> None:
        """Objects without a record: left by a dead writer or a stranger, or is somebody just writing them?"""
        there = head(self.location.s3, self.location.place.bucket, newest["Key"], {})
        if there is None or there.commit is None:
            return
        if owner_token.is_of_this_world(there.commit):
            alive = not owner_token.owner_is_gone(there.commit) and (self.folder.parent / there.commit).exists()
        else:
            alive = datetime.now(timezone.utc) - newest["LastModified"] < LEASE
        if alive:
            raise self._conflict()

    def _send(self, plan: Changes, keep_old: bool) -> None:
        """Upload what is not there yet, without touching what the old record names."""
        members = {member.key: member for member in self._members}
        staged = [
            replace(members[key], key=self.location.where.staged_key(self.commit_id, key)) if keep_old else members[key]
            for key in plan.changed
        ]
        sent = self._upload([members[key] for key in plan.new] + staged, None)
        start = self.location.where.staged_prefix(self.commit_id)
        self._etags = dict(plan.same)
        for key, etag in sent.items():
            final = self.location.place.key + key[len(start) :] if key.startswith(start) else key
            self._etags[final] = etag

    def _plan(self, record: Record, plan: Changes, old_manifest: str | None) -> Record:
        location = self.location
        return {
            "record": record,
            "contents": [item.as_json() for item in self._with_etags()],
            "copies": plan.changed if self.replaced else [],
            "gone": plan.gone,
            "limit": location.contents_limit,
            "old_manifest": old_manifest,
            "copy_options": {
                key: value
                for key, value in location.place.put_options.items()
                if key not in ("Metadata", "ContentType")
            },
        }

    def _swap_record(self, plan: Record) -> Record:
        """No object of the old output changes its bytes: one PUT of the record is the whole switch."""
        location = self.location
        contents = [Content.from_json(item) for item in plan["contents"]]
        full = publish_record(
            location.s3, location.where, plan["record"], contents, plan["limit"], self._record_options
        )
        if self._record_etag is None:
            put_record(location.s3, location.where, full, self._record_options, location.conditions)
        else:
            try:
                location.register.write([full], self._record_etag, location.conditions)
            except CommitConflictError as error:
                records, _ = location.register.read()
                if not records or commit_of(records[0]) != self.commit_id:  # else: only the reply was lost
                    raise self._conflict() from error
        quietly(lambda: delete_many(location.s3, location.place.bucket, plan["gone"], {}))
        if plan["old_manifest"]:
            quietly(lambda: delete_many(location.s3, location.place.record_bucket, [plan["old_manifest"]], {}))
        return full

    # ---- parts

    def _progress(self, count: int) -> None:
        """Tell the user's callback, and now and then others that this process lives."""
        if self.location.place.progress:
            self.location.place.progress(count)
        if self._claim is not None and time.monotonic() - self._alive_at > LEASE.total_seconds() / 6:
            with self._refreshing:
                if time.monotonic() - self._alive_at > LEASE.total_seconds() / 6:
                    self._claim = self._file().write(self._claim)
                    self._alive_at = time.monotonic()

    def _conflict(self) -> CommitConflictError:
        return CommitConflictError(
            f"{self.location.uri} is being written, or was changed, by another writer while this output was being "
            "made. Its output stands, ours was discarded; check for two runs of the same task."
        )


def _files_below(root: str) -> Iterator[str]:
    """All files, through links too: a prefix knows no links.

    Raises:
        TargetKindError: a pipe, a link that leads nowhere, or one to a folder that holds it.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        if (here := (status.st_dev, status.st_ino)) in above:
            raise TargetKindError(f"{folder} is a link to a folder that holds it, so its files have no end. Remove it.")
        for entry in copying.entries(folder):
            if entry.is_dir():
                waiting.append((entry.path, above | {here}))
            elif entry.is_file():
                yield entry.path
            else:
                raise TargetKindError(f"{entry.path} is no file that could go to S3, nor a link to one. Remove it.")

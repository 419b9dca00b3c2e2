"""Replacing an S3 prefix: a short way into an empty one, a claimed way over what is there.

Into an empty prefix: each object with `If-None-Match: *`, the one whose key sorts first before the others, so
that of two writers one is stopped at once; then the record, with `If-None-Match: *`.

Over what is there, under the claim of `prefix_recovery`: objects with the same bytes stay; new ones go up
beside the old, which is still complete by its record; changed ones go to staged keys. Only then, if anything
changed, a blocker takes the place of the record (the output is absent), the server copies the staged objects, and
the new record takes the place of the blocker. A failing upload therefore leaves the old output; a crash later is
finished by the next process that looks. `prefix_steps` says what fences each step.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from superluigi.errors import (
    CommitConflictError,
    CommitError,
    OutputNotWrittenError,
    StorageAccessError,
    TargetKindError,
)
from superluigi.storage import input_lists, local_names
from superluigi.storage.base import SCHEMA, Record, StagedWrite
from superluigi.storage.local import copy
from superluigi.storage.local.stages import stage_check
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.intent_log import MARK, IntentLog
from superluigi.storage.objects.location import afterwards, suppress_errors, twice
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.prefix.prefix_changes import Changes, changes, check_abandoned, files_below, named_by
from superluigi.storage.objects.prefix.prefix_recovery import Claim, ClaimFile, Hold
from superluigi.storage.objects.prefix.prefix_state import KIND, PrefixState
from superluigi.storage.objects.prefix.prefix_steps import PrefixStore
from superluigi.storage.objects.record import commit_of
from superluigi.storage.objects.store import ObjectEntry, WriteCondition, in_threads, is_key

_log = logging.getLogger(__name__)
_ATTEMPTS = 5
#: How often one who withdraws asks for the claim; others may be withdrawing just then.
_CLAIMS = 40


class StagedPrefix(StagedWrite):
    """A local folder on its way to a prefix; `replaced` is the commit of what was there when the work began."""

    def __init__(self, location: PrefixState, folder: Path, empty: bool, replaced: str | None) -> None:
        self.location, self.folder, self.empty, self.replaced = location, folder, empty, replaced
        self.commit_id = folder.name
        self.path = folder / "output" / location.name()
        self.path.mkdir(parents=True)
        self._output: Record | None = None
        self._members: list[ObjectEntry] = []

    def prepare(self) -> Record:
        if self._output is None:
            prefix = self.location.place.key

            def described(item: tuple[str, str]) -> ObjectEntry:
                name, path = item
                size = os.stat(path).st_size
                if size > 1 << 20:
                    return ObjectEntry(prefix + name, path, size, sha256=copy.sha256(Path(path)))
                # A small file is read whole anyway, without the steps of a large one; those of /proc are larger than
                # they say.
                body = copy.read_file(path)
                return ObjectEntry(prefix + name, path, len(body), sha256=hashlib.sha256(body).hexdigest())

            found = in_threads(described, self._files(), os.cpu_count() or 2)
            self._members = sorted(found, key=lambda member: member.key)
            described_output = manifest.output_of(
                KIND, self.location.uri, self._contents(), self.commit_id, self.location.contents_limit
            )
            self._output = {**described_output, **self.notes}
        return self._output

    def commit(self, record: Record | None) -> Record | None:
        output = self.prepare()
        made = {"schema": SCHEMA, **(record or {}), "output": dict(output)}
        location = self.location
        note(location, self.folder)
        try:
            with location.commit_lock():
                published = self._publish(made)
        finally:
            location.forget_looks()  # missing while this was made, it is there now
        afterwards(location.uri, self._keep)
        afterwards(location.uri, self.discard)
        return published if record is not None else None

    def _keep(self) -> None:
        """Make what was uploaded the local copy, unless a name in it is one that a local copy cannot have."""
        facts = {
            member.key[len(self.location.place.key) :]: {"etag": self._etags[member.key], "sha256": member.sha256}
            for member in self._members
        }
        if all(local_names.local_name(name) == name for name in facts):
            self.location.insert(self.path, self.commit_id, facts)

    def replaces(self, record: Record) -> bool:
        return self.replaced is not None and commit_of(record) == self.replaced

    def discard(self) -> None:
        intent_log.drop(self.folder, self._owes)

    # ---- what was written

    def _files(self) -> list[tuple[str, str]]:
        if self.path.exists() and not self.path.is_dir():
            raise TargetKindError(
                f"A file was written to output_path, but the output {self.location.uri} is an {KIND}: output_path "
                "is an existing empty folder. Write into it, or use S3ObjectTarget."
            )
        below = files_below(str(self.path)) if self.path.exists() else ()
        found = [(path[len(str(self.path)) + 1 :], path) for path in below]
        stage_check.check_alone(self.path, self.location.uri)
        stage_check.check_written(self.folder, self.location.uri)
        if not found:
            raise OutputNotWrittenError(
                f"Nothing was written into the folder output_path for {self.location.uri}; it is empty. "
                "Write at least one file into it."
            )
        for name, _ in found:
            if not is_key(name):
                why = "a key of S3 is text in UTF-8. Choose another name"
            elif name.startswith(MARK):
                why = f"names that begin with {MARK[:-1]!r} are ours. Choose another name"
            elif not self.location.where.is_content(self.location.place.key + name):
                why = "that key is where its record is. Choose another name, or another metadata_object_key"
            else:
                continue
            raise TargetKindError(f"{name!r} was written into the folder of {self.location.uri}, but {why}.")
        self.location.refuse_long(*(self.location.place.key + name for name, _ in found))
        return sorted(found)

    def _contents(self) -> list[Manifest]:
        return [Manifest(member.key, member.size, None, member.sha256) for member in self._members]

    def _with_etags(self) -> list[Manifest]:
        return [replace(item, etag=self._etags.get(item.key)) for item in self._contents()]

    # ---- the short way

    _etags: dict[str, str]
    #: Whether something of ours may be under final names, or in the record's place.
    _to_undo = False
    #: Whether something of ours may remain on the server that is no part of an output.
    _owes = False
    #: Whether there are lists of inputs of ours.
    _listed = False

    def _publish(self, record: Record) -> Record:
        """Take the short way while nothing is there, else the claimed one.

        Two writers with different keys may stop each other in an empty prefix: then both withdraw, and chance
        decides who is first the next time.
        """
        empty = self.empty
        for attempt in range(_ATTEMPTS):
            try:
                with Hold(ClaimFile(self._store), Claim(self.commit_id, self.commit_id)) as hold:
                    return self._into_empty(record, hold) if empty else self._over(record, hold)
            except CommitConflictError:
                seen = self.location.snapshot()
                if seen.record or self.replaced or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.1) * attempt)
                empty = seen.nothing
        raise self._conflict()

    @property
    def _store(self) -> PrefixStore:
        return self.location.store

    def _into_empty(self, record: Record, hold: Hold) -> Record:
        location, store = self.location, self._store
        condition = WriteCondition() if location.conditions.create else None
        if condition is None and not location.snapshot().nothing:
            raise self._conflict()
        ordered = sorted(self._members, key=lambda member: member.key)
        self._etags = {}
        full = record
        try:
            self._to_undo = self._owes = True
            for batch in (ordered[:1], ordered[1:]):
                try:
                    self._etags |= self._upload(batch, condition)
                except CommitConflictError:
                    self._to_undo = bool(self._etags)  # the first one is another writer's: there is none of ours
                    raise
            full = store.described(self._stored(record), self._with_etags(), location.contents_limit)
            hold.check()
            store.publish(full, None)
        except BaseException as error:  # noqa: BLE001  # raised again there
            self._give_up(error, hold)
        self._owes = not suppress_errors(hold.release)
        return full

    def _upload(
        self, members: Sequence[ObjectEntry], condition: WriteCondition | None, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        place = self.location.place
        labels = {"superluigi-commit": self.commit_id, **(more or {})}
        done = self.location.s3.upload_many(place.bucket, members, labels, place.put_options, condition, place.progress)
        return {key: put.etag for key, put in done.items()}

    def _give_up(self, error: BaseException, hold: Hold) -> None:
        """Remove what was uploaded, and raise `error`; unless what failed was only the reply to the publication."""
        published = False

        def undo() -> None:
            nonlocal published
            published = self._undo(hold)
            self._owes = False

        suppress_errors(undo)
        if published and isinstance(error, Exception):
            return
        if isinstance(error, CommitConflictError):
            raise self._conflict() from error
        raise error

    def _undo(self, hold: Hold) -> bool:
        """Whether it was published after all."""
        store, token = self._store, self.commit_id
        if not self._to_undo:
            store.revoke(token)
            if self._listed:
                store.remove_manifest(token)
            hold.release()
            return False
        try:
            store.put_gravestone(token)  # before the claim: see `revoke`
            for attempt in range(_CLAIMS):
                try:
                    hold.change()
                    break
                except CommitConflictError:  # others withdraw as well, one by one
                    hold.check()
                    if attempt == _CLAIMS - 1:
                        raise
                    time.sleep(random.uniform(0, 0.05))
        except BaseException:
            store.revoke(token)
            raise
        published = store.undo(token, token, stays=False)
        hold.release()
        return published

    # ---- the claimed way

    def _over(self, record: Record, hold: Hold) -> Record:
        store, switching = self._store, False
        self._to_undo, self._owes = False, True
        try:
            take(self.location, hold)
        except CommitConflictError:
            self._owes = False
            raise
        except BaseException:  # was it taken? The answer may have been lost
            self._owes = not suppress_errors(lambda: self._withdraw_claim(hold))
            raise
        try:
            etag, old, old_manifest, old_lists, there = self._what_is_there()
            self.location.refuse_inner("replace", there, lambda: old)
            plan = self._send(changes({item.key: item for item in self._contents()}, old, there))
            if plan.gone:
                store.put_gravestone(self.commit_id)
            written = self._plan(self._stored(record), plan, old_manifest, old_lists)
            if plan.changed:
                hold.change(state="switching", plan=written)
                switching = True
                published = self._switch(hold, written)
            else:
                published = self._swap_record(written, etag, hold)
        except BaseException as error:
            if switching and not self._turned_back(error, hold):  # the next process finishes it: the claim says how
                if isinstance(error, CommitConflictError) or not isinstance(error, Exception):
                    raise
                raise CommitError(
                    f"{self.location.uri} was not put in its place to the end. {error} All of it is on the server: the "
                    "next commit there finishes it, or a reader that finds nothing whole."
                ) from error
            self._give_up(error, hold)
            published, written = store.standing().record or record, self._plan(record, Changes({}, [], [], []))
        afterwards(self.location.uri, lambda: self._learn_etags(published))
        self._clean_up(hold, written)
        return published

    def _turned_back(self, error: BaseException, hold: Hold) -> bool:
        """Whether the server refuses what an exchange begins with, and the claim says again that none has begun."""
        if isinstance(error, StorageAccessError) or getattr(error, "errno", None) == errno.ENOSPC:
            with contextlib.suppress(Exception):
                standing = self._store.standing()
                if standing.record is not None and standing.commit == self.replaced:
                    hold.change(state="uploading", plan=None)
                    return True
        return False

    def _withdraw_claim(self, hold: Hold) -> None:
        found = hold.file.read()
        if found is not None and found.commit == self.commit_id:
            hold.file.release(found)

    def _learn_etags(self, published: Record) -> None:
        self._etags = {item.key: item.etag or "" for item in named_by(self._store, published).values()}

    def _clean_up(self, hold: Hold, plan: Record) -> None:
        """Remove what was replaced. The output is complete: what fails now fails nothing, but the claim stays."""
        waiting: list[Callable[[], None]] = [lambda: self._store.clean_up(self.commit_id, plan), hold.release]

        def work() -> None:
            while waiting:
                waiting[0]()
                del waiting[0]
            self._owes = False

        try:
            twice(work)
        except CommitConflictError:
            self._owes = False  # who took the claim over does it
        except Exception as error:  # noqa: BLE001  # see above
            _log.warning(
                "%s is committed, but what it replaced could not be removed (%s). The next commit there, or "
                "`superluigi clean`, does it.", self.location.uri, error,
            )  # fmt: skip

    def _switch(self, hold: Hold, plan: Record) -> Record:
        """Carry out the plan; after an error once more, for there is no way back and all that is needed is there."""
        store = self._store
        try:
            return store.carry_out(self.commit_id, plan)
        except Exception:  # noqa: BLE001  # raised again by the second attempt if it lasts
            try:
                hold.change()
            except CommitConflictError as error:
                standing = store.standing()  # who took over may have finished it for us
                if standing.record is not None and standing.commit == self.commit_id:
                    return standing.record
                raise self._conflict() from error
            return store.carry_out(self.commit_id, plan)
        except BaseException:  # Ctrl-C: nothing half done remains
            suppress_errors(lambda: store.carry_out(self.commit_id, plan))
            self._clean_up(hold, plan)
            raise

    def _what_is_there(self) -> tuple[str | None, dict[str, Manifest], str | None, list[str], dict[str, str]]:
        """The ETag at the record's key, what the old record names, its manifest's key, its lists of inputs, and
        key -> ETag of the data.

        Where there is no record, a blocker goes to its place first: none of an older writer can come any more.

        Raises:
            CommitConflictError: it is no longer what it was when the work began, or another process is at it.
        """
        location, place, store = self.location, self.location.place, self._store
        standing = store.standing()
        if standing.commit != self.replaced:
            raise self._conflict()
        etag = standing.etag
        if standing.record is None:
            stays = check_abandoned(location) or standing.stays
            self._to_undo = True
            etag = store.block(etag, self.commit_id, stays=stays)
        there = {item.key: item.etag for item in store.contents()}
        old, old_manifest = named_by(store, standing.record), None
        if standing.record is not None and manifest.is_cut(output := standing.record.get("output", {})):
            old_manifest = manifest.manifest_key(place.record_key, str(output.get("commit")))
        return etag, old, old_manifest, sorted(input_lists.named(standing.record)), there

    def _send(self, plan: Changes) -> Changes:
        """Upload what is not there yet, without touching what is; the plan as it is then."""
        members = {member.key: member for member in self._members}
        condition = WriteCondition() if self.location.conditions.create else None
        self._etags = dict(plan.same)
        self._to_undo |= bool(plan.new)
        try:
            self._etags |= self._upload([members[key] for key in plan.new], condition)
        except CommitConflictError:  # a writer taken for dead still put a key there: it is exchanged like an old one
            there = {item.key for item in self._store.contents()}
            late = [key for key in plan.new if key in there]
            plan = replace(plan, new=[key for key in plan.new if key not in there], changed=[*plan.changed, *late])
            self._etags |= self._upload([members[key] for key in plan.new], condition)
        where = self.location.where
        staged = {where.staged_key(self.commit_id, key): key for key in plan.changed}
        sent = self._upload([replace(members[key], key=name) for name, key in staged.items()], None, where.labels)
        self._etags |= {staged[name]: etag for name, etag in sent.items()}
        return plan

    def _stored(self, record: Record) -> Record:
        """The record as it is stored; its lists of inputs are written."""
        register = self._store.register
        record, lists = register.split(record, self.commit_id)
        self._listed |= bool(lists)
        register.put_lists(lists)
        return record

    def _plan(
        self, record: Record, plan: Changes, old_manifest: str | None = None, old_lists: Sequence[str] = ()
    ) -> Record:
        location = self.location
        return {
            "record": record,
            "replaced": self.replaced,
            "contents": [item.as_json() for item in self._with_etags()],
            "copies": plan.changed,
            "gone": plan.gone,
            "limit": location.contents_limit,
            "old_manifest": old_manifest,
            "old_lists": list(old_lists),
            "copy_options": {
                key: value
                for key, value in location.place.put_options.items()
                if key not in ("Metadata", "ContentType")
            },
        }

    def _swap_record(self, plan: Record, etag: str | None, hold: Hold) -> Record:
        """No object that was there changes its bytes: one PUT of the record is the whole switch."""
        store = self._store
        contents = [Manifest.from_json(item) for item in plan["contents"]]
        full = store.described(plan["record"], contents, plan["limit"])
        hold.change()  # after the look at the record: who takes over from now on changes it before anything else
        listed, self._listed = self._listed, False  # without an answer, there may be a record that names them
        try:
            self._publish_over(full, etag, hold)
        except CommitConflictError:
            self._listed = listed
            raise
        return full

    def _publish_over(self, record: Record, etag: str | None, hold: Hold) -> None:
        store = self._store
        try:
            store.publish(record, etag)
        except CommitConflictError:
            standing = store.standing()  # did only `write_metadata` change it?
            if standing.commit != self.replaced or standing.record is None:
                raise
            hold.change()
            store.publish(record, standing.etag)

    # ---- parts

    def _conflict(self) -> CommitConflictError:
        return conflict(self.location)


def note(location: PrefixState, folder: Path) -> None:
    """Write down where the dead owner of a staging folder may have left something."""
    place = location.place
    IntentLog(folder, location.s3.namespace).add(
        "prefix", bucket=place.bucket, prefix=place.key, record_bucket=place.record_bucket,
        record_key=place.record_key, commit=folder.name,
    )  # fmt: skip


def conflict(location: PrefixState) -> CommitConflictError:
    return CommitConflictError(
        f"{location.uri} is being written, or was changed, by another writer since this one looked what is there. "
        "Its output stands, ours was discarded; check for two runs of the same task, or write again to replace it."
    )


def take(location: PrefixState, hold: Hold) -> None:
    """Take the claim, over from a dead process if need be.

    Raises:
        CommitConflictError: a living process has it, as far as can be known.
    """
    try:
        hold.change()
    except CommitConflictError as error:
        if not location.recover():
            raise conflict(location) from error
        try:
            hold.change()
        except CommitConflictError as again:
            raise conflict(location) from again

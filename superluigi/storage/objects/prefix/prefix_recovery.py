"""The claim on an S3 prefix: who replaces it, and how the next process finishes what a dead one began.

A prefix that holds something is replaced under a claim, `<record>.pending`, which is made with
`If-None-Match` and changed by compare-and-swap, so that one process at a time acts on it. In state
`uploading` the old record still stands, and the claim can be undone; in state `switching` it holds the whole
plan, a blocker stands where the record was (the output is absent), and the claim can only be finished: everything
that is needed is on the server. Its holder alone turns back, while the server refuses the blocker.

Only the process table of this boot can call a claim's holder dead. Every other claim is a lease: it stands for
`LEASE` after it was last renewed, both told by the server's clock, and its holder renews it all the while. Should
both work at once nevertheless, `prefix_steps` says why neither can harm the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from superluigi.errors import CommitConflictError
from superluigi.storage import owner_token
from superluigi.storage.base import Record, parsed
from superluigi.storage.objects.intent_log import active, is_over
from superluigi.storage.objects.prefix.prefix_steps import PrefixKeys, PrefixStore, is_plan
from superluigi.storage.objects.record import to_json
from superluigi.storage.objects.renewed import Renewed, etag_of_ours
from superluigi.storage.objects.store import ObjectStore, WriteCondition

#: How long a claim stands without a sign of life, if its holder is not known to be gone.
LEASE = timedelta(hours=1)


@dataclass(frozen=True)
class Claim:
    """The claim as it is on the server. `holder` is the token of the process that acts on it now."""

    commit: str
    holder: str
    state: str = "uploading"
    plan: Record | None = None
    etag: str = ""
    #: When it was last renewed, and when that was asked, by the server's clock.
    modified: datetime | None = None
    asked: datetime | None = None

    def is_abandoned(self) -> bool:
        """Whether its holder is surely gone, or gave no sign of life for a lease."""
        return is_over(self.holder) or has_run_out(self.modified, self.asked)


def has_run_out(modified: datetime | None, now: datetime | None) -> bool:
    """Whether a lease that was last renewed at `modified` has ended; both by the server's clock."""
    return modified is not None and now is not None and now - modified > LEASE


class ClaimFile:
    """The claim's object of one prefix."""

    def __init__(self, store: PrefixStore) -> None:
        self.store, self.s3 = store, store.s3
        self.bucket, self.key = store.place.record_bucket, store.place.claim_key
        self.conditional = store.conditions.create and store.conditions.match

    def read(self) -> Claim | None:
        if (found := self.s3.get(self.bucket, self.key, {})) is None:
            return None
        claim = Claim("", "", etag=found[1].etag, modified=found[1].modified, asked=self.s3.now)
        try:
            document = parsed(found[0])
            said = [document[name] for name in ("commit", "holder", "state")]
            plan = document.get("plan")
        except (ValueError, KeyError, TypeError, AttributeError):
            return claim  # not ours, or torn
        if not all(isinstance(text, str) for text in said) or not (plan is None or is_plan(plan)):
            return claim
        return replace(claim, commit=said[0], holder=said[1], state=said[2], plan=plan)

    def write(self, claim: Claim) -> Claim:
        """Swap the claim from the state with `claim.etag` ("" : absent) to this one.

        Raises:
            CommitConflictError: another process holds it.
        """
        # The number makes every state another one, also for a server that knows it by its bytes alone.
        document = {
            "schema": "superluigi.pending/1", "commit": claim.commit, "holder": claim.holder, "state": claim.state,
            "plan": claim.plan, "time": time.time(), "number": os.urandom(6).hex(),
        }  # fmt: skip
        condition = WriteCondition(claim.etag or None)
        if not self.conditional:
            there = self.s3.head(self.bucket, self.key, {})
            if (there.etag if there else "") != claim.etag:
                raise CommitConflictError(f"s3://{self.bucket}/{self.key} changed.")
        text, wanted = to_json(document), condition if self.conditional else None

        def ours() -> str | None:
            found = self.read()
            same = found and (found.commit, found.holder, found.state) == (claim.commit, claim.holder, claim.state)
            return found.etag if found and same else None

        options = self.store.put_options
        etag = etag_of_ours(lambda: self.s3.put(self.bucket, self.key, text, wanted, options).etag, ours)
        return replace(claim, etag=etag)

    def release(self, claim: Claim) -> None:
        """Remove the claim.

        Raises:
            CommitConflictError: it is no longer this one.
        """
        self.s3.delete_if(self.bucket, self.key, claim.etag, {})


class Hold(Renewed):
    """Our claim on a prefix while we work: a thread renews it, also while the server copies."""

    def __init__(self, file: ClaimFile, claim: Claim) -> None:
        super().__init__(LEASE, "superluigi-claim")
        self.file, self.claim = file, claim

    def __enter__(self) -> Hold:
        active.add(self.claim.holder)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        active.discard(self.claim.holder)

    def change(self, **what: object) -> Claim:
        """Swap the claim to itself with `what`, which proves that it is ours now.

        Raises:
            CommitConflictError: it is no longer ours; nothing must be touched any more.
        """
        self._prove(lambda: self._swap(**what))
        return self.claim

    def release(self) -> None:
        """Give the claim back, if there is one.

        Raises:
            CommitConflictError: it was taken over.
        """
        with self._turn:
            self._ended.set()
            if self.claim.etag:
                self.file.release(self.claim)
                self.claim = replace(self.claim, etag="")

    def _was_ours(self) -> bool:
        return bool(self.claim.etag)

    def _swap(self, **what: Any) -> None:
        self.claim = self.file.write(replace(self.claim, **what))

    def _taken_over(self) -> CommitConflictError:
        return CommitConflictError(f"The claim s3://{self.file.bucket}/{self.file.key} was taken over.")


def recover(store: PrefixStore) -> bool:
    """Finish or undo what an abandoned claim began; False if its holder is alive, as far as can be known.

    Raises:
        CommitConflictError: another process is just doing the same.
    """
    file = ClaimFile(store)
    if (claim := file.read()) is None:
        return True
    if not claim.is_abandoned():
        return False
    if not claim.commit:
        file.release(claim)
        return True
    _take_over(store, file, claim)
    return True


def _take_over(store: PrefixStore, file: ClaimFile, claim: Claim) -> None:
    """Act in the place of `claim`'s holder (with an ETag of "", of a writer that made no claim)."""
    token = owner_token.token()
    with Hold(file, replace(claim, holder=token)) as hold:
        hold.change()  # first: no note tells of this token, so the claim must, before anything bears it
        if claim.state == "switching" and claim.plan is not None:
            try:
                store.carry_out(claim.commit, claim.plan)
                store.clean_up(claim.commit, claim.plan)
            except CommitConflictError:
                hold.change()  # still ours: then another program changed the record, and the plan is void
                store.revoke(claim.commit)
        else:
            try:
                store.put_gravestone(token)
                hold.change()  # still ours: see `revoke`
            except CommitConflictError:
                store.revoke(token)
                raise
            store.undo(claim.commit, token, stays=not is_over(claim.commit))
            store.revoke(token)
        if claim.holder != claim.commit:
            store.revoke(claim.holder)
        hold.release()


def recover_noted(s3: ObjectStore, line: Mapping[str, Any], root: Path) -> None:
    """Follow the note of a dead process: its claim, or without one its uploads under final names.

    Raises:
        CommitConflictError: another process works there now.
    """
    place = PrefixKeys(line["bucket"], line["prefix"], line["record_bucket"], line["record_key"])
    store = PrefixStore(s3, place, s3.conditional_writes(place.record_bucket, place.record_key, root), {}, {})
    file, commit = ClaimFile(store), line["commit"]
    if (claim := file.read()) is None:
        _take_over(store, file, Claim(commit, commit))
    elif claim.commit == commit:
        recover(store)
    else:
        raise CommitConflictError(f"s3://{place.bucket}/{place.prefix} is being written by another process.")

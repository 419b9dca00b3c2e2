"""Who is making an output of a store just now: a small object beside the record, `<record>.running`.

It is put on the condition that none is there, changed and removed on the condition of its own ETag, and renewed while
the attempt lasts. Only the process table of this boot can call its holder dead; every other one keeps it for `LEASE`
after it was last renewed, both told by the server's clock. A process that was taken for dead and lives touches
nothing: the commit asks first (`confirm`), and is itself conditional on what it replaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta

from superluigi.errors import CommitConflictError, TargetError
from superluigi.storage import owner_token
from superluigi.storage.base import Holder, Lease, parsed
from superluigi.storage.objects.intent_log import active, is_over
from superluigi.storage.objects.renewed import Renewed, etag_of_ours
from superluigi.storage.objects.store import Head, ObjectStore, WriteCondition

SUFFIX = ".running"
LEASE = timedelta(seconds=60)
_ATTEMPTS = 5


class LeaseFile:
    """The lease's object of one output."""

    def __init__(self, store: ObjectStore, bucket: str, record_key: str, put_options: Mapping[str, object]) -> None:
        self.store, self.bucket, self.key = store, bucket, record_key + SUFFIX
        self.put_options = {"ContentType": "application/json", **put_options}

    def read(self) -> tuple[Holder, Head] | None:
        """Who has it, and the head of what says so; None if nothing is there."""
        if (found := self.store.get(self.bucket, self.key, {})) is None:
            return None
        holder = Holder(far=True)
        with contextlib.suppress(ValueError, KeyError, TypeError):  # not ours, or torn: stands until its time is over
            said = parsed(found[0])
            holder = Holder(str(said["holder"]), float(said["since"]), far=True)
        return holder, found[1]

    def is_abandoned(self, holder: Holder, there: Head) -> bool:
        """Whether its holder is surely gone, or gave no sign of life for a lease."""
        now = self.store.now
        late = there.modified is not None and now is not None and now - there.modified > LEASE
        return late or bool(holder.token and is_over(holder.token))

    def write(self, token: str, since: float, etag: str | None) -> str:
        """Swap it from the state with this ETag (None: absent) to one of `token`; the new ETag.

        Raises:
            CommitConflictError: it is in another state.
        """
        # The number makes every state another one, also for a server that knows it by its bytes alone.
        text = json.dumps(
            {"schema": "superluigi.lease/1", "holder": token, "since": since, "number": os.urandom(6).hex()}
        ).encode()

        def ours() -> str | None:
            found = self.read()
            return None if found is None or found[0].token != token else found[1].etag

        put = WriteCondition(etag)
        return etag_of_ours(lambda: self.store.put(self.bucket, self.key, text, put, self.put_options).etag, ours)

    def take(self) -> Lease | Holder:
        """The lease, or who has it."""
        token, since = owner_token.token(), time.time()
        active.add(token)
        try:
            for _ in range(_ATTEMPTS):
                found = self.read()
                if found is not None and not self.is_abandoned(*found):
                    return self._taken(token, found[0])
                try:
                    etag = self.write(token, since, found[1].etag if found else None)
                except CommitConflictError:
                    continue  # another process was faster: it has it now, or is through already
                return StoreLease(self, token, since, etag)
            return self._taken(token, Holder(far=True))
        except BaseException:
            active.discard(token)
            raise

    def holder(self) -> Holder | None:
        """Who has the lease, if a living process has."""
        found = self.read()
        return None if found is None or self.is_abandoned(*found) else found[0]

    @staticmethod
    def _taken(token: str, holder: Holder) -> Holder:
        active.discard(token)
        return holder


class StoreLease(Renewed, Lease):
    """A lease that a thread renews."""

    def __init__(self, file: LeaseFile, token: str, since: float, etag: str) -> None:
        super().__init__(LEASE, "superluigi-lease")
        self.file, self.token, self.since, self.etag = file, token, since, etag
        self._pid = os.getpid()
        self._thread.start()

    def confirm(self) -> None:
        self._prove(self._swap)

    def release(self) -> None:
        self._ended.set()
        if self._pid != os.getpid():  # a forked child: the lease is its parent's
            return
        with self._turn:
            active.discard(self.token)
            if not self._lost:
                self._lost = True
                with contextlib.suppress(TargetError, OSError):  # it runs out by itself
                    self.file.store.delete_if(self.file.bucket, self.file.key, self.etag, {})

    def _was_ours(self) -> bool:
        return True

    def _swap(self) -> None:
        self.etag = self.file.write(self.token, self.since, self.etag)

    def _taken_over(self) -> CommitConflictError:
        return CommitConflictError(
            f"The lease s3://{self.file.bucket}/{self.file.key} was taken over: another process makes this output now. "
            "What there is of ours was discarded."
        )

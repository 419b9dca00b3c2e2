"""One worker: claim a task, have it run (`attempts`), record what came of it together with the next claim; again."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from superluigi.errors import (
    DefinitionError,
    OptionError,
    QueueError,
    QueueGoneError,
    QueueUnreachableError,
    traceback_of,
)
from superluigi.execution.process import signals
from superluigi.queue.models import DEFAULT_POOL, Result
from superluigi.queue.store import claims, finish_and_claim, registry, tables, views
from superluigi.queue.store.claims import Claim
from superluigi.queue.store.database import Database
from superluigi.queue.workers.attempt_runner import GRACE_SECONDS, QueueAttemptRunner
from superluigi.storage import owner_token

if TYPE_CHECKING:
    from superluigi.queue.feed import FailureFeed

logger = logging.getLogger("superluigi.queue")
#: How long a worker stays when there is work, but only in other pools, and no worker does it.
_PATIENCE_SECONDS = 1.0
#: Pauses between looks at an idle queue grow from the first to the second.
_NAPS_SECONDS = (0.02, 0.5)


@dataclass(frozen=True)
class WorkOptions:
    """How one worker works."""

    pool: str = DEFAULT_POOL
    lease_seconds: float = 60.0
    #: End after this long without work; None: as soon as nothing more can run.
    idle_seconds: float | None = None
    #: At most this many tasks.
    max_tasks: int | None = None
    #: How long external tasks that are missing wait until they are looked for again.
    recheck_seconds: float = 60.0
    #: Say what fails, where nothing else does: a spawner tells it for its workers.
    tells: bool = True


class Worker:
    """Works on one pool until there is nothing more to do or it is told to end."""

    def __init__(self, database: Database, options: WorkOptions) -> None:
        self.name = owner_token.token()
        self._database = database
        self._options = options
        self._seen = 0.0
        self._swept = 0.0
        self._leaving = threading.Event()
        self._feed: FailureFeed | None = None
        if options.tells:
            from superluigi.queue.feed import (
                FailureFeed,  # late: it brings Luigi, which a spawner's worker can do without
            )

            self._feed = FailureFeed(database)
        #: Tasks that failed here and did not succeed here later.
        self.failed: set[str] = set()
        with database.read() as connection:
            pools = registry.load_pools(connection)
        if options.pool not in pools:
            raise OptionError(f"There is no pool {options.pool!r}; this queue has {', '.join(sorted(pools))}.")
        pool = pools[options.pool][0]
        self._leave_at = time.monotonic() + pool.longest.total_seconds() - GRACE_SECONDS if pool.longest else None
        self._attempts = QueueAttemptRunner(
            self.name, database, pool, options.lease_seconds, self._should_leave, self._leaving, self._leave_at
        )

    def is_paused(self) -> bool:
        """Whether its pool starts nothing now."""
        with self._database.read() as connection:
            return registry.load_pools(connection)[self._options.pool][1]

    def leave(self) -> None:
        """Have it put back (or kill, by the pool's policy) what it runs, and end. Safe from signal handlers."""
        self._leaving.set()

    def run(self) -> int:
        """Work; returns the number of attempts made."""
        done = 0
        with self._database.change() as connection:
            registry.add_worker(connection, self.name, self._options.pool, self._database.now())
        try:
            with signals.calling(self.leave, signal.SIGTERM, signal.SIGINT):  # a walltime ends, or Ctrl-C
                for claim in self._claims():
                    self._outcome = claim, self._made(claim)
                    failed = self._has_failed = self._outcome[1].kind == "failed"
                    (self.failed.add if failed else self.failed.discard)(claim.task_id)
                    done += 1
        except QueueGoneError as error:
            logger.warning("%s; worker %s ends", error, self.name)
        finally:
            self._attempts.close()
            with contextlib.suppress(QueueError), self._database.write(flush=False) as connection:
                registry.remove_worker(connection, self.name)
        return done

    def _made(self, claim: Claim) -> Result:
        """What came of an attempt, whatever the database answers meanwhile: the row must hear of it."""
        try:
            return self._attempts.make(claim)
        except QueueGoneError:
            raise
        except QueueError as error:
            self._attempts.close()
            passes = isinstance(error, QueueUnreachableError)
            logger.warning("%s: %s", claim.task_id, error)
            return Result("requeued" if passes else "failed", str(error), None if passes else 1)
        except Exception as error:
            self._attempts.close()
            logger.warning("%s: its row cannot be worked on", claim.task_id, exc_info=error)
            return Result("failed", f"The row of the task cannot be worked on. {traceback_of(error)}", 1)

    # --- which task is next -------------------------------------------------------------------------------

    _outcome: tuple[Claim, Result] | None = None
    #: Whether a failure here has not been told yet.
    _has_failed = False

    def _claims(self) -> Iterator[Claim]:
        """Claims, one after the other; what came of one is recorded in the transaction of the next."""
        made, idle_since, nap = 0, time.monotonic(), _NAPS_SECONDS[0]
        while True:
            stop = self._should_leave() or made == self._options.max_tasks
            claim = self._record_and_claim(stop)
            if self._feed is not None and self._has_failed:
                self._has_failed = False
                self._feed.tell(at_once=True)
            if claim is not None:
                made += 1
                yield claim
                idle_since, nap = time.monotonic(), _NAPS_SECONDS[0]
                continue
            if stop or self._should_leave() or self._has_no_more(time.monotonic() - idle_since):
                return
            self._leaving.wait(nap)
            nap = min(2 * nap, _NAPS_SECONDS[1])

    def _should_leave(self) -> bool:
        if self._leave_at is not None and time.monotonic() > self._leave_at:
            return True
        return self._leaving.is_set()

    def _record_and_claim(self, stop: bool) -> Claim | None:
        """Try for a lease long: a database server may be restarted, and an outcome is worth waiting for."""
        outcome, self._outcome = self._outcome, None
        deadline = time.monotonic() + self._options.lease_seconds
        is_second = False
        while True:
            try:
                return self._transaction(outcome, stop)
            except QueueUnreachableError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("trying again: %s", error)
                time.sleep(1.0)
            except (DefinitionError, QueueError) as error:  # what `run` yielded cannot be, or is not to be kept
                if outcome is None or is_second or isinstance(error, QueueGoneError):
                    raise
                is_second, (claim, result) = True, outcome
                said = f"What came of the task could not be recorded ({result.kind}). {error}"
                outcome = claim, Result("failed", said, 1, claims.storable(result.log), final=True)

    def _transaction(self, outcome: tuple[Claim, Result] | None, stop: bool) -> Claim | None:
        if outcome is None and (stop or not self._anything_to_do()):
            return None
        now = self._database.now()
        if now > self._seen + self._options.lease_seconds / 3:
            self._seen = now
            with self._database.write(flush=False) as connection:
                self._database.look(connection)
                if registry.worker_seen(connection, self.name, now):
                    self.leave()
                    stop = True
        counts, claim = finish_and_claim.finish_and_claim(
            self._database, outcome, self.name, None if stop else self._options.pool, self._options.lease_seconds,
            self._options.recheck_seconds,
        )  # fmt: skip
        if not counts and outcome is not None:
            logger.warning("%s: the lease was lost, its outcome is void", outcome[0].task_id)
        return claim

    def _anything_to_do(self) -> bool:
        """Look without writing, so that idle workers do not stand in the way of busy ones."""
        now = self._database.now()
        if now > self._swept + min(1.0, self._options.lease_seconds / 4):
            self._swept = now
            self._sweep(self._database.now(exactly=True))
        with self._database.read() as connection:
            return connection.execute(_ANY_PENDING, {"pool": self._options.pool}).first() is not None

    def _sweep(self, now: float) -> None:
        with self._database.read() as connection:
            self._database.look(connection)
            dead = registry.dead_workers(connection)
            overdue = claims.overdue(connection, now, dead)
        if overdue or dead or now > self._seen + self._options.lease_seconds / 3:
            with self._database.write(flush=False) as connection:
                claims.sweep(connection, now, dead)
                for name in dead:
                    registry.remove_worker(connection, name)
                self._seen = now
                if registry.worker_seen(connection, self.name, now):
                    self.leave()

    def _has_no_more(self, idle_seconds: float) -> bool:
        """Whether to end: idle for as long as was said, or nothing can run any more.

        What waits in other pools counts as long as something runs: it may release tasks of this pool.
        """
        try:
            with self._database.read() as connection:
                activity = views.activity(connection)
        except QueueUnreachableError:  # the next look for work waits for it, or gives up
            return False
        patience = _PATIENCE_SECONDS
        if activity.settled:
            patience = 0.0 if self._options.idle_seconds is None else 0.2
        elif activity.running or activity.delayed or activity.pending.get(self._options.pool):
            patience = math.inf
        if self._options.idle_seconds is not None:
            patience = min(patience, self._options.idle_seconds)
        return idle_seconds > patience


_ANY_PENDING = text(f"SELECT 1 FROM {tables.tasks.name} WHERE state = 'PENDING' AND pool = :pool LIMIT 1")


def lease_seconds(lease: timedelta) -> float:
    """A lease as seconds.

    Raises:
        OptionError: too short to be renewed in time.
    """
    seconds = lease.total_seconds()
    if seconds < 1:
        raise OptionError(f"lease is {lease}; it must be at least one second, to be renewed in time.")
    return seconds

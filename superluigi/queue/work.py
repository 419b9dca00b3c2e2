"""One worker: claim a task, have a child process run it, keep the lease, record what came of it; again.

The child is another process, so that it can be ended (a timeout, a kill, a lost lease, memory) while the
worker tells what happened; it serves many attempts, since starting Python costs more than most of them.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from luigi.event import Event
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from superluigi.errors import DefinitionError, OptionError, QueueError, QueueGoneError
from superluigi.queue import runs, tables
from superluigi.queue.database import Database
from superluigi.queue.handle import ChildProcess, ending
from superluigi.queue.specs import TaskSpec
from superluigi.queue.states import Pool
from superluigi.queue.store import claims, people, views
from superluigi.queue.store.claims import Claim, Result
from superluigi.storage import identity

logger = logging.getLogger("superluigi.queue")
#: How long an interrupted task may clean up before it is killed.
GRACE_SECONDS = 5.0
#: How long a worker stays when there is work, but only in other pools, and nobody does it.
_PATIENCE_SECONDS = 1.0
#: Pauses between looks at an idle queue grow from the first to the second.
_NAPS_SECONDS = (0.02, 0.5)


@dataclass(frozen=True)
class WorkOptions:
    """How one worker works."""

    pool: str = "default"
    lease_seconds: float = 60.0
    #: End after this long without work; None: as soon as nothing more can run.
    idle_seconds: float | None = None
    #: At most this many tasks.
    max_tasks: int | None = None
    #: How long external tasks that are missing wait until they are looked for again.
    recheck_seconds: float = 60.0


@dataclass(frozen=True)
class _KnownRun:
    definition: str
    surroundings: runs.Surroundings
    #: Seconds since the epoch.
    submitted: float
    forces: bool


class Worker:
    """Works on one pool until there is nothing more to do or it is told to end."""

    def __init__(self, database: Database, logs: Path, options: WorkOptions) -> None:
        self.name = identity.token()
        self._database = database
        self._logs = logs
        self._options = options
        self._child: ChildProcess | None = None
        self._runs: dict[str, _KnownRun] = {}
        self._seen = 0.0
        self._swept = 0.0
        self._leaving = threading.Event()
        with database.read() as connection:
            pools = people.load_pools(connection)
        if options.pool not in pools:
            raise OptionError(f"There is no pool {options.pool!r}; this queue has {', '.join(sorted(pools))}.")
        self._pool: Pool = pools[options.pool][0]
        walltime = self._pool.walltime
        self._leave_at = time.monotonic() + walltime.total_seconds() if walltime else None

    def leave(self) -> None:
        """Have it put back (or kill, by the pool's policy) what it runs, and end. Safe from signal handlers."""
        self._leaving.set()

    def run(self) -> int:
        """Work; returns the number of attempts made."""
        done = 0
        with self._database.write() as connection:
            people.add_worker(connection, self.name, self._options.pool, self._database.now())
        try:
            with self._signals():
                for claim in self._claims():
                    self._outcome = self._attempt(claim)
                    done += 1
        except QueueGoneError as error:
            logger.warning("%s; worker %s ends", error, self.name)
        finally:
            self._end_child()
            with contextlib.suppress(QueueGoneError, OperationalError), self._database.write() as connection:
                people.remove_worker(connection, self.name)
        return done

    # --- which task is next -------------------------------------------------------------------------------

    _outcome: tuple[Claim, Result] | None = None

    def _claims(self) -> Iterator[Claim]:
        """Claims, one after the other; what came of one is recorded in the transaction of the next."""
        made, idle_since, nap = 0, time.monotonic(), _NAPS_SECONDS[0]
        while True:
            stop = self._should_leave() or made == self._options.max_tasks
            claim = self._record_and_claim(stop)
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
        if self._leave_at is not None and time.monotonic() > self._leave_at - GRACE_SECONDS:
            return True
        return self._leaving.is_set()

    def _record_and_claim(self, stop: bool) -> Claim | None:
        """Try for a lease long: a database server may be restarted, and an outcome is worth waiting for."""
        outcome, self._outcome = self._outcome, None
        deadline = time.monotonic() + self._options.lease_seconds
        while True:
            try:
                return self._transaction(outcome, stop)
            except DefinitionError as error:  # what `run` yielded cannot be: a cycle
                if outcome is None:
                    raise
                claim, result = outcome
                outcome = claim, Result("failed", str(error), 1, result.log)
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise QueueError(f"The queue {self._database.shown} cannot be reached: {error.orig}") from error
                logger.warning("the queue cannot be reached, trying again: %s", error.orig)
                time.sleep(1.0)

    def _transaction(self, outcome: tuple[Claim, Result] | None, stop: bool) -> Claim | None:
        if outcome is None and not stop and not self._anything_to_do():
            return None
        with self._database.write() as connection:
            now = self._database.now()
            if outcome is not None and not claims.finish(connection, *outcome, now, self._options.recheck_seconds):
                logger.warning("%s: the lease was lost, its outcome is void", outcome[0].task_id)
            if stop:
                return None
            if now > self._seen + self._options.lease_seconds / 3:
                self._seen = now
                if people.worker_seen(connection, self.name, now):
                    self.leave()
                    return None
            return claims.claim(connection, self.name, self._options.pool, now, self._options.lease_seconds)

    def _anything_to_do(self) -> bool:
        """Look without writing, so that idle workers do not stand in the way of busy ones."""
        now = self._database.now()
        if now > self._swept + min(1.0, self._options.lease_seconds / 4):
            self._swept = now
            self._sweep(now)
        with self._database.read() as connection:
            return connection.execute(_ANY_PENDING, {"pool": self._options.pool}).first() is not None

    def _sweep(self, now: float) -> None:
        with self._database.read() as connection:
            dead = people.dead_workers(connection)
            overdue = claims.overdue(connection, now, dead)
        if overdue or dead or now > self._seen + self._options.lease_seconds / 3:
            with self._database.write() as connection:
                claims.sweep(connection, now, dead)
                for name in dead:
                    people.remove_worker(connection, name)
                self._seen = now
                if people.worker_seen(connection, self.name, now):
                    self.leave()

    def _has_no_more(self, idle_seconds: float) -> bool:
        """Whether to end: idle for as long as was said, or nothing can run any more.

        What waits in other pools counts as long as somebody runs something: it may release tasks of this pool.
        """
        with self._database.read() as connection:
            activity = views.activity(connection)
        patience = _PATIENCE_SECONDS
        if activity.settled:
            patience = 0.0 if self._options.idle_seconds is None else 0.2
        elif activity.running or activity.delayed or activity.pending.get(self._options.pool):
            patience = math.inf
        if self._options.idle_seconds is not None:
            patience = min(patience, self._options.idle_seconds)
        return idle_seconds > patience

    # --- one attempt --------------------------------------------------------------------------------------

    def _attempt(self, claim: Claim) -> tuple[Claim, Result]:
        folder = self._logs / claim.name / claim.task_id / str(claim.fence)
        try:
            child = self._child_for(claim)
        except OSError as error:
            return claim, Result("failed", f"The prefix command {self._pool.prefix!r} cannot be started: {error}", 127)
        child.begin(claim, folder, self._known(claim))
        return claim, self._watch(claim, child, folder)

    def _watch(self, claim: Claim, child: ChildProcess, folder: Path) -> Result:
        """Wait for the reply; meanwhile keep the lease, and end the child when that is called for."""
        log = str(folder / "stdout.log")
        patience = min(0.5, self._options.lease_seconds / 6)
        lease = _Lease(self._database, claim, self._options.lease_seconds)
        timeout_at: float | None = None
        while True:
            wait = patience if timeout_at is None else min(patience, max(0.0, timeout_at - time.monotonic()))
            reply = child.receive(wait)
            if reply is not None and reply["kind"] == "begun":
                timeout_at = time.monotonic() + (claim.timeout or math.inf)
                continue
            if reply is not None:
                return _result(reply, log)
            code = child.poll()
            if code is not None and not self._told_to_end(code):
                return self._died(code, child, log)
            if timeout_at is not None and time.monotonic() >= timeout_at:
                return self._timed_out(claim, folder)
            if self._should_leave():
                self._end_child()
                killed = self._pool.on_term == "kill"
                said = "Its worker was told to end (SIGTERM or walltime)."
                return Result("killed" if killed else "requeued", said, log=log)
            state = lease.look()
            if state != "held":
                self._end_child()
                return Result("killed", "Killed on request.", log=log)  # void if the lease was lost

    def _told_to_end(self, code: int) -> bool:
        """Whether the child ended by a SIGTERM that was meant for the worker as well.

        A cluster ends a job by a signal to all its processes, and the child may be the first to die of it.
        """
        return code in (-signal.SIGTERM, 128 + signal.SIGTERM) and self._leaving.wait(2.0)

    def _died(self, code: int, child: ChildProcess, log: str) -> Result:
        self._end_child()
        said = f"The process that ran the task died: {ending(code)}."
        tail = _tail(Path(log).with_name("stderr.log")) or _tail(child.log)
        return Result("failed", f"{said}\n{tail}".strip(), code, log)

    def _timed_out(self, claim: Claim, folder: Path) -> Result:
        self._end_child()
        said = f"The task took longer than its timeout of {claim.timeout:g} seconds and was ended."
        # Only its class knows who listens to Luigi's events, so a fresh child fires them.
        patience = min(2 * GRACE_SECONDS, self._options.lease_seconds / 2)
        with contextlib.suppress(OSError):
            child = self._child_for(claim)
            for event in (Event.TIMEOUT, Event.PROCESS_FAILURE):
                child.fire(claim, folder, event, [said])
                child.receive(patience)
        return Result("failed", said, -signal.SIGKILL, str(folder / "stdout.log"))

    def _child_for(self, claim: Claim) -> ChildProcess:
        """A child that knows the run and the class of `claim`; a new one when the old one may hold old code."""
        run = self._run_of(claim)
        child = self._child
        if child is not None and (
            child.poll() is not None or run.submitted > child.started or run.surroundings != child.surroundings
        ):
            self._end_child()
            child = None
        if child is None:
            log = self._logs / "workers" / f"{self.name}.log"
            child = self._child = ChildProcess(self._pool.prefix, self._environment(), run.surroundings, log)
        if not child.knows(claim.run):
            child.tell_run(claim.run, run.definition)
        if claim.code is not None and not child.knows(claim.code):
            child.tell_code(claim.code, self._code(claim.code))
        return child

    def _environment(self) -> dict[str, str]:
        """The pool's, and when a walltime ends this worker: tasks ask for their remaining time."""
        if self._leave_at is None:
            return dict(self._pool.environment)
        deadline = time.time() + self._leave_at - GRACE_SECONDS - time.monotonic()
        return {"SUPERLUIGI_DEADLINE": str(deadline), **self._pool.environment}

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(GRACE_SECONDS)

    def _run_of(self, claim: Claim) -> _KnownRun:
        if claim.run not in self._runs:
            with self._database.read() as connection:
                query = select(tables.runs.c.definition).where(tables.runs.c.id == claim.run)
                definition = connection.execute(query).scalar_one()
            run, surroundings = runs.decode(definition)
            self._runs[claim.run] = _KnownRun(definition, surroundings, run.started.timestamp(), bool(run.plan))
        return self._runs[claim.run]

    def _code(self, digest: str) -> bytes:
        with self._database.read() as connection:
            query = select(tables.codes.c.pickle).where(tables.codes.c.digest == digest)
            return bytes(connection.execute(query).scalar_one())

    def _known(self, claim: Claim) -> list[str]:
        """Requirements that this very run has made: of some only the queue knows (`specs.can_tell`).

        That matters for what `run` yields: in forced runs, and when the task has yielded before.
        """
        if not self._run_of(claim).forces and claim.fence <= claim.attempt:
            return []
        with self._database.read() as connection:
            return list(connection.execute(_MADE, {"row": claim.row, "run": claim.run}).scalars())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM (walltime) and Ctrl-C make it leave."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, lambda *_: self.leave()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_ANY_PENDING = text(f"SELECT 1 FROM {tables.tasks.name} WHERE state = 'PENDING' AND pool = :pool LIMIT 1")
_MADE = text(
    f"SELECT u.task_id FROM {tables.edges.name} e JOIN {tables.tasks.name} u ON u.id = e.upstream "
    "WHERE e.downstream = :row AND u.run = :run AND u.state = 'SUCCEEDED'"
)


class _Lease:
    """Keeps one lease alive, and never believes in it longer than it holds."""

    def __init__(self, database: Database, claim: Claim, seconds: float) -> None:
        self._database = database
        self._claim = claim
        self._seconds = seconds
        # By the clock that cannot be set: a worker that slept through its lease must not go on.
        self._renewed = time.monotonic() - max(0.0, database.now() - claim.started)

    def look(self) -> str:
        """`held`, `kill` or `lost`; renews when a third of the time has gone."""
        age = time.monotonic() - self._renewed
        try:
            if age < self._seconds / 3:
                with self._database.read() as connection:
                    return claims.status(connection, self._claim)
            began = time.monotonic()
            with self._database.write() as connection:
                state = claims.renew(connection, self._claim, self._database.now() + self._seconds)
            self._renewed = began
            return state
        except OperationalError as error:
            if age < self._seconds:
                logger.warning("%s: the queue cannot be reached, the lease still holds: %s", self._claim.task_id, error)
                return "held"
            return "lost"


def _result(reply: dict[str, Any], log: str) -> Result:
    if reply["kind"] == "complete":
        return Result("complete", exit_code=0)
    return Result(
        kind=reply["kind"],
        error=reply.get("error"),
        exit_code=reply.get("exit_code"),
        log=log,
        specs=[TaskSpec(**{**spec, "deps": tuple(spec["deps"])}) for spec in reply.get("specs", ())],
        codes={key: base64.b64decode(value) for key, value in reply.get("codes", {}).items()},
        requirements=reply.get("requirements", ()),
    )


def _tail(file: Path, limit: int = 2000) -> str:
    try:
        return file.read_bytes()[-limit:].decode(errors="replace").strip()
    except OSError:
        return ""


def lease_seconds(lease: timedelta) -> float:
    """A lease as seconds.

    Raises:
        OptionError: too short to be renewed in time.
    """
    seconds = lease.total_seconds()
    if seconds < 1:
        raise OptionError(f"lease is {lease}; it must be at least one second, to be renewed in time.")
    return seconds

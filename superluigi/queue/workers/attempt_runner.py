"""The attempts of one worker: a child process makes them; meanwhile the lease is kept, the time is measured.

The child is another process, so that it can be ended (a timeout, a kill, a lost lease, memory) while the
worker tells what happened; it serves many attempts, since starting Python costs more than most of them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from superluigi.errors import QueueError, QueueGoneError, QueueUnreachableError
from superluigi.queue import runs
from superluigi.queue.models import AttemptOrder, Pool, Result, stderr_of
from superluigi.queue.store import claims, clock, tables
from superluigi.queue.store.claims import Claim
from superluigi.queue.store.database import Database
from superluigi.queue.workers.child_process import BEGUN, ChildProcess, ending

logger = logging.getLogger("superluigi.queue")
#: How long an interrupted task may clean up before it is killed.
GRACE_SECONDS = 5.0
#: Batch systems tell a worker to end about so long before its walltime is over.
WALLTIME_WARNING_SECONDS = 40.0
_TOLD_TO_END = "Its worker was told to end (SIGTERM or walltime)."


class QueueAttemptRunner:
    """Makes one attempt after the other, in the surroundings of a pool, by a child that is replaced when need be."""

    def __init__(
        self,
        worker: str,
        database: Database,
        pool: Pool,
        lease_seconds: float,
        should_leave: Callable[[], bool],
        leaving: threading.Event,
        leave_at: float | None,
    ) -> None:
        self._worker = worker
        self._database = database
        self._logs = str(database.logs)
        self._pool = pool
        self._lease_seconds = lease_seconds
        self._should_leave = should_leave
        self._leaving = leaving
        #: By `time.monotonic`.
        self._leave_at = leave_at
        self._child: ChildProcess | None = None
        self._count = 0
        self._born = time.monotonic()
        self._runs: dict[str, tuple[str, runs.RunInfo]] = {}
        #: The runs that had been submitted when the child began: it may have read the code of these, none newer.
        self._runs_then: frozenset[str] = frozenset()

    def make(self, claim: Claim) -> Result:
        """One attempt at a task, and what came of it."""
        self._count += 1
        # No folders of their own: making one costs as much as the rest of an empty attempt.
        family, name = (_file_name(part) for part in (claim.name, claim.task_id))
        log = f"{self._logs}/{family}/{name}-{claim.fencing_token}.stdout.log"
        try:
            child = self._child_for(claim)
        except OSError as error:
            return Result("failed", f"The prefix command {self._pool.prefix!r} cannot be started: {error}", 127)
        child.begin(self._order(child, claim, log))
        return self._watch(claim, child, log)

    def close(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.end(grace_seconds)

    def _watch(self, claim: Claim, child: ChildProcess, log: str) -> Result:
        """Wait for the reply; meanwhile keep the lease, and end the child when that is called for."""
        patience = min(0.5, self._lease_seconds / 6)
        lease = _Lease(self._database, claim, self._lease_seconds)
        told = _Told(self._database, claim)
        timeout_at: float | None = None
        began = time.monotonic()
        while True:
            wait = patience if timeout_at is None else min(patience, max(0.0, timeout_at - time.monotonic()))
            said = child.receive(wait)
            if isinstance(said, tuple):
                what, value = said
                if what == BEGUN:
                    timeout_at = time.monotonic() + (claim.timeout or math.inf)
                else:
                    told.hear(what, value)
                continue
            told.write(last=said is not None)
            if said is not None:
                if said.left:
                    # What it had at hand is gone (a pool of processes, say): the next attempt begins afresh.
                    logger.warning("%s left processes running, which were ended: %s", claim.task_id, list(said.left))
                if said.left or said.worn:  # or the task changed what cannot be put back
                    with lease.kept():
                        self.close()
                return _logged(said.result, log)
            code = child.poll()
            is_late = timeout_at is not None and time.monotonic() >= timeout_at
            if code is not None or is_late or self._should_leave():
                with lease.kept():
                    if code is not None and not self._told_to_end(code):
                        return self._died(claim, code, child, log)
                    return self._timed_out(claim, log) if is_late else self._left(child, log, began)
            state = lease.look()
            if state != "held":
                self.close()
                return Result("killed", "Killed on request.", log=log)  # void if the lease was lost

    def _left(self, child: ChildProcess, log: str, began: float) -> Result:
        """End the attempt, since this worker must go: the task is put back, unless no worker could ever make it."""
        answer = child.interrupt(GRACE_SECONDS)
        self.close(0.0)
        if answer is not None and answer.result.kind in ("succeeded", "complete", "requeued"):
            return _logged(answer.result, log)
        if self._pool.on_term == "kill":
            return Result("killed", _TOLD_TO_END, log=log)
        if not self._had_whole_walltime(began):
            return Result("requeued", _TOLD_TO_END, log=log)
        said = (
            f"The task had the whole walltime of a worker ({self._pool.walltime}), and was not done. Give its pool a "
            "longer one (Pool(walltime=…)), make the task smaller, or let it save its state and raise GracefulTimeout "
            "in time."
        )
        return Result("failed", said, -signal.SIGTERM, log)

    def _had_whole_walltime(self, began: float) -> bool:
        """Whether a worker's walltime ends, and the attempt that began then was the first thing it did."""
        longest = self._pool.longest
        if longest is None or self._leave_at is None or self._count != 1:
            return False
        margin = 0.0 if self._pool.provider == "local" else WALLTIME_WARNING_SECONDS
        over = time.monotonic() >= self._leave_at - margin
        return over and began - self._born < longest.total_seconds() / 4

    def _told_to_end(self, code: int) -> bool:
        """Whether the child ended by a SIGTERM that was meant for the worker as well.

        A cluster ends a job by a signal to all its processes, and the child may be the first to die of it.
        """
        return code in (-signal.SIGTERM, 128 + signal.SIGTERM) and self._leaving.wait(2.0)

    def _died(self, claim: Claim, code: int, child: ChildProcess, log: str) -> Result:
        self.close()
        said = f"The process that ran the task died: {ending(code)}."
        tail = _tail(Path(stderr_of(log))) or _tail(child.log)
        said = f"{said}\n{tail}".strip()
        self._tell_of_end(claim, log, ("PROCESS_FAILURE",), said)
        return Result("failed", said, code, log)

    def _timed_out(self, claim: Claim, log: str) -> Result:
        self.close()
        said = f"The task took longer than its timeout of {claim.timeout:g} seconds and was ended."
        self._tell_of_end(claim, log, ("TIMEOUT", "PROCESS_FAILURE"), said)
        return Result("failed", said, -signal.SIGKILL, log)

    def _tell_of_end(self, claim: Claim, log: str, events: Sequence[str], said: str) -> None:
        """Have a fresh child fire events and mail: only the task's class knows who listens and who is to be told."""
        with contextlib.suppress(OSError):
            child = self._child_for(claim)
            child.tell_of_end(self._order(child, claim, log), events, said)
            child.receive(min(2 * GRACE_SECONDS, self._lease_seconds / 2))

    def _child_for(self, claim: Claim) -> ChildProcess:
        """A child that knows the run and the class of `claim`; a new one when the old one may hold old code."""
        _, run = self._run_of(claim)
        child = self._child
        # By what the queue held when the child began, not by clocks: hosts disagree about what is later.
        if child is not None and (
            child.poll() is not None or claim.run not in self._runs_then or run.surroundings != child.surroundings
        ):
            self.close()
            child = None
        if child is None:
            with self._database.read() as connection:
                self._runs_then = frozenset(connection.execute(select(tables.runs.c.id)).scalars())
            log = self._database.logs / "workers" / f"{self._worker}.log"
            child = self._child = ChildProcess(self._pool.prefix, self._environment(), run.surroundings, log)
        return child

    def _order(self, child: ChildProcess, claim: Claim, log: str) -> AttemptOrder:
        return AttemptOrder(
            claim.task_id, claim.name, claim.module, claim.params, claim.tags, claim.code, claim.run, claim.worker, log,
            known=self._known(claim), timed=claim.timeout is not None,
            definition=None if child.knows(claim.run) else self._run_of(claim)[0],
            pickle=None if claim.code is None or child.knows(claim.code) else self._code(claim.code),
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """The pool's, and when a walltime ends this worker: tasks ask for their remaining time."""
        variables = {name: str(value) for name, value in self._pool.environment.items()}
        if self._leave_at is None:
            return variables
        deadline = time.time() + self._leave_at - time.monotonic()
        return {"SUPERLUIGI_DEADLINE": str(deadline), **variables}

    def _run_of(self, claim: Claim) -> tuple[str, runs.RunInfo]:
        if claim.run not in self._runs:
            with self._database.read() as connection:
                query = select(tables.runs.c.definition).where(tables.runs.c.id == claim.run)
                definition: Any = connection.execute(query).scalar()
            with tables.as_stored(f"The run {claim.run} of {claim.task_id}"):
                self._runs[claim.run] = definition, runs.brief(definition)
        return self._runs[claim.run]

    def _code(self, digest: str) -> bytes:
        with self._database.read() as connection:
            query = select(tables.codes.c.pickle).where(tables.codes.c.digest == digest)
            pickle: Any = connection.execute(query).scalar()
        with tables.as_stored(f"The class {digest}"):
            return bytes(pickle)

    def _known(self, claim: Claim) -> frozenset[str]:
        """Requirements that this very run has made: of some only the queue knows (`specs.can_tell`).

        That matters for what `run` yields: in forced runs, and when the task has yielded before.
        """
        if not self._run_of(claim)[1].forces and claim.fencing_token <= claim.attempt:
            return frozenset()
        with self._database.read() as connection:
            return frozenset(connection.execute(_MADE, {"row": claim.row, "run": claim.run}).scalars())


_MADE = text(
    f"SELECT u.task_id FROM {tables.edges.name} e JOIN {tables.tasks.name} u ON u.id = e.upstream "
    "WHERE e.downstream = :row AND u.run = :run AND u.state = 'SUCCEEDED'"
)


class _Told:
    """What a task tells while it runs, written to its row now and then."""

    def __init__(self, database: Database, claim: Claim) -> None:
        self._database = database
        self._claim = claim
        self._new: dict[str, object] = {}
        self._next = 0.0

    def hear(self, what: str, value: object) -> None:
        self._new[what] = value
        if what == "less":  # others may wait for what it gives back
            self.write(last=True)

    def write(self, *, last: bool) -> None:
        """Write what is new; not more often than twice a second, unless it is the `last` chance."""
        if not self._new or (time.monotonic() < self._next and not last):
            return
        new, self._new, self._next = self._new, {}, time.monotonic() + 0.5
        try:
            with self._database.write(flush=False) as connection:
                claims.note(connection, self._claim, new)
        except QueueGoneError:
            raise
        except QueueError as error:
            logger.warning("%s: what it tells could not be written: %s", self._claim.task_id, error)


class _Lease:
    """Keeps one lease alive, and never believes in it longer than it holds."""

    def __init__(self, database: Database, claim: Claim, seconds: float) -> None:
        self._database = database
        self._claim = claim
        self._seconds = seconds
        # By the clock that cannot be set and does not sleep: a worker that slept through its lease must not go on.
        self._renewed = clock.since_boot() - max(0.0, database.now() - claim.started)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renewed by another thread: to end a child, and to have its end told, may take longer than a short lease."""
        is_over = threading.Event()

        def keep() -> None:
            while not is_over.wait(self._seconds / 6):
                with contextlib.suppress(QueueError):
                    self.look()

        keeper = threading.Thread(target=keep, name="superluigi-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            is_over.set()
            keeper.join()

    def look(self) -> str:
        """`held`, `kill` or `lost`; renews when a third of the time has gone."""
        age = clock.since_boot() - self._renewed
        try:
            if age < self._seconds / 3:
                with self._database.read() as connection:
                    return claims.status(connection, self._claim)
            began = clock.since_boot()
            until = self._database.now(exactly=True) + self._seconds
            with self._database.write(flush=False) as connection:
                state = claims.renew(connection, self._claim, until)
            self._renewed = began
            return state
        except QueueUnreachableError as error:
            if age < self._seconds:
                logger.warning("%s: the queue cannot be reached, the lease still holds: %s", self._claim.task_id, error)
                return "held"
            return "lost"


def _logged(result: Result, log: str) -> Result:
    return result if result.kind == "complete" else replace(result, log=log)


def _file_name(words: str) -> str:
    """A name of a file for a task or family of any name; of long ones the end stays, which tells ids apart."""
    name = words.replace("/", "_").replace("\0", "_")
    if name in ("", ".", ".."):
        return f"_{name}"
    size = len(os.fsencode(name))
    return name if size <= _LONGEST_NAME_BYTES else f"{name[:20]}…{name[-30:]}"


_LONGEST_NAME_BYTES = 200


def _tail(file: Path, limit: int = 2000) -> str:
    try:
        return file.read_bytes()[-limit:].decode(errors="replace").strip()
    except OSError:
        return ""

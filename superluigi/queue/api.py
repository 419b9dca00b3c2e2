"""`Queue`: the door to a durable queue, for scripts that submit, commands that show, and managers that run."""

from __future__ import annotations

import contextlib
import logging
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from superluigi.arguments import Amount, Count, Finite, NotNegative, Seconds, Span, Takes, guarded
from superluigi.errors import OptionError, QueueError, QueueGoneError, QueueTimeoutError, QueueUnreachableError
from superluigi.execution.importing import refuse_if_importing
from superluigi.queue import models
from superluigi.queue.failures import failure_of
from superluigi.queue.feed import FailureFeed, report_since
from superluigi.queue.lookup import Which, ids_of, state_named
from superluigi.queue.models import DEFAULT_POOL, AttemptRow, Pool, PoolName, Submission, TaskRow, WorkerRow
from superluigi.queue.proposals import Proposal, propose
from superluigi.queue.specs import SpecOptions, check_pools
from superluigi.queue.store import claims, pruning, registry, views
from superluigi.queue.store import submit as plan
from superluigi.queue.store.database import Database
from superluigi.queue.store.queue_url import SUFFIX, passed_on
from superluigi.queue.store.views import Activity
from superluigi.queue.workers.spawner import Spawner, SpawnOptions, prune
from superluigi.queue.workers.worker import Worker, WorkOptions, lease_seconds
from superluigi.runs.context import RunContext
from superluigi.runs.report import Report

logger = logging.getLogger("superluigi.queue")
#: Pauses between two looks while waiting, growing from the first to the second.
_LOOKS_SECONDS = (0.02, 0.5)


@guarded
class Queue:
    """A durable plan of tasks in a SQLite file (a plain name, a path) or in PostgreSQL (a URL).

    The plan survives every process that works on it; the targets are the truth, so that losing the plan loses no
    result. `pools` are added to the queue or changed in it, `resources` likewise; both stay there. `lease` is
    after how long a task of a worker that vanished is given to another, `recheck` after how long an external task
    that is missing is looked for again.

    Raises:
        QueueVersionError: the queue was made by a newer superluigi.
        QueueError: it cannot live there (a network file system, for SQLite); the message has the remedy.
    """

    def __init__(
        self,
        name: str,
        pools: Annotated[Mapping[PoolName, Pool] | None, Takes("a dict", example="{'gpu': Pool(2)}")] = None,
        *,
        lease: Span = timedelta(seconds=60),
        resources: Annotated[Mapping[str, Amount] | None, Takes("a dict", example="{'licences': 3}")] = None,
        recheck: Span = timedelta(seconds=60),
        create: bool = True,
    ) -> None:
        self.name = name
        self._lease_seconds = lease_seconds(lease)
        self._recheck_seconds = recheck.total_seconds()
        self._database = Database(name, create=create)
        with self._database.write() as connection:
            known = registry.load_pools(connection)
            wanted = dict(pools or {})
            if DEFAULT_POOL not in known and DEFAULT_POOL not in wanted:
                wanted[DEFAULT_POOL] = Pool()
            registry.save_pools(connection, wanted)
            registry.save_resources(connection, resources or {})

    def __repr__(self) -> str:
        return f"Queue({self._database.shown!r})"

    @property
    def location(self) -> str:
        """The file, or the database's address without its password."""
        return self._database.shown

    @property
    def logs(self) -> Path:
        """The folder with what tasks and workers print."""
        return self._database.logs

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by name."""
        with self._database.read() as connection:
            return {name: pool for name, (pool, _) in registry.load_pools(connection).items()}

    @property
    def paused(self) -> bool:
        """Whether every pool is paused."""
        with self._database.read() as connection:
            return all(paused for _, paused in registry.load_pools(connection).values())

    def paused_pools(self) -> list[str]:
        """The pools that start nothing until `resume`."""
        with self._database.read() as connection:
            return [name for name, (_, paused) in registry.load_pools(connection).items() if paused]

    def said_of_pause(self) -> str:
        """In words: which pools are paused, how many of their tasks wait for that, and what lets them go on."""
        paused = self.paused_pools()
        if not paused:
            return ""
        which = "The queue" if len(paused) == len(self.pools) else f"Pool {', '.join(paused)} of the queue"
        waiting = sum(row.pool in paused for row in self.tasks(state=models.PENDING))
        name = self.location if "://" in self.name else self.name
        return (
            f"{which} {name} is paused: {waiting} ready tasks are not started. `superluigi queue resume {name}`, or "
            "resume() in Python, lets it go on."
        )

    def workers(self) -> list[WorkerRow]:
        """The workers that are registered; those that died may still be among them for a lease."""
        with self._database.read() as connection:
            return registry.workers(connection)

    # --- submitting ---------------------------------------------------------------------------------------

    def submit(
        self,
        tasks: object,
        *,
        priority: Finite | None = None,
        pool: str | Mapping[str, str] | None = None,
        force: bool = False,
        force_upstream: bool = False,
        force_upstream_to_task: object = None,
        force_upstream_to_task_cls: object = None,
        force_downstream_of: object = None,
        by_value: bool = False,
        retry_failed: bool = False,
        run: RunContext | None = None,
    ) -> Submission:
        """Add a graph (a task, or any nesting of lists and dicts of tasks) in one transaction.

        What is done, or known already, stays as it is, and so do failed and killed tasks unless `retry_failed`.
        `priority` goes over the tasks' own; `pool` is one for all or `{family: pool}`, else the task's
        attribute `pool`, else "default". The force options are those of `run_task`; `run` replaces them all.
        `by_value` stores task classes of `__main__` themselves (cloudpickle).

        Raises:
            DefinitionError: requirements in a circle, or tasks in `__main__` (the message has the remedy).
            ParameterError: parameters that text cannot hold.
            OptionError: force options that cannot be combined, or a pool that does not exist.
        """
        wanted = propose(
            tasks, SpecOptions(pool=pool, priority=priority, by_value=by_value), run, force=force,
            force_upstream=force_upstream, force_upstream_to_task=force_upstream_to_task,
            force_upstream_to_task_cls=force_upstream_to_task_cls, force_downstream_of=force_downstream_of,
        )  # fmt: skip
        return self._take(wanted, retry_failed)

    def _take(self, wanted: Proposal, retry_failed: bool) -> Submission:
        check_pools(wanted.found.specs, self.pools)
        run = wanted.run
        with self._database.change() as connection:
            plan.add_run(connection, run.id, run.started.timestamp(), wanted.definition)
            plan.add_codes(connection, wanted.found.codes)
            added = plan.add(connection, wanted.found.specs, run.id, retry_failed=retry_failed)
        return Submission(run.id, wanted.names, added.added, added.done, added.known, added.stopped)

    # --- looking ------------------------------------------------------------------------------------------

    def tasks(
        self, *which: Which, state: str | None = None, name: str | None = None, tags: Mapping[str, object] | None = None
    ) -> list[TaskRow]:
        """Frozen rows in the order of submission; conditions are joined by "and". Imports no user code.

        `state="WAITING"` includes the blocked ones, `state="BLOCKED"` selects them; `name` may hold `*`.
        """
        wanted = None if tags is None else {key: str(value) for key, value in tags.items()}
        with self._database.read(one_moment=True) as connection:
            return views.rows(connection, ids=ids_of(which), state=state_named(state), name=name, tags=wanted)

    def attempts(self, task: Which) -> list[AttemptRow]:
        """Every attempt at one task that has ended, the first one first."""
        with self._database.read(one_moment=True) as connection:
            return [row for task_id in ids_of((task,)) or () for row in views.attempts(connection, task_id)]

    def edges(self) -> list[tuple[str, str]]:
        """Pairs of task ids: what is required, and what requires it."""
        with self._database.read() as connection:
            return views.edges(connection)

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state; WAITING includes the blocked ones."""
        with self._database.read() as connection:
            return views.counts(connection)

    def now(self) -> float:
        """Seconds since the epoch, by the clock that the queue's workers go by."""
        return self._database.now(exactly=True)

    def report(self, since: Finite) -> Report:
        """What has come of its tasks, as of those of a run; "ran" are those that have ended `since` then (`now`)."""
        return report_since(self._database, since)

    def times(self) -> list[tuple[str, int, float, float, float]]:
        """Of each family: name, attempts that succeeded, total, mean and longest time in seconds."""
        with self._database.read() as connection:
            return views.times(connection)

    def activity(self) -> Activity:
        """What could still happen without a submission or a retry."""
        with self._database.read() as connection:
            self._database.look(connection)
            return views.activity(connection)

    def check(self) -> list[str]:
        """What is inconsistent in the tables, in words; an empty list for a sound queue."""
        with self._database.read(one_moment=True) as connection:
            return views.check(connection)

    # --- steering -----------------------------------------------------------------------------------------

    def retry(self, *which: Which, state: str | None = None, name: str | None = None) -> int:
        """Give tasks a fresh start, with all their attempts: those named, else the failed ones. Their number.

        Raises:
            QueueTaskMissingError: the queue does not know one of `which`; nothing is done to the others.
        """
        if not which and state is None and name is None:
            state = models.FAILED
        with self._database.write() as connection:
            chosen = self._chosen(connection, which, state, name)
            if not which and state is None:
                chosen = [row for row in chosen if row[1] != models.SUCCEEDED]
            return plan.retry(connection, chosen)

    def kill(self, *which: Which, state: str | None = None, name: str | None = None) -> int:
        """Kill tasks: they stay KILLED until retried. The number of tasks.

        A running one is ended by the worker that runs it, within a second or so; nothing is signalled from here.

        Raises:
            OptionError: nothing says which tasks.
            QueueTaskMissingError: the queue does not know one of `which`; nothing is done to the others.
        """
        if not which and state is None and name is None:
            raise OptionError("kill which tasks? Give ids, tasks, state='RUNNING' or name='Draw' (name='*': all).")
        with self._database.write() as connection:
            return plan.kill(connection, self._chosen(connection, which, state, name), self._database.now())

    def _chosen(
        self, connection: Any, which: Sequence[Which], state: str | None, name: str | None
    ) -> list[tuple[int, str]]:
        ids = ids_of(which)
        views.require(connection, self.location, ids or ())
        if state_named(state) == models.BLOCKED:
            blocked = {row.id for row in views.rows(connection, ids=ids, state=state, name=name)}
            return plan.select_rows(connection, ids=blocked, state=None, name=None)
        return plan.select_rows(connection, ids=ids, state=state, name=name)

    def require(self, *which: Which) -> None:
        """See that the queue knows these tasks.

        Raises:
            QueueTaskMissingError: it does not know one of them.
        """
        with self._database.read() as connection:
            views.require(connection, self.location, ids_of(which) or ())

    def pause(self, pool: str | None = None) -> None:
        """Start nothing new (in one pool, or at all); what runs goes on."""
        self._set_paused(pool, True)

    def resume(self, pool: str | None = None, *, spawn: bool = False) -> None:
        """Go on after `pause`; with `spawn`, a manager is started in the background."""
        self._set_paused(pool, False)
        if spawn:
            self.spawn(detach=True)

    def _set_paused(self, pool: str | None, paused: bool) -> None:
        with self._database.write() as connection:
            if not registry.set_paused(connection, pool, paused):
                raise OptionError(f"There is no pool {pool!r}; this queue has {', '.join(sorted(self.pools))}.")

    def wait(self, which: Which = None, timeout: Span | Seconds | None = None) -> dict[str, int]:
        """Block until nothing more can run (or the queue is paused and nothing runs); the counts of states.

        With `which`, return as soon as those tasks have ended. Workers have to run meanwhile. Callbacks of tasks
        (`on_completed`, `on_failed`) are called here, and at the end of `spawn`.

        Raises:
            QueueError: the queue does not know one of `which`.
            QueueUnreachableError: the database has not answered for a lease.
            QueueTimeoutError: `timeout` (a timedelta, or seconds) is over.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        ids = None if which is None else ids_of((which,))
        nap, feed = _LOOKS_SECONDS[0], FailureFeed(self._database)
        reached = time.monotonic()
        while True:
            try:
                if self._have_ended(ids) or self.activity().settled:
                    break
                self._call_back()
                reached = time.monotonic()
            except QueueUnreachableError as error:  # as workers do: a server may be restarted
                if time.monotonic() - reached > self._lease_seconds:
                    raise
                logger.warning("trying again: %s", error)
                nap = _LOOKS_SECONDS[1]
            if time.monotonic() >= deadline:
                raise QueueTimeoutError(f"After {seconds:g} seconds tasks still wait or run: {self.counts()}.")
            feed.tell()
            time.sleep(min(nap, max(0.0, deadline - time.monotonic())))
            nap = min(1.5 * nap, _LOOKS_SECONDS[1])
        feed.tell(at_once=True)
        self._call_back()
        return self.counts()

    def _call_back(self) -> None:
        """Call what tasks asked for (`on_completed`, `on_failed`): here, where they are waited for."""
        from superluigi.tasks.runtime import callbacks

        if awaited := callbacks.awaited():
            rows = self.tasks(*awaited)
            failures = [failure_of(row) for row in rows if row.state in (models.FAILED, models.KILLED)]
            done = [row.id for row in rows if row.state == models.SUCCEEDED]
            callbacks.settle({failure.task_id: failure.error for failure in failures}, done)

    def _have_ended(self, ids: Sequence[str] | None) -> bool:
        if ids is None:
            return False
        with self._database.read(one_moment=True) as connection:
            self._database.look(connection)
            if views.unfinished(connection, ids):
                return False
            views.require(connection, self.location, ids)
            return True

    def prune(self, *, older_than: Span | None = None, keep: NotNegative | None = None) -> int:
        """Forget tasks that have ended: those that did so longer ago, and all but the latest `keep`. Their number.

        Outputs stay; logs go. Nothing is forgotten of a run of which something may still happen, nor what a waiting
        task is behind. Managers (`spawn`) do this by the settings `queue_keep_days` and `queue_keep_tasks`.
        """
        return prune(self._database, older_than, keep)

    def delete(self, *, force: bool = False) -> None:
        """Remove the queue with its logs; outputs stay. With `force`, running tasks are killed first.

        Raises:
            QueueError: tasks are running and `force` is not given.
        """
        now = self._database.now(exactly=True)
        with self._database.write() as connection:
            claims.sweep(connection, now, registry.dead_workers(connection))
            busy = plan.select_rows(connection, ids=None, state=models.RUNNING, name=None)
            if busy and not force:
                raise QueueError(f"{len(busy)} tasks of {self} are running. Wait, kill them, or delete with force.")
            registry.set_paused(connection, None, True)
            registry.stop_workers(connection)
            plan.kill(connection, busy, now)
        deadline = time.monotonic() + max(10.0, self._lease_seconds)
        while self._anybody_at_work() and time.monotonic() < deadline:
            time.sleep(0.05)
        logs = self.logs
        self._database.remove()
        pruning.remove_all_logs(logs)

    def _anybody_at_work(self) -> bool:
        """Whether a worker that lives, as far as can be known, still runs something."""
        now = self._database.now(exactly=True)
        with self._database.write() as connection:
            claims.sweep(connection, now, registry.dead_workers(connection))
            return bool(views.activity(connection).running)

    # --- working ------------------------------------------------------------------------------------------

    def work(
        self, pool: str = DEFAULT_POOL, *, idle: Span | None = None, max_tasks: NotNegative | None = None
    ) -> int:  # fmt: skip
        """Be a worker of one pool, here, until nothing more can run; the number of attempts made.

        With `idle`, end after that long without work instead.
        """
        options = WorkOptions(
            pool, self._lease_seconds, idle.total_seconds() if idle is not None else None, max_tasks,
            self._recheck_seconds,
        )  # fmt: skip
        return Worker(self._database, options).run()

    def spawn(
        self,
        workers: Count | None = None,
        *,
        pools: Iterable[str] | None = None,
        detach: bool = False,
        keep_alive: bool = False,
        until: Which = None,
    ) -> None:
        """Start workers while there is work, at most `workers` of each pool; return when nothing more can run.

        Or as soon as the tasks `until` have ended (a submission, tasks, ids). Several may spawn one queue: one
        leads each pool, the others stand by. With `detach`, that is done by a process in the background; with
        `keep_alive`, it stays for what is submitted later.

        Raises:
            QueueError: workers cannot be started; the message has their last words.
        """
        refuse_if_importing("workers")
        chosen = tuple(pools) if pools is not None else None
        if unknown := set(chosen or ()) - set(self.pools):
            raise OptionError(f"There is no pool {min(unknown)!r}; this queue has {', '.join(sorted(self.pools))}.")
        if detach:
            self._spawn_detached(workers, chosen, keep_alive)
            return
        options = SpawnOptions(
            queue=passed_on(self.name), label=self.label, logs=str(self.logs / "workers"), workers=workers,
            pools=chosen, lease_seconds=self._lease_seconds, recheck_seconds=self._recheck_seconds,
            keep_alive=keep_alive,
        )  # fmt: skip
        ids = None if until is None else ids_of((until,))
        feed = FailureFeed(self._database)
        Spawner(self._database, options, lambda: self._have_ended(ids), feed.tell).run()
        feed.tell(at_once=True)
        self._call_back()

    @property
    def label(self) -> str:
        """A short name for jobs on clusters."""
        base = self._database.url.database or self.name
        return Path(base).name.removesuffix(SUFFIX)

    def _spawn_detached(self, workers: int | None, pools: tuple[str, ...] | None, keep_alive: bool) -> None:
        command = [sys.executable, "-m", "superluigi", "queue", "spawn", passed_on(self.name)]
        command += ["--lease", str(self._lease_seconds), "--recheck", str(self._recheck_seconds)]
        command += ["--workers", str(workers)] if workers else []
        command += ["--keep-alive"] if keep_alive else []
        for pool in pools or ():
            command += ["--pool", pool]
        folder = self.logs / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "spawner.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        process.returncode = 0  # it is meant to outlive us: no warning when we forget it

    def close(self) -> None:
        """Close this process's connections; the queue goes on."""
        self._database.close()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def submit_to(
    name: str,
    tasks: object,
    options: SpecOptions,
    *,
    run: RunContext | None = None,
    resources: Mapping[str, float] | None = None,
    retry_failed: bool = False,
    **forced: object,
) -> tuple[Queue, Submission]:
    """`Queue(name, resources=…).submit(…)`: a queue is made for what it takes only, not for what is refused."""
    try:
        Database(name, create=False).close()
        made_for_it = False
    except QueueGoneError:
        made_for_it = True
    wanted = propose(tasks, options, run, **forced)
    if made_for_it:
        check_pools(wanted.found.specs, [DEFAULT_POOL])
    queue = Queue(name, resources=resources)
    try:
        return queue, queue._take(wanted, retry_failed)
    except BaseException:
        queue.close()
        raise


@contextlib.contextmanager
def existing(name: str) -> Iterator[Queue]:
    """An existing queue, closed afterwards.

    Raises:
        QueueGoneError: there is none of that name.
    """
    with Queue(name, create=False) as queue:
        yield queue

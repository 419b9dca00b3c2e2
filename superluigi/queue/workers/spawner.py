"""The spawner: sees to it that there are workers while there is work. One leads each pool, others stand by."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from superluigi import config
from superluigi.errors import QueueError, QueueUnreachableError
from superluigi.execution.process import signals
from superluigi.queue.models import Pool
from superluigi.queue.providers import Provider, WorkerOrder, load
from superluigi.queue.store import claims, pruning, registry, views
from superluigi.queue.store.database import Database
from superluigi.storage import owner_token

logger = logging.getLogger("superluigi.queue")
#: How long a worker without work waits for more before it ends; its spawner starts another when needed.
IDLE_SECONDS = 5.0

_PRUNE_EVERY_SECONDS = 3600.0
#: No queue is as old; a timedelta cannot hold each number that a setting can be.
_LONGEST_DAYS = 1_000_000.0
#: How often in a row a provider may refuse to start a worker: for about three minutes.
MAX_REFUSALS = 8
#: How many workers more than a pool may have are started while none of them comes to work.
MAX_FRUITLESS = 10


@dataclass(frozen=True)
class SpawnOptions:
    """How workers are started."""

    #: The name that workers open the queue by.
    queue: str
    #: A short name for jobs of clusters.
    label: str
    logs: str
    #: At most so many workers of each pool; None: the pool's own limit, else one for each processor.
    workers: int | None = None
    pools: tuple[str, ...] | None = None
    lease_seconds: float = 60.0
    #: How long external tasks that are missing wait until they are looked for again.
    recheck_seconds: float = 60.0
    #: Stay when nothing more can run: for later submissions and external tasks.
    keep_alive: bool = False
    interval_seconds: float = 0.25
    #: Clusters are asked less often than the table.
    cluster_interval_seconds: float = 5.0


def prune(database: Database, older_than: timedelta | None, keep: int | None) -> int:
    """Forget tasks that have ended (`store.pruning`), with their logs; the number of them."""
    if older_than is None and keep is None:
        return 0
    now = database.now()
    with database.write() as connection:
        before = None if older_than is None else now - older_than.total_seconds()
        count, logs = pruning.prune(connection, before=before, keep=keep)
    pruning.remove_logs(logs, database.logs)
    return count


class Spawner:
    """Starts workers for the pools that it leads, until nothing more can run."""

    def __init__(
        self,
        database: Database,
        options: SpawnOptions,
        is_done: Callable[[], bool] = lambda: False,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = owner_token.token()
        self._database = database
        self._options = options
        self._is_done = is_done
        #: Called at each step.
        self._look = look
        self._settled = False
        self._pruned = 0.0
        self._reached = time.monotonic()
        self._leaving = threading.Event()
        self._providers: dict[str, Provider] = {}
        #: By provider: refusals in a row, and until when it is left alone.
        self._refusals: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._asked: dict[str, tuple[float, dict[str, int]]] = {}
        #: By pool: workers that were started since one was last seen at work.
        self._fruitless: Counter[str] = Counter()

    def leave(self) -> None:
        """Have it end; the workers go on, and another spawner takes over. Safe from signal handlers."""
        self._leaving.set()

    def run(self) -> None:
        """Spawn until nothing more can run (or the queue is paused and nothing runs), or until told to leave."""
        try:
            with signals.calling(self.leave, signal.SIGTERM):
                self._prune()
                while not self._leaving.is_set() and not self._try_step():
                    self._look()
                    self._leaving.wait(self._options.interval_seconds)
        except KeyboardInterrupt:
            self._cancel()
            raise
        finally:
            with contextlib.suppress(QueueError), self._database.write(flush=False) as connection:
                registry.resign(connection, self.name)
            for provider in self._providers.values():
                provider.close(wait=self._settled)

    def _prune(self) -> None:
        """Forget what ended long ago, as the settings say; a queue that cannot be pruned now is none the worse."""
        self._pruned = time.monotonic()
        days, tasks = float(config.get("queue_keep_days")), int(config.get("queue_keep_tasks"))
        with contextlib.suppress(QueueUnreachableError):
            with self._database.write(flush=False) as connection:
                due = pruning.is_due(connection, self._database.now(), _PRUNE_EVERY_SECONDS)
            if due:
                older_than = timedelta(days=min(days, _LONGEST_DAYS)) if days > 0 else None
                prune(self._database, older_than, tasks if tasks > 0 else None)

    def _try_step(self) -> bool:
        """One step; a database server that is away for less than a lease does not end the spawner."""
        try:
            ended = self._step()
        except QueueUnreachableError as error:
            if time.monotonic() - self._reached > self._options.lease_seconds:
                raise
            logger.warning("trying again: %s", error)
            self._leaving.wait(1.0)
            return False
        self._reached = time.monotonic()
        if self._reached > self._pruned + _PRUNE_EVERY_SECONDS:
            self._prune()
        return ended

    def _step(self) -> bool:
        """Take back what was lost, start what is missing; True when there is nothing more to see to."""
        now = self._database.now(exactly=True)
        with self._database.read() as connection:
            pools = {
                name: pool
                for name, (pool, _) in registry.load_pools(connection).items()
                if self._options.pools is None or name in self._options.pools
            }
        led = self._sweep_and_lead(list(pools), now)
        with self._database.read() as connection:
            activity = views.activity(connection)
            alive = {name: registry.live_workers(connection, name, now, self._options.lease_seconds) for name in pools}
        self._settled = activity.settled and not self._options.keep_alive
        if self._is_done() or self._settled:
            return True
        for name in led:
            self._fill(name, pools[name], activity.pending.get(name, 0), alive[name])
        return False

    def _sweep_and_lead(self, pools: list[str], now: float) -> list[str]:
        """One transaction: overdue tasks back into the pool, dead workers off the list, the lead kept or taken."""
        with self._database.write(flush=False) as connection:
            self._database.look(connection)
            dead = registry.dead_workers(connection)
            claims.sweep(connection, now, dead)
            for name in dead:
                registry.remove_worker(connection, name)
            return [
                pool for pool in pools
                if registry.lead(connection, self.name, pool, now, self._options.lease_seconds)
            ]  # fmt: skip

    def _fill(self, name: str, pool: Pool, pending: int, alive: int) -> None:
        if not pending:
            return
        limit = self._limit(pool)
        label = f"superluigi-{self._options.label}-{name}"
        provider = self._provider(pool.provider)
        there = max(alive, self._at_provider(pool.provider, provider, label))
        # Busy workers come back for more; only what they leave over needs new ones.
        with self._database.read() as connection:
            running = views.running(connection, name)
        wanted = min(limit, pending + running)
        if alive or running:
            self._fruitless[name] = 0
        if time.monotonic() < self._not_before.get(pool.provider, 0.0):
            return
        for _ in range(wanted - there):
            if self._fruitless[name] >= limit + MAX_FRUITLESS:
                raise QueueError(
                    f"{self._fruitless[name]} workers of pool {name} were started by {pool.provider!r}, and none has "
                    f"come to work. What they said is in {self._options.logs}; perhaps this Python is not there where "
                    "they run."
                )
            try:
                provider.start(self._order(name, label, pool))
            except QueueError as error:
                self._refused(pool.provider, error)
                return
            except OSError as error:  # no process, no room for a log
                self._refused(pool.provider, QueueError(f"{pool.provider} cannot start a worker: {error}"))
                return
            self._fruitless[name] += 1
            self._refusals.pop(pool.provider, None)
            self._asked.pop(pool.provider, None)

    def _refused(self, provider: str, error: QueueError) -> None:
        """Try again later, and later still: a controller may be busy, or just being restarted.

        Raises:
            QueueError: it has refused for minutes.
        """
        refusals = self._refusals[provider] = self._refusals.get(provider, 0) + 1
        if refusals > MAX_REFUSALS:
            raise error
        pause = min(60.0, 2.0 ** (refusals - 1))
        self._not_before[provider] = time.monotonic() + pause
        logger.warning("no worker could be started, trying again in %g seconds: %s", pause, error)

    def _limit(self, pool: Pool) -> int:
        limits = [limit for limit in (pool.max_workers, self._options.workers) if limit is not None]
        return min(limits) if limits else os.cpu_count() or 1

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            self._providers[name] = load(name)
        return self._providers[name]

    def _at_provider(self, name: str, provider: Provider, label: str) -> int:
        """How many workers the provider knows of under `label`; one question covers all pools."""
        asked, answer = self._asked.get(name, (0.0, {}))
        if time.monotonic() - asked > (self._options.cluster_interval_seconds if name != "local" else 0) or not asked:
            answer = dict(provider.alive(f"superluigi-{self._options.label}-"))
            self._asked[name] = time.monotonic(), answer
        return answer.get(label, 0)

    def _order(self, name: str, label: str, pool: Pool) -> WorkerOrder:
        command = [
            sys.executable, "-m", "superluigi", "queue", "work", self._options.queue, "--pool", name, "--spawned",
            "--idle", str(IDLE_SECONDS), "--lease", str(self._options.lease_seconds),
            "--recheck", str(self._options.recheck_seconds),
        ]  # fmt: skip
        return WorkerOrder(label, tuple(command), self._options.logs, pool)

    def _cancel(self) -> None:
        """Ctrl-C: what this spawner started shall end too."""
        for name, provider in self._providers.items():
            for pool in self._asked.get(name, (0.0, {}))[1]:
                try:
                    provider.cancel(pool)
                except QueueError as error:
                    logger.warning("%s", error)

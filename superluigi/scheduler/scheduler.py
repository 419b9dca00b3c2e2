"""Luigi's scheduler at a cost per task that does not depend on how many tasks there are.

Luigi's own walks every pending task at each request. This one keeps the ready tasks in heaps, one for
each kind of task that all workers must treat alike (`ready`), and counters of unmet requirements
(`state`). Protocol, options, queries and web page are Luigi's: this is a subclass of its scheduler.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, TypeVar

from luigi.batch_notifier import BatchNotifier
from luigi.task_history import NopHistory
from luigi.task_status import BATCH_RUNNING, DISABLED, DONE, FAILED, PENDING, RUNNING, SUSPENDED, UNKNOWN

from superluigi.luigi_compat.engine import SchedulerBase
from superluigi.scheduler.limits import Rates
from superluigi.scheduler.node import Node, ReadyEntry
from superluigi.scheduler.selection import Selection, may_take
from superluigi.scheduler.state import UNLIMITED, IndexedState

F = TypeVar("F", bound=Callable[..., Any])


def _locked(method: F) -> F:
    @functools.wraps(method)
    def wrapper(self: ReadyScheduler, *args: object, **kwargs: object) -> object:
        with self.lock:
            return method(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


class _Mails(BatchNotifier):
    def send_email(self) -> None:
        try:
            super().send_email()
        except Exception as error:  # noqa: BLE001 - whatever a mail server, or its library, comes up with
            logging.getLogger("luigi-interface").warning("Mails about failures could not be sent: %s", error)


class ReadyScheduler(SchedulerBase):
    """A drop-in for `luigi.scheduler.Scheduler` inside one process; safe to call from many threads.

    `rates` maps a resource to how often it may be taken per time. `limited_retry_delay` (seconds) stands
    for `retry_delay` where a task's retries are limited, so that waiting for them comes to an end.
    Replies to `get_work` differ in two points: `running_tasks` is filled only when there is no task to
    give, and `task_params` is left out for a task that the asking worker is known to hold (`lend`).
    """

    state: IndexedState

    def __init__(
        self,
        config: object = None,
        resources: Mapping[str, int] | None = None,
        task_history_impl: object = None,
        rates: Rates | None = None,
        limited_retry_delay: float | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(config, dict(resources) if resources else None, task_history_impl, **kwargs)
        if type(getattr(self, "mail_batcher", None)) is BatchNotifier:  # one that others put in its place stays
            self.mail_batcher = _Mails()
        self.lock = threading.RLock()
        self.replace_state(IndexedState(self.settings.state_path, limited_retry_delay))
        self._default_policy = self.default_retry_policy()
        self._policies: dict[tuple[object, ...], object] = {}
        self._counted = self.has_metrics()
        self._history_kept = not isinstance(self.history, NopHistory)
        self._lent: dict[str, Container[str]] = {}
        self.rates = rates or Rates({})

    def __getstate__(self) -> dict[str, object]:
        """Luigi's worker takes the scheduler along to processes that it spawns, and with its messages."""
        return {name: value for name, value in self.__dict__.items() if name not in ("lock", "_lent")}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        self.__dict__.update(state, lock=threading.RLock(), _lent={})

    def lend(self, worker_id: str, tasks: Container[str]) -> None:
        """`worker_id` holds `tasks` (a live view) itself and needs no parameters to load them."""
        self._lent[worker_id] = tasks

    # -- tasks come in, and come back

    @_locked
    def add_task(
        self,
        task_id: str | None = None,
        status: str = PENDING,
        runnable: bool | None = True,
        deps: Iterable[str] | None = None,
        new_deps: Iterable[str] | None = None,
        expl: object = None,
        resources: Mapping[str, int] | None = None,
        priority: float = 0,
        family: str = "",
        module: str | None = None,
        params: object = None,
        param_visibilities: object = None,
        accepts_messages: bool | None = False,
        assistant: bool = False,
        tracking_url: str | None = None,
        worker: str | None = None,
        batchable: bool | None = None,
        batch_id: str | None = None,
        retry_policy_dict: Mapping[str, object] | None = None,
        owners: object = None,
        **kwargs: object,
    ) -> None:
        """Luigi's `add_task`: create or update a task, its status, requirements, workers and priority."""
        asker = self.note_worker(worker)
        node = self._admit(str(task_id), status, priority, asker)
        if node is None:
            return
        node.describe(family, module, params, param_visibilities)
        if batch_id is not None:
            node.batch_id = batch_id
        if status == RUNNING and not node.worker_running:
            self._note_running(node, worker, batch_id)
        if accepts_messages is not None:
            node.accepts_messages = accepts_messages
        if batchable is not None:
            node.batchable = batchable
        node.remove = None
        self._annotate(node, tracking_url, expl)
        if not node.status == status == DONE:
            self._take_status(node, status, worker, bool(new_deps))
        if status == FAILED and self.settings.batch_emails:
            self._mail_failure(node, worker, family, expl, owners)
        if deps is not None:
            self.state.set_deps(node, deps)
        if new_deps is not None:
            self.state.set_deps(node, (*node.deps, *new_deps))
        stay = node.resources, node.workers, node.runnable, node.batchable
        node.resources = dict(resources) if resources else {}
        node.retry_policy = self._policy(retry_policy_dict)
        if asker.enabled and not assistant:
            self._take_stakes(node, worker, priority)
        if runnable and status != FAILED and asker.enabled:
            node.workers = self.state.interned.tuple_with(node.workers, str(worker))
            asker.tasks.add(node)
            node.runnable = runnable
        if stay != (node.resources, node.workers, node.runnable, node.batchable) or batchable:
            self.state.moved(node)
        self._raise_priority(node, priority)

    def _admit(self, task_id: str, status: str, priority: float, asker: Any) -> Node | None:
        """The node to update; None when the claim is not to be believed."""
        node: Node | None = self.state.get_task(task_id)
        if node is None:
            if not asker.enabled:
                return None
            # most tasks of a run are done before it; a history, or who counts, wants to hear of the change
            born = DONE if status == DONE and not (self._history_kept or self._counted) else PENDING
            return self.state.create(task_id, born, priority, self._default_policy)
        if node.status != RUNNING and not asker.enabled:
            return None
        cooling = time.time() - node.updated < self.settings.stable_done_cooldown_secs
        if status == PENDING and node.status == DONE and cooling:
            return None  # a worker looked before the task was done and tells us only now
        return node

    def _note_running(self, node: Node, worker: str | None, batch_id: str | None) -> None:
        node.worker_running = worker
        node.time_running = time.time()
        if batch_id:
            members = self.state.get_batch_running_tasks(batch_id)
            node.resources_running = dict(members[0].resources_running) if members else {}

    def _annotate(self, node: Node, tracking_url: str | None, expl: object) -> None:
        if tracking_url is expl is node.tracking_url is node.batch_id is None:
            return
        members = self.state.get_batch_running_tasks(node.batch_id) if node.batch_id is not None else ()
        if tracking_url is not None or node.status != RUNNING:
            node.tracking_url = tracking_url
            for member in members:
                member.tracking_url = tracking_url
        if expl is not None:
            node.expl = expl
            for member in members:
                member.expl = expl

    def _take_status(self, node: Node, status: str, worker: str | None, new_deps: bool) -> None:
        """Believe the status unless another worker is running the task: only that one may say."""
        idle = node.status not in (RUNNING, BATCH_RUNNING)
        ours = status in (DONE, FAILED, RUNNING) and node.worker_running == worker
        if not (idle or ours or new_deps):
            return
        if self._history_kept and (status != node.status or status == PENDING):
            self.note_in_history(node, status)
        self.state.set_status(node, PENDING if status == SUSPENDED else status, self.settings)

    def _take_stakes(self, node: Node, worker: str | None, priority: float) -> None:
        """Keep the task and its requirements for as long as the worker lives."""
        interned, who = self.state.interned, str(worker)
        node.stakeholders = interned.set_with(node.stakeholders, who)
        for dep in node.deps:
            other = self.state.get_task(dep)
            if other is None:
                other = self.state.create(dep, UNKNOWN, priority, self._default_policy)
            other.stakeholders = interned.set_with(other.stakeholders, who)

    def _raise_priority(self, node: Node, priority: float) -> None:
        """What a task requires is at least as urgent as the task."""
        before = node.priority if isinstance(node.priority, (int, float)) else 0
        if priority > before or before is not node.priority:
            node.priority = max(priority, before)
            self.state.moved(node)
        work = [node] if node.deps else []
        while work:
            current = work.pop()
            for dep in current.deps:
                other = self.state.get_task(dep)
                if other is not None and other.priority < current.priority:
                    other.priority = current.priority
                    self.state.moved(other)
                    work.append(other)

    def _policy(self, wanted: Mapping[str, object] | None) -> Any:
        if not wanted or all(value is None for value in wanted.values()):
            return self._default_policy
        key = tuple(sorted(wanted.items()))
        if key not in self._policies:
            self._policies[key] = self.retry_policy_of(wanted)
        return self._policies[key]

    def _mail_failure(self, node: Node, worker: str | None, family: str, expl: Any, owners: object) -> None:
        import json

        batched, _ = self.state.get_batcher(worker, family)
        unbatched = {k: v for k, v in node.params.items() if k not in (batched or ())}
        try:
            text = json.loads(expl)
        except ValueError:
            text = expl
        self.mail_batcher.add_failure(node.pretty_id, node.family, unbatched, text, owners)
        if node.status == DISABLED:
            self.mail_batcher.add_disable(node.pretty_id, node.family, unbatched, owners)

    # -- work goes out

    @_locked
    def get_work(
        self,
        host: str | None = None,
        assistant: bool = False,
        current_tasks: Iterable[str] | None = None,
        worker: str | None = None,
        **kwargs: object,
    ) -> dict[str, object]:
        """Luigi's `get_work`: the best task that `worker` may start now, marked as running."""
        if self.settings.prune_on_get_work:
            self._tick()
        asker = self.note_worker(worker, worker_reference={"host": host}, get_work=True)
        if not asker.enabled:
            return {
                "n_pending_tasks": 0,
                "running_tasks": [],
                "task_id": None,
                "n_unique_pending": 0,
                "worker_state": asker.state,
            }
        if assistant:
            self.add_worker(worker, [("assistant", assistant)])
        best = None
        if current_tasks is not None:
            best = self._lost_reply(str(worker), set(current_tasks))
            self._reset_orphaned_batch_running_tasks(worker)
        batch: list[Node] = []
        if best is None and not self.pausing:
            best = self._choose(str(worker), assistant)
            if best is not None:
                batch = self._batch_of(best, str(worker), only_own=not asker.assistant)
        reply = self._pending_counts(str(worker), asker, with_running=best is None)
        if len(batch) > 1:
            self._give_batch(reply, batch, str(worker))
        elif best is not None:
            self._give(reply, best, str(worker), host)
        else:
            reply["task_id"] = None
        return reply

    def _tick(self) -> None:
        """Luigi's prune, for those tasks only whose time has come."""
        if any(worker.prune(self.settings) for worker in self.state.get_active_workers()):
            self.prune()
            return
        for node in self.state.due():
            self.state.update_status(node, self.settings)
            if self.state.may_prune(node):
                self.state.inactivate_tasks([node.id])
        self.send_mails_that_are_due()

    def _lost_reply(self, worker: str, current: set[str]) -> Node | None:
        """A task that was given to `worker` but that it does not know of: give it again."""
        running = self.state.get_active_tasks_by_status(RUNNING)
        lost = [node for node in running if node.worker_running == worker and node.id not in current]
        return max(lost, key=lambda node: (node.priority, -node.time)) if lost else None

    def _reset_orphaned_batch_running_tasks(self, worker_id: str | None) -> None:
        running = self.state.get_active_tasks_by_status(RUNNING)
        led = {node.batch_id for node in running if node.worker_running == worker_id}
        for batch_id, (owner, members) in list(self.state.batches.items()):
            if owner == worker_id and batch_id not in led:
                for node in members:
                    if node.status == BATCH_RUNNING and node.batch_id == batch_id:
                        self.state.set_status(node, PENDING)
                del self.state.batches[batch_id]

    def _choose(self, worker: str, assistant: bool) -> Node | None:
        self.rates.forget_due()
        ready = self.state.ready
        if not ready.bound and not assistant:
            return ready.best_for(worker)
        with contextlib.closing(ready.heads()) as heads:
            if ready.bound:
                since = time.time() - self.settings.worker_disconnect_delay
                active = self.state.get_active_workers(last_get_work_gt=since)
                choice = Selection(
                    worker,
                    assistant,
                    running=self.state.get_active_tasks_by_status(RUNNING),
                    slots={w.id: w.info.get("workers", 1) for w in active},
                    used=self.used_resources(),
                    fits=self.has_resources,
                    allows=self.rates.allows,
                )
                return choice.choose(heads)
            return next((head[3] for head in heads if may_take(head[4], worker, assistant)), None)

    def _batch_of(self, best: Node, worker: str, only_own: bool) -> list[Node]:
        """Ready tasks that may run together with `best`, itself first, at most as many as allowed.

        Luigi looks at the worker's own tasks only as long as none of them needs resources.
        """
        names, limit = self.state.get_batcher(worker, best.family)
        if not names or not best.batchable or best.entry is None or any(name not in best.params for name in names):
            return []
        only_own = only_own and self.state.is_trivial(worker)
        alike = [group for group in self.state.ready.alike(best) if not (only_own and worker not in group.kind.workers)]
        heap: list[tuple[ReadyEntry, int]] = [(head, i) for i, g in enumerate(alike) if (head := g.head()) is not None]
        heapq.heapify(heap)
        taken: list[ReadyEntry] = []
        skipped: list[tuple[int, ReadyEntry]] = []
        while heap and len(taken) < limit:
            _, i = heapq.heappop(heap)
            entry = alike[i].pop()
            if entry is None:
                continue
            if entry < best.entry:
                skipped.append((i, entry))
            else:
                taken.append(entry)
                skipped.append((i, entry))
            head = alike[i].head()
            if head is not None:
                heapq.heappush(heap, (head, i))
        for i, entry in skipped:
            alike[i].push(entry)  # starting a task invalidates its entry
        return [entry[3] for entry in taken]

    def _give(self, reply: dict[str, object], node: Node, worker: str, host: str | None) -> None:
        self.rates.acquire(node.resources)
        self.update_metrics_task_started(node)
        self.state.set_status(node, RUNNING, self.settings)
        node.worker_running = worker
        node.resources_running = node.resources.copy()
        node.time_running = time.time()
        if self._history_kept:
            self.note_in_history(node, RUNNING, host=host)
        reply["task_id"] = node.id
        reply["task_family"] = node.family
        reply["task_module"] = node.module
        if node.id not in self._lent.get(worker, ()):
            reply["task_params"] = node.params

    def _give_batch(self, reply: dict[str, object], batch: list[Node], worker: str) -> None:
        best = batch[0]
        names, _ = self.state.get_batcher(worker, best.family)
        together = "|".join(node.id for node in batch)
        batch_id = hashlib.new("md5", together.encode(), usedforsecurity=False).hexdigest()
        params: dict[str, object] = {**best.params, **{name: [n.params.get(name) for n in batch] for name in names}}
        self.rates.acquire(best.resources)
        for node in batch:
            self.state.set_batch_running(node, batch_id, worker)
            node.resources_running = node.resources.copy()
        reply["task_id"] = None
        reply["task_family"] = best.family
        reply["task_module"] = best.module
        reply["task_params"] = params
        reply["batch_id"] = batch_id
        reply["batch_task_ids"] = [node.id for node in batch]

    @_locked
    def count_pending(self, worker: str) -> dict[str, object]:
        return self._pending_counts(worker, self.state.get_worker(worker), with_running=True)

    def _pending_counts(self, worker: str, asker: Any, with_running: bool) -> dict[str, object]:
        pending = unique = last = 0
        for workers, count in self.state.pending_by_workers.of(worker):
            pending += count
            unique += count if len(workers) == 1 else 0
            last += count if workers[-1] == worker else 0
        return {
            "n_pending_tasks": pending,
            "n_unique_pending": unique,
            "n_pending_last_scheduled": last,
            "worker_state": asker.state,
            "running_tasks": self._running_for(worker) if with_running else [],
        }

    def _running_for(self, worker: str) -> list[dict[str, object]]:
        found = []
        for node in self.state.get_active_tasks_by_status(RUNNING):
            if worker in node.workers and node.worker_running is not None:
                runner = self.state.get_worker(node.worker_running)
                found.append({"task_id": node.id, "worker": str(runner), **runner.info})
        return found

    # -- beyond Luigi's protocol: for workers of this process, which wait for events

    @_locked
    def next_due(self, worker: str) -> float | None:
        """When (seconds since the epoch) something that `worker` should wait for becomes ready.

        A failed task counts when its retries are limited (a task's `retry_count` or
        `[scheduler] retry_count`): with Luigi's default a wait would never end.
        """
        dues = [due for due in (self.rates.due, self.state.next_retry(worker)) if due is not None]
        return min(dues, default=None)

    @_locked
    def will_retry(self, task_id: str) -> bool:
        """Whether a failed task is going to be tried again."""
        node: Node | None = self.state.get_task(task_id)
        return node is not None and node.status == FAILED and self._retries(node)

    def _retries(self, node: Node) -> bool:
        return bool(self.settings.retry_delay >= 0 and node.retry_policy.retry_count < UNLIMITED)

    ping = _locked(SchedulerBase.ping)
    prune = _locked(SchedulerBase.prune)
    add_worker = _locked(SchedulerBase.add_worker)
    disable_worker = _locked(SchedulerBase.disable_worker)
    forgive_failures = _locked(SchedulerBase.forgive_failures)
    mark_as_done = _locked(SchedulerBase.mark_as_done)
    re_enable_task = _locked(SchedulerBase.re_enable_task)
    graph = _locked(SchedulerBase.graph)
    dep_graph = _locked(SchedulerBase.dep_graph)
    inverse_dep_graph = _locked(SchedulerBase.inverse_dep_graph)
    task_list = _locked(SchedulerBase.task_list)
    worker_list = _locked(SchedulerBase.worker_list)
    resource_list = _locked(SchedulerBase.resource_list)
    task_search = _locked(SchedulerBase.task_search)

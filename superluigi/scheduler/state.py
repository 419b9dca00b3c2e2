"""The scheduler's tasks with the indexes that make each step cost the same at any size.

Three things follow every change of a task at once: how many requirements of its dependants are unmet,
whether it is ready, and whether it counts as pending. Each change of status touches a task's direct
dependants only; over a whole run that is once per edge.
"""

from __future__ import annotations

import collections
import heapq
import time
from collections.abc import Iterable, Mapping
from typing import Any

from luigi.task_status import DISABLED, DONE, FAILED, PENDING, RUNNING, UNKNOWN

from superluigi.luigi_compat.engine import StateBase
from superluigi.scheduler.node import Interned, Node, RetryPolicy
from superluigi.scheduler.ready import ReadyIndex

#: Luigi's default for `retry_count`: retries were not asked to end, so they are not waited for.
UNLIMITED = 999999999


class IndexedState(StateBase):
    """Luigi's task state (its rules for failing, disabling and batches) over indexed nodes."""

    def __init__(self, state_path: str, limited_retry_delay: float | None = None) -> None:
        super().__init__(state_path)
        self._limited_retry_delay = limited_retry_delay
        self.interned = Interned()
        #: Family → names of the parameters that may be run as one batch.
        self._batch_names: dict[str, tuple[str, ...]] = {}
        self.ready = ReadyIndex(self._batch_names)
        self._dependants: dict[str, list[Node]] = {}
        #: `workers` of pending and failed tasks that may still be made → how many of them there are.
        self.pending_by_workers = _ByWorkers()
        #: `workers` of pending tasks that need resources → how many of them there are.
        self.bound_by_workers = _ByWorkers()
        #: (when, task id) of what happens by itself: a retry, the end of a disablement, a removal.
        self._timers: list[tuple[float, str]] = []
        #: (when, sequence, node) of failed tasks whose retries are limited, so that one may wait.
        self._retries: list[tuple[float, int, Node]] = []
        #: Batch id → the worker that has it and the tasks in it, while it runs.
        self.batches: dict[str, tuple[str, list[Node]]] = {}

    # -- tasks

    def create(self, task_id: str, status: str, priority: float, retry_policy: RetryPolicy) -> Node:
        node = Node(task_id, status, priority, retry_policy)
        self.tasks[task_id] = node
        self.tasks_by_status[status][task_id] = node
        if status == PENDING:
            self.refresh(node)
        elif status == DONE:
            self._spread(node, UNKNOWN, DONE, was_dead=False)
        return node

    def get_worker(self, worker_id: str) -> Any:
        """Luigi's makes a new one at each call, to throw it away."""
        return self.workers.get(worker_id) or super().get_worker(worker_id)

    def set_state(self, state: object) -> None:
        super().set_state(state)
        nodes = list(self.tasks.values())
        self._dependants.clear()
        self.ready = ReadyIndex(self._batch_names)
        self.pending_by_workers = _ByWorkers()
        self.bound_by_workers = _ByWorkers()
        for node in nodes:
            deps, node.deps, node.unmet, node.dead_deps = node.deps, (), 0, 0
            node.entry = node.counted = node.bound = None
            self.set_deps(node, deps)
        for node in nodes:
            self.refresh(node)

    def inactivate_tasks(self, delete_tasks: Iterable[str]) -> None:
        for task_id in delete_tasks:
            node = self.tasks[task_id]
            self._count(node, None, None)
            self.ready.discard(node)
            was_done, was_dead = node.status == DONE, _is_dead(node)
            self.set_deps(node, ())
            super().inactivate_tasks([task_id])
            for dependant in self._dependants.get(task_id, ()):
                dependant.unmet += was_done
                self._change_dead(dependant, -int(was_dead))
                self.refresh(dependant)

    def set_deps(self, node: Node, deps: Iterable[str]) -> None:
        """Give `node` the requirements `deps`, which need not be known yet."""
        new = tuple(dict.fromkeys(deps))
        if new == node.deps:
            return
        old_ids, new_ids = set(node.deps), set(new)
        for dep in node.deps:
            if dep not in new_ids:
                self._dependants[dep].remove(node)
                self._edge(node, dep, -1)
        node.deps = new
        for dep in new:
            if dep not in old_ids:
                self._dependants.setdefault(dep, []).append(node)
                self._edge(node, dep, 1)
        self.refresh(node)

    def _edge(self, node: Node, dep: str, sign: int) -> None:
        other = self.tasks.get(dep)
        if other is None or other.status != DONE:
            node.unmet += sign
        if other is not None and _is_dead(other):
            self._change_dead(node, sign)

    def set_status(self, task: Node, new_status: str, config: Any = None) -> None:
        old_status = task.status
        was_dead = _is_dead(task)
        leaving = self._leaving_batch(task, new_status)
        super().set_status(task, new_status, config)
        now = task.status
        if leaving:
            self.batches.pop(leaving, None)
        if now == FAILED and task.retry is not None and config.retry_delay >= 0:
            self._plan_retry(task)
        elif now == DISABLED and task.scheduler_disable_time is not None:
            self._wake_at(task.scheduler_disable_time + config.disable_persist, task)
        if task.remove is not None:
            self._wake_at(task.remove, task)
        if now != old_status:
            self._spread(task, old_status, now, was_dead)
        self.refresh(task)

    def _plan_retry(self, node: Node) -> None:
        if node.retry_policy.retry_count < UNLIMITED:
            if self._limited_retry_delay is not None:
                node.retry = time.time() + self._limited_retry_delay
            heapq.heappush(self._retries, (node.retry or 0.0, node.sequence, node))
        self._wake_at(node.retry or 0.0, node)

    @staticmethod
    def _leaving_batch(task: Node, new_status: str) -> str | None:
        return task.batch_id if task.status == RUNNING and new_status != RUNNING else None

    def _spread(self, node: Node, old: str, new: str, was_dead: bool) -> None:
        """Tell the dependants of `node` that its status has changed."""
        if (old == DONE) != (new == DONE):
            step = -1 if new == DONE else 1
            for dependant in self._dependants.get(node.id, ()):
                dependant.unmet += step
                if not dependant.unmet or dependant.entry is not None:
                    self.refresh(dependant)
        if was_dead != _is_dead(node):
            for dependant in self._dependants.get(node.id, ()):
                self._change_dead(dependant, -1 if was_dead else 1)

    def _change_dead(self, node: Node, step: int) -> None:
        """Add to the number of dead requirements of `node`, and on to whom that kills or revives."""
        if not step:
            return
        work = [node]
        while work:
            current = work.pop()
            was_dead = _is_dead(current)
            current.dead_deps += step
            if was_dead != _is_dead(current):
                work.extend(self._dependants.get(current.id, ()))
            self.refresh(current)

    # -- indexes

    def refresh(self, node: Node) -> None:
        """Bring the indexes up to date with what has changed about `node`."""
        status = node.status
        if status == PENDING and not node.unmet:
            if node.entry is None:
                self.ready.add(node)
        elif node.entry is not None:
            self.ready.discard(node)
        counts = status == FAILED or (status == PENDING and not node.dead_deps)
        bound = status == PENDING and node.resources
        self._count(node, node.workers if counts else None, node.workers if bound else None)

    def moved(self, node: Node) -> None:
        """Like `refresh`, when the rank or the kind of a node that may be ready has changed."""
        if node.entry is not None:
            self.ready.discard(node)
        self.refresh(node)

    def _count(self, node: Node, workers: tuple[str, ...] | None, bound: tuple[str, ...] | None) -> None:
        if workers is not node.counted:
            self.pending_by_workers.move(node.counted, workers)
            node.counted = workers
        if bound is not node.bound:
            self.bound_by_workers.move(node.bound, bound)
            node.bound = bound

    def is_trivial(self, worker_id: str) -> bool:
        """Luigi's `is_trivial_worker`: no pending task of the worker needs resources."""
        return not any(count for _, count in self.bound_by_workers.of(worker_id))

    def set_batcher(self, worker_id: str, family: str, batcher_args: Any, max_batch_size: float) -> None:
        super().set_batcher(worker_id, family, batcher_args, max_batch_size)
        if self._batch_names.get(family) != tuple(batcher_args):
            self._batch_names[family] = tuple(batcher_args)
            for node in list(self.get_active_tasks_by_status(PENDING)):
                if node.batchable and node.family == family:
                    self.moved(node)

    def get_batch_running_tasks(self, batch_id: str) -> list[Node]:
        _, members = self.batches.get(batch_id, ("", []))
        return [node for node in members if node.batch_id == batch_id and node.status == "BATCH_RUNNING"]

    def set_batch_running(self, task: Node, batch_id: str, worker_id: str) -> None:
        super().set_batch_running(task, batch_id, worker_id)
        self.batches.setdefault(batch_id, (worker_id, []))[1].append(task)

    # -- workers

    def _remove_workers_from_tasks(self, workers: Iterable[str], remove_stakeholders: bool = True) -> None:
        gone = set(workers)
        for node in self.tasks.values():
            if remove_stakeholders:
                node.stakeholders = self.interned.set_without(node.stakeholders, gone)
            if not gone.isdisjoint(node.workers):
                node.workers = self.interned.tuple_without(node.workers, gone)
                self.moved(node)

    # -- what happens by itself

    def _wake_at(self, when: float, node: Node) -> None:
        heapq.heappush(self._timers, (when, node.id))

    def next_retry(self, worker_id: str) -> float | None:
        """When the next failed task of `worker_id` with limited retries is tried again."""
        while self._retries:
            when, _, node = self._retries[0]
            if node.status != FAILED or node.retry != when:
                heapq.heappop(self._retries)
            elif worker_id in node.workers:
                return when
            else:
                break
        mine = (w for w, _, n in self._retries if n.status == FAILED and n.retry == w and worker_id in n.workers)
        return min(mine, default=None)

    def due(self) -> list[Node]:
        """Nodes whose time has come."""
        now = time.time()
        found: dict[str, Node] = {}
        again = []
        while self._timers and self._timers[0][0] <= now:
            when, task_id = heapq.heappop(self._timers)
            node = self.tasks.get(task_id)
            if node is not None:
                found[task_id] = node
                if when == now:
                    again.append((when, task_id))  # for retries, Luigi wants the time to be over
        for timer in again:
            heapq.heappush(self._timers, timer)
        return list(found.values())

    def update_status(self, task: Node, config: object) -> None:
        super().update_status(task, config)
        if task.remove is not None:
            self._wake_at(task.remove, task)

    def statuses(self) -> Mapping[str, int]:
        """How many tasks have which status."""
        return {status: len(tasks) for status, tasks in self.tasks_by_status.items() if tasks}


class _ByWorkers:
    """How many tasks belong to exactly these workers, to be found by each of them."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, ...], int]] = collections.defaultdict(dict)

    def move(self, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> None:
        for workers, step in ((old, -1), (new, 1)):
            for worker in workers or ():
                counts = self._counts[worker]
                counts[workers] = counts.get(workers, 0) + step  # type: ignore[arg-type, index]

    def of(self, worker: str) -> Iterable[tuple[tuple[str, ...], int]]:
        return self._counts[worker].items() if worker in self._counts else ()


def _is_dead(node: Node) -> bool:
    """Luigi's UPSTREAM_DISABLED: disabled, or waiting for something that is."""
    return node.status == DISABLED or (node.status == PENDING and node.dead_deps > 0)

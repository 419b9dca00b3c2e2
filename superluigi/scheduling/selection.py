"""One choice among ready tasks that need resources, by Luigi's rule against starvation."""

from __future__ import annotations

import collections
import heapq
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from luigi.task_status import RUNNING

from superluigi.scheduling.node import Node
from superluigi.scheduling.ready import Entry, Group

if TYPE_CHECKING:
    from superluigi.scheduling.scheduler import ReadyScheduler


def may_take(group: Group, worker: str, assistant: bool) -> bool:
    return worker in group.kind.workers or (assistant and group.kind.runnable)


class Selection:
    """One choice among tasks that need resources.

    Luigi's rule: a task that would fit if every worker had taken the best tasks first, but does not fit
    now, keeps its resources reserved as long as some worker has a free slot for it, so that many small
    tasks cannot starve a large, more urgent one. Tasks of one group fare alike, so a group is left as
    soon as one of its tasks can neither start nor reserve; no more tasks are looked at than there are
    groups and worker slots.
    """

    def __init__(self, scheduler: ReadyScheduler, worker: str, assistant: bool) -> None:
        self._scheduler = scheduler
        self._worker = worker
        self._assistant = assistant
        self._used = scheduler._used_resources()
        self._reserved: dict[str, int] = collections.defaultdict(int)
        since = time.time() - scheduler._config.worker_disconnect_delay
        active = scheduler._state.get_active_workers(last_get_work_gt=since)
        self._slots = {w.id: w.info.get("workers", 1) for w in active}

    def choose(self, heads: Iterator[Entry]) -> Node | None:
        """The task to start, if any; `heads` are the best ready tasks of the groups."""
        popped: list[Entry] = []
        try:
            return self._walk(heads, popped)
        finally:
            for entry in popped:
                entry[4].push(entry)

    def _walk(self, heads: Iterator[Entry], popped: list[Entry]) -> Node | None:
        running = self._scheduler._state.get_active_tasks_by_status(RUNNING)
        line: list[tuple[float, float, int, Node, Group | None]] = [
            (-node.priority, node.time, node.sequence, node, None) for node in running
        ]
        heapq.heapify(line)
        coming = next(heads, None)
        while line or coming is not None:
            if coming is not None and (not line or coming < line[0]):
                entry: Any = coming
                coming = next(heads, None)
            else:
                entry = heapq.heappop(line)
            node: Node = entry[3]
            group: Group | None = entry[4]
            if group is None:
                self._account(node)
            elif self._scheduler._has_resources(node.resources, self._reserved):
                if self._startable(group, node):
                    return node
                if self._reserve(group, node):
                    group.pop()
                    popped.append(entry)
                    following = group.head()
                    if following is not None:
                        heapq.heappush(line, following)
        return None

    def _account(self, node: Node) -> None:
        runner = node.worker_running
        if runner in self._slots:
            self._slots[runner] -= 1
            for resource, amount in (getattr(node, "resources_running", node.resources) or {}).items():
                self._reserved[resource] += amount

    def _startable(self, group: Group, node: Node) -> bool:
        return (
            may_take(group, self._worker, self._assistant)
            and self._scheduler._has_resources(node.resources, self._used)
            and self._scheduler.rates.allows(node.resources)
        )

    def _reserve(self, group: Group, node: Node) -> bool:
        if not self._scheduler.rates.allows(node.resources):
            return False
        workers = (*group.kind.workers, self._worker) if self._assistant else group.kind.workers
        for worker in workers:
            if self._slots.get(worker, 0) > 0:
                self._slots[worker] -= 1
                for resource, amount in node.resources.items():
                    self._reserved[resource] += amount
                return True
        return False

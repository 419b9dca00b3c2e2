"""One choice among ready tasks that need resources, by Luigi's rule against starvation."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from superluigi.scheduler.node import Node, ReadyEntry, ReadyGroup


def may_take(group: ReadyGroup, worker: str, assistant: bool) -> bool:
    return worker in group.kind.workers or (assistant and group.kind.runnable)


class Selection:
    """One choice among tasks that need resources.

    Luigi's rule: a task that would fit if every worker had taken the best tasks first, but does not fit
    now, keeps its resources reserved as long as some worker has a free slot for it, so that many small
    tasks cannot starve a large, more urgent one. Tasks of one group fare alike, so a group is left as
    soon as one of its tasks can neither start nor reserve; no more tasks are looked at than there are
    groups and worker slots.
    """

    def __init__(
        self,
        worker: str,
        assistant: bool,
        *,
        running: Iterable[Node],
        slots: Mapping[str, int],
        used: Mapping[str, int],
        fits: Callable[[Mapping[str, int], Mapping[str, int]], bool],
        allows: Callable[[Mapping[str, int]], bool],
    ) -> None:
        """`slots` has how many tasks each living worker may run, `used` what running tasks hold of the resources.

        `fits(wanted, taken)` says whether resources are left, `allows(wanted)` whether their rates let a task start.
        """
        self._worker = worker
        self._assistant = assistant
        self._running, self._slots = running, dict(slots)
        self._fits, self._allows, self._used = fits, allows, used
        self._reserved: dict[str, int] = collections.defaultdict(int)

    def choose(self, heads: Iterator[ReadyEntry]) -> Node | None:
        """The task to start, if any; `heads` are the best ready tasks of the groups."""
        popped: list[ReadyEntry] = []
        try:
            return self._walk(heads, popped)
        finally:
            for entry in popped:
                entry[4].push(entry)

    def _walk(self, heads: Iterator[ReadyEntry], popped: list[ReadyEntry]) -> Node | None:
        line: list[tuple[float, float, int, Node, ReadyGroup | None]] = [
            (-node.priority, node.time, node.sequence, node, None) for node in self._running
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
            group: ReadyGroup | None = entry[4]
            if group is None:
                self._account(node)
            elif self._fits(node.resources, self._reserved):
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

    def _startable(self, group: ReadyGroup, node: Node) -> bool:
        return (
            may_take(group, self._worker, self._assistant)
            and self._fits(node.resources, self._used)
            and self._allows(node.resources)
        )

    def _reserve(self, group: ReadyGroup, node: Node) -> bool:
        if not self._allows(node.resources):
            return False
        workers = (*group.kind.workers, self._worker) if self._assistant else group.kind.workers
        for worker in workers:
            if self._slots.get(worker, 0) > 0:
                self._slots[worker] -= 1
                for resource, amount in node.resources.items():
                    self._reserved[resource] += amount
                return True
        return False

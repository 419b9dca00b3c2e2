"""The tasks that could run now, best first, in groups that any worker must treat alike."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterable, Iterator, Mapping

from superluigi.scheduler.node import Node, ReadyEntry, ReadyGroup, ResourceKey


class ReadyQueue:
    """The heads of groups, best first. One that is no longer the head stays until it comes up."""

    def __init__(self) -> None:
        self._heap: list[ReadyEntry] = []
        #: The entry by which a group stands here. Others of it are left over: they go when they come up, for if each
        #: were replaced by the next head, every head there ever was would be replaced at each request.
        self._standing: dict[ReadyGroup, ReadyEntry] = {}

    def announce(self, head: ReadyEntry, groups: Iterable[ReadyGroup]) -> None:
        """`head` is the best of its group now; `groups` are all that may stand in this line."""
        heapq.heappush(self._heap, head)
        self._standing[head[4]] = head
        if len(self._heap) % 1024 == 0:  # a line that is not asked would keep them all
            self._standing = {group: found for group in groups if (found := group.head()) is not None}
            self._heap = list(self._standing.values())
            heapq.heapify(self._heap)

    def first(self) -> ReadyEntry | None:
        heap = self._heap
        while heap:
            entry: ReadyEntry = heap[0]
            if entry[3].entry is entry:
                return entry
            group = entry[4]
            if self._standing.get(group) is not entry:
                heapq.heappop(heap)
            elif (following := group.head()) is None:
                heapq.heappop(heap)
                del self._standing[group]
            else:
                heapq.heapreplace(heap, following)
                self._standing[group] = following
        return None

    def __iter__(self) -> Generator[ReadyEntry, None, None]:
        """Each head once, best first."""
        passed: dict[ReadyGroup, ReadyEntry] = {}
        try:
            while (entry := self.first()) is not None:
                heapq.heappop(self._heap)
                if entry[4] not in passed:
                    passed[entry[4]] = entry
                    yield entry
        finally:
            for entry in passed.values():
                heapq.heappush(self._heap, entry)


class ReadyIndex:
    """Ready tasks by kind; an operation costs O(log n), also when all tasks are of different kinds."""

    def __init__(self, batch_names: Mapping[str, tuple[str, ...]]) -> None:
        self._groups: dict[ResourceKey, ReadyGroup] = {}
        self._batch_names = batch_names
        self._all = ReadyQueue()
        self._by_worker: dict[str, ReadyQueue] = {}
        self._by_batch: dict[object, dict[ResourceKey, ReadyGroup]] = {}
        #: How many groups need resources; if none does, the best head is the answer.
        self.bound: int = 0

    def add(self, node: Node) -> None:
        kind = self.kind_of(node)
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = ReadyGroup(kind)
            self.bound += bool(kind.resources)
            if kind.batch is not None:
                self._by_batch.setdefault((kind.resources, kind.batch), {})[kind] = group
        entry: ReadyEntry = (-node.priority, node.time, node.sequence, node, group)
        node.entry = entry
        group.push(entry)
        group.size += 1
        if group.head() is entry:
            self._all.announce(entry, self._groups.values())
            for worker in kind.workers:
                self._by_worker.setdefault(worker, ReadyQueue()).announce(entry, self._groups_of(worker))

    def _groups_of(self, worker: str) -> Iterator[ReadyGroup]:
        return (group for kind, group in self._groups.items() if worker in kind.workers)

    def discard(self, node: Node) -> None:
        entry: ReadyEntry | None = node.entry
        if entry is None:
            return
        group = entry[4]
        node.entry = None  # its group drops the entry when it comes up
        group.size -= 1
        if not group.size:
            kind = group.kind
            del self._groups[kind]
            self.bound -= bool(kind.resources)
            if kind.batch is not None:
                del self._by_batch[(kind.resources, kind.batch)][kind]

    def best_for(self, worker: str) -> Node | None:
        """The best of the worker's own ready tasks."""
        line = self._by_worker.get(worker)
        head = None if line is None else line.first()
        return None if head is None else head[3]

    def heads(self) -> Generator[ReadyEntry, None, None]:
        """The best ready task of each group, best first; to be closed when done."""
        yield from self._all

    def alike(self, node: Node) -> list[ReadyGroup]:
        """The groups whose tasks could be run in one batch with `node`."""
        kind = self.kind_of(node)
        return list(self._by_batch.get((kind.resources, kind.batch), {}).values())

    def kind_of(self, node: Node) -> ResourceKey:
        resources = tuple(sorted(node.resources.items())) if node.resources else ()
        batch = None
        if node.batchable:
            names = self._batch_names.get(node.family, ())
            unbatched = tuple(sorted((k, v) for k, v in node.params.items() if k not in names))
            batch = (node.family, unbatched)
        return ResourceKey(resources, node.workers, bool(node.runnable), batch)

"""The tasks that could run now, best first, in groups that any worker must treat alike."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from superluigi.scheduling.node import Node

#: (-priority, time, sequence, node): the smallest goes first, which is Luigi's order.
Entry = tuple[float, float, int, Node]


class Kind(NamedTuple):
    """What decides whether a ready task may start: equal for all tasks of a group."""

    resources: tuple[tuple[str, int], ...]
    workers: tuple[str, ...]
    runnable: bool
    #: Family and unbatched parameters of tasks that may be run in one batch, else None.
    batch: Any


class Group:
    """Ready tasks of one kind. Entries that are no longer valid stay until they come up."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._heap: list[Entry] = []

    def push(self, entry: Entry) -> None:
        heapq.heappush(self._heap, entry)

    def head(self) -> Entry | None:
        heap = self._heap
        while heap:
            entry: Entry = heap[0]
            if entry[3].entry is entry:
                return entry
            heapq.heappop(heap)
        return None

    def pop(self) -> Entry | None:
        """Take the best entry out; the caller pushes it back unless the task starts."""
        entry = self.head()
        if entry is not None:
            heapq.heappop(self._heap)
        return entry


class ReadyIndex:
    """Ready tasks by kind; every operation costs O(log n) of the group it touches."""

    def __init__(self, batch_names: Mapping[str, tuple[str, ...]]) -> None:
        self._groups: dict[Kind, Group] = {}
        self._batch_names = batch_names
        #: Whether any group needs resources; if not, the best head is the answer.
        self.bound: int = 0

    def add(self, node: Node) -> None:
        entry: Entry = (-node.priority, node.time, node.sequence, node)
        node.entry = entry
        kind = self.kind_of(node)
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = Group(kind)
            self.bound += bool(kind.resources)
        group.push(entry)

    def discard(self, node: Node) -> None:
        node.entry = None  # its group drops the entry when it comes up

    def groups(self) -> Iterator[Group]:
        """Groups that have a ready task."""
        for kind, group in list(self._groups.items()):
            if group.head() is not None:
                yield group
            else:
                del self._groups[kind]
                self.bound -= bool(kind.resources)

    def kind_of(self, node: Node) -> Kind:
        resources = tuple(sorted(node.resources.items())) if node.resources else ()
        batch = None
        if node.batchable:
            names = self._batch_names.get(node.family, ())
            unbatched = tuple(sorted((k, v) for k, v in node.params.items() if k not in names))
            batch = (node.family, unbatched)
        return Kind(resources, node.workers, bool(node.runnable), batch)

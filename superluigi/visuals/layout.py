"""Where nodes go: layers from the sources down, few crossings, wide layers wrapped into rows. Pure and quick.

Layers are counted back from what needs a node, so that it stands just above its first reader; the order in a
layer follows the mean place of neighbours (barycentre sweeps, Sugiyama et al. 1981); places in a row are as
near to the neighbours as the order and the gap allow (isotonic regression by pooling adjacent violators).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from superluigi.visuals.model import Graph

_SWEEPS = 6
#: Width to height of the whole picture that wrapping aims at.
_SHAPE = 1.9
#: Long edges get places of their own only while there are no more than so many.
_MOST_PASSING = 400


@dataclass(frozen=True)
class Sizes:
    """Pixels."""

    width: int = 184
    height: int = 46
    gap_x: int = 22
    gap_y: int = 54
    #: Between the rows of one wrapped layer.
    gap_row: int = 14


NORMAL = Sizes()
DENSE = Sizes(width=150, height=34, gap_x=12, gap_y=64, gap_row=10)


@dataclass(frozen=True)
class Layout:
    """Places of the nodes' upper left corners, and where edges over several layers pass between nodes."""

    places: Mapping[str, tuple[float, float]]
    sizes: Sizes
    width: float
    height: float
    #: (from, to) -> points that the edge passes through, from above.
    bends: Mapping[tuple[str, str], Sequence[tuple[float, float]]] = field(default_factory=dict)


def place(graph: Graph) -> Layout:
    """Lay a graph out; more than 150 nodes get smaller ones.

    Raises:
        ValueError: the edges form a cycle.
    """
    sizes = NORMAL if len(graph.nodes) <= 150 else DENSE
    if not graph.nodes:
        return Layout({}, sizes, 0, 0)
    net = _Net(graph, sizes)
    layers = net.layers()
    columns = _columns(layers, sizes)
    if max(map(len, layers)) <= columns:
        net.let_edges_pass(layers)
    net.order(layers)
    return net.placed([_wrapped(layer, columns) for layer in layers])


class _Net:
    """Nodes with their neighbours; among them, invisible ones where a long edge passes a layer."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self.sizes = sizes
        self.ids = [node.id for node in graph.nodes]
        self.above: dict[str, list[str]] = {one: [] for one in self.ids}
        self.below: dict[str, list[str]] = {one: [] for one in self.ids}
        self.edges = [edge for edge in dict.fromkeys(graph.edges) if edge[0] != edge[1]]
        self.edges = [edge for edge in self.edges if edge[0] in self.above and edge[1] in self.above]
        self.passing: dict[tuple[str, str], list[str]] = {}
        for source, target in self.edges:
            self._link(source, target)

    def _link(self, source: str, target: str) -> None:
        self.below[source].append(target)
        self.above[target].append(source)

    def layers(self) -> list[list[str]]:
        """Nodes by their distance from the end, the farthest first."""
        distance = dict.fromkeys(self.ids, 0)
        waiting = {one: len(self.below[one]) for one in self.ids}
        ready = [one for one in self.ids if not waiting[one]]
        done = 0
        while done < len(ready):
            node = ready[done]
            done += 1
            for source in self.above[node]:
                distance[source] = max(distance[source], distance[node] + 1)
                waiting[source] -= 1
                if not waiting[source]:
                    ready.append(source)
        if done < len(self.ids):
            raise ValueError("the graph has a cycle")
        depth = max(distance.values())
        layers: list[list[str]] = [[] for _ in range(depth + 1)]
        for one in self.ids:
            layers[depth - distance[one]].append(one)
        return layers

    def let_edges_pass(self, layers: list[list[str]]) -> None:
        """Give an edge that skips layers an invisible node in each, unless there are very many such edges."""
        at = {node: number for number, layer in enumerate(layers) for node in layer}
        long = [edge for edge in self.edges if at[edge[1]] - at[edge[0]] > 1]
        if sum(at[target] - at[source] - 1 for source, target in long) > _MOST_PASSING:
            return
        for source, target in long:
            self.below[source].remove(target)
            self.above[target].remove(source)
            last, names = source, []
            for number in range(at[source] + 1, at[target]):
                name = f"\0{source}\0{target}\0{number}"
                self.above[name], self.below[name] = [], []
                layers[number].append(name)
                names.append(name)
                self._link(last, name)
                last = name
            self._link(last, target)
            self.passing[source, target] = names

    def order(self, layers: list[list[str]]) -> None:
        """Sort every layer by where its neighbours stand, down and up in turn."""
        at = {node: index / max(1, len(layer)) for layer in layers for index, node in enumerate(layer)}
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            for layer in layers if downwards else reversed(layers):
                mean = {node: _mean((at[one] for one in neighbours[node]), at[node]) for node in layer}
                layer.sort(key=mean.__getitem__)
                at.update((node, (index + 0.5) / len(layer)) for index, node in enumerate(layer))

    def placed(self, rows: list[list[list[str]]]) -> Layout:
        """Middles near those of neighbours, left to right; then everything moved to the positive side."""
        middles: dict[str, float] = {}
        for layer in rows:
            width = self._offsets(layer[0])[-1]
            for row in layer:
                middles.update(zip(row, (offset - width / 2 for offset in self._offsets(row)), strict=True))
        single = [layer[0] for layer in rows if len(layer) == 1]  # wrapped layers stay a grid
        for sweep in range(_SWEEPS + 1):  # the last one goes down: a task stands below what it is made from
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            for row in single if downwards else reversed(single):
                wanted = [_mean((middles[one] for one in neighbours[node]), middles[node]) for node in row]
                middles.update(zip(row, _separated(wanted, self._offsets(row)), strict=True))
        return self._finished(rows, middles)

    def _finished(self, rows: list[list[list[str]]], middles: dict[str, float]) -> Layout:
        sizes = self.sizes
        left = min(middles[one] for one in self.ids) - sizes.width / 2
        places: dict[str, tuple[float, float]] = {}
        points: dict[str, tuple[float, float]] = {}
        y = 0.0
        for layer in rows:
            for row in layer:
                for node in row:
                    if node.startswith("\0"):
                        points[node] = (round(middles[node] - left, 1), y + sizes.height / 2)
                    else:
                        places[node] = (round(middles[node] - left - sizes.width / 2, 1), y)
                y += sizes.height + sizes.gap_row
            y += sizes.gap_y - sizes.gap_row
        width = max(x for x, _ in places.values()) + sizes.width
        bends = {edge: [points[name] for name in names] for edge, names in self.passing.items()}
        return Layout(places, sizes, round(width, 1), y - sizes.gap_y, bends)

    def _offsets(self, row: Sequence[str]) -> list[float]:
        """How far each middle is from the first one when the row is packed tightly."""
        offsets, at = [], 0.0
        for index, node in enumerate(row):
            if index:
                at += (self._width(row[index - 1]) + self._width(node)) / 2 + self.sizes.gap_x
            offsets.append(at)
        return offsets

    def _width(self, node: str) -> float:
        return 2.0 if node.startswith("\0") else float(self.sizes.width)


def _mean(values: Iterable[float], otherwise: float) -> float:
    known = list(values)
    return sum(known) / len(known) if known else otherwise


def _columns(layers: list[list[str]], sizes: Sizes) -> int:
    """The most nodes in a row that give the whole picture a pleasant shape."""
    widest = max(map(len, layers))
    for columns in range(4, widest + 1):
        rows = sum(math.ceil(len(layer) / columns) for layer in layers)
        height = rows * (sizes.height + sizes.gap_row) + len(layers) * sizes.gap_y
        if columns * (sizes.width + sizes.gap_x) >= _SHAPE * height:
            return max(columns, min(widest, 8))
    return widest


def _wrapped(layer: list[str], columns: int) -> list[list[str]]:
    count = math.ceil(sum(not node.startswith("\0") for node in layer) / columns)
    if count <= 1:
        return [layer]
    return [layer[row::count] for row in range(count)]  # column by column: neighbours stay together


def _separated(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """The places nearest to `wanted`, in the given order and no tighter than `offsets`."""
    blocks: list[tuple[float, int]] = []  # (sum of wanted, less their offset; how many)
    for value, offset in zip(wanted, offsets, strict=True):
        total, count = value - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    placed: list[float] = []
    for total, count in blocks:
        placed += [total / count + offsets[len(placed) + step] for step in range(count)]
    return placed

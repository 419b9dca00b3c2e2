"""Where nodes go: layers from the sources down, few crossings, wide layers wrapped into rows. Pure and quick.

Layers are counted back from what needs a node, so that it stands just above its first reader; the order in a
layer follows the mean place of neighbours (barycentre sweeps, Sugiyama et al. 1981); places in a row are as
near to the neighbours as the order and the gap allow (isotonic regression by pooling adjacent violators).

No edge runs behind a box. In a graph of few and short layers a long edge has a place of its own in each layer that it
passes. In any other all boxes stand on one grid, and edges go down in the gaps between its columns.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from superluigi.visuals.model import Graph

_SWEEPS = 6
#: Larger graphs are swept less often: the difference cannot be seen among thousands of boxes.
_LARGE, _SWEEPS_LARGE = 5_000, 2
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
    """Places of the nodes' upper left corners, and where edges pass between nodes."""

    positions: Mapping[str, tuple[float, float]]
    sizes: Sizes
    width: float
    height: float
    #: (from, to) -> points of an edge between its ends, from above, in pairs: each pair is a vertical line.
    bends: Mapping[tuple[str, str], Sequence[tuple[float, float]]] = field(default_factory=dict)
    #: Of each layer of a grid: `y` of its first row and of its last one. Empty where boxes stand on no grid.
    layers: Sequence[tuple[float, float]] = ()

    def route(self, source: str, target: str) -> Sequence[tuple[float, float]]:
        """The points of an edge between its ends."""
        if not self.layers:
            return self.bends.get((source, target), ())
        sizes, (x1, y1), (x2, y2) = self.sizes, self.positions[source], self.positions[target]
        pitch, points, x = sizes.width + sizes.gap_x, [], x1 + sizes.width / 2
        end = x2 + sizes.width / 2
        at = bisect.bisect_right(self.layers, (y1, math.inf)) - 1
        last, below = self.layers[at][1], self.layers[at + 1][0]
        if y1 < last:  # down beside the other rows of its own layer
            x += pitch / 2 if x <= end else -pitch / 2
            points += [(x, y1 + sizes.height + sizes.gap_row), (x, last + sizes.height)]
        if below < y2:  # down beside all rows above its target
            x = end - pitch / 2 if x < end else end + pitch / 2
            points += [(x, below), (x, self._bottom_above(y2))]
        return points

    def _bottom_above(self, y: float) -> float:
        """The lower side of the row above the one at `y`."""
        first = self.layers[bisect.bisect_right(self.layers, (y, math.inf)) - 1][0]
        return y - (self.sizes.gap_y if y == first else self.sizes.gap_row)


def lay_out(graph: Graph) -> Layout:
    """Lay a graph out; more than 150 nodes get smaller ones.

    Raises:
        ValueError: the edges form a cycle.
    """
    sizes = NORMAL if len(graph.nodes) <= 150 else DENSE
    if not graph.nodes:
        return Layout({}, sizes, 0, 0)
    layered = _LayeredGraph(graph, sizes)
    layers = layered.layers()
    columns = _columns(layers, sizes)
    if max(map(len, layers)) <= columns and layered.let_edges_pass(layers):
        layered.order(layers)
        return layered.placed(layers)
    layered.order(layers)
    return layered.on_a_grid([_wrapped(layer, columns) for layer in layers])


class _LayeredGraph:
    """Nodes with their neighbours; among them, invisible ones where a long edge passes a layer."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self.sizes = sizes
        self.ids = [node.id for node in graph.nodes]
        self.above: dict[str, list[str]] = {one: [] for one in self.ids}
        self.below: dict[str, list[str]] = {one: [] for one in self.ids}
        self.edges = [edge for edge in dict.fromkeys(graph.edges) if edge[0] != edge[1]]
        self.edges = [edge for edge in self.edges if edge[0] in self.above and edge[1] in self.above]
        self.passing: dict[tuple[str, str], list[str]] = {}
        self._sweeps = _SWEEPS if len(self.ids) <= _LARGE else _SWEEPS_LARGE
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

    def let_edges_pass(self, layers: list[list[str]]) -> bool:
        """Give an edge that skips layers an invisible node in each; none, and false, if that were very many."""
        at = {node: number for number, layer in enumerate(layers) for node in layer}
        long = [edge for edge in self.edges if at[edge[1]] - at[edge[0]] > 1]
        if sum(at[target] - at[source] - 1 for source, target in long) > _MOST_PASSING:
            return False
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
        return True

    def order(self, layers: list[list[str]]) -> None:
        """Sort every layer by where its neighbours stand, down and up in turn."""
        at = {node: index / max(1, len(layer)) for layer in layers for index, node in enumerate(layer)}
        for sweep in range(self._sweeps):
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            for layer in layers if downwards else reversed(layers):
                mean = {node: _mean((at[one] for one in neighbours[node]), at[node]) for node in layer}
                layer.sort(key=mean.__getitem__)
                at.update((node, (index + 0.5) / len(layer)) for index, node in enumerate(layer))

    def placed(self, rows: list[list[str]]) -> Layout:
        """Middles near those of neighbours, left to right; then everything moved to the positive side."""
        middles: dict[str, float] = {}
        for row in rows:
            offsets = self._offsets(row)
            middles.update(zip(row, (offset - offsets[-1] / 2 for offset in offsets), strict=True))
        self._draw_near(rows, middles, {id(row): self._offsets(row) for row in rows})
        sizes = self.sizes
        left = min(middles[one] for one in self.ids) - sizes.width / 2
        positions: dict[str, tuple[float, float]] = {}
        points: dict[str, list[tuple[float, float]]] = {}
        for number, row in enumerate(rows):
            y = float(number * (sizes.height + sizes.gap_y))
            for node in row:
                x = round(middles[node] - left, 1)
                if node.startswith("\0"):
                    points[node] = [(x, y), (x, y + sizes.height)]
                else:
                    positions[node] = (round(x - sizes.width / 2, 1), y)
        width = max(x for x, _ in positions.values()) + sizes.width
        height = len(rows) * (sizes.height + sizes.gap_y) - sizes.gap_y
        bends = {edge: [point for name in names for point in points[name]] for edge, names in self.passing.items()}
        return Layout(positions, sizes, round(width, 1), height, bends)

    def on_a_grid(self, layers: list[list[list[str]]]) -> Layout:
        """Every box in a cell of one grid; a layer of one row stands near its neighbours."""
        cells: dict[str, float] = {}
        widest = max(len(rows[0]) for rows in layers)
        for rows in layers:
            first = (widest - len(rows[0])) // 2
            for row in rows:
                cells.update((node, first + index) for index, node in enumerate(row))
        single = [rows[0] for rows in layers if len(rows) == 1]  # the others are as wide as they can be
        self._draw_near(single, cells, {id(row): range(len(row)) for row in single})
        for row in single:  # in steps of whole cells: what was one apart stays so
            cells.update((node, math.floor(cells[node] + 0.5)) for node in row)
        sizes, left = self.sizes, min(cells.values())
        positions: dict[str, tuple[float, float]] = {}
        ends: list[tuple[float, float]] = []
        y = 0.0
        for rows in layers:
            first_y = y
            for row in rows:
                positions.update((node, ((cells[node] - left) * (sizes.width + sizes.gap_x), y)) for node in row)
                y += sizes.height + sizes.gap_row
            ends.append((first_y, y - sizes.height - sizes.gap_row))
            y += sizes.gap_y - sizes.gap_row
        positions = {node: positions[node] for node in self.ids}
        width = max(x for x, _ in positions.values()) + sizes.width
        return Layout(positions, sizes, width, y - sizes.gap_y, layers=ends)

    def _draw_near(self, rows: list[list[str]], at: dict[str, float], offsets: Mapping[int, Sequence[float]]) -> None:
        """Move the nodes of rows to the mean of their neighbours, as far as order and gaps allow."""
        for sweep in range(self._sweeps + 1):  # the last one goes down: a task stands below what it is made from
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            for row in rows if downwards else reversed(rows):
                wanted = [_mean((at[one] for one in neighbours[node]), at[node]) for node in row]
                at.update(zip(row, _separated(wanted, offsets[id(row)]), strict=True))

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
    count = max(1, math.ceil(len(layer) / columns))
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

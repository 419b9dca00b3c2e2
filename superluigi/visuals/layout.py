"""Where nodes go: layers from the sources down, few crossings, wide layers wrapped into rows. Pure and quick.

Layers are counted back from what needs a node, so that it stands just above its first reader; the order in a
layer follows the mean place of neighbours (barycentre sweeps, Sugiyama et al. 1981); places in a row are as
near to the neighbours as the order and the gap allow (isotonic regression by pooling adjacent violators).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from superluigi.visuals.model import Graph

_SWEEPS = 6
#: Width to height of the whole picture that wrapping aims at.
_SHAPE = 1.9


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
    """Places of the nodes' upper left corners."""

    places: Mapping[str, tuple[float, float]]
    sizes: Sizes
    width: float
    height: float


def place(graph: Graph) -> Layout:
    """Lay a graph out; more than 150 nodes get smaller ones.

    Raises:
        ValueError: the edges form a cycle.
    """
    sizes = NORMAL if len(graph.nodes) <= 150 else DENSE
    if not graph.nodes:
        return Layout({}, sizes, 0, 0)
    ids = [node.id for node in graph.nodes]
    known = set(ids)
    above: dict[str, list[str]] = {one: [] for one in ids}
    below: dict[str, list[str]] = {one: [] for one in ids}
    for source, target in dict.fromkeys(graph.edges):
        if source in known and target in known and source != target:
            below[source].append(target)
            above[target].append(source)
    layers = _layers(ids, above, below)
    _order(layers, above, below)
    rows = _rows(layers, sizes)
    return _places(rows, above, below, sizes)


def _layers(ids: Sequence[str], above: Mapping[str, list[str]], below: Mapping[str, list[str]]) -> list[list[str]]:
    """Nodes by their distance from the end, the farthest first."""
    distance = dict.fromkeys(ids, 0)
    waiting = {one: len(below[one]) for one in ids}
    ready = [one for one in ids if not waiting[one]]
    done = 0
    while done < len(ready):
        node = ready[done]
        done += 1
        for source in above[node]:
            distance[source] = max(distance[source], distance[node] + 1)
            waiting[source] -= 1
            if not waiting[source]:
                ready.append(source)
    if done < len(ids):
        raise ValueError("the graph has a cycle")
    depth = max(distance.values())
    layers: list[list[str]] = [[] for _ in range(depth + 1)]
    for one in ids:
        layers[depth - distance[one]].append(one)
    return layers


def _order(layers: list[list[str]], above: Mapping[str, list[str]], below: Mapping[str, list[str]]) -> None:
    """Sort every layer by where its neighbours stand, down and up in turn."""
    at = {node: index / max(1, len(layer)) for layer in layers for index, node in enumerate(layer)}
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for layer in layers if downwards else reversed(layers):
            mean = {node: _mean((at[one] for one in neighbours[node]), at[node]) for node in layer}
            layer.sort(key=mean.__getitem__)
            at.update((node, (index + 0.5) / len(layer)) for index, node in enumerate(layer))


def _mean(values: Iterable[float], otherwise: float) -> float:
    known = list(values)
    return sum(known) / len(known) if known else otherwise


def _rows(layers: list[list[str]], sizes: Sizes) -> list[list[list[str]]]:
    """Each layer as one or more rows, none wider than what gives the whole picture a pleasant shape."""
    widest = max(map(len, layers))
    columns = widest
    for candidate in range(4, widest + 1):
        rows = sum(math.ceil(len(layer) / candidate) for layer in layers)
        width = candidate * (sizes.width + sizes.gap_x)
        height = rows * (sizes.height + sizes.gap_row) + len(layers) * sizes.gap_y
        if width >= _SHAPE * height:
            columns = candidate
            break
    columns = max(columns, min(widest, 8))
    return [_wrapped(layer, columns) for layer in layers]


def _wrapped(layer: list[str], columns: int) -> list[list[str]]:
    count = math.ceil(len(layer) / columns)
    if count == 1:
        return [layer]
    return [layer[row::count] for row in range(count)]  # column by column: neighbours stay together


def _places(
    rows: list[list[list[str]]], above: Mapping[str, list[str]], below: Mapping[str, list[str]], sizes: Sizes
) -> Layout:
    step = sizes.width + sizes.gap_x
    x = {
        node: index * step - len(layer[0]) * step / 2
        for layer in rows
        for row in layer
        for index, node in enumerate(row)
    }
    single = [layer[0] for layer in rows if len(layer) == 1]  # wrapped layers stay a grid
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in single if downwards else reversed(single):
            wanted = [_mean((x[one] for one in neighbours[node]), x[node]) for node in row]
            x.update(zip(row, _separated(wanted, step), strict=True))
    left = min(x.values())
    places: dict[str, tuple[float, float]] = {}
    y = 0.0
    for layer in rows:
        for row in layer:
            places.update((node, (round(x[node] - left, 1), y)) for node in row)
            y += sizes.height + sizes.gap_row
        y += sizes.gap_y - sizes.gap_row
    width = max(x.values()) - left + sizes.width
    return Layout(places, sizes, round(width, 1), y - sizes.gap_y)


def _separated(wanted: Sequence[float], step: float) -> list[float]:
    """The places nearest to `wanted`, in the given order and at least `step` apart."""
    blocks: list[tuple[float, int]] = []  # (sum of wanted, less their offset; how many)
    for index, value in enumerate(wanted):
        total, count = value - index * step, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    placed: list[float] = []
    for total, count in blocks:
        placed += [total / count + (len(placed) + offset) * step for offset in range(count)]
    return placed

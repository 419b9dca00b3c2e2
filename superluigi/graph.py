"""Pure functions over nested structures and task graphs: map, flatten, walk, hash. No recursion limits.

A *structure* is what `requires()` and `output()` may return: nothing, one item, or any nesting of lists,
tuples and dicts of items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import luigi

from superluigi.errors import USERS_CODE

Node = TypeVar("Node")
Name = TypeVar("Name", bound=Hashable)


class CycleError(ValueError):
    """The graph has a cycle; the message names it, `path` holds its nodes, the first again at the end."""

    def __init__(self, message: str, path: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.path = list(path)


def is_stand_in(node: object) -> bool:
    """Whether a task only points at another or at a value: it makes nothing, and what it names is not its own."""
    return bool(getattr(type(node), "_superluigi_stand_in", False))


def is_external(task: Any) -> bool:
    """Whether a task only stands for data that others make."""
    with USERS_CODE:  # a `run` that raises when it is looked at is one, and no external data
        return task.run is None or task.run == NotImplemented
    return False


def written(task: object, name: str, default: object = None) -> Any:
    """An attribute of a task; what a `__getattr__` of its class makes of a name of ours is none."""
    is_there = hasattr(type(task), name) or name in getattr(task, "__dict__", ())
    return getattr(task, name, default) if is_there else default


def asked(target: object, name: str, default: object = None) -> Any:
    """An attribute of a target; one that raises, as the `__getattr__` of a class of others may, is none."""
    with USERS_CODE:
        return getattr(target, name, default)
    return default


def path_text(target: object) -> str:
    """Where a target is, in words; its class where it cannot say."""
    with USERS_CODE:
        return str(asked(target, "path", target))
    return f"a {type(target).__name__}"


def map_structure(function: Callable[[Any], object], structure: object) -> Any:
    """The same nesting with `function` applied to every item; `None` stays `None`.

    Dicts and lists keep their class where it can be built from items; named tuples keep theirs;
    other iterables (sets, generators, dict views) become lists.
    """
    if structure is None:
        return None
    kind = type(structure)
    if not hasattr(kind, "__iter__"):  # most are tasks and targets; the checks below cost more
        return function(structure)
    if kind is not list and kind is not dict and isinstance(structure, ITEMS):
        return function(structure)
    if kind is not list and isinstance(structure, Mapping):
        mapped = {key: map_structure(function, value) for key, value in structure.items()}
        return mapped if kind is dict else _rebuild(structure, mapped)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_structure(function, item) for item in structure))
    if isinstance(structure, (list, tuple)):
        items = [map_structure(function, item) for item in structure]
        return items if kind is list else _rebuild(structure, items)
    items_of = iterator(structure)
    return function(structure) if items_of is None else [map_structure(function, item) for item in items_of]


def _rebuild(structure: Any, items: object) -> object:
    try:
        return type(structure)(items)
    except TypeError:
        return items


def flatten(structure: object) -> list[Any]:
    """All items of a structure, in order."""
    if not hasattr(type(structure), "__iter__"):  # as most: one item, or nothing
        return [] if structure is None else [structure]
    items: list[object] = []
    map_structure(items.append, structure)
    return items


#: Items whatever they can do besides: a target may be a list of its files, or be read line by line.
ITEMS = (luigi.Target, luigi.Task, str, bytes)


def is_iterable(value: object) -> bool:
    """Whether a structure may be iterated into; tasks, targets, strings and items with no `__iter__` may not."""
    return hasattr(type(value), "__iter__") and iterator(value) is not None


def iterator(value: object) -> Iterator[object] | None:
    """Over what is in a structure; None for an item. As in Luigi, what refuses to be iterated is one."""
    if type(value) is list:  # as most
        return iter(value)
    if isinstance(value, ITEMS) or not isinstance(value, Iterable):
        return None
    try:
        return iter(value)
    except TypeError:
        return None


def key(node: Any) -> Hashable:
    """What tells a node from others: a task's class and id, whatever `__eq__` its class has; all else itself."""
    return (type(node), node.task_id) if isinstance(node, luigi.Task) else node


def unique(nodes: Iterable[Node]) -> list[Node]:
    """Each node once, where it comes first."""
    found: dict[Hashable, Node] = {}
    for node in nodes:
        found.setdefault(key(node), node)
    return list(found.values())


def walk(roots: Iterable[Node], children: Callable[[Node], Iterable[Node]]) -> Iterator[tuple[Node, list[Node]]]:
    """Each node reachable from `roots` once, after all its children (post-order), with its children.

    Raises:
        CycleError: the graph has a cycle.
    """
    done: set[Hashable] = set()
    open_: dict[Hashable, Node] = {}
    for root in roots:
        if key(root) in done:
            continue
        stack: list[tuple[Node, list[Node], int]] = [(root, list(children(root)), 0)]
        open_[key(root)] = root
        while stack:
            node, below, position = stack.pop()
            while position < len(below) and key(below[position]) in done:
                position += 1
            if position == len(below):
                done.add(key(node))
                del open_[key(node)]
                yield node, below
                continue
            child = below[position]
            if key(child) in open_:
                path = [*list(open_.values())[list(open_).index(key(child)) :], child]
                raise CycleError(f"cycle: {' -> '.join(map(str, path))}", path)
            stack.append((node, below, position + 1))
            stack.append((child, list(children(child)), 0))
            open_[key(child)] = child


def ancestors_of(edges: Mapping[Name, Iterable[Name]], targets: Iterable[Name]) -> set[Name]:
    """All nodes from which a path leads to one of `targets`, these included; `edges` maps node -> children."""
    parents: dict[Name, list[Name]] = {}
    for node, below in edges.items():
        for child in below:
            parents.setdefault(child, []).append(node)
    found = set(targets)
    waiting = list(found)
    while waiting:
        for parent in parents.get(waiting.pop(), ()):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def digest(value: object) -> str:
    """Hex SHA-256 of a JSON value, the same in every process and on every machine."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode

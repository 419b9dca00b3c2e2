"""How a task travels to another process: with all the tasks it refers to, as one flat list.

Pickle would follow tasks in parameters one inside the other and meet its recursion limit some hundred tasks deep.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from superluigi import graph
from superluigi.luigi_compat.tasks import hash_by_id
from superluigi.parameters import references
from superluigi.parameters.checked import Frozen


@dataclass(frozen=True)
class _Index:
    """Stands for the task at an index of the list."""

    at: int


def reduced(task: Any, own_class: type) -> object:
    """What `__reduce__` of a task returns; `own_class` is the class of all tasks that travel in this way."""

    def referred(node: object) -> list[object]:
        return [each for each in _referred(node) if isinstance(each, own_class)]

    indexes: dict[Hashable, int] = {}
    packed = []
    for node, _ in graph.walk([task], referred):
        packed.append((type(node), _packed(node.__getstate__(), indexes, own_class)))
        indexes[graph.key(node)] = len(indexes)
    return _unpacked, (packed,)


def must_pickle(task: Any) -> bool:
    """Whether the texts of `task` are too little to make it elsewhere: they name tasks, or digests of values."""
    if "init" in task.__dict__:
        return True
    held = [value for value in task.param_kwargs.values() if isinstance(value, Frozen)]
    return any(_holds_tasks(value) or value.text.startswith("sha256:") or "#" in value.text for value in held)


def _referred(task: Any) -> list[object]:
    held = [value for value in task.param_kwargs.values() if isinstance(value, Frozen)]
    return [each for value in held for each in references.tasks_in(value.value)] + list(task.__dict__.get("init", ()))


def _packed(state: dict[str, Any], indexes: dict[Hashable, int], own_class: type) -> dict[str, object]:
    def replace(each: object) -> object:
        return _Index(indexes[graph.key(each)]) if isinstance(each, own_class) else each

    params = {
        name: Frozen(references.replaced(value.value, replace), value.text) if _holds_tasks(value) else value
        for name, value in state["param_kwargs"].items()
    }
    rest = {name: value for name, value in state.items() if name not in params}
    if "init" in rest and "init" not in params:
        rest["init"] = tuple(_Index(indexes[graph.key(step)]) for step in rest["init"])
    return {**rest, "param_kwargs": params}


def _holds_tasks(value: object) -> bool:
    return isinstance(value, Frozen) and next(references.tasks_in(value.value), None) is not None


def _unpacked(packed: list[tuple[type, dict[str, Any]]]) -> object:
    tasks: list[Any] = []
    for cls, state in packed:
        task: Any = object.__new__(cls)
        params = state["param_kwargs"]
        for value in params.values():
            if isinstance(value, Frozen):
                value.value = references.replaced(value.value, lambda index: tasks[index.at], _Index)
        if "init" in state:
            state["init"] = tuple(tasks[index.at] for index in state["init"])
        task.__dict__.update(params)
        task.__dict__.update(state)
        hash_by_id(task)  # text hashes differently in each process
        references.refer(task)
        tasks.append(task)
    return tasks[-1]

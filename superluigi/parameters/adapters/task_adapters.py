"""Tasks where values may stand, written by reference: only a task, a task of one class, a task or a value."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

import luigi

from superluigi import graph
from superluigi.formats.registry import is_class
from superluigi.parameters import references
from superluigi.parameters.adapters.basic import Adapter, Dict


class OrTask(Adapter):
    """A value, or a task whose value it will be."""

    def __init__(self, inner: Adapter) -> None:
        self.inner, self.name = inner, f"{inner.name} (or a task)"
        self.sure = inner.sure and not isinstance(inner, Dict)  # a dict may look like a task

    def check(self, value: object) -> object:
        return value if isinstance(value, luigi.Task) else self.inner.check(value)

    def encode(self, value: object) -> object:
        return _reference(value) if isinstance(value, luigi.Task) else self.inner.encode(value)

    def decode(self, data: object) -> object:
        found = _referred(data)
        return self.inner.decode(data) if found is None else found


class IsTask(Adapter):
    """A task: of one class, or of any if `kind` is a type of values. Stand-ins (`stands_for`) are welcome."""

    sure = True

    def __init__(self, kind: object) -> None:
        self.task_class = kind if is_class(kind) and issubclass(kind, luigi.Task) else luigi.Task
        self.name = "a task" if self.task_class is luigi.Task else f"a task of class {self.task_class.__name__}"

    def check(self, value: object) -> luigi.Task:
        if isinstance(value, self.task_class) or _stands_in(value):
            return value
        self.refuse(value)

    def encode(self, value: Any) -> dict[str, str]:
        return _reference(value)

    def decode(self, data: object) -> luigi.Task:
        found = _referred(data)
        if found is None:
            found = references.resolve(json.dumps(data) if isinstance(data, dict) else str(data))
        return self.check(found)


class OnlyTask(Adapter):
    """A value that cannot be written as a parameter (a table, an object): a task or `Const(…)` must bring it."""

    sure = True

    def __init__(self, annotation: object) -> None:
        shown = getattr(annotation, "__name__", str(annotation))
        self.name = f"a task whose value is a {shown} (or Const(value))"

    def check(self, value: object) -> luigi.Task:
        return value if isinstance(value, luigi.Task) else self.refuse(value)

    def encode(self, value: Any) -> dict[str, str]:
        return _reference(value)

    def decode(self, data: object) -> luigi.Task:
        found = _referred(data)
        return self.refuse(data) if found is None else found


class OneOrMany(Adapter):
    """`Requires[list[X]]`: a list of tasks, or one task whose value is such a list."""

    def __init__(self, many: Adapter, item: object) -> None:
        self.many, self.name, self.sure = many, many.name, many.sure
        self._values = not (is_class(item) and issubclass(item, luigi.Task))

    def check(self, value: object) -> object:
        if isinstance(value, luigi.Task) and (self._values or _stands_in(value)):
            return value
        return self.many.check(value)

    def encode(self, value: object) -> object:
        return _reference(value) if isinstance(value, luigi.Task) else self.many.encode(value)

    def decode(self, data: object) -> object:
        found = _referred(data)
        return self.many.decode(data) if found is None else self.check(found)


def _reference(task: luigi.Task) -> dict[str, str]:
    return {references.TASK: references.refer(task)}


def _referred(data: object) -> luigi.Task | None:
    """The task that JSON refers to; None if it refers to none."""
    if isinstance(data, dict) and set(data) == {references.TASK}:
        return references.resolve(data[references.TASK])
    return None


def _stands_in(value: object) -> TypeGuard[luigi.Task]:
    return isinstance(value, luigi.Task) and graph.is_stand_in(value)

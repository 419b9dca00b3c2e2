"""Tasks where values may stand, written by reference: only a task, a task of one class, a task or a value."""

from __future__ import annotations

import json
from typing import Any

import luigi

from superluigi.formats.registry import is_class
from superluigi.parameters import references
from superluigi.parameters.adapters.basic import Adapter, Dict


class OrTask(Adapter):
    """A value, or a task whose value it will be."""

    def __init__(self, inner: Adapter) -> None:
        self.inner, self.name = inner, f"{inner.name} (or a task)"
        self.sure = inner.sure and not isinstance(inner, Dict)  # a dict may look like a task

    def check(self, value: object) -> Any:
        return value if isinstance(value, luigi.Task) else self.inner.check(value)

    def encode(self, value: object) -> Any:
        if isinstance(value, luigi.Task):
            return {references.TASK: references.refer(value)}
        return self.inner.encode(value)

    def decode(self, data: object) -> Any:
        if isinstance(data, dict) and set(data) == {references.TASK}:
            return references.resolve(data[references.TASK])
        return self.inner.decode(data)


class IsTask(Adapter):
    """A task: of one class, or of any if `kind` is a type of values. Stand-ins (`stands_for`) are welcome."""

    sure = True

    def __init__(self, kind: Any) -> None:
        self.task_class = kind if is_class(kind) and issubclass(kind, luigi.Task) else luigi.Task
        self.name = "a task" if self.task_class is luigi.Task else f"a task of class {self.task_class.__name__}"

    def check(self, value: Any) -> Any:
        if isinstance(value, self.task_class):
            return value
        if isinstance(value, luigi.Task) and getattr(type(value), "_superluigi_stand_in", False):
            return value
        self.refuse(value)

    def encode(self, value: Any) -> Any:
        return {references.TASK: references.refer(value)}

    def decode(self, data: object) -> Any:
        if isinstance(data, dict) and set(data) == {references.TASK}:
            return self.check(references.resolve(data[references.TASK]))
        if isinstance(data, dict):
            return self.check(references.resolve(json.dumps(data)))
        return self.check(references.resolve(str(data)))


class OnlyTask(Adapter):
    """A value that cannot be written as a parameter (a table, an object): a task or `Const(…)` must bring it."""

    sure = True

    def __init__(self, annotation: object) -> None:
        shown = getattr(annotation, "__name__", str(annotation))
        self.name = f"a task whose value is a {shown} (or Const(value))"

    def check(self, value: object) -> Any:
        return value if isinstance(value, luigi.Task) else self.refuse(value)

    def encode(self, value: Any) -> Any:
        return {references.TASK: references.refer(value)}

    def decode(self, data: object) -> Any:
        if isinstance(data, dict) and set(data) == {references.TASK}:
            return references.resolve(data[references.TASK])
        self.refuse(data)


class OneOrMany(Adapter):
    """`Requires[list[X]]`: a list of tasks, or one task whose value is such a list."""

    def __init__(self, many: Adapter, item: Any) -> None:
        self.many, self.one, self.name = many, IsTask(None), many.name
        self._values = not (is_class(item) and issubclass(item, luigi.Task))
        self.sure = many.sure

    def check(self, value: object) -> Any:
        if isinstance(value, luigi.Task) and (self._values or getattr(type(value), "_superluigi_stand_in", False)):
            return value
        return self.many.check(value)

    def encode(self, value: object) -> Any:
        return (self.one if isinstance(value, luigi.Task) else self.many).encode(value)

    def decode(self, data: object) -> Any:
        if isinstance(data, dict) and set(data) == {references.TASK}:
            return self.check(references.resolve(data[references.TASK]))
        return self.many.decode(data)

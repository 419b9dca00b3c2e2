"""Tasks as parameter values, by reference: a task in a parameter is written as its id, whatever stands behind it.

So ids, parameters and scheduler messages keep their size however deep the graph is. Who must turn such a text
into a task again (a queue, another process) enters `resolving(lookup)` around it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import luigi

from superluigi.arguments import guarded
from superluigi.errors import ParameterError
from superluigi.runs import families

#: The key of a task inside JSON: `{"$task": "Features_2013_01_01_1f2e3d4c5b"}`.
TASK = "$task"

_known: weakref.WeakValueDictionary[str, luigi.Task] = weakref.WeakValueDictionary()
_lookup: ContextVar[Callable[[str], luigi.Task | None] | None] = ContextVar("superluigi_lookup", default=None)


def refer(task: luigi.Task) -> str:
    """The text that stands for `task`; remembers the task, so that `resolve` finds it in this process."""
    text = str(task.task_id)
    known = _known.get(text)
    if known is not None:
        families.refuse_two(known, task)
    _known[text] = task
    return text


def resolve(text: str) -> luigi.Task:
    """The task that `text` stands for: an id, a family name, or `{"task": family, "params": {…}}`.

    Raises:
        ParameterError: no such task is known here.
    """
    find = _lookup.get()
    found = find(text) if find is not None else None
    found = found if found is not None else _known.get(text)
    if found is not None:
        return found
    if text.startswith("{"):
        return _called(json.loads(text))
    if text in luigi.task_register.Register.task_names():
        named: luigi.Task = luigi.task_register.Register.get_task_cls(text)()
        return named
    raise ParameterError(
        f"The task {text!r} is not known in this process. Pass a task, the name of a task class, or "
        '{"task": "Name", "params": {"parameter": "text"}}.'
    )


@contextlib.contextmanager
@guarded
def resolving(lookup: Callable[[str], luigi.Task | None]) -> Iterator[None]:
    """Within the block, `from_str_params` finds the tasks that parameters refer to by `lookup(task_id)`."""
    reset = _lookup.set(lookup)
    try:
        yield
    finally:
        _lookup.reset(reset)


def tasks_in(value: object) -> Iterator[luigi.Task]:
    """The tasks inside a parameter value: in lists, tuples, sets, dicts and fields of dataclasses, in order."""
    return found_in(value, luigi.Task)


def found_in(value: object, kind: type) -> Iterator[Any]:
    """What is of class `kind` inside a parameter value."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from found_in(item, kind)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value if isinstance(value, (list, tuple)) else sorted(value, key=str):  # as in every process
            yield from found_in(item, kind)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from found_in(getattr(value, field.name), kind)


def replaced(value: Any, replace: Callable[[Any], object], kind: type = luigi.Task) -> Any:
    """`value` with every task (or what is of class `kind`) inside it replaced; containers are copied."""
    if isinstance(value, kind):
        return replace(value)
    if next(found_in(value, kind), None) is None:
        return value
    if isinstance(value, Mapping):
        return _like(value, {key: replaced(item, replace, kind) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(item, replace, kind) for item in value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(replaced(item, replace, kind) for item in value)
    names = [field.name for field in dataclasses.fields(value) if field.init]
    return dataclasses.replace(value, **{name: replaced(getattr(value, name), replace, kind) for name in names})


def _like(old: Mapping[object, object], new: Mapping[object, object]) -> object:
    return new if type(old) is dict else type(old)(new)  # type: ignore[call-arg]


def _called(call: object) -> luigi.Task:
    if isinstance(call, dict) and set(call) == {TASK}:
        return resolve(call[TASK])
    if not isinstance(call, dict) or not isinstance(call.get("task"), str) or set(call) - {"task", "params"}:
        raise ParameterError(f'{call!r} is no task: write {{"task": "Name", "params": {{"parameter": "text"}}}}.')
    task_class = luigi.task_register.Register.get_task_cls(call["task"])
    params = call.get("params", {})
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in params.items()}
    task: luigi.Task = task_class.from_str_params(texts)
    return task

"""Tasks from tasks: sweeps over parameters, functions applied to results, trees of tasks as one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.errors import OptionError
from superluigi.jsonable import is_numpys_scalar, pythons_own
from superluigi.parameters.checked import any_value, task_reference
from superluigi.parameters.functions import FunctionParameter
from superluigi.parameters.luigi_task import AnyTask
from superluigi.parameters.references import replaced
from superluigi.tasks.atomic import AtomicTaskWithMetadata
from superluigi.tasks.base import Task
from superluigi.tasks.values import LastingReader

Made = TypeVar("Made")


@guarded
def grid(make: Callable[..., Made], *axes: Mapping[str, object], **more: object) -> list[Made]:
    """A task for each combination of values: the product in the order of the keys, the last key fastest.

        grid(Learn, lr=[0.1, 0.01], bs=[16, 32], seed=0)     # (.1, 16), (.1, 32), (.01, 16), (.01, 32), all seed 0

    A list, tuple, range or other iterable is an axis; anything else (text, dicts, tasks, numbers) is the same for
    all. A parameter that is itself a list is given as a list of lists. No axis gives one task, an empty one none.

    Raises:
        OptionError: a key given twice, or a set, which has no order.
    """
    values: dict[str, list[object]] = {}
    for axis in (*axes, more):
        for key, value in axis.items():
            if key in values:
                raise OptionError(f"grid: {key!r} is given twice. Give each key once.")
            values[key] = _points(key, value)
    return [make(**dict(zip(values, point, strict=True))) for point in itertools.product(*values.values())]


def _points(key: str, value: object) -> list[object]:
    if isinstance(value, (set, frozenset)):
        raise OptionError(f"grid: {key!r} is a set, which has no order. Give a list.")
    if isinstance(value, (str, bytes, Mapping, luigi.Task)) or not isinstance(value, Iterable):
        return [value]
    return [pythons_own(item) if is_numpys_scalar(item) else item for item in value]


class Collect(AtomicTaskWithMetadata):
    """`collect(tree)`: a task whose value is the tree with the values of its tasks in their places."""

    task_namespace = "superluigi"
    tree: Any = any_value()
    suffix = ".pickle"

    def run(self) -> Any:
        reader = LastingReader(self.current_attempt().stack)
        return replaced(self.param_kwargs["tree"].value, reader.value)


@guarded
def collect(tree: object) -> Collect:
    """One task for a tree of tasks, such as `{"a": [T(1), T(2)], "b": (T(3),)}`; its value has the same shape."""
    refuse_no_tree(tree, "collect")
    return Collect(tree=tree)


def refuse_no_tree(tree: object, caller: str) -> None:
    """Refuse what is no nesting of tasks: a text, a number; and task classes in it, which were not called.

    Raises:
        OptionError: says what to write.
    """
    if not isinstance(tree, luigi.Task) and not graph.is_iterable(tree):
        raise OptionError(
            f"{caller} takes a task, or lists and dicts of tasks, not {tree!r:.200} ({type(tree).__name__})."
        )
    for one in [] if isinstance(tree, luigi.Task) else graph.flatten(tree):
        if isinstance(one, type) and issubclass(one, luigi.Task):
            raise OptionError(f"{caller} takes tasks, but {one.__name__} is a class. Call it: {one.__name__}(…).")


class Tree(Task, luigi.WrapperTask):
    """Requires every task of a tree and makes nothing; for running several tasks at once."""

    task_namespace = "superluigi"  # type: ignore[misc]  # Luigi does not say that it belongs to the class
    tree: Any = any_value()

    def requires(self) -> list[luigi.Task]:
        return list(self.tasks())

    def tasks(self) -> Iterator[luigi.Task]:
        """The tasks of the tree, each once, in order."""
        found: list[luigi.Task] = []
        replaced(self.param_kwargs["tree"].value, found.append)
        return iter(graph.unique(found))

    def output(self) -> Any:
        return [target for task in self.tasks() for target in graph.flatten(task.output())]


class Apply(AtomicTaskWithMetadata):
    """`apply(function, task)`: a task whose value is the function of another's value."""

    task_namespace = "superluigi"
    function: Any = FunctionParameter()
    of: Any = task_reference(luigi.Task)
    _superluigi_keeps_none = True

    def requires(self) -> Any:
        return self.of

    def run(self) -> Any:
        function = self.function
        if not callable(function):
            raise OptionError(f"{function!r} cannot be applied: it is no function.")
        return function(self.current_attempt().reader.value(self.of))


@guarded(itself=("function", "task"))
def apply(function: Callable[..., object], task: AnyTask) -> Any:
    """A new task with the value `function(value of task)`; its own identity and output, `task` stays as it is.

    `function` may be anything that can be called with one value: a function that can be imported, a lambda (known
    by its code and what it closes over), or a task class, which is then called with the task itself.

    Raises:
        ParameterError: a function that cannot be told from others.
    """
    if isinstance(function, type) and issubclass(function, luigi.Task):
        return function(task)
    return Apply(function=function, of=task)

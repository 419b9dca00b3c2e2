"""Two classes of one family: a task id names a family and parameters, so that both could mean one task."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import luigi

from superluigi.errors import DefinitionError


def is_one(one: type, other: type) -> bool:
    """Whether two classes may share ids: the same one, one derived from the other, or one written anew.

    Classes that a function makes, and a module that is loaded twice (as `__main__`, too), count as written anew.
    """
    if one is other or issubclass(one, other) or issubclass(other, one):
        return True
    if one.__qualname__ == other.__qualname__ and _source(one) == _source(other):
        return True
    family = _family(one)
    return any(
        base in other.__mro__ and _family(base) == family for base in one.__mro__ if issubclass(base, luigi.Task)
    )


def is_in_force(cls: type) -> bool:
    """Whether the name of a class still leads to it: it was not written anew since, nor made inside a function."""
    found: object = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


def refuse(one: type, other: type, task_id: str) -> NoReturn:
    """Say that two classes have a task of one id.

    Raises:
        DefinitionError: names both.
    """
    raise DefinitionError(
        f"Two classes are called {_family(one)}, and both have the task {task_id}: {_place(one)} and {_place(other)}. "
        "One would get what the other made. Rename one, or give it a task_namespace."
    )


def refuse_two(one: luigi.Task, other: luigi.Task) -> None:
    """Refuse two tasks of one id that are of two classes.

    Raises:
        DefinitionError: names both classes.
    """
    if type(one) is not type(other) and not is_one(type(one), type(other)):
        refuse(type(one), type(other), str(one.task_id))


def _family(cls: Any) -> str:
    return str(cls.get_task_family())


def _source(cls: type) -> str:
    module = sys.modules.get(cls.__module__)
    return str(getattr(module, "__file__", None) or cls.__module__)


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"

"""What a task says about how it wants to be run: asked at one place, and checked there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

from luigi.task import Task

from superluigi import graph
from superluigi.errors import USERS_CODE, DefinitionError, message_of
from superluigi.scheduler.limits import Limits


@dataclass(frozen=True)
class Terms:
    """The engine's view of a task's attributes. They are users' code: each may raise, or be anything."""

    priority: float = 0
    #: `process_resources()` and what limits add.
    resources: dict[str, int] = field(default_factory=dict)
    #: What the task says of its retries, in Luigi's words; None when it says nothing.
    retry_policy: dict[str, object] | None = None
    #: `worker_timeout` in seconds; None where the task has none of its own.
    timeout: float | None = None
    disabled: bool = False
    accepts_messages: bool = False
    batchable: bool = False

    @staticmethod
    def of(task: Task, limits: Limits) -> Terms:
        """Ask `task`.

        Raises:
            DefinitionError: an attribute raises, or is nothing that it could be; it says which.
        """
        usual = False
        with USERS_CODE:  # asked again, one by one, to say what is wrong
            usual = (
                type(priority := task.priority) is int
                and not (resources := limits.resources_of(task))
                and type(resources) is dict
                and task.retry_count is task.disable_hard_timeout is task.disable_window is task.worker_timeout is None
                and not task.disabled
                and not task.accepts_messages
                and not _is_batchable(task)
                and _is_named_plainly(type(task))
            )
        if usual:  # as nearly every task: a tenth of what follows
            return _NOTHING if priority == 0 else Terms(priority)
        _asked(task, "task_family", str)
        _asked(task, "task_module", str)
        _asked(task, "text", str, str)
        return Terms(
            priority=_asked(task, "priority", _number),
            resources=_asked(task, "resources", _amounts, limits.resources_of),
            retry_policy=_retry_policy(task),
            timeout=_asked(task, "worker_timeout", _number_or_none),
            disabled=_asked(task, "disabled", bool),
            accepts_messages=_asked(task, "accepts_messages", bool),
            batchable=_asked(task, "batchable", bool, _is_batchable),
        )

    @staticmethod
    def amount(task: Task, name: str) -> Any:
        """The number that an attribute of `task` is, if it is one.

        Raises:
            DefinitionError: it raises, is no number, or a negative one.
        """
        return _asked(task, name, _number_or_none, lambda task: graph.written(task, name))

    @staticmethod
    def of_complete(task: Task) -> Terms:
        """Of a task that need not run, nothing matters but whether it is disabled."""
        with USERS_CODE:
            return _DISABLED if task.disabled else _NOTHING
        return _NOTHING


_NOTHING = Terms()
_DISABLED = Terms(disabled=True)


def text_of(task: Task) -> str:
    """`str(task)`; its id where that raises."""
    with USERS_CODE:
        return str(task)
    return str(task.task_id)


def family_of(task: Task) -> str:
    """`task.task_family`, which Luigi puts together anew each time it is asked; its class's where that raises."""
    if not _is_named_plainly(type(task)):
        with USERS_CODE:  # a task that is to run has failed for it
            return str(task.task_family)
    return _class_family(type(task))


def module_of(task: Task) -> str | None:
    """`task.task_module`, None where that says so: only who has the task can run it; its class's where it raises."""
    with USERS_CODE:
        module: object = task.task_module
        return None if module is None else str(module)
    return type(task).__module__


@functools.lru_cache(maxsize=4096)
def _class_family(task_class: type[Task]) -> str:
    return str(task_class.get_task_family())


@functools.lru_cache(maxsize=4096)
def _is_named_plainly(task_class: type[Task]) -> bool:
    """Whether a class leaves it to Luigi's classes and ours what its tasks are called."""
    names = ("task_family", "task_module", "__str__", "__repr__")
    owners = (next(base for base in task_class.__mro__ if name in vars(base)) for name in names)
    return all(owner.__module__.partition(".")[0] in _CALLED_BY_US for owner in owners)


_CALLED_BY_US = {"builtins", "luigi", "superluigi"}


def _is_batchable(task: Task) -> bool:
    if type(task).batchable is not Task.batchable:
        return bool(task.batchable)
    return _class_is_batchable(type(task))


@functools.lru_cache(maxsize=4096)
def _class_is_batchable(task_class: type[Task]) -> bool:
    return bool(task_class.batch_param_names())


def _retry_policy(task: Task) -> dict[str, object] | None:
    names = ("retry_count", "disable_hard_timeout", "disable_window")
    policy = {name: _asked(task, name, _number_or_none) for name in names}
    return policy if any(value is not None for value in policy.values()) else None


def _asked(task: Task, name: str, checked: Callable[[Any], object], ask: Callable[[Task], object] | None = None) -> Any:
    try:
        value = getattr(task, name) if ask is None else ask(task)
        return checked(value)
    except KeyboardInterrupt:
        raise
    except _Unfit as unfit:
        raise DefinitionError(f"The {name} of {text_of(task)} must be {unfit}, but it is {value!r}.") from None
    except BaseException as error:
        raise DefinitionError(
            f"The {name} of {text_of(task)} cannot be told: asking for it raised {type(error).__name__}: "
            f"{message_of(error)}"
        ) from error


class _Unfit(Exception):  # noqa: N818 - it never leaves this module
    """Says what a value must be."""


_AMOUNTS = "a dict of names and amounts that are not negative, as in {'gpu': 1}"


def _number(value: object) -> Any:
    if type(value) is int:
        return value
    if not isinstance(value, (Real, Decimal)) or math.isnan(value):
        raise _Unfit("a number")
    return value


def _number_or_none(value: object) -> object:
    if value is None:
        return None
    if _number(value) < 0:
        raise _Unfit("None or a number that is not negative")
    return value


def _amounts(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise _Unfit(_AMOUNTS)
    amounts = dict(value)
    for name, amount in amounts.items():
        if not isinstance(name, str) or not isinstance(amount, (Real, Decimal)) or math.isnan(amount):
            raise _Unfit(_AMOUNTS)
        if _number(amount) < 0:
            raise _Unfit(_AMOUNTS)
    return amounts

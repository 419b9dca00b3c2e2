"""What Luigi's tasks and its register of classes do not say in public."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luigi.task import Task
from luigi.task_register import Register


def param_visibilities(task: Task) -> Callable[[], dict[str, object]]:
    """Asks which parameters of `task` Luigi's page may show; not called before the page is asked for."""
    ask: Callable[[], dict[str, object]] = task._get_param_visibilities
    return ask


def owners_of(task: Task) -> list[str]:
    """Who is mailed when `task` fails."""
    return list(task._owner_list())


def hash_by_id(task: Task) -> None:
    """Let `task`, made without its `__init__` or with another id by now, be hashed by its id in this process."""
    task.__dict__["_Task__hash"] = hash(task.task_id)


def requires_hook(cls: type[Any]) -> object:
    """The method by which a class requires more than `requires()` says."""
    return cls._requires


def instances_of(register: Any) -> dict[object, Any] | None:
    """Luigi's one object for each task, by class and values of parameters; None where that is switched off."""
    known: dict[object, object] | None = register._Register__instance_cache
    return known


def registered(name: str) -> Any:
    """The class of that name, Luigi's mark of an ambiguous name, or None."""
    return Register._get_reg().get(name)

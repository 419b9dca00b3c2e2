"""Super Luigi: Luigi tasks that you can trust.

The names below are loaded when they are first used, so that `import superluigi` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi import lineage as lineage
    from superluigi.checks.definition import check as check
    from superluigi.computing import compute as compute
    from superluigi.parameters import Const as Const
    from superluigi.queue import Queue as Queue
    from superluigi.task_runner import run_task as run_task
    from superluigi.tasks import apply as apply
    from superluigi.tasks import as_path as as_path
    from superluigi.tasks import cached as cached
    from superluigi.tasks import collect as collect
    from superluigi.tasks import grid as grid
    from superluigi.tasks import outputs_of as outputs_of
    from superluigi.tasks import plan as plan
    from superluigi.tasks import shell_task as shell_task
    from superluigi.tasks import storage_report as storage_report
    from superluigi.tasks import task as task

__version__ = "0.1.0"

#: The module that defines a public name; `lineage` is itself one.
_HOMES = {
    "Const": "parameters",
    "Queue": "queue",
    "check": "checks.definition",
    "compute": "computing",
    "run_task": "task_runner",
    **dict.fromkeys(
        (
            *("apply", "as_path", "cached", "collect", "grid", "outputs_of"),
            *("plan", "shell_task", "storage_report", "task"),
        ),
        "tasks",
    ),
}

__all__ = [
    "Const", "Queue", "apply", "as_path", "cached", "check", "collect", "compute", "grid", "lineage", "outputs_of",
    "plan", "run_task", "shell_task", "storage_report", "task",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "lineage":
        return importlib.import_module("superluigi.lineage")
    if name not in _HOMES:
        raise AttributeError(f"module 'superluigi' has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(importlib.import_module(f"superluigi.{_HOMES[name]}"), name)
    except Exception as error:
        from superluigi.luigi_compat import configuration  # only now: what is imported first is to be little

        told = configuration.told_at_import(error)
        if told is None:
            raise
        raise told from error
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

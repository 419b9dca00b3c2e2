"""Super Luigi: Luigi tasks that you can trust.

The names below are loaded when they are first used, so that `import superluigi` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi import lineage as lineage
    from superluigi.task_runner import run_task as run_task

#: Public name -> the module that defines it; a module itself stands for its last part.
_HOMES = {
    "lineage": "superluigi.lineage",
    "run_task": "superluigi.task_runner",
}

__all__ = ["lineage", "run_task"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'superluigi' has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if home == f"superluigi.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The durable queue: submit a graph now, run it anywhere, survive anything.

The target is the truth and the queue is a plan: a claimed task is first asked whether it is complete, so
execution is at least once, commits are atomic, and a lost queue loses no result. Imports `engine`, `tasks` and below.
`store/` is the database, `workers/` carry out what it holds; on from here: `task_runner`, `superluigi queue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi.queue.api import Queue
    from superluigi.queue.models import AttemptRow, Pool, Submission, TaskRow

__all__ = ["AttemptRow", "Pool", "Queue", "Submission", "TaskRow"]


def __getattr__(name: str) -> Any:
    # Late: the process that runs attempts imports this package too and needs no SQL.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = "api" if name == "Queue" else "models"
    return getattr(importlib.import_module(f"superluigi.queue.{module}"), name)

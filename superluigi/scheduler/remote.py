"""Forced tasks on a central scheduler: under names of their own, so that what it remembers does not hold them back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from superluigi.runs.force import ForcePlan

#: Methods of Luigi's scheduler protocol whose first argument is a task id.
_ABOUT_ONE_TASK = {
    "set_task_status_message",
    "get_task_status_message",
    "set_task_progress_percentage",
    "get_task_progress_percentage",
    "decrease_running_task_resources",
    "get_running_task_resources",
    "add_scheduler_message_response",
    "get_scheduler_message_response",
    "fetch_error",
}


class NamespacedScheduler:
    """A stock scheduler, told `<task id>@<run>` for the tasks that a run forces; the worker sees plain ids.

    A `luigid` ignores that a task is pending again for some seconds after it was done, and it would hand the
    forced task of one run to another run that waits for the same one.
    """

    def __init__(self, scheduler: Any, plan: ForcePlan, run_id: str) -> None:
        self._scheduler = scheduler
        self._plan = plan
        self._suffix = f"@{run_id}-{secrets.token_hex(2)}"  # a resumed run has its id from another one

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._scheduler, name)
        if name not in _ABOUT_ONE_TASK:
            return method

        def call(task_id: str, *args: object, **kwargs: object) -> object:
            return method(self._outward(task_id), *args, **kwargs)

        return call

    def add_task(self, **kwargs: Any) -> object:
        """Luigi's `add_task`, which is called with keywords only."""
        kwargs["task_id"] = self._outward(kwargs["task_id"])
        for name in ("deps", "new_deps"):
            if kwargs.get(name) is not None:
                kwargs[name] = [self._outward(task_id) for task_id in kwargs[name]]
        return self._scheduler.add_task(**kwargs)

    def get_work(self, current_tasks: Iterable[str] | None = None, **kwargs: object) -> dict[str, object]:
        """Luigi's `get_work`."""
        if current_tasks is not None:
            kwargs["current_tasks"] = [self._outward(task_id) for task_id in current_tasks]
        reply: dict[str, Any] = self._scheduler.get_work(**kwargs)
        if reply.get("task_id") is not None:
            reply["task_id"] = self._inward(reply["task_id"])
        if reply.get("batch_task_ids"):
            reply["batch_task_ids"] = [self._inward(task_id) for task_id in reply["batch_task_ids"]]
        for running in reply.get("running_tasks") or ():
            running["task_id"] = self._inward(running["task_id"])
        return reply

    def _outward(self, task_id: str) -> str:
        return task_id + self._suffix if self._is_forced(task_id) else task_id

    def _inward(self, task_id: str) -> str:
        return task_id.removesuffix(self._suffix)

    def _is_forced(self, task_id: str) -> bool:
        # by the id alone, since requirements are mentioned before they are known; too many names of our own do no harm
        plan = self._plan
        families = (f"{family}_" for family in plan.families)
        return plan.everything or task_id in plan.ids or task_id.startswith(tuple(families))

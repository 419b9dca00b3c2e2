"""Luigi's execution summary in parts: it has no public function that takes tasks and gives text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from luigi import execution_summary
from luigi.execution_summary import LuigiStatusCode

from superluigi.errors import message_of

Partition = dict[str, Any]


def partition_of(worker: Any) -> dict[str, set[str]]:
    """How each task of a worker ended, by id and Luigi's rules, less what only its recursion over requirements tells.

    Luigi is shown ids in place of tasks: it puts what it is shown in sets, and a class may have an `__eq__` or
    `__hash__` of its own.
    """
    shown = _by_id(worker)
    shown._add_task_history = [(task.task_id, status, runnable) for task, status, runnable in worker.task_history]
    partition: dict[str, set[str]] = execution_summary._partition_tasks(shown)
    partition["run_by_other_worker"] = execution_summary._get_run_by_other_worker(shown)
    return partition


def _by_id(worker: Any) -> SimpleNamespace:
    if worker is None:
        return SimpleNamespace(_get_work_response_history=[], _scheduled_tasks={}, _id="")
    tasks = {task_id: _Named(task_id) for task_id in worker.tasks} if worker.work_history else {}
    return SimpleNamespace(_get_work_response_history=worker.work_history, _scheduled_tasks=tasks, _id=worker.worker_id)


class _Named(str):
    """An id in the place of a task, whose family is not read."""

    __slots__ = ()
    task_family = ""


def status_of(partition: Partition) -> LuigiStatusCode:
    """Luigi's status code of a run."""
    status: LuigiStatusCode = execution_summary._tasks_status(partition)
    return status


def text_of(partition: Partition, worker: Any) -> str:
    """The summary as Luigi prints it, of sets or lists of tasks; it ends no run."""
    try:
        return str(execution_summary._summary_wrap(execution_summary._summary_format(partition, _by_id(worker))))
    except Exception as error:  # noqa: BLE001 - user code; what has been made stays made
        return f"Luigi's summary cannot be told ({type(error).__name__}: {message_of(error)}): do tasks change classes?"

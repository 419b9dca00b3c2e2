"""Luigi's execution summary in parts: it has no public function that takes tasks and gives text."""

from __future__ import annotations

from typing import Any

from luigi import execution_summary
from luigi.execution_summary import LuigiStatusCode
from luigi.task import Task

Partition = dict[str, Any]


def partition_of(worker: object) -> dict[str, set[Task]]:
    """How each task of a worker ended, by Luigi's rules, less what only its recursion over requirements tells."""
    partition: dict[str, set[Task]] = execution_summary._partition_tasks(worker)
    partition["run_by_other_worker"] = execution_summary._get_run_by_other_worker(worker)
    return partition


def status_of(partition: Partition) -> LuigiStatusCode:
    """Luigi's status code of a run."""
    status: LuigiStatusCode = execution_summary._tasks_status(partition)
    return status


def text_of(partition: Partition, worker: object) -> str:
    """The summary as Luigi prints it."""
    return str(execution_summary._summary_wrap(execution_summary._summary_format(partition, worker)))

"""The observer, which hears what a worker does, and the reporter that tells it of progress."""

from __future__ import annotations

from collections.abc import Callable

from luigi.task import Task
from luigi.worker import TaskStatusReporter

from superluigi.execution.attempt import AttemptResult


class Observer:
    """Is told what happens, on the worker's thread; the base class ignores it all."""

    def scheduled(self, task: Task, status: str) -> None:
        """The scheduler has been told about `task`, for the first time or again."""

    def started(self, task: Task) -> None:
        """An attempt of `task` begins."""

    def ended(self, task: Task, status: str, outcome: AttemptResult) -> None:
        """An attempt has ended."""

    def waits(self, task: Task, told: str) -> None:
        """An attempt waits, since another process makes the same: `told` says where, and since when."""

    def progressed(self, task_id: str, percentage: float | None, message: str | None) -> None:
        """A running task has said how far it is (from whatever thread it runs on)."""


class ObservedReporter(TaskStatusReporter):
    """Luigi's reporter, telling the observer too."""

    def __init__(
        self,
        scheduler: object,
        task_id: str,
        worker_id: str,
        messages: object,
        observer: Observer,
        freed: Callable[[], object],
    ) -> None:
        super().__init__(scheduler, task_id, worker_id, messages)
        self._observer, self._about = observer, task_id
        self._freed = freed

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        super().decrease_running_resources(decrease_resources)
        self._freed()

    def update_status_message(self, message: str) -> None:
        super().update_status_message(message)
        self._observer.progressed(self._about, None, message)

    def update_progress_percentage(self, percentage: float) -> None:
        super().update_progress_percentage(percentage)
        self._observer.progressed(self._about, percentage, None)

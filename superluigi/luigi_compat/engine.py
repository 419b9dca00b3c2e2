"""Luigi's worker, scheduler and state, with public names for what they keep to themselves.

Ours derive from these and use no private name, but for the methods of Luigi's that they replace. Why each is needed
stands in `names`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luigi.metrics import NoMetricsCollector
from luigi.scheduler import Scheduler as LuigiScheduler
from luigi.scheduler import SimpleTaskState
from luigi.task import Task
from luigi.worker import SchedulerMessage
from luigi.worker import Worker as LuigiWorker

from superluigi.luigi_compat.names import public


class WorkerBase(LuigiWorker):
    """Luigi's worker. Replaced by ours: `_add_task`, `_get_work`, `_handle_next_task`, `_run_task`."""

    settings: Any = public("_config")
    worker_id: str = public("_id")
    scheduler: Any = public("_scheduler")
    is_assistant: bool = public("_assistant")
    first_task: str | None = public("_first_task")
    tasks: dict[str, Task] = public("_scheduled_tasks")
    running: dict[str, Any] = public("_running_tasks")
    batches: dict[str, list[Task]] = public("_batch_running_tasks")
    work_history: list[dict[str, object]] = public("_get_work_response_history")
    task_history: list[tuple[Task, str, bool]] = public("_add_task_history")
    idle_since: object = public("_idle_since")
    asks_no_more: bool = public("_stop_requesting_work")
    keep_alive_thread: Any = public("_keep_alive_thread")
    results_of_forks: Any = public("_task_result_queue")
    waits_for_others: Callable[[Any], bool] = public("_keep_alive")
    announce: Callable[[], None] = public("_add_worker")
    announce_batcher: Callable[[Task], None] = public("_add_task_batcher")
    phase_out: Callable[[], None] = public("_start_phasing_out")
    validate: Callable[[Any], None] = public("_validate_task")
    log_unexpected_error: Callable[..., None] = public("_log_unexpected_error")
    mail_complete_error: Callable[..., None] = public("_email_complete_error")
    mail_dependency_error: Callable[..., None] = public("_email_dependency_error")
    mail_unexpected_error: Callable[..., None] = public("_email_unexpected_error")
    mail_task_failure: Callable[..., None] = public("_email_task_failure")


class SchedulerBase(LuigiScheduler):
    """Luigi's scheduler in memory. Replaced by ours: `_reset_orphaned_batch_running_tasks`."""

    settings: Any = public("_config")
    state: object = public("_state")
    mail_batcher: Any = public("_email_batcher")
    pausing: bool = public("_paused")
    history: object = public("_task_history")
    has_resources: Callable[..., bool] = public("_has_resources")
    used_resources: Callable[[], dict[str, int]] = public("_used_resources")
    retry_policy_of: Callable[[Any], object] = public("_generate_retry_policy")
    send_mails_that_are_due: Callable[[], None] = public("_prune_emails")
    note_in_history: Callable[..., None] = public("_update_task_history")
    note_worker: Callable[..., Any] = public("_update_worker")

    def has_metrics(self) -> bool:
        """Whether changes of tasks are counted for monitoring."""
        return not isinstance(self._state._metrics_collector, NoMetricsCollector)

    def replace_state(self, state: SimpleTaskState) -> None:
        """Use `state` from now on; the counts for monitoring go on."""
        state._metrics_collector, self._state = self._state._metrics_collector, state

    def default_retry_policy(self) -> Any:
        """What counts for tasks that say nothing of retries."""
        return self._config._get_retry_policy()


class StateBase(SimpleTaskState):
    """Luigi's tasks and workers in memory. Replaced by ours: `_remove_workers_from_tasks`."""

    tasks: dict[str, Any] = public("_tasks")
    workers: dict[str, object] = public("_active_workers")
    tasks_by_status: Any = public("_status_tasks")


def resource_limits_of(scheduler: object) -> object:
    """How much of each resource a scheduler in this process has, Luigi's own too; None of one elsewhere."""
    return getattr(scheduler, "_resources", None)


def ask_once(scheduler: Any) -> None:
    """Ask luigid, by its `RemoteScheduler`, whether it is there, without the tries and tracebacks for one lost later.

    Raises:
        RPCError: nothing answers there.
        ValueError, LookupError, TypeError: what answers is no luigid.
    """
    before = scheduler._rpc_retry_attempts, scheduler._rpc_log_retries
    scheduler._rpc_retry_attempts, scheduler._rpc_log_retries = 1, False
    try:
        scheduler.is_paused()
    finally:
        scheduler._rpc_retry_attempts, scheduler._rpc_log_retries = before


def id_of(message: SchedulerMessage) -> Any:
    """What an answer to a message names."""
    return message._message_id

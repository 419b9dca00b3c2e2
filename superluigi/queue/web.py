"""Luigi's own web page over a queue: what the page asks of a scheduler, answered from the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from superluigi.errors import QueueTaskMissingError
from superluigi.queue import models
from superluigi.queue.models import TaskRow

if TYPE_CHECKING:
    from superluigi.queue.api import Queue

#: Ours -> Luigi's words for states.
_STATUS = {
    models.WAITING: "PENDING",
    models.PENDING: "PENDING",
    models.BLOCKED: "PENDING",
    models.RUNNING: "RUNNING",
    models.SUCCEEDED: "DONE",
    models.FAILED: "FAILED",
    models.KILLED: "DISABLED",
}
_MAX_TASKS = 10_000


class QueueScheduler:
    """The reading half of Luigi's scheduler protocol (`luigi.scheduler.RPC_METHODS`) over a queue.

    Each answer reads the tables anew. "Re-enable" and "forgive" on the page retry a task; pause and resume work.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def task_list(
        self, status: str = "", upstream_status: str = "", limit: bool = True, search: str | None = None,
        max_shown_tasks: int | None = None, **_: object,
    ) -> dict[str, Any]:  # fmt: skip
        """Tasks of one of Luigi's states; `{"num_tasks": n}` when they are too many to show."""
        found = {}
        rows = self._queue.tasks()
        state_of = {row.id: row.state for row in rows}
        for row in rows:
            if status and _STATUS[row.state] != status:
                continue
            # The page asks for what is pending, and for what is behind a failure, one by one: a task stands once.
            if status == "PENDING" and _upstream_status(row, state_of) != upstream_status:
                continue
            if search and not all(word in row.id or word in row.name for word in search.split()):
                continue
            found[row.id] = _serialized(row)
        shown = max_shown_tasks or _MAX_TASKS
        return {"num_tasks": len(found)} if limit and len(found) > shown else found

    def graph(self, **_: object) -> dict[str, object]:
        """Every task with what it requires."""
        upstream = self._upstream()
        return {row.id: {**_serialized(row), "deps": upstream.get(row.id, [])} for row in self._queue.tasks()}

    def dep_graph(self, task_id: str, include_done: bool = True, **_: object) -> dict[str, object]:
        """The graph above a task: what it requires, and so on."""
        return self._reached(task_id, self._upstream(), include_done)

    def inverse_dep_graph(self, task_id: str, include_done: bool = True, **_: object) -> dict[str, object]:
        """The graph below a task: what requires it, and so on."""
        downstream: dict[str, list[str]] = {}
        for upper, lower in self._queue.edges():
            downstream.setdefault(upper, []).append(lower)
        return self._reached(task_id, downstream, include_done)

    def _upstream(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for upper, lower in self._queue.edges():
            found.setdefault(lower, []).append(upper)
        return found

    def _reached(self, task_id: str, following: dict[str, list[str]], include_done: bool) -> dict[str, object]:
        rows = {row.id: row for row in self._queue.tasks()}
        found: dict[str, object] = {}
        waiting = [task_id]
        while waiting and len(found) < _MAX_TASKS:
            name = waiting.pop(0)
            if name in found or name not in rows:
                continue
            if not include_done and rows[name].state == models.SUCCEEDED and name != task_id:
                continue
            found[name] = {**_serialized(rows[name]), "deps": following.get(name, [])}
            waiting.extend(following.get(name, ()))
        return found

    def fetch_error(self, task_id: str, **_: object) -> dict[str, object]:
        """The error of a task, for the page's dialogue."""
        rows = self._queue.tasks(task_id)
        if not rows:
            return {"taskId": task_id, "error": ""}
        row = rows[0]
        return {
            "taskId": task_id, "error": row.error or "", "displayName": row.id,
            "taskParams": dict(row.params), "taskModule": row.module, "taskFamily": row.name,
        }  # fmt: skip

    def worker_list(self, include_running: bool = True, **_: object) -> list[dict[str, object]]:
        """Workers that are registered, with what they run."""
        running: dict[str, list[TaskRow]] = {}
        for row in self._queue.tasks(state=models.RUNNING):
            running.setdefault(row.worker or "", []).append(row)
        pending = sum(self._queue.activity().pending.values())
        return [
            {
                "name": worker.id, "last_active": worker.seen, "started": worker.started, "state": "active",
                "first_task_display_name": None, "num_pending": pending, "num_uniques": 0,
                "num_running": len(running.get(worker.id, ())), "workers": 1, "pool": worker.pool,
                "running": {row.id: _serialized(row) for row in running.get(worker.id, ())} if include_running else {},
            }
            for worker in self._queue.workers()
        ]  # fmt: skip

    def resource_list(self) -> list[dict[str, object]]:
        """Pools, which limit what runs, shown as resources."""
        running = self._queue.tasks(state=models.RUNNING)
        found = []
        for name, pool in self._queue.pools.items():
            inside = {row.id: _serialized(row) for row in running if row.pool == name}
            found.append({
                "name": f"pool {name}", "num_total": pool.max_workers or 0, "num_used": len(inside),
                "num_consumer": len(inside), "running": inside,
            })  # fmt: skip
        return found

    def task_search(self, task_str: str, **_: object) -> dict[str, object]:
        """Tasks whose id holds the text, by Luigi's state."""
        found: dict[str, Any] = {}
        for row in self._queue.tasks():
            if task_str in row.id:
                found.setdefault(_STATUS[row.state], {})[row.id] = _serialized(row)
        return found

    def re_enable_task(self, task_id: str) -> dict[str, object]:
        """Give a failed or killed task a fresh start; nothing to one that was forgotten since the page was loaded."""
        try:
            self._queue.retry(task_id)
            return next((_serialized(row) for row in self._queue.tasks(task_id)), {})
        except QueueTaskMissingError:
            return {}

    def forgive_failures(self, task_id: str | None = None) -> dict[str, object]:
        """The same, by the page's other button."""
        if task_id is not None:
            self.re_enable_task(task_id)
        return {"task_id": task_id, "status": "PENDING"}

    def is_pause_enabled(self) -> dict[str, bool]:
        return {"enabled": True}

    def is_paused(self) -> dict[str, bool]:
        return {"paused": self._queue.paused}

    def pause(self) -> None:
        self._queue.pause()

    def unpause(self) -> None:
        self._queue.resume()

    def has_task_history(self) -> bool:
        return False

    def get_task_status_message(self, task_id: str) -> dict[str, object]:
        return {"taskId": task_id, "statusMessage": self._told(task_id, "status_message")}

    def get_task_progress_percentage(self, task_id: str) -> dict[str, object]:
        return {"taskId": task_id, "progressPercentage": self._told(task_id, "progress")}

    def _told(self, task_id: str, what: str) -> object:
        return next((getattr(row, what) for row in self._queue.tasks(task_id)), None)


def _upstream_status(row: TaskRow, state_of: Mapping[str, str]) -> str:
    """Luigi's word for what a waiting task is behind; empty for nothing that has failed."""
    if row.blocked_by is None:
        return ""
    return "UPSTREAM_DISABLED" if state_of.get(row.blocked_by) == models.KILLED else "UPSTREAM_FAILED"


def _serialized(row: TaskRow) -> dict[str, object]:
    started = row.started.timestamp() if row.started else None
    ended = row.ended.timestamp() if row.ended else None
    said = f"blocked by {row.blocked_by}" if row.blocked_by else row.status_message
    submitted = _submitted(row.run)
    return {
        "display_name": row.id, "status": _STATUS[row.state], "workers": [row.worker] if row.worker else [],
        "worker_running": row.worker if row.state == models.RUNNING else None, "time_running": started,
        "start_time": started or submitted, "last_updated": ended or started or submitted, "params": dict(row.params),
        "name": row.name, "priority": row.priority, "resources": {}, "resources_running": None,
        "tracking_url": row.tracking_url, "status_message": said, "progress_percentage": row.progress,
        "re_enable_able": row.state in (models.FAILED, models.KILLED), "deps": [],
    }  # fmt: skip


def _submitted(run: str) -> float:
    """When a run was submitted, by its id (`scheduling.run.new_run_id`); 0 for ids of other origin."""
    try:
        return datetime.strptime(run.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def serve(queue: Queue, host: str, port: int, ready: Callable[[str], None], hosts: Collection[str] = ()) -> None:
    """Serve the page until Ctrl-C or SIGTERM; `ready` gets its address. Port 0 is any free one.

    Raises:
        OptionError: it cannot listen there.
    """
    from superluigi.engine import visualiser

    asyncio.run(visualiser.serve(QueueScheduler(queue), host, port, ready, hosts))

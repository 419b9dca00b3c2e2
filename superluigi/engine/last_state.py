"""What Luigi's page is told of a run that goes on, and after it has ended.

While a page is open the run hands over its last state when it ends (`status_socket.Watch`); from then on the same
questions are answered from that. A run whose process died cannot: then the answers that the page got last stand.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from superluigi.engine.status_socket import StatusClient
from superluigi.errors import ExecutionError

_Tasks = dict[str, dict[str, Any]]


class RunView:
    """A running process's scheduler as Luigi's page sees it, which keeps its last state when the run has ended."""

    def __init__(self, client: StatusClient, on_end: Callable[[str], None] = lambda words: None) -> None:
        self._client = client
        self._on_end = on_end
        self._about = client.about()
        self._answers: dict[str, object] = {}
        self._last: LastState | None = None
        self._ended: datetime | None = None
        threading.Thread(target=self._watch, name="superluigi-watch", daemon=True).start()

    def superluigi_state(self) -> dict[str, object]:
        """Which run this is and, once it has ended, when and with what counts: what the page shows above all else."""
        ended = self._ended
        counts = self._last.counts() if self._last is not None else {}
        return {
            "run": self._client.run_id, "task": self._about["task"], "ended": ended and ended.isoformat(),
            "known": ended is None or self._last is not None, "counts": counts,
        }  # fmt: skip

    def __getattr__(self, method: str) -> Any:
        live = getattr(self._client, method)
        return lambda **arguments: self._answer(method, live, arguments)

    def _answer(self, method: str, live: Callable[..., object], arguments: Mapping[str, object]) -> object:
        key = json.dumps([method, arguments], sort_keys=True)
        if self._ended is None:
            with contextlib.suppress(ExecutionError):
                self._answers[key] = live(**arguments)
                return self._answers[key]
        if self._last is not None and hasattr(self._last, method):
            return getattr(self._last, method)(**arguments)
        if key in self._answers:
            return self._answers[key]
        raise ExecutionError(f"The run {self._client.run_id} has ended.")

    def _watch(self) -> None:
        text = self._client.watch()
        with contextlib.suppress(ValueError, KeyError):
            self._last = LastState(json.loads(text)["result"])
        self._ended = datetime.now(timezone.utc)
        self._on_end("has ended" if self._last is not None else "ended without saying how: its process is gone")


class LastState:
    """The reading half of Luigi's scheduler protocol over the state that a run had at its end."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._lists: dict[str, _Tasks] = state["lists"]
        self._graph: _Tasks = state["graph"]
        self._errors: dict[str, object] = state["errors"]
        self._workers: list[object] = state["workers"]
        self._resources: list[object] = state["resources"]

    def counts(self) -> dict[str, int]:
        """How many tasks are in which of Luigi's states, those that are in any."""
        found: dict[str, int] = {}
        for task in self._graph.values():
            found[task["status"]] = found.get(task["status"], 0) + 1
        return found

    def task_list(self, status: str = "", upstream_status: str = "", search: str | None = None, **_: object) -> _Tasks:
        """Tasks of one state."""
        found = self._lists.get(f"{status} {upstream_status}", {}) if status else self._graph
        words = (search or "").split()
        return {name: task for name, task in found.items() if all(word in name for word in words)}

    def graph(self, **_: object) -> _Tasks:
        """Every task with what it requires."""
        return self._graph

    def dep_graph(self, task_id: str, include_done: bool = True, **_: object) -> _Tasks:
        """A task and what it requires, and so on."""
        return self._reached(task_id, {name: task.get("deps", ()) for name, task in self._graph.items()}, include_done)

    def inverse_dep_graph(self, task_id: str, include_done: bool = True, **_: object) -> _Tasks:
        """A task and what requires it, and so on."""
        below: dict[str, list[str]] = {}
        for name, task in self._graph.items():
            for upper in task.get("deps", ()):
                below.setdefault(upper, []).append(name)
        return self._reached(task_id, below, include_done)

    def _reached(self, task_id: str, following: Mapping[str, Iterable[str]], include_done: bool) -> _Tasks:
        found: _Tasks = {}
        waiting = [task_id]
        while waiting:
            name = waiting.pop()
            task = self._graph.get(name)
            if name in found or task is None or (task["status"] == "DONE" and not include_done and name != task_id):
                continue
            deps = list(following.get(name, ()))
            found[name] = {**task, "deps": deps}
            waiting += deps
        return found

    def fetch_error(self, task_id: str, **_: object) -> object:
        """The error of a task."""
        return self._errors.get(task_id, {"taskId": task_id, "error": ""})

    def worker_list(self, **_: object) -> list[object]:
        """The workers as they were."""
        return self._workers

    def resource_list(self, **_: object) -> list[object]:
        """The resources as they were."""
        return self._resources

    def task_search(self, task_str: str, **_: object) -> dict[str, _Tasks]:
        """Tasks whose id holds the text, by state."""
        found: dict[str, _Tasks] = {}
        for name, task in self._graph.items():
            if task_str in name:
                found.setdefault(task["status"], {})[name] = task
        return found

    def is_paused(self, **_: object) -> dict[str, bool]:
        """Nothing is paused that has ended."""
        return {"paused": False}

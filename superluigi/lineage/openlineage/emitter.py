"""Send OpenLineage events of a run while it goes on, when `OPENLINEAGE_URL` asks for it.

As the ecosystem has it: `OPENLINEAGE_URL` (`http(s)://host`, `file:///path` or a path), `OPENLINEAGE_ENDPOINT`
(default `api/v1/lineage`), `OPENLINEAGE_API_KEY`, `OPENLINEAGE_NAMESPACE`, `OPENLINEAGE_DISABLED`. A file gets
one JSON document per line. What cannot be delivered is logged once; it never fails or slows down a run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import luigi
from luigi.event import Event

from superluigi import graph
from superluigi.errors import message_of, traceback_of
from superluigi.jsonable import document
from superluigi.lineage.code_fingerprint.code import code_identity
from superluigi.lineage.openlineage import events
from superluigi.lineage.records.builder import iso, utc_now
from superluigi.lineage.staleness.facts import public_params
from superluigi.runs import context as runs
from superluigi.storage.base import Record

_log = logging.getLogger(__name__)
_HTTP_TIMEOUT_S = 5.0
#: How long the end of a run waits for events that are still under way.
_FLUSH_S = 10.0


@contextlib.contextmanager
def openlineage_emitter(run: runs.RunContext) -> Iterator[None]:
    """While the block runs, events of tasks of this process become OpenLineage events of `run`, if asked for."""
    send = _sender()
    if send is None:
        yield
        return
    emitter = _Emitter(run, send)
    handlers = {
        Event.START: emitter.on_start,
        Event.SUCCESS: emitter.on_success,
        Event.FAILURE: emitter.on_failure,
        Event.PROCESS_FAILURE: emitter.on_lost,
        Event.TIMEOUT: emitter.on_lost,
    }
    for event, handler in handlers.items():
        luigi.Task.event_handler(event)(handler)
    try:
        yield
    finally:
        for event, handler in handlers.items():
            luigi.Task.remove_event_handler(event, handler)
        emitter.close()


Send = Callable[[str], None]


def _sender() -> Send | None:
    url = os.environ.get("OPENLINEAGE_URL", "")
    if not url or os.environ.get("OPENLINEAGE_DISABLED", "").lower() in ("1", "true"):
        return None
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        endpoint = os.environ.get("OPENLINEAGE_ENDPOINT") or "api/v1/lineage"
        return _http(f"{url.rstrip('/')}/{endpoint.lstrip('/')}", os.environ.get("OPENLINEAGE_API_KEY"))
    return _file(Path(unquote(parts.path) if parts.scheme == "file" else url))


def _file(path: Path) -> Send:
    def append(text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:  # one write: lines of several processes do not mix
            file.write(text + "\n")

    return append


def _http(url: str, key: str | None) -> Send:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def post(text: str) -> None:
        request = urllib.request.Request(url, text.encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S) as answer:
            answer.read()

    return post


class _Emitter:
    """Makes events in the worker's thread and delivers them, in order, in one of its own."""

    def __init__(self, run: runs.RunContext, send: Send) -> None:
        self.run = run
        self._send = send
        self._waiting: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
        self._attempts: dict[str, int] = {}
        #: Ids of tasks whose START was told and whose end was not.
        self._begun: set[str] = set()
        self._complained = False
        self._thread = threading.Thread(target=self._deliver, name="superluigi-openlineage", daemon=True)
        self._thread.start()

    def on_start(self, task: luigi.Task) -> None:
        self._attempts[task.task_id] = self._attempts.get(task.task_id, 0) + 1
        self._begun.add(task.task_id)
        self._put(lambda: [events.started(self._draft(task))])

    def _ends(self, task: luigi.Task) -> None:
        """Every end has a beginning: a process that died took the news of its START with it."""
        if task.task_id not in self._begun:
            self.on_start(task)
        self._begun.discard(task.task_id)

    def on_success(self, task: luigi.Task) -> None:
        self._ends(task)
        self._put(lambda: self._all_of(*self._published(task)))

    def on_failure(self, task: luigi.Task, error: BaseException) -> None:
        self._ends(task)
        trace = traceback_of(error)
        message = f"{type(error).__name__}: {message_of(error)}"
        self._put(lambda: [events.failed(self._draft(task), iso(utc_now()), message, trace)])

    def on_lost(self, task: luigi.Task, message: str) -> None:
        self._ends(task)
        self._put(lambda: [events.failed(self._draft(task), iso(utc_now()), message)])

    def close(self) -> None:
        """Deliver what is waiting, but do not wait for ever."""
        self._waiting.put(None)
        self._thread.join(_FLUSH_S)
        if self._thread.is_alive():
            self._complain("the endpoint is too slow; the last events of this run are lost")

    @staticmethod
    def _all_of(record: Record, outputs: list[Record]) -> list[dict[str, object]]:
        return [events.completed(record, outputs), *events.checked(record, outputs)]

    def _put(self, make: Callable[[], list[dict[str, object]]]) -> None:
        try:
            for event in make():
                self._waiting.put(event)
        except Exception as error:  # noqa: BLE001 - user code (output, requires) or an odd record: tell, go on
            self._complain(f"an event could not be made ({type(error).__name__}: {error})")

    def _draft(self, task: luigi.Task) -> Record:
        """What is known of an attempt without a record."""
        return {
            "task_family": task.get_task_family(),
            "task_id": task.task_id,
            "params": public_params(task),
            "run": {"id": self.run.id, "attempt": self._attempts.get(task.task_id, 1)},
            "code": code_identity(task),
            "start_time": iso(utc_now()),
            "input": [_reference(target) for target in graph.flatten(task.input())],
        }

    def _published(self, task: luigi.Task) -> tuple[Record, list[Record]]:
        """The record of what was made, and its outputs; a task without records gets one from what is known."""
        targets = graph.flatten(task.output())
        records = [target.read_metadata() if hasattr(target, "read_metadata") else None for target in targets]
        ours = [one if one and (one.get("run") or {}).get("id") == self.run.id else None for one in records]
        outputs = [one["output"] if one else _reference(target) for one, target in zip(ours, targets, strict=True)]
        for record in filter(None, ours):
            attempt = self._attempts.get(task.task_id, 1)
            return {**record, "run": {**record["run"], "attempt": attempt}}, outputs
        return {**self._draft(task), "end_time": iso(utc_now())}, outputs

    def _deliver(self) -> None:
        while (event := self._waiting.get()) is not None:
            text = document(event)
            for pause in (0.0, 0.2, 1.0):
                time.sleep(pause)
                try:
                    self._send(text)
                    break
                except (OSError, ValueError) as error:
                    problem = str(error)
            else:
                self._complain(problem)

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("OpenLineage events of this run are incomplete: %s. Check OPENLINEAGE_URL.", problem)


def _reference(target: object) -> dict[str, object]:
    from superluigi.lineage.staleness.facts import address_of

    return {"type": type(target).__name__, "path": address_of(target)}

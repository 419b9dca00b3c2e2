"""What a task and its scheduler tell each other while the task runs in another process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from luigi.worker import SchedulerMessage

from superluigi import graph
from superluigi.execution.process.parent import parent

#: Sends `(task id, method, arguments)` to the process that runs the graph.
Send = Callable[[Any], None]
#: A scheduler message on its way: id, content, payload.
Told = tuple[str, Any, dict[str, Any]]

#: How often a task that waits for a message looks into the file for it.
POLL_SECONDS = 0.05


class RemoteReporter:
    """The reporter of a task: each report travels as the name of the method and its arguments."""

    def __init__(self, task_id: str, send: Send, messages: object) -> None:
        self._task_id = task_id
        self._send = send
        self.scheduler_messages = messages

    def _report(self, method: str, *args: object) -> None:
        self._send((self._task_id, method, args))

    def update_tracking_url(self, tracking_url: str) -> None:
        self._report("update_tracking_url", tracking_url)

    def update_status_message(self, message: str) -> None:
        self._report("update_status_message", message)

    def update_progress_percentage(self, percentage: float) -> None:
        self._report("update_progress_percentage", percentage)

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        self._report("decrease_running_resources", decrease_resources)

    def report_task_statistics(self, statistics: Mapping[str, object]) -> None:
        self._report("report_task_statistics", statistics)


#: What a task may have done on its behalf from another process: by its reporter, and by its scheduler.
REPORTS = frozenset(name for name in vars(RemoteReporter) if not name.startswith("_"))
RESPOND = "add_scheduler_message_response"


class MessageFile:
    """Messages as lines of a file that the other side reads: works wherever files are shared."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def append(self, value: object) -> None:
        line = json.dumps(value).encode() + b"\n"
        with contextlib.suppress(OSError):  # no shared file system: progress is not worth a failure
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line)  # one write of less than PIPE_BUF: lines do not mix
            finally:
                os.close(descriptor)


class MessageFileReader:
    """The other side of a `MessageFile`: each value once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def new(self) -> Iterator[Any]:
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size == self._read:
                return
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    yield json.loads(line)


def inbox_path(spool: str | Path, task_id: str) -> Path:
    """Where messages for one task lie, for executors that have no way to it but files."""
    return Path(f"{spool}-{graph.digest(task_id)[:16]}")


class Inbox(queue.Queue[Any]):
    """The queue `scheduler_messages` of a task in another process than the worker's."""

    def __init__(self, task_id: str, send: Send, spool: MessageFileReader | None = None) -> None:
        super().__init__()
        self._task_id = task_id
        self._send_back = send
        self._spool = spool

    def add_scheduler_message_response(self, task_id: str, message_id: str, response: object) -> None:
        """Called by a message that the task responds to."""
        self._send_back((task_id, RESPOND, (message_id, response)))

    def take(self, told: Told) -> None:
        message_id, content, payload = told
        self.put(SchedulerMessage(self, self._task_id, message_id, content, **payload))

    def empty(self) -> bool:
        self._look()
        return super().empty()

    def qsize(self) -> int:
        self._look()
        return super().qsize()

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        if self._spool is None:
            return super().get(block, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.empty() and block and (deadline is None or time.monotonic() < deadline):
            time.sleep(POLL_SECONDS)
        return super().get(block=False)

    def _look(self) -> None:
        for told in self._spool.new() if self._spool is not None else ():
            self.take(told)


@contextlib.contextmanager
def messenger(task_id: str, accepts_messages: bool, spool: str | None) -> Iterator[RemoteReporter]:
    """The reporter of a task in this process, over the socket of a worker process or the file `spool`."""
    send = parent.send if spool is None else MessageFile(spool).append
    if not accepts_messages:
        yield RemoteReporter(task_id, send, None)
        return
    if spool is not None:
        yield RemoteReporter(task_id, send, Inbox(task_id, send, MessageFileReader(inbox_path(spool, task_id))))
        return
    inbox = Inbox(task_id, send)
    parent.listen(task_id, inbox.take)
    try:
        yield RemoteReporter(task_id, send, inbox)
    finally:
        parent.listen(task_id, None)

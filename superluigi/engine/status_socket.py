"""A window into the scheduler of a running process: a socket that `superluigi ui` looks through.

One UNIX socket for each run, in a folder that only its owner can enter; opened when a run lasts longer
than a moment. Protocol: one JSON line `{"method", "arguments"}` in, one JSON line `{"result"}` or
`{"error"}` out, then the connection closes. Only what Luigi's page asks is answered: tasks can neither be handed
in nor taken out through the window. Two methods are ours: `about` names the run's task, and `watch` is
answered when the run ends, with its last state.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi.errors import ExecutionError
from superluigi.runs import logs

#: A run that ends sooner is not worth a socket.
OPENS_AFTER_SECONDS = 0.5
ANSWER_SECONDS = 30.0
_LONGEST_REQUEST = 1 << 20

#: What Luigi's page may ask.
ALLOWED = frozenset(
    {
        "dep_graph",
        "disable_worker",
        "fetch_error",
        "forgive_failures",
        "get_running_task_resources",
        "get_scheduler_message_response",
        "get_task_progress_percentage",
        "get_task_status_message",
        "graph",
        "has_task_history",
        "inverse_dep_graph",
        "is_pause_enabled",
        "is_paused",
        "mark_as_done",
        "pause",
        "re_enable_task",
        "resource_list",
        "send_scheduler_message",
        "set_worker_processes",
        "task_list",
        "task_search",
        "unpause",
        "update_resource",
        "update_resources",
        "worker_list",
    }
)


ABOUT, WATCH = "about", "watch"
#: What Luigi's page asks for: states, each with the state of what is above.
_LISTS = (
    ("FAILED", ""), ("DONE", ""), ("RUNNING", ""), ("BATCH_RUNNING", ""), ("DISABLED", ""),
    ("PENDING", ""), ("PENDING", "UPSTREAM_FAILED"), ("PENDING", "UPSTREAM_DISABLED"),
)  # fmt: skip


def folder() -> Path:
    """Where the sockets of this user's runs are."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"superluigi-{os.getuid()}"


@contextlib.contextmanager
def opened(scheduler: object, run_id: str, task: str = "") -> Iterator[None]:
    """While this is open, `superluigi ui` can look at `scheduler`, which runs `task` (its text)."""
    window = StatusServer(scheduler, run_id, task)
    timer = threading.Timer(OPENS_AFTER_SECONDS, window.open)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        window.close()


class StatusServer:
    def __init__(self, scheduler: Any, run_id: str, task: str = "") -> None:
        self._scheduler = scheduler
        self._task = task
        self._watching: list[socket.socket] = []
        self._path = folder() / f"{os.getpid()}-{run_id}.sock"
        self._socket: socket.socket | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        try:
            _own(self._path.parent)
            listening = socket.socket(socket.AF_UNIX)
            with self._lock:
                if self._closed:
                    listening.close()
                    return
                listening.bind(os.fspath(self._path))
                listening.listen()
                self._socket = listening
        except OSError as error:  # a path too long, a full disk: a run must not fail for its window
            logs.logger.debug("superluigi ui cannot look at this run: %s", error)
            return
        threading.Thread(target=self._serve, args=(listening,), name="superluigi-window", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._socket is None:
                return
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._socket.close()
        self._path.unlink(missing_ok=True)
        if self._watching:
            self._tell_last_state()
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()  # only the last run finds it empty

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with contextlib.ExitStack() as ending, contextlib.suppress(OSError):
                ending.enter_context(connection)
                connection.settimeout(ANSWER_SECONDS)
                request = _line(connection)
                if self._keeps(request, connection):
                    ending.pop_all()  # answered when the run ends
                else:
                    connection.sendall(self._answer(request))

    def _keeps(self, request: bytes, connection: socket.socket) -> bool:
        """Whether this asks for the last state; then its connection stays open."""
        if json.dumps(WATCH).encode() not in request[:40]:
            return False
        with self._lock:
            if not self._closed:
                self._watching.append(connection)
        return not self._closed

    def _tell_last_state(self) -> None:
        scheduler = self._scheduler
        try:
            graph = scheduler.graph()
            failed = [name for name, task in graph.items() if task["status"] in ("FAILED", "DISABLED")]
            state = {
                "graph": graph,
                "lists": {f"{one} {other}": scheduler.task_list(one, other, limit=False) for one, other in _LISTS},
                "errors": {name: scheduler.fetch_error(name) for name in failed},
                "workers": scheduler.worker_list(),
                "resources": scheduler.resource_list(),
            }
            text = json.dumps({"result": state}, default=str).encode() + b"\n"
        except Exception as error:  # noqa: BLE001 - a run must not fail for its window
            logs.logger.debug("superluigi ui cannot be told how this run ended: %s", error)
            text = b""
        for connection in self._watching:
            with connection, contextlib.suppress(OSError):
                connection.sendall(text)

    def _answer(self, request: bytes) -> bytes:
        try:
            asked = json.loads(request)
            if asked["method"] == ABOUT:
                return json.dumps({"result": {"task": self._task}}).encode() + b"\n"
            if asked["method"] not in ALLOWED:
                raise ValueError(f"{asked['method']} is not answered here")
            result = {"result": getattr(self._scheduler, asked["method"])(**asked["arguments"])}
        except Exception as error:  # noqa: BLE001 - goes back as the answer
            result = {"error": f"{type(error).__name__}: {error}"}
        return json.dumps(result, default=str).encode() + b"\n"


def _own(path: Path) -> None:
    """Make sure that `path` is a folder of ours that no other user can enter.

    Any user can make a folder of this name in a temporary folder; sockets in it would be theirs.

    Raises:
        PermissionError: it is another's, a link, or open to others.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not ours alone: remove it, or set XDG_RUNTIME_DIR to a folder of yours.")


def _line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n") and len(received) < _LONGEST_REQUEST:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return received


@dataclass(frozen=True)
class StatusClient:
    """A running process's scheduler, seen through its window; its methods are the scheduler's."""

    path: Path

    @property
    def pid(self) -> int:
        return int(self.path.name.partition("-")[0])

    @property
    def run_id(self) -> str:
        return self.path.stem.partition("-")[2]

    def __getattr__(self, method: str) -> Any:
        if method not in ALLOWED:
            raise AttributeError(method)
        return lambda **arguments: self.ask(method, arguments)

    def about(self) -> dict[str, object]:
        """`task`: the text of the task that is run, "" where it is not known.

        Raises:
            ExecutionError: the run has ended.
        """
        return {"task": "", **self.ask(ABOUT, {})}

    def watch(self) -> bytes:
        """Wait until the run ends; its last state as JSON, empty if it ended without saying so."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.fspath(self.path))
            connection.sendall(json.dumps({"method": WATCH, "arguments": {}}).encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(1 << 20), b""))
        return b""

    def ask(self, method: str, arguments: Mapping[str, object]) -> Any:
        """What the scheduler answers.

        Raises:
            ExecutionError: the run has ended, or the scheduler refused.
        """
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(os.fspath(self.path))
                connection.sendall(json.dumps({"method": method, "arguments": arguments}).encode() + b"\n")
                answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        except OSError as error:
            raise ExecutionError(f"The run {self.run_id} does not answer any more: {error}.") from error
        parsed = json.loads(answer or b'{"error": "no answer"}')
        if "error" in parsed:
            raise ExecutionError(parsed["error"])
        return parsed["result"]


def active_runs() -> list[StatusClient]:
    """The runs of this user that go on now, oldest first; sockets of dead processes are removed.

    Raises:
        ExecutionError: the folder for sockets is not this user's alone.
    """
    found: list[StatusClient] = []
    if not os.path.lexists(folder()):
        return found
    try:
        _own(folder())
    except OSError as error:
        raise ExecutionError(f"The folder of sockets cannot be used: {error}") from error
    for path in sorted(folder().glob("*.sock"), key=lambda path: path.name.partition("-")[2]):
        view = StatusClient(path)
        try:
            view.ask("is_paused", {})
        except ExecutionError:
            with contextlib.suppress(OSError):
                path.unlink()
        else:
            found.append(view)
    return found

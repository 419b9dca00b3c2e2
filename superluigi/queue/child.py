"""The process that runs attempts: `python -m superluigi.queue.child`, started by a worker.

Protocol: JSON lines. On stdin one request per line, `{"run": …}` once for each run, `{"code": …}` once for
each class that travels by value, `{"task": …}` for an attempt, `{"events": …}` to fire Luigi's events, and to mail, for
an attempt that failed and could not tell so itself. On what was stdout one reply for each of the last two, and before
it `{"kind": "begun"}` where a time limit begins to count, and `{"kind": "told"}` for what the task tells while it runs.
Plain pipes, so that a prefix command (`srun`, `nice`, `docker run -i`) may stand between worker and child.

When stdin ends, the worker is gone or wants no more: the attempt is interrupted, its clean-up runs, and everything
that tasks have started ends. This process is the parent of orphans below it, so that a task cannot leave a process
behind unseen: a reply says so (`"left"`), and the worker puts another child in the place of this one.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TextIO, cast

import luigi
from luigi.event import Event

from superluigi import graph
from superluigi.errors import CommandFailedError, ConfigError, TaskCancelledError
from superluigi.execution import process_state, process_tree, signals
from superluigi.execution.attempt import (
    MISSING_EXTERNAL,
    AttemptResult,
    SilentReporter,
    ends_retries,
    is_external,
    run_attempt,
)
from superluigi.execution.importing import only_importing
from superluigi.parameters.luigi_task import LuigiTask
from superluigi.queue import mails, runs
from superluigi.queue.models import stderr_of
from superluigi.queue.rebuild import found, remake
from superluigi.queue.specs import SpecOptions, can_tell, collect
from superluigi.runs import logs, tracebacks
from superluigi.runs.completeness import is_complete
from superluigi.runs.context import RunContext, entered
from superluigi.storage.local import spare_stages

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
#: Luigi keeps every task instance for ever; after so many attempts they are let go.
_FORGET_AFTER = 1000
#: How long an interrupted attempt may clean up when the worker is gone.
GRACE_SECONDS = 5.0


class Child:
    """What one child process remembers between attempts."""

    def __init__(self, reply_fd: int) -> None:
        self._reply_fd = reply_fd
        self._runs: dict[str, RunContext] = {}
        self._codes: dict[str, bytes] = {}
        self._classes: dict[tuple[str, str, str | None], type[luigi.Task]] = {}
        self._attempts = 0

    def handle(self, request: Mapping[str, Any]) -> None:
        """Carry out one request."""
        if "run" in request:
            self._learn_run(request["run"])
        elif "code" in request:
            self._codes[request["code"]] = base64.b64decode(request["pickle"])
        else:
            reply = self._tell_of_end(request) if "events" in request else self._attempt(request["task"])
            self._say({**reply, "left": _end_what_is_left(), "worn": bool(process_state.lasting)})

    def _say(self, reply: Mapping[str, Any]) -> None:
        line = f"{json.dumps(reply)}\n".encode()
        while line:  # a pipe takes long lines in parts
            line = line[os.write(self._reply_fd, line) :]

    def _task(self, row: Mapping[str, Any]) -> luigi.Task:
        where = row["module"], row["name"], row["code"]
        home: type[luigi.Task] | luigi.Task | None = self._classes.get(where)
        if home is None:
            with only_importing():
                home = found(where[0], where[1], self._codes[where[2]] if where[2] else None)
            if not isinstance(home, luigi.Task):
                self._classes[where] = home
                _remember_parameters(home)
        return remake(home, row["name"], row["id"], json.loads(row["params"]), json.loads(row["tags"] or "{}"))

    def _learn_run(self, text: str) -> None:
        run, surroundings = runs.decode(text)
        self._runs[run.id] = run
        sys.path[:0] = [entry for entry in surroundings.path if entry not in sys.path]

    def _attempt(self, task: Mapping[str, Any]) -> dict[str, Any]:
        self._attempts += 1
        if self._attempts % _FORGET_AFTER == 0:
            from luigi.task_register import Register

            Register.clear_instance_cache()
        with _output_to(task["log"]):
            try:
                return self._carry_out(task)
            except BaseException as error:  # noqa: BLE001 importing the user's module may raise anything
                signals.leave_if_ended(error)
                text = tracebacks.text_of(error)
                sys.stderr.write(text)
                return {"kind": "failed", "error": text, "exit_code": 1}

    def _carry_out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        run = self._runs[row["run"]]
        task = self._task(row)
        if row["timed"]:
            self._say({"kind": "begun"})
        tells = can_tell(task, run.plan.forces(task))
        if tells and not is_external(task):
            with entered(run):
                if is_complete(task, run):
                    return {"kind": "complete"}
        check = [dep for dep in task.deps() if can_tell(dep, run.plan.forces(dep))]
        outcome = run_attempt(
            task, run, check=check, known=frozenset(row["known"]), worker_id=row["worker"],
            check_complete_on_run=tells and not getattr(task, "commits_outputs", False), reporter=_Told(self._say),
        )  # fmt: skip
        return self._report(task, outcome, run, by_value=bool(row["code"]))

    def _report(self, task: Any, outcome: AttemptResult, run: RunContext, *, by_value: bool) -> dict[str, Any]:
        if outcome.status == "DONE":
            return {"kind": "succeeded", "exit_code": 0}
        if outcome.status == "PENDING" and not outcome.requirements:
            return {"kind": "requeued", "error": f"{task} asked for another attempt."}
        if outcome.status == "PENDING":
            roots = list(dict.fromkeys(outcome.requirements))
            graph = collect(roots, run, SpecOptions(by_value=by_value), asking=task)
            return {
                "kind": "waiting",
                "specs": [asdict(spec) for spec in graph.specs],
                "codes": {key: base64.b64encode(value).decode() for key, value in graph.codes.items()},
                "requirements": [root.task_id for root in roots],
            }
        if outcome.error is None and outcome.expl == MISSING_EXTERNAL:
            outputs = ", ".join(map(_name_of, _outputs(task)))
            return {"kind": "missing", "error": f"{task} is not there yet: {outputs}"}
        sys.stderr.write(f"{outcome.traceback or outcome.expl}\n")
        if isinstance(outcome.error, TaskCancelledError):
            return {"kind": "killed", "error": str(outcome.error)}
        words = _words(outcome)
        mails.failed(task, words)
        final = ends_retries(task, outcome.error)
        return {"kind": "failed", "error": words, "exit_code": _exit_code(outcome.error), "final": final}

    def _tell_of_end(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Fire events and mail in the name of an attempt whose process is gone; handlers run here as always."""
        row = request["task"]
        with _output_to(row["log"]):
            try:
                task = self._task(row)
                mails.failed(task, request["said"])
                for event in request["events"]:
                    task.trigger_event(getattr(Event, event), task, request["said"])
            except BaseException as error:  # noqa: BLE001 handlers are the user's; the task's state is decided already
                signals.leave_if_ended(error)
                sys.stderr.write(tracebacks.text_of(error))
        return {"kind": "fired"}


class _Told(SilentReporter):
    """The reporter of a task in a queue: what it tells goes to the worker. No messages come: nobody sends them."""

    def __init__(self, say: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._say = say

    def _tell(self, what: str, value: Any) -> None:
        self._say({"kind": "told", "what": what, "value": value})

    def update_tracking_url(self, tracking_url: str) -> None:
        self._tell("tracking_url", None if tracking_url is None else str(tracking_url))

    def update_status_message(self, message: str) -> None:
        self._tell("status_message", None if message is None else str(message))

    def update_progress_percentage(self, percentage: float) -> None:
        self._tell("progress", None if percentage is None else float(percentage))

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        self._tell("less", {str(name): float(amount) for name, amount in decrease_resources.items()})


def _end_what_is_left() -> list[str]:
    """End what the attempt has left running; the names of these programs."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # the usual case, at the price of one system call
        return []
    except (AttributeError, OSError):
        pass
    kept = _own_services()
    found = [
        pid
        for pid in process_tree.descendants(os.getpid())
        if pid not in kept and not process_tree.has_mark(pid, process_tree.STAYS)
    ]
    left = [name for pid in found if (name := _program(pid))]
    process_tree.kill_all(found)
    for pid in found:
        with contextlib.suppress(ChildProcessError):  # deeper down, or ours no more
            os.waitpid(pid, 0)
    return left


def _program(pid: int) -> str:
    """What runs as `pid`; empty for one that has ended and only waits for its parent."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _own_services() -> set[int]:
    """Processes that serve this one for as long as it lives, whoever was the first to need them."""
    found = set()
    for module, path in (
        ("multiprocessing.resource_tracker", "_resource_tracker._pid"),
        ("multiprocessing.forkserver", "_forkserver._forkserver_pid"),
        ("luigi.mock", "MockFileSystem._data._manager._process.pid"),
    ):
        value: Any = sys.modules.get(module)
        for name in path.split("."):
            value = getattr(value, name, None)
        if isinstance(value, int):
            found.add(value)
    return found


def _remember_parameters(cls: type[luigi.Task]) -> None:
    """Let a plain Luigi class, in this process, walk `dir(cls)` for its parameters once; else it is five times a task.

    Ours remember them anyway; a class with a `get_params` of its own is left alone.
    """
    luigis: Callable[[type[luigi.Task]], list[tuple[str, luigi.Parameter]]] = vars(LuigiTask)["get_params"].__func__
    if getattr(cls.get_params, "__func__", None) is not luigis:
        return
    known = tuple(cls.get_params())

    def get_params(asked: type[luigi.Task]) -> list[tuple[str, luigi.Parameter]]:
        return list(known) if asked is cls else luigis(asked)

    cast(Any, cls).get_params = classmethod(get_params)


def _outputs(task: Any) -> list[Any]:
    return graph.flatten(task.output())


def _name_of(target: Any) -> str:
    return str(getattr(target, "path", target))


def _words(outcome: AttemptResult) -> str:
    """The traceback, with what the task's own `on_failure` made of it when that is something else."""
    text = outcome.traceback.strip()
    if isinstance(outcome.expl, str) and outcome.expl.strip() and "Traceback" not in outcome.expl:
        text = f"{text}\n\n{outcome.expl}".strip()
    return text or str(outcome.error or outcome.expl)


def _exit_code(error: BaseException | None) -> int:
    """What a command ended with, or `sys.exit(code)`; 1 for every other error."""
    code = getattr(error, "exit_code", None) if isinstance(error, CommandFailedError) else getattr(error, "code", None)
    return code if isinstance(code, int) and not isinstance(code, bool) else 1


@contextlib.contextmanager
def _output_to(log: str) -> Iterator[None]:
    """Send what this process and its children print to the file `log` and the one for stderr beside it."""
    _flush()
    for fd, name in ((1, log), (2, stderr_of(log))):
        file = _appended(name)
        os.dup2(file, fd)
        os.close(file)
    try:
        yield
    finally:
        _flush()


def _appended(name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND  # append: an event may be fired after its attempt
    try:
        return os.open(name, flags, 0o644)
    except FileNotFoundError:  # the first attempt at a task of this family
        os.makedirs(os.path.dirname(name), exist_ok=True)
        return os.open(name, flags, 0o644)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if _c_flush is not None:
        _c_flush(None)


def _find_c_flush() -> Any:
    """`fflush` of the C library, since what C libraries print has a buffer of its own; None where there is none."""
    try:
        return ctypes.CDLL(None).fflush
    except (OSError, AttributeError):
        return None


_c_flush = _find_c_flush()


def _read(stream: TextIO, requests: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        requests.put(line)
    requests.put(None)
    if _busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)  # our own group: the worker started us as its leader


_busy = threading.Event()


def _prefer_as_victim() -> None:
    """When memory runs out the kernel shall end this process, not the worker, who then tells what happened."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def main() -> int:
    """Serve requests until stdin ends."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals.end_by(signal.SIGTERM)
    signals.take(signal.SIGINT, signals.nothing)  # Ctrl-C is for the worker, which decides
    _prefer_as_victim()
    # The protocol moves to descriptors of its own: tasks find an empty stdin and cannot print into it.
    reply_fd, stream = os.dup(1), os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    child = Child(reply_fd)
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(stream, requests), daemon=True).start()
    logging_as_told = contextlib.ExitStack()
    with contextlib.suppress(ConfigError):
        logging_as_told.enter_context(logs.as_told())
    try:
        while (line := requests.get()) is not None:
            _busy.set()
            child.handle(json.loads(line))
            _busy.clear()
    except (KeyboardInterrupt, BrokenPipeError):
        return 128 + signal.SIGTERM
    finally:
        signals.take(signal.SIGTERM, signals.nothing)  # it ends already
        mails.send_batch()
    return 0


if __name__ == "__main__":
    code = main()
    _flush()
    process_tree.kill_all(
        pid for pid in process_tree.descendants(os.getpid()) if not process_tree.has_mark(pid, process_tree.STAYS)
    )
    spare_stages.remove()
    os._exit(code)  # threads that tasks left behind must not keep the process

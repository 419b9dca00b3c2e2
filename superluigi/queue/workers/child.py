"""What a worker process does for a queue: `prepare`, then `attempt`s; `tell_of_end` for one that could not itself.

It is the parent of orphans below it, so that a task cannot leave a process behind unseen: the answer says so
(`Answer.left`), and the worker puts another child in the place of this one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import luigi
from luigi.event import Event

from superluigi import graph
from superluigi.errors import USERS_CODE, CommandFailedError, ConfigError, TaskCancelledError
from superluigi.execution import mocks
from superluigi.execution.addresses import refuse_other
from superluigi.execution.attempt import MISSING_EXTERNAL, AttemptResult, SilentReporter, ends_retries, run_attempt
from superluigi.execution.importing import only_importing
from superluigi.execution.process import process_tree, signals
from superluigi.execution.process.parent import parent
from superluigi.execution.process.streams import c_library, flush
from superluigi.parameters.luigi_task import LuigiTask
from superluigi.queue import mails, runs
from superluigi.queue.models import Answer, AttemptOrder, Result, stderr_of
from superluigi.queue.rebuild import found, remake
from superluigi.queue.specs import SpecOptions, can_tell, collect
from superluigi.queue.workers.child_process import BEGUN
from superluigi.runs import logs, tracebacks
from superluigi.runs.completeness import is_complete
from superluigi.runs.context import RunContext, entered

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
#: Luigi keeps every task instance for ever; after so many attempts they are let go.
_FORGET_AFTER = 1000
#: Logging as the user's configuration says, for as long as this process lives.
_logging = contextlib.ExitStack()


def prepare() -> None:
    """Make this process fit for attempts."""
    library = c_library()
    if sys.platform == "linux" and library is not None:
        library.prctl(PR_SET_CHILD_SUBREAPER, 1)
    # when memory runs out the kernel shall end this process, not the worker, who then tells what happened
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    parent.at_exit(mails.send_batch)
    parent.at_exit(_end_all_below)
    with contextlib.suppress(ConfigError):
        _logging.enter_context(logs.as_told())


def attempt(order: AttemptOrder) -> Answer:
    """Make one attempt at a task."""
    answer = Answer(_child.attempt(order), tuple(_end_what_is_left()))
    if answer.result.kind == "missing":  # and will be so again and again
        for log in (order.log, stderr_of(order.log)):
            with contextlib.suppress(OSError):
                if not os.path.getsize(log):
                    os.unlink(log)
    return answer


def tell_of_end(order: AttemptOrder, events: Sequence[str], said: str) -> Answer:
    """Fire events and mail in the name of an attempt whose process is gone; handlers run here as always."""
    _child.tell_of_end(order, events, said)
    return Answer(Result("fired"), tuple(_end_what_is_left()))


class _Child:
    """What this process remembers between attempts."""

    def __init__(self) -> None:
        self._runs: dict[str, RunContext] = {}
        self._codes: dict[str, bytes] = {}
        self._classes: dict[tuple[str, str, str | None], type[luigi.Task]] = {}
        #: By run and class: what is still to be compared.
        self._samples: dict[tuple[str, tuple[str, str, str | None]], runs.Sample] = {}
        self._attempts = 0

    def _learn(self, order: AttemptOrder) -> None:
        if order.code is not None and order.pickle is not None:
            self._codes[order.code] = order.pickle
        if order.definition is not None:
            run, surroundings, samples = runs.decode(order.definition)
            self._runs[run.id] = run
            self._samples.update({(run.id, sample.where): sample for sample in samples})
            mocks.import_files(mocks.ExportedMocks(None, surroundings.execution))
            sys.path[:0] = [entry for entry in surroundings.path if entry not in sys.path]

    def _task(self, order: AttemptOrder) -> luigi.Task:
        where = order.module, order.name, order.code
        home: type[luigi.Task] | luigi.Task | None = self._classes.get(where)
        if home is None:
            with only_importing():
                home = found(order.module, order.name, None if order.code is None else self._codes[order.code])
            if not isinstance(home, luigi.Task):
                self._classes[where] = home
                _remember_parameters(home)
        return remake(home, order.name, order.task_id, json.loads(order.params), json.loads(order.tags or "{}"))

    def _refuse_elsewhere(self, order: AttemptOrder, run: RunContext) -> None:
        """Refuse the tasks of a class whose outputs are elsewhere in this process than where they were submitted."""
        where = order.module, order.name, order.code
        sample = self._samples.get((order.run, where))
        if sample is not None and where in self._classes:
            task = remake(self._classes[where], order.name, sample.task_id, json.loads(sample.params), None)
            with entered(run):
                refuse_other(task, sample.addresses)
            del self._samples[order.run, where]

    def attempt(self, order: AttemptOrder) -> Result:
        """Make it, and say what came of it."""
        self._attempts += 1
        if self._attempts % _FORGET_AFTER == 0:
            from luigi.task_register import Register

            Register.clear_instance_cache()
        with _output_to(order.log):
            try:
                return self._carry_out(order)
            except BaseException as error:  # noqa: BLE001 importing the user's module may raise anything
                signals.leave_if_ended(error)
                text = tracebacks.text_of(error)
                sys.stderr.write(text)
                return Result("failed", text, 1)

    def _carry_out(self, order: AttemptOrder) -> Result:
        self._learn(order)
        run = self._runs[order.run]
        task = self._task(order)
        self._refuse_elsewhere(order, run)
        if order.timed:
            parent.send((BEGUN, None))
        tells = can_tell(task, run)
        if tells and not graph.is_external(task):
            with entered(run):
                if is_complete(task, run):
                    return Result("complete", exit_code=0)
        if getattr(task, "disabled", False):  # a run without a queue does not begin it either
            return Result("failed", f"{task} is disabled: its attribute `disabled` is true.", 1, final=True)
        outcome = run_attempt(
            task, run, check=_to_check(task, run), known=order.known, worker_id=order.worker,
            check_complete_on_run=tells and not graph.written(task, "commits_outputs"), reporter=_Told(),
        )  # fmt: skip
        if outcome.error is not None:
            tracebacks.let_go(outcome.error)
        return self._report(task, outcome, run, by_value=order.code is not None)

    def _report(self, task: luigi.Task, outcome: AttemptResult, run: RunContext, *, by_value: bool) -> Result:
        if outcome.status == "DONE":
            return Result("succeeded", exit_code=0)
        if outcome.status == "PENDING" and not outcome.requirements:
            return Result("requeued", f"{task} asked for another attempt.")
        if outcome.status == "PENDING":
            roots = graph.unique(outcome.requirements)
            below = collect(roots, run, SpecOptions(by_value=by_value), asking=task)
            ids = [root.task_id for root in roots]
            return Result("waiting", specs=below.specs, codes=below.codes, requirements=ids)
        if outcome.error is None and outcome.expl == MISSING_EXTERNAL:
            outputs = ", ".join(graph.path_text(target) for target in graph.flatten(task.output()))
            return Result("missing", f"{task} is not there yet: {outputs}")
        sys.stderr.write(f"{outcome.traceback or outcome.expl}\n")
        if isinstance(outcome.error, TaskCancelledError):
            return Result("killed", str(outcome.error))
        words = _words(outcome)
        mails.failed(task, words)
        return Result("failed", words, _exit_code(outcome.error), final=ends_retries(task, outcome.error))

    def tell_of_end(self, order: AttemptOrder, events: Sequence[str], said: str) -> None:
        """Fire events and mail; the task's state is decided already."""
        with _output_to(order.log):
            try:
                self._learn(order)
                task = self._task(order)
                mails.failed(task, said)
                for event in events:
                    task.trigger_event(getattr(Event, event), task, said)
            except BaseException as error:  # noqa: BLE001 handlers are the user's
                signals.leave_if_ended(error)
                sys.stderr.write(tracebacks.text_of(error))


_child = _Child()


def _to_check(task: luigi.Task, run: RunContext) -> Iterator[luigi.Task]:
    """What the attempt asks first whether it is complete; what is raised here is raised in it."""
    yield from (required for required in task.deps() if can_tell(required, run))


class _Told(SilentReporter):
    """The reporter of a task in a queue: what it tells goes to the worker. No messages come: none are sent."""

    def update_tracking_url(self, tracking_url: str) -> None:
        parent.send(("tracking_url", None if tracking_url is None else str(tracking_url)))

    def update_status_message(self, message: str) -> None:
        parent.send(("status_message", None if message is None else str(message)))

    def update_progress_percentage(self, percentage: float) -> None:
        parent.send(("progress", _number(percentage)))

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        less = {str(name): _number(amount) or 0.0 for name, amount in decrease_resources.items()}
        parent.send(("less", less))


def _number(told: object) -> float | None:
    """A number that a task tells; what is none says nothing, as to Luigi's scheduler, and fails no task."""
    number = math.nan
    with USERS_CODE:
        number = float(cast(Any, told))
    return number if math.isfinite(number) else None


def _end_all_below() -> None:
    below = process_tree.descendants(os.getpid())
    process_tree.kill_all(pid for pid in below if not process_tree.stays(pid))


def _end_what_is_left() -> list[str]:
    """End what the attempt has left running; the names of these programs."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # the usual case, at the price of one system call
        return []
    except (AttributeError, OSError):
        pass
    kept = _own_services()
    found = [pid for pid in process_tree.descendants(os.getpid()) if pid not in kept and not process_tree.stays(pid)]
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
    """Processes that serve this one for as long as it lives, whichever task was the first to need them."""
    found = set()
    for module, path in (
        ("multiprocessing.resource_tracker", "_resource_tracker._pid"),
        ("multiprocessing.forkserver", "_forkserver._forkserver_pid"),
        ("luigi.mock", "MockFileSystem._data._manager._process.pid"),
    ):
        value: object = sys.modules.get(module)
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
    flush()
    for fd, name in ((1, log), (2, stderr_of(log))):
        file = _appended(name)
        os.dup2(file, fd)
        os.close(file)
    try:
        yield
    finally:
        flush()


def _appended(name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND  # append: an event may be fired after its attempt
    try:
        return os.open(name, flags, 0o644)
    except FileNotFoundError:  # the first attempt at a task of this family
        os.makedirs(os.path.dirname(name), exist_ok=True)
        return os.open(name, flags, 0o644)

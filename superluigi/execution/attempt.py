"""One attempt of one task, and what came of it as a value that can travel between processes."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import socket
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol

from luigi.event import Event
from luigi.task import Task
from luigi.task_status import DONE, FAILED, PENDING

from superluigi import graph
from superluigi.errors import (
    USERS_CODE,
    CheckFailedError,
    ExecutionError,
    GracefulTimeout,
    OutputNotWrittenError,
    RemoteError,
    message_of,
    tellable,
)
from superluigi.execution import main_names
from superluigi.execution.addresses import Addresses, refuse_other
from superluigi.execution.itself import Itself
from superluigi.execution.messages import RemoteReporter
from superluigi.execution.process import signals
from superluigi.execution.process.process_state import isolated
from superluigi.execution.yielded import exhaust
from superluigi.runs import logs, tracebacks
from superluigi.runs.completeness import is_complete, is_plain_wrapper
from superluigi.runs.context import RunContext, entered
from superluigi.storage.base import Holder, Location

MISSING_EXTERNAL = "Task is an external data dependency and data does not exist (yet?)."


class TaskReporter(Protocol):
    """What a task may tell while it runs; Luigi's `TaskStatusReporter` is one."""

    scheduler_messages: Any

    def update_tracking_url(self, tracking_url: str) -> None: ...
    def update_status_message(self, message: str) -> None: ...
    def update_progress_percentage(self, percentage: float) -> None: ...
    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None: ...
    def report_task_statistics(self, statistics: dict[str, Any]) -> None: ...


#: The reporter's methods, and the names under which Luigi lends them to a task while it runs.
REPORTER_METHODS = {
    "update_tracking_url": "set_tracking_url",
    "update_status_message": "set_status_message",
    "update_progress_percentage": "set_progress_percentage",
    "decrease_running_resources": "decrease_running_resources",
    "scheduler_messages": "scheduler_messages",
}


class _LeftBehind:
    """What a task has only while it runs: its copy has the same, and where it is pickled in `run` there is None."""

    def __deepcopy__(self, memo: object) -> Any:
        return self

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return type(None), ()


class _NoMessages(_LeftBehind, queue.Queue[Any]):
    """The messages of a task that nothing is told."""


class SilentReporter(RemoteReporter):
    """The reporter of a task that runs whose progress is not asked for: what it tells is dropped, no message comes."""

    def __init__(self) -> None:
        self.scheduler_messages = _NoMessages()

    def _report(self, method: str, *args: object) -> None:
        pass


class _WhileItRuns(_LeftBehind):
    """A method of the reporter, as a task has it."""

    def __init__(self, method: Callable[..., object]) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self._method(*args, **kwargs)


def _unheard(*args: object) -> None:
    del args


def _nobody_hears() -> Callable[..., None]:
    return _unheard


class _Kept(_WhileItRuns):  # `trigger_event` of a task whose events are kept; what is pickled fires nothing
    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return _nobody_hears, ()


class reporter_attached:  # noqa: N801 - used like a function, around every attempt
    """Give `task` the reporter methods that it may call while it runs, as Luigi does; always there, heard or not."""

    def __init__(self, task: Task, reporter: TaskReporter | None = None) -> None:
        self._task, self._reporter = task, reporter

    def __enter__(self) -> None:
        listener = SilentReporter() if self._reporter is None else self._reporter
        for theirs, name in REPORTER_METHODS.items():
            given = getattr(listener, theirs)
            setattr(self._task, name, _WhileItRuns(given) if callable(given) else given)

    def __exit__(self, *exc_info: object) -> None:
        for name in REPORTER_METHODS.values():
            setattr(self._task, name, None)


@dataclass(frozen=True)
class AttemptResult:
    """What came of one attempt. Every field pickles once `picklable()` has been called."""

    task_id: str
    #: Luigi's word: DONE, FAILED, or PENDING when `requirements` must be made first.
    status: str
    #: What `on_success` or `on_failure` returned.
    expl: object = None
    error: BaseException | None = None
    #: The formatted traceback of `error`, "" without one.
    traceback: str = ""
    #: Ids of static requirements that were not complete when the task should have started.
    missing: tuple[str, ...] = ()
    #: Requirements that `run` asked for by `yield` and that are not complete.
    requirements: tuple[Task, ...] = ()
    #: No task has raised `error`: the executor is gone, or cannot be had, and nothing more can run on it.
    executor_lost: bool = False
    #: Nothing was done: the run refreshes what is stale, and this task is not after all.
    skipped: bool = False
    #: PENDING because the task asked for another attempt (GracefulTimeout).
    again: bool = False
    #: PENDING because another process makes the same just now.
    elsewhere: Holder | None = None
    #: Ids of requirements that were checked here and found complete.
    confirmed: tuple[str, ...] = ()
    #: Events to be fired again where their handlers are, in order: (event, arguments).
    events: tuple[tuple[str, tuple[object, ...]], ...] = ()
    #: The last log lines of the attempt.
    log: tuple[str, ...] = ()
    #: Seconds since the epoch.
    started: float = 0.0
    #: Seconds.
    duration: float = 0.0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def picklable(self) -> AttemptResult:
        """The same, with everything that cannot be pickled replaced by a faithful stand-in."""
        if self.error is not None:
            tracebacks.let_go(self.error)
        return replace(
            self,
            error=None if self.error is None else portable_error(self.error, self.traceback),
            expl=self.expl if _travels(self.expl) else shown(self.expl),
            events=tuple((event, args) for event, args in self.events if _travels(args)),
        )


def run_attempt(
    task: Task,
    run: RunContext,
    *,
    check: Iterable[Task] | None = None,
    expected: Addresses | None = None,
    known: Container[str] = (),
    reporter: TaskReporter | None = None,
    worker_id: str = "",
    collect_events: bool = False,
    check_complete_on_run: bool = False,
    process_context: str | None = None,
    waits: bool = True,
) -> AttemptResult:
    """Run `task` once as part of `run`, here and now, as Luigi would, and say what came of it.

    `check` holds the requirements to check first (None: all static ones, as Luigi does by default); `expected` where
    the caller says that outputs and inputs are; `known` the ids of tasks that are complete without asking. Requirements
    that `run` yields are sent back as `requirements` unless complete; the task is then to be attempted again.
    What another process makes just now is waited for, unless `waits` is False: then the outcome says who it is.
    With `collect_events`, events are not fired here but returned for the caller to fire.

    Raises nothing but the KeyboardInterrupt that ends this process: whatever the task raises becomes a FAILED outcome.
    """
    around: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if process_context:
        around = _process_context(process_context, _ProcessView(task, worker_id, reporter))
    with entered(run), logs.captured() as lines:
        attempt = AttemptRunner(task, run, known, reporter, collect_events, check_complete_on_run, waits, expected)
        outcome = attempt.carry_out(check, around)
        return replace(outcome, log=tuple(lines)) if lines else outcome


@dataclass(eq=False)
class AttemptRunner:
    task: Task
    run: RunContext
    known: Container[str]
    reporter: TaskReporter | None
    collect_events: bool
    check_complete_on_run: bool
    waits: bool
    expected: Addresses | None = None
    confirmed: list[str] = field(default_factory=list)
    events: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._itself = Itself(self.task)

    def carry_out(self, check: Iterable[Task] | None, around: contextlib.AbstractContextManager[None]) -> AttemptResult:
        with self._events_kept() if self.collect_events else contextlib.nullcontext():
            missing: list[str] = []
            try:
                with around:
                    return self._attempt(check, missing)
            except GracefulTimeout:
                return self._came_to(PENDING, again=True)
            except BaseException as error:  # noqa: BLE001 - SystemExit in a task is that task's failure
                signals.leave_if_ended(error)
                return self._failed(error, tuple(missing) or self._gone(error, check))
            finally:
                self._itself.put_back()

    def _came_to(self, status: str, **what: Any) -> AttemptResult:
        return AttemptResult(
            self._itself.task_id,
            status,
            confirmed=tuple(self.confirmed),
            events=tuple(self.events),
            started=self.started,
            duration=time.time() - self.started,
            **what,
        )

    def _attempt(self, check: Iterable[Task] | None, missing: list[str]) -> AttemptResult:
        task = self.task
        refuse_other(task, self.expected)
        if graph.is_external(task):
            return self._external()
        unmet = [t for t in (task.deps() if check is None else check) if not self._fulfilled(t)]
        if unmet:
            missing.extend(t.task_id for t in unmet)
            raise ExecutionError(_unfulfilled(unmet))
        ours: Any = task
        if self.waits or not hasattr(type(task), "_superluigi_turn"):
            return self._carried_out()
        turn = ours._superluigi_turn(self.run)
        if isinstance(turn, Holder):
            return self._came_to(PENDING, elsewhere=turn)
        try:
            return self._came_to(DONE, skipped=True) if turn.is_made() else self._carried_out()
        finally:
            ours._superluigi_end_turn(turn)

    def _carried_out(self) -> AttemptResult:
        task = self.task
        refresh = self.run.refresh
        reason = None if refresh is None else refresh.must_run(task)
        if refresh is not None and reason is None:  # what it requires was made again, and is what it has read before
            return self._came_to(DONE, skipped=True)
        only_checked = reason is not None and reason.only_checks
        if not only_checked:
            trigger(task, Event.START, task)
        began = time.time()
        with reporter_attached(self.task, self.reporter):
            requirements = isolated(exhaust, task, self._complete)
        self._itself.refuse_change()
        if only_checked:
            return self._came_to(DONE, skipped=True)
        if requirements:
            return self._came_to(PENDING, requirements=requirements)
        if self.check_complete_on_run and not is_complete(task, self.run):
            raise ExecutionError(
                f"{task} finished running, but complete() is still returning False. Does run() write "
                "every output that output() names?"
            )
        self._refuse_unrecorded()
        trigger(task, Event.PROCESSING_TIME, task, time.time() - began)
        expl = task.on_success()
        trigger(task, Event.SUCCESS, task)
        return self._came_to(DONE, expl=expl)

    def _refuse_unrecorded(self) -> None:
        """Say at once that a folder or prefix filled by hand is not complete: it is so by its record."""
        if graph.written(self.task, "commits_outputs"):
            return
        for target in graph.flatten(self.task.output()):
            location = graph.asked(target, "location")
            if not graph.asked(target, "is_folder") or not isinstance(location, Location):
                continue
            if location.has_data() and not location.exists():
                raise OutputNotWrittenError(
                    f"{self.task} wrote into {target} by its path, which leaves no record, and a folder or prefix is "
                    "complete by its record. Write within `with self.output().tmp_write_path() as path:`, derive from "
                    "AtomicTaskWithMetadata or TaskWithMetadata, or give the target external=True."
                )

    def _gone(self, error: BaseException, check: Iterable[Task] | None) -> tuple[str, ...]:
        """Ids of requirements that were not looked at again because they were complete, but that are not there."""
        if check is None or not isinstance(error, FileNotFoundError):
            return ()
        with USERS_CODE:  # what the task failed with says more
            return tuple(t.task_id for t in self.task.deps() if not self._fulfilled(t))
        return ()

    def _external(self) -> AttemptResult:
        trigger(self.task, Event.START, self.task)
        if is_complete(self.task, self.run):
            expl = self.task.on_success()
            trigger(self.task, Event.SUCCESS, self.task)
            return self._came_to(DONE, expl=expl)
        return self._came_to(FAILED, expl=MISSING_EXTERNAL)

    def _failed(self, error: BaseException, missing: tuple[str, ...]) -> AttemptResult:
        error = main_names.explained(self.task, self._itself.explained(error) or error)
        text = tracebacks.text_of(error)
        logs.logger.debug("%s failed", self.task, exc_info=True)
        trigger(self.task, Event.FAILURE, self.task, error)
        try:
            expl = self.task.on_failure(error)
        except BaseException as broken:  # noqa: BLE001 - a broken on_failure must not hide what it was called for
            signals.leave_if_ended(broken)
            said = f"on_failure() failed too:\n{tracebacks.text_of(broken)}"
            logs.logger.error("%s: %s", self.task, said)
            expl = f"{said}\n{text}"
        return self._came_to(FAILED, expl=expl, error=tellable(error, text), traceback=text, missing=missing)

    def _complete(self, task: Task) -> bool:
        if task.task_id in self.known:
            return True
        complete = is_complete(task, self.run)
        if complete:
            self.confirmed.append(task.task_id)
        return complete

    def _fulfilled(self, task: Task) -> bool:
        """Whether a requirement that has just been made is really there.

        Its outputs are looked at first: complete() is asked once per task and run, and the answer
        of before the task ran says nothing now.
        """
        outputs = graph.flatten(task.output())
        # a wrapper's own answer would ask everything below it again, which is exponential in its depth; what it
        # requires was looked at when it was made
        # Luigi lets a task with a complete() of its own return what is no target
        there = all(hasattr(o, "exists") and o.exists() for o in outputs) if outputs else is_plain_wrapper(task)
        if there or task.complete():  # not "made in this run": a forced wrapper has nothing that could say so
            self.confirmed.append(task.task_id)
            return True
        return False

    @contextlib.contextmanager
    def _events_kept(self) -> Iterator[None]:
        self.task.trigger_event = _Kept(self._keep_event)  # type: ignore[method-assign]
        try:
            yield
        finally:
            vars(self.task).pop("trigger_event", None)

    def _keep_event(self, event: str, *args: object) -> None:
        # The first argument is by custom the task itself: the receiver puts its own in its place.
        kept = tuple(None if arg is self.task else arg for arg in args)
        self.events.append((event, kept))


def fire(task: Task, events: Iterable[tuple[str, tuple[object, ...]]]) -> None:
    """Fire events that were collected elsewhere at the handlers of this process."""
    for event, args in events:
        trigger(task, event, *(task if arg is None else arg for arg in args))


def trigger(task: Task, event: str, *args: object) -> None:
    """Tell the handlers of an event; as Luigi has it of a handler, a `trigger_event` that raises is only logged."""
    try:
        task.trigger_event(event, *args)
    except BaseException as error:  # noqa: BLE001 - user code
        signals.leave_if_ended(error)
        logs.logger.error("trigger_event of %s: %r was not told.\n%s", task.task_id, event, tracebacks.text_of(error))


def _unfulfilled(tasks: list[Task]) -> str:
    said = []
    for task in tasks:
        absent = [str(output) for output in graph.flatten(task.output()) if not output.exists()]
        said.append(f"{task.task_id} ({', '.join(absent)})" if absent else task.task_id)
    return f"Unfulfilled {'dependency' if len(said) == 1 else 'dependencies'} at run time: {', '.join(said)}"


@contextlib.contextmanager
def _process_context(dotted: str, view: _ProcessView) -> Iterator[None]:
    """Luigi's `[worker] task_process_context`: a class to enter around each run."""
    module, _, name = dotted.rpartition(".")
    factory: Callable[[Any], contextlib.AbstractContextManager[object]] = getattr(import_module(module), name)
    with factory(view):
        yield


@dataclass
class _ProcessView:
    """The part of Luigi's TaskProcess that a process context reads."""

    task: Task
    worker_id: str
    status_reporter: TaskReporter | None
    pid: int = field(default_factory=os.getpid)


def ends_retries(task: Task, error: BaseException | None) -> bool:
    """Whether a task that failed so is not to be tried again: it has said that of checks that fail."""
    return isinstance(error, CheckFailedError) and graph.written(task, "retry_on_failed_check") is False


def portable_error(error: BaseException, text: str = "") -> BaseException:
    """What arrives as `error` when it is pickled, of its class and with its words, or a RemoteError that says the same.

    A KeyboardInterrupt stays behind as well: raised where it arrives, it would end more than its task.
    """
    if not isinstance(error, KeyboardInterrupt):
        for form in (error, _AsPythonDoes(error), _ByState(error)):
            if _arrives_as(form, error):
                return form
    kind = type(error)
    return RemoteError(f"{kind.__module__}.{kind.__qualname__}: {message_of(error)}", text)


class _AsPythonDoes(Exception):  # noqa: N818 - never raised: it is what it holds once it has been pickled
    """Pickles an error in Python's own way, where a library (tblib, with Dask) has one for all that suits most."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def __reduce__(self) -> str | tuple[object, ...]:
        return self._error.__reduce__()


class _ByState(_AsPythonDoes):
    """Pickles an error without calling its class, whose arguments may be others than `args`, as Python assumes."""

    def __reduce__(self) -> tuple[object, ...]:
        reduced = self._error.__reduce__()
        kind, *rest = reduced if isinstance(reduced, tuple) else (None,)
        if kind is not type(self._error):
            raise pickle.PicklingError(f"{type(self._error)} is pickled in a way of its own")
        return _by_state, (kind, *rest)


def _by_state(
    kind: type[BaseException], args: tuple[object, ...], state: dict[str, object] | None = None
) -> BaseException:
    error = kind.__new__(kind, *args)
    if isinstance(error, OSError):
        OSError.__init__(error, *args)
    else:
        error.args = args
    error.__setstate__(state)
    return error


def _arrives_as(form: BaseException, error: BaseException) -> bool:
    """Whether `form` is `error` again when it has been pickled: of the same class, with the same text."""
    with USERS_CODE:  # any failure of __reduce__ means "no"
        back = pickle.loads(pickle.dumps(form))
        return type(back) is type(error) and message_of(back) == message_of(error)
    return False


def _travels(value: object) -> bool:
    with USERS_CODE:  # any failure of __reduce__ means "no"
        pickle.loads(pickle.dumps(value))
        return True
    return False


def shown(value: object) -> str:
    """`repr(value)`, whatever its own `__repr__` does."""
    with USERS_CODE:
        return repr(value)
    return f"<{type(value).__name__}>"

"""An attempt as bytes: everything it needs to be run in another process, and its outcome back."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from luigi import configuration
from luigi.task import Task

from superluigi import config as settings
from superluigi.errors import SuperLuigiError, TaskTimeoutError
from superluigi.executors import child
from superluigi.scheduling import logs
from superluigi.scheduling.attempt import Outcome, run_attempt
from superluigi.scheduling.run import Run

#: The message that an attempt begins now.
BEGIN = "begin"


@dataclass(frozen=True)
class Surroundings:
    """What a fresh process must know before tasks of the caller can run in it."""

    sys_path: tuple[str, ...]
    #: Luigi's configuration as it stands in the caller: section → option → raw value.
    config: dict[str, dict[str, str]]
    log_level: int

    @staticmethod
    def here() -> Surroundings:
        return Surroundings(tuple(sys.path), settings.raw_sections(), logs.logger.getEffectiveLevel())

    def take_over(self) -> None:
        sys.path.extend(entry for entry in self.sys_path if entry not in sys.path)
        parser = configuration.get_config()
        for section, options in self.config.items():
            for option, value in options.items():
                parser.set(section, option, value)
        logs.logger.setLevel(self.log_level)


@dataclass(frozen=True)
class Unloadable:
    """The answer of a process that could not even unpickle the task."""

    reason: str
    host: str


@dataclass(frozen=True)
class Order:
    """The part of a parcel that differs from attempt to attempt."""

    task: Task
    check: tuple[Task, ...]
    known: frozenset[str]
    worker_id: str
    check_complete_on_run: bool
    process_context: str | None
    #: Tell the parent (`BEGIN`) when the attempt begins: start-up does not count for a time limit.
    announce: bool = False


_prepared: dict[bytes, Run] = {}


def prepare(context: bytes) -> Run:
    """Take over the caller's surroundings and run, once per process; cheap when repeated.

    An empty context stands for the one that was prepared last.
    """
    run = _prepared.get(context) if context else next(iter(_prepared.values()))
    if run is None:
        surroundings, dumped_run = pickle.loads(context)
        surroundings.take_over()
        run = pickle.loads(dumped_run)
        _prepared.clear()
        _prepared[context] = run
    return run


def dump_context(run: Run) -> bytes:
    """The part that all attempts of a run share."""
    return pickle.dumps((Surroundings.here(), cloudpickle.dumps(run)))


def dump_order(order: Order) -> bytes:
    """Pickle an order; tasks whose own state does not pickle travel as class and parameters."""
    try:
        return bytes(cloudpickle.dumps(order))
    except Exception:  # noqa: BLE001 - any failure of foreign __reduce__ code
        bare = replace(order, task=_Bare.of(order.task), check=tuple(_Bare.of(t) for t in order.check))
        return bytes(cloudpickle.dumps(bare))


class _Bare:
    """Pickles as a call that makes the task again from its parameters."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @staticmethod
    def of(task: Task) -> Any:
        return _Bare(task)

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[Any, ...]]:
        return _again, (type(self._task), self._task.param_kwargs)


def _again(task_class: type[Task], parameters: dict[str, Any]) -> Task:
    return task_class(**parameters)


def run_order(context: bytes, dumped: bytes, spool: str | None = None) -> Outcome | Unloadable:
    """Run one attempt in this process; messages go to the parent process, or to the file `spool`."""
    run = prepare(context)
    try:
        order: Order = pickle.loads(dumped)
    except (ImportError, AttributeError) as error:
        return Unloadable(f"{type(error).__name__}: {error}", Outcome("", "").host)
    task_id = order.task.task_id
    send = child.send_message if spool is None else _Spool(spool).append
    if order.announce:
        send((task_id, BEGIN, ()))
    with logs.keeping(), _told(task_id) as messages:
        outcome = run_attempt(
            order.task,
            run,
            check=order.check,
            known=order.known,
            reporter=_Reporter(task_id, send, messages),
            worker_id=order.worker_id,
            collect_events=True,
            check_complete_on_run=order.check_complete_on_run,
            process_context=order.process_context,
        )
    return outcome.portable()


def run_order_bounded(context: bytes, dumped: bytes, spool: str, timeout: float) -> bytes:
    """`run_order`, pickled, for executors that cannot end a call: a time limit is kept here.

    With a limit the attempt runs in a process of its own. The answer is pickled here because classes
    that came by value go back by value, which an executor's own pickle refuses.
    """
    if not timeout:
        return bytes(cloudpickle.dumps(run_order(context, dumped, spool)))
    from superluigi.executors.processes import ProcessExecutor

    with ProcessExecutor(1) as executor:
        executor.submit(prepare, context).result()  # start-up does not count
        future = executor.submit(run_order, context, dumped, spool)
        try:
            answer: Outcome | Unloadable | SuperLuigiError = future.result(timeout)
        except FutureTimeout:
            answer = TaskTimeoutError(f"The task timed out after {timeout:g} seconds and was terminated.")
            executor.end(future, answer)
        except SuperLuigiError as error:
            answer = error
    return bytes(cloudpickle.dumps(answer))


def call(context: bytes, order: bytes) -> bytes:
    """`run_order(context, order)`, pickled as a ProcessExecutor wants it."""
    return pickle.dumps((run_order, (context, order), {}))


class _Reporter:
    """Sends what a task reports to the process that runs the graph."""

    def __init__(self, task_id: str, send: Callable[[Any], None], messages: Any) -> None:
        self._task_id = task_id
        self._send = send
        self.scheduler_messages = messages

    def _report(self, method: str, *args: Any) -> None:
        self._send((self._task_id, method, args))

    def update_tracking_url(self, tracking_url: str) -> None:
        self._report("update_tracking_url", tracking_url)

    def update_status_message(self, message: str) -> None:
        self._report("update_status_message", message)

    def update_progress_percentage(self, percentage: float) -> None:
        self._report("update_progress_percentage", percentage)

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        self._report("decrease_running_resources", decrease_resources)


class _Spool:
    """Messages as lines of a file that the other side reads: works wherever files are shared."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def append(self, value: Any) -> None:
        line = json.dumps(value).encode() + b"\n"
        with contextlib.suppress(OSError):  # no shared file system: progress is not worth a failure
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line)  # one write of less than PIPE_BUF: lines do not mix
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _told(task_id: str) -> Iterator[Any]:
    """A queue of the scheduler messages that the parent tells this process for `task_id`."""
    import queue

    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child.listen(task_id, messages.put)
    try:
        yield messages
    finally:
        child.listen(task_id, None)


def by_value(tasks: Iterable[Task]) -> None:
    """From now on, pickle the classes of `tasks` by value: their modules cannot be imported there."""
    for task in tasks:
        module = sys.modules.get(type(task).__module__)
        if module is not None and module.__name__ != "__main__":
            cloudpickle.register_pickle_by_value(module)

"""Luigi's worker over an executor: it asks the scheduler, the executor runs the attempts."""

from __future__ import annotations

import functools
import json
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import luigi.worker
from luigi.event import Event
from luigi.scheduler import DISABLED, DONE, FAILED, PENDING, UNKNOWN, WORKER_STATE_DISABLED
from luigi.task import Task
from luigi.worker import TaskStatusReporter

from superluigi.errors import TargetMissingError, TaskCancelledError, TaskTimeoutError, WorkerLostError
from superluigi.scheduling import logs
from superluigi.scheduling.attempt import MISSING_EXTERNAL, Outcome, fire, is_external, run_attempt
from superluigi.scheduling.completeness import CompleteMany, Completeness, Trouble
from superluigi.scheduling.limits import Limits
from superluigi.scheduling.places import Lost, Place, Places
from superluigi.scheduling.report import Failure
from superluigi.scheduling.run import Run
from superluigi.scheduling.scheduler import ReadyScheduler

logger = logs.logger


@dataclass
class Attempting:
    """An attempt that runs somewhere."""

    task: Task
    place: Place
    status_reporter: TaskStatusReporter
    future: Future[Any] | None = None
    #: Seconds on the monotonic clock; None without a time limit.
    deadline: float | None = None
    timeout: float = 0.0
    started: float = field(default_factory=time.time)
    timed_out: bool = False

    def is_alive(self) -> bool:
        return False  # Luigi's __exit__ asks; ending attempts is the places' business


class Worker(luigi.worker.Worker):
    """Schedules a graph and runs it through executors; otherwise Luigi's worker, option for option.

    Differences, all of them in what it costs: complete() and requires() are asked once per task and
    run (many tasks at a time when asking is slow), requirements are not asked again unless a task
    without a guarantee of its own has just made them, and it waits for events instead of sleeping.
    """

    def __init__(
        self,
        scheduler: Any = None,
        run: Run | None = None,
        *,
        worker_id: str | None = None,
        worker_processes: int = 1,
        assistant: bool = False,
        places: Places | None = None,
        complete_many: CompleteMany | None = None,
        on_error: str = "continue",
        limits: Limits | None = None,
        observer: Observer | None = None,
        **config: Any,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            config.setdefault("no_install_shutdown_handler", True)  # only the main thread may install it
        super().__init__(scheduler, worker_id, worker_processes, assistant, **config)
        self._task_result_queue.close()  # Luigi's own, for its forked processes
        self._arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.luigi_run = run or Run()
        self._places = places or Places(self.luigi_run, None, self.worker_processes)
        self._owns_places = places is None
        self._completeness = Completeness(self.luigi_run, complete_many)
        self._on_error = on_error
        self._limits = limits or Limits()
        #: Our scheduler lives in this process: it asks for parameters only when it needs them.
        self._near = isinstance(self._scheduler, ReadyScheduler)
        if self._near:
            self._scheduler.lend(self._id, self._scheduled_tasks)
        self._observer = observer or Observer()
        #: Static and discovered requirements of every task that was not complete.
        self.requirements: dict[str, list[Task]] = {}
        self._discovered: dict[str, set[str]] = {}
        #: Ids of what this run has made, in order (a dict for its order).
        self.made: dict[str, None] = {}
        #: Ids of what turned out to be up to date when its turn came, in a run that refreshes.
        self.skipped: dict[str, None] = {}
        self.failures: dict[str, Failure] = {}
        #: Made by this run, but nobody has looked whether the outputs are really there.
        self._unverified: set[str] = set()
        self._resent: set[str] = set()

    # -- scheduling

    def add(self, task: Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Add `task` and everything it requires; whether all could be scheduled.

        `multiprocess` and `processes` are Luigi's words for asking in parallel and are not needed here.
        """
        return self.add_all([task])

    def add_all(self, tasks: Sequence[Task]) -> bool:
        """Add several tasks in one walk, level by level, asking each level's tasks together."""
        self.add_succeeded = True
        for task in tasks:
            self._validate_task(task)
        if self._first_task is None and tasks:
            self._first_task = tasks[0].task_id
        level = list({task.task_id: task for task in tasks}.values())
        seen = {task.task_id for task in level}
        while level:
            following: list[Task] = []
            for task, answer in zip(level, self._completeness.ask(level), strict=True):
                for requirement in self._schedule(task, answer):
                    if requirement.task_id not in seen:
                        self._validate_task(requirement)
                        seen.add(requirement.task_id)
                        following.append(requirement)
            level = following
        return bool(self.add_succeeded)

    def _schedule(self, task: Task, answer: bool | Trouble) -> list[Task]:
        """Tell the scheduler about `task`; what it requires when it must run."""
        status, runnable, requirements = self._judge(task, answer)
        if task.disabled:
            status = DISABLED
        self._scheduled_tasks[task.task_id] = task
        if requirements is not None:
            self.requirements[task.task_id] = requirements
        self._add_task(
            worker=self._id,
            task_id=task.task_id,
            status=status,
            deps=None if requirements is None else [t.task_id for t in requirements],
            runnable=runnable,
            priority=task.priority,
            resources=self._resources(task),
            params=task.to_str_params if self._near else task.to_str_params(),
            family=task.task_family,
            module=task.task_module,
            batchable=_is_batchable(task),
            retry_policy_dict=_retry_policy(task),
            accepts_messages=task.accepts_messages,
        )
        self._observer.scheduled(task, status)
        return requirements or []

    def _resources(self, task: Task) -> dict[str, int]:
        return self._limits.resources_of(task) if self._limits else task.process_resources()

    def _add_task(self, *args: Any, **kwargs: Any) -> None:
        """Tell the scheduler, and remember it for the summary."""
        if not self._near:
            super()._add_task(*args, **kwargs)
            return
        task_id, status = kwargs["task_id"], kwargs["status"]
        task = self._scheduled_tasks.get(task_id)
        if task is not None:
            self._add_task_history.append((task, status, kwargs["runnable"]))
            kwargs["param_visibilities"] = task._get_param_visibilities
            if status == FAILED:
                kwargs["owners"] = task._owner_list()
        if task_id in self._batch_running_tasks:
            for batched in self._batch_running_tasks.pop(task_id):
                self._add_task_history.append((batched, status, True))
        self._scheduler.add_task(**kwargs)
        logger.info("Informed scheduler that task   %s   has status   %s", task_id, status)

    def _judge(self, task: Task, answer: bool | Trouble) -> tuple[str, bool, list[Task] | None]:
        """Status, whether we can run it, and the requirements of a task that must run."""
        limit = self._config.task_limit
        if limit is not None and len(self._scheduled_tasks) >= limit:
            logger.warning("Will not run %s or any dependencies due to exceeded task-limit of %d", task, limit)
            return UNKNOWN, False, None
        if isinstance(answer, Trouble):
            self.add_succeeded = False
            self._log_complete_error(task, answer.trace)
            task.trigger_event(Event.DEPENDENCY_MISSING, task)
            self._email_complete_error(task, answer.trace)
            self._note_failure(task, "scheduling", answer.error, answer.trace)
            return UNKNOWN, False, None
        if answer:
            task.trigger_event(Event.DEPENDENCY_PRESENT, task)
            return DONE, False, None
        if is_external(task):
            task.trigger_event(Event.DEPENDENCY_MISSING, task)
            return PENDING, bool(self._config.retry_external_tasks), None
        try:
            requirements = self._completeness.requirements(task)
            self._add_task_batcher(task)
            for requirement in requirements:
                self._validate_dependency(requirement)
        except Exception as error:  # noqa: BLE001 - user code in requires()
            return self._broken(task, error)
        for requirement in requirements:
            task.trigger_event(Event.DEPENDENCY_DISCOVERED, task, requirement)
        return PENDING, True, requirements

    def _broken(self, task: Task, error: Exception) -> tuple[str, bool, None]:
        import traceback

        trace = traceback.format_exc()
        self.add_succeeded = False
        self._log_dependency_error(task, trace)
        task.trigger_event(Event.BROKEN_TASK, task, error)
        self._email_dependency_error(task, trace)
        self._note_failure(task, "scheduling", error, trace)
        return UNKNOWN, False, None

    # -- running

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        """Stop the keep-alive thread and end what still runs."""
        self._keep_alive_thread.stop()
        self._keep_alive_thread.join()
        if self._owns_places:
            self._places.close(abort=kind is not None)
        return False

    def run(self) -> bool:
        """Run until nothing is left that this worker could do; whether every task it ran succeeded."""
        self.run_succeeded = True
        self._add_worker()
        try:
            self._loop()
        except BaseException:
            self._places.close(abort=True)
            raise
        return bool(self.run_succeeded)

    def _loop(self) -> None:
        while True:
            while len(self._running_tasks) >= self.worker_processes > 0:
                self._wait()
            response = self._get_work()
            if response.worker_state == WORKER_STATE_DISABLED:
                self._start_phasing_out()
            if response.task_id is not None:
                self._run_task(response.task_id)
            elif self._running_tasks:
                self._wait()
            elif not self._wait_for_work(response):
                break
        while self._running_tasks:
            self._wait()

    def _get_work(self) -> Any:
        response = super()._get_work()
        history = self._get_work_response_history
        if history and not self._others(history[-1]):
            history.pop()  # the summary reads only what others run
        return response

    def _others(self, entry: dict[str, Any]) -> bool:
        return entry["task_id"] is None and any(r["worker"] != self._id for r in entry["running_tasks"])

    def _wait_for_work(self, response: Any) -> bool:
        """Nothing runs and nothing is ready: wait a while if something may become ready, else False."""
        due = None if self._stop_requesting_work else self._next_due()
        if due is not None:
            time.sleep(max(0.0, min(due - time.time(), self._config.wait_interval)))
            return True
        import datetime

        self._idle_since = self._idle_since or datetime.datetime.now()
        if self._stop_requesting_work or not self._keep_alive(response):
            return False
        time.sleep(self._config.wait_interval)
        return True

    def _next_due(self) -> float | None:
        """When (seconds since the epoch) a task of ours becomes ready by itself; None if none does."""
        ask = getattr(self._scheduler, "next_due", None)
        due: float | None = ask(self._id) if ask is not None else None
        return due

    def _run_task(self, task_id: str) -> None:
        self._idle_since = None
        if task_id in self._running_tasks:
            time.sleep(self._config.wait_interval)  # a remote scheduler and we disagree: let it catch up
            return
        task = self._scheduled_tasks[task_id]
        self._observer.started(task)
        timeout = task.worker_timeout if task.worker_timeout is not None else self._config.timeout
        place = self._places.for_task(task, timeout)
        attempting = self._running_tasks[task_id] = Attempting(task, place, self._reporter(task))
        if timeout:
            attempting.timeout = timeout
            attempting.deadline = None if place.bounds_time else time.monotonic() + timeout
        if place.here:
            outcome = self._attempt_here(attempting)
            while outcome.again:
                outcome = self._attempt_here(attempting)
            self._finish(task_id, outcome)
        else:
            self._submit(attempting)

    def _reporter(self, task: Task) -> TaskStatusReporter:
        messages = queue.SimpleQueue() if task.accepts_messages else None  # type: ignore[var-annotated]
        return _Reporter(self._scheduler, task.task_id, self._id, messages, self._observer)

    def _attempt_here(self, attempting: Attempting) -> Outcome:
        task = attempting.task
        return run_attempt(
            task,
            self.luigi_run,
            check=self._to_check(task),
            known=_Done(self.made, self._completeness.known),
            reporter=attempting.status_reporter,
            worker_id=self._id,
            check_complete_on_run=self._config.check_complete_on_run,
            process_context=self._config.task_process_context,
        )

    def _to_check(self, task: Task) -> list[Task]:
        if not self._config.check_unfulfilled_deps:
            return []
        known = self._completeness.known
        return [t for t in self._static(task) if t.task_id in self._unverified or not known.get(t.task_id)]

    def _static(self, task: Task) -> list[Task]:
        if task.task_id in self.requirements:
            return self.requirements[task.task_id]
        return list(task.deps())  # handed to us by the scheduler, e.g. a batch or for an assistant

    def _submit(self, attempting: Attempting) -> None:
        task = attempting.task
        task_id = task.task_id
        known = {t.task_id for t in self._static(task)} | self._discovered.get(task_id, set())
        known = {i for i in known if i in self.made or self._completeness.known.get(i)}
        options: dict[str, Any] = {"timeout": attempting.timeout} if attempting.place.bounds_time else {}
        if attempting.place.shares_memory:
            future = attempting.place.executor.submit(self._attempt_here, attempting)
        else:
            future = attempting.place.submit_order(
                task,
                self._to_check(task),
                frozenset(known),
                worker_id=self._id,
                check_complete_on_run=self._config.check_complete_on_run,
                process_context=self._config.task_process_context,
                on_message=lambda message: self._arrived.put(("message", message)),
                **options,
            )
        attempting.future = future
        future.add_done_callback(lambda _: self._arrived.put(("done", (task_id, future))))

    def _wait(self) -> None:
        """Wait for one thing to happen: an attempt ends, a task reports, a time limit passes."""
        try:
            kind, value = self._arrived.get(timeout=self._patience())
        except queue.Empty:
            self._end_late()
            return
        if kind == "message":
            self._take_message(*value)
            return
        self._take_spooled()  # what the attempt reported comes before its end
        task_id, future = value
        attempting = self._running_tasks.get(task_id)
        if attempting is not None and attempting.future is future:
            outcome = self._outcome(attempting, future)
            if outcome is not None:
                self._finish(task_id, outcome)
        if self._arrived.empty():
            self._end_late()

    def _patience(self) -> float:
        limits = [a.deadline for a in self._running_tasks.values() if a.deadline is not None and not a.timed_out]
        left = [max(0.0, limit - time.monotonic()) for limit in limits]
        due = self._next_due()
        if due is not None:
            left.append(max(0.001, due - time.time()))
        return min([*left, self._places.poll_seconds(), float(self._config.wait_interval)])

    def _take_message(self, task_id: str, method: str, args: Sequence[Any]) -> None:
        attempting = self._running_tasks.get(task_id)
        if attempting is not None and method in _REPORTS:
            getattr(attempting.status_reporter, method)(*args)

    def _take_spooled(self) -> None:
        for message in self._places.spooled():
            self._take_message(*message)

    def _end_late(self) -> None:
        self._take_spooled()
        now = time.monotonic()
        for attempting in list(self._running_tasks.values()):
            if attempting.deadline is not None and now > attempting.deadline and not attempting.timed_out:
                attempting.timed_out = True
                if attempting.future is not None:
                    attempting.place.end(attempting.future, _timeout_error(attempting))

    def _outcome(self, attempting: Attempting, future: Future[Any]) -> Outcome | None:
        """The outcome of an ended attempt; None when it was sent again in another way."""
        task = attempting.task
        try:
            outcome = attempting.place.open(future, task)
        except Lost as lost:
            if lost.resend and task.task_id not in self._resent:
                self._resent.add(task.task_id)
                self._submit(attempting)
                return None
            return self._perished(attempting, lost.error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the executor says: the attempt came to nothing
            return self._perished(attempting, error)
        fire(task, outcome.events)
        if outcome.again:
            if attempting.deadline is not None:
                attempting.deadline = time.monotonic() + attempting.timeout
            self._submit(attempting)
            return None
        return outcome

    def _perished(self, attempting: Attempting, error: BaseException) -> Outcome:
        """An attempt that never came back: its process died, or it was ended for being late."""
        task = attempting.task
        if isinstance(error, TaskTimeoutError):
            task.trigger_event(Event.TIMEOUT, task, str(error))
        else:
            task.trigger_event(Event.PROCESS_FAILURE, task, str(error))
        return Outcome(task.task_id, FAILED, expl=str(error), error=error, started=attempting.started)

    def _finish(self, task_id: str, outcome: Outcome) -> None:
        """Tell everybody what came of an attempt."""
        task = self._scheduled_tasks[task_id]
        for confirmed in outcome.confirmed:
            self._completeness.done(confirmed)
            self._unverified.discard(confirmed)
        status = outcome.status
        if status == DONE:
            self._note_success(task, outcome)
        elif status == FAILED:
            self._note_attempt_failed(task, outcome)
        new_deps = self._discover(task, outcome.requirements)
        self._add_task(
            worker=self._id,
            task_id=task_id,
            status=status,
            expl=json.dumps(outcome.expl, default=repr),
            resources=task.process_resources(),
            runnable=None,
            params=task.to_str_params(),
            family=task.task_family,
            module=task.task_module,
            new_deps=new_deps,
            assistant=self._assistant,
            retry_policy_dict=_NO_RETRY if isinstance(outcome.error, TaskCancelledError) else _retry_policy(task),
        )
        self._running_tasks.pop(task_id)
        self._observer.ended(task, status, outcome)
        if outcome.missing:
            self._reschedule(task, outcome.missing)
        self.run_succeeded &= status == DONE or bool(new_deps)
        if status == FAILED and self._on_error == "stop" and not self._will_retry(task_id):
            self._stop_requesting_work = True

    def _note_success(self, task: Task, outcome: Outcome) -> None:
        (self.skipped if outcome.skipped else self.made)[task.task_id] = None
        self.failures.pop(task.task_id, None)
        if outcome.skipped or is_external(task) or getattr(task, "vouches_for_output", False):
            self._completeness.done(task.task_id)
        for batched in self._batch_members(task.task_id):
            self.made[batched.task_id] = None

    def _batch_members(self, task_id: str) -> list[Task]:
        members = self._batch_running_tasks.get(task_id)
        if members is None:
            return []
        kept = self._batch_running_tasks[task_id] = list(members)
        return kept

    def _note_attempt_failed(self, task: Task, outcome: Outcome) -> None:
        error = outcome.error
        if error is None:  # only an external task fails without one
            error = TargetMissingError(f"{task}: {MISSING_EXTERNAL}")
        external = is_external(task)
        if not (external and self._config.retry_external_tasks):
            self._email_task_failure(task, outcome.expl)
        kind = "missing" if external else _kind(error)
        self._note_failure(task, kind, error, outcome.traceback, outcome.log, outcome.host)
        logger.warning("%s failed: %s: %s", task, type(error).__name__, error)

    def _note_failure(
        self,
        task: Task,
        kind: str,
        error: BaseException,
        trace: str = "",
        log: tuple[str, ...] = (),
        host: str = "",
    ) -> None:
        before = self.failures.pop(task.task_id, None)
        attempts = 1 if before is None else before.attempts + 1
        self.failures[task.task_id] = Failure(task.task_id, str(task), kind, error, trace, log, attempts, host)

    def _will_retry(self, task_id: str) -> bool:
        ask = getattr(self._scheduler, "will_retry", None)
        return bool(ask(task_id)) if ask is not None else False

    def _discover(self, task: Task, requirements: Sequence[Task]) -> list[str]:
        if not requirements:
            return []
        canonical = [self._scheduled_tasks.get(t.task_id, t) for t in requirements]
        self.add_all([t for t in canonical if t.task_id not in self.made])
        ids = [t.task_id for t in canonical]
        self._discovered.setdefault(task.task_id, set()).update(ids)
        return ids

    def _reschedule(self, task: Task, missing: Sequence[str]) -> None:
        """Requirements that were there are gone: make them again, but not for ever."""
        for task_id in missing:
            self.unfulfilled_counts[task_id] += 1
            self._completeness.forget(task_id)
        if all(self.unfulfilled_counts[i] <= self._config.max_reschedules for i in missing):
            for task_id in missing:
                self.made.pop(task_id, None)
            self._completeness.forget(task.task_id)
            self.add(task)


class Observer:
    """Is told what happens; the base class ignores it all."""

    def scheduled(self, task: Task, status: str) -> None: ...
    def started(self, task: Task) -> None: ...
    def ended(self, task: Task, status: str, outcome: Outcome) -> None: ...
    def progressed(self, task_id: str, percentage: float | None, message: str | None) -> None: ...


class _Reporter(TaskStatusReporter):
    """Luigi's reporter, telling the observer too."""

    def __init__(self, scheduler: Any, task_id: str, worker_id: str, messages: Any, observer: Observer) -> None:
        super().__init__(scheduler, task_id, worker_id, messages)
        self._observer = observer

    def update_status_message(self, message: str) -> None:
        super().update_status_message(message)
        self._observer.progressed(self._task_id, None, message)

    def update_progress_percentage(self, percentage: float) -> None:
        super().update_progress_percentage(percentage)
        self._observer.progressed(self._task_id, percentage, None)


#: What a task may have done on its behalf from another process.
_REPORTS = {
    "update_tracking_url",
    "update_status_message",
    "update_progress_percentage",
    "decrease_running_resources",
}


class _Done:
    """The ids of all that is complete by now, as a live view."""

    def __init__(self, made: dict[str, None], known: dict[str, bool]) -> None:
        self._made = made
        self._known = known

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._made or bool(self._known.get(task_id))  # type: ignore[call-overload]


def _is_batchable(task: Task) -> bool:
    if type(task).batchable is not Task.batchable:
        return bool(task.batchable)
    return _class_is_batchable(type(task))


@functools.lru_cache(maxsize=4096)
def _class_is_batchable(task_class: type[Task]) -> bool:
    return bool(task_class.batch_param_names())


#: For a task that somebody has cancelled.
_NO_RETRY = {"retry_count": 1}


def _retry_policy(task: Task) -> dict[str, Any] | None:
    if task.retry_count is None and task.disable_hard_timeout is None and task.disable_window is None:
        return None
    return {
        "retry_count": task.retry_count,
        "disable_hard_timeout": task.disable_hard_timeout,
        "disable_window": task.disable_window,
    }


def _timeout_error(attempting: Attempting) -> TaskTimeoutError:
    return TaskTimeoutError(
        f"{attempting.task} timed out after {attempting.timeout:g} seconds and was terminated. Give it more time "
        "(worker_timeout on the task, or [worker] timeout), or split it."
    )


def _kind(error: BaseException) -> str:
    if isinstance(error, TaskTimeoutError):
        return "timeout"
    if isinstance(error, TaskCancelledError):
        return "cancelled"
    return "lost" if isinstance(error, WorkerLostError) else "failed"

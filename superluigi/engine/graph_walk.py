"""The first half of a worker: find out what there is to do, and tell the scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from luigi.event import Event
from luigi.task import Task
from luigi.task_status import DISABLED, DONE, FAILED, PENDING, UNKNOWN

from superluigi import graph
from superluigi.engine.clashes import Clashes
from superluigi.errors import USERS_CODE, OutputClashError, message_of, tellable
from superluigi.execution.attempt import trigger
from superluigi.execution.observer import Observer
from superluigi.luigi_compat.engine import WorkerBase
from superluigi.luigi_compat.tasks import owners_of, param_visibilities
from superluigi.runs import families, logs, tracebacks
from superluigi.runs.completeness import CheckError, CompleteMany, Completeness
from superluigi.runs.context import RunContext
from superluigi.runs.report import FailedAttempt, Failure
from superluigi.runs.telling import Teller
from superluigi.scheduler.limits import Limits
from superluigi.scheduler.scheduler import ReadyScheduler
from superluigi.scheduler.terms import Terms, family_of, module_of, text_of

logger = logs.logger


class GraphWalker(WorkerBase):
    """Walks the graph: complete() and requires() are asked once per task, a level of the graph at a time."""

    def __init__(
        self,
        scheduler: object = None,
        run: RunContext | None = None,
        *,
        worker_id: str | None = None,
        worker_processes: int = 1,
        assistant: bool = False,
        complete_many: CompleteMany | None = None,
        limits: Limits | None = None,
        observer: Observer | None = None,
        **config: object,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            config.setdefault("no_install_shutdown_handler", True)  # only the main thread may install it
        super().__init__(scheduler, worker_id, worker_processes, assistant, **config)
        self.results_of_forks.close()  # Luigi's own, for its forked processes
        self.luigi_run = run or RunContext()
        self._completeness = Completeness(self.luigi_run, complete_many)
        self.limits = limits or Limits()
        self._observer = observer or Observer()
        #: Our scheduler lives in this process: it asks for parameters only when it needs them.
        self._near = isinstance(self.scheduler, ReadyScheduler)
        if self._near:
            self.scheduler.lend(self.worker_id, self.tasks)
        #: Static requirements of every task that was not complete.
        self.requirements: dict[str, list[Task]] = {}
        #: What tasks asked for by `yield` while they ran: id of the asking one → id → task.
        self.discovered: dict[str, dict[str, Task]] = {}
        self._clashes = Clashes(self._asked_for)
        self._is_running = False
        self.failures: dict[str, Failure] = {}
        self.failed_attempts: list[FailedAttempt] = []
        self._teller = Teller()

    def add(self, task: Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Add `task` and everything it requires; whether all could be scheduled.

        `multiprocess` and `processes` are Luigi's words for asking in parallel and are not needed here.
        """
        return self.add_all([task])

    def add_all(self, tasks: Sequence[Task]) -> bool:
        """Add several tasks in one walk, level by level, asking each level's tasks together.

        Raises:
            OutputClashError: two of the tasks have one place for their outputs, and nothing runs yet; later, the
                second of them fails.
        """
        self.add_succeeded = True
        for task in tasks:
            self.validate(task)
        if self.first_task is None and tasks:
            self.first_task = tasks[0].task_id
        seen: dict[str, Task] = {}
        for task in tasks:
            families.refuse_two(task, seen.setdefault(task.task_id, task))
        level = list(seen.values())
        while level:
            following: list[Task] = []
            waiting = 0
            for task, answer in zip(level, self._completeness.ask(level), strict=True):
                for requirement in self._schedule_or_mail(task, answer):
                    known = seen.get(requirement.task_id)
                    if known is None:
                        seen[requirement.task_id] = requirement
                        following.append(requirement)
                    elif known is not requirement:
                        families.refuse_two(known, requirement)
                if waiting < self.worker_processes and task.task_id in self.requirements:
                    waiting += 1
                    self._expect(task, waiting)
            level = following
        if self.requirements and not self._is_running:  # where nothing will run nothing is overwritten either
            for task in list(self.tasks.values()):
                self._clashes.add(task)
        return bool(self.add_succeeded)

    def _asked_for(self, task: Task) -> list[Task]:
        return list(self.discovered.get(task.task_id, {}).values())

    def _expect(self, task: Task, count: int) -> None:
        """`count` tasks that may run at the same time are going to run, `task` among them."""

    def _schedule_or_mail(self, task: Task, answer: bool | CheckError) -> list[Task]:
        """`_schedule`; a mail is sent when that fails for a reason that is not the task's, e.g. a lost luigid."""
        try:
            return self._schedule(task, answer)
        except Exception as error:
            trace = tracebacks.text_of(error)
            self.log_unexpected_error(task)
            trigger(task, Event.BROKEN_TASK, task, error)
            self._mail_of(self.mail_unexpected_error, task, trace)
            raise

    def _mail_of(self, send: Callable[..., None], task: Task, what: object) -> None:
        """Mail what went wrong. A mail that cannot be sent is a warning: the task is no better for it."""
        try:
            send(task, what)
        except Exception as error:  # noqa: BLE001 - whatever a mail server, or its library, comes up with
            logger.warning("The mail about %s could not be sent: %s", task.task_id, message_of(error))

    def needs(self, task_id: str) -> Iterator[Task]:
        """What a task requires, statically and by `yield`, as far as this worker has heard."""
        yield from self.requirements.get(task_id, ())
        yield from self.discovered.get(task_id, {}).values()

    def _schedule(self, task: Task, answer: bool | CheckError) -> list[Task]:
        """Tell the scheduler about `task`; what it requires when it must run."""
        terms = Terms()
        try:
            terms = Terms.of_complete(task) if answer is True else Terms.of(task, self.limits)
            status, runnable, requirements = self._judge(task, answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - user code: attributes, requires()
            status, runnable, requirements = self._broken(task, error)
        if terms.disabled:
            status = DISABLED
        self.tasks[task.task_id] = task
        if requirements is not None:
            self.requirements[task.task_id] = requirements
        self._add_task(
            worker=self.worker_id,
            task_id=task.task_id,
            status=status,
            # also what it has asked for before: heard of again (in a circle, say) it still waits for that
            deps=None if requirements is None else [t.task_id for t in self.needs(task.task_id)],
            runnable=runnable,
            priority=terms.priority,
            resources=terms.resources,
            params=task.to_str_params if self._near else task.to_str_params(),
            family=family_of(task),
            module=module_of(task),
            batchable=terms.batchable,
            retry_policy_dict=terms.retry_policy,
            accepts_messages=terms.accepts_messages,
        )
        self._observer.scheduled(task, status)
        return requirements or []

    def _add_task(self, *args: object, **kwargs: Any) -> None:
        """Tell the scheduler, and remember it for the summary."""
        if not self._near:
            super()._add_task(*args, **kwargs)
            return
        task_id, status = kwargs["task_id"], kwargs["status"]
        task = self.tasks.get(task_id)
        if task is not None:
            self.task_history.append((task, status, kwargs["runnable"]))
            kwargs["param_visibilities"] = param_visibilities(task)
            if status == FAILED:
                kwargs["owners"] = _owners(task)
        if task_id in self.batches:
            for batched in self.batches.pop(task_id):
                self.task_history.append((batched, status, True))
        self.scheduler.add_task(**kwargs)
        logger.info("Informed scheduler that task   %s   has status   %s", task_id, status)

    def _judge(self, task: Task, answer: bool | CheckError) -> tuple[str, bool, list[Task] | None]:
        """Status, whether we can run it, and the requirements of a task that must run."""
        limit = self.settings.task_limit
        if limit is not None and len(self.tasks) >= limit:
            logger.warning("Will not run %s or any dependencies due to exceeded task-limit of %d", task, limit)
            return UNKNOWN, False, None
        if isinstance(answer, CheckError):
            self.add_succeeded = False
            trigger(task, Event.DEPENDENCY_MISSING, task)
            self._mail_of(self.mail_complete_error, task, answer.trace)
            self._tell(self._note_failure(task, "scheduling", answer.error, answer.trace))
            return UNKNOWN, False, None
        if self._is_running:
            try:
                self._clashes.add(task)
            except OutputClashError as error:
                return self._broken(task, error)
        if answer:
            trigger(task, Event.DEPENDENCY_PRESENT, task)
            return DONE, False, None
        if graph.is_external(task):
            trigger(task, Event.DEPENDENCY_MISSING, task)
            return PENDING, bool(self.settings.retry_external_tasks), None
        requirements = self._completeness.requirements(task)
        self.announce_batcher(task)
        for requirement in requirements:
            trigger(task, Event.DEPENDENCY_DISCOVERED, task, requirement)
        return PENDING, True, requirements

    def _broken(self, task: Task, error: BaseException) -> tuple[str, bool, None]:
        trace = tracebacks.text_of(error)
        error = tellable(error, trace)
        self.add_succeeded = False
        trigger(task, Event.BROKEN_TASK, task, error)
        self._mail_of(self.mail_dependency_error, task, trace)
        self._tell(self._note_failure(task, "scheduling", error, trace))
        return UNKNOWN, False, None

    def _note_failure(
        self, task: Task, kind: str, error: BaseException, trace: str = "", log: tuple[str, ...] = (), host: str = ""
    ) -> Failure:
        before = self.failures.pop(task.task_id, None)
        attempts = 1 if before is None else before.attempts + 1
        file = _log_file(task) if kind != "scheduling" else ""
        failure = Failure(task.task_id, text_of(task), kind, error, trace, log, attempts, host, task, file)
        self.failures[task.task_id] = failure
        return failure

    def _tell(self, failure: Failure, again: bool = False) -> None:
        """Say that a task has failed, where and when that happens."""
        logs.tell_failure(self._teller.text(failure, again), final=not again)


def _log_file(task: Task) -> str:
    """The file that holds what the task's last attempt printed; "" where that is not kept."""
    ask = graph.written(task, "_superluigi_log_file")
    with USERS_CODE:
        return str(ask()) if callable(ask) else ""
    return ""


def _owners(task: Task) -> list[str]:
    """Who wants to hear of the task's failures; none where that cannot be told."""
    try:
        return owners_of(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - user code
        logger.warning("The owner_email of %s cannot be told: %s", task, tracebacks.text_of(error))
        return []

"""Luigi's worker over an executor: it asks the scheduler, the executor runs the attempts."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from luigi.event import Event
from luigi.scheduler import WORKER_STATE_DISABLED
from luigi.task import Task
from luigi.task_status import DONE, FAILED, PENDING
from luigi.worker import SchedulerMessage, TaskStatusReporter, rpc_message_callback

from superluigi.engine.aside import SetAside
from superluigi.engine.backends import AttemptLost, BackendRegistry, explained, refuse_other_than_futures
from superluigi.engine.interruption import end_elsewhere, end_threads, programs_of
from superluigi.engine.mail import Mail
from superluigi.engine.outcomes import OutcomeRecorder
from superluigi.engine.running_attempt import (
    START_SECONDS,
    CompletedView,
    RunningAttempt,
    failed_at_start,
    give_up,
    timeout_error,
)
from superluigi.errors import (
    DefinitionError,
    ExecutionError,
    ExecutorLostError,
    OptionError,
    TaskCancelledError,
    TaskTimeoutError,
    tellable,
)
from superluigi.execution.addresses import addresses
from superluigi.execution.attempt import AttemptResult, fire, run_attempt, trigger
from superluigi.execution.messages import REPORTS, RESPOND
from superluigi.execution.observer import ObservedReporter
from superluigi.execution.process.process_tree import end_all
from superluigi.execution.process.raising import Interruptible
from superluigi.execution.process.signals import no_second_interrupt
from superluigi.execution.serialization import BEGIN
from superluigi.runs import logs
from superluigi.runs.context import RunContext
from superluigi.scheduler.terms import Terms

logger = logs.logger

#: A worker that is done waits no longer for a ping under way: to a luigid that is gone it takes minutes to fail.
PING_SECONDS = 2.0


class Worker(OutcomeRecorder):
    """Schedules a graph and runs it through executors; otherwise Luigi's worker, option for option.

    Differences, all of them in what it costs: complete() and requires() are asked once per task and
    run (many tasks at a time when asking is slow), requirements are not asked again unless a task
    without a guarantee of its own has just made them, and it waits for events instead of sleeping.
    """

    def __init__(
        self,
        scheduler: object = None,
        run: RunContext | None = None,
        *,
        backends: BackendRegistry | None = None,
        shares_work: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(scheduler, run, **options)
        #: Others work for the same scheduler, and what they make of ours is waited for.
        self.shares_work = shares_work
        self._arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._backends = backends or BackendRegistry(self.luigi_run, None, self.worker_processes)
        self._owns_backends = backends is None
        #: What may go on in processes of others, after an interruption.
        self.go_on: list[Task] = []
        self._aside = SetAside(self.luigi_run, self._observer, self._go_on)
        self._resent: set[str] = set()
        self._mail = Mail()

    def _expect(self, task: Task, count: int) -> None:
        self._backends.prestart(task, count)

    # -- running

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        """Stop the keep-alive thread and end what still runs."""
        self.keep_alive_thread.stop()
        self.keep_alive_thread.join(PING_SECONDS)
        if self._owns_backends:
            self._backends.close(abort=kind is not None or bool(self.running))

    def run(self) -> bool:
        """Run until nothing is left that this worker could do; whether every task it ran succeeded."""
        self.run_succeeded = True
        self._is_running = True
        self.announce()
        try:
            self._loop()
        except BaseException:
            with no_second_interrupt():
                programs = programs_of(self.running.values())  # a thread that ends leaves them to others
                self.go_on = end_elsewhere(self.running.values())
                self._backends.close(abort=True)
                end_threads(self.running.values())
                end_all(programs)
                self._aside.given_up()
            raise
        return bool(self.run_succeeded)

    def _loop(self) -> None:
        while True:
            while self._occupied() >= self.worker_processes > 0:
                self._handle_next_task()
            if self._look_aside():
                continue
            response = self._get_work()
            if response.worker_state == WORKER_STATE_DISABLED:
                self.phase_out()
            if response.task_id is not None:
                self._run_task(response.task_id)
            elif self.running:
                self._handle_next_task()
            elif not self._wait_for_work(response):
                break
        while self.running:
            self._look_aside()
            self._handle_next_task()

    def _occupied(self) -> int:
        """How many places are taken: what another process makes takes none."""
        return len(self.running) - len(self._aside)

    def _look_aside(self) -> bool:
        """Look after what other processes make; whether something came of it."""
        if not self._aside or not self.asks_no_more:
            return self._aside.look(self.worker_processes - self._occupied())
        for attempting in self._aside.given_up():
            attempting.ending = TaskCancelledError(f"{attempting.task} was no longer waited for: the run ends.")
            self._finish_ended(attempting)
        return True

    def _go_on(self, attempting: RunningAttempt) -> None:
        """Try again what another process makes no longer."""
        if attempting.backend.inline:
            return self._make_here(attempting)
        if attempting.timeout and not attempting.backend.enforces_timeout:
            attempting.deadline = time.monotonic() + attempting.timeout + START_SECONDS
        return self._submit(attempting)

    def _make_here(self, attempting: RunningAttempt) -> None:
        outcome = self._attempt_here(attempting)
        while outcome.again:
            outcome = self._attempt_here(attempting)
        if outcome.elsewhere is not None:
            self._aside.put(attempting, outcome.elsewhere)
        else:
            self._record_outcome(attempting.task.task_id, outcome, attempting.terms)

    def _get_work(self) -> Any:
        response = super()._get_work()
        history = self.work_history
        if history and not self._others(history[-1]):
            history.pop()  # the summary reads only what others run
        return response

    def _others(self, entry: dict[str, Any]) -> bool:
        return entry["task_id"] is None and any(r["worker"] != self.worker_id for r in entry["running_tasks"] or ())

    def _wait_for_work(self, response: object) -> bool:
        """Nothing runs and nothing is ready: wait a while if something may become ready, else False."""
        due = None if self.asks_no_more else self._next_due()
        if due is not None:
            time.sleep(max(0.0, min(due - time.time(), self.settings.wait_interval)))
            return True
        import datetime

        self.idle_since = self.idle_since or datetime.datetime.now()
        if self.asks_no_more or not (self._is_made_by_others(response) or self.waits_for_others(response)):
            return False
        time.sleep(self.settings.wait_interval)
        return True

    def _is_made_by_others(self, response: Any) -> bool:
        """Whether tasks of ours are made by other workers just now, and this run takes what others make."""
        running = (response.running_tasks or ()) if self.shares_work else ()
        return any(task["worker"] != self.worker_id for task in running)

    def _next_due(self) -> float | None:
        """When (seconds since the epoch) a task of ours becomes ready by itself; None if none does."""
        ask = getattr(self.scheduler, "next_due", None)
        due: float | None = ask(self.worker_id) if ask is not None else None
        return due

    def _run_task(self, task_id: str) -> None:
        self.idle_since = None
        if task_id in self.running:
            time.sleep(self.settings.wait_interval)  # a remote scheduler and we disagree: let it catch up
            return
        task: Task = self.tasks[task_id]
        self._observer.started(task)
        try:
            terms = Terms.of(task, self.limits)
            timeout = self.settings.timeout if terms.timeout is None else terms.timeout
            backend = self._backends.for_task(task, timeout, never_inline=self.settings.force_multiprocessing)
        except (DefinitionError, ExecutionError) as error:  # what it says of itself, where it wants to run
            if isinstance(error, OptionError):  # what the run says
                raise
            self._record_outcome(task_id, failed_at_start(task, error), Terms())
            return
        attempting = RunningAttempt(task, backend, terms)
        attempting.status_reporter = self._reporter(attempting)
        if timeout:
            attempting.timeout = timeout
            if not backend.enforces_timeout:
                attempting.deadline = time.monotonic() + timeout + START_SECONDS
        if backend.reports_start and self._near and self.limits.per_time:
            resources = terms.resources
            attempting.delayed = resources if self.scheduler.rates.defer(resources) else None
        self.running[task_id] = attempting  # first: Ctrl-C finds it, however far its way to the executor is
        self._mail.give_out(attempting)
        if backend.inline:
            self._make_here(attempting)
        else:
            self._submit(attempting)

    def _reporter(self, attempting: RunningAttempt) -> TaskStatusReporter:
        task, backend = attempting.task, attempting.backend
        messages = queue.SimpleQueue[object]() if attempting.terms.accepts_messages and backend.shares_memory else None

        def freed() -> None:
            self._arrived.put(("message", (task.task_id, "freed", ())))  # something may start now: ask for work

        return ObservedReporter(self.scheduler, task.task_id, self.worker_id, messages, self._observer, freed)

    @rpc_message_callback  # type: ignore[untyped-decorator]
    def dispatch_scheduler_message(self, task_id: str, message_id: str, content: str, **payload: Any) -> None:
        """Luigi's: a message for a task; kept until an attempt of it can hear it."""
        if task_id not in self.made:
            self._mail.keep(task_id, SchedulerMessage(self.scheduler, task_id, message_id, content, **payload))
            self._mail.give_out(self.running.get(task_id))

    @rpc_message_callback  # type: ignore[untyped-decorator]
    def set_worker_processes(self, n: int) -> None:
        """Luigi's: from now on, more or fewer tasks at a time."""
        super().set_worker_processes(n)
        self._backends.resize(self.worker_processes)

    def _attempt_here(self, attempting: RunningAttempt) -> AttemptResult:
        task = attempting.task
        with Interruptible() as attempting.call:
            return run_attempt(
                task,
                self.luigi_run,
                check=self._to_check(task),
                known=CompletedView(self.made, self._completeness.known),
                reporter=attempting.status_reporter,
                worker_id=self.worker_id,
                check_complete_on_run=self.settings.check_complete_on_run,
                process_context=self.settings.task_process_context,
                waits=False,
            )

    def _to_check(self, task: Task) -> list[Task]:
        if not self.settings.check_unfulfilled_deps:
            return []
        known = self._completeness.known
        return [t for t in self._static(task) if t.task_id in self._unverified or not known.get(t.task_id)]

    def _static(self, task: Task) -> list[Task]:
        if task.task_id in self.requirements:
            return self.requirements[task.task_id]
        return list(task.deps())  # handed to us by the scheduler, e.g. a batch or for an assistant

    def _submit(self, attempting: RunningAttempt) -> None:
        task = attempting.task
        task_id = task.task_id
        known = {t.task_id for t in self._static(task)} | set(self.discovered.get(task_id, ()))
        known = {i for i in known if i in self.made or self._completeness.known.get(i)}
        future: Future[Any]
        try:
            if attempting.backend.shares_memory:
                future = attempting.backend.executor.submit(self._attempt_here, attempting)
            else:
                future = attempting.backend.submit_request(
                    task,
                    self._to_check(task),
                    frozenset(known),
                    worker_id=self.worker_id,
                    check_complete_on_run=self.settings.check_complete_on_run,
                    process_context=self.settings.task_process_context,
                    expected=addresses(task, self._static(task)),
                    on_message=lambda message: self._arrived.put(("message", message)),
                    timeout=attempting.timeout,
                    report_start=attempting.delayed is not None,
                )
            refuse_other_than_futures(future, attempting.backend.executor)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it cannot be pickled, say: that attempt has failed, not the run
            future = Future()
            future.set_exception(explained(error))
        attempting.future = future
        self._mail.give_out(attempting)
        future.add_done_callback(lambda _: self._arrived.put(("done", (task_id, future))))

    def _handle_next_task(self) -> None:
        """Wait for one thing to happen: an attempt ends, a task reports, a time limit passes."""
        try:
            kind, value = self._arrived.get(timeout=self._patience())
        except queue.Empty:
            kind, value = "nothing", None
        if kind == "nothing":  # out of the handler: an interruption would carry its exception along
            self._end_late()
            return
        if kind == "message":
            self._take_message(*value)
            return
        self._take_messages()  # what the attempt reported comes before its end
        task_id, future = value
        attempting = self.running.get(task_id)
        if attempting is not None and attempting.future is future:
            outcome = self._outcome(attempting, future)
            if outcome is not None and attempting.ending is not None and outcome.status != DONE:
                self._finish_ended(attempting)
            elif outcome is not None:
                self._record_outcome(task_id, outcome, attempting.terms)
        if self._arrived.empty():
            self._end_late()

    def _patience(self) -> float:
        limits = [a.deadline for a in self.running.values() if a.deadline is not None and not a.timed_out]
        left = [max(0.0, limit - time.monotonic()) for limit in limits]
        due = self._next_due()
        if due is not None:
            left.append(max(0.001, due - time.time()))
        if self._occupied() < self.worker_processes:
            left += self._aside.patience()
        return float(min([*left, self._backends.poll_seconds(), self.settings.wait_interval]))

    def _take_message(self, task_id: str, method: str, args: Sequence[object]) -> None:
        attempting = self.running.get(task_id)
        if attempting is not None and method == BEGIN:
            self._begun(attempting)
            if attempting.timeout:
                attempting.deadline = time.monotonic() + attempting.timeout
        elif attempting is not None and method in REPORTS:
            getattr(attempting.status_reporter, method)(*args)
        elif attempting is not None and method == RESPOND:
            self.scheduler.add_scheduler_message_response(task_id, *args)

    def _take_messages(self) -> None:
        for message in self._backends.poll_messages():
            self._take_message(*message)

    def _end_late(self) -> None:
        self._take_messages()
        for attempting, error in self._aside.ended():
            self._record_outcome(attempting.task.task_id, self._perished(attempting, error), attempting.terms)
        now = time.monotonic()
        for attempting in list(self.running.values()):
            if attempting.deadline is not None and now > attempting.deadline and not attempting.timed_out:
                attempting.timed_out = True
                if attempting.ending is not None:
                    if give_up(attempting):
                        self._finish_ended(attempting)
                        self._backends.drop(attempting.backend)
                elif attempting.future is not None:
                    attempting.backend.end(attempting.future, timeout_error(attempting))

    def _outcome(self, attempting: RunningAttempt, future: Future[object]) -> AttemptResult | None:
        """The outcome of an ended attempt; None when it was sent again in another way."""
        task = attempting.task
        try:
            outcome = attempting.backend.open(future, task)
        except AttemptLost as lost:
            if lost.resend and task.task_id not in self._resent and attempting.ending is None:
                self._resent.add(task.task_id)
                self._submit(attempting)
                return None
            return self._perished(attempting, lost.error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and future.exception() is not error:
                raise  # this is an interruption of ours; what the future holds, the task has raised itself
            return self._perished(attempting, error)
        fire(task, outcome.events)
        if outcome.elsewhere is not None and attempting.ending is None:
            self._aside.put(attempting, outcome.elsewhere)
            return None
        if outcome.again and attempting.ending is None:
            if attempting.deadline is not None:
                attempting.deadline = time.monotonic() + attempting.timeout
            self._submit(attempting)
            return None
        return outcome

    def _perished(self, attempting: RunningAttempt, error: BaseException) -> AttemptResult:
        """An attempt that never came back: its process died, or it was ended for being late."""
        task = attempting.task
        error = tellable(error)
        if attempting.ending is not None:
            return AttemptResult(task.task_id, PENDING, error=attempting.ending, started=attempting.started)
        if isinstance(error, TaskTimeoutError):
            trigger(task, Event.TIMEOUT, task, str(error))
        elif isinstance(error, TaskCancelledError):
            trigger(task, Event.FAILURE, task, error)
        else:
            trigger(task, Event.PROCESS_FAILURE, task, str(error))
        lost = isinstance(error, ExecutorLostError)
        return AttemptResult(
            task.task_id, FAILED, expl=str(error), error=error, executor_lost=lost, started=attempting.started
        )

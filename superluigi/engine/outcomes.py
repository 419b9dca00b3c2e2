"""What a finished attempt means for the run: what the scheduler hears of it, what is made, what failed, what is new."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from luigi.task import Task
from luigi.task_status import DISABLED, DONE, FAILED, PENDING

from superluigi import graph
from superluigi.engine.graph_walk import GraphWalker
from superluigi.engine.running_attempt import RunningAttempt, ask_to_end, failed_at_start, kind_of
from superluigi.errors import USERS_CODE, DefinitionError, TargetMissingError, TaskCancelledError
from superluigi.execution.attempt import MISSING_EXTERNAL, AttemptResult, ends_retries, shown
from superluigi.runs import families
from superluigi.runs.context import RunContext
from superluigi.runs.report import FailedAttempt, Failure
from superluigi.scheduler.terms import Terms, family_of, module_of

#: So often a task may yield what is complete and begin again: a listing of a store may lag behind.
MOST_IN_VAIN = 20


class OutcomeRecorder(GraphWalker):
    """The half of the worker that begins when an attempt has ended."""

    def __init__(
        self,
        scheduler: object = None,
        run: RunContext | None = None,
        *,
        on_error: str = "continue",
        remember: Callable[[str], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scheduler, run, **options)
        self._on_error = on_error
        self._remember = remember or (lambda task_id: None)
        #: Ids of what this run has made, in order (a dict for its order).
        self.made: dict[str, None] = {}
        #: Ids of what turned out to be up to date when its turn came, in a run that refreshes.
        self.skipped: dict[str, None] = {}
        #: Id of a batch that failed → the tasks in it, which may be made later, together or not.
        self.failed_batches: dict[str, list[Task]] = {}
        #: Ids of what was ended, unfinished, because something else had failed.
        self.ended: dict[str, None] = {}
        #: Id of a task → how often in a row it has yielded nothing but what was complete.
        self._in_vain: dict[str, int] = {}
        #: Made by this run, but it was not looked whether the outputs are really there.
        self._unverified: set[str] = set()

    def _begun(self, attempting: RunningAttempt) -> None:
        if attempting.delayed is not None:
            self.scheduler.rates.start(attempting.delayed)
            attempting.delayed = None

    def _record_outcome(self, task_id: str, outcome: AttemptResult, terms: Terms) -> None:
        """Tell scheduler, listeners and run what came of an attempt."""
        task: Task = self.tasks[task_id]
        outcome = self._unless_endless(task, outcome)
        for confirmed in outcome.confirmed:
            self._completeness.done(confirmed)
            self._unverified.discard(confirmed)
        status = outcome.status
        if status == DONE:
            self._note_success(task, outcome)
        failed = self._note_attempt_failed(task, outcome) if status == FAILED else None
        new_deps = self._discover(task, outcome.requirements)
        self._add_task(
            worker=self.worker_id,
            task_id=task_id,
            status=status,
            expl=_as_json(outcome.expl),
            resources=terms.resources,
            runnable=None,
            params=task.to_str_params if self._near else task.to_str_params(),
            family=family_of(task),
            module=module_of(task),
            new_deps=new_deps,
            assistant=self.is_assistant,
            retry_policy_dict=terms.retry_policy,
        )
        final = isinstance(outcome.error, TaskCancelledError) or ends_retries(task, outcome.error)
        if failed is not None:
            self._tell(failed, again=not final and self._will_retry(task_id))
        if final:  # it was asked to end, or its data is known to be wrong: no retry
            self.scheduler.add_task(worker=self.worker_id, task_id=task_id, status=DISABLED, family=family_of(task))
        attempting = self.running.pop(task_id, None)
        if attempting is not None:
            self._begun(attempting)
        self._observer.ended(task, status, outcome)
        if outcome.missing and self.settings.check_unfulfilled_deps:
            self._reschedule(task, outcome.missing)
        self.run_succeeded &= status == DONE or bool(new_deps)
        lost = outcome.executor_lost
        if status == FAILED and (lost or (self._on_error == "stop" and not self._will_retry(task_id))):
            self.asks_no_more = True
            if not lost:
                for other in list(self.running.values()):
                    ask_to_end(other, task)

    def _unless_endless(self, task: Task, outcome: AttemptResult) -> AttemptResult:
        """A task that yields what is complete over and over again has failed: its `custom_complete` is never true."""
        asked = [t.task_id for t in outcome.requirements]
        if not asked or not all(i in self.made or self._completeness.known.get(i) for i in asked):
            self._in_vain.pop(task.task_id, None)
            return outcome
        self._in_vain[task.task_id] = times = self._in_vain.get(task.task_id, 0) + 1
        if times < MOST_IN_VAIN:
            return outcome
        said = f"What run() of {task} yields is complete, but its custom_complete has not returned True {times} times."
        return failed_at_start(task, DefinitionError(f"{said} Leave it out, and each of these tasks is asked."))

    def _finish_ended(self, attempting: RunningAttempt) -> None:
        """An attempt has been ended, although nothing was wrong with it: it has neither failed nor been made."""
        task = attempting.task
        for one in [task, *self._batch_members(task.task_id)]:
            self.ended[one.task_id] = None
        self.running.pop(task.task_id, None)
        self._begun(attempting)
        # the scheduler believes only this of a running task
        told = {"worker": self.worker_id, "task_id": task.task_id, "family": family_of(task)}
        self.scheduler.add_task(**told, status=FAILED, expl=_as_json(str(attempting.ending)))
        self._observer.ended(task, PENDING, AttemptResult(task.task_id, PENDING, error=attempting.ending))
        self.run_succeeded = False

    def _note_success(self, task: Task, outcome: AttemptResult) -> None:
        (self.skipped if outcome.skipped else self.made)[task.task_id] = None
        self.failures.pop(task.task_id, None)
        if outcome.skipped or graph.is_external(task) or graph.written(task, "commits_outputs"):
            self._completeness.done(task.task_id)
        else:
            self._unverified.add(task.task_id)
            if self.luigi_run.forces(task):  # nothing but this run knows that it has been made
                self._completeness.done(task.task_id)
                self._remember(task.task_id)
            else:
                self._completeness.forget(task.task_id)
        for batched in self._batch_members(task.task_id):
            self.made[batched.task_id] = None
            self.failures.pop(batched.task_id, None)
            if self.luigi_run.forces(batched):
                self._remember(batched.task_id)

    def _batch_members(self, task_id: str) -> list[Task]:
        members = self.batches.get(task_id)
        if members is None:
            return []
        kept = self.batches[task_id] = list(members)
        return kept

    def _note_attempt_failed(self, task: Task, outcome: AttemptResult) -> Failure:
        error = outcome.error
        if error is None:  # only an external task fails without one
            error = TargetMissingError(f"{task}: {MISSING_EXTERNAL}")
        external = graph.is_external(task)
        if not (external and self.settings.retry_external_tasks):
            self._mail_of(self.mail_task_failure, task, outcome.expl)
        kind = "missing" if external else kind_of(error)
        if outcome.started:
            told = f"{type(error).__name__}: {error}"
            worker = f"{outcome.host}-{outcome.pid}"
            self.failed_attempts.append(FailedAttempt(task.task_id, told, outcome.started, outcome.duration, worker))
        members = self._batch_members(task.task_id)
        if members:
            self.failed_batches[task.task_id] = members
        noted = [
            self._note_failure(one, kind, error, outcome.traceback, outcome.log, outcome.host)
            for one in members or [task]
        ]
        return replace(noted[0], task=str(task)) if members else noted[0]

    def _will_retry(self, task_id: str) -> bool:
        ask = getattr(self.scheduler, "will_retry", None)
        return bool(ask(task_id)) if ask is not None else False

    def _discover(self, task: Task, requirements: Sequence[Task]) -> list[str]:
        if not requirements:
            return []
        canonical = [self.tasks.get(t.task_id, t) for t in requirements]
        for given, known in zip(requirements, canonical, strict=True):
            families.refuse_two(known, given)
        self.discovered.setdefault(task.task_id, {}).update((t.task_id, t) for t in canonical)
        self.add_all([t for t in canonical if t.task_id not in self.made])
        return [t.task_id for t in canonical]

    def _reschedule(self, task: Task, missing: Sequence[str]) -> None:
        """Requirements that were there are gone: make them again, but not for ever."""
        for task_id in missing:
            self.unfulfilled_counts[task_id] += 1
            self._completeness.forget(task_id)
        if all(self.unfulfilled_counts[i] <= self.settings.max_reschedules for i in missing):
            for task_id in missing:
                self.made.pop(task_id, None)
            self._completeness.forget(task.task_id)
            self.add(task)


def _as_json(expl: object) -> str:
    if expl is None:  # as nearly always
        return "null"
    with USERS_CODE:  # with a circle or a broken __repr__
        return json.dumps(expl, default=repr)
    return json.dumps(shown(expl))

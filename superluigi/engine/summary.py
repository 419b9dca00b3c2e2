"""From a worker that has ended to the report of its run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from luigi.execution_summary import LuigiStatusCode
from luigi.task import Task

from superluigi import graph
from superluigi.errors import USERS_CODE, DefinitionError, ExecutionError, OptionError, TargetMissingError
from superluigi.luigi_compat import summary
from superluigi.luigi_compat.engine import resource_limits_of
from superluigi.runs.completeness import is_complete
from superluigi.runs.report import BLOCKED_NAMED, Failure, Report
from superluigi.scheduler.terms import Terms, family_of, text_of

if TYPE_CHECKING:
    from superluigi.engine.worker import Worker

GOOD = (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY)

#: Luigi's partition → our word, the last that applies wins.
STATUS = {
    "already_done": "complete",
    "completed": "ran",
    "not_run": "not run",
    "still_pending_ext": "missing",
    "upstream_run_by_other_worker": "not run",
    "run_by_other_worker": "elsewhere",
    "upstream_scheduling_error": "blocked",
    "upstream_missing_dependency": "blocked",
    "upstream_failure": "blocked",
    "scheduling_error": "scheduling failed",
    "failed": "failed",
}


#: Enough to find a task of each family among.
_LOOKED_AT = 10_000
#: Why a task is not run that says so itself.
DISABLED = "its attribute `disabled` is true, so neither it nor what requires it is run."


class NeverStartedError(OptionError):
    """Tasks of a run could not start, for what they ask or wait for: known at its end, when others have run."""


def build_report(worker: Worker, roots: Sequence[Task]) -> Report:
    """What the worker's history says, in Luigi's words and ours."""
    partition = summary.partition_of(worker)
    tasks = {task.task_id: task for task, *_ in worker.task_history}
    # Luigi tells external tasks by a flag that it does not give again when a task asks for more while it runs
    waiting = {i for i in partition["still_pending_ext"] if not graph.is_external(tasks[i])}
    partition["still_pending_ext"] -= waiting
    partition["still_pending_not_ext"] |= waiting
    _note_made_by_others(partition, tasks, worker)
    _explain_pending(partition, tasks, worker)
    partition["failed"] -= {i for i in partition["failed"] if _made_after_all(i, worker)}
    skipped = partition["completed"] & worker.skipped.keys()
    partition["completed"] -= skipped
    partition["already_done"] |= skipped
    _Shown._params.clear()  # classes may gain parameters between runs
    status = summary.status_of(partition)
    outcomes = {i: word for kind, word in STATUS.items() for i in partition[kind]}
    failures = [f for i, f in worker.failures.items() if outcomes.get(i) in ("failed", "scheduling failed")]
    outcomes.update({failure.task_id: "cancelled" for failure in failures if failure.kind == "cancelled"})
    idle = _ordered(partition["not_run"], worker)
    stuck = [f for task in idle for f in _unschedulable(task, worker)] + _circles(idle, worker)
    outcomes.update({failure.task_id: "scheduling failed" for failure in stuck})
    failures += stuck
    failures += [_missing(task) for task in _ordered(partition["still_pending_ext"], worker)]
    failures += [f for i, f in worker.failures.items() if f.kind == "missing" and outcomes.get(i) == "missing"]
    outcomes.update({task_id: "ended" for task_id in worker.ended if outcomes.get(task_id) == "not run"})
    disabled = [t for i, t in worker.tasks.items() if i not in outcomes and Terms.of_complete(t).disabled]
    failures += [Failure(t.task_id, str(t), "disabled", ExecutionError(DISABLED), instance=t) for t in disabled]
    outcomes.update({task.task_id: "disabled" for task in disabled})
    blocked = _blocked(worker, outcomes)
    return Report(
        run_id=worker.luigi_run.id,
        summary=_summary(partition, tasks, worker),
        status=status.name,
        success=status in GOOD and all(outcomes.get(root.task_id) in ("complete", "ran") for root in roots),
        outcomes=outcomes,
        failures=tuple(_as_missing(worker, f) for f in failures),
        blocked=blocked,
        names=_names(blocked, worker),
        made=tuple(worker.made),
        made_tasks=tuple(task for i in worker.made if (task := worker.tasks.get(i)) is not None),
        failed_attempts=tuple(worker.failed_attempts),
        found_complete=_found_complete(worker, outcomes),
    )


def _found_complete(worker: Worker, outcomes: Mapping[str, str]) -> tuple[Task, ...]:
    """Tasks that were found complete; of wrappers that were, what they gather, which did not have to be scheduled."""
    found = {i: task for i, task in worker.tasks.items() if outcomes.get(i) == "complete"}
    waiting = list(found)
    while waiting and len(found) < _LOOKED_AT:
        for task in worker._completeness.gathered(waiting.pop()):
            if task.task_id not in outcomes and task.task_id not in found:
                found[task.task_id] = task
                waiting.append(task.task_id)
    return tuple(found.values())


def _made_after_all(task_id: str, worker: Worker) -> bool:
    """Whether a batch failed whose tasks have all been made since; Luigi would not forget it."""
    members = worker.failed_batches.get(task_id)
    return members is not None and all(member.task_id in worker.made for member in members)


def _summary(partition: dict[str, set[str]], tasks: Mapping[str, Task], worker: Worker) -> str:
    """Luigi's summary text."""
    shown = {kind: [_Shown(tasks[task_id]) for task_id in ids] for kind, ids in partition.items()}
    return summary.text_of(shown, worker)


class _Shown:
    """A task as Luigi's summary sees it, which sorts by text and asks the parameters for each text anew."""

    __slots__ = ("_task", "task_family")
    _params: ClassVar[dict[type, list[object]]] = {}

    def __init__(self, task: Task) -> None:
        self._task = task
        self.task_family = family_of(task)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def get_params(self) -> list[Any]:
        kind = type(self._task)
        params = self._params.get(kind)
        if params is None:
            params = self._params[kind] = [(name, _InARow(parameter)) for name, parameter in kind.get_params()]
        return params

    def __str__(self) -> str:
        task, kind = self._task, type(self._task)
        if kind.__str__ is not Task.__str__ or kind.__repr__ is not Task.__repr__:
            return text_of(task)
        values = task.param_kwargs
        said = ", ".join(f"{n}={p.serialize(values[n])}" for n, p in self.get_params() if p.significant)
        return f"{self.task_family}({said})"


class _InARow:
    """A parameter as Luigi's summary asks it for the next value; where there is none (None, the last day), that is none
    of the values.
    """

    __slots__ = ("_parameter",)

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parameter, name)

    def next_in_enumeration(self, value: object) -> object:
        try:
            return self._parameter.next_in_enumeration(value)
        except Exception:  # noqa: BLE001  the parameter's own code, after all has been made
            return object()


def _ordered(ids: set[str], worker: Worker) -> list[Task]:
    return [task for task_id, task in worker.tasks.items() if task_id in ids] if ids else []


def _missing(task: Task) -> Failure:
    outputs = _paths(task)
    where = f" Expected at {', '.join(outputs)}." if outputs else ""
    error = TargetMissingError(
        f"The external input {task} does not exist, and no task of this run makes it.{where} Provide it, or "
        "check its parameters."
    )
    return Failure(task.task_id, str(task), "missing", error)


def _unschedulable(task: Task, worker: Worker) -> list[Failure]:
    """Whether a task that never started asks for more of a resource than there is."""
    totals = resource_limits_of(worker.scheduler)
    if not isinstance(totals, Mapping):
        return []  # a central scheduler has its own
    try:
        needs = Terms.of(task, worker.limits).resources
    except DefinitionError:
        return []  # it could tell when it was scheduled
    lacking = {name: amount for name, amount in needs.items() if amount > totals.get(name, 1)}
    if not lacking:
        return []
    said = ", ".join(f"{amount} of {name}, of which there is {totals.get(name, 1)}" for name, amount in lacking.items())
    error = NeverStartedError(
        f"{task} never started: it needs {said}. Give more (run_task(resources=…), rate_limits, or [resources] of "
        "Luigi's configuration), or let it ask for less."
    )
    return [Failure(task.task_id, str(task), "scheduling", error)]


def _circles(tasks: Sequence[Task], worker: Worker) -> list[Failure]:
    """One failure for each circle of tasks that wait for each other, by what they require or have yielded."""
    by_id = {task.task_id: task for task in tasks}
    below = {i: [t.task_id for t in worker.needs(i) if t.task_id in by_id] for i in by_id}
    found: list[Failure] = []
    while len(found) < _CIRCLES_NAMED:
        try:
            for _ in graph.walk(list(below), below.__getitem__):
                pass
            break
        except graph.CycleError as circle:
            around = [by_id[task_id] for task_id in circle.path]
            names = [str(task) for task in around]
            if len(names) > _CIRCLE_SHOWN:
                half = _CIRCLE_SHOWN // 2
                names = [*names[:half], f"… {len(names) - 2 * half} more …", *names[-half:]]
            error = NeverStartedError(
                f"Tasks wait for each other in a circle: {' -> '.join(names)}. A pipeline needs a beginning: look at "
                "what they require and yield."
            )
            first = around[0]
            found.append(Failure(first.task_id, str(first), "circle", error, instance=first))
            gone = set(circle.path)
            below = {i: [t for t in waits if t not in gone] for i, waits in below.items() if i not in gone}
    return found


#: So many circles are looked for, and so many tasks of one are named.
_CIRCLES_NAMED = 10
_CIRCLE_SHOWN = 12


def _paths(task: Task) -> list[str]:
    with USERS_CODE:
        return [graph.path_text(output) for output in graph.flatten(task.output())]
    return []


def _as_missing(worker: Worker, failure: Failure) -> Failure:
    task = worker.tasks.get(failure.task_id)
    return _missing(task) if failure.kind == "missing" and task is not None and graph.is_external(task) else failure


def _note_made_by_others(partition: dict[str, set[str]], tasks: Mapping[str, Task], worker: Worker) -> None:
    """What another worker of a central scheduler has made meanwhile is complete."""
    if not worker.shares_work:
        return
    made = {i for i in partition["still_pending_not_ext"] if _is_made(tasks[i], worker)}
    for kind in ("still_pending_not_ext", "run_by_other_worker"):
        partition[kind] -= made
    partition["already_done"] |= made


def _is_made(task: Task, worker: Worker) -> bool:
    with USERS_CODE:
        return is_complete(task, worker.luigi_run)
    return False


def _explain_pending(partition: dict[str, set[str]], tasks: Mapping[str, Task], worker: Worker) -> None:
    """Say of every task that is still pending why: Luigi's own rule, without its recursion."""
    by_id = {task_id: tasks[task_id] for task_id in partition["still_pending_not_ext"]}
    for task_id in _requirements_first(by_id, worker):
        explained = False
        for requirement in worker.needs(task_id):
            for kind, causes in _CAUSES.items():
                if any(requirement.task_id in partition[cause] for cause in causes):
                    partition[kind].add(task_id)
                    explained = True
        if not explained and task_id not in partition["run_by_other_worker"]:
            partition["not_run"].add(task_id)


_CAUSES = {
    "upstream_failure": ("ever_failed", "upstream_failure"),
    "upstream_missing_dependency": ("still_pending_ext", "upstream_missing_dependency"),
    "upstream_run_by_other_worker": ("run_by_other_worker", "upstream_run_by_other_worker"),
    "upstream_scheduling_error": ("scheduling_error",),
}


def _requirements_first(by_id: Collection[str], worker: Worker) -> list[str]:
    order: list[str] = []
    seen: set[str] = set()
    for task_id in by_id:
        stack = [(task_id, False)]
        while stack:
            current, expanded = stack.pop()
            if expanded:
                order.append(current)
            elif current not in seen:
                seen.add(current)
                stack.append((current, True))
                below = [t.task_id for t in worker.needs(current)]
                stack.extend((i, False) for i in below if i in by_id and i not in seen)
    return order


def _blocked(worker: Worker, outcomes: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Blocked task → the failed or missing tasks at the root of it, nearest first."""
    culprits = ("failed", "cancelled", "missing", "scheduling failed", "disabled")
    bad = {i for i, word in outcomes.items() if word in culprits}
    if not bad:
        return {}
    waiting = dict.fromkeys(i for i in worker.tasks if outcomes.get(i) in ("blocked", "not run"))
    causes: dict[str, tuple[str, ...]] = {}
    for task_id in _requirements_first(waiting, worker):
        found: dict[str, None] = {}
        for requirement in worker.needs(task_id):
            if requirement.task_id in bad:
                found[requirement.task_id] = None
            found.update(dict.fromkeys(causes.get(requirement.task_id, ())[:_CAUSES_NAMED]))
        if found:
            causes[task_id] = tuple(found)[:_CAUSES_NAMED]
    return causes


def _names(blocked: Mapping[str, Sequence[str]], worker: Worker) -> dict[str, str]:
    """The texts of the first that each failure blocks; writing those of 10,000 would take seconds."""
    told: dict[str, int] = {}
    names: dict[str, str] = {}
    for task_id, causes in blocked.items():
        if any(told.get(cause, 0) < BLOCKED_NAMED for cause in causes):
            names[task_id] = str(worker.tasks[task_id])
            told.update((cause, told.get(cause, 0) + 1) for cause in causes)
    return names


#: So many culprits are named for one blocked task: a root above 10,000 failures would name them all.
_CAUSES_NAMED = 20

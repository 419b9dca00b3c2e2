"""`why`: for every task of a graph, whether it would run, and the reason; nothing is run."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.lineage.records.check_results import findings_in
from superluigi.lineage.staleness import reasons, rebuild_tasks
from superluigi.lineage.staleness.facts import StalenessInputs, public_params
from superluigi.lineage.staleness.reasons import Facts, Reason
from superluigi.runs.completeness import is_complete, is_plain_wrapper
from superluigi.runs.context import RunContext
from superluigi.runs.force import ForcePlan


@dataclass(frozen=True)
class Explanation:
    """One task of a graph, explained."""

    task: luigi.Task
    #: Ids of the tasks it requires.
    requires: tuple[str, ...]
    #: One of the words of `staleness`.
    reason: str
    detail: str
    #: Whether a run with these options would make it.
    runs: bool
    #: `complete`, `stale` (exists, but would not be made like this today), `missing`, or `external`.
    state: str
    facts: Facts

    @property
    def external(self) -> bool:
        """Whether others make it."""
        return graph.is_external(self.task)

    @property
    def task_id(self) -> str:
        """Luigi's id of the task."""
        return str(self.task.task_id)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return {
            "task_id": self.task_id,
            "task_family": self.task.get_task_family(),
            "params": public_params(self.task),
            "requires": list(self.requires),
            "state": self.state,
            "reason": self.reason,
            "detail": self.detail,
            "runs": self.runs,
            "checks": findings_in(self.facts.record),
        }

    def __str__(self) -> str:
        return f"{self.task.get_task_family()}: {Reason(self.reason, self.detail)}"


@guarded
def why(
    root: luigi.Task, *, refresh: str | None = None, plan: ForcePlan | None = None, resumed: RunContext | None = None
) -> list[Explanation]:
    """Every task below `root` (requirements first, the root last) with its reason.

    `refresh` and `plan` are the options of the run in question: without them a run makes what is missing,
    as Luigi does, and staleness is told but does not count. A task whose requirements would run is told as
    `input changed` when the run would make it for that. What `resumed`, a forced run that is to go on, has made
    counts as made.

    Raises:
        OptionError: `refresh` is no known mode.
    """
    if refresh is not None:
        reasons.check_mode(refresh)
    order = list(graph.walk([root], rebuild_tasks.requirements))
    facts = StalenessInputs().many(task for task, _ in order)
    for task, required in order:
        absent = [one.get_task_family() for one in required if facts[graph.key(one)].missing]
        if absent and is_plain_wrapper(task):
            facts[graph.key(task)] = Facts(missing=(f"{', '.join(sorted(set(absent)))} is missing",))
    judged = {graph.key(task): _judged(task, facts[graph.key(task)], plan, resumed) for task, _ in order}
    running = _running(root, order, judged, refresh)
    return [
        Explanation(
            task=task,
            requires=tuple(one.task_id for one in required),
            reason=(reason := _final(task, judged[graph.key(task)], required, running)).word,
            detail=reason.detail,
            runs=task.task_id in running,
            state=_state(task, facts[graph.key(task)]),
            facts=facts[graph.key(task)],
        )
        for task, required in order
    ]


def _judged(task: luigi.Task, facts: Facts, plan: ForcePlan | None, resumed: RunContext | None) -> Reason:
    if plan is not None and plan.forces(task) and not (resumed and is_complete(task, resumed)):
        return Reason(reasons.FORCED)
    return reasons.judge(facts)


def _running(
    root: luigi.Task,
    order: list[tuple[luigi.Task, list[luigi.Task]]],
    judged: dict[Hashable, Reason],
    refresh: str | None,
) -> set[str]:
    """Ids of the tasks that a run would make. Luigi does not look below a complete task; a refresh does."""
    counted = {reasons.FORCED} | (reasons.MODES[refresh] if refresh else {reasons.OUTPUT_MISSING})
    counted -= {reasons.CHECK_CHANGED}  # it is checked, not made
    wanted = {
        task.task_id for task, _ in order if judged[graph.key(task)].word in counted and not graph.is_external(task)
    }
    if refresh is None:
        return _reached(root, order, wanted)
    for task, required in order:
        if not graph.is_external(task) and any(one.task_id in wanted for one in required):
            wanted.add(task.task_id)
    return wanted


def _reached(root: luigi.Task, order: list[tuple[luigi.Task, list[luigi.Task]]], wanted: set[str]) -> set[str]:
    """Those of `wanted` that a walk from the root meets without passing a task that is complete."""
    found = {root.task_id}
    for task, required in reversed(order):  # a task before what it requires
        if task.task_id in found and task.task_id in wanted:
            found.update(one.task_id for one in required)
    return found & wanted


def _final(task: luigi.Task, reason: Reason, required: list[luigi.Task], running: set[str]) -> Reason:
    if reason.word != reasons.UP_TO_DATE or task.task_id not in running:
        return reason
    names = sorted({one.get_task_family() for one in required if one.task_id in running})
    return Reason(reasons.INPUT_CHANGED, f"if {', '.join(names[:3])} gives other bytes")


def _state(task: luigi.Task, facts: Facts) -> str:
    if facts.missing:
        return "missing"
    if graph.is_external(task):
        return "external"
    stale = any(one.word != reasons.CHECK_CHANGED for one in reasons.reasons(facts))
    return "stale" if stale else "complete"

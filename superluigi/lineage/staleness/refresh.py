"""`run_task(refresh=…)`: which tasks may have to be made again, and, when their inputs are settled, which do.

A task is *suspect* when it is stale itself, or requires a suspect. Suspects are planned; just before one
would run it is judged again: when everything it reads has the same bytes as before, it is up to date after
all, and what depends on it may be too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import luigi

from superluigi import graph
from superluigi.lineage.code_fingerprint.code import prime
from superluigi.lineage.staleness import rebuild_tasks
from superluigi.lineage.staleness.facts import StalenessInputs
from superluigi.lineage.staleness.reasons import INPUT_CHANGED, UP_TO_DATE, Reason, check_mode, judge
from superluigi.runs import context as runs


@dataclass(frozen=True)
class Refresh:
    """The staleness rule of one run, with what it found before anything ran.

    It travels as `RunContext.refresh`; pickled, it keeps the rule only.
    """

    mode: str = "all"
    #: Task id -> why it may have to run; those only suspect for their requirements say `input changed`.
    reasons: Mapping[str, Reason] = field(default_factory=dict, compare=False, repr=False)
    #: Ids of all tasks that were judged.
    judged: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def __reduce__(self) -> tuple[object, ...]:
        return Refresh, (self.mode,)

    @classmethod
    def of(cls, roots: Iterable[luigi.Task], mode: str) -> Refresh:
        """Judge every task below `roots`, also those that earlier runs discovered by `yield`.

        `ids` of the result are the tasks to plan. External data is never made, so it is never among them;
        data that has changed shows in its readers.

        Raises:
            OptionError: an unknown mode.
        """
        check_mode(mode)
        order = list(graph.walk(roots, rebuild_tasks.requirements))
        prime({type(task) for task, _ in order})
        facts = StalenessInputs().many(task for task, _ in order)
        found: dict[str, Reason] = {}
        for task, required in order:
            if graph.is_external(task):
                continue
            reason = judge(facts[graph.key(task)], mode)
            suspects = [one for one in required if one.task_id in found]
            if reason.word != UP_TO_DATE:
                found[task.task_id] = reason
            elif suspects:
                found[task.task_id] = _for_requirements(suspects)
        return cls(mode, found, frozenset(task.task_id for task, _ in order))

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the tasks that may have to run."""
        return frozenset(self.reasons)

    def must_run(self, task: luigi.Task) -> Reason | None:
        """Why a task must run, now that what it requires is settled; None if it is up to date after all."""
        reason = judge(StalenessInputs().of(task), self.mode)
        if reason.word != UP_TO_DATE:
            return reason
        suspects = [one for one in rebuild_tasks.discovered(task) if self.is_suspect(one)]
        return _for_requirements(suspects) if suspects else None  # it must run to ask for them

    def is_suspect(self, task: luigi.Task) -> bool:
        """Whether a task that exists, and that a `yield` brought in, may have to be made again.

        What this run has made is settled; what the plan has judged, the plan has judged.
        """
        here = runs.current()
        if task.task_id in self.judged and task.task_id not in self.reasons:
            return False
        made = graph.written(task, "made_by_run")
        if made is not None and made(here):
            return False
        return task.task_id in Refresh.of([task], self.mode).reasons


def _for_requirements(suspects: list[luigi.Task]) -> Reason:
    names = sorted({task.get_task_family() for task in suspects})
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Reason(INPUT_CHANGED, f"if {shown} gives other bytes")

"""`run_task(refresh=…)`: which tasks may have to be made again, and, when their inputs are settled, which do.

A task is *suspect* when it is stale itself, or requires a suspect. Suspects are planned; just before one
would run it is judged again: when everything it reads has the same bytes as before, it is up to date after
all, and what depends on it may be too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import luigi

from superluigi import graph
from superluigi.lineage.facts import Gatherer, is_external
from superluigi.lineage.staleness import INPUT_CHANGED, OUTPUT_MISSING, UP_TO_DATE, Reason, check_mode, judge
from superluigi.scheduling import force
from superluigi.scheduling import run as runs


@dataclass(frozen=True)
class Refresh:
    """The staleness rule of one run; a picklable value, so that it travels in `Run.options["refresh"]`.

    How a run uses it: `plan` once, before anything runs, gives the ids for the force plan; `must_run` just
    before a planned task would run says whether it still must; `is_suspect` judges tasks that a `yield`
    brings in and that no plan knows.
    """

    mode: str = "all"

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def plan(self, roots: Iterable[luigi.Task]) -> dict[str, Reason]:
        """Task id -> reason, for every task below `roots` that may have to run; requirements come first.

        Tasks that are only suspect because of their requirements have the reason `input changed`.
        External data is never made, so it is never here; data that has changed shows in its readers.
        """
        order = list(graph.walk(roots, force.requirements))
        facts = Gatherer().many(task for task, _ in order)
        found: dict[str, Reason] = {}
        for task, required in order:
            if is_external(task):
                continue
            reason = judge(facts[task], self.mode)
            suspects = [one for one in required if one.task_id in found]
            if reason.word != UP_TO_DATE:
                found[task.task_id] = reason
            elif suspects:
                found[task.task_id] = Reason(INPUT_CHANGED, "if " + _named(suspects) + " gives other bytes")
        return found

    def must_run(self, task: luigi.Task) -> Reason | None:
        """Why a task must run now that all it requires is settled; None if it is up to date after all."""
        reason = judge(Gatherer().of(task), self.mode)
        return None if reason.word == UP_TO_DATE else reason

    def is_suspect(self, task: luigi.Task) -> bool:
        """Whether a task that exists may have to be made again: judged with everything that it requires.

        What this run has made is settled, whatever its requirements look like.
        """
        here = runs.current()
        if _made_in(task, here):
            return False
        return task.task_id in self.plan([task])

    def reason_now(self, task: luigi.Task) -> str:
        """The word that the record of a task keeps for why it runs."""
        reason = self.must_run(task)
        return (reason or Reason(OUTPUT_MISSING)).word


def _made_in(task: luigi.Task, here: runs.Run) -> bool:
    made = getattr(task, "made_in", None)
    return bool(made is not None and made(here))


def _named(tasks: list[luigi.Task]) -> str:
    shown = ", ".join(task.get_task_family() for task in tasks[:3])
    return shown + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")

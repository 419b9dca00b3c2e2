"""What is to be submitted, looked at as a whole before a queue is asked: what is refused changes and makes none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import OptionError
from superluigi.execution.importing import refuse_if_importing
from superluigi.queue import runs
from superluigi.queue.specs import Collected, SpecOptions, collect
from superluigi.runs import force as forcing
from superluigi.runs.context import RunContext


@dataclass(frozen=True)
class Proposal:
    """A graph as rows, with the run that it belongs to and the names of its roots."""

    run: RunContext
    definition: str
    names: tuple[str, ...]
    found: Collected


def propose(tasks: object, options: SpecOptions, run: RunContext | None = None, **forced: Any) -> Proposal:
    """Describe `tasks`, any nesting of them, for a queue; the errors are those of `Queue.submit`."""
    refuse_if_importing("tasks of a queue")
    roots = _tasks_of(tasks)
    if run is None:
        run = RunContext(plan=_plan(roots, **forced))
    found = collect(roots, run, options)
    definition = runs.encode(run, runs.QueueEnvironment.current(), found.samples)
    return Proposal(run, definition, tuple(dict.fromkeys(root.task_id for root in roots)), found)


def _tasks_of(tasks: object) -> list[luigi.Task]:
    found: list[Any] = [None] if tasks is None else graph.flatten(tasks)
    for task in found:
        if isinstance(task, type) and issubclass(task, luigi.Task):
            raise OptionError(f"submit needs Luigi tasks, not the class {task.__name__}. Call it: {task.__name__}(…).")
        if not isinstance(task, luigi.Task):
            raise OptionError(f"submit needs Luigi tasks, not {task!r} ({type(task).__name__}).")
    return found


def _plan(roots: list[luigi.Task], **options: Any) -> forcing.ForcePlan:
    if not any(options.values()):
        return forcing.ForcePlan()
    from superluigi.lineage.staleness.recorded_deps import with_recorded

    tasks = forcing.graph_of(roots)
    if any(options[name] is not None for name in options if name not in ("force", "force_upstream")):
        tasks = with_recorded(tasks)
    return forcing.plan(tasks, **options)

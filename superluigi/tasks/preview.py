"""What a task would run, and what its graph has stored: counted without running anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.errors import OptionError
from superluigi.parameters.luigi_task import AnyTask


@dataclass(frozen=True)
class RunPreview:
    """What a run would do now."""

    #: The tasks that would run, requirements first.
    to_run: tuple[AnyTask, ...]
    #: The complete tasks that were met; what they require is not looked at, as in a run.
    complete: tuple[AnyTask, ...]
    #: External inputs that are not there: the run would fail for want of them.
    missing: tuple[AnyTask, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks of each class would run."""
        return dict(Counter(task.get_task_family() for task in self.to_run))

    def __bool__(self) -> bool:
        return bool(self.to_run)

    def __str__(self) -> str:
        lines = [f"would run {len(self.to_run)} tasks; {len(self.complete)} are complete"]
        lines += [f"  {count:>6} {family}" for family, count in sorted(self.counts.items())]
        lines += [f"  missing: {task}" for task in self.missing]
        return "\n".join(lines)


@dataclass(frozen=True)
class Stored:
    """What the tasks of one class have stored."""

    tasks: int
    outputs: int
    present: int
    bytes: int


@guarded(itself=("task",))
def plan(task: AnyTask) -> RunPreview:
    """What running `task` would run, counts per class, and what is complete already.

    Requirements that a task only discovers while it runs are not known before.

    Raises:
        OptionError: it is no task.
    """
    given: object = task
    if not isinstance(given, luigi.Task):
        hint = f" Call it: {given.__name__}(…)." if isinstance(given, type) else ""
        raise OptionError(f"plan takes a task, not {given!r} ({type(given).__name__}).{hint}")
    done: dict[Hashable, bool] = {}

    def needed(node: AnyTask) -> list[AnyTask]:
        done[graph.key(node)] = complete = bool(node.complete())
        return [] if complete else list(node.deps())

    order = [node for node, _ in graph.walk([task], needed)]
    absent = [node for node in order if not done[graph.key(node)]]
    return RunPreview(
        to_run=tuple(node for node in absent if not graph.is_external(node)),
        complete=tuple(node for node in order if done[graph.key(node)]),
        missing=tuple(node for node in absent if graph.is_external(node)),
    )


@guarded
def storage_report(task: AnyTask) -> dict[str, Stored]:
    """For each class in the graph of `task`: its tasks, their outputs, how many are present, and their bytes.

    Sizes come from the records, or from the store for data without a record.
    """
    found: dict[str, Stored] = {}
    seen: set[str] = set()
    for node, _ in graph.walk([task], lambda node: list(node.deps())):
        if graph.is_stand_in(node):
            continue
        targets = [target for target in graph.flatten(node.output()) if str(target) not in seen]
        seen.update(map(str, targets))
        present = [target for target in targets if target.exists()]
        before = found.get(node.get_task_family(), Stored(0, 0, 0, 0))
        found[node.get_task_family()] = Stored(
            before.tasks + 1,
            before.outputs + len(targets),
            before.present + len(present),
            before.bytes + sum(map(size_of, present)),
        )
    return found


def size_of(target: object) -> int:
    """The bytes of a target that exists; 0 for kinds that cannot tell."""
    location = graph.asked(target, "location")
    if location is None:
        return 0
    described = location.describe() or {}
    return int(described.get("size") or 0)

"""Which tasks of a run are made again: a pure function of the graph and the options.

The plan belongs to the run and never changes. A forced task counts as incomplete until its record carries the
id of this run, or says that it was made after this run began; so it is made exactly once, whatever the number
of workers, retries or dynamic requirements, and overlapping forced runs help each other.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import luigi

from superluigi import graph
from superluigi.errors import OptionError


class TaskLike(Protocol):
    """What a plan must know of a task, Luigi's or ours."""

    @property
    def task_id(self) -> str: ...
    @property
    def task_family(self) -> str: ...
    @property
    def run(self) -> object: ...


@dataclass(frozen=True)
class ForcePlan:
    """The tasks that this run makes again although their outputs exist; immutable and picklable."""

    #: Task ids that are forced.
    ids: frozenset[str] = field(default_factory=frozenset)
    #: Every task is forced, also those that are discovered while the run goes on.
    everything: bool = False
    #: Families whose every instance is forced, also those discovered at run time.
    families: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.everything or self.ids or self.families)

    def forces(self, task: TaskLike) -> bool:
        """Whether `task` is made again; data that others make never is."""
        if not (self.everything or self.ids or self.families) or task.run is None:
            return False
        return self.everything or task.task_id in self.ids or task.task_family in self.families


def requirements(task: Any) -> list[luigi.Task]:
    """The tasks that `task` requires, flat."""
    return list(task.deps())


@dataclass(frozen=True)
class TaskGraph:
    """What is known of a graph before it runs: who requires whom, by task id."""

    #: Task id -> ids of what it requires.
    edges: Mapping[str, Sequence[str]]
    #: Task id -> family.
    families: Mapping[str, str]
    #: Task id -> the task, for those that are not only known from records.
    tasks: Mapping[str, luigi.Task]
    #: Ids of the tasks that were asked for.
    roots: Sequence[str]

    def merge(
        self, edges: Mapping[str, Sequence[str]], families: Mapping[str, str], tasks: Mapping[str, luigi.Task]
    ) -> TaskGraph:
        """The same graph with what else is known, for instance from records of earlier runs."""
        both = {node: [*self.edges.get(node, ()), *edges.get(node, ())] for node in {**edges, **self.edges}}
        return TaskGraph(both, {**families, **self.families}, {**tasks, **self.tasks}, self.roots)


def graph_of(roots: Iterable[luigi.Task]) -> TaskGraph:
    """The graph below `roots`: every task once, after its requirements.

    Raises:
        OptionError: the requirements form a cycle.
    """
    roots = list(roots)
    try:
        below = list(graph.walk(roots, requirements))
    except graph.CycleError as error:
        raise OptionError(
            f"The tasks require each other in a circle: {error}. A pipeline needs a beginning."
        ) from error
    return TaskGraph(
        edges={task.task_id: [child.task_id for child in children] for task, children in below},
        families={task.task_id: task.task_family for task, _ in below},
        tasks={task.task_id: task for task, _ in below},
        roots=[root.task_id for root in roots],
    )


def roots_only(roots: Iterable[luigi.Task]) -> TaskGraph:
    """The graph as far as `force` and `force_upstream` need it: no task is asked what it requires."""
    tasks = {root.task_id: root for root in roots}
    families = {task_id: root.task_family for task_id, root in tasks.items()}
    return TaskGraph(edges={}, families=families, tasks=tasks, roots=list(tasks))


Choice = Any  # a task, a task class, a family name, or several of these


def plan(
    tasks: TaskGraph,
    *,
    force: bool = False,
    force_upstream: bool = False,
    force_upstream_to_task: Choice = None,
    force_upstream_to_task_cls: Choice = None,
    force_downstream_of: Choice = None,
) -> ForcePlan:
    """What the options of `run_task` mean for a graph.

    `force`: the roots. `force_upstream`: everything. `force_upstream_to_task[_cls]`: every task on a path from a
    root to one that is named, both ends included. `force_downstream_of`: the same set, seen from below: the named
    class and all that depends on it, up to the roots.

    Raises:
        OptionError: more than one option, or a task or class that is not upstream of the roots.
    """
    choices = {
        "force_upstream_to_task": force_upstream_to_task,
        "force_upstream_to_task_cls": force_upstream_to_task_cls,
        "force_downstream_of": force_downstream_of,
    }
    given = [name for name, on in (("force", force), ("force_upstream", force_upstream)) if on]
    given += [name for name, choice in choices.items() if choice is not None]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} cannot be combined; give one of them.")
    if force:
        return ForcePlan(ids=frozenset(tasks.roots))
    if force_upstream:
        return ForcePlan(everything=True)
    if not given:
        return ForcePlan()
    wanted: set[str] = set()
    families: set[str] = set()
    for item in _several(choices[given[0]]):
        found = {task_id for task_id in tasks.families if _matches(item, task_id, tasks)}
        if not found:
            raise OptionError(_unknown(given[0], item, tasks))
        wanted |= found
        if not isinstance(item, luigi.Task):
            families |= {tasks.families[task_id] for task_id in found}
    return ForcePlan(ids=frozenset(graph.ancestors_of(tasks.edges, wanted)), families=frozenset(families))


def _several(choice: Choice) -> list[Any]:
    several = isinstance(choice, Iterable) and not isinstance(choice, (str, type, luigi.Task))
    items = list(choice) if several else [choice]
    if not items:
        raise OptionError("The list of tasks or classes to force is empty; name at least one.")
    return items


def option_key(options: Mapping[str, Choice]) -> list[str]:
    """Who is named in options as `plan` takes them: ids of tasks, names of classes without their package."""
    named: set[str] = set()
    for choice in options.values():
        for item in [] if choice is None or isinstance(choice, bool) else _several(choice):
            whole = item.__name__ if isinstance(item, type) else item
            named.add(whole.rpartition(".")[2] if isinstance(whole, str) else item.task_id)
    return sorted(named)


def _matches(item: object, task_id: str, tasks: TaskGraph) -> bool:
    if isinstance(item, luigi.Task):
        return bool(task_id == item.task_id)
    family, task = tasks.families[task_id], tasks.tasks.get(task_id)
    if isinstance(item, type):
        return isinstance(task, item) if task is not None else family == getattr(item, "task_family", None)
    if isinstance(item, str):
        names = {family, family.rpartition(".")[2]}
        return item in names or (task is not None and item in _bases_of(type(task)))
    raise OptionError(f"{item!r} is neither a task, a task class nor the name of one.")


def _bases_of(cls: type) -> list[str]:
    """Names of the user's own classes that `cls` derives from, and its own; not those that all tasks share."""
    shared = ("luigi.", "superluigi.")
    return [base.__name__ for base in cls.__mro__ if base is not object and not base.__module__.startswith(shared)]


def _unknown(option: str, item: object, tasks: TaskGraph) -> str:
    name = item.__name__ if isinstance(item, type) else str(item)
    families = sorted(set(tasks.families.values()))
    close = difflib.get_close_matches(name, families, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    roots = ", ".join(tasks.families[root] for root in tasks.roots)
    return f"{option}: {name} is not upstream of {roots}.{hint} Upstream are: {', '.join(families)}."

"""A place has one owner: two tasks of a graph may not write to one place, nor into what another replaces whole.

Each task's outputs are looked up once, by their own paths and by the folders above them, so that the cost grows
with the number of outputs and nothing else. Nothing is asked of a store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

import luigi
from luigi.task import Task

from superluigi import graph
from superluigi.errors import USERS_CODE, OutputClashError
from superluigi.storage.base import RECORD_SUFFIX, Ground, Location


class Claim(NamedTuple):
    """One task's claim on one place."""

    task: Task
    target: object
    #: Through a target of ours: what Luigi's own targets do to each other is Luigi's affair.
    ours: bool
    #: The task makes what is there; else it only reads what others make.
    writes: bool


Clash = Callable[[Claim, Claim], OutputClashError]


class Clashes:
    """The places of the outputs of a graph, each with its owner."""

    def __init__(self, asked: Callable[[Task], Iterable[Task]] = lambda task: ()) -> None:
        """`asked` tells what a task has asked for at run time."""
        self._asked = asked
        #: Task id → why it was refused, if it was.
        self._seen: dict[str, OutputClashError | None] = {}
        #: (store, path) → who has that very place.
        self._taken: dict[tuple[Hashable, str], list[Claim]] = {}
        #: (store, folder) → who replaces all below it.
        self._whole: dict[tuple[Hashable, str], list[Claim]] = {}
        #: (store, folder) → those that are somewhere below it, one for each task at most two tasks.
        self._below: dict[tuple[Hashable, str], list[Claim]] = {}
        self._real: dict[str, str] = {}

    def add(self, task: Task) -> None:
        """Note down the outputs of `task`, once.

        Raises:
            OutputClashError: one of them is another's place, inside another's, or has another's inside; both tasks
                are named. A task that was refused stays so.
        """
        if task.task_id not in self._seen:
            self._seen[task.task_id] = None
            try:
                self._note(task)
            except OutputClashError as error:
                self._seen[task.task_id] = error
        if (refused := self._seen[task.task_id]) is not None:
            raise refused

    def _note(self, task: Task) -> None:
        if not owns_outputs(task):
            return
        writes = not graph.is_external(task)
        for target in _targets(task):
            location = graph.asked(target, "location")
            ours = location if isinstance(location, Location) else None
            claim = Claim(task, target, ours is not None, writes)
            for ground in _grounds_of_luigis(target) if ours is None else ours.grounds():
                self._add(ground, claim)

    def _add(self, ground: Ground, claim: Claim) -> None:
        store, path = ground.store, ground.path
        if store is None:
            path = self._resolved(path)
        place = (store, path)
        if place in self._taken:
            self._refuse(_same_place, claim, self._taken[place])
        for record in _records_of(path):
            if (store, record) in self._taken:
                self._refuse(_record_place, claim, self._taken[store, record])
        if self._whole:
            for folder in _above(path):
                self._refuse(_inside, claim, self._whole.get((store, folder), ()))
        if ground.whole:
            folder = path[:-1] if path.endswith("/") else path
            for inner in self._below.get((store, folder), ()):
                self._refuse(_inside, inner, (claim,))
            self._whole.setdefault((store, folder), []).append(claim)
        self._taken.setdefault(place, []).append(claim)
        for folder in _above(path):
            known = self._below.setdefault((store, folder), [])
            # two tasks are enough to find one that is not the folder's own, and readers never own a folder
            if len(known) > 1 or (known and known[0].task is claim.task):
                break
            known.append(claim)

    def _refuse(self, clash: Clash, claim: Claim, others: Iterable[Claim]) -> None:
        for other in others:
            if self._collide(clash, claim, other):
                raise clash(claim, other)

    def _collide(self, clash: Clash, claim: Claim, other: Claim) -> bool:
        if claim.task.task_id == other.task.task_id or not (claim.ours or other.ours):
            return False
        if clash is _inside:
            return other.writes
        if not (claim.writes and other.writes):
            return False  # what one makes the other reads
        if clash is _same_place and _are_one_batch(claim.task, other.task):
            return False
        return clash is _record_place or not (self._hands_on(claim, other) or self._hands_on(other, claim))

    def _hands_on(self, claim: Claim, other: Claim) -> bool:
        """Whether a task without a commit of its own has the output of one that it requires, as in Luigi."""
        return not graph.written(claim.task, "run_names", ()) and requires(claim.task, other.task, self._asked)

    def _resolved(self, path: str) -> str:
        """A local path without links, `.` and `..`; folders are resolved once."""
        parent, _, name = path.rstrip("/").rpartition("/")
        parent = parent or "/"
        real = self._real.get(parent)
        if real is None:
            real = self._real[parent] = os.path.realpath(parent)
        here = f"{real.rstrip('/')}/{name}"
        return os.path.realpath(here) if os.path.islink(here) else here


def _are_one_batch(task: Task, other: Task) -> bool:
    """Whether Luigi makes both at once: they differ in nothing but parameters with a `batch_method`."""
    if type(task) is not type(other) or not task.batchable:
        return False
    batched = set(task.batch_param_names())
    return all(value == other.param_kwargs[name] for name, value in task.param_kwargs.items() if name not in batched)


def owns_outputs(task: Task) -> bool:
    """Whether the outputs are a task's own or, of an external one, its reading: not those of stand-ins and aliases."""
    return not graph.is_stand_in(task) and type(task).run is not Task.run


def requires(task: Task, other: Task, more: Callable[[Task], Iterable[Task]]) -> bool:
    """Whether `task` requires `other`, directly or not; `more` tells what was asked for at run time."""
    seen, waiting = {task.task_id}, [task]
    while waiting:
        node = waiting.pop()
        for below in (*node.deps(), *more(node)):
            if below.task_id == other.task_id:
                return True
            if below.task_id not in seen:
                seen.add(below.task_id)
                waiting.append(below)
    return False


def _targets(task: Task) -> list[object]:
    with USERS_CODE:  # the attempt that needs the outputs will say what is wrong
        return graph.flatten(task.output())
    return []


def _grounds_of_luigis(target: object) -> list[Ground]:
    if isinstance(target, luigi.LocalTarget) and target.path:
        return [Ground(None, os.path.abspath(target.path))]
    return []


def _above(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first; of a prefix without its slash."""
    end = len(path) - 1 if path.endswith("/") else len(path)
    while (end := path.rfind("/", 0, end)) > 0:
        yield path[:end]


def _records_of(path: str) -> Iterator[str]:
    """Where the record of what has this path goes by itself, and which output has this path for its record."""
    plain = path.rstrip("/")
    yield plain + RECORD_SUFFIX
    if plain.endswith(RECORD_SUFFIX):
        yield plain.removesuffix(RECORD_SUFFIX)


def _same_place(claim: Claim, other: Claim) -> OutputClashError:
    return OutputClashError(
        f"{other.task} and {claim.task} have the same output {claim.target}, but a place has one owner: the "
        "second would replace what the first made. Give each a path of its own, for instance with all its parameters."
    )


def _record_place(claim: Claim, other: Claim) -> OutputClashError:
    return OutputClashError(
        f"The output or record of {other.task}, {other.target}, is where that of {claim.task}, {claim.target}, goes. "
        "Give one of them another path or metadata_path."
    )


def _inside(inner: Claim, folder: Claim) -> OutputClashError:
    return OutputClashError(
        f"The output of {inner.task}, {inner.target} (or its record), is inside {folder.target}, the output of "
        f"{folder.task}, which is replaced as a whole: {inner.task.task_family} would lose it. Put it elsewhere."
    )

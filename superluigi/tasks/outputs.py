"""What `output()` may return: refused with advice before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable

import luigi

from superluigi import graph
from superluigi.errors import DefinitionError, OutputClashError
from superluigi.parameters.luigi_task import AnyTask
from superluigi.runs import context as runs
from superluigi.storage.local.inner import plain_address
from superluigi.targets.base import AtomicTarget

#: In a task's `__dict__`: which of its outputs was missing when last asked.
MISSING = "_superluigi_missing"


def listed(task: AnyTask) -> list[AtomicTarget]:
    """The outputs of a task that keeps records, flat.

    Raises:
        DefinitionError: one is no Super Luigi target.
    """
    return _refuse_others(task, task.output())


def validated(task: AnyTask) -> object:
    """The outputs of a task that is about to run, in the shape of `output()`; no two in one place.

    Raises:
        DefinitionError: as `listed`; or outputs or records with the same path, or one inside another.
    """
    targets = graph.map_structure(lambda target: target, task.output())  # a generator can be walked once only
    flat = _refuse_others(task, targets)
    if len(flat) > 1:
        _refuse_same_places(task, flat)
    return targets


def are_there(task: AnyTask, targets: Iterable[luigi.Target]) -> bool:
    """Whether all of a task's outputs exist; in Luigi's runs the missing one is remembered, for `refuse_anothers`."""
    for target in targets:
        if not target.exists():
            if runs.is_luigis():
                task.__dict__[MISSING] = target
            return False
    task.__dict__.pop(MISSING, None)
    return True


def refuse_anothers(task: AnyTask, targets: Iterable[AtomicTarget]) -> None:
    """Leave alone an output that was missing when the task was planned, and that another task has made meanwhile.

    Our own runs find out beforehand that two tasks have one place; Luigi's do not ask us.

    Raises:
        OutputClashError: names both tasks.
    """
    missing = task.__dict__.get(MISSING)
    for target in targets:
        if missing is None or str(target) != str(missing):
            continue
        made = target.location.read_record_summary()
        maker = None if made is None else made.get("task_id")
        if maker is not None and maker != task.task_id:
            raise OutputClashError(
                f"{maker} and {task} have the same output {target}, but a place has one owner: the second would "
                "replace what the first has made just now. Give each a path of its own, for instance with all its "
                "parameters."
            )


def check_types(task: AnyTask, error: BaseException) -> None:
    """Explain why outputs could not be asked whether they exist, if that is because they are no targets."""
    for target in graph.flatten(task.output()):
        if not isinstance(target, luigi.Target) and (isinstance(target, type) or not hasattr(target, "exists")):
            raise DefinitionError(
                f"{task.task_family}.output() returns {target!r} ({type(target).__name__}), which is no target. "
                "Return a target, such as LocalFileTarget(path)."
            ) from error


def _refuse_others(task: AnyTask, targets: object) -> list[AtomicTarget]:
    flat = graph.flatten(targets)
    for target in flat:
        if not isinstance(target, AtomicTarget):
            raise DefinitionError(
                f"{task.task_family}.output() returns {target!r} ({type(target).__name__}), "
                f"which is no Super Luigi target. {_instead_of(target)}"
            )
    return flat


def _instead_of(given: object) -> str:
    """The target to write."""
    if isinstance(given, type) and issubclass(given, AtomicTarget):
        return f"Call the class: {given.__name__}(…)."
    if isinstance(given, (str, os.PathLike)):
        bucket, slash, key = str(given).removeprefix("s3://").partition("/")
        if slash and str(given).startswith("s3://"):
            return f"Return S3ObjectTarget({bucket!r}, {key!r}), or S3PrefixTarget for several keys."
        return f"Return LocalFileTarget({str(given)!r}), or LocalFolderTarget for a folder."
    instead = "Return a LocalFileTarget, LocalFolderTarget, S3ObjectTarget or S3PrefixTarget"
    its = ", or derive from superluigi.tasks.Task, which may have any target" if isinstance(given, luigi.Target) else ""
    return f"{instead}{its}."


def _refuse_same_places(task: AnyTask, targets: list[AtomicTarget]) -> None:
    taken: dict[str, AtomicTarget] = {}
    for target in targets:
        for place in (plain_address(target.location.uri), plain_address(target.location.record_uri)):
            if place in taken:
                raise DefinitionError(
                    f"Two outputs of {task.task_family}, or an output and a record, have the same path {place}. "
                    "Give each its own."
                )
            taken[place] = target
    for folder in (target for target in targets if target.is_folder):
        inside = plain_address(folder.location.uri) + "/"
        for place, owner in taken.items():
            if owner is not folder and place.startswith(inside):
                raise DefinitionError(
                    f"An output of {task.task_family}, or its record, {place}, is inside the output {folder}, which is "
                    "replaced as a whole. Put it elsewhere, or write it into that output."
                )

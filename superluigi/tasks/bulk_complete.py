"""Completeness of many tasks at once where a listing of S3 is cheaper than asking for each output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luigi.task import Task as LuigiTask

from superluigi import graph
from superluigi.errors import SuperLuigiError
from superluigi.runs.context import RunContext
from superluigi.storage.base import Location
from superluigi.tasks.base import Task

_LEAST = 2


def complete_many(run: RunContext) -> Callable[[Sequence[LuigiTask]], Mapping[str, bool]]:
    """What `run_graph(complete_many=…)` wants: task id -> answer, for those tasks whose outputs are all on S3.

    Tasks with a `complete()` of their own, forced ones, and all tasks of a run that refreshes are left out, and
    so is everything when the store refuses: they are then asked one by one, and errors are theirs.
    """

    def ask(tasks: Sequence[LuigiTask]) -> Mapping[str, bool]:
        if "superluigi.storage.objects.object" not in sys.modules or run.refresh is not None:
            return {}
        from superluigi.storage.objects.exists_many import exists_many

        asked = {task.task_id: places for task in tasks if (places := _places(task, run))}
        if len(asked) < _LEAST:
            return {}
        try:
            found = iter(exists_many([place for places in asked.values() for place in places]))
        except SuperLuigiError:
            return {}
        answers = {task_id: [next(found) for _ in places] for task_id, places in asked.items()}
        return {task_id: all(answer) for task_id, answer in answers.items()}

    return ask


def _places(task: LuigiTask, run: RunContext) -> list[Location]:
    """The locations of a task whose completeness is that all its outputs exist on S3, else nothing."""
    kind: Any = type(task)
    plain = kind.complete is LuigiTask.complete or (
        kind.complete is Task.complete and kind.outputs_exist is Task.outputs_exist
    )
    if not plain or run.forces(task):
        return []
    try:
        targets = graph.flatten(task.output())
    except Exception:  # noqa: BLE001  # reported with the task, when it is asked by itself
        return []
    places = [graph.asked(target, "location") for target in targets]
    found = [place for place in places if isinstance(place, Location) and place.uri.startswith("s3://")]
    return found if len(found) == len(targets) else []

"""`compute`: run a task, or a tree of tasks, and return the values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import luigi

from superluigi import config as settings
from superluigi.arguments import guarded
from superluigi.parameters.references import replaced
from superluigi.runs import context as runs
from superluigi.task_runner import run_task
from superluigi.tasks import values
from superluigi.tasks.kinds.combine import Tree, refuse_no_tree

if TYPE_CHECKING:
    from superluigi.parameters.annotations import Produces

Value = TypeVar("Value")


@overload
def compute(task: Produces[Value], *, as_type: object = None, **options: object) -> Value: ...
@overload
def compute(task: object, *, as_type: object = None, **options: object) -> Any: ...
@guarded
def compute(task: Any, *, as_type: object = None, **options: Any) -> Any:
    """Run a task and return its value; a list, tuple or dict of tasks gives the same shape of values.

    `options` are those of `run_task` (`store=…`, `num_workers=…`, `force=True`); `as_type` picks the kind of table.
    Nothing is printed but problems (`quiet=False` prints what `run_task` does).

    Raises:
        TaskFailedError: as `run_task`.
    """
    root = task() if isinstance(task, type) and issubclass(task, luigi.Task) else task
    single = isinstance(root, luigi.Task)
    refuse_no_tree(root, "compute")
    if not single and options.pop("force", False):
        options["force_upstream_to_task"] = list(Tree(tree=root).tasks())
    options.setdefault("quiet", True)
    run_task(root if single else Tree(tree=root), **options)
    store, sections = options.get("store"), options.get("config")
    here = runs.current()
    if store is not None:
        here = dataclasses.replace(here, store=os.fspath(store))
    with settings.applied(sections if isinstance(sections, Mapping) else None), runs.entered(here):
        return replaced(root, lambda each: values.result(each, as_type))

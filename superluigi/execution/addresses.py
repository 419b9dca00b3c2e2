"""Where the outputs of a task are, as text: the same in every process, or the task must not run there.

Worker processes are fresh interpreters, where Luigi's are forks: what a script sets after its imports, a global from
its command line say, is not there. A task whose `output()` depends on it would write, or read, somewhere else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from luigi.task import Task

from superluigi import graph
from superluigi.errors import USERS_CODE, OutputElsewhereError

#: Of a task's own outputs, and of one requirement of each class; None where `output()` cannot tell yet.
Addresses = tuple[tuple[str, ...], ...]


def addresses(task: Task, requirements: Iterable[Task]) -> Addresses | None:
    """Of the outputs of `task`, and of one of `requirements` of each class: what differs does so for a class."""
    samples: dict[type[Task], Task] = {}
    for required in requirements:  # perhaps of a set, which has another order in each process
        known = samples.setdefault(type(required), required)
        if required.task_id < known.task_id:
            samples[type(required)] = required
    chosen = sorted(samples.values(), key=lambda required: required.task_id)
    with USERS_CODE:  # what it raises is told when the task runs
        return tuple(tuple(sorted(map(_address, graph.flatten(each.output())))) for each in [task, *chosen])
    return None


def _address(target: object) -> str:
    path = graph.asked(target, "path", "")
    return f"{type(target).__name__} {os.fspath(path) if isinstance(path, os.PathLike) else path}"


def refuse_other(task: Task, expected: Addresses | None) -> None:
    """Compare with what `addresses` says in this process.

    Raises:
        OutputElsewhereError: they differ.
    """
    found = None if expected is None else addresses(task, task.deps())
    if expected is None or found is None:
        return
    # What was nothing there may be known only once the inputs exist, which another task has made meanwhile.
    pairs = [pair for pair in zip([*expected, ()], [*found, ()], strict=False) if pair[0] and pair[0] != pair[1]]
    if not pairs:
        return
    there, here = pairs[0]
    what = "its output" if found[0] != expected[0] else "what it requires"
    raise OutputElsewhereError(
        f"{task}: {what} is {_shown(there)} where the run was started, but {_shown(here)} in the process {os.getpid()} "
        f"on {socket.gethostname()} that should run it. Worker processes are fresh interpreters: what a script sets "
        "after its imports (a global, an attribute of a class) is not there, and what differs from call to call (a "
        "time, a random name) does not agree. Make it a parameter of the task, or read it from configuration or "
        "environment where the module is imported; or run in one process (num_workers=1, executor='threads')."
    )


def _shown(side: tuple[str, ...]) -> str:
    return ", ".join(side) or "nothing"

"""Tasks that change what the threads of a process share: environment, signal handlers."""

from __future__ import annotations

import sys
from typing import Any

from luigi.task import Task

from superluigi.runs.context import RunContext

#: Luigi's classes whose `run` sets signal handlers, which Python allows in main threads only: module, name.
_MAIN_THREAD_ONLY = (
    ("luigi.contrib.external_program", "ExternalProgramTask"),
    ("luigi.contrib.hadoop", "BaseHadoopJobTask"),
    ("luigi.contrib.pig", "PigJobTask"),
)


def needs_process(task: Task, run: RunContext) -> bool:
    """Whether an attempt at `task` must not run in a thread beside others: it gets a process of its own there."""
    asked: Any = getattr(type(task), "_superluigi_needs_process", None)
    if asked is not None and asked(task, run):
        return True
    for module, name in _MAIN_THREAD_ONLY:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(task, kind):
            return True
    return False

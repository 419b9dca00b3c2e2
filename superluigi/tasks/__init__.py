"""What to compute, from what, into what: real Luigi tasks whose storage code is ours."""

from superluigi.tasks.account import plan, storage_report
from superluigi.tasks.atomic import AtomicTaskWithMetadata, TaskWithMetadata
from superluigi.tasks.base import ExternalTask, Task
from superluigi.tasks.caching import cached
from superluigi.tasks.combine import apply, collect, grid
from superluigi.tasks.function import FunctionTask, task
from superluigi.tasks.initial import InitStep
from superluigi.tasks.life.environment import Environment
from superluigi.tasks.life.hooks import Job, SubmitHook
from superluigi.tasks.life.tags import tag
from superluigi.tasks.mapreduce import MapReduceTask
from superluigi.tasks.notebook import NotebookTask
from superluigi.tasks.parts import as_path, outputs_of
from superluigi.tasks.shell import ShellTask, shell_task

__all__ = [
    "AtomicTaskWithMetadata",
    "Environment",
    "ExternalTask",
    "FunctionTask",
    "InitStep",
    "Job",
    "MapReduceTask",
    "NotebookTask",
    "ShellTask",
    "SubmitHook",
    "Task",
    "TaskWithMetadata",
    "apply",
    "as_path",
    "cached",
    "collect",
    "grid",
    "outputs_of",
    "plan",
    "shell_task",
    "storage_report",
    "tag",
    "task",
]

"""What to compute, from what, into what: real Luigi tasks whose storage code is ours."""

from superluigi.checks.definition import check
from superluigi.tasks.atomic import AtomicTaskWithMetadata, TaskWithMetadata
from superluigi.tasks.base import ExternalTask, Task
from superluigi.tasks.kinds.caching import cached
from superluigi.tasks.kinds.combine import apply, collect, grid
from superluigi.tasks.kinds.function import FunctionTask, task
from superluigi.tasks.kinds.mapreduce import MapReduceTask
from superluigi.tasks.kinds.notebook import NotebookTask
from superluigi.tasks.kinds.shell import ShellTask, shell_task
from superluigi.tasks.kinds.task_views import as_path, outputs_of
from superluigi.tasks.lifecycle.init_steps import InitStep
from superluigi.tasks.preview import plan, storage_report
from superluigi.tasks.runtime.environment import Environment
from superluigi.tasks.runtime.hooks import Job, SubmitHook
from superluigi.tasks.runtime.tags import tag

__all__ = [
    "AtomicTaskWithMetadata", "Environment", "ExternalTask", "FunctionTask", "InitStep", "Job", "MapReduceTask",
    "NotebookTask", "ShellTask", "SubmitHook", "Task", "TaskWithMetadata", "apply", "as_path", "cached", "check",
    "collect", "grid", "outputs_of", "plan", "shell_task", "storage_report", "tag", "task",
]  # fmt: skip

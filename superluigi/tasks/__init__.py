"""What to compute, from what, into what: real Luigi tasks whose storage code is ours."""

from superluigi.tasks.atomic import AtomicTaskWithMetadata, TaskWithMetadata
from superluigi.tasks.base import ExternalTask, Task

__all__ = ["AtomicTaskWithMetadata", "ExternalTask", "Task", "TaskWithMetadata"]

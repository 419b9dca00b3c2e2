"""Submit hooks: code that adds to the environment, command and resources of the tasks that need something.

    class NeedsJava(SubmitHook):
        def __init__(self, version: int) -> None:
            self.spec = ("java", version)

        def process(self, job: Job) -> None:
            job.environment["JAVA_HOME"] = f"/opt/java-{self.spec[1]}"
            job.resources["java"] = 1

    @NeedsJava(17)
    class Count(AtomicTaskWithMetadata): ...

A task has the hooks of its class, and those of the classes of whatever is in its parameters: objects, tasks, and
lists and dicts of these.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import luigi

from superluigi.errors import USERS_CODE, DefinitionError
from superluigi.parameters.checked import Frozen
from superluigi.tasks.runtime import environment

_Class = TypeVar("_Class", bound=type)
_HOOKS = "_superluigi_hooks"


@dataclass
class Job:
    """How a task is going to be started: hooks change it."""

    task: luigi.Task
    #: Added to the environment; None unsets a variable. What is not named here stays as it is.
    environment: dict[str, Any] = field(default_factory=dict)
    #: The command before `python -m superluigi.worker_process`, as words (a hook may set text); empty for none.
    prefix: list[str] = field(default_factory=list)
    #: What the scheduler counts.
    resources: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "task": None}  # it travels with its task


class SubmitHook:
    """Something that tasks need. Set `spec`, a value that says what exactly, and override `process`.

    `process` is called once per task and `spec`, in the process that schedules the task (in the queue's worker
    for tasks of a queue); what it made of the job travels with the task.
    """

    #: Hooks with equal `spec` on one task are one; None stands for the class.
    spec: Any = None

    def process(self, job: Job) -> None:
        """Change `job` in place."""
        raise NotImplementedError(f"{type(self).__name__} has no process(self, job).")

    def __call__(self, cls: _Class) -> _Class:
        """Decorate a task class, or a class whose objects are parameters of tasks."""
        if not isinstance(cls, type):
            raise DefinitionError(f"@{type(self).__name__}(...) stands before a class, not before {cls!r}.")
        type.__setattr__(cls, _HOOKS, (*cls.__dict__.get(_HOOKS, ()), self))
        return cls


def job_of(task: luigi.Task, resources: Mapping[str, object] | None = None) -> Job:
    """The job of `task` after its hooks; they run once for each task object.

    Raises:
        DefinitionError: the task's own environment or prefix is of a wrong type.
        What a hook raises.
    """
    known: Job | None = task.__dict__.get("_superluigi_job")
    if known is not None:
        return known
    job = Job(
        task,
        dict(environment.parse(class_attr(task, "environment")).data),
        words(class_attr(task, "command_prefix"), task),
        dict(resources or {}),
    )
    found = list(_hooks_of(task)) if _there_are_hooks() else []
    for hook in found:
        hook.process(job)
        job.prefix = words(job.prefix, task)  # text will do here, too
    if found:
        task.__dict__["_superluigi_job"] = job
    return job


def resources_of(task: luigi.Task, resources: dict[str, Any]) -> dict[str, Any]:
    """`process_resources` after the hooks; a hook that fails is heard of when the task runs."""
    if not _there_are_hooks():
        return resources
    with USERS_CODE:  # scheduling other tasks must go on
        return {**resources, **job_of(task, resources).resources}
    return resources


def class_attr(task: luigi.Task, name: str) -> Any:
    """A setting that a class may have, unless the user has a parameter of this name."""
    return None if name in task.param_kwargs else getattr(task, name, None)


def words(prefix: Any, task: luigi.Task) -> list[str]:
    """A prefix command as words: from text, words, or a callable of these.

    Raises:
        DefinitionError: it is nothing of these.
    """
    if callable(prefix):
        prefix = prefix() if getattr(prefix, "__self__", None) is task else prefix(task)
    if prefix is None:
        return []
    if isinstance(prefix, str):
        try:
            return shlex.split(prefix)
        except ValueError as error:
            raise DefinitionError(
                f"command_prefix of {task.get_task_family()} is {prefix!r}, which no shell could read: {error}. "
                "Correct it, or give a list of words."
            ) from error
    if isinstance(prefix, (list, tuple)) and all(isinstance(word, str) for word in prefix):
        return list(prefix)
    raise DefinitionError(
        f"command_prefix of {task.get_task_family()} is {prefix!r}. Give a command as text or as a list of words, "
        "or a function of the task that returns one."
    )


def _there_are_hooks() -> bool:
    return bool(SubmitHook.__subclasses__())


def _hooks_of(task: luigi.Task) -> Iterator[SubmitHook]:
    seen: list[object] = []
    for hook in _found_in(task, set()):
        spec = (type(hook), hook.spec)
        if spec not in seen:
            seen.append(spec)
            yield hook


def _found_in(value: object, above: set[int]) -> Iterator[SubmitHook]:
    if id(value) in above or isinstance(value, (str, bytes, int, float, type(None))):
        return
    above = {*above, id(value)}
    for base in reversed(type(value).__mro__):
        yield from base.__dict__.get(_HOOKS, ())
    if isinstance(value, Frozen):
        inside: list[object] = [value.value]
    elif isinstance(value, luigi.Task):
        inside = list(value.param_kwargs.values())
    elif isinstance(value, Mapping):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = list(value)
    elif isinstance(value, type):
        inside = []
    elif dataclasses.is_dataclass(value):
        inside = [getattr(value, one.name) for one in dataclasses.fields(value)]
    elif hasattr(value, "model_dump_json"):  # a pydantic model
        inside = list(vars(value).values())
    else:
        inside = []
    for item in inside:
        yield from _found_in(item, above)

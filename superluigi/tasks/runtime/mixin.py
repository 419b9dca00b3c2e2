"""One attempt with everything around it, and what tasks offer of it: `RuntimeMixin`, mixed into `Task`."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar

from superluigi import config
from superluigi.errors import USERS_CODE, TargetMissingError, TaskCancelledError
from superluigi.execution.importing import refuse_if_importing
from superluigi.execution.process import process_tree
from superluigi.execution.process.parent import parent
from superluigi.execution.process.termination import ends_cleanly
from superluigi.execution.yielded import start
from superluigi.runs import context as runs
from superluigi.storage.local import atomic
from superluigi.tasks.runtime import (
    attempt_context,
    callbacks,
    cancel,
    checkpoint,
    environment,
    exclusive,
    hooks,
    logs,
    seeds,
    shared,
    supervisor,
    tags,
)
from superluigi.tasks.runtime import command_prefix as prefix
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.cancel import Waiting
from superluigi.tasks.runtime.hooks import class_attr
from superluigi.tasks.runtime.workspace import log_pool, task_folder


class RuntimeMixin:
    """What every task may say and use of its working life."""

    #: Added to the environment of the task and its children: a dict, or an `Environment`.
    environment: ClassVar[Any] = None
    #: The command before the attempt's own: text, words, or a method or function of the task that returns one.
    command_prefix: ClassVar[Any] = None
    #: The Python behind the prefix; None for this one, or `python` where the prefix leads elsewhere.
    prefix_python: ClassVar[str | None] = None
    #: Keep what the task leaves in `task_dir` from one attempt to the next.
    keep_task_dir: ClassVar[bool] = False
    #: For tasks with metadata: `run` finds the task's own folder as the current one. Relative outputs mean what they
    #: mean otherwise.
    chdir: ClassVar[bool] = False
    #: `run` may take `checkpoint_path`, and SIGTERM gives it a time of grace.
    resumable: ClassVar[bool] = False
    #: While another process makes the same output: "wait" for it and take it, "fail", or "off" to run all the same.
    exclusive: ClassVar[str | None] = None
    #: How many attempts one run makes of a task that asks for more by `GracefulTimeout`; None for any number.
    max_attempts: ClassVar[int | None] = 10

    @property
    def task_dir(self) -> Path:
        """The task's own folder; while it runs, made and kept."""
        return task_dir(self)

    @property
    def task_seed(self) -> int:
        """A number from the task's identity, for generators of its own: `random.Random(self.task_seed)`.

        They give the same numbers each time also where tasks run beside others in threads.
        """
        here = attempt_context.get(self)
        if here is not None:
            here.seed_used = True
        return seeds.seed_of(self)

    @property
    def tags(self) -> dict[str, Any]:
        """Names and values that are no part of the identity but in the record; see `tag`."""
        known: dict[str, object] = self.__dict__.setdefault("_superluigi_tags", {})
        return known

    @tags.setter
    def tags(self, value: Mapping[str, object]) -> None:
        self.__dict__["_superluigi_tags"] = dict(value)

    @property
    def tagspath(self) -> PurePath:
        """The tags as a path, `lr=0.1/optimizer=adam`: for plots of runs side by side."""
        return tags.path_of(tags.tags_of(self))  # type: ignore[arg-type]  # always mixed into a Luigi task

    def tag(self, *names: str, **values: object) -> Any:
        """Add tags, by name alone or with a value; returns the task."""
        self.__dict__.setdefault("_superluigi_tags", {}).update({**dict.fromkeys(names, True), **values})
        return self

    def remaining_time(self) -> float:
        """Seconds this attempt has left (worker_timeout, walltime, grace after SIGTERM); infinite without a limit."""
        return checkpoint.remaining_time(attempt_context.get(self), self)

    def shared_path(self, name: str, exclude: Iterable[str] = (), timeout: float | None = None) -> Path:
        """A folder for all tasks that differ only in the parameters `exclude`, one writer at a time.

        The first call in an attempt waits (at most `timeout` seconds) until no other attempt has the folder; it is
        then this attempt's until it ends. Two tasks that take the same two folders in another order wait for ever:
        give a timeout.

        Raises:
            ParameterError: `exclude` names no parameter of this task.
            TaskTimeoutError: it was not free in time.
        """
        return shared.shared_path(self, name, exclude, timeout)

    def on_completed(self, callback: Callable[[Any], object]) -> Any:
        """Call `callback(task)` here, once, when the task is complete; at once if it is already. Returns the task."""
        callbacks.on_completed(self, callback)  # type: ignore[arg-type]
        return self

    def on_failed(self, callback: Callable[[Any, BaseException], object]) -> Any:
        """Call `callback(task, error)` here, once, when a run has given the task up. Returns the task."""
        callbacks.on_failed(self, callback)  # type: ignore[arg-type]
        return self

    def cancel(self, reason: str = "cancelled") -> bool:
        """Stop the attempts at this task that run now, in any process with this workspace; they clean up first.

        Whether there was one. An attempt that begins later is not meant, and one that is publishing its output
        goes on.
        """
        return cancel.cancel(self, reason)

    def _superluigi_waits(self, run: runs.RunContext) -> Waiting:
        """A run waits for another's attempt at it: a cancellation is to find that until it is ended."""
        supervisor.ensure()
        return Waiting(self, run)

    def _superluigi_needs_process(self, run: runs.RunContext) -> bool:
        """Asked before it is sent to threads."""
        return needs_process(self, run)

    def _superluigi_log_file(self) -> str:
        """Asked when an attempt has failed: the file with what it printed; "" if none is kept."""
        log_pool.recover_orphans()  # of an attempt whose process was killed before it had a folder
        try:
            file = task_folder.attempt_folder(task_folder.folder_of(self)) / task_folder.STDERR
        except TargetMissingError:
            file = task_folder.folder_of(self) / task_folder.STDERR
        return str(file) if file.is_file() else ""

    def process_resources(self) -> dict[str, Any]:
        """Luigi's, with what submit hooks add."""
        plain: dict[str, object] = super().process_resources()  # type: ignore[misc]
        return hooks.resources_of(self, plain)  # type: ignore[arg-type]


def needs_process(task: Any, run: runs.RunContext) -> bool:
    """Whether an attempt at `task` changes what threads of one process share: it then runs in a process of its own."""
    with USERS_CODE:  # it is told when the task runs
        job = hooks.job_of(task)
        if job.prefix:  # that is one
            return False
        if task.chdir is True:
            return True
        parts = [environment.parse(run.environment), environment.parse(class_attr(task, "environment"))]
        return bool(job.environment) or any(part.data or part.command for part in parts)
    return False


def task_dir(task: object) -> Path:
    """The folder of `task`: while it runs, made and kept afterwards."""
    here = attempt_context.get(task)
    if here is None:
        return task_folder.folder_of(task)
    here.folder.wanted = True
    return here.folder.path


def checkpoint_path(task: object) -> Path:
    """What `run` gets when it asks for `checkpoint_path`."""
    return checkpoint.checkpoint_path(attempt_context.get(task), task)


def facts(task: Any) -> dict[str, Any]:
    """What the record says of the attempt that runs: tags, seed, folder."""
    here = attempt_context.get(task)
    found: dict[str, Any] = {}
    if marks := tags.tags_of(task):
        found["tags"] = dict(marks)
    if here is not None:
        note_seed(task, found)
        known = here.folder_if_any
        if known is not None:
            found["task_dir"] = str(known.path)
        elif here.sink is not None or here.spare is not None:
            found["task_dir"] = task_folder.place_of(task)
    return found


def note_seed(task: object, found: dict[str, Any]) -> None:
    """Put the seed of the attempt that runs into what its record says, or take it out if it says too much by now."""
    here = attempt_context.get(task)
    found.pop("seed", None)
    if here is not None and (here.seed_used or (here.alone is not None and here.alone.so_far)):
        found["seed"] = seeds.seed_of(task)


def before_commit(task: object) -> None:
    """Refuse to publish for a task that was cancelled, whatever it made of that, that others took over, or that is not
    itself any more.
    """
    exclusive.confirm(task)
    here = attempt_context.get(task)
    if here is not None:
        here.itself.refuse_change()
        cancel.refuse_if_cancelled(here)


def run_in_context(task: object, begin: Callable[[], object]) -> object:
    """`begin()` with all that the task asks for around it; a generator if that is one."""
    if attempt_context.get(task) is not None:
        return begin()
    refuse_if_importing("an attempt at ", task)
    return start(_steps(task, begin))


def _steps(task: Any, begin: Callable[[], Any]) -> Generator[object, object, Any]:
    run = runs.current()
    job = hooks.job_of(task)
    alone = parent.gives_all and threading.current_thread() is threading.main_thread()
    here = AttemptContext(task, run, own_process=alone)
    behind_prefix = prefix.inside.task_id == task.task_id
    here.behind_prefix = behind_prefix
    if behind_prefix:
        here.given_folder = prefix.inside.folder
    elsewhere = bool(job.prefix) and not behind_prefix and not prefix.inside.switched_off
    has_variables = job.environment or class_attr(task, "environment") is not None or run.environment is not None
    supervisor.ensure()
    with (
        ends_cleanly(),  # where no run of ours has seen to it: under Luigi's own worker
        checkpoint.graceful(here) if class_attr(task, "resumable") else _NOTHING,
        attempt_context.entered(here),
        cancel.known(here),
        _ended(here),
        logs.captured(here) if config.get("capture_logs") and not elsewhere else _NOTHING,
        _in_environment(here, job, elsewhere) if has_variables else _NOTHING,
        _seeded(here) if config.get("seed_random") and not elsewhere else _NOTHING as here.alone,
        checkpoint.counted(here) if not behind_prefix else _NOTHING,
        cancel.cancellable(here, sys._getframe()),
        exclusive.alone(here) as is_to_run,
    ):
        if not is_to_run:
            return None
        if elsewhere:
            here.folder.wanted = True
            return (yield from prefix.steps(here, job.prefix))
        value = begin()
        if inspect.isgenerator(value):
            value = yield from value
        return value


#: Where a task has not asked for a part of an attempt's surroundings.
_NOTHING = contextlib.nullcontext()


def _seeded(here: AttemptContext) -> seeds.seeded:
    return seeds.seeded(seeds.seed_of(here.task), keep=not here.own_process)


class _ended:  # noqa: N801 - used like a function, around every attempt
    """Close what belongs to the attempt, and say to its folder how it ended; interrupted, it leaves no program."""

    def __init__(self, here: AttemptContext) -> None:
        self._here = here
        self._began = process_tree.ticks()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        here = self._here
        if isinstance(error, (KeyboardInterrupt, TaskCancelledError)):
            process_tree.end_all(process_tree.started_by(threading.get_native_id(), self._began))
        here.stack.close()
        known = here.folder_if_any
        if known is not None:
            known.end(error is None)
        elif error is None and class_attr(here.task, "resumable"):
            with atomic.mended_later("The checkpoint of a task that has succeeded could not be removed"):
                task_folder.remove(task_folder.folder_of(here.task) / task_folder.CHECKPOINT)


@contextlib.contextmanager
def _in_environment(here: AttemptContext, job: hooks.Job, elsewhere: bool) -> Iterator[None]:
    """The variables of the run, the class and the hooks, from the general to the special."""
    if prefix.inside.task_id == here.task.task_id:  # the process was started with them
        yield
        return
    parts = [environment.parse(here.run.environment)]
    own_part = environment.parse(class_attr(here.task, "environment"))
    parts.append(environment.Environment(job.environment, own_part.command, own_part.shell))
    if not any(part.data or part.command for part in parts):
        yield
        return
    here.variables = environment.resolve(parts, os.environ)
    if elsewhere:
        yield
    else:
        with environment.replaced(here.variables):
            yield

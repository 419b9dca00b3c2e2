"""The attempt that runs here: what a thread, and the threads it starts, belong to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from superluigi.execution.itself import Itself
from superluigi.runs.context import RunContext, making
from superluigi.tasks.runtime.seeds import SeedGuard
from superluigi.tasks.runtime.workspace.task_folder import TaskFolder, cannot_be_made


@dataclass(eq=False)
class AttemptContext:
    """One attempt at `task` while it runs, and what was set up for it."""

    task: Any
    run: RunContext
    #: This process runs one attempt at a time and nothing else: its descriptors and environment are the task's.
    own_process: bool
    #: The environment as this task sees it, over that of the process: None unsets a variable.
    variables: dict[str, str | None] = field(default_factory=dict)
    #: Seconds since the epoch.
    started: float = field(default_factory=time.time)
    thread: int = field(default_factory=threading.get_ident)
    #: Where what is printed goes, by number of the stream; see `logs`.
    sink: Any = None
    #: Where that goes until there is a folder, in a process of the attempt's own.
    spare: Any = None
    #: Whether the seeded generators of the process are this attempt's alone; None where nothing was seeded.
    alone: SeedGuard | None = None
    #: The task has asked for its seed.
    seed_used: bool = False
    #: When (epoch) this process must have ended, once that is known (SIGTERM, a walltime).
    ending: float | None = None
    #: This process was started for the attempt, by one that has a scope for it as well.
    behind_prefix: bool = False
    #: Gives a cancellation, the first time, to the process in which the attempt is really made.
    pass_on: Callable[[str], None] | None = None
    #: Why the attempt was cancelled.
    cancelled: str | None = None
    #: Below the attempt's own frames, while it runs.
    frame: FrameType | None = None
    #: When (monotonic) and how often the attempt was told of its cancellation.
    told: float | None = None
    tellings: int = 0
    #: The task's lines are watched, since it swallowed that.
    insisting: bool = False
    #: What traced the thread before.
    tracing_before: Any = None
    #: From now on a cancellation comes too late.
    committing: bool = False
    active: bool = True
    guard: threading.RLock = field(default_factory=threading.RLock)
    #: Open until the attempt ends: locks of shared folders.
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    #: What the task requires, in a tuple, once it has been asked for.
    required: tuple[object] | None = None
    _folder: TaskFolder | None = None
    #: Folder given by the process that started this one; its owner keeps it.
    given_folder: Path | None = None

    def __post_init__(self) -> None:
        self.itself = Itself(self.task)

    @property
    def folder(self) -> TaskFolder:
        """The task's folder, made when it is first asked for."""
        with self.guard:
            if self._folder is None:
                self._folder = TaskFolder.begin(self.task, self.run, self.given_folder)
                if self.spare is not None:
                    try:
                        self.spare.move_into(self._folder.path)
                    except OSError as error:
                        raise cannot_be_made(self._folder.path, error) from error
            return self._folder

    @property
    def folder_if_any(self) -> TaskFolder | None:
        """The same, without making it."""
        return self._folder


_here: ContextVar[AttemptContext | None] = ContextVar("superluigi_scope", default=None)
_guard = threading.Lock()
#: The attempts that run in this process, the earliest first.
_active: list[AttemptContext] = []


def current() -> AttemptContext | None:
    """The attempt that this thread works for: its own; where it has none, the only one that runs in this process.

    Threads that a task starts do not know whose they are; as long as other tasks run beside it in threads, that
    cannot be told.
    """
    scope = _here.get()
    if scope is not None:
        return scope if scope.active else None
    running = _active[:]
    return running[-1] if len({each.thread for each in running}) == 1 else None


def get(task: object) -> AttemptContext | None:
    """The scope of `task` if it runs here."""
    for scope in reversed(_active[:]):
        if scope.task is task and scope.active:
            return scope
    return None


class entered:  # noqa: N801 - used like a function, around every attempt
    """Make `scope` the current one."""

    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope

    def __enter__(self) -> AttemptContext:
        self._token = _here.set(self._scope)
        self._making = making.set(self._scope.run.within | {self._scope.task.task_id})
        with _guard:
            _active.append(self._scope)
        return self._scope

    def __exit__(self, *exc_info: object) -> None:
        self._scope.active = False
        with _guard:
            _active.remove(self._scope)
        making.reset(self._making)
        _here.reset(self._token)

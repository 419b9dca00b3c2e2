"""Going on after being stopped: checkpoints, the time that is left, a period of grace.

A resumable task keeps what it needs in `checkpoint_path`, asks `remaining_time()` now and then, and raises
`GracefulTimeout` to be attempted again. SIGTERM, which batch systems send before a walltime ends, gives it
`grace_seconds` to do so; other tasks are interrupted at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import Any

from superluigi import config
from superluigi.errors import DefinitionError, ExecutionError, GracefulTimeout
from superluigi.execution.process import signals
from superluigi.luigi_compat import configuration
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.hooks import class_attr
from superluigi.tasks.runtime.workspace.task_folder import AGAIN, CHECKPOINT, folder_of

#: When this process will be ended, in seconds since the epoch: ours, set by what knows it, and Slurm's.
DEADLINES = ("SUPERLUIGI_DEADLINE", "SLURM_JOB_END_TIME")


class CheckpointPath(PosixPath):
    """A path to use as a file, or as a folder: `checkpoint_path / "name"` makes the folder."""

    def __truediv__(self, name: Any) -> Path:  # type: ignore[override]
        folder = Path(os.fspath(self))
        if not folder.exists():
            folder.mkdir(parents=True)
        inside: Path = folder / name
        return inside

    def joinpath(self, *names: Any) -> Path:  # type: ignore[override]
        return (self / names[0]).joinpath(*names[1:]) if names else self


def checkpoint_path(scope: AttemptContext | None, task: Any) -> Path:
    """Where a resumable task keeps its state: a path that does not exist until the task makes a file or folder of it.

    Raises:
        DefinitionError: the task does not say that it is resumable.
    """
    if not class_attr(task, "resumable"):
        raise DefinitionError(
            f"{task.get_task_family()}.run asks for checkpoint_path, but the class does not say resumable = True."
        )
    if scope is None:
        return CheckpointPath(folder_of(task) / CHECKPOINT)
    scope.folder.wanted = True
    return CheckpointPath(scope.folder.checkpoint)


def remaining_time(scope: AttemptContext | None, task: object) -> float:
    """Seconds that the attempt has left, 0 when its time is over; infinite where no limit is set."""
    now = time.time()
    ends = [math.inf]
    for name in DEADLINES:
        with contextlib.suppress(ValueError):
            ends.append(float(os.environ.get(name) or math.inf))
    if scope is not None:
        limit = _time_limit(task)
        if limit:
            ends.append(scope.started + limit)
        if scope.ending is not None:
            ends.append(scope.ending)
    return max(0.0, min(ends) - now)


def _time_limit(task: Any) -> float:
    if task.worker_timeout is not None:
        return float(task.worker_timeout)
    return float(configuration.value("worker", "timeout", 0, "int"))


class counted:  # noqa: N801 - used like a function, around every attempt
    """Let a task ask for another attempt as often as its `max_attempts` allows."""

    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, GracefulTimeout):
            return
        made = count(self._scope)
        limit = class_attr(self._scope.task, "max_attempts")
        if limit is not None and made >= limit:
            raise ExecutionError(
                f"{self._scope.task} has been attempted {made} times in this run and asks for one more ({error}), but "
                f"max_attempts is {limit}. Its checkpoint is kept: run it again, or raise max_attempts."
            ) from error


def count(scope: AttemptContext, said: str | None = None) -> int:
    """How often, in this run, the task has asked for another attempt, this time included; a success ends the count.

    With `said`, how often it has said something else than the time before.
    """
    file = scope.folder.base / AGAIN
    made = 1
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text())
        if known["run"] == scope.run.id:
            made = known["attempts"] + (said is None or said != known["said"])
    file.write_text(json.dumps({"run": scope.run.id, "attempts": made, "said": said}))
    return made


@contextlib.contextmanager
def graceful(scope: AttemptContext) -> Iterator[None]:
    """SIGTERM gives a resumable task time to end by itself; only in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    grace = _Grace(scope, before)
    signals.take(signal.SIGTERM, grace.on_signal)
    try:
        yield
    finally:
        grace.end()


class _Grace:
    def __init__(self, scope: AttemptContext, before: object) -> None:
        self._scope = scope
        self._before = before
        self._timer: threading.Timer | None = None

    def on_signal(self, signum: int, frame: object) -> None:
        if self._scope.ending is not None:
            # Batch systems signal every process, and a starter that dies of it signals once more: one grace for all.
            if time.time() > self._scope.ending - 0.01:
                self._pass_on(signum, frame)
            return
        seconds: float = config.get("grace_seconds")
        self._scope.ending = time.time() + seconds
        main = threading.main_thread().ident or 0
        self._timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGTERM))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        signals.give_back(signal.SIGTERM, self.on_signal)
        if self._timer is not None:  # the task is done in time; now the process does as it was told
            self._pass_on(signal.SIGTERM, None)

    def _pass_on(self, signum: int, frame: object) -> None:
        if callable(self._before):
            self._before(signum, frame)
        elif self._before is not signal.SIG_IGN:
            raise KeyboardInterrupt  # as Ctrl-C: everything that runs cleans up

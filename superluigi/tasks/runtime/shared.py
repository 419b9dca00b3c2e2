"""Folders that several tasks share: those that differ in some parameters only."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import ParameterError, TaskTimeoutError
from superluigi.runs import logs
from superluigi.storage.local_names import local_name
from superluigi.tasks.runtime import attempt_context as scopes
from superluigi.tasks.runtime.workspace.task_folder import cannot_be_made, workspace

_LOCK = ".lock"
_POLL_SECONDS = 0.1


def shared_path(task: Any, name: str, exclude: Iterable[str], timeout: float | None) -> Path:
    """The folder `name` of all tasks of this family that differ from `task` in the parameters `exclude` only.

    While the task runs the folder is its own until the attempt ends: another attempt that asks for it waits (at
    most `timeout` seconds). Outside of a running task it is only looked up.

    Raises:
        ParameterError: `exclude` names a parameter that there is not, or `name` is no name of a folder.
        StorageAccessError: the workspace takes no files.
        TaskTimeoutError: another attempt kept it for longer than `timeout`.
    """
    folder = _shared_folder(task, name, (exclude,) if isinstance(exclude, str) else tuple(exclude))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_made(folder, error) from error
    scope = scopes.get(task)
    if scope is not None:
        held: dict[Path, int] = scope.__dict__.setdefault("_shared", {})
        if folder not in held:
            held[folder] = _lock(folder, task, timeout)
            scope.stack.callback(os.close, held[folder])
    return folder


def _shared_folder(task: luigi.Task, name: str, exclude: tuple[str, ...]) -> Path:
    known = [parameter for parameter, _ in task.get_params()]
    unknown = [parameter for parameter in exclude if parameter not in known]
    if unknown:
        raise ParameterError(
            f"shared_path(exclude={list(exclude)}): {task.get_task_family()} has no parameter {unknown[0]!r}; "
            f"it has {', '.join(known) or 'none'}."
        )
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ParameterError(f"shared_path({name!r}): give the name of a folder, without '/'.")
    texts = task.to_str_params(only_significant=True)
    same = {parameter: text for parameter, text in texts.items() if parameter not in exclude}
    key = graph.digest([task.get_task_family(), name, same, sorted(exclude)])[:16]
    folder: Path = workspace() / "shared" / local_name(task.get_task_family()) / f"{name}-{key}"
    return folder


def _lock(folder: Path, task: luigi.Task, timeout: float | None) -> int:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = None if timeout is None else time.monotonic() + timeout
    told = False
    try:
        while not _try(descriptor):
            if deadline is not None and time.monotonic() > deadline:
                raise TaskTimeoutError(f"{task} waited {timeout:g} seconds for {folder}, which another task is using.")
            if not told:
                logs.logger.info("%s waits for %s, which another task is using", task, folder)
                told = True
            time.sleep(_POLL_SECONDS)  # not one long flock(2): a cancellation must get through
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

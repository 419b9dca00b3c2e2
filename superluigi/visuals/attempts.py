"""What the task folders tell of last attempts: the error of a failed one, and its log."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from superluigi import graph
from superluigi.errors import USERS_CODE

_TAIL_BYTES = 20_000
#: Errors of attempts that were asked to end.
_INTERRUPTED = ("KeyboardInterrupt", "superluigi.errors.TaskCancelledError", "TaskCancelledError")
_TRACEBACK = "Traceback (most recent call last)"
_CHAINED = re.compile(r"^(?:The above exception was the|During handling of the above) .*\n", re.MULTILINE)


def last_failures(tasks: Iterable[Any]) -> dict[str, str]:
    """Task id -> last line of the traceback with which its last attempt in this workspace ended.

    Meant for tasks whose output is missing; a task whose last attempt went well, or was interrupted, is left out.
    """
    _put_in_place()
    found: dict[str, str] = {}
    for task in tasks:
        text = _log(task, "stderr.log")
        if _TRACEBACK in text:
            last = _CHAINED.split(text.rpartition(_TRACEBACK)[2])[-1]  # an error of ours has no traceback of its own
            errors = [line for line in last.splitlines() if line.strip(":") and not line.startswith(" ")]
            error = errors[0] if errors else "failed"
            if not error.startswith(_INTERRUPTED):
                found[task.task_id] = error
    return found


def left_by_failures(tasks: Iterable[Any]) -> Iterator[tuple[Any, list[str], str]]:
    """Tasks with outputs on disk that are no newer than the failure of their last attempt: places, and the error."""
    known = {task.task_id: task for task in tasks}
    for task_id, error in last_failures(known.values()).items():
        task = known[task_id]
        places = [str(target.path) for target in graph.flatten(task.output()) if hasattr(target, "path")]
        log = _file(task, "stderr.log")
        try:  # silent attempts leave no folder: the output of one that went well later is younger
            if places and log and max(os.stat(place).st_mtime_ns for place in places) <= os.stat(log).st_mtime_ns:
                yield task, places, error
        except OSError:  # of a store elsewhere, or gone
            continue


def last_logs(tasks: Iterable[Any]) -> dict[str, str]:
    """Task id -> the end of what its last attempt in this workspace printed; silent ones are left out."""
    _put_in_place()
    found: dict[str, str] = {}
    for task in tasks:
        text = "\n".join(filter(None, (_log(task, name).strip() for name in ("stdout.log", "stderr.log"))))
        if text:
            found[task.task_id] = text
    return found


def telling_lines(log: str) -> tuple[int, ...]:
    """Of a log that ends with a traceback: the number of the line that names the user's own last line of code, and of
    the error's first line, counted from 0. Empty if there is none.
    """
    lines = log.splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)), default=None)
    if start is None:
        return ()
    frames = [(number, found[1]) for number in range(start, len(lines)) if (found := _FRAME.match(lines[number]))]
    own = [number for number, file in frames if not _is_foreign(file)] or [number for number, _ in frames]
    after = own[-1] if own else start
    error = next((number for number in range(after + 1, len(lines)) if lines[number][:1].strip()), after)
    return (after, error)


_FRAME = re.compile(r'  File "([^"]+)", line \d+')


def _is_foreign(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package, or to us."""
    return "/site-packages/" in file or file.startswith((*_FOREIGN, "<frozen"))


_FOREIGN = tuple(
    f"{folder}{os.sep}" for folder in (sysconfig.get_path("stdlib"), str(Path(__file__).resolve().parents[1]))
)


def _put_in_place() -> None:
    """Logs of attempts whose process was killed before they had a folder."""
    from superluigi.tasks.runtime.workspace import log_pool

    log_pool.recover_orphans()


def _file(task: object, name: str) -> Path | None:
    from superluigi.tasks.runtime.workspace.task_folder import folder_of

    with USERS_CODE:  # a task whose `requires` raises has no identity, and so no folder
        return _folder(folder_of(task)) / name if hasattr(task, "task_hash") else None
    return None


def _log(task: object, name: str) -> str:
    path = _file(task, name)
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _folder(base: Path) -> Path:
    from superluigi.errors import TargetMissingError
    from superluigi.tasks.runtime.workspace.task_folder import attempt_folder

    try:
        return attempt_folder(base)
    except TargetMissingError:
        return base

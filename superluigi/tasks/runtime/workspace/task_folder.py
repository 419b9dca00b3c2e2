"""The folder of a task: `<workspace>/jobs/<family>/<task_hash>/`, one attempt in it, earlier ones below.

    stdout.log  stderr.log      what the attempt prints, live
    params.json                 its parameters (private ones left out)
    rerun.py                    runs it again by hand, with a debugger
    checkpoint                  what a resumable task keeps between attempts
    attempts/1, attempts/2 …    the earlier attempts, oldest first
    .lock                       held (flock) while an attempt runs; the kernel frees it when the process dies

Whatever else lies there is the task's own. A second attempt at the same time, by another run, works in the next
`attempts/<n>` instead of moving the first one's files away.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from superluigi import config
from superluigi.errors import StorageAccessError, TargetMissingError
from superluigi.lineage.staleness.facts import public_params
from superluigi.runs.context import RunContext
from superluigi.storage.local.copy import remove_tree
from superluigi.storage.local_names import local_name
from superluigi.tasks.runtime.seeds import identity_of
from superluigi.tasks.runtime.workspace import rerun

STDOUT, STDERR, PARAMS, RERUN = "stdout.log", "stderr.log", "params.json", "rerun.py"
#: Files of ours that belong to one attempt.
OURS = (STDOUT, STDERR, PARAMS, RERUN)
CHECKPOINT, ATTEMPTS, LOCK, AGAIN = "checkpoint", "attempts", ".lock", ".again"
_STAYS = (CHECKPOINT, ATTEMPTS, LOCK, AGAIN)


def workspace() -> Path:
    """The folder that holds all task folders, as configured."""
    folder: Path = config.get("workspace")
    return folder


def folder_of(task: object) -> Path:
    """Where the folder of `task` is or would be."""
    return Path(place_of(task))


def place_of(task: Any) -> str:
    """The same as text: for records, which need no Path."""
    return f"{workspace()}/jobs/{local_name(task.get_task_family())}/{identity_of(task)}"


def about(task: Any, run: RunContext) -> dict[str, Any]:
    """What the folder of an attempt that begins now will tell of it, as JSON."""
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "base": place_of(task),
        "keep": bool(getattr(task, "keep_task_dir", False)),
        "resumable": getattr(task, "resumable", False) is True,
        "params": public_params(task),
        "rerun": rerun.arguments(task, run),
        "began": f"begun {began} by process {os.getpid()} on {socket.gethostname()}",
    }


def cannot_be_made(folder: object, error: OSError) -> StorageAccessError:
    """The error for a workspace that takes no files: it names what refused, which is the same for many folders."""
    refused = error.filename or folder
    return StorageAccessError(
        f"The workspace takes no files: {refused}: {error.strerror}. Free space, change its rights, or name another "
        "folder in SUPERLUIGI_WORKSPACE."
    )


class TaskFolder:
    """The folder of one attempt that runs."""

    def __init__(self, path: Path, base: Path, lock: int | None, number: int) -> None:
        #: The task's working folder.
        self.path = path
        self.base = base
        #: Counts the attempts that are remembered, from 1.
        self.number = number
        self._lock = lock
        #: The task asked for it, so that it stays even if nothing was printed.
        self.wanted = False

    @classmethod
    def begin(cls, task: object, run: RunContext, given: Path | None = None) -> TaskFolder:
        """Make the folder ready for an attempt that begins now.

        Raises:
            StorageAccessError: it cannot be made.
        """
        if given is not None:
            folder = cls(given, given, None, 0)
            folder.wanted = True
            return folder
        return cls.again(about(task, run))

    @classmethod
    def again(cls, about: Mapping[str, Any]) -> TaskFolder:
        """`begin` for an attempt that is known by what `about` said of it.

        Raises:
            StorageAccessError: it cannot be made.
        """
        base = Path(about["base"])
        try:
            patience: float = config.get("grace_seconds") + 5 if about["resumable"] else 0.0
            folder = cls._fresh(base, about["keep"], patience)
            _write(folder.path / PARAMS, json.dumps(about["params"], indent=2, default=str) + "\n")
            _write(folder.path / RERUN, rerun.script(about["rerun"], f"Attempt {folder.number}, {about['began']}."))
        except OSError as error:
            raise cannot_be_made(base, error) from error
        return folder

    @classmethod
    def _fresh(cls, base: Path, keep: bool, patience: float) -> TaskFolder:
        new = _make(base)
        lock = _hold(base, made=True)
        deadline = time.monotonic() + patience
        while lock is None and time.monotonic() < deadline:  # an attempt that was told to end may still be saving
            time.sleep(0.1)
            new, lock = False, _hold(base)
        if lock is None:  # another attempt runs here: it keeps the front place
            number, path = _next_attempt(base)
            return cls(path, path, None, number)
        number = 1 if new else _move_away(base, keep)
        return cls(base, base, lock, number)

    def open_log(self, name: str) -> int:
        """A descriptor that appends to one of the logs."""
        return os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    @property
    def checkpoint(self) -> Path:
        """Where a resumable task keeps what it needs to go on."""
        return self.base / CHECKPOINT

    def end(self, success: bool) -> None:
        """The attempt has ended: drop the checkpoint after a success, and a folder that has nothing to look at."""
        with contextlib.suppress(OSError):
            if success:
                self._drop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _drop(self) -> None:
        found = _entries(self.base)
        for name in (CHECKPOINT, AGAIN):
            if name in found:
                remove(self.base / name)
                del found[name]
        if self.path != self.base:
            found = _entries(self.path)
        silent = not any(found.get(name) for name in (STDOUT, STDERR))
        if silent and not self.wanted and set(found) <= {*OURS, LOCK}:
            for name in found:
                os.unlink(self.path / name)
            os.rmdir(self.path)


def _entries(folder: Path) -> dict[str, int]:
    """Names in a folder and the size of each."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}


def _make(folder: Path) -> bool:
    """Make a folder and those above it; whether it is new."""
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _make(folder)
    except FileExistsError:
        return False
    return True


def _hold(base: Path, *, made: bool = False) -> int | None:
    """The lock of `base`, which was `made` if it was not there, or None if an attempt has it."""
    while True:
        if not made:
            _make(base)
        made = False
        try:
            descriptor = os.open(base / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # pruned between two lines
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(base / LOCK).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # we locked the file of a folder that was pruned meanwhile


def is_running(base: Path) -> bool:
    """Whether an attempt runs in this folder now."""
    if not os.path.exists(base / LOCK):
        return False
    try:
        descriptor = os.open(base / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def attempts(base: Path) -> list[int]:
    """Numbers of the earlier attempts that are kept, oldest first."""
    if not os.path.isdir(base / ATTEMPTS):
        return []
    try:
        return sorted(int(name) for name in os.listdir(base / ATTEMPTS) if name.isdigit())
    except FileNotFoundError:
        return []


def attempt_folder(base: Path, number: int | None = None) -> Path:
    """The folder of one attempt; the last one without a number.

    Raises:
        TargetMissingError: there is none.
    """
    known = attempts(base)
    current = (known[-1] if known else 0) + 1
    rerun_can_be = os.path.exists(base / RERUN)
    if number is None and rerun_can_be:
        return base
    if number == current and rerun_can_be:
        return base
    if number is None and known:
        return base / ATTEMPTS / str(known[-1])
    if number in known:
        return base / ATTEMPTS / str(number)
    if number is None:
        raise TargetMissingError(
            f"{base} does not exist: the task has not run in this workspace, or it succeeded without printing "
            "anything. Other workspaces: SUPERLUIGI_WORKSPACE."
        )
    kept = ", ".join(map(str, [*known, current])) if rerun_can_be else "none"
    raise TargetMissingError(f"{base} has no attempt {number}; kept are: {kept}.")


def _next_attempt(base: Path) -> tuple[int, Path]:
    """A fresh folder below `attempts`, even when others make one at the same time."""
    while True:
        known = attempts(base)
        number = (known[-1] if known else 0) + 1
        path = base / ATTEMPTS / str(number)
        if _make(path):
            return number, path


def _move_away(base: Path, keep: bool) -> int:
    """Move what an earlier attempt left into `attempts`; the number of the one that begins."""
    limit: int = config.get("keep_attempts")
    left = [name for name in os.listdir(base) if (name in OURS if keep else name not in _STAYS)]
    if left:
        number, earlier = _next_attempt(base)
        for name in left:
            os.rename(base / name, earlier / name)
    known = attempts(base)
    for number in known[: len(known) - limit] if len(known) > limit else []:
        with contextlib.suppress(OSError):
            remove_tree(base / ATTEMPTS / str(number))
    return (known[-1] if known else 0) + 1


def remove(path: Path) -> None:
    """Remove a file or folder, whichever it is; fine when it is gone, or can never have been."""
    if not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):
            remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)

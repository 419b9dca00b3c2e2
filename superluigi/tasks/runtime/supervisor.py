"""One thread per process that looks after attempts which take a while: logs appear, cancellations are seen.

Old task folders are removed by age, now and then, and never those of running or unfinished tasks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

from superluigi import config
from superluigi.execution.process.streams import flush
from superluigi.storage.local.copy import remove_tree
from superluigi.tasks.runtime import cancel, logs
from superluigi.tasks.runtime.workspace import log_pool
from superluigi.tasks.runtime.workspace.task_folder import CHECKPOINT, LOCK, RERUN, workspace

_EVERY_SECONDS = 0.3
_STAMP = ".pruned"
_PRUNE_EVERY_SECONDS = 3600.0


class _Supervisor:
    """The thread; it does not survive a fork."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        #: The process that has it.
        self._pid = 0

    def ensure(self) -> None:
        """Start it, unless this process has it."""
        if self._pid == os.getpid():
            return
        with self._guard:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=_watch, name="superluigi-supervisor", daemon=True).start()


_supervisor = _Supervisor()
ensure = _supervisor.ensure


def _watch() -> None:
    pruned = False
    while True:
        time.sleep(_EVERY_SECONDS)
        cancel.answer_others()
        now = time.time()
        old = [scope for scope in cancel.running() if now - scope.started > _EVERY_SECONDS]
        for scope in old:
            if scope.own_process:
                flush()
                logs.keep_if_spare(scope)
            cancel.look(scope)
        if old and not pruned:
            pruned = True
            with contextlib.suppress(OSError):
                prune_now_and_then()


def prune_now_and_then() -> None:
    """`prune`, unless some process has done it within the last hour."""
    root = workspace()
    stamp = root / _STAMP
    with contextlib.suppress(OSError):
        if stamp.exists() and time.time() - stamp.stat().st_mtime < _PRUNE_EVERY_SECONDS:
            return
        stamp.touch()
        prune(root)


def prune(root: Path | None = None, keep_days: float | None = None) -> list[Path]:
    """Remove the folders of finished tasks whose last attempt is older than `keep_days`; returns them.

    A folder with a checkpoint belongs to a task that is not finished and stays.
    """
    days: float = config.get("keep_days") if keep_days is None else keep_days
    log_pool.recover_orphans(root)
    oldest = time.time() - days * 86_400
    removed = []
    for folder in sorted((root or workspace()).glob("jobs/*/*")):
        with contextlib.suppress(OSError):  # another process removes or uses it: next time
            if _age_of(folder) < oldest and not (folder / CHECKPOINT).exists() and _remove(folder):
                removed.append(folder)
    return removed


def _age_of(folder: Path) -> float:
    """When the last attempt printed something, or began."""
    with os.scandir(folder) as entries:
        times = [entry.stat().st_mtime for entry in entries if entry.name in ("stdout.log", "stderr.log", RERUN)]
    return max(times, default=folder.stat().st_mtime)


def _remove(folder: Path) -> bool:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True

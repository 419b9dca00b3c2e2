"""End a process together with everything it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Pids of the living descendants of `pid`, nearest first; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = stat.read_text().rpartition(")")[2].split()  # proc_pid_stat(5): state, ppid, …
            children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found.extend(level)
    return found


def kill_tree(pid: int) -> None:
    """SIGKILL to `pid`, its process group and its descendants; fine when they are gone.

    The caller has not yet waited for `pid`, so the number cannot belong to somebody else.
    """
    below = descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for child in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)


def end_tree(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ask `process` to end (SIGTERM); kill it and its descendants when it has not after `grace` seconds.

    Returns at once. `process` must lead its own process group.
    """
    below = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError):
        process.terminate()

    def finish() -> None:
        if process.returncode is None:
            kill_tree(process.pid)
        for child in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)

    if grace <= 0:
        finish()
        return
    timer = threading.Timer(grace, finish)
    timer.daemon = True
    timer.start()

"""End a process together with everything it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from superluigi.storage import owner_token


def descendants(pid: int) -> list[int]:
    """Pids of the living descendants of `pid`, nearest first; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(owner_token.state_and_more(int(found.name))[1]), []).append(int(found.name))
    below: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        below.extend(level)
    return below


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to each of `pids`; fine when they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


#: How long programs may take to end by themselves, since they have heard of it as well, and when asked to.
_BY_THEMSELVES_SECONDS, _ASKED_SECONDS = 0.5, 3.0


def ticks() -> int:
    """The time as `owner_token.start_time` says it."""
    return int(time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) * os.sysconf("SC_CLK_TCK"))


def started_by(thread: int, since: int) -> dict[int, int]:
    """What a thread of this process (its `native_id`) has started since `since` (ticks) and still runs: pid → start.

    Linux keeps the children of each thread (proc_tid_children(5)); empty where it does not, or the thread has ended.
    """
    try:
        children = Path(f"/proc/self/task/{thread}/children").read_text().split()
    except OSError:
        return {}
    return {int(pid): start for pid in children if (start := owner_token.start_time(int(pid))) >= max(1, since)}


def end_all(started: Mapping[int, int]) -> None:
    """End processes (pid → start) with all that they have started, but for those that are meant to stay."""
    alive = {pid: start for pid, start in started.items() if owner_token.start_time(pid) == start and not stays(pid)}
    if not alive:
        return
    alive.update({pid: owner_token.start_time(pid) for root in list(alive) for pid in descendants(root)})
    for signum, patience in ((0, _BY_THEMSELVES_SECONDS), (signal.SIGTERM, _ASKED_SECONDS), (signal.SIGKILL, 0.0)):
        end = time.monotonic() + patience
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)
        while alive := {pid: start for pid, start in alive.items() if start == owner_token.start_time(pid) != 0}:
            if time.monotonic() >= end:
                break
            time.sleep(0.02)


#: What a program that a task starts, in a session of its own, must have in its environment to stay when the task ends.
STAYS = "SUPERLUIGI_STAY=1"
#: An environment that is empty for longer than this is meant to be so.
_BEGINS_SECONDS = 0.1


def marked(mark: str) -> list[int]:
    """Pids of processes that were started with `mark` (`NAME=value`) in their environment, whatever their parent."""
    pids = [int(file.name) for file in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if has_mark(pid, mark)]


def has_mark(pid: int, mark: str) -> bool:
    """Whether the process was started with `mark` in its environment; False when it is gone, or not ours to see."""
    return mark.encode() in _environment(pid).split(b"\0")


def stays(pid: int) -> bool:
    """Whether the process is to stay when the task that has started it ends.

    A program that has just replaced the process it was started from has no environment for a moment (execve(2) closes
    what is to be closed before it): it is looked at again.
    """
    end = time.monotonic() + _BEGINS_SECONDS
    while not _environment(pid) and owner_token.start_time(pid) and time.monotonic() < end:
        time.sleep(0.001)
    return has_mark(pid, STAYS)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""

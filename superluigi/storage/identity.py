"""Names for things that a process leaves while it works, and whether that process still lives."""

from __future__ import annotations

import functools
import os
import re
import socket
from pathlib import Path

_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel


@functools.lru_cache(maxsize=1)
def host() -> str:
    """This host's name, fit for a file name; in a container, with the number of its world of processes.

    There the same pid is another process, even where the host's name is shared.
    """
    name = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:40] or "localhost"
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return name
    return name if namespace == _FIRST_PID_NAMESPACE else f"{name}.{re.sub('[^0-9]', '', namespace)}"


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot; 0 if there is no such process or no /proc.

    Field 22 of /proc/<pid>/stat (proc_pid_stat(5)); a recycled pid has another start time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return 0
    after_name = stat.rpartition(")")[2].split()
    if after_name[0] in ("Z", "X"):
        return 0
    return int(after_name[19])


def _is_zombie(pid: int) -> bool:
    """Whether a process of ours has ended and only waits for its parent."""
    return Path(f"/proc/{pid}/stat").exists() and not start_time(pid)


@functools.lru_cache(maxsize=8)
def _own(pid: int) -> str:
    return f"{host()}-{pid}-{start_time(pid)}"


def token() -> str:
    """A unique name that says who made it: `<host>-<pid>-<start>-<random>`."""
    return f"{_own(os.getpid())}-{os.urandom(6).hex()}"


_TOKEN = re.compile(r"(?P<host>[A-Za-z0-9._]+)-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{12}")


def is_token(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None


def token_in(text: str) -> str | None:
    """The token that `text` begins with."""
    match = _TOKEN.match(text)
    return match and match[0]


def is_own(name: str) -> bool:
    """Whether `name` is a token of this process."""
    return name.startswith(_own(os.getpid()) + "-")


def is_dead(name: str) -> bool:
    """Whether `name` is a token of a process of this host that no longer runs.

    Tokens of other hosts, and names that are no tokens, are never dead: nobody here can know.
    """
    if is_own(name):
        return False
    match = _TOKEN.fullmatch(name)
    if match is None or match["host"] != host():
        return False
    pid, start = int(match["pid"]), int(match["start"])
    now = start_time(pid)
    if start and now:
        return now != start
    try:  # /proc says nothing: there is none, it hides what others run (hidepid), or the process is gone
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(pid)

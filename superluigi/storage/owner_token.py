"""Names for things that a process leaves while it works, and whether that process is gone.

A token says who made a thing: `<host>-<boot>.<world>-<pid>-<start>-<random>`. The host is for the reader. Boot id and
world (the number of the pid namespace) say where pid and start time mean something: only there can a process be known
to be gone. About everything else (another boot, another container, another machine, even one of the same name) that
cannot be known here, so nothing of it is ever taken for dead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import sys
from pathlib import Path

_FIRST_TIME_NAMESPACE = 4026531834  # PROC_TIME_INIT_INO of the kernel: the same everywhere
_UNKNOWN_BOOT = "0" * 12


@functools.lru_cache(maxsize=1)
def host() -> str:
    """This host's name, fit for a file name; for the reader only: two machines may be called alike."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:24] or "localhost"


@functools.lru_cache(maxsize=1)
def world() -> str:
    """Where this process's pid and start time mean something: `<boot>.<pid namespace>`.

    The boot part is zeros where the system has no boot id: nothing is ever known to be gone there. Start times are
    shifted in a time namespace of one's own, so that its number follows.
    """
    time = _namespace("time")
    return f"{_boot_id()}.{_namespace('pid')}" + (f".{time}" if time not in (0, _FIRST_TIME_NAMESPACE) else "")


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return re.sub("[^0-9a-f]", "", Path("/proc/sys/kernel/random/boot_id").read_text())[:12].ljust(12, "0")
    return _darwin_boot_id() if sys.platform == "darwin" else _UNKNOWN_BOOT


def _darwin_boot_id() -> str:
    import ctypes

    size = ctypes.c_size_t(64)
    text = ctypes.create_string_buffer(size.value)
    if ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0):
        return _UNKNOWN_BOOT
    return re.sub("[^0-9a-f]", "", text.value.decode("ascii", "ignore").lower())[:12].ljust(12, "0")


def _namespace(kind: str) -> int:
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return 0


def state_and_more(pid: int) -> list[str]:
    """What /proc/<pid>/stat says after the process's name, which may be cut within a character: state, parent, …

    Raises:
        OSError: there is no such process, or no /proc (proc_pid_stat(5)).
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode("ascii").split()


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot; 0 if it does not run or there is no /proc.

    Field 22 of /proc/<pid>/stat; a recycled pid has another start time.
    """
    try:
        state, *more = state_and_more(pid)
    except OSError:
        return 0
    return 0 if state in ("Z", "X") else int(more[18])


def _is_zombie(pid: int) -> bool:
    """Whether a process of ours has ended and only waits for its parent."""
    return Path(f"/proc/{pid}/stat").exists() and not start_time(pid)


@functools.lru_cache(maxsize=8)
def _proc_is_of(pid: int) -> bool:
    """Whether /proc shows the pid namespace of this process (`pid`), and not that of a container's host."""
    try:
        return os.readlink("/proc/self") == str(pid)
    except OSError:
        return False


@functools.lru_cache(maxsize=8)
def _own(pid: int) -> str:
    return f"{host()}-{world()}-{pid}-{start_time(pid) if _proc_is_of(pid) else 0}"


def token() -> str:
    """A unique name that says who made it: `<host>-<boot>.<world>-<pid>-<start>-<random>`."""
    return f"{_own(os.getpid())}-{os.urandom(6).hex()}"


#: Tokens of version 0.1 had no boot id: `<host>-<pid>-<start>-<random>`. Their processes are never known to be gone.
_TOKEN = re.compile(
    r"(?P<host>[A-Za-z0-9._]+)-(?:(?P<world>[0-9a-f]{12}\.\d+(?:\.\d+)?)-)?(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{12}"
)


def is_token(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None


def token_in(text: str) -> str | None:
    """The token that `text` begins with."""
    match = _TOKEN.match(text)
    return match and match[0]


def host_of(name: str) -> str:
    """The host in a token, to be shown; the name itself if it is none."""
    match = _TOKEN.fullmatch(name)
    return match["host"] if match else name


def pid_of(name: str) -> int | None:
    """The number of the process in a token, to be shown."""
    match = _TOKEN.fullmatch(name)
    return int(match["pid"]) if match else None


def is_own(name: str) -> bool:
    """Whether `name` is a token of this process."""
    return name.startswith(_own(os.getpid()) + "-")


def is_of_this_world(name: str) -> bool:
    """Whether `name` is a token of this boot and pid namespace, so that `owner_is_gone` knows about it."""
    match = _TOKEN.fullmatch(name)
    return match is not None and match["world"] == world() and not world().startswith(_UNKNOWN_BOOT)


def owner_is_gone(name: str) -> bool:
    """Whether the process that made the token `name` is known to run no longer.

    Only the process table of its own boot and pid namespace can know. False for every other token, and for what is
    no token: that may be alive.
    """
    match = _TOKEN.fullmatch(name)
    if match is None or not is_of_this_world(name) or is_own(name):
        return False
    pid, start = int(match["pid"]), int(match["start"])
    now = start_time(pid) if _proc_is_of(os.getpid()) else 0
    if start and now:
        return now != start
    try:  # /proc says nothing: there is none, it hides what others run (hidepid), or the process is gone
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_zombie(pid) if _proc_is_of(os.getpid()) else False

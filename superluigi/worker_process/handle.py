"""The parent's end of a worker process: start it, talk to it, end it with all it has started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from superluigi import config
from superluigi.execution.process import process_tree
from superluigi.storage import owner_token
from superluigi.worker_process.protocol import HELLO, Channel, FileChannel, Request

#: `-m` would find this package only where the current folder or the environment says so.
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from superluigi.worker_process.main import serve_socket; serve_socket(int(sys.argv[2]), int(sys.argv[3]))"
)
#: The environment variable by which all that a process's tasks have started is known.
MARK = "SUPERLUIGI_WORKER_PROCESS"

Way = TypeVar("Way", bound=Channel | FileChannel)


class WorkerProcess(Generic[Way]):
    """One that has been started, the leader of its own group unless a command that is not ours stands before it."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: Way, *, leads: bool = True, mark: str | None = None
    ) -> None:
        self._process = process
        self.channel = channel
        self._leads = leads
        self._mark = mark
        #: What it was seen to have started, and when that began: when it is gone its children are others' children.
        self._below: dict[int, int] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, said: Request) -> None:
        """Say something; whether it has died in the meantime shows when it is listened to."""
        with contextlib.suppress(OSError):
            self.channel.send(said)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it lives."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """The same, after `seconds` at the latest."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def interrupt(self) -> None:
        """Ask what it runs to end, as Ctrl-C would, so that it can clean up; returns at once."""
        if self._process.poll() is None:
            self._look_below()
        with contextlib.suppress(OSError):
            self._process.terminate()

    def end_soon(self, grace_seconds: float) -> None:
        """Interrupt it; kill it when it has not ended after `grace_seconds`. Returns at once."""
        self.interrupt()
        if grace_seconds <= 0:
            self.kill()
            return
        timer = threading.Timer(grace_seconds, self._kill_if_alive)
        timer.daemon = True
        timer.start()

    def end(self, grace_seconds: float) -> int:
        """Interrupt it and wait; kill it when it takes too long. What its tasks have started goes with it."""
        self.close()
        self.interrupt()
        if self.wait(grace_seconds) is not None and not self._leads:
            self._end_below(signal.SIGTERM)  # what has ended stood before the process, which is still to hear of it
            self._below.clear()
        return self.bury()

    def bury(self) -> int:
        """The exit code of a process that has ended, or must; nothing that it has started stays."""
        self.kill()
        code = self._process.wait()
        if self._mark is not None:  # orphans, perhaps in a session of their own, of a process that was killed
            self._below = _with_start_times(process_tree.marked(self._mark))
            self._end_below(signal.SIGKILL)
        self.close()
        self.channel.close()
        return code

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        alive = self._process.returncode is None
        if alive:
            self._look_below()
        # the number of a group is its own for as long as it has members; those of a dead one may be known by a mark
        if self._leads and (alive or self._below or self._mark is None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        elif alive:
            with contextlib.suppress(OSError):
                self._process.kill()
        self._end_below(signal.SIGKILL)

    def close(self) -> None:
        """Let it know that nothing more comes, which ends it."""
        with contextlib.suppress(OSError):
            if isinstance(self.channel, Channel):
                self.channel.say_no_more()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _kill_if_alive(self) -> None:
        if self._process.returncode is None:
            self.kill()

    def _look_below(self) -> None:
        self._below.update(_with_start_times(process_tree.descendants(self.pid)))

    def _end_below(self, signum: int) -> None:
        """A recycled pid has another start time."""
        for pid, started in self._below.copy().items():
            same = started and owner_token.start_time(pid) == started
            if same and not process_tree.stays(pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signum)


def _with_start_times(pids: Iterable[int]) -> dict[int, int]:
    return {pid: owner_token.start_time(pid) for pid in pids}


def command(prefix: Sequence[str], python: Sequence[str], *arguments: str) -> list[str]:
    """The command line of a worker process behind `prefix`."""
    return [*prefix, *python, "-m", "superluigi.worker_process", *arguments]


def at_a_socket() -> WorkerProcess[Channel]:
    """Start one of this very Python, with its import path, to which nothing but us has a way."""
    ours, theirs = socket.socketpair()
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *flags, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us only; we end the group
        )
    return WorkerProcess(process, Channel(ours.detach()))


def at_pipes(
    prefix: Sequence[str], environment: Mapping[str, str], folder: str | None, log: Path
) -> WorkerProcess[Channel]:
    """Start one behind a command that passes stdin and stdout on; what both print goes to `log`.

    Raises:
        OSError: the command cannot be started.
    """
    mark = secrets.token_hex(8)
    with log.open("ab") as file:
        process = subprocess.Popen(
            command(prefix, [sys.executable]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=folder,
            env={**config.environment(), **environment, MARK: mark},
            start_new_session=True,
        )
    if process.stdin is None or process.stdout is None:
        raise OSError("no pipes")
    requests, replies = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
    process.stdin.close()
    process.stdout.close()
    return WorkerProcess(process, Channel(replies, requests, greeted=False), mark=f"{MARK}={mark}")


def in_a_folder(
    line: Sequence[str], channel: FileChannel, environment: Mapping[str, str], out: int, err: int
) -> WorkerProcess[FileChannel]:
    """Start one by the command `line`, which finds its call in the folder of `channel`.

    It is no group of its own: Ctrl-C is for the command before it as well.

    Raises:
        OSError: the command cannot be started.
    """
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment)
    with contextlib.suppress(OSError):  # it may have ended already
        if process.stdin is not None:
            process.stdin.write(HELLO)
            process.stdin.flush()
    return WorkerProcess(process, channel, leads=False)


def signal_of(code: int) -> signal.Signals | None:
    """The signal that a process has died of, by its exit code or that of a shell; None when it ended by itself."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in signal.Signals._value2member_map_ else None

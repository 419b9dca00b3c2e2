"""The worker's end of its child process: start it, talk to it, end it with all it has started."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from superluigi.execution import process_tree
from superluigi.queue.runs import QueueEnvironment
from superluigi.queue.store.claims import Claim
from superluigi.storage import owner_token


class ChildProcess:
    """One running `superluigi.queue.child`, perhaps behind a prefix command.

    Raises:
        OSError: the prefix command cannot be started.
    """

    def __init__(
        self, prefix: str | None, environment: Mapping[str, str], surroundings: QueueEnvironment, log: Path
    ) -> None:
        command = [*shlex.split(prefix or ""), sys.executable, "-m", "superluigi.queue.child"]
        self.command = command
        self.surroundings = surroundings
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        #: Tells what this child's tasks have started, also when the child is no more and cannot tell.
        self._mark = f"{MARK}={secrets.token_hex(8)}"
        folder = surroundings.folder if os.path.isdir(surroundings.folder) else None
        with log.open("ab") as file:
            if folder is None:  # absolute paths still work; relative ones would go astray without a word
                file.write(f"warning: the submitter's folder {surroundings.folder} is not here\n".encode())
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=folder,
                env={**os.environ, **surroundings.environment(), **environment, **dict([self._mark.split("=")])},
                start_new_session=True,  # Ctrl-C is for the worker; and the group can be ended as a whole
            )
        self._buffer = b""
        self._known: set[str] = set()

    @property
    def pid(self) -> int:
        return self._process.pid

    def knows(self, key: str) -> bool:
        """Whether it has been told about this run or class."""
        return key in self._known

    def tell_run(self, run: str, definition: str) -> None:
        self._known.add(run)
        self._send({"run": definition})

    def tell_code(self, digest: str, pickle: bytes) -> None:
        self._known.add(digest)
        self._send({"code": digest, "pickle": base64.b64encode(pickle).decode()})

    def begin(self, claim: Claim, log: str, known: list[str]) -> None:
        """Have it begin an attempt; `receive` gives the reply."""
        self._send({"task": _row(claim, log, known)})

    def tell_of_end(self, claim: Claim, log: str, events: Sequence[str], said: str) -> None:
        """Have it fire Luigi's events, and send the mail, for an attempt that failed and could not do so itself."""
        self._send({"events": events, "task": _row(claim, log, []), "said": said})

    def _send(self, message: Mapping[str, Any]) -> None:
        stream = self._process.stdin
        # A child that died says so at the next `receive`.
        with contextlib.suppress(BrokenPipeError):
            if stream is not None:
                stream.write(f"{json.dumps(message)}\n".encode())
                stream.flush()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """The next reply; None when there is none within `timeout` seconds, or the child is dead."""
        stream = self._process.stdout
        if stream is None:
            return None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            part = os.read(stream.fileno(), 65536)
            if not part:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
                return None
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it lives."""
        return self._process.poll()

    def interrupt(self, grace_seconds: float) -> dict[str, Any] | None:
        """Ask its attempt to end; the reply of one that ends well, or asks for another attempt from its check-point."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        deadline = time.monotonic() + grace_seconds
        while reply := self.receive(max(0.0, deadline - time.monotonic())):
            if reply["kind"] not in ("begun", "told"):
                return reply
        return None

    def end(self, grace_seconds: float) -> int:
        """Interrupt what it runs and wait; kill it when it takes too long. What its tasks have started goes with it."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        below = self._started() if self._process.poll() is None else {}
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            below.update(self._started())
        if self._process.returncode is None or below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # its number is ours: as long as its group has members
        code = self._process.wait()
        # By mark as well: when the child died, what it had started is an orphan, perhaps in a session of its own.
        _end_left_overs({**below, **{pid: owner_token.start_time(pid) for pid in process_tree.marked(self._mark)}})
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _started(self) -> dict[int, int]:
        """Pids and start times of all below the child, which is the parent of the orphans among them."""
        return {pid: owner_token.start_time(pid) for pid in process_tree.descendants(self.pid)}


#: The environment variable by which all that a child's tasks have started is known.
MARK = "SUPERLUIGI_QUEUE_CHILD"


def _end_left_overs(found: Mapping[int, int]) -> None:
    """End what an ended child has left running, also in sessions of its own; a recycled pid has another start."""
    for pid, started in found.items():
        if started and owner_token.start_time(pid) == started and not process_tree.has_mark(pid, process_tree.STAYS):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _row(claim: Claim, log: str, known: list[str]) -> dict[str, Any]:
    return {
        "id": claim.task_id, "name": claim.name, "module": claim.module, "params": claim.params, "code": claim.code,
        "run": claim.run, "worker": claim.worker, "log": log, "known": known,
        "tags": claim.tags, "timed": claim.timeout is not None,
    }  # fmt: skip


def ending(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    hint = "; perhaps memory ran out, `dmesg` would tell" if -code == signal.SIGKILL else ""
    return f"signal {name}{hint}"

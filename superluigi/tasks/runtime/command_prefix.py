"""An attempt behind a command: `PREFIX python -m superluigi.execute FOLDER` in a child process.

The task travels to the child as a file in its folder, which both sides see; messages come back as lines of another
file, the outcome as a third. What the child and the prefix command print is the task's log. A pipe on stdin tells
the child when this process is gone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luigi.task_status import DONE, PENDING

from superluigi.errors import CommandFailedError, RemoteError, WorkerLostError
from superluigi.execution import pickling, serialization
from superluigi.execution.addresses import addresses
from superluigi.execution.attempt import REPORTER_METHODS, AttemptResult, fire
from superluigi.execution.process_tree import descendants
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.cancel import PASSED_ON
from superluigi.tasks.runtime.checkpoint import remaining_time
from superluigi.tasks.runtime.environment import merged
from superluigi.tasks.runtime.hooks import class_attr
from superluigi.tasks.runtime.task_folder import STDERR, STDOUT

#: Names of files in the task's folder while the child runs.
ORDER, OUTCOME, MESSAGES = ".order", ".outcome", ".messages"
#: First line on the child's stdin: from then on its end means that we are gone.
HELLO = b"superluigi\n"
#: Programs that start a Python of another place; the path of ours means nothing there.
ELSEWHERE = frozenset({"docker", "podman", "apptainer", "singularity", "conda", "mamba", "micromamba", "pixi"})
#: How long an interrupted child may clean up.
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1

#: The task id that this process was started for: it must not start another one for it.
inside: str | None = None
#: Somebody debugs a task by hand: it runs here, without its prefix.
switched_off = False
#: The folder of that task, which the starting process keeps.
inside_folder: Path | None = None


@dataclass(frozen=True)
class ChildOrder:
    """What the child must know beside the task."""

    task_id: str
    variables: dict[str, str | None]
    #: When its time is over (epoch); None without a limit.
    deadline: float | None
    folder: str


def command(task: Any, words: list[str], folder: Path) -> list[str]:
    """The whole command line."""
    python = class_attr(task, "prefix_python")
    if python is None:
        python = "python" if os.path.basename(words[0]) in ELSEWHERE else sys.executable
    return [*words, *shlex.split(python), "-m", "superluigi.execute", str(folder)]


def steps(scope: AttemptContext, words: list[str]) -> Generator[Any, Any, Any]:
    """Run the attempt in a child, again after each requirement that it yields.

    Raises:
        CommandFailedError: the prefix command cannot be started, or ended with an exit code before the task did.
        WorkerLostError: the child was killed.
        What the task raised there.
    """
    while True:
        outcome = _attempt(scope, words)
        if outcome.status == DONE:
            return None
        if outcome.status == PENDING and outcome.requirements:
            yield outcome.requirements
            continue
        error = outcome.error or RemoteError("The attempt failed without saying why.")
        raise error from RemoteError(f'\n"""\n{outcome.traceback}"""', outcome.traceback)


def _attempt(scope: AttemptContext, words: list[str]) -> AttemptResult:
    folder = scope.folder.path
    with _order(scope, folder):
        line = command(scope.task, words, folder)
        scope.pass_on = functools.partial(_pass_on, folder)
        try:
            child = _start(scope, line, folder)
        except CommandFailedError as error:
            (folder / STDERR).write_text(f"{error}\n")
            raise
        code = _wait(scope, child, folder)
        try:
            answer: AttemptResult = pickling.loads((folder / OUTCOME).read_bytes())
        except FileNotFoundError:
            raise _obituary(scope, words, code) from None
    fire(scope.task, answer.events)
    return answer


@contextlib.contextmanager
def _order(scope: AttemptContext, folder: Path) -> Iterator[None]:
    """The files that carry the attempt; they hold all parameters, private ones too, so nobody else may read them."""
    left = remaining_time(scope, scope.task)
    deadline = None if left == float("inf") else time.time() + left
    order = ChildOrder(scope.task.task_id, scope.variables, deadline, os.getcwd())
    content = pickle.dumps((order, serialization.dump_context(scope.run), _dumped(scope.task)))
    for name in (OUTCOME, PASSED_ON):
        (folder / name).unlink(missing_ok=True)
    for name, data in ((ORDER, content), (MESSAGES, b"")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(data)
    try:
        yield
    finally:
        for name in (ORDER, OUTCOME, MESSAGES, PASSED_ON):
            (folder / name).unlink(missing_ok=True)


def _pass_on(folder: Path, reason: str) -> None:
    """Leave a cancellation where the child looks for it, all at once."""
    staged = folder / f"{PASSED_ON}.new"
    staged.write_text(reason)
    os.replace(staged, folder / PASSED_ON)


def _dumped(task: Any) -> bytes:
    """The task as it would have been before somebody ran it here: what it is lent while it runs is ours."""
    bare = copy.copy(task)
    for name in (*REPORTER_METHODS.values(), "trigger_event"):
        bare.__dict__.pop(name, None)
    expected = addresses(task, task.deps())
    return serialization.dump_request(serialization.AttemptRequest(bare, (), frozenset(), "", False, None, expected))


def _start(scope: AttemptContext, line: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = merged(os.environ, scope.variables)
    out, err = (scope.folder.open_log(name) for name in (STDOUT, STDERR))
    try:
        child = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment)
    except OSError as error:
        raise CommandFailedError(
            f"The command_prefix of {scope.task} cannot be started: {shlex.join(line)}: {error.strerror}. Install "
            f"{line[0]!r} here, correct its name, or run the task where it is."
        ) from error
    finally:
        os.close(out)
        os.close(err)
    with contextlib.suppress(OSError):  # it may have ended already
        if child.stdin is not None:
            child.stdin.write(HELLO)
            child.stdin.flush()
    return child


def _wait(scope: AttemptContext, child: subprocess.Popen[bytes], folder: Path) -> int:
    """Wait for the child, passing on what the task reports; end it when we are interrupted."""
    read = 0
    pause = 0.01
    warned = False
    try:
        while True:
            try:
                return child.wait(pause)
            except subprocess.TimeoutExpired:
                read = _report(scope, folder, read)
                if scope.ending is not None and not warned:  # SIGTERM came to us: it has as long as we have
                    warned = True
                    child.terminate()
                pause = min(_POLL_SECONDS, pause * 1.5)
    except BaseException:
        _end(child)
        raise
    finally:
        _report(scope, folder, read)
        with contextlib.suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()


def _report(scope: AttemptContext, folder: Path, read: int) -> int:
    """Give the child's messages to the functions that the worker has lent to the task; returns how far it read."""
    try:
        with (folder / MESSAGES).open("rb") as stream:
            stream.seek(read)
            content = stream.read()
    except FileNotFoundError:
        return read
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.splitlines():
        name, args = json.loads(line)
        lent = getattr(scope.task, name, None)
        if callable(lent):
            lent(*args)
    return read + len(whole)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the child and what it started to end, and make sure; a second interruption must not stop this."""
    below = descendants(child.pid)
    with contextlib.suppress(OSError):
        child.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        child.kill()
    threading.Thread(target=child.wait, daemon=True).start()
    for pid in below:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM if child.returncode is not None else signal.SIGKILL)


def _obituary(scope: AttemptContext, words: list[str], code: int) -> Exception:
    """What to say of a child that ended without an outcome."""
    said = _last_lines(scope.folder.path / STDERR)
    logs = f" Its last lines:\n{said}" if said else ""
    shown = shlex.join(words)
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number in signal.Signals._value2member_map_:
        name = signal.Signals(number).name
        return WorkerLostError(
            f"The process of {scope.task} behind `{shown}` died of signal {number} ({name}); exit code {code}. "
            f"Somebody ended it, or a limit of memory or time did.{logs}"
        )
    error = CommandFailedError(
        f"The process of {scope.task} behind `{shown}` ended with exit code {code} before the task had an outcome: "
        f"the command failed, or the task ended its process.{logs}"
    )
    error.exit_code = code  # type: ignore[attr-defined]
    return error


def _last_lines(file: Path, count: int = 10) -> str:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 4000))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""

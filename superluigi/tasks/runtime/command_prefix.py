"""An attempt behind a command: `PREFIX python -m superluigi.worker_process FOLDER`.

The task travels there as a file in its folder, which both sides see; what it tells, and the outcome, come back as
another. What the worker process and the prefix command print is the task's log. A pipe on stdin tells the worker
process when this one is gone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import shlex
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from luigi.task import Task
from luigi.task_status import DONE, PENDING

from superluigi.errors import CommandFailedError, RemoteError, WorkerLostError
from superluigi.execution import pickling, serialization
from superluigi.execution.addresses import addresses
from superluigi.execution.attempt import REPORTER_METHODS, AttemptResult, fire
from superluigi.execution.process.signals import no_second_interrupt
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.cancel import PASSED_ON
from superluigi.tasks.runtime.checkpoint import remaining_time
from superluigi.tasks.runtime.environment import merged
from superluigi.tasks.runtime.hooks import class_attr
from superluigi.tasks.runtime.workspace.task_folder import STDERR, STDOUT
from superluigi.worker_process import handle, protocol
from superluigi.worker_process.handle import WorkerProcess
from superluigi.worker_process.pool import loads_error
from superluigi.worker_process.protocol import Call, FileChannel, Message, Result, Stop

#: Programs that start a Python of another place; the path of ours means nothing there.
ELSEWHERE = frozenset({"docker", "podman", "apptainer", "singularity", "conda", "mamba", "micromamba", "pixi"})
#: How long an interrupted child may clean up.
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1


class Inside:
    """What this process knows of the command that it was started behind."""

    def __init__(self) -> None:
        #: The task id that it was started for: it must not start another one for it.
        self.task_id: str | None = None
        #: The folder of that task, which the starting process keeps.
        self.folder: Path | None = None
        #: A task is debugged by hand: it runs here, without its prefix.
        self.switched_off = False


inside = Inside()


@dataclass(frozen=True)
class ChildOrder:
    """What the child must know beside the task."""

    task_id: str
    variables: dict[str, str | None]
    #: When its time is over (epoch); None without a limit.
    deadline: float | None
    #: Where it works, and where its files are.
    folder: str
    task_folder: str


def command(task: Task, words: list[str], folder: Path) -> list[str]:
    """The whole command line."""
    python = class_attr(task, "prefix_python")
    if python is None:
        python = "python" if os.path.basename(words[0]) in ELSEWHERE else sys.executable
    return handle.command(words, shlex.split(python), str(folder))


def steps(scope: AttemptContext, words: list[str]) -> Generator[tuple[Task, ...], object, None]:
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
    with _asked(scope, scope.folder.path) as channel:
        worker = _start(scope, command(scope.task, words, scope.folder.path), channel)
        code, result = _wait(scope, worker)
        if result is None:
            raise _obituary(scope, words, code)
    if not result.ok:
        raise loads_error(result.payload)
    answer: AttemptResult = pickling.loads(result.payload)
    fire(scope.task, answer.events)
    return answer


@contextlib.contextmanager
def _asked(scope: AttemptContext, folder: Path) -> Iterator[FileChannel]:
    """The files that carry the attempt."""
    left = remaining_time(scope, scope.task)
    deadline = None if left == float("inf") else time.time() + left
    order = ChildOrder(scope.task.task_id, scope.variables, deadline, os.getcwd(), str(folder))
    context, dumped = serialization.dump_context(scope.run), _dumped(scope.task)
    (folder / PASSED_ON).unlink(missing_ok=True)
    channel = FileChannel(folder)
    try:
        what = "superluigi.tasks.runtime.own_process:carry_out"
        channel.send(Call(1, protocol.by_name(what, order, context, dumped)))
        channel.send(Stop())
        scope.pass_on = functools.partial(_pass_on, folder)
        yield channel
    finally:
        channel.close()
        (folder / PASSED_ON).unlink(missing_ok=True)


def _pass_on(folder: Path, reason: str) -> None:
    """Leave a cancellation where the child looks for it, all at once."""
    staged = folder / f"{PASSED_ON}.new"
    staged.write_text(reason)
    os.replace(staged, folder / PASSED_ON)


def _dumped(task: Task) -> bytes:
    """The task as it was before it ran here: what it is lent while it runs is ours."""
    bare = copy.copy(task)
    for name in (*REPORTER_METHODS.values(), "trigger_event"):
        bare.__dict__.pop(name, None)
    expected = addresses(task, task.deps())
    return serialization.dump_request(serialization.AttemptRequest(bare, (), frozenset(), "", False, None, expected))


def _start(scope: AttemptContext, line: list[str], channel: FileChannel) -> WorkerProcess[FileChannel]:
    out, err = (scope.folder.open_log(name) for name in (STDOUT, STDERR))
    try:
        return handle.in_a_folder(line, channel, merged(os.environ, scope.variables), out, err)
    except OSError as error:
        words = (
            f"The command_prefix of {scope.task} cannot be started: {shlex.join(line)}: {error.strerror}. Install "
            f"{line[0]!r} here, correct its name, or run the task where it is."
        )
        (scope.folder.path / STDERR).write_text(f"{words}\n")
        raise CommandFailedError(words) from error
    finally:
        os.close(out)
        os.close(err)


def _wait(scope: AttemptContext, worker: WorkerProcess[FileChannel]) -> tuple[int, Result | None]:
    """Wait for its end, passing on what the task reports; end it when we are interrupted."""
    result = None
    pause = 0.01
    warned = False
    try:
        while (code := worker.wait(pause)) is None:
            result = _heard(scope, worker.channel) or result
            if scope.ending is not None and not warned:  # SIGTERM came to us: it has as long as we have
                warned = True
                worker.interrupt()
            pause = min(_POLL_SECONDS, pause * 1.5)
        return code, _heard(scope, worker.channel) or result
    except BaseException:
        with no_second_interrupt():
            worker.end(GRACE_SECONDS)
        raise
    finally:
        worker.close()


def _heard(scope: AttemptContext, channel: FileChannel) -> Result | None:
    """Give what the task tells to the functions that the worker has lent to it here."""
    while isinstance(said := channel.receive(), Message):
        name, args = said.value
        lent = getattr(scope.task, name, None)
        if callable(lent):
            lent(*args)
    return said


def _obituary(scope: AttemptContext, words: list[str], code: int) -> Exception:
    """What to say of a child that ended without an outcome."""
    said = _last_lines(scope.folder.path / STDERR)
    logs = f" Its last lines:\n{said}" if said else ""
    shown = shlex.join(words)
    died_of = handle.signal_of(code)
    if died_of is not None:
        return WorkerLostError(
            f"The process of {scope.task} behind `{shown}` died of signal {died_of.value} ({died_of.name}); exit code "
            f"{code}. Something ended it, or a limit of memory or time did.{logs}"
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

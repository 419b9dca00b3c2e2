"""Commands as tasks: a function says which command to run; what it prints is the output."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, overload

from superluigi.arguments import guarded
from superluigi.errors import CommandFailedError, DefinitionError
from superluigi.tasks.kinds.function import FunctionTask, TaskFunction, make_class
from superluigi.tasks.values import UNKNOWN

_logger = logging.getLogger(__name__)
#: How much of the end of stderr an error shows.
STDERR_BYTES = 4000


class ShellTask(FunctionTask[str]):
    """Base of the task classes that `@shell_task` makes."""

    suffix: ClassVar[str | None] = ".txt"

    def call(self, given: Mapping[str, Any]) -> None:
        """Run the command; its stdout goes to the output as it comes."""
        attempt = self.current_attempt()
        command = type(self).function(**self.arguments(attempt.reader), **given)
        run_command(command, attempt.output_path, str(self))


@overload
def shell_task(function: Callable[..., str | Sequence[Any]]) -> TaskFunction[str]: ...
@overload
def shell_task(
    *, output: Callable[[Any], Any] | None = None, base: type[ShellTask] = ShellTask, **attributes: Any
) -> Callable[[Callable[..., str | Sequence[Any]]], TaskFunction[str]]: ...
@guarded
def shell_task(
    function: Callable[..., Any] | None = None,
    *,
    output: Callable[[Any], Any] | None = None,
    base: type[ShellTask] = ShellTask,
    **attributes: Any,
) -> Any:
    """Make a function that returns a command a Luigi task; the command's stdout is the output.

    A list is run as it is, without a shell; a string is given to `/bin/sh`. The output is text, unless `suffix` says
    otherwise: `@shell_task(suffix=".bin")`. The return annotation is the command's. The rest is as for `@task`.
    The task fails with `CommandFailedError` for any exit code but 0, and nothing is published.
    """

    def decorate(written: Callable[..., Any]) -> Any:
        made: Any = make_class(written, base, output, attributes)
        type.__setattr__(made, "returns", str if not attributes.get("suffix") else UNKNOWN)
        return made

    return decorate if function is None else decorate(function)


def run_command(command: str | Sequence[Any], output: Path, what: str) -> None:
    """Run `command` with stdout into the new file `output`; end it, and all that it started, if we are interrupted.

    Raises:
        DefinitionError: it is no command.
        CommandFailedError: it could not be started or ended with another exit code than 0; shows the end of stderr.
    """
    if not command or not isinstance(command, (str, list, tuple)):
        raise DefinitionError(
            f"{what}: the function returned {command!r}, which is no command. Return a list such as "
            '["sort", path], which is run as it is, or text for the shell.'
        )
    shell = isinstance(command, str)
    words: Any = (
        command if isinstance(command, str) else [os.fspath(w) if isinstance(w, Path) else str(w) for w in command]
    )
    shown = command if isinstance(command, str) else shlex.join(words)
    with output.open("wb") as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                words, shell=shell, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            lost = isinstance(error, (FileNotFoundError, PermissionError))
            advice = f" Install {words[0]!r}, make it executable, or correct its name." if lost else ""
            raise CommandFailedError(
                f"{what}: the command `{_short(shown)}` could not be started ({reason}).{advice}"
            ) from error
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        text = _tail(stderr)
    if code != 0:
        ended = f"exit code {code}" if code > 0 else f"signal {_signal_name(-code)}"
        said = f" The end of stderr:\n{text}" if text else " It wrote nothing to stderr."
        raise CommandFailedError(f"{what}: the command `{_short(shown)}` failed with {ended}.{said}")
    if text:
        _logger.info("%s wrote to stderr:\n%s", what, text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's whole process group: gently, then surely."""
    for kind, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _tail(stderr: IO[bytes]) -> str:
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - STDERR_BYTES))
    text = stderr.read().decode(errors="replace").strip()
    return text if size <= STDERR_BYTES else f"[… {size - STDERR_BYTES} bytes before]\n{text}"


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return str(number)


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."

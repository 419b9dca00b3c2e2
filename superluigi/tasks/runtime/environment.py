"""Environment variables for tasks: added to what is there, seen by the task and its children only."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from superluigi.arguments import guarded
from superluigi.errors import CommandFailedError, DefinitionError

#: A value per variable; None unsets it.
Variables = dict[str, "str | None"]
#: Set by the shell itself, not asked for.
_SHELLS_OWN = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "PS1", "BASH_EXECUTION_STRING"})
_PRINT = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(k + b'=' + v for k, v in os.environb.items()))"


@guarded
@dataclass(frozen=True)
class Environment:
    """Variables, and a shell command that sets up more of them.

    `data` is added first, then `command` runs in `shell` and what it changed is added: `module load gcc/12`,
    `source activate`, `. ./settings.sh`. It runs once per process and working folder. Values are taken literally:
    they may hold `=`, quotes, newlines. None unsets a variable.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    shell: tuple[str, ...] = ("bash", "-c")

    def variables(self, base: Mapping[str, str]) -> Variables:
        """What to add to `base`.

        Raises:
            DefinitionError: a name or value that no environment can hold.
            CommandFailedError: the command failed.
        """
        found = checked(self.data)
        if self.command:
            below = tuple(sorted(merged(base, found).items()))
            found = {**found, **dict(_changed_by(self.command, self.shell, below, os.getcwd()))}
        return found

    def as_option(self) -> dict[str, Any]:
        """JSON values that `parse` reads: an option of a run."""
        return {"data": checked(self.data), "command": self.command, "shell": list(self.shell)}


_NOTHING = Environment()


def parse(value: object) -> Environment:
    """An Environment from one, from a dict of variables, or from what `as_option` gave.

    Raises:
        DefinitionError: it is nothing of these.
    """
    if value is None:
        return _NOTHING
    if isinstance(value, Environment):
        return value
    if isinstance(value, Mapping):
        if set(value) == {"data", "command", "shell"} and isinstance(value["data"], Mapping):
            return Environment(value["data"], value["command"], tuple(value["shell"]))
        return Environment(value)
    raise DefinitionError(
        f"environment is {value!r}, a {type(value).__name__}. Give a dict of variables, or "
        'Environment(data={...}, command="module load ...").'
    )


def checked(data: Mapping[str, object]) -> Variables:
    """`data` as text; numbers and paths are written out.

    Raises:
        DefinitionError: names with `=`, or anything with a NUL: execve(2) cannot pass them.
    """
    found: Variables = {}
    for name, value in data.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise DefinitionError(f"environment: {name!r} cannot be the name of a variable.")
        if value is None:
            found[name] = None
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
            raise DefinitionError(f"environment[{name!r}] is {value!r}, a {type(value).__name__}. Give text.")
        text = str(os.fspath(value)) if isinstance(value, os.PathLike) else str(value)
        if "\0" in text:
            raise DefinitionError(f"environment[{name!r}] holds a NUL character, which no environment can.")
        found[name] = text
    return found


def merged(base: Mapping[str, str], added: Mapping[str, str | None]) -> dict[str, str]:
    """`base` with `added` over it."""
    both: dict[str, str | None] = {**base, **added}
    return {name: value for name, value in both.items() if value is not None}


def resolve(parts: Iterable[Environment], base: Mapping[str, str]) -> Variables:
    """What several environments add together; later ones win, and their commands see what earlier ones set."""
    found: Variables = {}
    for part in parts:
        found.update(part.variables(merged(base, found)))
    return found


@functools.lru_cache(maxsize=64)
def _changed_by(
    command: str, shell: tuple[str, ...], base: tuple[tuple[str, str], ...], folder: str
) -> tuple[Any, ...]:
    before = dict(base)
    reading = f'{{ {command}\n}} >&2 || exit $?; exec "$SUPERLUIGI_PYTHON" -c "$SUPERLUIGI_PRINT"'
    environment = {**before, "SUPERLUIGI_PYTHON": sys.executable, "SUPERLUIGI_PRINT": _PRINT}
    try:
        done = subprocess.run(
            [*shell, reading], env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True
        )
    except OSError as error:
        raise CommandFailedError(f"The shell {shell[0]!r} of an environment cannot be started: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CommandFailedError(
            f"The environment's command {command!r} ended with exit code {done.returncode}: {said or 'no message'}"
        )
    pairs = (entry.partition(b"=") for entry in done.stdout.split(b"\0"))
    after = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    ignored = {*_SHELLS_OWN, "SUPERLUIGI_PYTHON", "SUPERLUIGI_PRINT"}
    changed: Variables = {n: v for n, v in after.items() if before.get(n) != v and n not in ignored}
    changed.update({n: None for n in before if n not in after and n not in ignored})
    return tuple(changed.items())


@contextlib.contextmanager
def replaced(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set the variables of this process for the time of the block: for an attempt that has the process for itself."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

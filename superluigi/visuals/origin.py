"""Where a page comes from: the command that made it, without what is secret in it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence

import luigi
from luigi.parameter import ParameterVisibility

from superluigi.setting_texts import without_passwords

#: A text of fewer characters is only hidden where it stands alone.
_TELLING = 6
_HIDDEN = "HIDDEN"


def command(tasks: Iterable[luigi.Task] = ()) -> str:
    """The command line of this process as it is shown; passwords and the private parameters of `tasks` are hidden."""
    words = list(sys.argv)
    name = os.path.basename(words[0]) if words else ""
    if "ipykernel" in words[0] if words else False:
        return "a notebook"
    if name == "__main__.py":
        name = f"python -m {os.path.basename(os.path.dirname(words[0]))}"
    name = name.replace("python -m superluigi", "superluigi")
    if name in ("", "-c"):
        return "python"
    names, values = _private(tasks)
    return " ".join([name, *(shlex.quote(word) for word in _without(words[1:], names, values))])


def _private(tasks: Iterable[luigi.Task]) -> tuple[set[str], set[str]]:
    """Names and texts of the private parameters."""
    names: set[str] = set()
    values: set[str] = set()
    for task in tasks:
        for name, parameter in task.get_params():
            if parameter.visibility == ParameterVisibility.PRIVATE:
                names.add(name)
                values.add(str(parameter.serialize(task.param_kwargs[name])))
    return names, values - {""}


def _without(words: Sequence[str], names: set[str], values: set[str]) -> list[str]:
    shown = []
    hides = False
    for word in words:
        flag, equals, _ = word.partition("=")
        plain = flag.lstrip("-").replace("-", "_")
        secret = any(plain == name or plain.endswith(f"_{name}") for name in names)
        if hides:
            word = _HIDDEN
        elif secret and equals:
            word = f"{flag}={_HIDDEN}"
        for value in values:
            if word == value or word.endswith(f"={value}"):
                word = word[: len(word) - len(value)] + _HIDDEN
            elif len(value) >= _TELLING:
                word = word.replace(value, _HIDDEN)
        hides = secret and not equals and flag.startswith("-")
        shown.append(without_passwords(word, _HIDDEN))
    return shown

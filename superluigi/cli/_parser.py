"""An argument parser whose errors are advice, and which can learn a task's parameters on the way."""

from __future__ import annotations

import argparse
import difflib
import functools
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeVar

from superluigi.errors import OptionError
from superluigi.terminal import say

Extend = Callable[["Parser", list[str]], list[str]]


class UsageError(Exception):
    """The command line cannot be read; `main` prints the message and exits with 2."""


class Ended(Exception):  # noqa: N818 - it is none
    """A command has said all that was wanted: its help."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def similar(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` when something known looks like `word`, else an empty string."""
    candidates = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), candidates, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(candidates[name] for name in near)}?" if near else ""


def pair(flag: str, text: str, form: str) -> tuple[str, str]:
    """The two sides of `text`, which was given to `flag`.

    Raises:
        OptionError: it has not this form.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"{flag} {text!r}: expected {form}.")
    return name, value


Number = TypeVar("Number", int, float)


def whole(least: int = 0, most: float = math.inf) -> Callable[[str], int]:
    """What reads a whole number of the command line that is at least, and at most, so much."""
    between = f"from {least}" if most == math.inf else f"from {least} to {most}"
    return _reader(int, f"a whole number {between}", lambda number: least <= number <= most)


def span(unit: Literal["seconds", "hours", "days"]) -> Callable[[str], float]:
    """What reads a length of time, in that unit."""
    return _reader(float, f"a number of {unit} from 0", lambda number: timedelta(**{unit: number}) >= timedelta(0))


def finite() -> Callable[[str], float]:
    """What reads a number that can be compared."""
    return _reader(float, "a number", math.isfinite)


def _reader(kind: Callable[[str], Number], words: str, fits: Callable[[Number], bool]) -> Callable[[str], Number]:
    def read(text: str) -> Number:
        try:
            value = kind(text)
            if fits(value):
                return value
        except (ValueError, OverflowError):  # nan, and more than a time can be
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not {words}")

    return read


_NUMBER = re.compile(r"-\d+|-\d*\.\d+")  # which argparse takes for no option


class _Help(argparse.HelpFormatter):
    """Paragraphs as wide as the terminal; what is indented, or stands above that, is an example and stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"\n[ \t]*\n", text.strip("\n"))
        fill = functools.partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
        told = (one if re.search(r"^ ", one, re.MULTILINE) else fill(one) for one in paragraphs)
        return "\n\n".join(textwrap.indent(one, indent) for one in told)


class Parser(argparse.ArgumentParser):
    """argparse with suggestions for what is misspelt, no abbreviations, and a late chance to add arguments."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)  # `--ver` must never become a task's `--version`
        options.setdefault("formatter_class", _Help)
        super().__init__(**options)
        #: Called once with the arguments before they are read; may add arguments and return others.
        self.extend: Extend | None = None
        #: True when flags are a task's parameters.
        self.flags_are_parameters = False
        #: Names of arguments for which an empty text is a value; elsewhere it is a shell's variable that is not set.
        self.may_be_empty: set[str] = set()

    @property
    def flags(self) -> dict[str, argparse.Action]:
        """Every option string with its action."""
        return {flag: action for action in self._actions for flag in action.option_strings}

    @property
    def positionals(self) -> list[str]:
        """Names of the positional arguments, in order."""
        return [action.dest for action in self._actions if not action.option_strings]

    @property
    def subcommands(self) -> list[dict[str, Parser]]:
        """The parsers of the commands below this one, by name."""
        found = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return [dict(action.choices) for action in found]

    def learn(self, words: list[str]) -> list[str]:
        """Add the arguments that only show once others are known; returns the words as they are to be read."""
        extend, self.extend = self.extend, None
        return words if extend is None else extend(self, words)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None, **options: object
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but unknown arguments are an error here, where the nearest known one is in sight."""
        words = self._together(self._joined(self.learn(list(args or ()))))
        parsed, unknown = super().parse_known_args(words, namespace, **options)
        if unknown:
            self._refuse(next((word for word in unknown if word.startswith("-")), unknown[0]))
        return parsed, []

    def _joined(self, words: list[str]) -> list[str]:
        """`--x -1e3` as `--x=-1e3`: one dash begins the value where one is needed, unless it is a flag we know."""
        wanting = {flag for action in self._actions if action.nargs is None for flag in action.option_strings}
        known = {flag for action in self._actions for flag in action.option_strings}
        found: list[str] = []
        for word in words:
            value = word[:1] == "-" and word[:2] != "--" and word != "-" and word not in known
            if value and found and found[-1] in wanting and found[-1].startswith("--"):
                found[-1] = f"{found[-1]}={word}"
            else:
                found.append(word)
        return found

    def _together(self, words: list[str]) -> list[str]:
        """`which --yes` for `--yes which`: argparse is done with what may be left out when it meets an option."""
        optional = any(not action.option_strings and action.nargs in ("?", "*") for action in self._actions)
        if not optional or self.subcommands or "--" in words:
            return words
        others, options = [], []
        waiting = iter(range(len(words)))
        for at in waiting:
            word = words[at]
            if word[:1] != "-" or word == "-" or (word not in self.flags and _NUMBER.fullmatch(word)):
                others.append(word)
                continue
            options.append(word)
            nargs = getattr(self.flags.get(word), "nargs", 0)
            may = nargs == "?" and words[at + 1 : at + 2] and words[at + 1][:1] != "-"
            count = 1 if nargs is None or may else nargs if isinstance(nargs, int) else 0
            options += [words[taken] for _, taken in zip(range(count), waiting, strict=False)]
        return [*others, *options]

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help: it holds the words of task classes."""
        say(message, end="", err=file is sys.stderr)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the command, not the process, whose `SystemExit` may be one of the user's code."""
        raise Ended(status)

    def _refuse(self, word: str) -> NoReturn:
        flag = word.split("=", 1)[0]
        if not flag.startswith("-"):
            named = f"--{flag.replace('_', '-')}"
            if "=" in word and named in self.flags:
                self.error(f"{word!r} is no option: write {named} {word.partition('=')[2]}")
            self.error(f"what is {word!r} for? The command takes no further argument")
        message = f"there is no option {flag}{similar(flag, self.flags)}"
        if self.flags_are_parameters:
            end = "" if message.endswith("?") else "."
            raise UsageError(f"{self.prog}: {message}{end} `{self.prog} … --help` lists the parameters.")
        self.error(message)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> object:
        if action.nargs != argparse.PARSER and "" in arg_strings and action.dest not in self.may_be_empty:
            raise argparse.ArgumentError(action, "it is empty: leave it out, or say what is meant")
        if action.option_strings and action.nargs in (None, "?") and arg_strings == ["--"]:  # which argparse drops
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            name = action.option_strings[-1] if action.option_strings else (action.metavar or "command")
            raise argparse.ArgumentError(
                None, f"{name}: {value!r} is not one of {', '.join(known)}{similar(str(value), known)}"
            )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, with the way to the help."""
        message = re.sub(r"^the following arguments are required: ", "missing: ", message)
        end = "" if message.endswith("?") else "."
        raise UsageError(f"{self.prog}: {message}{end} `{self.prog} --help` shows how it is used.")

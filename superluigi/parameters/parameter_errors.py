"""Parameter mistakes in words: which class, which parameter, which value, what now. Luigi's own classes as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import luigi
from luigi.parameter import (
    DuplicateParameterException,
    MissingParameterException,
    ParameterException,
    UnknownParameterException,
)

from superluigi.config import suggestion
from superluigi.errors import USERS_CODE, ParameterError, message_of
from superluigi.parameters.checked import RefusedError

#: What the first `super-luigi` package had as parameters of every task.
RUN_OPTIONS = ("force", "raise_exception")


def of_the_run(option: str) -> str:
    """What to write in place of a parameter `force` or `raise_exception`."""
    return f"{option} is an option of the run, not of a task: run_task(task, {option}=True)."


class WrongParameterError(ParameterError, ParameterException):
    """A value that the parameter does not take."""


class MissingParameterError(ParameterError, MissingParameterException):
    """A parameter without a default was not given."""


class UnknownParameterError(ParameterError, UnknownParameterException):
    """A value was given for a parameter that the class does not have."""


class DuplicateParameterError(ParameterError, DuplicateParameterException):
    """A parameter was given twice, by place and by name."""


def explain(
    family: str, names: Sequence[str], error: Exception, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> ParameterError | None:
    """The advice for what Luigi or a check raised while a task of `family` was made; None for other errors."""
    without_text = _without_text(family, names, args, kwargs)
    if without_text is not None or not isinstance(error, (ParameterException, ValueError)):
        return without_text
    refused = _refused(error)
    known = f"{family} has the parameters {', '.join(names)}." if names else f"{family} has no parameters."
    if refused is not None:
        shown = _short(refused.value)
        return WrongParameterError(
            f"{family}: the parameter {refused.name!r} is {shown} ({type(refused.value).__name__}), "
            f"but expected is {refused}.{_hint(refused.value)}"
        )
    if isinstance(error, UnknownParameterException):
        unknown = [name for name in kwargs if name not in names]
        if not unknown:
            return UnknownParameterError(f"{family} was given {len(args)} values ({_short(tuple(args))}). {known}")
        given = ", ".join(f"{name}={_short(kwargs[name])}" for name in unknown)
        options = [name for name in unknown if name in RUN_OPTIONS]
        hint = f" {of_the_run(options[0])}" if options else suggestion(unknown[0], names)
        return UnknownParameterError(f"{family} does not know {given}.{hint} {known}")
    if isinstance(error, MissingParameterException):
        name = next((name for name in names if f"the '{name}' parameter" in str(error)), "?")
        return MissingParameterError(
            f"{family}: the parameter {name!r} was not given and has no default. "
            f"Give it, or set it in section [{family}] of the configuration."
        )
    if isinstance(error, DuplicateParameterException):
        return DuplicateParameterError(
            f"{family}: a parameter was given twice, by place and by name: {_short(kwargs)}."
        )
    if "Error when parsing the default value" in str(error):
        return WrongParameterError(f"{error}: {error.__cause__}. Correct section [{family}] of the configuration.")
    return None


def _without_text(
    family: str, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> WrongParameterError | None:
    """The error that says which value has no text, which even Luigi's messages need; None where all have."""
    places = (names[number] if number < len(names) else f"number {number + 1}" for number in range(len(args)))
    for name, value in (*zip(places, args, strict=True), *kwargs.items()):
        try:
            repr(value)
        except Exception as error:  # noqa: BLE001 - whatever its class does
            advice = "write it to a file or another task's output, and give what names that"
            if isinstance(value, int):
                advice = "give it as text, hex(number) say, or by a file or another task's output"
            return WrongParameterError(
                f"{family}: the parameter {name!r} ({type(value).__name__}) has no text: {message_of(error)}. The text "
                f"of a value is its identity; {advice}."
            )
    return None


def _refused(error: BaseException) -> RefusedError | None:
    while not isinstance(error, RefusedError):
        if error.__cause__ is None:
            return None
        error = error.__cause__
    return error


def _hint(value: Any) -> str:
    is_task_class = isinstance(value, type) and issubclass(value, luigi.Task)
    return f" Call the class: {value.__name__}(…)." if is_task_class else ""


def _short(value: Any) -> str:
    with USERS_CODE:
        text = repr(value)
        return text if len(text) <= 120 else f"{text[:117]}..."
    return f"<{type(value).__name__}>"

"""Parameter mistakes in words: which class, which parameter, which value, what now. Luigi's own classes as well."""

from __future__ import annotations

import enum
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
from superluigi.errors import USERS_CODE, DefinitionError, ParameterError, SuperLuigiError, message_of
from superluigi.luigi_compat.parameters import default_of
from superluigi.parameters.checked import NO_DEFAULT, RefusedError

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


def explain(cls: Any, error: Exception, args: Sequence[object], kwargs: Mapping[str, object]) -> ParameterError | None:
    """The advice for what Luigi or a check raised while a task of `cls` was made; None for other errors."""
    family, parameters = cls.get_task_family(), dict(cls.get_params())
    names = list(parameters)
    without_text = _without_text(family, names, args, kwargs)
    if isinstance(error, SuperLuigiError):  # it says already what to write
        return without_text
    if without_text is not None or not isinstance(error, (ParameterException, TypeError, ValueError, AttributeError)):
        return without_text
    refused = _refused(error) or _not_taken(parameters, error, args, kwargs)
    known = f"{family} has the parameters {', '.join(names)}." if names else f"{family} has no parameters."
    if refused is not None:
        shown = _short(refused.value)
        hint = _hint(refused.value, refused.name, parameters.get(refused.name)) or _example(refused)
        return WrongParameterError(
            f"{family}: the parameter {refused.name!r} is {shown} ({type(refused.value).__name__}), "
            f"but expected is {refused}.{hint}"
        )
    if isinstance(error, UnknownParameterException):
        unknown = [name for name in kwargs if name not in names]
        own_init = _own_init(cls)
        if not unknown:
            return UnknownParameterError(
                f"{family} was given {len(args)} values ({_short(tuple(args))}).{own_init} {known}"
            )
        given = ", ".join(f"{name}={_short(kwargs[name])}" for name in unknown)
        options = [name for name in unknown if name in RUN_OPTIONS]
        hint = f" {of_the_run(options[0])}" if options else suggestion(unknown[0], names)
        hint = _only_annotated(cls, unknown[0]) or own_init or hint
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
    family: str, names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]
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


def refuse_without_init(cls: Any, task: Any, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Refuse a task whose class has an `__init__` that did not call Luigi's, or called it without what was given.

    Raises:
        DefinitionError: says what to write.
    """
    if not task.initialized():
        raise DefinitionError(
            f"{cls.__name__}.__init__ does not call super().__init__(*args, **kwargs), so the task has no identity. "
            "Call it; or leave __init__ out and declare what it takes as parameters (n: Param[int])."
        )
    if not (args or kwargs) or not _own_init(cls):
        return
    params = cls.get_params()
    given = {*kwargs, *(name for (name, _), _ in zip(params, args, strict=False))}
    wanted, bare = dict(cls.get_param_values(params, args, kwargs)), None
    for name in given & wanted.keys():
        if task.param_kwargs.get(name) != wanted[name]:
            with USERS_CODE:
                bare = bare or dict(cls.get_param_values(params, (), {}))
            if bare and task.param_kwargs.get(name) == bare[name]:
                raise DefinitionError(
                    f"{cls.__name__}.__init__ was given {name}={_short(kwargs.get(name, wanted[name]))}, but calls "
                    "super().__init__ without it, so that it is lost. Write super().__init__(*args, **kwargs)."
                )


def kind_of(parameter: object) -> str:
    """What a parameter of Luigi's holds, in a word: `int`, `date`."""
    name = type(parameter).__name__.removesuffix("Parameter").removeprefix("Optional")
    return name.lower() or "text"


def _not_taken(
    parameters: Mapping[str, Any], error: Exception, args: Sequence[object], kwargs: Mapping[str, object]
) -> RefusedError | None:
    """The value that a parameter of Luigi's own stumbled over, where that was a text in the place of a value."""
    if isinstance(error, ParameterException):
        return None
    places = [name for name, parameter in parameters.items() if parameter.positional]
    given = {**dict(zip(places, args, strict=False)), **kwargs}
    for name, parameter in parameters.items():
        value = given.get(name, default_of(parameter))
        if value is NO_DEFAULT:
            continue
        try:
            normal = parameter.normalize(value)
        except ValueError as reason:  # the parameter's own judgement, in its own words
            return RefusedError(f"one that it takes: {reason}", name, value)
        except (TypeError, AttributeError):
            return RefusedError(kind_of(parameter), name, value)
        try:
            parameter.serialize(normal)
        except (TypeError, ValueError, AttributeError) as reason:
            of_json = isinstance(parameter, (luigi.DictParameter, luigi.ListParameter))
            form = f" of what JSON can hold ({reason})" if of_json else ""
            return RefusedError(f"{kind_of(parameter)}{form}", name, value)
    return None


def _hint(value: object, name: str, parameter: Any) -> str:
    if isinstance(parameter, luigi.BoolParameter) and value in (0, 1):
        return f" Write {name}={bool(value)}."
    if isinstance(parameter, luigi.IntParameter) and isinstance(value, (bool, float)) and value == int(value):
        return f" Write {name}={int(value)}."
    if isinstance(parameter, luigi.TaskParameter) and isinstance(value, luigi.Task):
        return f" Write {name}={type(value).__name__}, the class."
    if isinstance(value, type) and issubclass(value, luigi.Task):
        return f" Call the class: {value.__name__}(…)."
    if isinstance(value, str) and parameter is not None:
        try:
            meant = parameter.parse(value)
        except Exception:  # noqa: BLE001 - `parse` of any parameter class may raise anything
            return ""
        if isinstance(meant, luigi.date_interval.DateInterval):
            return f" Write {name}=luigi.date_interval.{type(meant).__name__}.parse({str(meant)!r})."
        if isinstance(meant, type) and issubclass(meant, luigi.Task):
            return f" Write {name}={meant.__name__}, the class."
        if isinstance(meant, enum.Enum):
            return f" Write {name}={type(meant).__name__}.{meant.name}."
        if not isinstance(meant, str):
            return f" Write {name}={meant!r}: texts are read on the command line and in configurations only."
    return ""


#: How values are written that have no literals.
_EXAMPLES = {
    "timedelta": "datetime.timedelta(hours=1)",
    "time": "datetime.time(12, 30)",
    "datetime": "datetime.datetime(2026, 1, 31, 12)",
    **dict.fromkeys(("date", "month", "year"), "datetime.date(2026, 1, 31)"),
    "dateinterval": "luigi.date_interval.Month(2026, 1)",
    "Decimal": "decimal.Decimal('0.1')",
}


def _example(refused: RefusedError) -> str:
    """For those who do not know how such a value is written."""
    shown = _EXAMPLES.get(str(refused))
    return f" Write {refused.name}={shown}, say." if shown else ""


def _only_annotated(cls: type, name: str) -> str:
    """What to write when the unknown name is an annotated attribute, and was meant as a parameter."""
    for base in cls.__mro__:
        annotation = vars(base).get("__annotations__", {}).get(name)
        if annotation is not None:
            said = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
            default = f" = {vars(base)[name]!r:.60}" if name in vars(base) else ""
            written, meant = f"{name}: {said}{default}", f"{name}: Param[{said}]{default}"
            return f" `{written}` makes an attribute, not a parameter: write `{meant}`."
    return ""


def _own_init(cls: type) -> str:
    own = next((base for base in cls.__mro__ if "__init__" in vars(base)), cls)
    if own.__module__.startswith(("superluigi.", "luigi.")):
        return ""
    return (
        f" What {own.__name__}.__init__ takes does not count: a task is made of its parameters. Declare them in the "
        "class body (n: Param[int]), and leave __init__ out."
    )


def _short(value: object) -> str:
    with USERS_CODE:
        text = repr(value)
        return text if len(text) <= 120 else f"{text[:117]}..."
    return f"<{type(value).__name__}>"

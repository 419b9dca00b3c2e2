"""What Luigi's parameters do not say in public."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luigi.parameter import ChoiceParameter, Parameter, _DateParameterBase, _DatetimeParameterBase, _no_value

from superluigi.luigi_compat.names import public

#: The default of a parameter that has none.
NO_DEFAULT: object = _no_value
#: Parameters that are dates, and those that are moments.
DateParameterBase: Any = _DateParameterBase
DatetimeParameterBase: Any = _DatetimeParameterBase


class ParameterBase(Parameter[Any]):
    """Luigi's parameter."""

    _attribute_name: str = ""
    #: What it is called in its class; "" before Luigi has said so.
    attribute: str = public("_attribute_name")


class ChoiceBase(ChoiceParameter):
    """Luigi's parameter of choices."""

    made_of: Callable[[Any], Any] = public("_var_type")


def default_of(parameter: Any) -> object:
    """The default as it was given, or NO_DEFAULT; what a configuration says is not asked."""
    return parameter._default


def give_default(parameter: Any, value: object) -> None:
    """Let `parameter` have another default."""
    parameter._default = value


def keep_place(parameter: Any, other: Any) -> None:
    """Put `parameter` where `other` stands in the order of parameters."""
    parameter._counter = other._counter


def choices_of(parameter: object) -> list[str]:
    """The texts that a parameter of choices or of an enum takes; empty for others."""
    members = getattr(parameter, "_enum", ())  # in their own order
    return [member.name for member in members] or sorted(map(str, getattr(parameter, "_choices", None) or ()))

"""What Luigi's parameters do not say in public."""

from __future__ import annotations

from typing import Any

from luigi.parameter import _DateParameterBase, _DatetimeParameterBase, _no_value

#: The default of a parameter that has none.
NO_DEFAULT: Any = _no_value
#: Parameters that are dates, and those that are moments.
DateParameterBase: Any = _DateParameterBase
DatetimeParameterBase: Any = _DatetimeParameterBase


def choices_of(parameter: Any) -> list[str]:
    """The texts that a parameter of choices or of an enum takes; empty for others."""
    members = getattr(parameter, "_enum", ())  # in their own order
    return [member.name for member in members] or sorted(map(str, getattr(parameter, "_choices", None) or ()))

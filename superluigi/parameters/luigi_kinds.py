"""What Luigi's own parameters hold: a value that their text does not give back is refused, as those of annotations are.

Luigi itself keeps whatever is given in Python (a text for an interval, `"maybe"` for a truth value), and stumbles where
the value is used, or in the process that gets its text. Parameters that users have written, and those for any text, are
left as they are; so is None, which Luigi's users give for "not said".
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Mapping
from typing import Any

import luigi

from superluigi.parameters.checked import Checked, RefusedError
from superluigi.parameters.parameter_errors import kind_of

#: Types whose values come back; of other types it is tried.
_SURE: dict[type, tuple[type, ...]] = {
    luigi.IntParameter: (int,), luigi.FloatParameter: (float, int), luigi.BoolParameter: (bool,),
    **dict.fromkeys((luigi.DateParameter, luigi.MonthParameter, luigi.YearParameter), (datetime.date,)),
    luigi.DateHourParameter: (datetime.datetime,), luigi.DateMinuteParameter: (datetime.datetime,),
    luigi.DateSecondParameter: (datetime.datetime,), luigi.TimeDeltaParameter: (datetime.timedelta,),
}  # fmt: skip
_LISTS = (luigi.ListParameter, luigi.TupleParameter)
_TEXTS = (luigi.StrParameter, luigi.OptionalParameter, luigi.PathParameter)
_NUMBERS = (luigi.IntParameter, luigi.FloatParameter)


def concerned(parameter: luigi.Parameter[Any]) -> bool:
    """Whether a parameter is one of Luigi's own that means one kind of value."""
    if isinstance(parameter, Checked):
        return False
    own = type(parameter).__module__ == "luigi.parameter"
    return isinstance(parameter, _NUMBERS) or (
        own and type(parameter) is not luigi.Parameter and not isinstance(parameter, _TEXTS)
    )


def must_fit(parameter: object, name: str, value: object, given: object) -> None:
    """Refuse `value`, as the parameter keeps what was `given`, if it is of another kind.

    Raises:
        RefusedError: says what the parameter holds.
    """
    lost = ""
    if isinstance(value, datetime.timedelta) and value.microseconds:
        lost = "one of whole seconds; a Param[datetime.timedelta] takes parts of them"
    if isinstance(value, (Mapping, list, tuple)) and not _is_keyed_by_texts(value):
        lost = "one with texts for keys, as JSON has them; a Param[dict[int, …]] takes others"
    if lost:
        raise RefusedError(lost, name, value if given is None else given)
    if type(value) in _SURE.get(type(parameter), ()):
        return
    if value is None:
        if given is not None and isinstance(parameter, luigi.BoolParameter):  # Luigi makes None of what it cannot read
            raise RefusedError(kind_of(parameter), name, given)
        return
    of_letters = isinstance(given, (str, bytes)) and isinstance(value, (list, tuple))
    if of_letters or not _fits(parameter, value):
        raise RefusedError(kind_of(parameter), name, value if given is None else given)


def _is_keyed_by_texts(value: object) -> bool:
    """Whether JSON keeps the keys: it makes the text "1" of 1, and the task would be that of another value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_keyed_by_texts(one) for key, one in value.items())
    return not isinstance(value, (list, tuple)) or all(map(_is_keyed_by_texts, value))


def _fits(parameter: Any, value: object) -> bool:
    if type(parameter).__module__ != "luigi.parameter":
        return not isinstance(value, str)
    if isinstance(parameter, _LISTS):
        return not isinstance(value, (str, bytes, numbers.Number, Mapping))
    if isinstance(parameter, luigi.DictParameter):
        return isinstance(value, Mapping)
    if isinstance(parameter, luigi.TaskParameter):
        return isinstance(value, type)
    try:
        again = parameter.parse(parameter.serialize(value))
    except (TypeError, ValueError, AttributeError, LookupError, luigi.parameter.ParameterException):
        return False
    return bool(again == value) or isinstance(value, type(again)) or again != again

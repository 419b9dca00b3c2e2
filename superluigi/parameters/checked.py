"""Luigi's parameters for annotations: the one a careful user would choose, which also refuses wrong types.

Scalars are stored as they are. Lists, dicts, models and whatever else may be mutable or unhashable are stored
as a `Frozen` value, whose identity is its text; every access gives a fresh copy.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
from pathlib import Path, PurePath
from typing import Any, ClassVar

import luigi

from superluigi.errors import DefinitionError
from superluigi.luigi_compat.parameters import NO_DEFAULT as NO_DEFAULT
from superluigi.luigi_compat.parameters import ChoiceBase, ParameterBase, default_of, give_default
from superluigi.parameters import references
from superluigi.parameters.adapters.basic import (
    Adapter,
    Dict,
    EnumAdapter,
    ImportableAdapter,
    LiteralAdapter,
    ScalarAdapter,
    Sequence,
    TextAdapter,
    TupleAdapter,
    UnionAdapter,
    canonical,
)
from superluigi.parameters.adapters.content import copied, in_order, same
from superluigi.parameters.adapters.factory import Anything, adapter_for
from superluigi.parameters.adapters.limits import keep_within, limits_of
from superluigi.parameters.adapters.task_adapters import IsTask, OrTask


class RefusedError(ValueError):
    """A value that a parameter does not take; its message says what was expected."""

    def __init__(self, expected: str, name: str = "", value: object = None) -> None:
        super().__init__(expected)
        self.name, self.value = name, value


class _ByContent:
    """Luigi puts values of parameters into sets, so that even a fresh copy of a list must have a hash."""

    _plain: ClassVar[type]

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> Any:
        return self._plain, (self._superluigi_plain(),)

    def _superluigi_plain(self) -> object:
        """What a format saves of it."""
        return self._plain(self)


class HashableList(_ByContent, list[Any]):  # type: ignore[misc]  # lists have no hash
    """A list as a task gives it."""

    _plain = list


class HashableDict(_ByContent, dict[Any, Any]):
    """A dict as a task gives it."""

    _plain = dict

    def __hash__(self) -> int:  # type: ignore[override]  # dicts have none
        return hash(frozenset(map(repr, self.items())))


class HashableSet(_ByContent, set[Any]):
    """A set as a task gives it."""

    _plain = set

    def __repr__(self) -> str:
        return repr(set(self))

    def __hash__(self) -> int:  # type: ignore[override]  # sets have none
        return hash(frozenset(self))


class HashableTuple(_ByContent, tuple[Any, ...]):
    """A tuple with lists or dicts in it, as a task gives it."""

    _plain = tuple

    __hash__ = _ByContent.__hash__


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


_HASHABLE: dict[type, Any] = {list: HashableList, dict: HashableDict, set: HashableSet}


class Frozen:
    """A checked value with the text that is its identity."""

    __slots__ = ("text", "value")

    def __init__(self, value: object, text: str) -> None:
        self.value, self.text = value, text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text

    def fresh(self) -> object:
        """A copy of the value, hashable by content."""
        value = copied(self.value)
        if type(value) in _HASHABLE:
            return _HASHABLE[type(value)](value)
        if type(value) is tuple and not _is_hashable(value):
            return HashableTuple(value)
        return value

    @property
    def has_tasks(self) -> bool:
        """Whether tasks are inside; tells without a walk in the usual case."""
        return f'"{references.TASK}"' in self.text


class Checked(ParameterBase):
    """What all parameters made from annotations add: the check, and the marks of this package."""

    adapter: Adapter
    #: The parameter does not count for the identity while it equals its default.
    ignore_default = False
    #: Refuses every value but its default.
    constant = False
    #: What the type checkers see, for those who show or convert values.
    annotation: Any = None
    limits: Any = None
    #: Its text need not give the value back: that travels as a pickle.
    by_text: bool = True

    def normalize(self, x: object) -> Any:
        value = self.checked(x)
        if self.constant and not same(value, self.checked(default_of(self))):
            expected = f"the constant {self.serialize(self.checked(default_of(self)))}"
            raise RefusedError(expected, self.attribute, x)
        return value

    def must_be(self, held: object, known: object) -> None:
        """Refuse a value whose text is that of a value which a task has already, if it is not the same value."""
        if held is not known and not same(getattr(held, "value", held), getattr(known, "value", known)):
            self.must_come_back(held)

    def must_come_back(self, held: object) -> None:
        """Refuse a value that its text does not give back: the text is the identity, and all that others get.

        Raises:
            RefusedError: says what it would come back as.
        """
        value = held.value if isinstance(held, Frozen) else held
        text = self.serialize(held)
        try:
            again = self.parse(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise RefusedError(
                f"one that its text gives back, but {text:.200} cannot be read ({error})", self.attribute, value
            ) from error
        if not same(value, again):
            raise RefusedError(
                f"one that its text gives back, but {text:.200} is read as {again!r:.200}. Use a type that holds all "
                "of it, or hand it over by a task",
                self.attribute,
                value,
            )

    def checked(self, x: object) -> Any:
        """`x` as the task will hold it, or `RefusedError`."""
        try:
            return self._fitting(x)
        except DefinitionError:
            raise
        except (TypeError, ValueError) as error:
            raise RefusedError(str(error), self.attribute, x) from error

    def _fitting(self, x: object) -> Any:
        value = self.adapter.check(x)
        if self.limits is not None:
            keep_within(self.limits, value, self.adapter.name)
        return value


class CheckedInt(Checked, luigi.IntParameter):
    """`Param[int]`"""


class CheckedFloat(Checked, luigi.FloatParameter):
    """`Param[float]`; an int becomes a float."""

    def serialize(self, x: object) -> str:
        return repr(x)


class CheckedStr(Checked, luigi.StrParameter):
    """`Param[str]`"""


class CheckedBool(Checked, luigi.BoolParameter):
    """`Param[bool]`: `--flag`, `--flag true`, `--flag false`."""


class CheckedDate(Checked, luigi.DateParameter):
    """`Param[date]`"""

    def serialize(self, x: object) -> str:
        return str(self.adapter.encode(x))  # four digits a year, also before 1000


class _TextParameter(Checked):
    """Written and read by the adapter's text."""

    def serialize(self, x: object) -> str:
        return str(self.adapter.encode(x))

    def parse(self, x: object) -> Any:
        return self.adapter.decode(x) if isinstance(x, str) else x


class CheckedDatetime(_TextParameter, luigi.DateSecondParameter):
    """`Param[datetime]`: ISO 8601; unlike Luigi's own, microseconds and time zones are kept."""


class CheckedTimeDelta(_TextParameter, luigi.TimeDeltaParameter):
    """`Param[timedelta]`: Luigi's spellings (`1 h`, `P2D`), and microseconds are kept."""

    def parse(self, x: object) -> Any:
        if isinstance(x, str) and x.endswith(" us"):
            return self.adapter.decode(x)
        if not isinstance(x, str):
            return x
        try:
            return luigi.TimeDeltaParameter.parse(self, x)
        except (luigi.parameter.ParameterException, ValueError) as error:
            said = "a timedelta such as '2 h 30 m', '1 d', 'P1DT2H' or a number of seconds"
            raise RefusedError(said, self.attribute, x) from error

    def serialize(self, x: Any) -> str:
        exact = x.microseconds or x.days < 0
        return str(self.adapter.encode(x)) if exact else str(luigi.TimeDeltaParameter.serialize(self, x))


class CheckedPath(_TextParameter, luigi.PathParameter):
    """`Param[Path]`"""


class CheckedText(_TextParameter):
    """Other types with one text for each value: Decimal, UUID, time, bytes, classes, functions."""


class CheckedDateInterval(_TextParameter, luigi.DateIntervalParameter):
    """`Param[DateInterval]`"""


class CheckedEnum(Checked, luigi.EnumParameter[Any]):
    """`Param[SomeEnum]`, by name."""

    def parse(self, x: object) -> Any:
        try:
            return self.adapter.decode(x)
        except TypeError as error:
            raise RefusedError(str(error), self.attribute, x) from error


class CheckedChoice(Checked, ChoiceBase):
    """`Param[Literal["a", "b"]]`"""

    def parse(self, x: object) -> Any:
        return self.made_of(x)


class Structured(Checked):
    """Values kept as `Frozen`: JSON on the command line and in configurations."""

    #: What reads the text where a task may stand for a number or a flag: it is then written as without the task.
    plain: Checked | None = None

    def __get__(self, instance: object, owner: object = None) -> Any:
        if instance is None:
            return self
        held = instance.__dict__[self.attribute]
        return held.fresh() if isinstance(held, Frozen) else held

    def checked(self, x: object) -> Any:
        if isinstance(x, Frozen):
            x = x.value
        elif isinstance(x, _ByContent):  # what a task gave
            x = x._superluigi_plain()
        try:
            value = in_order(self._fitting(x))
            return Frozen(value, self.write(value))
        except DefinitionError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise RefusedError(str(error), self.attribute, x) from error

    def write(self, value: object) -> str:
        """The text of a checked value: its identity."""
        return canonical(self.adapter.encode(value))

    def serialize(self, x: object) -> str:
        return x.text if isinstance(x, Frozen) else self.checked(x).text

    def parse(self, x: object) -> Any:
        if not isinstance(x, str):
            return x  # a TOML configuration has values already
        expected = ""
        for text in (x, x.lower(), json.dumps(x)):  # JSON; `True` as Python writes it; else the text itself
            try:
                data = json.loads(text)
            except ValueError:
                continue
            try:
                return self.adapter.decode(data)
            except (TypeError, ValueError) as error:
                expected = expected or str(error)
        if self.plain is not None:
            with contextlib.suppress(TypeError, ValueError, luigi.parameter.ParameterException):
                return self.plain.parse(x)
        form = "" if self.plain is not None or isinstance(self.adapter, ScalarAdapter) else ", written as JSON"
        raise RefusedError(f"{expected or self.adapter.name}{form}", self.attribute, x)


class CheckedList(Structured, luigi.ListParameter):
    """`Param[list[…]]`; sets too."""


class CheckedTuple(Structured, luigi.TupleParameter):
    """`Param[tuple[…]]`"""

    def parse(self, x: object) -> Any:
        plain = super(Structured, self).parse(x) if isinstance(x, str) and x.startswith("(") else None
        return super().parse(x) if plain is None else self.adapter.check(plain)


class CheckedDict(Structured, luigi.DictParameter):
    """`Param[dict[…]]`"""


class CheckedValue(Structured):
    """Models, unions, `Any`, and arguments of functions, for which tasks may stand."""


class TaskReference(Structured):
    """`Requires[…]`: a task, or a list or dict of tasks, written as their ids."""

    def write(self, value: object) -> str:
        return references.refer(value) if isinstance(value, luigi.Task) else canonical(self.adapter.encode(value))

    def parse(self, x: object) -> Any:
        if not isinstance(x, str):
            return x
        try:
            data = json.loads(x)
        except ValueError:
            data = x  # a bare task id, or the name of a task class
        return self.adapter.decode(data)


class _Optional:
    """None is written as nothing; texts that are empty or quoted are written quoted, so that none are mixed up."""

    def serialize(self, x: object) -> str:
        if x is None:
            return ""
        text = str(super().serialize(x))  # type: ignore[misc]
        return json.dumps(text) if text == "" or text.startswith('"') else text

    def parse(self, x: object) -> object:
        if x == "" or x is None:
            return None
        if isinstance(x, str) and x.startswith('"'):
            with contextlib.suppress(ValueError):  # one that we have not written stands for itself
                x = json.loads(x)
        return super().parse(x)  # type: ignore[misc]


def parameter_for(annotation: object, *, tasks: bool = False, **options: object) -> Checked:
    """The Luigi parameter for an annotation; `options` go to it. With `tasks`, tasks may stand for values.

    Raises:
        DefinitionError: an annotation that no parameter can be made of.
    """
    adapter = adapter_for(annotation, tasks=tasks)
    made = _parameter(adapter, options)
    made.adapter, made.annotation, made.limits = adapter, annotation, limits_of(annotation)
    if "default" not in options:
        give_default(made, NO_DEFAULT)  # Luigi invents False for bools and None for optionals
    return made


def task_reference(kind: type) -> Any:
    """A parameter without an annotation: a task of `kind`."""
    made = TaskReference()
    made.adapter = IsTask(kind)
    return made


def any_value() -> Any:
    """A parameter without an annotation: any value that can be written down."""
    made = Structured()
    made.adapter = Anything()
    return made


def _parameter(adapter: Adapter, options: dict[str, Any]) -> Checked:
    plain = adapter.inner if isinstance(adapter, OrTask) else adapter
    if isinstance(plain, IsTask) and plain is adapter:
        return TaskReference(**options)
    if plain is not adapter:
        made = CheckedValue(**options)
        if _scalar(_optional_scalar(plain) or plain) is not None:
            made.plain = _parameter(plain, {})
            made.plain.adapter = plain
        return made
    optional = _optional_scalar(plain)
    if optional is not None:
        base, more = _scalar(optional) or (CheckedValue, {})
        return _optional_class(base)(**more, **options)
    base, more = _scalar(plain) or (_structure(plain), {})
    return base(**more, **options)


def _scalar(adapter: Adapter) -> tuple[type[Checked], dict[str, Any]] | None:
    if isinstance(adapter, ScalarAdapter):
        return _SCALARS.get(adapter.kind, CheckedValue), {"parsing": "explicit"} if adapter.kind is bool else {}
    if isinstance(adapter, EnumAdapter):
        return (CheckedEnum, {"enum": adapter.kind}) if not issubclass(adapter.kind, enum.Flag) else None
    if isinstance(adapter, LiteralAdapter):
        kinds = {type(choice) for choice in adapter.choices}
        if len(kinds) == 1 and kinds <= {str, int, float}:
            return CheckedChoice, {"choices": adapter.choices, "var_type": kinds.pop()}
        return None
    if isinstance(adapter, (TextAdapter, ImportableAdapter)):
        return _SCALARS.get(getattr(adapter, "kind", None), CheckedText), {}
    return None


def _structure(adapter: Adapter) -> type[Checked]:
    if isinstance(adapter, Dict):
        return CheckedDict
    if isinstance(adapter, TupleAdapter) or (isinstance(adapter, Sequence) and adapter.kind is tuple):
        return CheckedTuple
    return CheckedList if isinstance(adapter, Sequence) else CheckedValue


def _optional_scalar(adapter: Adapter) -> Adapter | None:
    """The scalar X of `X | None`, else None."""
    if not isinstance(adapter, UnionAdapter) or len(adapter.options) != 2:
        return None
    rest = [
        option for option in adapter.options if not (isinstance(option, ScalarAdapter) and option.kind is type(None))
    ]
    return rest[0] if len(rest) == 1 and _scalar(rest[0]) is not None else None


def _optional_class(base: type[Checked]) -> type[Checked]:
    if base not in _optionals:
        _optionals[base] = type(f"Optional{base.__name__}", (_Optional, base), {"__module__": __name__})
    return _optionals[base]


_optionals: dict[type[Checked], type[Checked]] = {}

_SCALARS: dict[object, type[Checked]] = {
    int: CheckedInt, float: CheckedFloat, str: CheckedStr, bool: CheckedBool,
    datetime.date: CheckedDate, datetime.datetime: CheckedDatetime, datetime.timedelta: CheckedTimeDelta,
    Path: CheckedPath, PurePath: CheckedPath, luigi.date_interval.DateInterval: CheckedDateInterval,
}  # fmt: skip

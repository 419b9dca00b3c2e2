"""Values of parameters by content: whether two are the same, and copies whose change changes nothing else. Pure."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
from collections.abc import Iterable, Mapping
from typing import Any

#: What cannot change and has no parts.
ATOMS = frozenset({type(None), bool, int, float, str, bytes, datetime.date, datetime.datetime})
_MISSING = object()


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same types, and equal, through and through.

    Stricter than `==` where that is blind: `1`, `1.0` and `True`, `0.0` and `-0.0`, one instant in two time zones,
    `Decimal("1.0")` and `Decimal("1.00")`, fields that a dataclass leaves out of its comparison. NaN is NaN.
    """
    kind = type(one)
    if kind is not type(other):
        return False
    if one is other:
        return True
    if kind is float:
        return repr(one) == repr(other)
    if isinstance(one, (str, bytes, int)):
        return _equal(one, other)
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    if isinstance(one, (datetime.datetime, datetime.time)):
        return bool(one.isoformat() == other.isoformat() and one.tzinfo == other.tzinfo and one.fold == other.fold)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return _same_mappings(one, other)
    if isinstance(one, (set, frozenset)):
        twins = {item: item for item in other}
        return len(one) == len(other) and all(item in twins and same(item, twins[item]) for item in one)
    if is_model(one):
        return all(same(part, counterpart) for part, counterpart in zip(_parts(one), _parts(other), strict=True))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name, _MISSING), getattr(other, name, _MISSING)) for name in names)
    return _equal(one, other)


def is_model(value: Any) -> bool:
    """Whether a value is a pydantic model."""
    return hasattr(type(value), "model_validate") and hasattr(type(value), "model_dump_json")


def model_fields(value: Any) -> dict[str, Any]:
    """The fields of a model by their own names; what it has cached beside them is left out."""
    names = type(value).model_fields
    return {name: item for name, item in vars(value).items() if name in names}


def copied(value: Any) -> Any:
    """A copy of a structure whose change changes nothing else; what cannot change is itself."""
    kind = type(value)
    if kind in ATOMS or isinstance(value, enum.Enum):
        return value
    if kind is dict:
        return {key: copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    if kind is set:
        return set(value)
    if isinstance(value, tuple):
        items = [copied(item) for item in value]
        if all(map(_is, items, value)):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if is_model(value):
        return value.model_copy(deep=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return with_fields(value, {name: copied(getattr(value, name)) for name in names if hasattr(value, name)})
    return value


def with_fields(value: Any, fields: Mapping[str, Any]) -> Any:
    """A dataclass object with these fields, made without its constructor; itself if it has them."""
    changed = {name: item for name, item in fields.items() if getattr(value, name, _MISSING) is not item}
    if not changed:
        return value
    other = copy.copy(value)
    for name, item in changed.items():
        object.__setattr__(other, name, item)
    return other


def holds_sets(value: Any) -> bool:
    """Whether there is a set in a value: its order differs from process to process."""
    if isinstance(value, (set, frozenset)):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_sets, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(holds_sets, value))
    return is_model(value) and any(map(holds_sets, _parts(value)))


def _parts(model: Any) -> tuple[Any, Any, Any]:
    return model_fields(model), model.__pydantic_extra__ or {}, model.__pydantic_private__ or {}


def _same_mappings(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    twins: dict[Any, Any] = {key: key for key in _keys(other)}
    if len(one) != len(other):
        return False
    return all(key in twins and same(key, twins[key]) and same(item, other[key]) for key, item in one.items())


def _keys(mapping: Mapping[Any, Any]) -> Iterable[Any]:
    return mapping.keys()


def _is(one: Any, other: Any) -> bool:
    return one is other


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  the values' own code; an array of truth values is no answer
        return False

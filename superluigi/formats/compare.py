"""Whether what was read is what was saved: plain values and tables, by value and by type. Imports no table library."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
from collections.abc import Mapping
from typing import Any

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
        return bool(_equal(one, other) and one.tzinfo == other.tzinfo and one.fold == other.fold)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        twins = {key: key for key in tuple(other)}
        return len(one) == len(other) and all(
            key in twins and same(key, twins[key]) and same(item, other[key]) for key, item in one.items()
        )
    if isinstance(one, (set, frozenset)):
        twins = {item: item for item in other}
        return len(one) == len(other) and all(item in twins and same(item, twins[item]) for item in one)
    if is_model(one):
        return all(same(part, counterpart) for part, counterpart in zip(parts(one), parts(other), strict=True))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name, _MISSING), getattr(other, name, _MISSING)) for name in names)
    return _equal(one, other)


def is_model(value: object) -> bool:
    """Whether a value is a pydantic model."""
    return hasattr(type(value), "model_validate") and hasattr(type(value), "model_dump_json")


def parts(model: Any) -> tuple[dict[str, object], Mapping[str, object], Mapping[str, object]]:
    """The fields of a model by their own names, what it took beside them, and its private attributes."""
    names = type(model).model_fields
    fields = {name: item for name, item in vars(model).items() if name in names}
    return fields, model.__pydantic_extra__ or {}, model.__pydantic_private__ or {}


def frame_difference(before: Any, after: Any) -> str | None:
    """In which way a pandas frame came back otherwise; None if it did not. Missing values are alike in objects."""
    for name, one, other in (("columns", before.columns, after.columns), ("index", before.index, after.index)):
        found = _index_difference(one, other)
        if found:
            return f"its {name} would come back {found}"
    if not same(dict(before.attrs), dict(after.attrs)):
        return "its attrs would come back changed"
    if before.flags.allows_duplicate_labels != after.flags.allows_duplicate_labels:
        return "its flags would be lost"
    for at, name in enumerate(before.columns):
        one, other = before.iloc[:, at], after.iloc[:, at]
        if one.dtype != other.dtype:
            return f"column {name!r} of {one.dtype} would come back as {other.dtype}"
        if not _same_items(one, other):
            return f"column {name!r} would come back with other values"
    return None


def _index_difference(one: Any, other: Any) -> str | None:
    if type(one) is not type(other):
        return f"as a {type(other).__name__}, not a {type(one).__name__}"
    if one.nlevels != other.nlevels or not same(list(one.names), list(other.names)):
        return f"with the names {list(other.names)}, not {list(one.names)}"
    for level in range(one.nlevels):
        left, right = (each if each.nlevels == 1 else each.get_level_values(level) for each in (one, other))
        if left.dtype != right.dtype or len(left) != len(right):
            return f"as {len(right)} of {right.dtype}, not as {len(left)} of {left.dtype}"
        if not _same_items(left.to_series(), right.to_series()):
            return "with other values"
    if getattr(one, "freq", None) != getattr(other, "freq", None):
        return f"with the frequency {getattr(other, 'freq', None)}, not {one.freq}"
    return None


def _same_items(one: Any, other: Any) -> bool:
    if one.dtype != object:
        return bool((one.isna() == other.isna()).all()) and bool(
            one.reset_index(drop=True).equals(other.reset_index(drop=True))
        )
    gaps = one.isna().to_list()
    if gaps != other.isna().to_list():
        return False
    pairs = zip(one.to_list(), other.to_list(), gaps, strict=True)
    return all(missing or same(left, right) for left, right, missing in pairs)


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  the values' own code; an array of truth values is no answer
        return False

"""Values of parameters by content: copies whose change changes nothing else. Pure."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
from collections.abc import Callable, Mapping
from typing import Any

from superluigi.formats.compare import is_model, parts, same

#: What cannot change and has no parts.
ATOMS = frozenset({type(None), bool, int, float, str, bytes, datetime.date, datetime.datetime})
_MISSING = object()

__all__ = ["ATOMS", "copied", "holds_sets", "in_order", "parts", "same", "with_fields"]


def copied(value: Any) -> object:
    """A copy of a structure whose change changes nothing else; what cannot change is itself."""
    if type(value) is set:
        return set(value)
    if is_model(value):
        return value.model_copy(deep=True)
    return _of_parts(value, copied)


def in_order(value: Any) -> object:
    """`value` with the keys of all its dicts in order: equal dicts are one value, whichever of them came first."""
    if type(value) is dict:
        try:
            keys = sorted(value)
        except TypeError:  # of several types, say
            keys = sorted(value, key=repr)
        value = {key: value[key] for key in keys}
    elif is_model(value):
        fields = {name: in_order(item) for name, item in vars(value).items()}
        if all(map(_is, fields.values(), vars(value).values())):
            return value
        other = value.model_copy()
        vars(other).update(fields)  # not by `model_copy(update=…)`, which would count what was left out as given
        return other
    return _of_parts(value, in_order)


def _of_parts(value: Any, made: Callable[[Any], object]) -> object:
    """A structure of what is `made` of its parts; itself if it cannot change and its parts are the same."""
    kind = type(value)
    if kind in ATOMS or isinstance(value, enum.Enum):
        return value
    if kind is dict:
        return {key: made(item) for key, item in value.items()}
    if kind is list:
        return [made(item) for item in value]
    if isinstance(value, tuple):
        items = [made(item) for item in value]
        if all(map(_is, items, value)):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return with_fields(value, {name: made(getattr(value, name)) for name in names if hasattr(value, name)})
    return value


def with_fields(value: object, fields: Mapping[str, object]) -> object:
    """A dataclass object with these fields, made without its constructor; itself if it has them."""
    changed = {name: item for name, item in fields.items() if getattr(value, name, _MISSING) is not item}
    if not changed:
        return value
    other = copy.copy(value)
    for name, item in changed.items():
        object.__setattr__(other, name, item)
    return other


def holds_sets(value: object) -> bool:
    """Whether there is a set in a value: its order differs from process to process."""
    if isinstance(value, (set, frozenset)):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_sets, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(holds_sets, value))
    return is_model(value) and any(map(holds_sets, parts(value)))


def _is(one: object, other: object) -> bool:
    return one is other

"""Values of the user's own classes: frozen dataclasses and pydantic models, by their fields."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from superluigi.parameters.adapters.basic import (
    Adapter,
    EnumAdapter,
    ImportableAdapter,
    LiteralAdapter,
    RefusalError,
    ScalarAdapter,
    Sequence,
    TextAdapter,
    is_scalar,
    member,
)
from superluigi.parameters.adapters.content import holds_sets, parts, same, with_fields


class DataclassAdapter(Adapter):
    """A frozen dataclass: its fields, each of its kind. `describe` gives it the fields, which may be of its own kind.

    Its JSON is what the constructor takes; where that would not make the same object again (fields that it does
    not take, `InitVar`, a `__post_init__` that changes what it got), `{"$state": …}` with every field.
    """

    def __init__(self, kind: type) -> None:
        self.kind, self.name = kind, kind.__name__
        self.fields: dict[str, Adapter] = {}
        self._taken: list[str] = []
        self._constructor_is_plain = False

    def describe(self, fields: dict[str, Adapter]) -> None:
        """Say of which kinds the fields are."""
        kind: Any = self.kind
        self.fields = fields
        self._taken = [field.name for field in dataclasses.fields(kind) if field.init]
        self._constructor_is_plain = (
            self._taken == list(fields)
            and kind.__dataclass_params__.init
            and not hasattr(kind, "__post_init__")
            and kind.__new__ is object.__new__
            and not hasattr(kind, "__pydantic_validator__")
            and all(one._field_type.name != "_FIELD_INITVAR" for one in kind.__dataclass_fields__.values())
        )
        self.sure = self._constructor_is_plain and all(map(is_scalar, fields.values()))
        if not all(map(_is_hashable_kind, fields.values())):
            kind.__hash__ = _hash_by_content  # Luigi puts values of parameters into sets

    def check(self, value: object) -> object:
        if type(value) is not self.kind:
            self.refuse(value)
        found = {}
        for name, adapter in self.fields.items():
            try:
                found[name] = adapter.check(getattr(value, name))
            except AttributeError:
                raise TypeError(f"{self.name} that has its field {name}") from None
            except (TypeError, ValueError) as error:
                shown = f"{getattr(value, name)!r:.80}"
                raise TypeError(f"{self.name} whose {name} is {error} (it is {shown})") from None
        return with_fields(value, found)

    def encode(self, value: object) -> dict[str, object]:
        data = {name: self.fields[name].encode(getattr(value, name)) for name in self._taken}
        if self._constructor_is_plain or self._comes_back(value, data):
            return data
        beside = set(getattr(value, "__dict__", ())) - set(self.fields)
        computed = {n for n in beside if isinstance(inspect.getattr_static(self.kind, n, 0), functools.cached_property)}
        if beside - computed:
            raise RefusalError(
                f"{self.name} that its fields describe in full (it also has {', '.join(sorted(beside - computed))})"
            )
        return {"$state": {name: adapter.encode(getattr(value, name)) for name, adapter in self.fields.items()}}

    def decode(self, data: object) -> object:
        if isinstance(data, dict) and set(data) == {"$state"}:
            made: object = object.__new__(self.kind)
            for name, adapter in self.fields.items():
                object.__setattr__(made, name, adapter.decode(data["$state"][name]))
            return made
        if not isinstance(data, dict) or set(data) - set(self.fields):
            raise TypeError(f"{self.name} with some of the fields {', '.join(self.fields) or '(none)'}")
        return self.kind(**{name: self.fields[name].decode(item) for name, item in data.items()})

    def _comes_back(self, value: object, data: Mapping[str, object]) -> bool:
        try:
            return same(self.check(self.decode(data)), value)
        except Exception:  # noqa: BLE001  the class's own constructor
            return False


class TypedDictAdapter(Adapter):
    """A TypedDict: the keys that it has, each of its kind; those that are required are there."""

    def __init__(self, kind: type) -> None:
        self.name = kind.__name__
        self.fields: dict[str, Adapter] = {}
        self._required: set[str] = set()

    def describe(self, fields: dict[str, Adapter], required: set[str]) -> None:
        """Say of which kinds the values are, and which keys must be there."""
        self.fields, self._required = fields, required
        self.name += f" with the keys {', '.join(fields) or '(none)'}"

    def check(self, value: object) -> object:
        return {key: member(self, self.fields[key].check, item) for key, item in self._items(value)}

    def encode(self, value: object) -> object:
        return {key: self.fields[key].encode(item) for key, item in self._items(value)}

    def decode(self, data: object) -> object:
        return {key: member(self, self.fields[key].decode, item) for key, item in self._items(data)}

    def _items(self, value: object) -> Iterable[tuple[str, object]]:
        if isinstance(value, Mapping) and self._required <= set(value) <= set(self.fields):
            return value.items()
        self.refuse(value)


class PydanticAdapter(Adapter):
    """A pydantic model; a private copy, so that changing it later changes no identity.

    Its JSON is the model's own, as long as that makes the same model again, in every process; else (aliases,
    fields that are excluded, subclasses in fields, nan, sets, private attributes, validators that change what they
    get) `{"$fields": …}` with every field as it is.
    """

    def __init__(self, kind: Any, anything: Adapter) -> None:
        self.kind, self.name, self._anything = kind, kind.__name__, anything
        if kind.__hash__ is None:  # Luigi puts values of parameters into sets
            kind.__hash__ = _hash_by_content
        elif getattr(kind.__hash__, "__module__", "").startswith("pydantic."):
            kind.__hash__ = _hash_or_by_content(kind.__hash__)

    def check(self, value: Any) -> object:
        if type(value) is not self.kind:
            self.refuse(value)
        return value.model_copy(deep=True)

    def encode(self, value: object) -> object:
        data = self._own_json(value)
        if data is not None:
            return data
        named = zip(("$fields", "$extra", "$private"), parts(value), strict=True)
        return {part: self._encoded(items) for part, items in named if items or part == "$fields"}

    def decode(self, data: object) -> object:
        if not (isinstance(data, dict) and "$fields" in data and set(data) <= {"$fields", "$extra", "$private"}):
            return self.kind.model_validate(data)
        read = {
            part: {name: self._anything.decode(item) for name, item in items.items()} for part, items in data.items()
        }
        takes_more = self.kind.model_config.get("extra") == "allow"
        made: Any = self.kind.__new__(self.kind)
        made.__setstate__(
            {
                "__dict__": {name: read["$fields"][name] for name in self.kind.model_fields if name in read["$fields"]},
                "__pydantic_extra__": read.get("$extra", {} if takes_more else None),
                "__pydantic_fields_set__": set(read["$fields"]),
                "__pydantic_private__": read.get("$private", {} if self.kind.__private_attributes__ else None),
            }
        )
        return made

    def _own_json(self, value: Any) -> object:
        """The model's own JSON; None if it would not make the same model again everywhere."""
        if holds_sets(value):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what does not fit its annotation does not come back, either
                data = json.loads(value.model_dump_json())
                again = self.kind.model_validate(data)
        except Exception:  # noqa: BLE001  validators are the user's
            return None
        return data if same(again, value) and not (isinstance(data, dict) and "$fields" in data) else None

    def _encoded(self, items: Mapping[str, object]) -> dict[str, object]:
        found = {}
        for name in sorted(items):
            try:
                found[name] = self._anything.encode(items[name])
            except (TypeError, ValueError) as error:
                if hasattr(items[name], "get_secret_value"):
                    raise RefusalError(
                        f"{self.name} without the secret {name}, which would be readable in ids and records: give the "
                        "secret's name, and look it up in run()"
                    ) from error
                raise RefusalError(f"{self.name} whose {name} is {error}") from error
        return found


def _is_hashable_kind(adapter: Adapter) -> bool:
    inner = getattr(adapter, "inner", adapter)
    return isinstance(inner, (ScalarAdapter, TextAdapter, LiteralAdapter, EnumAdapter, ImportableAdapter)) or (
        isinstance(inner, Sequence) and inner.kind in (tuple, frozenset) and _is_hashable_kind(inner.item)
    )


def _hash_by_content(value: object) -> int:
    return hash(repr(value))


def _hash_or_by_content(own: Callable[[object], int]) -> Callable[[object], int]:
    """Pydantic's for frozen models, which fails where a field has none."""

    def hashed(value: object) -> int:
        try:
            return own(value)
        except TypeError:
            return _hash_by_content(value)

    return hashed

"""What an annotation means for a value: is it one, its JSON form, and back. Pure, one adapter for a kind of type.

`check` returns the value as the task will see it and raises `TypeError` or `ValueError` with words that can
follow "expected"; `encode` gives JSON that is the same for equal values; `decode` undoes it.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import importlib
import inspect
import json
import operator
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from superluigi.errors import DefinitionError
from superluigi.formats.registry import is_class
from superluigi.parameters.content import holds_sets, parts, same, with_fields


class Adapter(abc.ABC):
    """One kind of type."""

    #: What people call it: `int`, `list[int]`.
    name: str
    #: Whether every checked value comes back from its text by construction; others are tried when a task is made.
    sure: bool = False

    @abc.abstractmethod
    def check(self, value: Any) -> Any:
        """`value` as the task will see it."""

    @abc.abstractmethod
    def encode(self, value: Any) -> Any:
        """The JSON of a checked value."""

    @abc.abstractmethod
    def decode(self, data: Any) -> Any:
        """The value of a JSON; raises `TypeError` or `ValueError` for what is none of ours."""

    def refuse(self, value: Any) -> typing.NoReturn:
        """Say that `value` is not what it should be."""
        raise TypeError(self.name)


class RefusalError(TypeError):
    """Why a value is none of its type, in words that can follow "expected"."""


class ScalarAdapter(Adapter):
    """bool, int, float, str and None: JSON has them. NumPy's scalars become Python's; True is no int."""

    sure = True

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "None" if kind is type(None) else kind.__name__

    def check(self, value: Any) -> Any:
        if type(value) is self.kind:
            return value
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return self.check(value.item())
        if isinstance(value, bool) and self.kind is not bool:
            self.refuse(value)
        if self.kind is float and isinstance(value, int):
            return float(value)
        if isinstance(value, self.kind) and not isinstance(value, enum.Enum):
            return self.kind(value)
        self.refuse(value)

    def encode(self, value: Any) -> Any:
        return value

    def decode(self, data: Any) -> Any:
        return self.check(data)


class TextAdapter(Adapter):
    """Types with one text for each value: dates, times, paths, decimals…"""

    def __init__(
        self,
        kind: type,
        write: Callable[[Any], str],
        read: Callable[[str], Any],
        accept: Callable[[Any], Any],
        sure: bool = True,
    ) -> None:
        self.kind, self._write, self._read, self._accept = kind, write, read, accept
        self.name, self.sure = kind.__name__, sure

    def check(self, value: Any) -> Any:
        try:
            accepted = self._accept(value)
        except RefusalError:
            raise
        except (TypeError, ValueError, ArithmeticError):
            self.refuse(value)
        if not isinstance(accepted, self.kind):
            self.refuse(value)
        return accepted

    def encode(self, value: Any) -> str:
        return self._write(value)

    def decode(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.refuse(data)
        try:
            return self._read(data)
        except ArithmeticError:  # Decimal's word for text that is no number
            self.refuse(data)


class LiteralAdapter(Adapter):
    """`Literal[…]`: one of some plain values or enum members."""

    sure = True

    def __init__(self, choices: tuple[Any, ...]) -> None:
        self.choices = choices
        self.name = f"one of {', '.join(map(repr, choices))}"
        self._coded = {json.dumps(choice if _is_json(choice) else choice.name): choice for choice in choices}
        if len(self._coded) < len(choices):
            raise DefinitionError(f"Two choices of Literal[{self.name.removeprefix('one of ')}] have the same text.")

    def check(self, value: Any) -> Any:
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        self.refuse(value)

    def encode(self, value: Any) -> Any:
        return value if _is_json(value) else value.name

    def decode(self, data: Any) -> Any:
        if json.dumps(data) not in self._coded:
            self.refuse(data)
        return self._coded[json.dumps(data)]


class EnumAdapter(Adapter):
    """A member of an enum, written by name."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        self.kind = kind
        self.name = f"a member of {kind.__name__} ({', '.join(kind.__members__)})"
        self.sure = not issubclass(kind, enum.Flag)

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.kind):
            self.refuse(value)
        return value

    def encode(self, value: Any) -> str:
        if issubclass(self.kind, enum.Flag):  # several flags: `READ|WRITE`; none: nothing
            return "|".join(name for name, member in self.kind.__members__.items() if member in value)
        return str(value._name_)  # `name` may be a property of the user's

    def decode(self, data: Any) -> Any:
        names = data.split("|") if isinstance(data, str) else [data]
        if issubclass(self.kind, enum.Flag) and set(names) - {""} <= set(self.kind.__members__):
            return functools.reduce(operator.or_, (self.kind[name] for name in names if name), self.kind(0))
        if data not in self.kind.__members__:
            self.refuse(data)
        return self.kind[data]


class Sequence(Adapter):
    """list, variadic tuple, set and frozenset of one kind of item."""

    def __init__(self, kind: type, item: Adapter) -> None:
        self.kind, self.item = kind, item
        self.name = f"{kind.__name__}[{item.name}{', ...' if kind is tuple else ''}]"
        self._accepts = (set, frozenset) if kind in (set, frozenset) else (list, tuple)
        self.sure = item.sure

    def check(self, value: Any) -> Any:
        if not isinstance(value, self._accepts):
            self.refuse(value)
        return self.kind(self.item.check(item) for item in value)

    def encode(self, value: Any) -> list[Any]:
        items = [self.item.encode(item) for item in value]
        return sorted(items, key=canonical) if self.kind in (set, frozenset) else items

    def decode(self, data: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            self.refuse(data)
        return self.kind(self.item.decode(item) for item in data)


class TupleAdapter(Adapter):
    """A tuple of so many items, each of its kind; named tuples too."""

    def __init__(self, items: list[Adapter], kind: type = tuple) -> None:
        self.items, self.kind = items, kind
        self.name = kind.__name__ if kind is not tuple else f"tuple[{', '.join(item.name for item in items)}]"
        self.sure = kind is tuple and all(item.sure for item in items)

    def check(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.items):
            self.refuse(value)
        return self._made(item.check(part) for item, part in zip(self.items, value, strict=True))

    def encode(self, value: Any) -> list[Any]:
        return [item.encode(part) for item, part in zip(self.items, value, strict=True)]

    def decode(self, data: Any) -> Any:
        if not isinstance(data, (list, tuple)) or len(data) != len(self.items):
            self.refuse(data)
        return self._made(item.decode(part) for item, part in zip(self.items, data, strict=True))

    def _made(self, parts: Any) -> Any:
        return tuple(parts) if self.kind is tuple else self.kind(*parts)


class Dict(Adapter):
    """A dict; its order is no part of its identity. Keys that are no text are kept in a list of pairs."""

    def __init__(self, key: Adapter, value: Adapter) -> None:
        self.key, self.value = key, value
        self.name = f"dict[{key.name}, {value.name}]"
        self._text_keys = isinstance(key, ScalarAdapter) and key.kind is str
        self.sure = key.sure and value.sure

    def check(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            self.refuse(value)
        found = {self.key.check(key): self.value.check(item) for key, item in value.items()}
        if len(found) < len(value):
            raise TypeError(f"{self.name} whose keys differ, as {self.key.name}")
        return found

    def encode(self, value: Any) -> Any:
        pairs = [(self.key.encode(key), self.value.encode(item)) for key, item in value.items()]
        pairs.sort(key=lambda pair: canonical(pair[0]))
        return dict(pairs) if self._text_keys else [list(pair) for pair in pairs]

    def decode(self, data: Any) -> Any:
        if isinstance(data, Mapping):  # as people write it: its keys are text
            return {self._key(key): self.value.decode(item) for key, item in data.items()}
        if not isinstance(data, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            self.refuse(data)
        return {self.key.decode(key): self.value.decode(item) for key, item in data}

    def _key(self, text: str) -> Any:
        """A key that is written as text: that text if it may be one, else what it says as JSON."""
        try:
            return self.key.decode(text)
        except (TypeError, ValueError):
            try:
                return self.key.decode(json.loads(text))
            except ValueError:
                raise TypeError(f"{self.name} (its key {text!r} is no {self.key.name})") from None


class UnionAdapter(Adapter):
    """A union: the first option that fits, exact types before those that convert."""

    def __init__(self, options: list[Adapter]) -> None:
        self.options = options
        self.name = " or ".join(option.name for option in options)
        self.sure = all(map(_is_scalar, options))

    def check(self, value: Any) -> Any:
        return self._fit(value, False)[1]

    def encode(self, value: Any) -> Any:
        option = self._fit(value, False)[0]
        data = option.encode(value)
        if self._fit(data, True)[0] is option:
            return data
        return {"$option": self.options.index(option), "value": data}  # an earlier option would claim it

    def decode(self, data: Any) -> Any:
        if isinstance(data, dict) and set(data) == {"$option", "value"}:
            return self.options[data["$option"]].decode(data["value"])
        return self._fit(data, True)[1]

    def _fit(self, value: Any, decoding: bool) -> tuple[Adapter, Any]:
        """The option that takes a value (or reads its JSON), and what it makes of it; each is asked once only."""
        exact = [option for option in self.options if getattr(option, "kind", None) is type(value)]
        said = TypeError(self.name)
        for option in (*exact, *(option for option in self.options if option not in exact)):
            try:
                return option, option.decode(value) if decoding else option.check(value)
            except DefinitionError:  # two classes of one name, say: nothing that another option could mend
                raise
            except (TypeError, ValueError) as error:
                if isinstance(error, RefusalError) or [option] == exact:
                    said = TypeError(str(error))
        raise said


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
            and not any(_is_initvar(field) for field in kind.__dataclass_fields__.values())
        )
        self.sure = self._constructor_is_plain and all(map(_is_scalar, fields.values()))
        if not all(map(_is_hashable_kind, fields.values())):
            kind.__hash__ = _hash_by_content  # Luigi puts values of parameters into sets

    def check(self, value: Any) -> Any:
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

    def encode(self, value: Any) -> dict[str, Any]:
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

    def decode(self, data: Any) -> Any:
        if isinstance(data, dict) and set(data) == {"$state"}:
            return self._from_state(data["$state"])
        if not isinstance(data, dict) or set(data) - set(self.fields):
            raise TypeError(f"{self.name} with some of the fields {', '.join(self.fields) or '(none)'}")
        return self.kind(**{name: self.fields[name].decode(item) for name, item in data.items()})

    def _comes_back(self, value: Any, data: dict[str, Any]) -> bool:
        try:
            return same(self.check(self.decode(data)), value)
        except Exception:  # noqa: BLE001  the class's own constructor
            return False

    def _from_state(self, state: dict[str, Any]) -> Any:
        made: Any = object.__new__(self.kind)
        for name, adapter in self.fields.items():
            object.__setattr__(made, name, adapter.decode(state[name]))
        return made


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

    def check(self, value: Any) -> Any:
        if type(value) is not self.kind:
            self.refuse(value)
        return value.model_copy(deep=True)

    def encode(self, value: Any) -> Any:
        data = self._own_json(value)
        if data is not None:
            return data
        named = zip(("$fields", "$extra", "$private"), parts(value), strict=True)
        return {part: self._encoded(items) for part, items in named if items or part == "$fields"}

    def decode(self, data: Any) -> Any:
        if not (isinstance(data, dict) and "$fields" in data and set(data) <= {"$fields", "$extra", "$private"}):
            return self.kind.model_validate(data)
        read = {
            part: {name: self._anything.decode(item) for name, item in items.items()} for part, items in data.items()
        }
        made: Any = self.kind.__new__(self.kind)
        made.__setstate__(
            {
                "__dict__": read["$fields"],
                "__pydantic_extra__": read.get("$extra", {} if self._takes_more() else None),
                "__pydantic_fields_set__": set(read["$fields"]),
                "__pydantic_private__": read.get("$private", {} if self.kind.__private_attributes__ else None),
            }
        )
        return made

    def _own_json(self, value: Any) -> Any:
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

    def _encoded(self, items: Mapping[str, Any]) -> dict[str, Any]:
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

    def _takes_more(self) -> bool:
        return bool(self.kind.model_config.get("extra") == "allow")


class ImportableAdapter(Adapter):
    """Classes and functions, by the module and name they can be imported by; task classes by family."""

    def __init__(self, base: Any = None) -> None:
        self.base = base if is_class(base) else None
        self.name = f"a class derived from {self.base.__name__}" if self.base else "something that can be imported"

    def check(self, value: Any) -> Any:
        if self.base and not (isinstance(value, type) and issubclass(value, self.base)):
            self.refuse(value)
        if import_name(value) is None:
            raise TypeError("something that can be imported by its name, no lambda and nothing made inside a function")
        return value

    def encode(self, value: Any) -> str:
        return import_name(value) or self.refuse(value)

    def decode(self, data: Any) -> Any:
        if not isinstance(data, str) or ":" not in data:
            self.refuse(data)
        return imported(data)


def canonical(data: Any) -> str:
    """The one text of a JSON value."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False)


def import_name(thing: Any) -> str | None:
    """`module:qualified.name` if that leads back to the very same thing, else None."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or "<" in name:
        return None
    try:
        return f"{module}:{name}" if imported(f"{module}:{name}") is thing else None
    except (TypeError, ValueError):
        return None


def imported(text: str) -> Any:
    """What `module:qualified.name` leads to.

    Raises:
        ValueError: it leads nowhere.
    """
    module, _, name = text.partition(":")
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{text} cannot be imported: {error}") from error


def _is_hashable_kind(adapter: Adapter) -> bool:
    inner = getattr(adapter, "inner", adapter)
    return isinstance(inner, (ScalarAdapter, TextAdapter, LiteralAdapter, EnumAdapter, ImportableAdapter)) or (
        isinstance(inner, Sequence) and inner.kind in (tuple, frozenset) and _is_hashable_kind(inner.item)
    )


def _hash_by_content(value: Any) -> int:
    return hash(repr(value))


def _is_scalar(adapter: Adapter) -> bool:
    inner = getattr(adapter, "inner", adapter)
    return inner.sure and isinstance(inner, (ScalarAdapter, TextAdapter, LiteralAdapter, EnumAdapter))


def _is_initvar(field: Any) -> bool:
    return bool(field._field_type.name == "_FIELD_INITVAR")


def _is_json(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)

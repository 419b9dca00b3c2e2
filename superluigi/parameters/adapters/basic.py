"""What an annotation means for a value: is it one, its JSON form, and back. Pure, one adapter for a kind of type.

`check` returns the value as the task will see it and raises `TypeError` or `ValueError` with words that can
follow "expected"; `encode` gives JSON that is the same for equal values; `decode` undoes it.
"""

from __future__ import annotations

import abc
import enum
import functools
import importlib
import json
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Any

from superluigi.errors import DefinitionError
from superluigi.formats.registry import is_class
from superluigi.jsonable import is_numpys_scalar, pythons_own


class Adapter(abc.ABC):
    """One kind of type."""

    #: What messages call it: `int`, `list[int]`.
    name: str
    #: Whether every checked value comes back from its text by construction; others are tried when a task is made.
    sure: bool = False

    @abc.abstractmethod
    def check(self, value: object) -> object:
        """`value` as the task will see it."""

    @abc.abstractmethod
    def encode(self, value: object) -> object:
        """The JSON of a checked value."""

    @abc.abstractmethod
    def decode(self, data: object) -> object:
        """The value of a JSON; raises `TypeError` or `ValueError` for what is none of ours."""

    def refuse(self, value: object) -> typing.NoReturn:
        """Say that `value` is not what it should be."""
        raise TypeError(self.name)


class RefusalError(TypeError):
    """Why a value is none of its type, in words that can follow "expected"."""


def member(whole: Adapter, take: Callable[[Any], object], value: object) -> object:
    """What `take`, the check or the reading of members, makes of one.

    Raises:
        RefusalError: names it beside the whole.
    """
    try:
        return take(value)
    except DefinitionError:
        raise
    except (TypeError, ValueError) as error:
        shown = f"{value!r:.60}" if isinstance(value, (str, int, float, type(None))) else "one"
        raise RefusalError(f"{whole.name}, in which {shown} ({type(value).__name__}) should be {error}") from error


class ScalarAdapter(Adapter):
    """bool, int, float, str and None: JSON has them. NumPy's scalars become Python's; True is no int."""

    sure = True

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "None" if kind is type(None) else kind.__name__

    def check(self, value: Any) -> object:
        if type(value) is self.kind:
            return value
        if is_numpys_scalar(value) and (plain := pythons_own(value)) is not value:
            return self.check(plain)
        if isinstance(value, bool) and self.kind is not bool:
            self.refuse(value)
        if self.kind is float and isinstance(value, int):
            try:
                return float(value)
            except OverflowError:
                raise RefusalError("float, for which it is too large") from None
        if isinstance(value, self.kind) and not isinstance(value, enum.Enum):
            return self.kind(value)
        self.refuse(value)

    def encode(self, value: object) -> object:
        return value

    def decode(self, data: object) -> object:
        return self.check(data)


class TextAdapter(Adapter):
    """Types with one text for each value: dates, times, paths, decimals…"""

    def __init__(
        self,
        kind: type,
        write: Callable[[Any], str],
        read: Callable[[str], object],
        accept: Callable[[Any], object],
        sure: bool = True,
    ) -> None:
        self.kind, self._write, self._read, self._accept = kind, write, read, accept
        self.name, self.sure = kind.__name__, sure

    def check(self, value: object) -> object:
        try:
            accepted = self._accept(value)
        except RefusalError:
            raise
        except (TypeError, ValueError, ArithmeticError):
            self.refuse(value)
        if not isinstance(accepted, self.kind):
            self.refuse(value)
        return accepted

    def encode(self, value: object) -> str:
        return self._write(value)

    def decode(self, data: object) -> object:
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
        if not all(_is_json(choice) or isinstance(choice, enum.Enum) for choice in choices):
            raise DefinitionError(f"A Literal has bytes among its choices, which have no text ({self.name}): use text.")
        self._coded = {json.dumps(choice if _is_json(choice) else choice.name): choice for choice in choices}
        if len(self._coded) < len(choices):
            raise DefinitionError(f"Two choices of Literal[{self.name.removeprefix('one of ')}] have the same text.")

    def check(self, value: object) -> object:
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        self.refuse(value)

    def encode(self, value: Any) -> object:
        return value if _is_json(value) else value.name

    def decode(self, data: object) -> object:
        if json.dumps(data) not in self._coded:
            self.refuse(data)
        return self._coded[json.dumps(data)]


class EnumAdapter(Adapter):
    """A member of an enum, written by name."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        self.kind = kind
        self.name = f"a member of {kind.__name__} ({', '.join(kind.__members__)})"
        self.sure = not issubclass(kind, enum.Flag)

    def check(self, value: object) -> object:
        if not isinstance(value, self.kind):
            self.refuse(value)
        return value

    def encode(self, value: Any) -> str:
        if issubclass(self.kind, enum.Flag):  # several flags: `READ|WRITE`; none: nothing
            return "|".join(name for name, member in self.kind.__members__.items() if member in value)
        return str(value._name_)  # `name` may be a property of the user's

    def decode(self, data: Any) -> object:
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

    def check(self, value: object) -> object:
        if not isinstance(value, self._accepts):
            self.refuse(value)
        return self.kind(member(self, self.item.check, item) for item in value)

    def encode(self, value: Any) -> list[object]:
        items = [self.item.encode(item) for item in value]
        return sorted(items, key=canonical) if self.kind in (set, frozenset) else items

    def decode(self, data: object) -> object:
        if not isinstance(data, (list, tuple)):
            self.refuse(data)
        return self.kind(member(self, self.item.decode, item) for item in data)


class TupleAdapter(Adapter):
    """A tuple of so many items, each of its kind; named tuples too."""

    def __init__(self, items: list[Adapter], kind: type = tuple) -> None:
        self.items, self.kind = items, kind
        self.name = kind.__name__ if kind is not tuple else f"tuple[{', '.join(item.name for item in items)}]"
        self.sure = kind is tuple and all(item.sure for item in items)

    def check(self, value: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.items):
            self.refuse(value)
        return self._made(member(self, item.check, part) for item, part in zip(self.items, value, strict=True))

    def encode(self, value: Any) -> list[object]:
        return [item.encode(part) for item, part in zip(self.items, value, strict=True)]

    def decode(self, data: object) -> object:
        if not isinstance(data, (list, tuple)) or len(data) != len(self.items):
            self.refuse(data)
        return self._made(member(self, item.decode, part) for item, part in zip(self.items, data, strict=True))

    def _made(self, parts: Any) -> object:
        return tuple(parts) if self.kind is tuple else self.kind(*parts)


class Dict(Adapter):
    """A dict; its order is no part of its identity. Keys that are no text are kept in a list of pairs."""

    def __init__(self, key: Adapter, value: Adapter) -> None:
        self.key, self.value = key, value
        self.name = f"dict[{key.name}, {value.name}]"
        self._text_keys = isinstance(key, ScalarAdapter) and key.kind is str
        self.sure = key.sure and value.sure

    def check(self, value: object) -> object:
        if not isinstance(value, Mapping):
            self.refuse(value)
        found = {member(self, self.key.check, key): member(self, self.value.check, item) for key, item in value.items()}
        if len(found) < len(value):
            raise TypeError(f"{self.name} whose keys differ, as {self.key.name}")
        return found

    def encode(self, value: Any) -> object:
        pairs = [(self.key.encode(key), self.value.encode(item)) for key, item in value.items()]
        pairs.sort(key=lambda pair: canonical(pair[0]))
        return dict(pairs) if self._text_keys else [list(pair) for pair in pairs]

    def decode(self, data: object) -> object:
        if isinstance(data, Mapping):  # as written by hand: its keys are text
            return {self._key(key): member(self, self.value.decode, item) for key, item in data.items()}
        if not isinstance(data, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            self.refuse(data)
        return {member(self, self.key.decode, key): member(self, self.value.decode, item) for key, item in data}

    def _key(self, text: str) -> object:
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
        self.sure = all(map(is_scalar, options))

    def check(self, value: object) -> object:
        return self._fit(value, False)[1]

    def encode(self, value: object) -> object:
        option = self._fit(value, False)[0]
        data = option.encode(value)
        if self._fit(data, True)[0] is option:
            return data
        return {"$option": self.options.index(option), "value": data}  # an earlier option would claim it

    def decode(self, data: object) -> object:
        if isinstance(data, dict) and set(data) == {"$option", "value"}:
            return self.options[data["$option"]].decode(data["value"])
        return self._fit(data, True)[1]

    def _fit(self, value: object, decoding: bool) -> tuple[Adapter, object]:
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


class ImportableAdapter(Adapter):
    """Classes and functions, by the module and name they can be imported by; task classes by family."""

    def __init__(self, base: object = None) -> None:
        self.base = base if is_class(base) else None
        self.name = f"a class derived from {self.base.__name__}" if self.base else "something that can be imported"

    def check(self, value: object) -> object:
        if self.base and not (isinstance(value, type) and issubclass(value, self.base)):
            self.refuse(value)
        if import_name(value) is None:
            raise TypeError("something that can be imported by its name, no lambda and nothing made inside a function")
        return value

    def encode(self, value: object) -> str:
        return import_name(value) or self.refuse(value)

    def decode(self, data: object) -> object:
        if not isinstance(data, str) or ":" not in data:
            self.refuse(data)
        return imported(data)


def canonical(data: object) -> str:
    """The one text of a JSON value."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False)


def import_name(thing: object) -> str | None:
    """`module:qualified.name` if that leads back to the very same thing, else None."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or "<" in name:
        return None
    try:
        return f"{module}:{name}" if imported(f"{module}:{name}") is thing else None
    except (TypeError, ValueError):
        return None


def imported(text: str) -> object:
    """What `module:qualified.name` leads to.

    Raises:
        ValueError: it leads nowhere.
    """
    module, _, name = text.partition(":")
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{text} cannot be imported: {error}") from error


def is_scalar(adapter: Adapter) -> bool:
    inner = getattr(adapter, "inner", adapter)
    return inner.sure and isinstance(inner, (ScalarAdapter, TextAdapter, LiteralAdapter, EnumAdapter))


def _is_json(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)

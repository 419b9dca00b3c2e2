"""From an annotation to its adapter: what a parameter, a requirement or a function's argument may be."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, get_args, get_origin

import luigi
import typing_extensions
from typing_extensions import NotRequired, Required

from superluigi.errors import DefinitionError
from superluigi.formats.registry import is_class
from superluigi.jsonable import is_numpys_scalar, pythons_own
from superluigi.parameters import references
from superluigi.parameters.adapters.basic import (
    Adapter,
    Dict,
    EnumAdapter,
    ImportableAdapter,
    LiteralAdapter,
    RefusalError,
    ScalarAdapter,
    Sequence,
    TextAdapter,
    TupleAdapter,
    UnionAdapter,
    canonical,
    import_name,
    imported,
)
from superluigi.parameters.adapters.classes import DataclassAdapter, PydanticAdapter, TypedDictAdapter
from superluigi.parameters.adapters.task_adapters import IsTask, OneOrMany, OnlyTask, OrTask
from superluigi.parameters.adapters.text_types import TEXTS


class Anything(Adapter):
    """No annotation, or `Any`: whatever can be written down; types that JSON lacks carry their name along."""

    name = "a value that can be written as text (numbers, text, dates, lists, dicts, dataclasses, tasks…)"

    def check(self, value: object) -> object:
        if value is None or type(value) in (bool, int, float, str):
            return value
        found = self._builtins(value)
        self.encode(found)
        return found

    def encode(self, value: Any) -> object:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, luigi.Task):
            return {references.TASK: references.refer(value)}
        if type(value) is list:
            return [self.encode(item) for item in value]
        if type(value) is tuple:
            return {"$tuple": [self.encode(item) for item in value]}
        if type(value) in (set, frozenset):
            return {f"${type(value).__name__}": sorted(map(self.encode, value), key=canonical)}
        if type(value) is dict:
            return self._encode_dict(value)
        text = _text_for(value)
        if text is not None:
            return {f"${text.name}": text.encode(value)}
        adapter = self._for(value)
        if isinstance(adapter, ImportableAdapter):
            return {_TYPE if isinstance(value, type) else _FUNCTION: adapter.encode(adapter.check(value))}
        if adapter is None:
            self.refuse(value)
        name = import_name(type(value))
        if name is None:
            raise RefusalError(f"a value of a class that can be imported by its name (it is a {type(value).__name__})")
        return {f"${name}": adapter.encode(value)}

    def decode(self, data: object) -> object:
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict):
            return data
        tag = next(iter(data), "")
        if len(data) != 1 or not tag.startswith("$"):
            return {key: self.decode(item) for key, item in data.items()}
        content = data[tag]
        if tag == references.TASK:
            return references.resolve(content)
        if tag == "$dict":
            return {self.decode(key): self.decode(item) for key, item in content}
        for kind in (tuple, set, frozenset):
            if tag == f"${kind.__name__}":
                return kind(self.decode(item) for item in content)
        for text in TEXTS.values():
            if tag == f"${text.name}":
                return text.decode(content)
        if tag in (_TYPE, _FUNCTION):
            return ImportableAdapter().decode(content)
        adapter = _known_class(imported(tag[1:]))
        if adapter is None:
            self.refuse(data)
        return adapter.decode(content)

    def _builtins(self, value: Any) -> object:
        """`value` of Python's own types: NumPy's numbers and classes derived from list, dict and set become these."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if is_numpys_scalar(value) and (plain := pythons_own(value)) is not value:
            return self._builtins(plain)
        if isinstance(value, list):
            return [self._builtins(item) for item in value]
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return tuple(self._builtins(item) for item in value)
        if isinstance(value, (set, frozenset)):
            return (set if isinstance(value, set) else frozenset)(self._builtins(item) for item in value)
        if isinstance(value, Mapping):
            return {self._builtins(key): self._builtins(item) for key, item in value.items()}
        text = _text_for(value)
        if text is not None:
            return text.check(value)
        adapter = None if isinstance(value, luigi.Task) else self._for(value)
        return value if adapter is None else adapter.check(value)

    def _encode_dict(self, value: Mapping[Any, object]) -> object:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(value[key]) for key in sorted(value)}
        pairs = [[self.encode(key), self.encode(item)] for key, item in value.items()]
        return {"$dict": sorted(pairs, key=canonical)}

    def _for(self, value: object) -> Adapter | None:
        found = None if isinstance(value, type) else _known_class(type(value))
        return ImportableAdapter() if found is None and (isinstance(value, type) or callable(value)) else found


_CONTAINERS: dict[object, type] = {
    list: list, abc.Sequence: list, abc.Iterable: list, abc.Collection: list, tuple: tuple,
    set: set, frozenset: frozenset, abc.Set: frozenset, dict: dict, abc.Mapping: dict,
}  # fmt: skip

#: The keys of classes and functions in JSON.
_TYPE, _FUNCTION = "$builtins:type", "$function"


def _text_for(value: object) -> TextAdapter | None:
    return next((text for text in TEXTS.values() if isinstance(value, text.kind)), None)


def _known_class(kind: object) -> Adapter | None:
    if not is_class(kind):
        return None
    try:
        return _of_class(kind, False)
    except DefinitionError:
        return None


def adapter_for(annotation: object, *, tasks: bool = False) -> Adapter:
    """The adapter of an annotation; with `tasks`, a task may stand in place of every value in it.

    Raises:
        DefinitionError: an annotation that no parameter can be made of.
    """
    if not tasks:
        return _plain_adapter(annotation, tasks)
    try:
        return OrTask(_plain_adapter(annotation, tasks))
    except DefinitionError:
        return OnlyTask(annotation)


def task_adapter_for(annotation: object) -> Adapter:
    """The adapter of what stands in `Requires[…]`: tasks where the annotation has classes or values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return UnionAdapter([ScalarAdapter(type(None)) if o is type(None) else task_adapter_for(o) for o in arguments])
    if origin is list:
        return OneOrMany(Sequence(list, task_adapter_for(arguments[0])), arguments[0])
    if origin is dict:
        return OneOrMany(Dict(adapter_for(arguments[0]), task_adapter_for(arguments[1])), arguments[1])
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Sequence(tuple, task_adapter_for(arguments[0]))
    if origin is tuple:
        return TupleAdapter([task_adapter_for(item) for item in arguments])
    return IsTask(annotation)


def _plain_adapter(annotation: object, tasks: bool) -> Adapter:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (Any, object) or isinstance(annotation, typing.TypeVar):
        return Anything()
    if origin in (typing.Annotated, Required, NotRequired):
        return _plain_adapter(arguments[0], tasks)
    meant = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    if meant is not None and not is_class(annotation):  # a NewType; what `type X = …` made
        return _plain_adapter(meant, tasks)
    if origin is Literal:
        return LiteralAdapter(arguments)
    if origin in (typing.Union, types.UnionType):
        return UnionAdapter([_plain_adapter(option, tasks) for option in arguments])
    if origin is type or annotation is type:
        return ImportableAdapter(arguments[0] if arguments else None)
    if abc.Callable in (origin, annotation):
        return ImportableAdapter()
    if annotation is None:
        return ScalarAdapter(type(None))
    if origin is not None or annotation in (list, tuple, set, frozenset, dict):
        return _container(origin or annotation, arguments, tasks, annotation)
    return _of_class(annotation, tasks)


def _container(origin: object, arguments: tuple[object, ...], tasks: bool, annotation: object) -> Adapter:
    if origin is tuple and arguments and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return TupleAdapter([adapter_for(item, tasks=tasks) for item in arguments if item != ()])
    for base, kind in _CONTAINERS.items():
        if origin is base:
            if kind is dict:
                key, value = arguments or (Any, Any)
                return Dict(adapter_for(key), adapter_for(value, tasks=tasks))
            return Sequence(kind, adapter_for(arguments[0] if arguments else Any, tasks=tasks))
    raise DefinitionError(_no_parameter(annotation))


def _of_class(kind: object, tasks: bool) -> Adapter:
    if not is_class(kind):
        raise DefinitionError(_no_parameter(kind))
    if kind in (bool, int, float, str, type(None)):
        return ScalarAdapter(kind)
    if kind in TEXTS:
        return TEXTS[kind]
    if issubclass(kind, enum.Enum):
        if not kind.__members__:
            raise DefinitionError(f"{kind.__name__} has no members, so that it has no values: name an enum with some.")
        return EnumAdapter(kind)
    if issubclass(kind, luigi.Task):
        return IsTask(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if hasattr(kind, "model_validate") and hasattr(kind, "model_dump_json"):
        return PydanticAdapter(kind, Anything())
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind, tasks)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return _typed_dict(kind)
    raise DefinitionError(_no_parameter(kind))


def _dataclass(kind: Any) -> Adapter:
    if not kind.__dataclass_params__.frozen:
        raise DefinitionError(
            f"The dataclass {kind.__name__} can change after it became part of a task's identity: "
            "declare it with @dataclass(frozen=True)."
        )
    names = [field.name for field in dataclasses.fields(kind)]
    return _with_fields(kind, DataclassAdapter(kind), lambda made, hints: made.describe(
        {name: adapter_for(hints.get(name, Any), tasks=True) for name in names}
    ))  # fmt: skip


def _typed_dict(kind: Any) -> Adapter:
    def describe(made: TypedDictAdapter, hints: dict[str, Any]) -> None:
        marks = {name: get_origin(hint) for name, hint in hints.items()}  # the class's own list does not read texts
        required = {name for name, mark in marks.items() if mark is not NotRequired} & {*kind.__required_keys__}
        required |= {name for name, mark in marks.items() if mark is Required}
        made.describe({name: adapter_for(hint, tasks=True) for name, hint in hints.items()}, required)

    return _with_fields(kind, TypedDictAdapter(kind), describe)


def _named_tuple(kind: Any, tasks: bool) -> Adapter:
    if kind.__hash__ is tuple.__hash__:
        kind.__hash__ = _hash_of_tuple
    return _with_fields(kind, TupleAdapter([], kind), lambda made, hints: made.items.extend(
        adapter_for(hints.get(name, Any), tasks=tasks) for name in kind._fields
    ))  # fmt: skip


def _hash_of_tuple(value: tuple[object, ...]) -> int:
    """Also of one with a list in it: Luigi puts values of parameters into sets."""
    try:
        return tuple.__hash__(value)
    except TypeError:
        return hash(repr(value))


def _with_fields(kind: type, made: Described, describe: Callable[[Described, dict[str, Any]], None]) -> Adapter:
    """An adapter whose fields are described by the hints of its class, which may be among its own fields."""
    being_made = _being_made.get()
    if kind in being_made:
        return being_made[kind]
    reset = _being_made.set({**being_made, kind: made})
    try:
        hints = typing_extensions.get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except NameError:
        hints = {}  # names of a function's inside: the fields are then written with their types
    try:
        describe(made, hints)
    finally:
        _being_made.reset(reset)
    return made


Described = TypeVar("Described", bound=Adapter)
_being_made: ContextVar[dict[type, Adapter]] = ContextVar("superluigi_being_made", default={})  # noqa: B039


def _no_parameter(annotation: object) -> str:
    hint = " Take the quotes away." if isinstance(annotation, (str, typing.ForwardRef)) else ""
    return (
        f"No parameter can be made of the annotation {annotation!r}.{hint} Known: bool, int, float, str, date, "
        "datetime, time, timedelta, ZoneInfo, Path, Decimal, UUID, bytes, enums, Literal, Optional and unions, list, "
        "tuple, set, dict, frozen dataclasses, pydantic models, type[…], task classes and Any. Or use one of Luigi's "
        "parameters."
    )

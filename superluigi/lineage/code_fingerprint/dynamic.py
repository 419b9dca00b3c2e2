"""Code without a source file (notebook cells, `exec`): digests of bytecode, and the objects it names."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from luigi.task_register import Register

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def is_task(value: object) -> bool:
    """Whether an object is a Luigi task class."""
    return isinstance(value, Register)


#: The attribute of a task class that lists checks.
CHECKS = "checks"
Wanted = Callable[[str], bool]


def parts(cls: type, wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Name and digest of each `wanted` method of the class, of its plain attributes, and of what they name."""
    name = cls.__qualname__.rpartition("<locals>.")[2]
    attributes: list[str] = []
    for key, value in sorted(vars(cls).copy().items()):
        if not wanted(key):
            continue
        function = _function(value)
        if function is not None:
            yield f"{name}.{key}", _digest(_describe(function.__code__))
        elif key == CHECKS:
            for position, item in enumerate(_items(value)):
                found = _function(item)
                text = repr(type(item)) if found is None else _describe(found.__code__)
                yield f"{name}.{key}[{position}]", _digest(text)
        elif isinstance(value, _PLAIN) and not key.startswith("_"):
            attributes.append(f"{key}={value!r}")
    yield name, _digest(repr(attributes) + repr([base.__qualname__ for base in cls.__bases__]))
    yield from _named_here(cls, wanted)


def references(cls: type, wanted: Wanted) -> Iterator[tuple[Any, set[str]]]:
    """Modules, classes and functions defined elsewhere that the class's code names, or that a function of its
    own namespace names for it; each with the names used beside it, among them attributes of a module."""
    inner = (value for _, value in _reached(cls, wanted) if isinstance(value, types.FunctionType))
    for function in (*_functions(cls, wanted), *inner):
        names = _names(function.__code__)
        for value in (function.__globals__[name] for name in sorted(names) if name in function.__globals__):
            elsewhere = getattr(value, "__module__", None) not in (None, cls.__module__)
            if isinstance(value, types.ModuleType) or (isinstance(value, (type, types.FunctionType)) and elsewhere):
                yield value, names


def _named_here(cls: type, wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Digests of functions, classes and plain constants of the same namespace that the class reaches."""
    for name, value in _reached(cls, wanted):
        if isinstance(value, types.FunctionType):
            yield name, _digest(_describe(value.__code__))
        elif isinstance(value, type):
            yield name, _digest(repr([_describe(one.__code__) for one in _functions(value)]))
        else:
            yield name, _digest(repr(value))


def _reached(cls: type, wanted: Wanted) -> list[tuple[str, object]]:
    found: dict[str, object] = {}
    waiting = list(_functions(cls, wanted))
    while waiting:
        function = waiting.pop()
        for name in sorted(_names(function.__code__)):
            value = function.__globals__.get(name)
            if name in found or name not in function.__globals__ or is_task(value):
                continue
            if isinstance(value, _PLAIN):
                found[name] = value
            elif isinstance(value, (type, types.FunctionType)) and value.__module__ == cls.__module__:
                found[name] = value
                waiting.extend(_functions(value) if isinstance(value, type) else [value])
    return list(found.items())


def _functions(cls: type, wanted: Wanted | None = None) -> Iterator[types.FunctionType]:
    for key, value in sorted(vars(cls).copy().items()):
        if wanted is not None and not wanted(key):
            continue
        for item in _items(value) if key == CHECKS else [value]:
            function = _function(item)
            if function is not None:
                yield function


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _function(value: object) -> types.FunctionType | None:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__wrapped__", value)
    return value if isinstance(value, types.FunctionType) else None


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _describe(code: types.CodeType) -> str:
    """A code object without positions, file names and docstring."""
    constants = [_describe(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    if _has_docstring(code):
        constants[0] = "None"
    return repr((code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants))


def _has_docstring(code: types.CodeType) -> bool:
    if not code.co_consts or not isinstance(code.co_consts[0], str):
        return False
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & 0x4000000)  # CO_HAS_DOCSTRING
    return not code.co_name.startswith("<")  # before 3.13 a function's first constant is its docstring or None


def _constant(value: object) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

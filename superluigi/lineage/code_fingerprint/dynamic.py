"""Code without a source file (notebook cells, `exec`): digests of bytecode, and the objects it names."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from luigi.task_register import Register

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def is_task(value: object) -> bool:
    """Whether an object is a Luigi task class."""
    return isinstance(value, Register)


def parts(cls: type) -> Iterator[tuple[str, str]]:
    """Name and digest of each method of the class, of its plain attributes, and of what they name."""
    name = cls.__qualname__.rpartition("<locals>.")[2]
    attributes: list[str] = []
    for key, value in sorted(vars(cls).items()):
        function = _function(value)
        if function is not None:
            yield f"{name}.{key}", _digest(_describe(function.__code__))
        elif isinstance(value, _PLAIN) and not key.startswith("_"):
            attributes.append(f"{key}={value!r}")
    yield name, _digest(repr(attributes) + repr([base.__qualname__ for base in cls.__bases__]))
    yield from _named_here(cls)


def references(cls: type) -> Iterator[tuple[Any, set[str]]]:
    """Modules, classes and functions defined elsewhere that the class's code names, or that a function of its
    own namespace names for it; each with the names used beside it, among them attributes of a module."""
    for function in (*_functions(cls), *(value for _, value in _reached(cls) if isinstance(value, types.FunctionType))):
        names = _names(function.__code__)
        for value in _globals_of(function):
            elsewhere = getattr(value, "__module__", None) not in (None, cls.__module__)
            if isinstance(value, types.ModuleType) or (isinstance(value, (type, types.FunctionType)) and elsewhere):
                yield value, names


def _named_here(cls: type) -> Iterator[tuple[str, str]]:
    """Digests of functions, classes and plain constants of the same namespace that the class reaches."""
    for name, value in _reached(cls):
        if isinstance(value, types.FunctionType):
            yield name, _digest(_describe(value.__code__))
        elif isinstance(value, type):
            yield name, _digest(repr([_describe(one.__code__) for one in _functions(value)]))
        else:
            yield name, _digest(repr(value))


def _reached(cls: type) -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    waiting = list(_functions(cls))
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


def _functions(cls: type) -> Iterator[types.FunctionType]:
    for _, value in sorted(vars(cls).items()):
        function = _function(value)
        if function is not None:
            yield function


def _function(value: Any) -> types.FunctionType | None:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__wrapped__", value)
    return value if isinstance(value, types.FunctionType) else None


def _globals_of(function: types.FunctionType) -> Iterator[Any]:
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield function.__globals__[name]


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


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

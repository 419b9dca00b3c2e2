"""Functions as parameter values: known by the name they are imported by, or by their code."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from typing import Any

import luigi

from superluigi.parameters.adapters.basic import canonical, import_name, imported
from superluigi.parameters.adapters.factory import Anything
from superluigi.parameters.checked import Frozen, RefusedError, Structured


class FunctionParameter(Structured):
    """A callable. One that can be imported is written `module:name`; another by a digest of its code.

    The digest covers the bytecode, its constants, defaults and what it closes over, so that it is the same in
    every process of one Python version.
    """

    adapter = Anything()
    by_text = False

    def checked(self, x: object) -> Frozen:
        value = x.value if isinstance(x, Frozen) else x
        if not callable(value) or isinstance(value, luigi.Task):
            raise RefusedError("a function", self.attribute, x)
        try:
            return FrozenFunction(_snapshot(value), _text(value))
        except (TypeError, ValueError) as error:
            raise RefusedError(f"a function whose code is known ({error})", self.attribute, x) from error

    def parse(self, x: object) -> Any:
        if isinstance(x, str) and "#" in x:
            raise RefusedError("a function that can be imported (module:name)", self.attribute, x)
        return imported(x) if isinstance(x, str) else x


class FrozenFunction(Frozen):
    """Travels to other processes by cloudpickle, since lambdas must."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        import cloudpickle  # type: ignore[import-untyped]

        return _thawed, (cloudpickle.dumps(self.value), self.text)


def _thawed(content: bytes, text: str) -> FrozenFunction:
    import cloudpickle

    return FrozenFunction(cloudpickle.loads(content), text)


def _snapshot(function: object) -> object:
    """The function with what it closes over as it is now: a variable that changes later changes no task."""
    if not isinstance(function, types.FunctionType) or not function.__closure__:
        return function
    cells = tuple(types.CellType(cell.cell_contents) for cell in function.__closure__)
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    copy.__module__ = function.__module__
    return copy


def _text(function: object) -> str:
    name = import_name(function)
    if name is not None and not name.startswith("__main__:"):
        return name
    if not isinstance(function, types.FunctionType):
        if name is not None:
            return name
        raise TypeError("give a function, or something that can be imported by its name")
    digest = hashlib.sha256(canonical(list(_facts(function, ()))).encode()).hexdigest()
    return f"{function.__module__}:{function.__qualname__}#{digest[:16]}"


def _facts(function: types.FunctionType, around: tuple[object, ...]) -> Iterator[object]:
    """`around` are the functions in whose facts this one was found: one that closes over itself is there again."""
    around = (*around, function)
    yield from _code_facts(function.__code__)
    encode = Anything().encode
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield encode(value)
    for cell in function.__closure__ or ():
        inside = cell.cell_contents
        above = [at for at, one in enumerate(around) if one is inside]
        if above:
            yield {"$above": above}
        else:
            yield list(_facts(inside, around)) if isinstance(inside, types.FunctionType) else encode(inside)


def _code_facts(code: types.CodeType) -> Iterator[object]:
    yield code.co_code.hex()
    yield [*code.co_names, "/", *code.co_varnames[: code.co_argcount]]
    for constant in code.co_consts:
        yield list(_code_facts(constant)) if isinstance(constant, types.CodeType) else _constant(constant)


def _constant(constant: object) -> str:
    """The same text in every process: the order of a set differs."""
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_constant, constant))})"
    if isinstance(constant, tuple) and any(isinstance(item, (tuple, frozenset)) for item in constant):
        return f"({', '.join(map(_constant, constant))})"
    return repr(constant)

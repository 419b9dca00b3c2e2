"""Values as bytes for another process, and back: by reference where it can import them, by value where it cannot."""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from superluigi.errors import ExecutionError
from superluigi.luigi_compat import register

#: Whose bytecode this is: another Python would crash on it.
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def _code_reduced(code: CodeType) -> tuple[Callable[..., CodeType], tuple[object, ...]]:
    make, values = cloudpickle.Pickler.dispatch_table[CodeType](code)[:2]
    return _code_of_file, (code.co_filename, make, values, _PYTHON)


def _code_of_file(
    name: str, make: Callable[..., CodeType], values: tuple[object, ...], python: str = _PYTHON
) -> CodeType:
    if python != _PYTHON:
        raise ExecutionError(
            f"The code in {name} was pickled by Python {python}, and this is Python {_PYTHON}, which cannot run it: "
            f"use Python {python} here, submit again with Python {_PYTHON}, or define the task in a module."
        )
    return make(*values).replace(co_filename=name)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle's, which forgets in which file code stands and in which class a class: pickle looks for it there."""

    dispatch_table = ChainMap({CodeType: _code_reduced}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, value: object) -> Any:
        reduced = super().reducer_override(value)
        if isinstance(value, type) and "." in value.__qualname__ and isinstance(reduced, tuple):
            for options in reduced[1]:
                if isinstance(options, dict) and "__module__" in options:
                    options["__qualname__"] = value.__qualname__
        return reduced


def by_value(value: object) -> bytes:
    """As cloudpickle would, and tracebacks over there name file and line.

    Raises:
        Exception: whatever pickling raises for what cannot travel.
    """
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


def dumps(value: object) -> bytes:
    """As cloudpickle would, at a third of the cost for what modules define.

    Raises:
        Exception: whatever pickling raises for what cannot travel.
    """
    if not cloudpickle.list_registry_pickle_by_value():
        try:
            dumped = pickle.dumps(value)
        except Exception:  # noqa: BLE001 - lambdas, local classes: cloudpickle takes them by value
            dumped = b"__main__"
        if b"__main__" not in dumped:  # over there, `__main__` is another module
            return dumped
    return by_value(value)


def loads(data: bytes) -> Any:
    """`pickle.loads`, after which each task class is in Luigi's register once.

    For a class that is known here, cloudpickle makes a second one, finds the first and throws the second away: but
    making it has registered it, and from then on Luigi calls its name ambiguous.
    """
    known = len(register.classes())
    value = pickle.loads(data)
    added = register.classes()[known:]
    if added:
        _forget_spares(added)
    return value


def _forget_spares(added: list[Any]) -> None:
    module: object = sys.modules.get("cloudpickle.cloudpickle")
    used = set(getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", ()))
    names = {(kind.__module__, kind.__name__) for kind in used}
    for spare in added:
        if spare not in used and (spare.__module__, spare.__name__) in names:
            register.classes().remove(spare)

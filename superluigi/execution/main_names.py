"""What a script or notebook defines, in the `__main__` of its worker processes.

Its task classes travel by value; what these pickle there by themselves (for a pool, as a value, an exception that is
raised) says `__main__.Name`. So the names that came along are put where pickle looks for them. The script itself is not
run again; only what it spawns by `multiprocessing` imports it, as it would in the script.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import FunctionType
from typing import Any

from superluigi.errors import DefinitionError
from superluigi.execution import pickling

#: A class that drags more than this along (a table that a method names) is not sent without need.
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Main:
    """The caller's `__main__`, as far as others need it."""

    #: The classes that it defines, tasks apart, which come with their attempts: name → by value.
    classes: dict[str, bytes]
    file: str | None
    #: Its name where it was started by `python -m`.
    module: str | None
    pid: int


class _Names:
    """Which names of `__main__` are ours to set in this process."""

    def __init__(self) -> None:
        #: Those that we have put there.
        self.ours: set[str] = set()
        #: All: it is the caller's script, forked or imported again, whose classes and functions are others than those
        #: that came by value; of two alike pickle takes neither.
        self.all = False
        #: None: this is the caller's process.
        self.none = False

    def has(self, name: str) -> bool:
        """Whether `name` is."""
        free = self.all or name in self.ours or not hasattr(sys.modules["__main__"], name)
        return free and not self.none

    def put(self, name: str, value: object) -> None:
        """Have `__main__.name` mean `value`."""
        setattr(sys.modules["__main__"], name, value)
        self.ours.add(name)


_names = _Names()


def collected(tasks: type) -> Main:
    """What this process's `__main__` defines; `tasks` is the class of those that travel by themselves."""
    main = sys.modules["__main__"]
    classes = {}
    for name, value in vars(main).copy().items():
        if isinstance(value, type) and _is_of_main(name, value) and not issubclass(value, tasks):
            try:
                dumped = pickling.by_value(value)
            except Exception:  # noqa: BLE001 - it cannot travel: then nothing there can have one of it
                continue
            if len(dumped) < _MOST_BYTES:
                classes[name] = dumped
    file = getattr(main, "__file__", None)
    module = getattr(getattr(main, "__spec__", None), "name", None)
    return Main(classes, None if file is None else os.path.abspath(file), module, os.getpid())


def install(caller: Main, loads: Any, near: bool) -> None:
    """Put the caller's classes into `__main__` here, which with `near` stands for the caller's in all."""
    main: Any = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    _names.none = caller.pid == os.getpid()
    _names.all = file is not None and os.path.abspath(file) == caller.file
    for name, dumped in caller.classes.items():
        if _names.has(name):
            _names.put(name, loads(dumped))
    if near:
        if caller.file is not None:
            main.__file__ = caller.file
        if caller.module is not None:
            main.__spec__ = ModuleSpec(caller.module, None)


def adopt(kind: type) -> None:
    """Put what the class of a task, come by value, uses of its own `__main__` into the one here."""
    for base in kind.__mro__:
        if base.__module__ != "__main__":
            continue
        if _names.has(base.__name__) and _is_of_main(base.__name__, base):
            _names.put(base.__name__, base)
        for function in map(_function, list(vars(base).values())):
            names: dict[str, object] = {} if function is None else function.__globals__
            if names.get("__name__") == "__main__" and names is not vars(sys.modules["__main__"]):
                for name, value in names.copy().items():
                    if _is_of_main(name, value) and _names.has(name):
                        _names.put(name, value)


def explained(task: object, error: BaseException) -> BaseException:
    """`error`, or what to write where a script looks its own names up by their text: only what it names comes along."""
    trace = error.__traceback__ if isinstance(error, (KeyError, AttributeError)) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return error
    code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
    came_by_value = names is not getattr(sys.modules.get(str(names.get("__name__"))), "__dict__", None)
    if not came_by_value or not re.search(
        r"globals\(\)|__main__", linecache.getline(code.co_filename, trace.tb_lineno)
    ):
        return error
    advice = DefinitionError(
        f"{task}: {code.co_name}() looks a name of the script up by its text ({type(error).__name__}: {error}), and in "
        "another process the script has only the names that its tasks write out. Name the classes "
        "({'A': A, 'B': B}[name]), put them into a module, or run with executor='threads'."
    )
    advice.__cause__ = error
    return advice


def _is_of_main(name: str, value: object) -> bool:
    """Whether pickle would look for `value` under this name of `__main__`."""
    kind_fits = isinstance(value, (type, FunctionType, functools.partial))
    return kind_fits and getattr(value, "__module__", None) == "__main__" and getattr(value, "__qualname__", "") == name


def _function(value: object) -> FunctionType | None:
    """The function that was written, under what was put around it."""
    for around in ("__func__", "fget", "func"):
        value = getattr(value, around, None) or value
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None

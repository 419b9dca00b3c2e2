"""What a task may change of modules and libraries, put back in the worker processes that run tasks for another.

There the next task would find it, or not, as it happens to come to one process or another. In the caller's own process
it stays, as with Luigi: a caller that runs a task there may want what it set.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from superluigi import config
from superluigi.execution.process.state_kinds import Kind


@dataclass(frozen=True)
class _Library:
    """What `look` sees, `restore` puts back; `reset` makes all as it is after the import."""

    look: Callable[[Any], object]
    restore: Callable[[Any, Any], object]
    reset: Callable[[Any], object]


@functools.lru_cache(maxsize=1)
def _names_of_options(pandas: Any) -> list[str]:
    def below(node: object, path: str) -> Iterator[str]:
        for name in dir(node):
            value = getattr(node, name)
            yield from below(value, f"{path}{name}.") if type(value) is type(node) else [path + name]

    return list(below(pandas.options, ""))


def _options(pandas: Any) -> dict[str, object]:
    return {name: pandas.get_option(name) for name in _names_of_options(pandas)}


def _set_options(pandas: Any, before: Mapping[str, object]) -> None:
    for name, value in before.items():
        if pandas.get_option(name) != value:
            pandas.set_option(name, value)


def _reset_options(pandas: Any) -> None:
    for name in _names_of_options(pandas):
        with contextlib.suppress(ImportError):  # one that names a library which is not installed is as it was
            pandas.reset_option(f"^{name}$")


def _set_numpy(numpy: Any, before: tuple[dict[str, Any], dict[str, Any]]) -> None:
    errors, printing = before
    numpy.seterr(**errors)
    numpy.set_printoptions(**printing)


#: As numpy is when it has been imported, by its manual.
_NUMPY = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_PRINTING = {"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False, "formatter": None}

_LIBRARIES = {
    "luigi.configuration": _Library(
        lambda _: config.raw_sections(), lambda _, before: config.put_back(before), lambda _: None
    ),
    "pandas": _Library(_options, _set_options, _reset_options),
    "numpy": _Library(
        lambda numpy: (numpy.geterr(), numpy.get_printoptions()),
        _set_numpy,
        lambda numpy: _set_numpy(numpy, (_NUMPY, _PRINTING)),
    ),
}


def _look() -> dict[str, object]:
    with _silently():
        return {name: each.look(sys.modules[name]) for name, each in _LIBRARIES.items() if name in sys.modules}


def _restore(before: Mapping[str, object]) -> None:
    """As before, or as after their import."""
    with _silently():
        for name, each in _LIBRARIES.items():
            if name in before:
                each.restore(sys.modules[name], before[name])
            elif name in sys.modules:
                each.reset(sys.modules[name])


def _put_back_modules(before: Mapping[str, Any]) -> None:
    """What was imported stays; what stands where another module stood, or bars the way to one, does not."""
    modules: dict[str, Any] = sys.modules
    for name in [name for name, module in modules.copy().items() if module is None and name not in before]:
        del modules[name]
    modules.update(before)


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Some options are deprecated, and say so whenever they are looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


KINDS: tuple[Kind[Any], ...] = (
    Kind("modules", sys.modules.copy, _put_back_modules),
    Kind("options of libraries", _look, _restore),
)

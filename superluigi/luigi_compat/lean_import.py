"""In processes of ours Luigi loads two libraries when it uses them, not when it is imported.

It wants `requests` for a central scheduler and `jsonschema` for parameters with a schema; importing the two takes
nearly half of Luigi's own import, which is most of what a worker process or a command needs to start.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LATER = ("jsonschema", "requests")


def install() -> None:
    """Have the next `import luigi` of this process be a lean one; nothing happens where it has been imported."""
    if "luigi" not in sys.modules:
        sys.meta_path.insert(0, _Luigi())


class _Luigi(MetaPathFinder):
    """Finds Luigi, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "luigi":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader = spec.loader if spec is not None else None
        if loader is not None and hasattr(loader, "__dict__"):
            vars(loader)["exec_module"] = _with_stand_ins(loader.exec_module)
        return spec


def _with_stand_ins(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def executed(module: ModuleType) -> None:
        absent = [name for name in LATER if name not in sys.modules and importlib.util.find_spec(name)]
        sys.modules.update({name: _Later(name) for name in absent})
        try:
            execute(module)
        finally:
            for name in absent:
                _withdraw(name)

    return executed


class _Later(ModuleType):
    """What stands for a module until something of it is wanted; others import the module itself."""

    def __getattr__(self, name: str) -> Any:
        _withdraw(self.__name__)
        return getattr(importlib.import_module(self.__name__), name)


def _withdraw(name: str) -> None:
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]

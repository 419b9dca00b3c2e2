"""How Luigi is imported beside Super Luigi: a configuration that it cannot read is told as advice.

In processes of ours it also loads two libraries when it uses them, not when it is imported. It wants `requests` for a
central scheduler and `jsonschema` for parameters with a schema; importing the two takes nearly half of Luigi's own
import, which is most of what a worker process or a command needs to start.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LATER = ("jsonschema", "requests")


def install(*, lean: bool = True) -> None:
    """Have the next `import luigi` of this process be such a one; nothing happens where it has been imported."""
    if "luigi" in sys.modules:
        return
    known = next((finder for finder in sys.meta_path if isinstance(finder, _Luigi)), None)
    if known is None:
        sys.meta_path.insert(0, _Luigi(lean))
    else:
        known.lean |= lean


class _Luigi:
    """Finds Luigi, until it has been imported."""

    def __init__(self, lean: bool) -> None:
        self.lean = lean

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "luigi":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader = spec.loader if spec is not None else None
        if loader is not None and hasattr(loader, "__dict__"):
            vars(loader)["exec_module"] = self._around(loader.exec_module)
        return spec

    def _around(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def executed(module: ModuleType) -> None:
            names = LATER if self.lean else ()
            absent = [name for name in names if name not in sys.modules and importlib.util.find_spec(name)]
            sys.modules.update({name: _Later(name) for name in absent})
            try:
                execute(module)
            except Exception as error:
                from superluigi.luigi_compat import configuration

                told = configuration.told_at_import(error)
                sys.meta_path.insert(0, self)  # for the next try, which begins anew
                for name in [name for name in sys.modules if name.startswith("luigi.")]:
                    del sys.modules[name]
                if told is not None:
                    raise told from error
                raise
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

"""`random` and `numpy` seeded from a task's identity, so that a run can be repeated."""

from __future__ import annotations

import random
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from superluigi import graph

_NUMPY = "numpy.random"


def seed_of(task: object) -> int:
    """A number of 32 bits from the task's identity: the same in every process, for the task's own generators too."""
    return int(identity_of(task)[:8], 16)


def identity_of(task: Any) -> str:
    """32 hex digits: the task's hash, or, for a plain task without records, only its own family and parameters.

    Hashing walks all requirements; Luigi's pipelines may have endless ones ("today needs yesterday", until
    an output exists), and must run as they always did.
    """
    return task.task_hash if task.run_names else graph.digest(task.task_id)[:32]


_guard = threading.Lock()
_attempts: list[SeedGuard] = []


class SeedGuard:
    """Whether an attempt has had the generators of this process for itself so far."""

    def __init__(self) -> None:
        self.so_far = True


class seeded:  # noqa: N801 - used like a function, around every attempt
    """Seed the global generators, also numpy's should it be imported in the block.

    That is not done while another attempt runs in this process: they share the generators, so that neither can be
    repeated (which the object given tells), and seeding would only upset the other one. With `keep`, the generators
    are put back afterwards as they were.
    """

    def __init__(self, seed: int, *, keep: bool) -> None:
        self._seed, self._keep = seed, keep
        self._before: tuple[Any, Any] | None = None
        self._finder: _SeedingFinder | None = None

    def __enter__(self) -> SeedGuard:
        self._me = SeedGuard()
        with _guard:
            _attempts.append(self._me)
            if len(_attempts) > 1:
                for attempt in _attempts:
                    attempt.so_far = False
        try:
            if self._me.so_far:
                self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self._me

    def _begin(self) -> None:
        if self._keep:
            self._before = _states()
        random.seed(self._seed)
        if _NUMPY in sys.modules:
            sys.modules[_NUMPY].seed(self._seed)
        else:
            self._finder = _SeedingFinder(self._seed)
            sys.meta_path.insert(0, self._finder)

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._finder is not None:
                sys.meta_path.remove(self._finder)
        finally:
            if self._before is not None:
                _put_back(self._before)
            with _guard:
                _attempts.remove(self._me)


def _states() -> tuple[object, object]:
    numpy_random: Any = sys.modules.get(_NUMPY)
    return random.getstate(), None if numpy_random is None else numpy_random.get_state()


def _put_back(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    numpy_random: Any = sys.modules.get(_NUMPY)
    if numpy_random is not None and states[1] is not None:
        numpy_random.set_state(states[1])


class _SeedingFinder(MetaPathFinder):
    """Lets others find `numpy.random`, and seeds it once it is loaded."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _NUMPY:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None and spec.loader is not None:
                    spec.loader = _SeedingLoader(spec.loader, self._seed)
                    return spec
        return None


class _SeedingLoader(Loader):
    def __init__(self, loader: Any, seed: int) -> None:
        self._loader = loader
        self._seed = seed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.seed(self._seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

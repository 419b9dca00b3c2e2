"""`random` and `numpy` seeded from a task's identity, so that a run can be repeated."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Iterator
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


@contextlib.contextmanager
def seeded(seed: int, *, keep: bool) -> Iterator[SeedGuard]:
    """Seed the global generators, also numpy's should it be imported in the block.

    That is not done while another attempt runs in this process: they share the generators, so that neither can be
    repeated (which the yielded object tells), and seeding would only upset the other one. With `keep`, the generators
    are put back afterwards as they were.
    """
    me = SeedGuard()
    with _guard:
        _attempts.append(me)
        if len(_attempts) > 1:
            for attempt in _attempts:
                attempt.so_far = False
    try:
        if not me.so_far:
            yield me
            return
        before = _states() if keep else None
        random.seed(seed)
        _seed_numpy(seed)
        try:
            if _NUMPY in sys.modules:
                yield me
            else:
                with _seeded_on_import(seed):
                    yield me
        finally:
            if before is not None:
                _put_back(before)
    finally:
        with _guard:
            _attempts.remove(me)


def _seed_numpy(seed: int) -> None:
    numpy_random: Any = sys.modules.get(_NUMPY)
    if numpy_random is not None:
        numpy_random.seed(seed)


def _states() -> tuple[object, object]:
    numpy_random: Any = sys.modules.get(_NUMPY)
    return random.getstate(), None if numpy_random is None else numpy_random.get_state()


def _put_back(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    numpy_random: Any = sys.modules.get(_NUMPY)
    if numpy_random is not None and states[1] is not None:
        numpy_random.set_state(states[1])


@contextlib.contextmanager
def _seeded_on_import(seed: int) -> Iterator[None]:
    finder = _SeedingFinder(seed)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


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

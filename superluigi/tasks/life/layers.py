"""`os.environ` with a layer per attempt, for tasks that share a process.

The variables of a process are one table; several tasks in threads need several. While an attempt has variables of
its own, `os.environ` shows them to its threads only, and the processes they start get them: `subprocess` (hence
asyncio and shell tasks) and `os.system` are told. What a library reads with C's getenv is the process's: tasks that
need that run in processes of their own (`executor="processes"`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from superluigi.tasks.life import scope as scopes

_Plain: Any = type(os.environ)


def _layer() -> dict[str, str | None] | None:
    scope = scopes.current()
    return scope.variables if scope is not None and scope.layered else None


class Layered(_Plain):  # type: ignore[misc]  # a class of `os` that it does not name
    """`os.environ` as the current attempt sees it; what it changes is its own as well."""

    def __getitem__(self, key: str) -> str:
        layer = _layer()
        if layer is not None and key in layer:
            value = layer[key]
            if value is None:
                raise KeyError(key)
            return value
        found: str = super().__getitem__(key)
        return found

    def __setitem__(self, key: str, value: str) -> None:
        layer = _layer()
        if layer is None:
            super().__setitem__(key, value)
        else:
            self.encodekey(key), self.encodevalue(value)  # refuses what is not text, as always
            layer[key] = value

    def __delitem__(self, key: str) -> None:
        layer = _layer()
        if layer is None:
            super().__delitem__(key)
            return
        self[key]
        layer[key] = None

    def __iter__(self) -> Iterator[str]:
        layer = _layer() or {}
        yield from [key for key in super().__iter__() if key not in layer]
        yield from [key for key, value in list(layer.items()) if value is not None]

    def __len__(self) -> int:
        return sum(1 for _ in self)


_users = 0
_guard = threading.Lock()
_popen = subprocess.Popen.__init__
_system = os.system
_ENV_POSITION = 10  # of subprocess.Popen(args, bufsize, executable, stdin, …, cwd, env)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """While this is open, layers show."""
    global _users
    with _guard:
        _users += 1
        if _users == 1:
            os.environ.__class__ = Layered
            subprocess.Popen.__init__ = _start_with_layer  # type: ignore[method-assign]
            os.system = _system_with_layer  # type: ignore[assignment]
    try:
        with scopes.inherited_by_threads():
            yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                os.environ.__class__ = _Plain
                subprocess.Popen.__init__ = _popen  # type: ignore[method-assign]
                os.system = _system


@functools.wraps(_popen)
def _start_with_layer(self: Any, *args: Any, **kwargs: Any) -> None:
    if _layer() is not None and len(args) <= _ENV_POSITION and kwargs.get("env") is None:
        kwargs["env"] = dict(os.environ)
    _popen(self, *args, **kwargs)


@functools.wraps(_system)
def _system_with_layer(command: str) -> int:
    if _layer() is None:
        return _system(command)
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], dict(os.environ))
    return os.waitpid(pid, 0)[1]


@contextlib.contextmanager
def replaced(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set the variables of this process for the time of the block: for an attempt that has the process for itself."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

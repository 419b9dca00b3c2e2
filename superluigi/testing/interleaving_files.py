"""Actors of `interleaving` as processes that share a folder: each call of the system that others can see is a step.

Calls are heard of by Python's audit events, so nothing needs to be said in the code that is tried out. Locks (flock)
are waited for by the schedule, and a dead actor's are freed as the kernel would. Owner tokens name the actor, and one
that has died or ended counts as gone. What was written and not flushed is lost when `cut_power` is called.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from superluigi.storage import failpoints, owner_token
from superluigi.storage.local import atomic
from superluigi.storage.local.stages import spare_stages, staging
from superluigi.testing import interleaving

#: Calls that others can see, or that see what others do. What changes nothing but times and modes is none.
_SEEN = frozenset(
    ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.listdir",
     "os.scandir")
)  # fmt: skip
#: What lies in a private folder is of no concern to other actors.
_PRIVATE = re.compile(r"/\.superluigi(-|/[^/]+-\d+-1-)[^/]*/")
_WORLD = f"{'0' * 11}1.7"


class _Heard:
    """Where calls are steps now: the hook cannot be taken away again."""

    root = ""
    is_installed = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _Heard.root or event not in _SEEN or interleaving.current() is None:
        return
    path = arguments[0]
    if isinstance(path, int) or path is None:
        return
    text = os.fspath(path)
    text = os.fsdecode(text) if isinstance(text, bytes) else str(text)
    if text.startswith(_Heard.root):
        if event != "os.rename" and _PRIVATE.search(text):
            return
        interleaving.step(f"{event.removeprefix('os.')} {shown(text)}")


def shown(path: str) -> str:
    """A path without what differs from order to order."""
    return re.sub(r"h-\w+\.\d+-(\d+)-1-\w+", r"<\1>", path.removeprefix(_Heard.root).lstrip("/")) or "the folder"


class SharedFolder:
    """The folder that the actors of one scene share, its locks, and what of it has reached the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks: dict[int, str | None] = {}  # descriptor -> the actor that locked it last
        self._flushed: set[int] = set()

    def died(self, name: str) -> None:
        """Free the locks of an actor that died."""
        for descriptor in [number for number, holder in self._locks.items() if holder == name]:
            with contextlib.suppress(OSError):
                _flock(descriptor, fcntl.LOCK_UN)
            del self._locks[descriptor]

    def cut_power(self) -> None:
        """Whatever was written and not flushed is empty."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if os.lstat(path).st_ino not in self._flushed and not os.path.islink(path):
                    os.truncate(path, 0)

    def flock(self, descriptor: Any, operation: int) -> None:
        """flock(2) of an actor: who must wait waits for the schedule."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        actor = interleaving.current()
        if actor is None or operation & fcntl.LOCK_UN:
            _flock(number, operation)
            if operation & fcntl.LOCK_UN:
                self._locks.pop(number, None)
            return
        label = f"lock {shown(os.readlink(f'/proc/self/fd/{number}'))}" if _Heard.root else "lock"
        if operation & fcntl.LOCK_NB:
            interleaving.step(label)
            _flock(number, operation)
        else:
            interleaving.wait_for(label, lambda: _is_free(number, operation))
            _flock(number, operation | fcntl.LOCK_NB)
        self._locks[number] = actor

    def fsync(self, descriptor: int) -> None:
        """fsync(2), for `cut_power`."""
        interleaving.step("flush")
        self._flushed.add(os.fstat(descriptor).st_ino)

    def syncfs(self, path: Path) -> bool:
        """The same of all that is below `path`."""
        interleaving.step("flush")
        for folder, _, names in os.walk(path):
            self._flushed |= {os.lstat(os.path.join(folder, name)).st_ino for name in names}
        return True


_flock = fcntl.flock


def _is_free(descriptor: int, operation: int) -> bool:
    try:
        _flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    _flock(descriptor, fcntl.LOCK_UN)
    return True


@contextlib.contextmanager
def as_processes(
    folder: SharedFolder, world: Callable[[str], str] = lambda _: _WORLD, *, calls_are_steps: bool = True
) -> Iterator[None]:
    """Let actors look like processes of one host while the block lasts (or of several: `world` of an actor)."""
    numbers = itertools.count(1)
    known: dict[str, str] = {}  # token -> actor
    pids: dict[str, int] = {}

    real_token, own = owner_token.token, threading.get_ident()

    def token() -> str:
        actor = interleaving.current()
        if actor is None and threading.get_ident() != own:
            return real_token()  # a thread that knows of no block: what it names outlives this one (an inbox, say)
        actor = actor or "nobody"
        made = f"h-{world(actor)}-{pids.setdefault(actor, 100 + len(actor) * 50 + sum(map(ord, actor)) % 50)}-1-"
        made += f"{next(numbers):012x}"
        known[made] = actor
        return made

    def is_of_this_world(name: str) -> bool:
        actor = interleaving.current() or "nobody"
        return name in known and world(known[name]) == world(actor)

    def is_own(name: str) -> bool:
        return known.get(name) == (interleaving.current() or "nobody")

    def owner_is_gone(name: str) -> bool:
        return is_of_this_world(name) and not is_own(name) and interleaving.is_over(known[name])

    def sweep(parent: Any, *, always: bool = False, anyone: bool = False) -> list[Path]:
        del always
        return whole_sweep(parent, always=True, anyone=anyone)

    whole_sweep = staging.sweep
    if not _Heard.is_installed:
        sys.addaudithook(_hear)
        _Heard.is_installed = True

    def hook(name: str) -> None:
        if calls_are_steps and name == "exchange":  # by ctypes: no audit event tells of it
            interleaving.step(name)

    with contextlib.ExitStack() as stack:
        for owner, name, instead in (
            (owner_token, "token", token), (owner_token, "is_of_this_world", is_of_this_world),
            (owner_token, "is_own", is_own), (owner_token, "owner_is_gone", owner_is_gone),
            (fcntl, "flock", folder.flock), (os, "fsync", folder.fsync), (atomic, "_syncfs", folder.syncfs),
            (staging, "sweep", sweep), (staging, "_abandoned", {}), (staging, "_sweeps", {}),
            (spare_stages, "take", lambda *_: False), (spare_stages, "put_away", lambda *_: False),
            (failpoints, "hook", hook),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(owner, name, instead))
        stack.callback(setattr, _Heard, "root", "")
        if calls_are_steps:
            _Heard.root = str(folder.root)
        yield

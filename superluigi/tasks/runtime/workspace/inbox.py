"""Requests to the attempts of other processes: `<workspace>/running/<token>/`, a folder for each process.

A request is addressed to a process that lives, never to a task: nothing waits for an attempt that begins later, and
what is made, moved or pruned around an attempt cannot take it away. A process has its folder before its first attempt
begins, so that one which has none runs nothing.

    lock            held (fcntl) while the process lives; the kernel frees it
    <token>.asked   a request; renamed to `.taken` by the one that answers, then to `.yes` or `.no`

Who asked takes a request back by removing it while it is called `.asked`: it has then certainly not been heard.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from superluigi.execution.process.parent import parent
from superluigi.execution.process.termination import is_of_a_pool
from superluigi.storage import owner_token

RUNNING = "running"
_LOCK = "lock"
_ASKED, _TAKEN, _YES, _NO = ".asked", ".taken", ".yes", ".no"
_POLL_SECONDS = 0.02
#: What a dead process has answered last may still be read.
_UNREAD_SECONDS = 60.0

#: Whether an attempt at this task id runs here and will stop for this reason.
Handler = Callable[[str, str], bool]


class Inbox:
    """Where this process hears requests of others that use the same workspace."""

    def __init__(self, root: Path) -> None:
        self.pid = os.getpid()
        _sweep(root)
        self._folder = root / RUNNING / owner_token.token()
        self._folder.mkdir(parents=True)
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # not flock: processes that tasks fork would hold it on
        fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def name(self) -> str:
        """The token of this process."""
        return self._folder.name

    @property
    def is_gone(self) -> bool:
        """Whether the folder has been removed, perhaps with the whole workspace."""
        return os.fstat(self._lock).st_nlink == 0

    def answer(self, handler: Handler) -> None:
        """Answer what has been asked since the last time."""
        for name in os.listdir(self._folder):
            if name.endswith(_ASKED):
                with contextlib.suppress(FileNotFoundError):  # taken back
                    self._answer(name[: -len(_ASKED)], handler)

    def _answer(self, number: str, handler: Handler) -> None:
        taken = self._folder / f"{number}{_TAKEN}"
        os.rename(self._folder / f"{number}{_ASKED}", taken)
        heard = False
        try:
            request = json.loads(taken.read_text())
            heard = handler(request["task_id"], request["reason"])
        finally:
            os.rename(taken, self._folder / f"{number}{_YES if heard else _NO}")

    def remove(self) -> None:
        """This process ends: it hears nothing any more. Answers stay until they are read."""
        with contextlib.suppress(OSError):
            os.close(self._lock)
            for name in os.listdir(self._folder):
                if not name.endswith((_YES, _NO)):
                    os.unlink(self._folder / name)
        _drop(self._folder)


_mine: dict[Path, Inbox] = {}


def ready(root: Path) -> None:
    """Have an inbox in the workspace `root`; without one (a full disk) the attempts here only hear this process."""
    known = _mine.get(root)
    if known is None or known.pid != os.getpid() or known.is_gone:
        with contextlib.suppress(OSError):
            _mine[root] = Inbox(root)
        parent.at_exit(_tidy)
        atexit.unregister(_tidy)
        atexit.register(_tidy)
        if is_of_a_pool():
            import_module("multiprocessing.util").Finalize(None, _tidy, exitpriority=0)


def answer(handler: Handler) -> None:
    """Answer what others have asked this process."""
    for root, inbox in _mine.copy().items():
        with contextlib.suppress(OSError):  # a disk that hiccups: next time
            if inbox.is_gone:
                ready(root)
            elif inbox.pid == os.getpid():
                inbox.answer(handler)


def _tidy() -> None:
    for root, inbox in _mine.copy().items():
        if inbox.pid == os.getpid():
            inbox.remove()
            del _mine[root]


def ask(root: Path, task_id: str, reason: str, patience: float) -> tuple[bool, list[str]]:
    """Ask every other process of the workspace `root` to stop its attempt at `task_id`.

    Returns whether one does, and the tokens of those that live but did not answer within `patience` seconds; these
    will not hear of it later either.
    """
    _sweep(root)
    refused: list[str] = []
    waiting = dict(_sent(root / RUNNING, json.dumps({"task_id": task_id, "reason": reason}), refused))
    deadline = time.monotonic() + patience
    answers: list[bool] = []
    try:
        while waiting and time.monotonic() < deadline:
            _listen(waiting, answers)
    finally:
        silent = [folder for folder, number in waiting.items() if _taken_back(folder, number)]
    for folder in silent:
        del waiting[folder]
    while waiting:  # taken at the very end: they are about to answer
        _listen(waiting, answers)
    return any(answers), [*(folder.name for folder in silent), *refused]


def _listen(waiting: dict[Path, str], answers: list[bool]) -> None:
    """Take those out of `waiting` that have answered, or have ended."""
    for folder, number in list(waiting.items()):
        alive = _is_alive(folder)  # before the look: what ends in between has answered by then
        found = _answer_in(folder, number)
        if found is not None or not alive:
            answers.append(bool(found))
            del waiting[folder]
    if waiting:
        time.sleep(_POLL_SECONDS)


def _sent(where: Path, request: str, refused: list[str]) -> Iterator[tuple[Path, str]]:
    if not os.path.isdir(where):
        return
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        return
    mine = {inbox.name for inbox in list(_mine.values()) if inbox.pid == os.getpid()}
    for name in names:
        folder = where / name
        if owner_token.is_token(name) and name not in mine and _is_alive(folder):
            number = owner_token.token()
            staged = folder / number
            try:
                staged.write_text(request)
                os.rename(staged, folder / f"{number}{_ASKED}")
            except FileNotFoundError:  # it has just ended
                continue
            except PermissionError:  # another user's
                refused.append(name)
                continue
            yield folder, number


def _answer_in(folder: Path, number: str) -> bool | None:
    for ending, said in ((_YES, True), (_NO, False)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / f"{number}{ending}")
            if not (folder / _LOCK).exists():
                _drop(folder)
            return said
    return None


def _drop(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def _taken_back(folder: Path, number: str) -> bool:
    try:
        os.unlink(folder / f"{number}{_ASKED}")
    except FileNotFoundError:
        return False
    return True


def _is_alive(folder: Path) -> bool:
    """Whether the process of an inbox lives, as far as the kernel or the file server knows."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return not owner_token.owner_is_gone(folder.name)
    finally:
        os.close(descriptor)
    return False


def _sweep(root: Path) -> None:
    """Remove what dead processes of this host have left."""
    with contextlib.suppress(OSError):
        for name in os.listdir(root / RUNNING):
            folder = root / RUNNING / name
            dead = owner_token.is_token(name) and owner_token.owner_is_gone(name)
            if dead and time.time() - folder.stat().st_mtime > _UNREAD_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

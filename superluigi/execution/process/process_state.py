"""Puts back, when an attempt ends, what its task has changed of the process around it.

`state_kinds` names each thing: how to look at it, and how to put it back where it differs. Attempts that share a
process, in threads, share these things, too: they are put back when none of them runs any more.

Not put back, since a process cannot: what libraries keep to themselves (modules that are imported, the class of
loggers, patches; for some options see `library_state`), a limit or priority that only root may raise again (a worker
process is replaced then), threads that go on.
"""

from __future__ import annotations

import decimal
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, TypeVar

from superluigi.execution.process import descriptors, library_state
from superluigi.execution.process.descriptors import DUPLICATES
from superluigi.execution.process.state_kinds import KINDS, Kind, current_folder, go_to

Value = TypeVar("Value")


class CannotRestoreWarning(RuntimeWarning):
    """A task has changed something of this process that cannot be put back."""


#: Set where tasks run for another process, which has use for nothing that they leave behind.
IN_A_WORKER = threading.Event()
_WHILE_OTHERS_RUN = tuple(kind for kind in KINDS if kind.per_thread)
_DESCRIPTORS = next(index for index, kind in enumerate(KINDS) if kind.look is descriptors.look)


class _Company:
    """Attempts that run in this process at the same time, and what stood when the first of them began."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        #: Thread of each attempt that runs, the earliest first.
        self.threads: list[int] = []
        self.before: list[object] = []
        self.kinds: tuple[Kind[Any], ...] = ()
        #: Threads whose attempts are not waited for any more.
        self.given_up: set[int] = set()


_company = _Company()


def _alone_again() -> None:
    """In a forked child, where other threads are not, and may have held the lock."""
    _company.guard = threading.Lock()
    _company.threads.clear()
    _company.given_up.clear()
    DUPLICATES.drop()


os.register_at_fork(after_in_child=_alone_again)


def isolated(function: Callable[..., Value], *args: object) -> Value:
    """`function(*args)`; what it changes of the process is as before when it has ended.

    Nested calls in one thread put back each their own. What cannot be put back is warned of, and a worker process in
    which that happened is not used again.
    """
    here = threading.get_ident()
    with _company.guard:
        others = any(thread != here for thread in _company.threads)
        if not _company.threads:
            _company.kinds = (*KINDS, *library_state.KINDS) if IN_A_WORKER.is_set() else KINDS
        kinds = _WHILE_OTHERS_RUN if others else _company.kinds
        before = [kind.look() for kind in kinds]
        if not _company.threads:
            _company.before = before
            DUPLICATES.keep(before[_DESCRIPTORS])
        nested = here in _company.threads
        _company.threads.append(here)
    try:
        return copy_context().run(_with_own_decimals, function, *args)
    finally:
        with _company.guard:
            given_up = here in _company.given_up
            if given_up and not nested:
                _company.given_up.discard(here)
            elif not given_up:
                _company.threads.remove(here)
            if given_up or any(thread != here for thread in _company.threads):  # theirs as much as ours
                kinds, before = _WHILE_OTHERS_RUN, before if others else _those_of_threads(kinds, before)
            elif others:  # the last of several
                _restore(_WHILE_OTHERS_RUN, before)
                if not _company.threads:
                    kinds, before = _company.kinds, _company.before
            _restore(kinds, before)
            if not _company.threads:
                DUPLICATES.drop()


def let_go(thread: int) -> None:
    """Wait no longer for the attempts in `thread`: what is around the process when they end is not theirs to put back.

    What they have changed until now is put back here, unless others still run.
    """
    with _company.guard:
        if thread not in _company.threads:
            return
        _company.threads = [one for one in _company.threads if one != thread]
        _company.given_up.add(thread)
        if not _company.threads:
            pairs = zip(_company.kinds, _company.before, strict=True)
            shared = [(kind, value) for kind, value in pairs if not kind.per_thread]
            _restore(tuple(kind for kind, _ in shared), [value for _, value in shared])
            DUPLICATES.drop()


def _with_own_decimals(function: Callable[..., Value], *args: object) -> Value:
    decimal.setcontext(decimal.getcontext().copy())  # a context variable whose value can be changed
    return function(*args)


def _those_of_threads(kinds: Sequence[Kind[Any]], before: Sequence[object]) -> list[object]:
    return [value for kind, value in zip(kinds, before, strict=True) if kind.per_thread]


def _restore(kinds: tuple[Kind[Any], ...], before: Sequence[object]) -> None:
    now = [kind.look() for kind in kinds]
    if now == before:  # as nearly always
        return
    for kind, value in zip(kinds, before, strict=True):
        if kind.look() == value or (kind.main_only and threading.current_thread() is not threading.main_thread()):
            continue
        try:
            kind.restore(value)
        except Exception as error:  # noqa: BLE001 - whatever a system refuses; the other things go back all the same
            lasting.append(kind.name)
            warnings.warn(
                f"A task has changed {kind.name} of process {os.getpid()}, which cannot be put back: {error}",
                CannotRestoreWarning,
                stacklevel=2,
            )


#: What tasks have changed here for good.
lasting: list[str] = []


class at:  # noqa: N801 - used like a function, around every commit
    """Work in `folder`, where a task may have gone elsewhere, and go back there."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._there: str | None = None

    def __enter__(self) -> None:
        there = current_folder()
        if self._folder is not None and there != self._folder:
            os.chdir(self._folder)
            self._there = there

    def __exit__(self, *exc_info: object) -> None:
        go_to(self._there)

"""Signal handlers of ours, which forked children do not inherit.

What a task forks (`multiprocessing`, `os.fork`) is not ours to interrupt: a pool sends SIGTERM to end its processes
and waits for that. So a forked child finds the handlers that stood there before ours. Programs that a task starts
never have them (execve(2) resets handlers); therefore a signal that shall do nothing gets `nothing`, not SIG_IGN, which
they would inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

try:  # the same without enums, at a tenth of the cost: around every attempt
    handler_of: Callable[[int], object] = import_module("_signal").getsignal
    _set_plain: Callable[[int, Any], object] = import_module("_signal").signal
except (ImportError, AttributeError):
    handler_of, _set_plain = signal.getsignal, signal.signal

#: Signal → what we have set and what stood there, the earliest first.
_taken: dict[int, list[tuple[Handler, Handler]]] = {}
_forking = threading.local()
#: A fork waits until what is handled and what is noted agree: else a child of another thread has a handler of ours
#: that it knows nothing of, and a signal that is lost in it.
_agreeing = threading.RLock()
#: Whether signals end this process by `end_by`, and whether one has.
_ends, _ended = threading.Event(), threading.Event()


def end_by(*signums: int) -> None:
    """End this process by these as Ctrl-C ends a program: clean-up in its tasks runs, and no second one disturbs it."""

    def end(signum: int, frame: FrameType | None) -> None:
        for each in signums:
            take(each, nothing)
        _ended.set()
        raise KeyboardInterrupt

    for each in signums:
        take(each, end)
    _ends.set()


def only_runs_tasks() -> bool:
    """Whether this process was started by us, to run tasks and nothing else."""
    return _ends.is_set()


def leave_if_ended(error: BaseException) -> None:
    """Raise `error` once more if it is how a signal, Ctrl-C say, ends this process.

    In the processes that we start, a KeyboardInterrupt that no signal asked for was raised by the task, which has
    failed like any other. Elsewhere the two cannot be told apart.
    """
    if isinstance(error, KeyboardInterrupt) and (_ended.is_set() or not _ends.is_set()):
        raise error


def take(signum: int, handler: Handler) -> None:
    """Handle `signum` by `handler` in this process, but not in what it forks; only in the main thread."""
    with _agreeing:
        before = _set(signum, handler)
        _taken.setdefault(signum, []).append((handler, before))


def give_back(signum: int, handler: Handler) -> None:
    """Put back what stood there before `take`, unless another handler has been set since."""
    with _agreeing:
        known = _taken.get(signum, [])
        places = [place for place, (ours, _) in enumerate(known) if ours == handler]
        if not places:
            return
        _, before = known.pop(places[-1])
        if places[-1] == len(known) and handler_of(signum) == handler:
            _set(signum, signal.SIG_DFL if before is None else before)


def _set(signum: int, handler: Handler) -> Any:
    return _set_plain(signum, int(handler) if isinstance(handler, int) else handler)


@contextlib.contextmanager
def set_by_others(signum: int, before: Handler) -> Iterator[None]:
    """Treat a handler that others have just set for us, over `before`, as one of ours; given back at the end."""
    handler = signal.getsignal(signum)
    if handler is before or threading.current_thread() is not threading.main_thread():
        yield
        return
    _taken.setdefault(signum, []).append((handler, before))
    try:
        yield
    finally:
        give_back(signum, handler)


@contextlib.contextmanager
def calling(function: Callable[[], object], *signums: int) -> Iterator[None]:
    """Have these call `function` while this is open; in threads, which no signal reaches, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, lambda *_: function()) for signum in signums}
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None:  # else it was set by a library in C
                signal.signal(signum, handler)


def no_second_interrupt() -> contextlib.AbstractContextManager[None]:
    """Ctrl-C again while everything is being ended would leave half of it behind; it takes seconds at most."""
    return calling(bool, signal.SIGINT)


def nothing(signum: int, frame: FrameType | None) -> None:
    """Handler of a signal that shall do nothing."""


def _before_fork() -> None:
    _agreeing.acquire()
    # A signal that came to the child before its handlers are right would be lost, or run ours there.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, tuple(_taken)) if _taken else None


def _after_fork_in_parent() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)
    _agreeing.release()


def _after_fork_in_child() -> None:
    for signum, known in _taken.items():
        while known and signal.getsignal(signum) == known[-1][0]:
            before = known.pop()[1]
            signal.signal(signum, signal.SIG_DFL if before is None else before)
    _taken.clear()
    _after_fork_in_parent()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

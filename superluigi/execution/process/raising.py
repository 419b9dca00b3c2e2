"""Exceptions raised in other threads, and taken back, such that the interpreter is left as it was.

Before Python 3.13 one flag of the interpreter says that an exception is on its way to some thread, and nothing clears
it but an exception that arrives. While it is set, Python 3.11 calls no function in any thread that is traced or
profiled (coverage, a debugger): such a thread hangs until the exception arrives, which may be never where it was taken
back or its thread has ended. So each flag is cleared at once, by an exception that a thread of ours raises in itself.
The thread that is meant finds its own all the same: it looks for one whenever it takes the interpreter's lock, as it
must before its next line, since the lock is ours while the exception is set.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import sys
import threading
from types import TracebackType

from superluigi.execution.process import process_tree


class _Swallowed(BaseException):
    """Raised here to be caught here."""


def raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raise `kind` in a thread, as soon as it runs Python code again; nothing happens where it has ended."""
    with contextlib.suppress(RuntimeError):  # no more threads can be started
        _set(thread, kind)
        # No function of Python may be called between these two. Not in this thread: something may be on its way to it
        # as well. And by this module: what `threading` starts is traced, too.
        if sys.version_info < (3, 13) and thread != _thread.get_ident():
            _thread.start_new_thread(take_back, ())


def take_back() -> None:
    """Whatever is on its way to this thread does not arrive."""
    with contextlib.suppress(_Swallowed):
        _set(_thread.get_ident(), _Swallowed)  # in its place
        for _ in range(1000):  # it arrives at the next jump at the latest
            pass


class Interruptible:
    """What one thread does while this is open: others may interrupt it, and nothing of that arrives afterwards."""

    def __init__(self) -> None:
        self.thread, self.native_thread = threading.get_ident(), threading.get_native_id()
        self.began = process_tree.ticks()
        self._guard = threading.Lock()
        self._told = self._over = False

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in it, unless it is over."""
        with self._guard:
            if not self._over:
                self._told = True
                raise_in(self.thread, KeyboardInterrupt)

    def __enter__(self) -> Interruptible:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._guard:
            self._over = True
        if self._told:
            take_back()


def _set(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))

"""SIGTERM and SIGHUP end what runs as Ctrl-C does, and this process then dies of the signal, as its parent expects.

By itself Python dies of them on the spot: stages, locks and programs that tasks have started would stay. While one
interruption does its work a second one, of whatever kind, does not disturb it: half of it would be left behind.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any

from superluigi.errors import lifetime_of
from superluigi.execution.process import signals
from superluigi.execution.process.streams import c_library, flush

#: How long a program that was told to end may clean up before it dies of the signal all the same.
END_SECONDS = 30.0
#: So long an interruption is at work before the next one counts.
AT_WORK_SECONDS = 10.0
#: Where nothing else is said, Python does this.
_DEFAULTS = (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
)


class _Ending:
    """What this process was told."""

    def __init__(self) -> None:
        #: The signal that the process `pid` is to die of.
        self.signum = self.pid = 0
        self.handler = self._on_signal  # one object, to be found again
        self._since = 0.0
        #: Refers to something until the interruption has been handled.
        self._at_work: weakref.ref[object] | None = None

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if signum != signal.SIGINT and not self.signum:
            self.signum, self.pid = signum, os.getpid()
            timer = threading.Timer(END_SECONDS, self.die)  # of what goes on all the same
            timer.daemon = True
            timer.start()
        now = time.monotonic()
        if self._at_work is not None and self._at_work() is not None and now - self._since < AT_WORK_SECONDS:
            return
        self._since = now
        raise self._interruption(signum)  # in no variable of this frame: it would keep itself alive

    def _interruption(self, signum: int) -> KeyboardInterrupt:
        error = KeyboardInterrupt() if signum == signal.SIGINT else KeyboardInterrupt(signal.Signals(signum).name)
        self._at_work = lifetime_of(error)
        return error

    def is_over(self) -> None:
        """What was interrupted has ended: the next interruption is meant for what begins now."""
        self._at_work = None

    def die(self) -> None:
        """Die of the signal that came, if one did; from any thread."""
        if not self.signum or self.pid != os.getpid():
            return
        flush()
        library = c_library()
        if library is not None:
            library.signal(self.signum, None)  # `signal.signal` is for the main thread only
        os.kill(os.getpid(), self.signum)
        os._exit(128 + self.signum)  # the first process of a container, which no signal kills


_ending = _Ending()
atexit.register(_ending.die)  # early, and so after what others have registered since: that is clean-up, too


class ends_cleanly:  # noqa: N801 - used like a function, around runs and attempts
    """Let signals that end this process raise KeyboardInterrupt here, unless the program handles them itself.

    Only in the main thread, where signals arrive, and not in processes that others have started to run tasks: their
    pools send SIGTERM and wait.
    """

    def __init__(self) -> None:
        self._taken: list[int] = []

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread() or is_of_a_pool() or signals.only_runs_tasks():
            return
        try:
            for signum, default in _DEFAULTS:
                if signals.handler_of(signum) == default:
                    signals.take(signum, _ending.handler)
                    self._taken.append(signum)
        except BaseException:  # Ctrl-C, say: nothing is entered, so nothing will be left
            self.__exit__()
            raise

    def __exit__(self, *exc_info: object) -> None:
        for signum in self._taken:
            signals.give_back(signum, _ending.handler)
        if self._taken:
            _ending.is_over()


def is_of_a_pool() -> bool:
    """Whether `multiprocessing` has started this process: it ends without what `atexit` knows."""
    module: Any = sys.modules.get("multiprocessing.process")
    return module is not None and module.parent_process() is not None

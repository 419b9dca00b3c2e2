"""Threads of this process as an executor whose calls can be interrupted and never hold up the exit."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import Any

from superluigi.execution.process.raising import raise_in


class ThreadExecutor(Executor):
    """At most `max_workers` daemon threads, each call with a copy of the submitter's context.

    The standard library joins its threads at exit, so that one sleeping task would keep Ctrl-C
    waiting; these are daemons, and `abort` raises KeyboardInterrupt in them.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._lock = threading.Lock()
        self._closing = False

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[object] = Future()
        context = copy_context()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(context.run(fn, *args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - the future carries it
                    future.set_exception(error)
            with self._lock:
                self._unfinished -= 1

        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._unfinished += 1
            if self._unfinished > len(self._threads) < self._max_workers:
                self._threads.append(
                    threading.Thread(target=self._work, name=f"superluigi-{len(self._threads)}", daemon=True)
                )
                self._threads[-1].start()
        self._calls.put(call)
        return future

    def resize(self, max_workers: int) -> None:
        """Use up to `max_workers` threads for calls that come from now on; threads that live stay."""
        with self._lock:
            self._max_workers = max_workers

    def _work(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # one that was meant for a call which has just ended
            while (call := self._calls.get()) is not None:
                call()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closing = True
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def abort(self, seconds: float = 3.0) -> None:
        """Raise KeyboardInterrupt in every thread and wait at most `seconds` for them to end.

        A thread inside one long C call notices only when the call returns; it is left behind as a daemon.
        """
        self.shutdown(wait=False)
        for thread in self._threads:
            if thread.is_alive() and thread.ident is not None:
                raise_in(thread.ident, KeyboardInterrupt)
        for thread in self._threads:
            thread.join(seconds / max(1, len(self._threads)))


def named(name: str, max_workers: int) -> ThreadExecutor:
    """`executor="threads"`."""
    return ThreadExecutor(max_workers)

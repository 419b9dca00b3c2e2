"""What a worker process has of the one that started it; in any other process nothing is heard, and nothing told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

#: What it is given is for both ends to agree on.
Listener = Callable[[Any], None]


class Parent:
    """The process that has started this one, as tasks and what surrounds them know it."""

    def __init__(self) -> None:
        #: Whether this process makes one attempt at a time and nothing else: its descriptors and environment are
        #: the task's.
        self.gives_all = False
        #: What this process ends with when nothing goes wrong; each call begins with 0.
        self.exit_code = 0
        #: Takes what `send` is given while a call runs.
        self.ear: Listener | None = None
        self._listeners: dict[str, Listener] = {}
        #: What it said since the last call came in and nothing listened to yet: a call takes a while to begin.
        self._unheard: list[tuple[str, object]] = []
        self._lock = threading.Lock()
        self._tidying: list[Callable[[], None]] = []

    def send(self, value: object) -> None:
        """Tell the parent something while a call runs; lost silently outside a worker process."""
        if self.ear is not None:
            self.ear(value)

    def listen(self, key: str, receiver: Listener | None) -> None:
        """Have what the parent says for `key` given to `receiver` (from another thread); None ends it."""
        with self._lock:
            if receiver is None:
                self._listeners.pop(key, None)
                return
            self._listeners[key] = receiver
            early = [value for said, value in self._unheard if said == key]
            self._unheard = [(said, value) for said, value in self._unheard if said != key]
        for value in early:
            receiver(value)

    def said(self, key: str, value: object) -> None:
        """The parent has said `value` for `key`."""
        with self._lock:
            receiver = self._listeners.get(key)
            if receiver is None:
                self._unheard.append((key, value))
        if receiver is not None:
            receiver(value)

    def forget(self) -> None:
        """Another call comes in: what nothing has listened to was for calls that have ended."""
        with self._lock:
            self._unheard = []

    def at_exit(self, tidy: Callable[[], None]) -> None:
        """Have `tidy` called when this process ends in good order; `os._exit` skips what `atexit` knows."""
        if tidy not in self._tidying:
            self._tidying.append(tidy)

    def tidy(self) -> None:
        """Do what was asked for by `at_exit`."""
        for tidy in self._tidying:
            with contextlib.suppress(Exception):
                tidy()


#: Every process has one at most.
parent = Parent()

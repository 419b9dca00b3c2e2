"""What a worker process and the process that started it say to each other, and the ways that it travels.

=================  =========================  =============================  ==============================
asked by           the processes executor     a worker of a queue            a task with a command prefix
what starts        this Python                this Python behind a prefix    any Python behind a prefix
way                one inherited socket       stdin and what was stdout      two files in the task's folder
parent is gone     the socket ends            stdin ends                     stdin ends
calls              many                       many                           one
=================  =========================  =============================  ==============================

Parent → worker: `Call`, `Told`, `Stop`. Worker → parent: any number of `Message`s and one `Result` for each call. Each
is one frame of `multiprocessing.connection`, which works over any descriptor. What a call and its result hold is
pickled by itself: only that call fails when something in it cannot be unpickled.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import pkgutil
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

#: Files of a task's folder while a worker process works there.
REQUESTS, REPLIES = ".requests", ".replies"
#: First line on the stdin of a process that works in a folder: from then on its end means that the parent is gone.
HELLO = b"superluigi\n"
#: What a process behind a prefix says first: the prefix may have printed something before.
GREETING = b"\0superluigi\0"
#: What a worker process ends with that has been interrupted.
INTERRUPTED = 128 + signal.SIGTERM


class Call(NamedTuple):
    """Make a call: `payload` is a pickled `(function, args, kwargs)`. Number 0 prepares the process for others."""

    number: int
    payload: bytes


class Told(NamedTuple):
    """Something for the listener `key` of the call that is made now."""

    key: str
    value: object


class Stop(NamedTuple):
    """No more calls come: end."""


class Message(NamedTuple):
    """What call `number` tells while it is made."""

    number: int
    value: Any


class Result(NamedTuple):
    """What came of call `number`: its value pickled; or the pair of its error, pickled or None, and that one's text."""

    number: int
    ok: bool
    payload: bytes
    #: The call has changed something of the process that cannot be put back: it should get no other one.
    spoilt: bool


Request = Call | Told | Stop
Reply = Message | Result


def by_name(dotted: str, *args: object) -> bytes:
    """The payload of a call of the function `dotted` (`module:name`), which need not be imported here."""
    return pickle.dumps((_called, (dotted, *args), {}))


def _called(dotted: str, *args: object) -> object:
    return pkgutil.resolve_name(dotted)(*args)


class Channel:
    """Two descriptors, or one socket for both ways."""

    def __init__(self, read: int, write: int | None = None, *, greeted: bool = True) -> None:
        self._in: Connection[Any, Any] = Connection(read)
        self._out: Connection[Any, Any] = self._in if write is None else Connection(write)
        self._sending = threading.Lock()
        self._before: bytes | None = None if greeted else b""

    def send(self, said: Request | Reply) -> None:
        """Say something; from any thread.

        Raises:
            OSError: the other side is gone.
        """
        with self._sending:
            self._out.send(said)

    def receive(self) -> Any:
        """What the other side says next.

        Raises:
            EOFError, OSError: it is gone.
        """
        return self._in.recv()

    def receive_within(self, seconds: float) -> Any | None:
        """The same; None when nothing comes in this time.

        Raises:
            EOFError, OSError: it is gone.
        """
        while self._before is not None and self._in.poll(seconds):
            byte = os.read(self._in.fileno(), 1)
            if not byte:
                raise EOFError
            self._before = (self._before + byte)[-len(GREETING) :]
            if self._before == GREETING:
                self._before = None
        return self._in.recv() if self._before is None and self._in.poll(seconds) else None

    def fileno(self) -> int:
        return self._in.fileno()

    def say_no_more(self) -> None:
        """Let the other side see the end of what we say, where it has an end of its own."""
        if self._out is not self._in:
            self._out.close()

    def close(self) -> None:
        self._out.close()
        self._in.close()


class FileChannel:
    """The parent's end where both sides share nothing but the folder: what stands between may print and read."""

    def __init__(self, folder: Path) -> None:
        self._requests, self._replies = folder / REQUESTS, folder / REPLIES
        self._read = 0
        for path in (self._requests, self._replies):  # they hold all parameters, private ones too
            path.unlink(missing_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def send(self, said: Request) -> None:
        """Say something."""
        with Connection(os.open(self._requests, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)) as out:
            out.send(said)

    def receive(self) -> Any | None:
        """What the worker has said next, None when there is nothing whole; opened anew, as NFS wants it."""
        with contextlib.suppress(EOFError, OSError):
            if self._replies.stat().st_size == self._read:
                return None
            with Connection(os.open(self._replies, os.O_RDONLY | os.O_CLOEXEC)) as replies:
                os.lseek(replies.fileno(), self._read, os.SEEK_SET)
                said = replies.recv()
                self._read = os.lseek(replies.fileno(), 0, os.SEEK_CUR)
            return said
        return None

    def close(self) -> None:
        """Remove the files."""
        for path in (self._requests, self._replies):
            path.unlink(missing_ok=True)

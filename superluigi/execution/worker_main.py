"""The program of one worker process: take a call, make it, send back what came of it.

Protocol, over one socket inherited from the parent (`multiprocessing.connection` framing):
parent → child: pickled `("call", number, payload)`, `("tell", key, value)`, `("stop",)`;
child → parent: pickled `("result", number, ok, bytes, spoilt)`, `("message", number, value)`; `spoilt` says that the
call has changed something of the process that cannot be put back, so that it should get no other call.
Payloads are cloudpickle bytes of `(function, args, kwargs)`, so that only the call, never this loop,
fails when something cannot be unpickled.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from superluigi.execution import process_state, signals
from superluigi.execution.importing import only_importing
from superluigi.execution.pickling import dumps
from superluigi.execution.process_tree import kill_tree
from superluigi.storage.local import spare_stages

PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: How long a call may clean up once the parent is gone.
GRACE_SECONDS = 10.0

#: Whether this process makes one attempt at a time and nothing else: its descriptors and environment are the task's.
alone = False

_send: Callable[[Any], None] | None = None
_listeners: dict[str, Callable[[Any], None]] = {}
#: What the parent told since the last call came in and nobody listened to yet: a call takes a while to begin.
_untold: list[tuple[str, Any]] = []
_telling = threading.Lock()
_exits: list[Callable[[], None]] = []


def send_message(value: Any) -> None:
    """Tell the parent something while a call runs; lost silently outside a worker process."""
    if _send is not None:
        _send(value)


def listen(key: str, receiver: Callable[[Any], None] | None) -> None:
    """Have what the parent tells `key` given to `receiver` (from another thread); None ends it."""
    with _telling:
        if receiver is None:
            _listeners.pop(key, None)
            return
        _listeners[key] = receiver
        early = [value for told, value in _untold if told == key]
        _untold[:] = [(told, value) for told, value in _untold if told != key]
    for value in early:
        receiver(value)


def at_exit(tidy: Callable[[], None]) -> None:
    """Have `tidy` called when this process ends in good order; `os._exit` skips what `atexit` knows."""
    if tidy not in _exits:
        _exits.append(tidy)


def _tell(key: str, value: Any) -> None:
    with _telling:
        receiver = _listeners.get(key)
        if receiver is None:
            _untold.append((key, value))
    if receiver is not None:
        receiver(value)


def main(fd: int, parent_pid: int) -> None:
    """Serve calls from the socket `fd` until told to stop or the parent is gone."""
    global alone
    alone = True
    _die_with(parent_pid)
    signals.end_by(signal.SIGTERM, signal.SIGINT)
    connection: Connection[Any, Any] = Connection(fd)
    calls: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, calls), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(connection, calls)
    for signum in (signal.SIGTERM, signal.SIGINT):  # we are ending already; nobody is left to catch an interruption
        signals.take(signum, signals.nothing)
    _flush()
    for tidy in _exits:
        with contextlib.suppress(Exception):
            tidy()
    spare_stages.remove()
    os._exit(0)  # threads that tasks left behind must not keep the process


def _serve(connection: Connection[Any, Any], calls: queue.SimpleQueue[tuple[int, bytes] | None]) -> None:
    global _send
    sending = threading.Lock()
    while (call := calls.get()) is not None:
        number, payload = call

        def send_message(value: Any, number: int = number) -> None:
            with sending:
                connection.send(("message", number, value))

        _send = send_message
        ok, result = _make(payload)
        _flush()
        with sending:
            connection.send(("result", number, ok, result, bool(process_state.lasting)))
        _send = None


def _make(payload: bytes) -> tuple[bool, bytes]:
    try:
        with only_importing():
            function, args, kwargs = pickle.loads(payload)
        return True, dumps(function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - carried to the parent, which raises it
        signals.leave_if_ended(error)
        return False, _dump_error(error)


def _dump_error(error: BaseException) -> bytes:
    text = traceback.format_exc()
    try:
        dumped = pickle.dumps((error, text))
        pickle.loads(dumped)
    except Exception:  # noqa: BLE001 - whatever keeps the error from travelling, its words must arrive
        dumped = pickle.dumps((None, text))
    return dumped


def _read(connection: Connection[Any, Any], calls: queue.SimpleQueue[tuple[int, bytes] | None]) -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            calls.put(None)
            os.kill(os.getpid(), signal.SIGTERM)  # the parent is gone: end what runs, let it clean up
            time.sleep(GRACE_SECONDS)
            kill_tree(os.getpid())  # a task that swallows the interruption
            return
        if message[0] == "call":
            with _telling:
                _untold.clear()  # for calls that have ended
            calls.put((message[1], message[2]))
        elif message[0] == "tell":
            _tell(message[1], message[2])
        else:
            calls.put(None)
            return


def _die_with(parent_pid: int) -> None:
    """Have the kernel send SIGTERM when the parent dies (prctl(2), Linux only)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:
            os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()

"""The program of a worker process: take a call, make it, send back what came of it; see `protocol`."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import time
from typing import NoReturn

from superluigi.errors import traceback_of
from superluigi.execution.importing import only_importing
from superluigi.execution.pickling import dumps
from superluigi.execution.process import process_state, signals
from superluigi.execution.process.parent import parent
from superluigi.execution.process.process_tree import descendants, kill_all
from superluigi.execution.process.streams import c_library, flush
from superluigi.luigi_compat import lean_import
from superluigi.storage.local.stages import spare_stages
from superluigi.worker_process.protocol import (
    GREETING,
    HELLO,
    INTERRUPTED,
    REPLIES,
    REQUESTS,
    Call,
    Channel,
    Message,
    Result,
    Told,
)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: How long a call may clean up once the parent is gone.
GRACE_SECONDS = 10.0


def serve_socket(descriptor: int, parent_pid: int) -> NoReturn:
    """Serve the process that has left us one end of a socket."""
    parent.gives_all = True
    _die_with_parent()
    if sys.platform == "linux" and os.getppid() != parent_pid:  # it has died before we could say so
        os._exit(1)
    _Program(Channel(descriptor)).serve()


def serve_pipes() -> NoReturn:
    """Serve the process at the other end of stdin and stdout, perhaps with a command in between.

    The protocol moves to descriptors of its own: tasks find an empty stdin, and cannot print into it.
    """
    _die_with_parent()
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.write(replies, GREETING)
    _Program(Channel(requests, replies), heeds_ctrl_c=False).serve()


def serve_folder(folder: str) -> NoReturn:
    """Make the call that lies in `folder`; what stands between us and the parent has stdin and stdout."""
    parent.gives_all = True
    requests = os.open(os.path.join(folder, REQUESTS), os.O_RDONLY)
    replies = os.open(os.path.join(folder, REPLIES), os.O_WRONLY | os.O_APPEND)
    program = _Program(Channel(requests, replies))
    threading.Thread(target=program.watch_stdin, daemon=True).start()
    program.serve()


class _Program:
    def __init__(self, channel: Channel, heeds_ctrl_c: bool = True) -> None:
        lean_import.install()
        gc.disable()  # until the first call has imported what it needs: all of that stays
        self._channel = channel
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._taken = 0  # counted by the reading thread
        self._answered = 0  # counted by the main thread
        process_state.IN_A_WORKER.set()
        signals.end_by(signal.SIGTERM, *([signal.SIGINT] if heeds_ctrl_c else []))
        if not heeds_ctrl_c:
            signals.take(signal.SIGINT, signals.nothing)

    def serve(self) -> NoReturn:
        """Make calls until told to stop, interrupted, or alone; then end this process."""
        threading.Thread(target=self._read, daemon=True).start()
        code = INTERRUPTED
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            while (call := self._calls.get()) is not None:
                self._answer(call)
                self._answered += 1
            code = parent.exit_code
        for signum in (signal.SIGTERM, signal.SIGINT):  # it ends already: nothing is left to catch an interruption
            signals.take(signum, signals.nothing)
        flush()
        parent.tidy()
        flush()
        spare_stages.remove()
        os._exit(code)  # threads that tasks left behind must not keep the process

    def _answer(self, call: Call) -> None:
        parent.exit_code = 0
        parent.ear = functools.partial(self._pass_on, call.number)
        ok, result = _made(call.payload)
        flush()
        self._channel.send(Result(call.number, ok, result, bool(process_state.lasting)))
        parent.ear = None

    def _pass_on(self, number: int, value: object) -> None:
        self._channel.send(Message(number, value))

    def _read(self) -> None:
        while True:
            try:
                said = self._channel.receive()
            except (EOFError, OSError):
                self._calls.put(None)
                self._alone()
                return
            if isinstance(said, Call):
                self._taken += 1
                parent.forget()
                self._calls.put(said)
            elif isinstance(said, Told):
                parent.said(said.key, said.value)
            else:
                self._calls.put(None)
                return

    def watch_stdin(self) -> None:
        """Notice the end of the parent, if its pipe reaches us: `docker run` without `-i` has closed it."""
        try:
            if os.read(0, len(HELLO)) != HELLO:
                return
            while os.read(0, 4096):
                pass
        except OSError:
            return
        self._alone()

    def _alone(self) -> None:
        """The parent is gone: end what runs; it may clean up, and what swallows the interruption is killed."""
        if self._taken == self._answered:
            return
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        kill_all(descendants(os.getpid()))
        with contextlib.suppress(OSError):  # we lead no group behind a command that is not ours
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(INTERRUPTED)


def _made(payload: bytes) -> tuple[bool, bytes]:
    try:
        with only_importing():
            function, args, kwargs = pickle.loads(payload)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return True, dumps(function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - carried to the parent, which raises it
        signals.leave_if_ended(error)
        parent.exit_code = 1
        return False, _dumped(error)


def _dumped(error: BaseException) -> bytes:
    """The error, if it travels; its words must arrive whatever keeps it from that."""
    text = traceback_of(error)
    with contextlib.suppress(Exception):
        dumped = pickle.dumps(error)
        pickle.loads(dumped)
        return pickle.dumps((dumped, text))
    return pickle.dumps((None, text))


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies, whatever holds its descriptors (prctl(2), Linux only)."""
    library = c_library()
    if sys.platform == "linux" and library is not None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

"""A `concurrent.futures.Executor` over reused processes, each of which may die alone.

`ProcessPoolExecutor` calls the whole pool broken when one process is killed, and cannot end a call.
Here a killed process fails its own call with WorkerLostError, and `end` ends one call with everything
it started. Processes are fresh interpreters, not forks: they inherit no locks, threads or clients, and
the caller's `__main__` is not run again; what it defines travels by value (cloudpickle).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from superluigi.errors import RemoteError, WorkerLostError
from superluigi.execution import pickling
from superluigi.execution.process_tree import descendants, end_tree, kill_all, kill_tree

BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from superluigi.execution.worker_main import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
#: How long a process may take to clean up after being asked to end.
GRACE_SECONDS = 3.0

Message = Callable[[Any], None]


@dataclass
class _Call:
    number: int
    payload: bytes
    future: Future[Any]
    on_message: Message | None


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    call: _Call | None = None
    #: Gets no other call, and ends by itself.
    spoilt: bool = False
    #: Why we ended it, if we did.
    ended_because: BaseException | None = None
    #: What it had started when it was asked to end.
    below: list[int] = field(default_factory=list)
    sending: threading.Lock = field(default_factory=threading.Lock)
    #: Readable when the process has ended; None where the kernel has no such thing.
    exit_fd: int | None = None

    @property
    def is_of_use(self) -> bool:
        """Whether it may get another call."""
        return self.ended_because is None and not self.spoilt

    def send(self, *message: Any) -> None:
        with self.sending:
            self.connection.send(message)

    def ask_to_end(self, grace: float) -> None:
        self.below = descendants(self.process.pid)
        end_tree(self.process, grace, self.below)


class ProcessExecutor(Executor):
    """At most `max_workers` processes, started when first needed and reused between calls.

    `initializer(*initargs)` is called first in every process.
    """

    def __init__(
        self,
        max_workers: int,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self._max_workers = max_workers
        self._initial: bytes | None = None
        if initializer is not None:
            self.initialize(initializer, *initargs)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._children: list[_Child] = []
        self._waiting: deque[_Call] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ, lambda: self._wake_read.recv(4096))
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="superluigi-processes", daemon=True)
        self._thread.start()

    def initialize(self, initializer: Callable[..., object], *args: Any) -> None:
        """Have every process that is started from now on call `initializer(*args)` first."""
        self._initial = pickling.dumps((initializer, args, {}))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.submit_call(pickling.dumps((fn, args, kwargs)))

    def submit_call(self, payload: bytes, on_message: Message | None = None) -> Future[Any]:
        """Like `submit` for a call that is pickled already; `on_message` gets what the call sends.

        `on_message` is called on the executor's own thread and should return at once.
        """
        call = _Call(next(self._numbers), payload, Future(), on_message)
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(call)
            self._assign()
        return call.future

    def resize(self, max_workers: int) -> None:
        """Use up to `max_workers` processes from now on; those that live stay."""
        with self._lock:
            self._max_workers = max_workers
            self._assign()

    def prestart(self, count: int = 1) -> None:
        """Start up to `count` processes now, in the background, because calls are about to come."""
        with self._lock:
            while len(self._children) < min(count, self._max_workers) and not self._closing:
                self._start()

    def pids(self) -> list[int]:
        """The processes that live now."""
        with self._lock:
            return [child.process.pid for child in self._children]

    def tell(self, future: Future[Any], key: str, value: Any) -> bool:
        """Give `value` to the listener `key` of the process that runs `future`."""
        with self._lock:
            child = self._child_of(future)
            if child is None:
                return False
            with contextlib.suppress(OSError):
                child.send("tell", key, value)
            return True

    def end(self, future: Future[Any], reason: BaseException) -> bool:
        """End a running call and every process it started; its future raises `reason`.

        The process is interrupted first, so that the call can clean up, and killed when it has not
        ended after `GRACE_SECONDS`. Returns at once; False when the call does not run (any more).
        """
        with self._lock:
            child = self._child_of(future)
            if child is None:
                return False
            child.ended_because = reason
        child.ask_to_end(GRACE_SECONDS)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closing = True
            if cancel_futures:
                while self._waiting:
                    self._waiting.popleft().future.cancel()
            children = list(self._children)
            for child in children:
                if child.call is None and not self._waiting:
                    with contextlib.suppress(OSError):
                        child.send("stop")
        self._wake()
        if wait:
            self._thread.join()

    def abort(self) -> None:
        """End everything that runs, within seconds, and wait until no process is left."""
        with self._lock:
            self._closing = True
            while self._waiting:
                self._waiting.popleft().future.cancel()
            children = list(self._children)
            for child in children:
                child.ended_because = child.ended_because or WorkerLostError("The run was interrupted.")
        for child in children:
            child.ask_to_end(GRACE_SECONDS)
        self._wake()
        self._thread.join(GRACE_SECONDS * 3)

    # -- from here on: under the lock, or on the listening thread

    def _child_of(self, future: Future[Any]) -> _Child | None:
        for child in self._children:
            if child.call is not None and child.call.future is future:
                return child
        return None

    def _assign(self) -> None:
        while self._waiting:
            child = next((c for c in self._children if c.call is None and c.is_of_use), None)
            if child is None:
                if sum(not c.spoilt for c in self._children) >= self._max_workers:
                    return
                child = self._start()
            call = self._waiting.popleft()
            if not call.future.set_running_or_notify_cancel():
                continue
            child.call = call
            # A process that died just now: its end-of-file tells the listener.
            with contextlib.suppress(OSError):
                child.send("call", call.number, call.payload)

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches us only; we end the group
            )
        child = _Child(process, Connection(ours.detach()))
        if self._initial is not None:
            with contextlib.suppress(OSError):
                child.send("call", 0, self._initial)
        self._children.append(child)
        self._selector.register(child.connection, selectors.EVENT_READ, functools.partial(self._receive, child))
        # what a task has forked holds the socket too: its end is not always the end of the process
        with contextlib.suppress(OSError, AttributeError):
            child.exit_fd = os.pidfd_open(process.pid)
            self._selector.register(child.exit_fd, selectors.EVENT_READ, functools.partial(self._ended, child))
        self._wake()
        return child

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_write.send(b".")

    def _listen(self) -> None:
        while True:
            with self._lock:
                if self._closing and not self._children and not self._waiting:
                    break
            for key, _ in self._selector.select():
                key.data()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _ended(self, child: _Child) -> None:
        """Hear what a process said before it ended, whoever still holds its socket; the end of that buries it."""
        self._forget_end(child)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(child.connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RD)

    def _forget_end(self, child: _Child) -> None:
        if child.exit_fd is not None:
            self._selector.unregister(child.exit_fd)
            os.close(child.exit_fd)
            child.exit_fd = None

    def _receive(self, child: _Child) -> None:
        try:
            message = child.connection.recv()
        except Exception:  # noqa: BLE001 - EOF, a reset, half a message: the process is gone either way
            self._bury(child)
            return
        call = child.call
        if message[0] == "message":
            if call is not None and call.number == message[1] and call.on_message is not None:
                call.on_message(message[2])
            return
        _, number, ok, result, spoilt = message
        if number == 0:
            if not ok:
                child.ended_because = _loads_error(result)
                child.ask_to_end(0)
            return
        with self._lock:
            child.call, child.spoilt = None, spoilt
            if spoilt or (self._closing and not self._waiting):
                with contextlib.suppress(OSError):
                    child.send("stop")
            if not self._closing or self._waiting:
                self._assign()
        if call is not None and child.ended_because is None:
            _resolve(call.future, ok, result)
        elif call is not None:
            call.future.set_exception(child.ended_because or WorkerLostError("ended"))

    def _bury(self, child: _Child) -> None:
        self._forget_end(child)
        self._selector.unregister(child.connection)
        child.connection.close()
        kill_tree(child.process.pid)  # what the dead process had started
        kill_all(child.below)
        code = child.process.wait()
        with self._lock:
            self._children.remove(child)
            call, child.call = child.call, None
            self._assign()
        if call is not None:
            call.future.set_exception(child.ended_because or WorkerLostError(_obituary(child.process.pid, code)))


def _obituary(pid: int, code: int) -> str:
    if code >= 0:
        return (
            f"The process {pid} that ran this task ended itself with exit code {code} (os._exit, or a crash in "
            "a library). Other tasks are not affected."
        )
    name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else str(-code)
    hint = (
        "Somebody killed it, or the kernel did because memory ran out (see `dmesg`): give the task more "
        "memory, or let fewer run at once (num_workers, resources)."
        if -code == signal.SIGKILL
        else "A library it uses crashed, or somebody sent the signal."
    )
    return f"The process {pid} that ran this task died unexpectedly with exit code {code} ({name}). {hint}"


def _loads_error(dumped: bytes) -> BaseException:
    error, text = pickling.loads(dumped)
    if error is None:
        return RemoteError(text.strip().rpartition("\n")[2], text)
    error.__cause__ = RemoteError(f'\n"""\n{text}"""', text)
    return error  # type: ignore[no-any-return]


def _resolve(future: Future[Any], ok: bool, result: bytes) -> None:
    try:
        if ok:
            future.set_result(pickling.loads(result))
        else:
            future.set_exception(_loads_error(result))
    except Exception as error:  # noqa: BLE001 - the result cannot be unpickled here: that is the result
        future.set_exception(error)


def wait_gone(pids: list[int], seconds: float) -> bool:
    """Whether all of `pids` have ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.01)
    return False

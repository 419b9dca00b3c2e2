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
import os
import pickle
import selectors
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from superluigi.errors import RemoteError, WorkerLostError
from superluigi.execution import pickling
from superluigi.worker_process import handle
from superluigi.worker_process.handle import WorkerProcess
from superluigi.worker_process.protocol import INTERRUPTED, Call, Channel, Message, Result, Stop, Told

#: How long a process may take to clean up after being asked to end.
GRACE_SECONDS = 3.0

OnMessage = Callable[[Any], None]


@dataclass
class _Submitted:
    call: Call
    future: Future[object]
    on_message: OnMessage | None
    #: What it is to hear once a process makes it.
    told: list[Told] = field(default_factory=list)


@dataclass
class _Child:
    worker: WorkerProcess[Channel]
    #: What it does now.
    at: _Submitted | None = None
    #: Gets no other call, and ends by itself.
    spoilt: bool = False
    #: Why we ended it, if we did.
    ended_because: BaseException | None = None
    #: Readable when the process has ended; None where the kernel has no such thing.
    exit_fd: int | None = None

    @property
    def is_of_use(self) -> bool:
        """Whether it may get another call."""
        return self.ended_because is None and not self.spoilt


class ProcessExecutor(Executor):
    """At most `max_workers` processes, started when first needed and reused between calls.

    `initializer(*initargs)` is called first in every process.
    """

    def __init__(
        self, max_workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[object, ...] = ()
    ) -> None:
        self._max_workers = max_workers
        self._initial: bytes | None = None
        if initializer is not None:
            self.initialize(initializer, *initargs)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._children: list[_Child] = []
        self._waiting: deque[_Submitted] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ, lambda: self._wake_read.recv(4096))
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="superluigi-processes", daemon=True)
        self._thread.start()

    def initialize(self, initializer: Callable[..., object], *args: object) -> None:
        """Have every process that is started from now on call `initializer(*args)` first."""
        self._initial = pickling.dumps((initializer, args, {}))

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[Any]:
        return self.submit_call(pickling.dumps((fn, args, kwargs)))

    def submit_call(self, payload: bytes, on_message: OnMessage | None = None) -> Future[Any]:
        """Like `submit` for a call that is pickled already; `on_message` gets what the call sends.

        `on_message` is called on the executor's own thread and should return at once.
        """
        submitted = _Submitted(Call(next(self._numbers), payload), Future(), on_message)
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(submitted)
            self._assign()
        return submitted.future

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
            return [child.worker.pid for child in self._children]

    def send(self, future: Future[Any], key: str, value: object) -> bool:
        """Give `value` to the listener `key` of the call `future`, once a process makes it; False if it is over."""
        told = Told(key, value)
        with self._lock:
            child = self._child_of(future)
            if child is not None:
                child.worker.say(told)
                return True
            for submitted in self._waiting:
                if submitted.future is future:
                    submitted.told.append(told)
                    return True
        return False

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
        child.worker.end_soon(GRACE_SECONDS)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closing = True
            if cancel_futures:
                while self._waiting:
                    self._waiting.popleft().future.cancel()
            children = list(self._children)
            for child in children:
                if child.at is None and not self._waiting:
                    child.worker.say(Stop())
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
            child.worker.end_soon(GRACE_SECONDS)
        self._wake()
        self._thread.join(GRACE_SECONDS * 3)

    # -- from here on: under the lock, or on the listening thread

    def _child_of(self, future: Future[object]) -> _Child | None:
        for child in self._children:
            if child.at is not None and child.at.future is future:
                return child
        return None

    def _assign(self) -> None:
        while self._waiting:
            child = next((c for c in self._children if c.at is None and c.is_of_use), None)
            if child is None:
                if sum(not c.spoilt for c in self._children) >= self._max_workers:
                    return
                child = self._start()
            submitted = self._waiting.popleft()
            if not submitted.future.set_running_or_notify_cancel():
                continue
            child.at = submitted
            child.worker.say(submitted.call)  # of a process that died just now the listener hears the end
            for told in submitted.told:
                child.worker.say(told)

    def _start(self) -> _Child:
        child = _Child(handle.at_a_socket())
        if self._initial is not None:
            child.worker.say(Call(0, self._initial))
        self._children.append(child)
        self._selector.register(child.worker.channel, selectors.EVENT_READ, functools.partial(self._receive, child))
        # what a task has forked holds the socket too: its end is not always the end of the process
        with contextlib.suppress(OSError, AttributeError):
            child.exit_fd = os.pidfd_open(child.worker.pid)
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
        """Hear what a process said before it ended, whatever child still holds its socket; the end of that reaps it."""
        self._forget_end(child)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(child.worker.channel.fileno())) as ours:
            ours.shutdown(socket.SHUT_RD)

    def _forget_end(self, child: _Child) -> None:
        if child.exit_fd is not None:
            self._selector.unregister(child.exit_fd)
            os.close(child.exit_fd)
            child.exit_fd = None

    def _receive(self, child: _Child) -> None:
        try:
            said: Message | Result = child.worker.channel.receive()
        except Exception:  # noqa: BLE001 - EOF, a reset, half a message: the process is gone either way
            self._reap(child)
            return
        submitted = child.at
        if isinstance(said, Message):
            if submitted is not None and submitted.call.number == said.number and submitted.on_message is not None:
                submitted.on_message(said.value)
            return
        if said.number == 0:
            if not said.ok:
                child.ended_because = loads_error(said.payload)
                child.worker.end_soon(0)
            return
        with self._lock:
            child.at, child.spoilt = None, said.spoilt
            if said.spoilt or (self._closing and not self._waiting):
                child.worker.say(Stop())
            if not self._closing or self._waiting:
                self._assign()
        if submitted is not None and child.ended_because is None:
            _resolve(submitted.future, said)
        elif submitted is not None:
            submitted.future.set_exception(child.ended_because or WorkerLostError("ended"))

    def _reap(self, child: _Child) -> None:
        self._forget_end(child)
        self._selector.unregister(child.worker.channel)
        code = child.worker.bury()
        with self._lock:
            self._children.remove(child)
            submitted, child.at = child.at, None
            self._assign()
        if submitted is not None:
            error = child.ended_because or WorkerLostError(_describe_exit(child.worker.pid, code))
            submitted.future.set_exception(error)


def _describe_exit(pid: int, code: int) -> str:
    if code >= 0 and code != INTERRUPTED:
        return (
            f"The process {pid} that ran this task ended itself with exit code {code} (os._exit, or a crash in "
            "a library). Other tasks are not affected."
        )
    died_of = handle.signal_of(code)
    hint = (
        "Something killed it, or the kernel did because memory ran out (see `dmesg`): give the task more "
        "memory, or let fewer run at once (num_workers, resources)."
        if died_of is signal.SIGKILL
        else "A library it uses crashed, or another process sent the signal."
    )
    name = died_of.name if died_of is not None else str(-code)
    return f"The process {pid} that ran this task died unexpectedly with exit code {code} ({name}). {hint}"


def loads_error(dumped: bytes) -> BaseException:
    """The error that a call has ended with, its traceback over there as its cause."""
    by_itself, text = pickle.loads(dumped)
    if by_itself is None:
        return RemoteError(text.strip().rpartition("\n")[2], text)
    error: BaseException = pickling.loads(by_itself)
    error.__cause__ = RemoteError(f'\n"""\n{text}"""', text)
    return error


def _resolve(future: Future[object], result: Result) -> None:
    try:
        if result.ok:
            future.set_result(pickling.loads(result.payload))
        else:
            future.set_exception(loads_error(result.payload))
    except Exception as error:  # noqa: BLE001 - the result cannot be unpickled here: that is the result
        future.set_exception(error)


def named(name: str, max_workers: int) -> ProcessExecutor:
    """`executor="processes"`."""
    return ProcessExecutor(max_workers)

"""The child of a queue's worker: a worker process that makes one attempt after the other (`child`)."""

from __future__ import annotations

import itertools
import os
import pickle
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from superluigi.queue.models import Answer, AttemptOrder, Result
from superluigi.queue.runs import QueueEnvironment
from superluigi.worker_process import handle, protocol
from superluigi.worker_process.protocol import Call, Message

#: What a task tells while it runs: what, and its value; that the attempt has begun is `(BEGUN, None)`.
Told = tuple[str, object]
BEGUN = "begun"


class ChildProcess:
    """One running child, perhaps behind a prefix command.

    Raises:
        OSError: the prefix command cannot be started.
    """

    def __init__(
        self, prefix: str | None, environment: Mapping[str, str], surroundings: QueueEnvironment, log: Path
    ) -> None:
        self.surroundings = surroundings
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        folder = surroundings.folder if os.path.isdir(surroundings.folder) else None
        if folder is None:  # absolute paths still work; relative ones would go astray without a word
            with log.open("a") as file:
                file.write(f"warning: the submitter's folder {surroundings.folder} is not here\n")
        variables = {**surroundings.environment(), **environment}
        self._worker = handle.at_pipes(shlex.split(prefix or ""), variables, folder, log)
        self._numbers = itertools.count()
        self._known: set[str] = set()
        self._call("prepare")

    @property
    def pid(self) -> int:
        return self._worker.pid

    def knows(self, key: str) -> bool:
        """Whether it has been told about this run or class."""
        return key in self._known

    def begin(self, order: AttemptOrder) -> None:
        """Have it begin an attempt; `receive` gives the answer."""
        self._learns(order)
        self._call("attempt", order)

    def tell_of_end(self, order: AttemptOrder, events: Sequence[str], said: str) -> None:
        """Have it fire Luigi's events, and send the mail, for an attempt that failed and could not do so itself."""
        self._learns(order)
        self._call("tell_of_end", order, events, said)

    def _learns(self, order: AttemptOrder) -> None:
        self._known.update({order.run, order.code or order.run})

    def _call(self, function: str, *args: object) -> None:
        self._number = next(self._numbers)
        self._worker.say(Call(self._number, protocol.by_name(f"superluigi.queue.workers.child:{function}", *args)))

    def receive(self, timeout: float) -> Told | Answer | None:
        """What it says next; None when it says nothing within `timeout` seconds, or is dead."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                said = self._worker.channel.receive_within(max(0.0, deadline - time.monotonic()))
            except (EOFError, OSError):
                self._worker.wait(1.0)
                return None
            if said is None:
                return None
            if isinstance(said, Message):
                told: Told = said.value
                return told
            if not said.ok:  # it cannot even do that
                return Answer(Result("failed", pickle.loads(said.payload)[1], 1), worn=True)
            if said.number == self._number:
                answer: Answer = pickle.loads(said.payload)
                return replace(answer, worn=said.spoilt)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it lives."""
        return self._worker.poll()

    def interrupt(self, grace_seconds: float) -> Answer | None:
        """Ask its attempt to end; the answer if that ends well, or asks for another attempt from its checkpoint."""
        self._worker.interrupt()
        deadline = time.monotonic() + grace_seconds
        while (said := self.receive(max(0.0, deadline - time.monotonic()))) is not None:
            if isinstance(said, Answer):
                return said
        return None

    def end(self, grace_seconds: float) -> int:
        """Interrupt what it runs and wait; kill it when it takes too long. What its tasks have started goes with it."""
        return self._worker.end(grace_seconds)


def ending(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    died_of = handle.signal_of(code)
    hint = "; perhaps memory ran out, `dmesg` would tell" if died_of is signal.SIGKILL else ""
    return f"signal {died_of.name if died_of is not None else -code}{hint}"

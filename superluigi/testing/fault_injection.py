"""Stop code at its n-th storage operation, by exception, by Ctrl-C or by sudden death, and look what remains.

    for n in every_step(publish, rig, "new"):
        ...

A child process is forked from a clean server process, so that threads of the test do not matter; what it runs
must be picklable (a function of a module, with plain arguments).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from typing import Any, Literal

from superluigi.storage import failpoints

#: How code is stopped: an ordinary error, Ctrl-C, or the death of its process without any clean-up.
How = Literal["error", "interrupt", "death"]
DEATH = 77


class InjectedError(OSError):
    """The error that `stopping_at` raises."""


@contextlib.contextmanager
def stopping_at(n: int, how: How) -> Iterator[list[str]]:
    """Stop this process's code just before its `n`-th storage operation (from 1; 0 never).

    Gives the list of the operations that were begun.
    """
    seen: list[str] = []

    def hook(name: str) -> None:
        seen.append(name)
        if len(seen) != n:
            return
        if how == "death":
            os._exit(DEATH)
        raise KeyboardInterrupt if how == "interrupt" else InjectedError(f"injected before step {n}: {name}")

    before, failpoints.hook = failpoints.hook, hook
    try:
        yield seen
    finally:
        failpoints.hook = before


def stopped_in_child(n: int, how: How, function: Callable[..., object], *arguments: object) -> int:
    """Run `function(*arguments)` in a fresh process stopped at step `n`; its exit code.

    0: it ended before step n. 77: it died there. 1: it raised (as it should for "error" and "interrupt").
    """
    context = _context()
    child = context.Process(target=_stopped, args=(n, how, function, arguments, dict(os.environ)))
    child.start()
    child.join()
    return child.exitcode or 0


def in_child(function: Callable[..., object], *arguments: object) -> Any:
    """What `function(*arguments)` gives in a fresh process; its exception is raised here."""
    context = _context()
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_answered, args=(there, function, arguments, dict(os.environ)))
    child.start()
    there.close()
    try:
        value, error = here.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"The process of {function.__name__} ended with {child.exitcode} and no answer.") from None
    finally:
        here.close()
    child.join()
    if error is not None:
        raise error
    return value


def _context() -> ForkServerContext:
    """Its server has imported what children need; else each would, hundreds of times in a test that dies everywhere."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["superluigi.testing.warm"])
    return context


def _stopped(
    n: int, how: How, function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]
) -> None:
    os.environ.update(environment)  # the server's is that of the moment it started in
    with stopping_at(n, how):
        try:
            function(*arguments)
        except (InjectedError, KeyboardInterrupt, OSError):
            os._exit(1)


def _answered(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    try:
        pipe.send((function(*arguments), None))
    except Exception as error:  # noqa: BLE001  (it is raised again where it was asked for)
        pipe.send((None, error))

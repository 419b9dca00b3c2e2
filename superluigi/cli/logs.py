"""Show what a task printed.

Prints the task's stdout.log to stdout and its stderr.log to stderr, of the attempt that runs or ran last. With
--follow, goes on until the attempt ends. `--path` prints the folder, which also has params.json and rerun.py.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from superluigi.cli._output import printed
from superluigi.cli._parser import Parser, whole
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.errors import TargetMissingError
from superluigi.terminal import refusal, say, write

EXAMPLE = """superluigi logs flights ModelTask --version 3 --follow
superluigi logs flights ModelTask --version 3 --attempt 1"""
_EVERY_SECONDS = 0.2


def configure(parser: Parser) -> None:
    """Add the arguments."""
    task_arguments(parser)
    parser.add_argument("--follow", action="store_true", help="go on printing until the attempt ends")
    parser.add_argument("--attempt", type=whole(1), metavar="N", help="an earlier attempt, counted from 1")
    parser.add_argument("--path", action="store_true", help="print the folder instead")


def main(args: argparse.Namespace) -> int:
    """Print the logs of one attempt."""
    from superluigi.tasks.runtime.workspace import log_pool
    from superluigi.tasks.runtime.workspace import task_folder as folders

    task = task_of(args)
    if not hasattr(task, "task_hash"):
        raise TargetMissingError(f"{task} is no Super Luigi task: its logs are not kept.")
    base = folders.folder_of(task)
    log_pool.recover_orphans()
    if args.follow:
        _wait_for(base)
    folder = folders.attempt_folder(base, args.attempt)
    if args.path:
        say(folder)
        return 0
    with contextlib.ExitStack() as stack:
        pairs = [
            (stack.enter_context(_opened(folder / name)), error)
            for name, error in ((folders.STDOUT, False), (folders.STDERR, True))
        ]
        for _ in _looks(base, args.follow and args.attempt is None):
            for source, error in pairs:
                _copy(source, error)
    return 0


def _opened(path: Path) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return contextlib.nullcontext()


def _copy(source: IO[bytes] | None, error: bool) -> None:
    """Copy what is new. Colours stay, unless NO_COLOR; what else a terminal would obey is shown."""
    if source is not None:
        while block := source.readlines(1 << 20):  # whole lines: letters and colours of several bytes are not cut
            write(printed(b"".join(block).decode(errors="backslashreplace")), err=error, flush=True)


def _looks(base: Path, follow: bool) -> Iterator[None]:
    """Once; with `follow` again and again while the attempt runs, and once more after it."""
    from superluigi.tasks.runtime.workspace.task_folder import is_running

    while follow and refusal() is None and is_running(base):
        yield
        time.sleep(_EVERY_SECONDS)
    yield


def _wait_for(base: Path) -> None:
    """Let a task that is about to begin do so."""
    deadline = time.monotonic() + 3
    while not base.exists() and time.monotonic() < deadline:
        time.sleep(_EVERY_SECONDS)

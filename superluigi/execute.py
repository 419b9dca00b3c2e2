"""Run one attempt in a process of its own: `PREFIX python -m superluigi.execute FOLDER`, and `rerun.py` by hand.

`FOLDER` holds the attempt as the starting process has written it (see `superluigi.tasks.runtime.command_prefix`); the
outcome is put beside it. Exit codes: 0 the task ended well, or waits for a requirement that it yielded; what the task
gave to `sys.exit`; 143 interrupted; 1 any other failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from luigi.task_status import DONE, FAILED, PENDING

from superluigi.execution import main_names, serialization, signals, worker_main
from superluigi.execution.addresses import refuse_other
from superluigi.execution.attempt import REPORTER_METHODS, AttemptResult, SilentReporter, exhaust, lent
from superluigi.runs.completeness import is_complete
from superluigi.runs.context import RunContext, entered
from superluigi.tasks.runtime import checkpoint, command_prefix, logs, rerun
from superluigi.terminal import say

#: How long an interrupted attempt may clean up once the starting process is gone.
GRACE_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Carry out the attempt in the folder `arguments[0]`; returns the exit code."""
    folder = Path(arguments[0])
    signals.end_by(signal.SIGTERM, signal.SIGINT)
    threading.Thread(target=_watch_starter, daemon=True).start()
    try:
        outcome = _outcome(folder)
        _publish(folder / command_prefix.OUTCOME, cloudpickle.dumps(outcome.portable()))
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    code = getattr(outcome.error, "code", None) if isinstance(outcome.error, SystemExit) else None
    if outcome.status == FAILED:
        return code if isinstance(code, int) and code else 1
    return 0


def _outcome(folder: Path) -> AttemptResult:
    order, context, dumped = pickle.loads((folder / command_prefix.ORDER).read_bytes())
    worker_main.alone = True
    command_prefix.inside = task_id = order.task_id
    command_prefix.inside_folder = folder
    try:
        _settle_in(order)
        run = serialization.load_context(context)
        with serialization.importing_as_the_caller():
            attempt: serialization.AttemptRequest = pickle.loads(dumped)
        task = attempt.task
        main_names.adopt(type(task))
        with entered(run):
            refuse_other(task, attempt.expected)
        with entered(run), _told(task, folder / command_prefix.MESSAGES):
            requirements = exhaust(task, lambda required: is_complete(required, run))
    except BaseException as error:  # noqa: BLE001 - carried to the starting process, which raises it
        signals.leave_if_ended(error)
        return AttemptResult(task_id, FAILED, error=error, traceback=traceback.format_exc())
    return AttemptResult(task_id, PENDING if requirements else DONE, requirements=requirements)


def _settle_in(order: command_prefix.ChildOrder) -> None:
    """What an inherited environment and folder would have given; containers and remote hosts do not inherit."""
    with contextlib.suppress(OSError):
        os.chdir(order.folder)
    for name, value in order.variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if order.deadline is not None:
        os.environ[checkpoint.DEADLINES[0]] = str(order.deadline)


@contextlib.contextmanager
def _told(task: Any, messages: Path) -> Generator[None, None, None]:
    """Lend `task` functions that tell the starting process how it goes."""

    class Told(SilentReporter):
        """Writes what the task tells as lines of a file, by the names that the task knows."""

    def sender(name: str) -> Any:
        def send(_told: Told, *args: Any) -> None:
            with contextlib.suppress(OSError), messages.open("ab", buffering=0) as stream:
                stream.write(json.dumps([name, args]).encode() + b"\n")

        return send

    for theirs, name in REPORTER_METHODS.items():
        if theirs != "scheduler_messages":
            setattr(Told, theirs, sender(name))
    with lent(task, Told()):
        yield


def _publish(path: Path, content: bytes) -> None:
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)
    os.replace(staged, path)


def _watch_starter() -> None:
    """End this process when the one that started it is gone, which ends the pipe on stdin.

    Only if that pipe reaches us: what stands between may have closed it (`docker run` without `-i`).
    """
    try:
        if os.read(0, len(command_prefix.HELLO)) != command_prefix.HELLO:
            return
        while os.read(0, 4096):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def by_hand(
    *,
    module: str,
    file: str | None,
    task: str,
    params: Mapping[str, str],
    folder: str,
    path: Sequence[str],
    store: str | None,
) -> None:
    """What `rerun.py` does: run the task here, whether or not its output exists, and debug what it raises."""
    if Path(folder).is_dir():
        os.chdir(folder)
    command_prefix.switched_off = True
    again = rerun.task_again(module, file, task, params, path)
    run = RunContext(store=store, options={"exclusive": "off"})  # it is to run, whatever others do
    with entered(run):
        missing = [required for required in again.deps() if not is_complete(required, run)]
        if missing:
            say(f"not complete, run it first: {missing[0]}", err=True)
            raise SystemExit(1)
        try:
            with lent(again):
                requirements = exhaust(again, lambda required: is_complete(required, run))
        except Exception:  # noqa: BLE001 - whatever the task raises is what one is here to debug
            traceback.print_exc()
            if not sys.stdin.isatty() and "pdb" not in sys.modules:
                raise SystemExit(1) from None
            import pdb

            pdb.post_mortem()
            raise SystemExit(1) from None
    if requirements:
        say(f"run() asks for what is not complete: {requirements[0]}", err=True)
        raise SystemExit(1)
    say(f"{again} ended well")


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    logs.flush()
    os._exit(exit_code)  # threads that the task left behind must not keep the process

"""An attempt that has a process to itself: behind a command prefix, and by hand (`rerun.py`).

Exit codes behind a prefix: 0 the task ended well, or waits for a requirement that it yielded; what the task gave to
`sys.exit`; 143 interrupted; 1 any other failure.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from luigi.task_status import DONE, FAILED, PENDING

from superluigi.errors import traceback_of
from superluigi.execution import main_names, serialization
from superluigi.execution.addresses import refuse_other
from superluigi.execution.attempt import REPORTER_METHODS, AttemptResult, SilentReporter, reporter_attached
from superluigi.execution.process import signals
from superluigi.execution.process.parent import parent
from superluigi.execution.yielded import exhaust
from superluigi.runs.completeness import is_complete
from superluigi.runs.context import RunContext, entered
from superluigi.tasks.runtime import checkpoint
from superluigi.tasks.runtime.command_prefix import ChildOrder, inside
from superluigi.tasks.runtime.workspace import rerun
from superluigi.terminal import say


def carry_out(order: ChildOrder, context: bytes, dumped: bytes) -> AttemptResult:
    """Make the attempt that the starting process asks for; called in a worker process."""
    inside.task_id, inside.folder = order.task_id, Path(order.task_folder)
    try:
        _settle_in(order)
        run = serialization.load_context(context)
        with serialization.importing_as_the_caller():
            attempt: serialization.AttemptRequest = pickle.loads(dumped)
        task = attempt.task
        main_names.adopt(type(task))
        with entered(run):
            refuse_other(task, attempt.expected)
        with entered(run), reporter_attached(task, _Telling()):
            requirements = exhaust(task, lambda required: is_complete(required, run))
    except BaseException as error:  # noqa: BLE001 - carried to the starting process, which raises it
        signals.leave_if_ended(error)
        code = error.code if isinstance(error, SystemExit) else None
        parent.exit_code = code if isinstance(code, int) and code else 1
        return AttemptResult(order.task_id, FAILED, error=error, traceback=traceback_of(error)).picklable()
    return AttemptResult(order.task_id, PENDING if requirements else DONE, requirements=requirements).picklable()


def _settle_in(order: ChildOrder) -> None:
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


class _Telling(SilentReporter):
    """Tells the starting process how it goes, by the names that the task knows."""

    def __init__(self) -> None:
        super().__init__()
        for theirs, name in REPORTER_METHODS.items():
            if theirs != "scheduler_messages":
                setattr(self, theirs, functools.partial(_tell, name))


def _tell(name: str, *args: object) -> None:
    parent.send((name, args))


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
    inside.switched_off = True
    again = rerun.task_again(module, file, task, params, path)
    run = RunContext(store=store, exclusive="off")  # it is to run, whatever others do
    with entered(run):
        missing = [required for required in again.deps() if not is_complete(required, run)]
        if missing:
            say(f"not complete, run it first: {missing[0]}", err=True)
            raise SystemExit(1)
        try:
            with reporter_attached(again):
                requirements = exhaust(again, lambda required: is_complete(required, run))
        except Exception as error:  # noqa: BLE001 - whatever the task raises is what one is here to debug
            sys.stderr.write(traceback_of(error))
            if not sys.stdin.isatty() and "pdb" not in sys.modules:
                raise SystemExit(1) from None
            import pdb

            pdb.post_mortem()
            raise SystemExit(1) from None
    if requirements:
        say(f"run() asks for what is not complete: {requirements[0]}", err=True)
        raise SystemExit(1)
    say(f"{again} ended well")

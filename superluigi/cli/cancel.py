"""Stop a task that runs: it cleans up, publishes nothing, and is reported as cancelled.

Exit code 0 when an attempt was asked to stop, 1 when none runs now. Reaches attempts in any process
with the same workspace, within a second. Tasks of a queue are stopped by `superluigi queue kill`.
"""

from __future__ import annotations

import argparse

from superluigi import config
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.errors import TargetMissingError
from superluigi.terminal import say

EXAMPLE = "superluigi cancel flights ModelTask --version 3"


def configure(parser: Parser) -> None:
    """Add the arguments."""
    task_arguments(parser)
    parser.add_argument("--reason", default="cancelled from the command line", help="what the report should say")


def main(args: argparse.Namespace) -> int:
    """Leave the cancellation where the attempt finds it."""
    task = task_of(args)
    if not hasattr(task, "cancel"):
        raise TargetMissingError(f"{task} is no Super Luigi task: it cannot be cancelled.")
    from superluigi.tasks.runtime.cancel import asked

    stops, silent = asked(task, args.reason)
    if stops:
        say(f"asked to stop: {task}")
    elif silent:
        say(f"not stopped: {task}: {_unknown(silent)}")
    else:
        say(f"nothing to stop: no attempt at {task} runs in the workspace {config.get('workspace')}")
    return 0 if stops else 1


def _unknown(silent: list[str]) -> str:
    shown = ", ".join(silent[:3]) + (" and others" if len(silent) > 3 else "")
    return (
        f"the process(es) {shown} (host-pid-start) did not say whether they run it. They may be stopped, another "
        "user's, on a host that is not reached, or in a long call of a C library: try again, or end them."
    )

"""Stop a task that runs: it cleans up, publishes nothing, and is reported as cancelled.

Reaches attempts in any process with the same workspace, within a second. Tasks of a queue are stopped by
`superluigi queue kill`.
"""

from __future__ import annotations

import argparse

from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.errors import OptionError

EXAMPLE = "superluigi cancel flights ModelTask --version 3"


def configure(parser: Parser) -> None:
    """Add the arguments."""
    task_arguments(parser)
    parser.add_argument("--reason", default="cancelled from the command line", help="what the report should say")


def main(args: argparse.Namespace) -> int:
    """Leave the cancellation where the attempt finds it."""
    task = task_of(args)
    if not hasattr(task, "cancel"):
        raise OptionError(f"{task} is no Super Luigi task: it cannot be cancelled.")
    task.cancel(args.reason)
    print(f"asked to stop: {task}")
    return 0

"""Give an output that was there before (from plain Luigi, by hand) a record.

The record says that it was adopted, by whom, when and why, and for which code and inputs; what is not known (when and
how long it ran, by which code) is not in it. Nothing runs, and the data is not touched. Lists first and asks.
"""

from __future__ import annotations

import argparse

from superluigi.cli._output import confirmed, json_option, print_json, yes_option
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import say

EXAMPLE = 'superluigi adopt pipeline FeaturesTask --date 2013-12-15 --why "made by the old pipeline"'


def configure(parser: Parser) -> None:
    """The task, and why."""
    task_arguments(parser)
    parser.add_argument("--why", default="it was there before", metavar="TEXT", help="for those who come later")
    yes_option(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Adopt; 0 when done, 1 when the user said no."""
    task = task_of(args)
    from superluigi.lineage.staleness.accepting import adoption

    found = adoption(task, why=args.why)
    paths = found.as_json()["paths"]
    if not confirmed(f"adopt this for {task}", yes=args.yes, items=paths):
        return 1
    found.write()
    if args.json:
        print_json(found.as_json())
    else:
        say("\n".join(f"adopted {path}" for path in paths))
    return 0

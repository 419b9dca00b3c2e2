"""Take an output as good for code or inputs that have changed: nothing runs, its record says so.

The record gets a successor: made by that code and those inputs, accepted for these, by whom, when and why; `why` and
`run --refresh` honour it, `lineage` shows it. Lists what it would accept and asks; --yes does not ask. What changed in
a parameter, is missing or has no record cannot be accepted.
"""

from __future__ import annotations

import argparse

from superluigi.cli._output import confirmed, json_option, print_json, yes_option
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import say

EXAMPLE = 'superluigi accept pipeline FeaturesTask --date 2013-12-15 --code --why "only a log line"'


def configure(parser: Parser) -> None:
    """The task, what to accept, why."""
    task_arguments(parser)
    parser.add_argument("--code", action="store_true", help="the code and packages of now (both, if neither is named)")
    parser.add_argument("--inputs", action="store_true", help="the inputs of now")
    parser.add_argument("--upstream", action="store_true", help="for all that the task requires, too")
    parser.add_argument("--why", required=True, metavar="TEXT", help="for those who come later")
    yes_option(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Accept; 0 when done or nothing to do, 1 when the user said no."""
    task = task_of(args)
    from superluigi.lineage.staleness.accepting import acceptances

    found = acceptances(task, why=args.why, code=args.code, inputs=args.inputs, upstream=args.upstream)
    if found and not confirmed(f"accept {len(found)} of these", yes=args.yes, items=found):
        return 1
    for one in found:
        one.write()
    if args.json:
        print_json([one.as_json() for one in found])
    else:
        say("\n".join(f"accepted {one}" for one in found) or "nothing to accept: up to date")
    return 0

"""Draw a task and all it needs, coloured by state.

Without an option, prints Mermaid. The page of --html is one file that loads nothing: the graph with search,
and a click on a task shows its parameters, record, log, code, lineage; a timeline per worker. Nothing is run.
"""

from __future__ import annotations

import argparse

from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import say

EXAMPLE = """
superluigi graph pipeline PredictionsTask --date 2013-12-15 --html graph.html
superluigi graph pipeline PredictionsTask --date 2013-12-15 --mermaid
"""


def configure(parser: Parser) -> None:
    """The task, and the form of the picture."""
    task_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--html", metavar="FILE", help="write the page")
    form.add_argument("--svg", metavar="FILE", help="write a picture")
    form.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart (the default)")
    parser.add_argument("--refresh", choices=("inputs", "code", "all"), help="show what such a run would make")


def main(args: argparse.Namespace) -> int:
    """Print or save it."""
    task = task_of(args)
    from superluigi.lineage.staleness.why import why
    from superluigi.visuals.attempts import last_failures, last_logs
    from superluigi.visuals.build import of_explanations
    from superluigi.visuals.figure import Figure

    explained = why(task, refresh=args.refresh)
    failures = last_failures(one.task for one in explained if one.state == "missing")
    logs = last_logs(one.task for one in explained)
    picture = Figure(of_explanations(explained, failures=failures, logs=logs))
    if args.html or args.svg:
        say(picture.save(args.html or args.svg))
    else:
        say(picture.mermaid, end="")
    return 0

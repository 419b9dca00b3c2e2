"""Say of every task whether it would run, and why.

Nothing is run. Reasons: output missing, record missing, parameter changed, input changed, code changed,
package changed, check changed (a refresh checks what is there and does not make it), forced, up to date. Without
--refresh a run makes what is missing, as Luigi does, and the other reasons are told but do not count. A graph of more
than 50 tasks is told by families, unless --all or --stale is given; --stale lists at most 100, unless --all is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from superluigi.cli._output import MANY, all_option, families, first_of, json_option, line, named, print_json
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of

if TYPE_CHECKING:
    from superluigi.lineage.staleness.why import Explanation

EXAMPLE = """
superluigi why pipeline PredictionsTask --date 2013-12-15
superluigi why pipeline PredictionsTask --date 2013-12-15 --refresh code --check
"""
_WORDS = {True: "runs", False: "stays"}
_INDENT = " " * 6


def configure(parser: Parser) -> None:
    """The task, and the options of the run in question."""
    task_arguments(parser)
    parser.add_argument("--refresh", choices=("inputs", "code", "all"), help="as in `superluigi run`")
    parser.add_argument("--check", action="store_true", help="exit with 1 when something would run")
    parser.add_argument("--stale", action="store_true", help="leave out what is up to date")
    all_option(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the reasons; 0, or with --check 1 when something would run."""
    task = task_of(args)
    from superluigi.lineage.staleness.reasons import UP_TO_DATE
    from superluigi.lineage.staleness.why import why

    explained = why(task, refresh=args.refresh)
    shown = [one for one in explained if not args.stale or one.reason != UP_TO_DATE]
    if args.json:
        print_json([one.as_json() for one in shown])
    else:
        if len(shown) > MANY and not (args.all or args.stale):
            words = ((f"run: {one.reason}" if one.runs else one.reason) for one in shown)
            families(zip((one.task.get_task_family() for one in shown), words, strict=True), {UP_TO_DATE: "green"})
            line(("--stale lists what is not up to date, --all shows each task", "grey"))
        else:
            _list(first_of(shown, args.all))
        would = sum(one.runs for one in explained)
        line((f"{would} of {len(explained)} tasks would run", "bold"))
        stale = sum(one.state == "stale" and not one.runs for one in explained)
        if stale and not args.refresh:
            verb = "is" if stale == 1 else "are"
            line((f"{stale} {verb} stale: with --refresh a run makes what is stale again", "grey"))
    return 1 if args.check and any(one.runs for one in explained) else 0


def _list(shown: Iterable[Explanation]) -> None:
    from superluigi.lineage.records.check_results import findings_in, summary
    from superluigi.lineage.staleness.reasons import UP_TO_DATE, Reason

    for one in shown:
        style = "yellow" if one.runs else "green" if one.reason == UP_TO_DATE else "cyan"
        said = f"{named(one.as_json())}: {Reason(one.reason, one.detail)}"
        line((f"{_WORDS[one.runs]:<6}", style), said, indent=_INDENT)
        if checked := summary(findings_in(one.facts.record)):
            line(_INDENT, checked, indent=_INDENT)

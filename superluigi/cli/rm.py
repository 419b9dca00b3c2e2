"""Remove the outputs of a task with their records; also of what it needs, or of what was made from it.

Lists what would go and asks; --dry-run only lists, --yes does not ask. Outputs of external tasks are never removed,
nor what a record speaks of without lying beside it and being what it says. What cannot be removed keeps no other:
it is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse

from superluigi.cli._output import confirmed, json_option, print_json, yes_option
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments
from superluigi.cli.ls import as_json, selected, selection, show
from superluigi.errors import TargetError
from superluigi.terminal import say

EXAMPLE = "superluigi rm pipeline FeaturesTask --date 2013-12-15 --downstream --dry-run"


def configure(parser: Parser) -> None:
    """The task, which outputs, and whether to ask."""
    task_arguments(parser)
    selection(parser)
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    yes_option(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Remove; 0 when done or nothing to do, 1 when the user said no or something is left alone."""
    chosen = [output for output in selected(args) if output.present]
    found = [output for output in chosen if not output.kept]
    kept = [output for output in chosen if output.kept]
    for output in kept:
        say(f"left alone {output.path}: {output.kept}", err=True)
    if args.dry_run or not found:
        if args.json:
            print_json([as_json(output) for output in found])
        elif found:
            show(found, whole=True)
        else:
            say("nothing to remove: no output is there")
        return 1 if kept else 0
    plural = "output" if len(found) == 1 else "outputs"
    show(found, whole=True, err=True)
    if not confirmed(f"remove {len(found)} {plural}", yes=args.yes):
        return 1
    removed = []
    for output in found:
        try:
            output.remove()
        except TargetError as error:  # keeps no other
            say(f"{type(error).__name__}: {error}", err=True)
            continue
        removed.append(output)
        if not args.json:
            say(f"removed {output.path}")
    if args.json:
        print_json([as_json(output) for output in removed])
    return 0 if len(removed) == len(chosen) else 1

"""List the outputs of a task, and of what it needs or of what was made from it.

One line an output: whether it is there, its size, the task class, its place. --downstream follows the records
found in the store, beside the task's own outputs, and in --in PLACE.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import json_option, print_json
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of

if TYPE_CHECKING:
    from superluigi.tasks.clearing import Output

EXAMPLE = "superluigi ls pipeline PredictionsTask --date 2013-12-15 --upstream"


def configure(parser: Parser) -> None:
    """The task and which outputs."""
    task_arguments(parser)
    selection(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the outputs; always 0."""
    found = selected(args)
    if args.json:
        print_json([as_json(output) for output in found])
        return 0
    for output in found:
        print(line(output))
    return 0


def selection(parser: Parser) -> None:
    """Add `--upstream`, `--downstream` and `--in`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--upstream", action="store_true", help="also of every task that it needs")
    which.add_argument("--downstream", action="store_true", help="also what was made from it")
    parser.add_argument(
        "--in", dest="places", action="append", default=[], metavar="PLACE", help="where else to look for records"
    )
    parser.add_argument("--store", metavar="PLACE", help="the default home of outputs")


def selected(args: argparse.Namespace) -> list[Output]:
    """The outputs that the command line means."""
    import dataclasses

    from superluigi.scheduling import run as runs
    from superluigi.tasks import clearing

    task: Any = task_of(args)
    here = runs.current()
    with runs.entered(dataclasses.replace(here, store=args.store) if args.store else here):
        if args.downstream:
            return clearing.downstream_of(task, args.places)
        return clearing.outputs_of(clearing.upstream_of(task) if args.upstream else [task])


def line(output: Output) -> str:
    """One output for people."""
    size = "-" if not output.present else "?" if output.size is None else f"{output.size:,}"
    return f"{'present' if output.present else 'absent ':<7} {size:>14}  {output.family:<24} {output.path}"


def as_json(output: Output) -> dict[str, Any]:
    """One output for scripts."""
    return {"path": output.path, "task_family": output.family, "present": output.present, "size": output.size}

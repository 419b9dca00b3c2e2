"""List the outputs of a task, and of what it needs or of what was made from it.

One line an output: whether it is there, its size, the task class, its address. --downstream follows the records found
in the store, beside the task's own outputs, and in --in PATH_OR_URL. Without MODULE TASK, all outputs with records in
the store and in --in PATH_OR_URL are listed; --tag leaves those whose task had the tag.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import json_option, print_json, shortened, table
from superluigi.cli._parser import Parser, UsageError
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import Part, from_here, say

if TYPE_CHECKING:
    from superluigi.tasks.deletion import Output

EXAMPLE = """superluigi ls pipeline PredictionsTask --date 2013-12-15 --upstream
superluigi ls --tag lr=.1 --tag optimizer=adam"""


def configure(parser: Parser) -> None:
    """The task and which outputs."""
    task_arguments(parser)
    for action in parser._actions:
        if action.dest in ("module", "task"):
            action.nargs = "?"
    selection(parser)
    parser.add_argument(
        "--tag", dest="tags", action="append", default=[], metavar="NAME=VALUE", help="only those with this tag"
    )
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the outputs; always 0."""
    from superluigi.tasks.runtime import tags

    wanted = tags.parse(args.tags)
    if args.module and not args.task:
        raise UsageError(f"superluigi ls: what is {args.module!r} for? Say MODULE TASK, or neither.")
    if args.task:
        found = [output for output in selected(args) if not wanted or tags.match(_tags_of(output.source), wanted)]
    else:
        found = list(_recorded(args, wanted))
    if args.json:
        print_json([as_json(output) for output in found])
        return 0
    show(found)
    if not found:
        which = "with these tags" if wanted else "of this task" if args.task else "with a record"
        say(f"no output {which}", err=True)
    return 0


def selection(parser: Parser) -> None:
    """Add `--upstream`, `--downstream` and `--in`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--upstream", action="store_true", help="also of every task that it needs")
    which.add_argument("--downstream", action="store_true", help="also what was made from it")
    parser.add_argument(
        "--in",
        dest="addresses",
        action="append",
        default=[],
        metavar="PATH_OR_URL",
        help="where else to look for records",
    )


def selected(args: argparse.Namespace) -> list[Output]:
    """The outputs that the command line means."""
    from superluigi.tasks import deletion

    task: Any = task_of(args)
    if args.downstream:
        places = sorted(map(from_here, deletion.places_of_records(task, args.addresses)))
        say(f"what was made from it is looked for in {', '.join(places)}; --in names other places", err=True)
        return deletion.downstream_of(task, args.addresses)
    return deletion.outputs_of(deletion.upstream_of(task) if args.upstream else [task])


def _tags_of(output: Any) -> object:
    """The tags in the record of a target or location."""
    from superluigi.lineage.records.record_io import validate

    read = getattr(output, "read_metadata", None) or output.read_record
    record = read() if output.exists() else None
    return validate(record or {}).get("run", {}).get("tags")


def _recorded(args: argparse.Namespace, wanted: dict[str, str]) -> Iterator[Output]:
    """Outputs by their records, in the store and at the addresses named."""
    import os

    from superluigi.lineage.records import listing
    from superluigi.tasks.deletion import Output, store
    from superluigi.tasks.runtime import tags

    home = store()
    given = [*([home] if "://" in home or os.path.isdir(home) else []), *args.addresses]
    seen: set[str] = set()
    for address in (address for start in given for address in listing.record_addresses(start)):
        record = None if address in seen else listing.read_record_file(address)
        seen.add(address)
        if record is not None and tags.match((record.get("run") or {}).get("tags"), wanted):
            output = record.get("output") or {}
            yield Output(str(output.get("path")), str(record.get("task_family")), True, output.get("size"), None)


def show(outputs: Sequence[Output], *, whole: bool = False, err: bool = False) -> None:
    """Print a table of outputs; `whole`: with their whole addresses."""
    if outputs:
        every = [output.path for output in outputs]
        header, paths = ("output", every) if whole else shortened(every)
        rows: list[list[Part]] = [
            [("present", "green") if output.present else ("absent", "grey"), _size(output), output.family, path]
            for output, path in zip(outputs, paths, strict=True)
        ]
        table(["state", "bytes", "task", header], rows, right=[1], err=err)


def _size(output: Output) -> str:
    return "-" if not output.present else "?" if output.size is None else f"{output.size:,}"


def as_json(output: Output) -> dict[str, object]:
    """One output for scripts."""
    return {"path": output.path, "task_family": output.family, "present": output.present, "size": output.size}

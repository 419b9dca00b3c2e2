"""Show where an output comes from: the record of each ancestor, from files alone.

Follows the links in the records from an output back to its sources, each ancestor once, and marks those
that are missing, or not what their consumer read any more. With --diff, tells what differs between the
histories of two outputs: parameters, code, inputs, packages.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import line, named, print_json
from superluigi.cli._parser import Parser
from superluigi.errors import OptionError
from superluigi.terminal import below_branch, from_here, say

if TYPE_CHECKING:
    from superluigi.lineage.records.trace import Trace

EXAMPLE = """
superluigi lineage out/predictions-2013-12-15.csv
superluigi lineage s3://flights/predictions-2013-12-15.csv --html lineage.html
superluigi lineage --diff out/predictions-v1.csv out/predictions-v2.csv
"""
_STYLES = {"ok": "green", "changed": "yellow", "missing": "red", "external": "magenta", "unreadable": "red"}


def configure(parser: Parser) -> None:
    """One output, or two to compare; a form to print or save."""
    parser.add_argument("address", metavar="PATH|s3://…", nargs="?", help="the output that is asked about")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="what differs between the histories of A and B")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document for scripts")
    form.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    form.add_argument("--openlineage", action="store_true", help="print OpenLineage events, one JSON line each")
    form.add_argument("--html", metavar="FILE", help="write a page with the graph, the records, a timeline")
    form.add_argument("--svg", metavar="FILE", help="write a picture")


def main(args: argparse.Namespace) -> int:
    """Print or save it; 1 when there is no such output."""
    if args.diff is not None:
        if args.address is not None:
            raise OptionError("--diff A B compares two outputs; leave the third out.")
        return _diff(args)
    if args.address is None:
        raise OptionError("Which output? Give its path or s3:// address, or --diff A B.")
    if args.openlineage:
        return _openlineage(args.address)
    from superluigi.lineage.records.trace import trace

    found = trace(args.address)
    if args.json:
        print_json(found.as_json())
    elif args.mermaid or args.html or args.svg:
        _picture(found, args)
    else:
        for prefix, text, state, note in tree(found):
            said = f": {note}" if note else ""
            line(prefix, text, (f"  {state}", _STYLES[state]), said, indent=f"{below_branch(prefix)}  ")
    return 0


def _picture(found: Trace, args: argparse.Namespace) -> None:
    from superluigi.visuals.build import of_trace
    from superluigi.visuals.figure import Figure

    picture = Figure(of_trace(found))
    if args.mermaid:
        say(picture.mermaid, end="")
    else:
        say(picture.save(args.html or args.svg))


def tree(found: Trace) -> Iterator[tuple[str, str, str, str]]:
    """Lines of the tree: the branches before it, the output, its state, and a note, which says what checks found; what
    was shown before is only named.
    """
    from superluigi.lineage.records.check_results import findings_in, summary

    shown: set[str] = set()
    waiting: list[tuple[str, str, str]] = [(found.root, "", "")]
    while waiting:
        address, prefix, branch = waiting.pop()
        again = address in shown and bool(found.inputs.get(address))
        shown.add(address)
        text = f"{_described(found.nodes[address])}{from_here(address)}{' (see above)' if again else ''}"
        said = (found.notes.get(address, ""), summary(findings_in(found.nodes[address])))
        yield prefix + branch, text, found.states[address], "; ".join(filter(None, said))
        inputs = [] if again else found.inputs.get(address, [])
        inner = prefix + below_branch(branch)
        children = [(one, inner, "└── " if one == inputs[-1] else "├── ") for one in inputs]
        waiting.extend(reversed(children))


def _described(record: dict[str, Any]) -> str:
    if "schema" not in record or "task_family" not in record:
        return ""
    return f"{named({'params': None, **record})}  "


def _openlineage(address: str) -> int:
    from superluigi.lineage.openlineage.events import to_openlineage

    for event in to_openlineage(address):
        print_json(event, indent=None)
    return 0


def _diff(args: argparse.Namespace) -> int:
    if args.mermaid or args.openlineage or args.html or args.svg:
        raise OptionError("--diff prints text, or JSON with --json.")
    from superluigi.lineage.staleness.diff import diff

    found = diff(*args.diff)
    if args.json:
        print_json([one.as_json() for one in found])
        return 0
    for one in found:
        say(one)
    if not found:
        say("no difference: same parameters, code, packages and inputs")
    return 0

"""Re-read outputs against their records.

Every byte is read. Reports each output as ok, changed, missing (a record without its data), without record,
or half-committed (left by a writer that died; reading the output or running its task again repairs it); and as
external what others made, an output there has read, and has not changed since. Exit code 1 if anything else is found
than ok and external.
"""

from __future__ import annotations

import argparse

from superluigi.cli._output import json_option, line, print_json, shortened, table
from superluigi.cli._parser import Parser
from superluigi.terminal import Part

EXAMPLE = """
superluigi verify out/
superluigi verify s3://flights/predictions/ --quiet
"""
_STYLES = {
    "ok": "green",
    "external": "magenta",
    "changed": "red",
    "missing": "red",
    "without record": "yellow",
    "half-committed": "yellow",
}


def configure(parser: Parser) -> None:
    """One output, or a folder or prefix of them."""
    parser.add_argument("address", metavar="PATH|s3://…", help="an output, or a folder or prefix that holds outputs")
    parser.add_argument("--quiet", action="store_true", help="show only what is not ok")
    parser.add_argument(
        "--allow-without-record", action="store_true", help="data without a record is no reason for exit code 1"
    )
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the findings; 1 if anything is wrong."""
    from superluigi.lineage.verification.findings import WITHOUT_RECORD
    from superluigi.lineage.verification.local import verify

    found = verify(args.address)
    wrong = [one for one in found if not one.ok and not (args.allow_without_record and one.state == WITHOUT_RECORD)]
    if args.json:
        print_json([one.as_json() for one in found if not (args.quiet and one.ok)])
        return 1 if wrong else 0
    shown = [one for one in found if not (args.quiet and one.ok)]
    header, paths = shortened([str(one.path) for one in shown])
    detail = ["detail"] if any(one.detail for one in shown) else []
    rows: list[list[Part]] = [
        [(one.state, _STYLES[one.state]), path, *([one.detail] if detail else [])]
        for one, path in zip(shown, paths, strict=True)
    ]
    if rows:
        table(["state", header, *detail], rows)
    counts = {state: sum(one.state == state for one in found) for state in _STYLES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    line((told or f"no outputs in {args.address}", "bold"))
    return 1 if wrong else 0

"""Look at what checks have rejected: list, show, clear.

Rejected outputs are kept in `<workspace>/quarantine`, one folder for each attempt, with the findings and the record
that they would have had. `show` prints one (its path, or a part of it; by default the latest); `clear` removes all,
those that are named, or those older than --older-than days. The settings quarantine_limit_bytes and quarantine_days
bound what is kept by itself.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from superluigi.cli import _output
from superluigi.cli._parser import Parser, span
from superluigi.terminal import say

if TYPE_CHECKING:
    from superluigi.checks.quarantine import QuarantinedOutput

EXAMPLE = """
superluigi quarantine list
superluigi quarantine show FeaturesTask
superluigi quarantine clear --older-than 7
"""


def configure(parser: Parser) -> None:
    """What to do, and with which of them."""
    parser.add_argument("action", choices=("list", "show", "clear"), help="what to do")
    parser.add_argument("which", metavar="WHICH", nargs="*", help="a path, or a part of it: family, task hash, attempt")
    parser.add_argument("--older-than", type=span("days"), metavar="DAYS", help="clear: only what was kept for so long")
    _output.yes_option(parser)
    _output.json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Do it; 1 when nothing is meant by the words, or it was not agreed to."""
    from superluigi.checks import quarantine
    from superluigi.errors import TargetMissingError

    found = quarantine.entries()
    if unknown := [word for word in args.which if not any(_matches(one, word) for one in found)]:
        raise TargetMissingError(
            f"Nothing in {quarantine.root()} is called {' or '.join(unknown)}. `superluigi quarantine list` shows all."
        )
    found = [one for one in found if not args.which or any(_matches(one, word) for word in args.which)]
    if args.older_than is not None:
        found = [one for one in found if time.time() - one.kept > args.older_than * 86_400]
    if args.action == "list":
        return _list(found, args.json)
    if args.action == "show":
        return _show(found[-1:], args.json)
    return _clear(found, args)


def _matches(one: QuarantinedOutput, word: str) -> bool:
    parts = (str(one.path),) if "/" in word else (one.family, one.task_hash, one.attempt)
    return any(word in part for part in parts)


def _list(found: list[QuarantinedOutput], as_json: bool) -> int:
    from superluigi.checks import quarantine
    from superluigi.cli.cache import human

    if as_json:
        _output.print_json([one.as_json() for one in found])
        return 0
    root = os.path.join(quarantine.root(), "")
    rows = [
        [time.strftime("%Y-%m-%d %H:%M", time.localtime(one.kept)), human(one.size), str(one.path).removeprefix(root)]
        for one in found
    ]
    if rows:
        _output.table(["since", "size", f"entry (in {root})"], rows, right=[1])
    else:
        say("nothing is in quarantine")
    return 0


def _show(found: list[QuarantinedOutput], as_json: bool) -> int:
    from superluigi.lineage.records.check_results import findings_in

    if as_json:
        _output.print_json([one.as_json() for one in found])
        return 0
    for one in found:
        params = one.about.get("params")
        shown = ", ".join(f"{name}={value}" for name, value in params.items()) if isinstance(params, dict) else ""
        _output.line((f"{one.family}({shown})", "bold"))
        for finding in findings_in(one.about):
            style = "green" if finding["status"] == "passed" else "red" if finding["severity"] == "error" else "yellow"
            first, *rest = str(finding.get("detail") or "").splitlines() or [""]
            _output.line((f"{finding['status']:<8}", style), f"{finding['name']}{': ' if first else ''}{first}")
            for text in rest:
                _output.line(f"          {text}")
        for path in sorted(one.path.glob("output/*/*")):
            _output.line(f"{path}")
        _output.line(f"{one.path / 'record.json'}")
    if not found:
        say("nothing is in quarantine")
    return 0


def _clear(found: list[QuarantinedOutput], args: argparse.Namespace) -> int:
    from superluigi.checks import quarantine
    from superluigi.cli.cache import human

    size = human(sum(one.size for one in found))
    noun = "entry" if len(found) == 1 else "entries"
    paths = [one.path for one in found]
    if found and not _output.confirmed(f"remove {len(found)} {noun} ({size})", yes=args.yes, items=paths):
        return 1
    gone = quarantine.remove(found)
    if args.json:
        _output.print_json([str(one.path) for one in gone])
    else:
        say(f"removed {len(gone)} {noun} ({size})" if found else "nothing is in quarantine")
    return 0 if len(gone) == len(found) else 1

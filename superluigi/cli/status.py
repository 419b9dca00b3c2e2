"""Show a task and all it needs as a tree, with the state of each.

States: complete, stale (there, but would not be made like this today), missing, failed (missing, and its last
attempt failed), external. Nothing is run. A task that was shown before is named, not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from superluigi.cli._output import json_option, line, print_json
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of

EXAMPLE = "superluigi status pipeline PredictionsTask --date 2013-12-15"
_LOOKS = {
    "complete": ("✓", "green"),
    "stale": ("↻", "yellow"),
    "missing": ("○", "grey"),
    "failed": ("✕", "red"),
    "external": ("◇", "magenta"),
}


def configure(parser: Parser) -> None:
    """The task."""
    task_arguments(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the tree and how many tasks are in which state; always 0."""
    task = task_of(args)
    from superluigi.lineage.staleness.explaining import why
    from superluigi.visuals import tree
    from superluigi.visuals.attempts import last_failures

    explained = why(task)
    failures = last_failures(one.task for one in explained if one.state == "missing")
    told = [{**one.as_json(), **_failed(failures.get(one.task_id))} for one in explained]
    if args.json:
        print_json(told)
        return 0
    by_id = {one["task_id"]: one for one in told}
    for prefix, one, again in tree.lines(by_id, explained[-1].task_id):
        sign, style = _LOOKS[one["state"]]
        params = ", ".join(f"{name}={value}" for name, value in one["params"].items())
        end = " (see above)" if again else _told(one)
        line(prefix, (f"{sign} {one['state']:<9}", style), f"{one['task_family']}({params})", (end, "grey"))
    counts = {state: sum(one["state"] == state for one in told) for state in _LOOKS}
    line((", ".join(f"{count} {state}" for state, count in counts.items() if count), "bold"))
    return 0


def _failed(why: str | None) -> dict[str, str]:
    return {} if why is None else {"state": "failed", "detail": why}


def _told(one: Mapping[str, Any]) -> str:
    if one["state"] == "failed":
        return f"  {one['detail']}"
    return f"  {one['reason']}: {one['detail']}" if one["state"] == "stale" else ""

"""Show a task and all it needs as a tree, with the state of each.

States: complete, stale (there, but would not be made like this today), missing, failed (missing, and its last
attempt failed), running (another process makes it now: where, and since when), external. Nothing is run. A task that
was shown before is named, not repeated. A graph of more than 50 tasks is told by families, with what failed, unless
--all is given; --stale lists what is not complete, at most 100 tasks unless --all is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import MANY, NAMED, all_option, families, first_of, json_option, line, named, print_json
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import below_branch

if TYPE_CHECKING:
    from superluigi.lineage.staleness.why import Explanation

EXAMPLE = "superluigi status pipeline PredictionsTask --date 2013-12-15"
_LOOKS = {
    "complete": ("✓", "green"),
    "stale": ("↻", "yellow"),
    "missing": ("○", "grey"),
    "failed": ("✕", "red"),
    "running": ("▶", "cyan"),
    "external": ("◇", "magenta"),
}
#: Below the name of a task.
_INDENT = " " * 11


def configure(parser: Parser) -> None:
    """The task."""
    task_arguments(parser)
    all_option(parser)
    parser.add_argument("--stale", action="store_true", help="list what is not complete, instead of the tree")
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the tree and how many tasks are in which state; always 0."""
    task = task_of(args)
    from superluigi.lineage.staleness.why import why
    from superluigi.visuals.attempts import last_failures

    explained = why(task)
    failures = last_failures(one.task for one in explained if one.state == "missing")
    told = [
        {**one.as_json(), **((one.state != "complete" and _running(one)) or _failed(failures.get(one.task_id)))}
        for one in explained
    ]
    if args.stale:
        told = [one for one in told if one["state"] not in ("complete", "external")]
    if args.json:
        print_json(told)
        return 0
    if args.stale:
        _list(first_of(told, args.all))
        line((f"{len(told)} of {len(explained)} tasks are not complete", "bold"))
        return 0
    if len(told) > MANY and not args.all:
        _by_family(told)
    else:
        _tree(told)
    counts = {state: sum(one["state"] == state for one in told) for state in _LOOKS}
    line((", ".join(f"{count} {state}" for state, count in counts.items() if count), "bold"))
    return 0


def _by_family(told: Sequence[Mapping[str, Any]]) -> None:
    families(((one["task_family"], one["state"]) for one in reversed(told)), {k: v[1] for k, v in _LOOKS.items()})
    bad = [one for one in told if one["state"] in ("failed", "stale")]
    _list(bad[:NAMED])
    more = f"{len(bad) - NAMED} more; " if len(bad) > NAMED else ""
    line((f"{more}--stale lists what is not complete, --all shows each task", "grey"))


def _list(told: Iterable[Mapping[str, Any]]) -> None:
    for one in told:
        sign, style = _LOOKS[one["state"]]
        line((f"{sign} {one['state']:<9}", style), named(one), (_told(one), "grey"), indent=_INDENT)


def _tree(told: Sequence[Mapping[str, Any]]) -> None:
    from superluigi.visuals import tree

    by_id = {one["task_id"]: one for one in told}
    for prefix, one, again in tree.lines(by_id, told[-1]["task_id"]):
        sign, style = _LOOKS[one["state"]]
        end = " (see above)" if again else _told(one)
        line(
            prefix,
            (f"{sign} {one['state']:<9}", style),
            named(one),
            (end, "grey"),
            indent=below_branch(prefix) + _INDENT,
        )


def _running(one: Explanation) -> dict[str, str]:
    from superluigi import graph
    from superluigi.runs.context import current

    ask = graph.written(one.task, "_superluigi_holder")
    holder = None if ask is None else ask(current())
    return {} if holder is None else {"state": "running", "detail": str(holder)}


def _failed(why: str | None) -> dict[str, str]:
    return {} if why is None else {"state": "failed", "detail": why}


def _told(one: Mapping[str, object]) -> str:
    if one["state"] in ("failed", "running"):
        return f"  {one['detail']}"
    return f"  {one['reason']}: {one['detail']}" if one["state"] == "stale" else ""

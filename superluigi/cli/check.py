"""Check what is there: the checks of a task, and with --upstream of all it requires, without running anything.

Each check is called over the output as it is now; it gets no `previous`, and nothing is written. Prints what each
found, with the first offending rows. Exit code 1 if a check of severity "error" fails, or, with --strict, any; also if
the task's own output is not there.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import json_option, line, print_json
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import task_arguments, task_of

if TYPE_CHECKING:
    import luigi

EXAMPLE = """
superluigi check pipeline FeaturesTask --date 2013-12-15
superluigi check pipeline PredictionsTask --date 2013-12-15 --upstream
"""
_STYLES = {"passed": "green", "warns": "yellow", "failed": "red", "error": "red", "missing": "magenta"}


def configure(parser: Parser) -> None:
    """The task, and how far to look."""
    task_arguments(parser)
    parser.add_argument("--upstream", action="store_true", help="check everything that it requires, too")
    parser.add_argument("--strict", action="store_true", help="exit with 1 also where a check fails that only warns")
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print what the checks found; 1 if one fails."""
    root = task_of(args)
    from superluigi import graph
    from superluigi.lineage.staleness import rebuild_tasks

    tasks = [task for task, _ in graph.walk([root], rebuild_tasks.requirements)] if args.upstream else [root]
    found = [told for told in map(_checked, tasks) if told is not None]
    if args.json:
        print_json(found)
    else:
        _print(found)
    return 1 if any(_is_bad(one, root.task_id, args.strict) for one in found) else 0


def _checked(task: luigi.Task) -> dict[str, object] | None:
    """What the checks of one task say of what is there; None if it has none."""
    import contextlib

    from superluigi import graph
    from superluigi.checks.definition import has_checks
    from superluigi.tasks import values
    from superluigi.tasks.checking import of_outputs

    if not has_checks(task):
        return None
    told: dict[str, object] = {"task_id": task.task_id, "task": str(task), "missing": [], "checks": []}
    targets = graph.flatten(task.output())
    told["missing"] = [str(target) for target in targets if not target.exists()]
    if not told["missing"]:
        read = getattr(targets[0], "read_metadata", None) if targets else None
        with contextlib.ExitStack() as stack:
            found, _ = of_outputs.of_published(task, values.Reader(stack), read() if read is not None else None)
        told["checks"] = [one.as_json() for one in found]
    return told


def _is_bad(told: dict[str, Any], root: str, strict: bool) -> bool:
    if told["missing"] and told["task_id"] == root:
        return True
    return any(one["status"] != "passed" and (strict or one["severity"] == "error") for one in told["checks"])


def _print(found: list[dict[str, Any]]) -> None:
    for told in found:
        for place in told["missing"]:
            line((f"{'missing':<8}", _STYLES["missing"]), f"{told['task']}: {place} is not there")
        for one in told["checks"]:
            word = "warns" if one["status"] != "passed" and one["severity"] == "warn" else one["status"]
            first, *rest = one["detail"].splitlines() or [""]
            line((f"{word:<8}", _STYLES[word]), f"{told['task']}: {one['name']}{': ' if first else ''}{first}")
            for text in rest:
                line(f"          {text}")
    count = sum(len(told["checks"]) for told in found)
    bad = sum(one["status"] != "passed" for told in found for one in told["checks"])
    line((f"{bad} of {count} checks failed" if count else "nothing was checked", "bold"))

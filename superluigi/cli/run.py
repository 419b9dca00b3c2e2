"""Run a task and everything it needs that is not there yet.

Prints Luigi's execution summary and where the outputs are. Exit code 0 when the task is complete,
1 when anything failed or the command names something that does not exist, 2 when the command line cannot be read.
"""

from __future__ import annotations

import argparse
from typing import Any

from superluigi.cli._parser import Parser, pair, whole
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.errors import OptionError
from superluigi.terminal import say

EXAMPLE = """
superluigi run pipeline PredictionsTask --date 2013-12-15 --version 4
superluigi run pipeline PredictionsTask --date 2013-12-15 --version 4 --force-upstream-to FeaturesTask
"""


def configure(parser: Parser) -> None:
    """Everything that `run_task` offers, as flags."""
    task_arguments(parser, store=False)  # has it below
    again = parser.add_argument_group("run again what is complete (at most one of these)")
    one = again.add_mutually_exclusive_group()
    one.add_argument("--force", action="store_true", help="the task itself")
    one.add_argument("--force-upstream", action="store_true", help="the task and everything it needs")
    one.add_argument(
        "--force-upstream-to",
        action="append",
        metavar="CLASS",
        help="every task on a path from the task up to CLASS (may be given several times)",
    )
    one.add_argument(
        "--force-downstream-of",
        action="append",
        metavar="CLASS",
        help="CLASS and everything that depends on it, up to the task (may be given several times)",
    )
    again.add_argument("--resume", action="store_true", help="go on with a forced run that failed half-way")
    again.add_argument(
        "--refresh",
        choices=("inputs", "code", "all"),
        help="what is stale: its inputs, its code, or anything changed since it was made",
    )
    where = parser.add_argument_group("where and how")
    where.add_argument("--workers", type=whole(1), default=1, metavar="N", help="tasks at once (default: 1)")
    where.add_argument("--executor", metavar="NAME", help="threads, processes, dask, or a tcp:// address of Dask")
    where.add_argument("--queue", metavar="NAME", help="submit to this durable queue, work on it, and wait")
    where.add_argument("--store", metavar="PATH_OR_URL", help="home of outputs without a place: a folder or s3://…")
    where.add_argument("--on-error", choices=("continue", "stop"), help="what happens after a failure")
    where.add_argument(
        "--limit",
        action="append",
        metavar="NAME=N",
        help="at most N tasks at once of a resource, class or channel, or so many per time (api=10/minute)",
    )
    where.add_argument("--resource", action="append", metavar="NAME=N", help="how many there are (default: 1 of each)")
    where.add_argument("--central-scheduler", action="store_true", help="ask luigid which task is next")
    where.add_argument("--local-output", action="store_true", help="return local copies of S3 outputs")
    where.add_argument("--force-local-download", action="store_true", help="fetch inputs again from S3")
    where.add_argument("--dry-run", action="store_true", help="show what would run, touch nothing")
    where.add_argument("--report", metavar="FILE", help="write a page about this run, also when it fails")
    where.add_argument("--quiet", action="store_true", help="print nothing but problems")
    where.add_argument("--raise-exception", action="store_true", help="end with the task's own traceback")


def main(args: argparse.Namespace) -> int:
    """Run it; the paths of its outputs are the last line on stdout."""
    task = task_of(args)
    from superluigi.task_runner import run_task

    _tell_of_exit_codes()
    run_task(task, **_options(args))
    return 0


def _tell_of_exit_codes() -> None:
    """Say that what was set for the exit codes of `luigi` is not obeyed here, where the codes mean one thing always."""
    from superluigi import config

    if "retcode" in config.raw_sections():
        say(
            "[retcode] of Luigi's configuration is for Luigi's own command. This one ends with 0 when the task is "
            "complete, 1 when something failed or is missing, 2 when the command line cannot be read.",
            err=True,
        )


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Only what was said, so that defaults stay where they are documented: at `run_task`."""
    return {
        name: value
        for name, value in {
            "config": getattr(args, "sections", None),
            "config_file": args.config,
            "num_workers": args.workers,
            "force": args.force,
            "force_upstream": args.force_upstream,
            "force_upstream_to_task_cls": args.force_upstream_to,
            "force_downstream_of": args.force_downstream_of,
            "resume": args.resume,
            "refresh": args.refresh,
            "executor": args.executor,
            "queue": args.queue,
            "store": args.store,
            "on_error": args.on_error,
            "rate_limits": _numbers("--limit", args.limit),
            "resources": _numbers("--resource", args.resource),
            "central_scheduler": args.central_scheduler,
            "local_output": args.local_output,
            "force_local_download": args.force_local_download,
            "dry_run": args.dry_run,
            "report_file": args.report,
            "quiet": args.quiet,
            "raise_exception": args.raise_exception,
        }.items()
        if value not in (None, False)
    }


def _numbers(flag: str, given: list[str] | None) -> dict[str, int | str] | None:
    """`["gpu=1", "api=10/minute"]` as `run_task` takes it."""
    if not given:
        return None
    found: dict[str, int | str] = {}
    for text in given:
        name, number = pair(flag, text, "NAME=N, such as gpu=1")
        if not name:
            raise OptionError(f"{flag} {text!r} has no name. Write it as gpu=1.")
        found[name] = int(number) if number.isdecimal() else number
    return found

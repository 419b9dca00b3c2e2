"""Submit graphs to a durable queue, run them anywhere, see and steer them.

A queue is named (a file in ~/.superluigi/queues), or the path of a SQLite file, or postgresql://host/database.
Looking imports none of your code. `kill` and `delete` list what they would do and do it with --force.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superluigi.cli import _output
from superluigi.cli._output import console, json_option, print_json
from superluigi.cli._parser import Parser, UsageError, finite, pair, span, whole
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.errors import OptionError, QueueError, QueueGoneError
from superluigi.setting_texts import without_passwords
from superluigi.terminal import Part, columns, line, say, write

if TYPE_CHECKING:
    from superluigi.queue.api import Queue
    from superluigi.queue.models import TaskRow
    from superluigi.runs.report import Report

EXAMPLE = """
superluigi queue submit pi pi_tasks EchoTask --draws 20
superluigi queue spawn pi --workers 4 --detach
superluigi queue tasks pi --state FAILED --log
superluigi queue kill pi --name 'Draw*' --force
"""
_STATES = ("WAITING", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "KILLED", "BLOCKED")
_COLOURS = {"SUCCEEDED": "green", "RUNNING": "cyan", "FAILED": "red", "KILLED": "red", "BLOCKED": "yellow"}


def configure(parser: Parser) -> None:
    """One sub-command a verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=False, parser_class=Parser)
    parser.set_defaults(act=_which_verb)

    def verb(name: str, act: Callable[[argparse.Namespace], int], line: str, *, queue: bool = True) -> Parser:
        added = verbs.add_parser(name, help=line, description=line)
        added.set_defaults(act=act)
        if queue:
            added.add_argument("queue", metavar="QUEUE", help="name, path of a .sqlite file, or postgresql://…")
        return added

    listing = verb("list", _list, "list queues with their counts", queue=False)
    listing.add_argument("pattern", nargs="?", default="*", help="of names, such as 'pi*' or '*/*'; or one queue")
    json_option(listing)
    _configure_working(verb)
    _configure_looking(verb)
    _configure_steering(verb)


def _configure_working(verb: Callable[..., Parser]) -> None:
    submit = verb("submit", _submit, "add a task and all it requires; submitting again changes nothing that is done")
    task_arguments(submit, store=False)  # workers have their own
    submit.add_argument("--priority", type=finite(), help="over the tasks' own")
    submit.add_argument("--pool", help="over the tasks' own")
    submit.add_argument("--force", action="store_true", help="make the task again")
    submit.add_argument("--force-upstream", action="store_true", help="make it and everything it needs again")
    submit.add_argument("--force-upstream-to", action="append", metavar="CLASS", help="and all on a path to CLASS")
    submit.add_argument("--retry-failed", action="store_true", help="give failed tasks of this graph a fresh start")
    spawn = verb("spawn", _spawn, "start workers while there is work")
    spawn.add_argument("--workers", type=whole(1), metavar="N", help="at most so many of each pool")
    spawn.add_argument("--pool", action="append", metavar="POOL", help="only this pool (may be given several times)")
    spawn.add_argument("--detach", action="store_true", help="in the background; return at once")
    spawn.add_argument("--keep-alive", action="store_true", help="stay for what is submitted later")
    _timing_options(spawn)
    work = verb("work", _work, "be one worker, here, until nothing more can run")
    work.add_argument("--pool", default="default")
    work.add_argument("--idle", type=span("seconds"), metavar="SECONDS", help="end after so long without work instead")
    work.add_argument("--max-tasks", type=whole(), metavar="N")
    # A spawner's workers tell it only, and it looks at the tasks.
    work.add_argument("--spawned", action="store_true", help=argparse.SUPPRESS)
    _timing_options(work)


def _timing_options(parser: Parser) -> None:
    for name, told in (
        ("lease", "until a lost worker's task is given away"),
        ("recheck", "until a missing external task is looked for"),
    ):
        parser.add_argument(f"--{name}", type=span("seconds"), default=60.0, metavar="SECONDS", help=told)


def _configure_looking(verb: Callable[..., Parser]) -> None:
    tasks = verb("tasks", _tasks, "show tasks, in the order of submission")
    _which_options(tasks)
    tasks.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE")
    tasks.add_argument("--log", action="store_true", help="with what they printed, and their errors")
    json_option(tasks)
    times = verb("time", _time, "show how long tasks take, by family")
    json_option(times)
    top = verb("top", _top, "watch a queue live, until Ctrl-C")
    top.add_argument("--interval", type=span("seconds"), default=1.0, metavar="SECONDS")
    top.add_argument("--once", action="store_true", help="show it once")
    serve = verb("serve", _serve, "show Luigi's own web page over the queue")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=whole(0, 65535), default=8082, help="0: any free one")
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name of the page, as of a proxy"
    )


def _configure_steering(verb: Callable[..., Parser]) -> None:
    for name, act, told in (
        ("pause", _pause, "start nothing new; what runs goes on"),
        ("resume", _resume, "go on after a pause"),
    ):
        added = verb(name, act, told)
        added.add_argument("--pool", help="only this pool")
        if name == "resume":
            added.add_argument("--spawn", action="store_true", help="and start a manager in the background")
    _which_options(verb("retry", _retry, "give tasks a fresh start: those named, else the failed ones"))
    prune = verb("prune", _prune, "forget tasks that have ended; outputs stay, logs go")
    prune.add_argument("--older", type=span("days"), metavar="DAYS", help="those that ended longer ago")
    prune.add_argument("--keep", type=whole(), metavar="N", help="all but the latest N")
    kill = verb("kill", _kill, "kill tasks; they stay KILLED until retried")
    _which_options(kill)
    delete = verb("delete", _delete, "remove queues ('my_*': by pattern) with their logs; outputs stay")
    for added in (kill, delete):
        added.add_argument("--force", action="store_true", help="do it; without, only list")


def _which_options(parser: Parser) -> None:
    parser.add_argument("--state", choices=_STATES)
    parser.add_argument("--id", action="append", metavar="ID", help="may be given several times")
    parser.add_argument("--name", metavar="FAMILY", help="may hold * and ?")


def main(args: argparse.Namespace) -> int:
    """Carry out the verb."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


@contextmanager
def _opened(args: argparse.Namespace, name: str | None = None, **options: Any) -> Iterator[Queue]:
    from superluigi.queue.api import Queue

    options.setdefault("create", False)
    if hasattr(args, "lease"):
        options["lease"] = timedelta(seconds=args.lease)
        options["recheck"] = timedelta(seconds=args.recheck)
    with Queue(name or args.queue, **options) as queue:
        yield queue


def _which(args: argparse.Namespace) -> dict[str, Any]:
    return {"state": args.state, "name": args.name}


# --- working ----------------------------------------------------------------------------------------------


def _submit(args: argparse.Namespace) -> int:
    from superluigi.queue.api import submit_to
    from superluigi.queue.specs import SpecOptions

    queue, done = submit_to(
        args.queue,
        task_of(args),
        SpecOptions(pool=args.pool, priority=args.priority),
        force=args.force,
        force_upstream=args.force_upstream,
        force_upstream_to_task_cls=args.force_upstream_to,
        retry_failed=args.retry_failed,
    )
    queue.close()
    say(f"{len(done.added)} to run, {len(done.known)} known already, {len(done.done)} done")
    if done.stopped:
        say(f"{len(done.stopped)} failed or killed before stay so: superluigi queue retry", err=True)
    return 0


def _spawn(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        _say_paused(queue)
        began, clock = queue.now(), time.monotonic()
        queue.spawn(args.workers, pools=args.pool, detach=args.detach, keep_alive=args.keep_alive)
        if args.detach:
            return 0
        counts = queue.counts()
        _tell_ending(queue.report(began), time.monotonic() - clock)
    return 1 if counts["FAILED"] or counts["KILLED"] else 0


def _tell_ending(report: Report, seconds: float) -> None:
    from superluigi.visuals import summary_table

    for parts in summary_table.lines(report, seconds, columns(err=True)):
        line(*parts, err=True)


def _say_paused(queue: Queue) -> None:
    """Say on stderr that a queue, or some of its pools, starts nothing."""
    if said := queue.said_of_pause():
        say(said, err=True)


def _work(args: argparse.Namespace) -> int:
    # Not by `Queue`: a worker needs neither Luigi nor the user's code, only the processes that it starts do.
    from superluigi.queue.store.database import Database
    from superluigi.queue.workers.worker import Worker, WorkOptions, lease_seconds

    lease = lease_seconds(timedelta(seconds=args.lease))
    with closing(Database(args.queue, create=False)) as database:
        began, clock = database.now(exactly=True), time.monotonic()
        tells = not args.spawned
        worker = Worker(database, WorkOptions(args.pool, lease, args.idle, args.max_tasks, args.recheck, tells))
        if not args.spawned and worker.is_paused():
            say(
                f"pool {args.pool} is paused: `superluigi queue resume {without_passwords(args.queue)}` lets it go on",
                err=True,
            )
        worker.run()
        if tells:
            from superluigi.queue.feed import report_since

            with suppress(QueueGoneError):  # it was deleted meanwhile, which the worker has said
                _tell_ending(report_since(database, began), time.monotonic() - clock)
    return 1 if worker.failed and not args.spawned else 0


# --- looking ----------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    from superluigi.queue import api, lookup

    several = "://" not in args.pattern and not args.pattern.endswith(".sqlite")
    found = list(lookup.names(args.pattern)) if several else [(without_passwords(args.pattern), Path(args.pattern))]
    lines: list[dict[str, Any]] = []
    for name, path in found:
        address = str(path) if several else args.pattern
        try:
            with api.existing(address) as queue:
                paused = sorted(queue.paused_pools())
                lines.append({"name": name, "location": queue.location, "counts": queue.counts(), "paused": paused})
        except QueueError as error:  # one queue that cannot be read must not hide the others
            lines.append({"name": name, "location": without_passwords(address), "error": str(error)})
    if args.json:
        print_json(lines)
    elif lines:
        rows = [
            [str(line["name"]), str(line.get("error") or _counted(line["counts"])), ", ".join(line.get("paused", ()))]
            for line in lines
        ]
        _output.table(["queue", "tasks", "paused"], rows)
    else:
        say(f"no queue matches {args.pattern!r}", err=True)
    return 1 if any("error" in line for line in lines) else 0


def _counted(counts: Any) -> str:
    return " ".join(f"{state}:{number}" for state, number in counts.items() if number) or "empty"


def _tasks(args: argparse.Namespace) -> int:
    tags = dict(pair("--tag", text, "KEY=VALUE") for text in args.tag)
    with _opened(args) as queue:
        queue.require(*(args.id or ()))
        rows = queue.tasks(*(args.id or ()), **_which(args), tags=tags or None)
        if not args.json:
            _say_paused(queue)
    if args.json:
        print_json([row.as_json() for row in rows])
        return 0
    for part in [[row] for row in rows] if args.log else [rows]:
        _show(part)
        if args.log:
            _show_log(part[0])
    if not rows:
        said = args.state or args.name or args.id or args.tag
        say(f"no task in the queue {without_passwords(args.queue)}{' is so' if said else ''}", err=True)
    return 0


def _show(rows: Sequence[TaskRow]) -> None:
    """A table of tasks."""
    if rows:
        headers = ["state", "task", "tries", "seconds", "why"]
        _output.table(headers, [_cells(row) for row in rows], right=[2, 3])


def _cells(row: TaskRow) -> list[Part]:
    from superluigi.queue.failures import reason_of

    seconds = f"{(row.ended - row.started).total_seconds():.1f}" if row.ended and row.started else ""
    why = f"waits for {row.blocked_by}" if row.blocked_by else reason_of(row)
    return [(row.state, _COLOURS.get(row.state, "")), row.id, str(row.attempts), seconds, why]


def _show_log(row: TaskRow) -> None:
    if row.log:
        from superluigi.queue.models import stderr_of

        for file in map(Path, (row.log, stderr_of(row.log))):
            if file.is_file():
                for line in file.read_text(errors="replace").splitlines():
                    write(f"    | {_output.printed(line)}\n")
    for line in (row.error or "").splitlines():
        _output.line(f"    ! {line}")


def _time(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        times = queue.times()
    if args.json:
        keys = ("name", "attempts", "total_seconds", "mean_seconds", "longest_seconds")
        print_json([dict(zip(keys, line, strict=True)) for line in times])
        return 0
    rows = [
        [name, str(number), f"{total:.2f}", f"{mean:.4f}", f"{longest:.4f}"]
        for name, number, total, mean, longest in times
    ]
    if rows:
        _output.table(["family", "number", "total s", "mean s", "longest s"], rows, right=[1, 2, 3, 4])
    else:
        say(f"no task of the queue {without_passwords(args.queue)} has ended", err=True)
    return 0


def _top(args: argparse.Namespace) -> int:
    from superluigi.cli import _queue_top

    with _opened(args) as queue:
        _queue_top.show(queue, console(), interval=args.interval, once=args.once)
    return 0


def _serve(args: argparse.Namespace) -> int:
    from superluigi.queue import web

    with _opened(args) as queue:
        web.serve(
            queue, args.host, args.port,
            lambda address: say(f"{without_passwords(args.queue)} is at {address}", flush=True), args.allow_host,
        )  # fmt: skip
    return 0


# --- steering ---------------------------------------------------------------------------------------------


def _pause(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        queue.pause(args.pool)
    return 0


def _resume(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        queue.resume(args.pool, spawn=args.spawn)
    return 0


def _retry(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        number = queue.retry(*(args.id or ()), **_which(args))
        if _tell_unknown(queue, args):
            return 1
    say(f"to be tried again: {number}")
    return 0


def _kill(args: argparse.Namespace) -> int:
    with _opened(args) as queue:
        if not (args.id or args.state or args.name):
            raise OptionError("kill which tasks? Give --id, --state or --name ('*': all).")
        queue.require(*(args.id or ()))
        rows = [row for row in queue.tasks(*(args.id or ()), **_which(args)) if row.state not in _ENDED]
        _show(rows)
        if _tell_unknown(queue, args):
            return 1
        if not args.force:
            say(f"would kill {len(rows)} tasks; nothing done: add --force", err=True)
            return 1
        say(f"{queue.kill([row.id for row in rows]) if rows else 0} tasks killed, or told to end")
    return 0


def _tell_unknown(queue: Queue, args: argparse.Namespace) -> bool:
    """Whether no task has the name that was asked for; says which names there are."""
    if args.name is None or queue.tasks(name=args.name):
        return False
    names = sorted({row.name for row in queue.tasks()})
    shown, more = ", ".join(names[:_NAMED]) or "none at all", f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    say(
        f"no task is called {args.name!r} in the queue {without_passwords(args.queue)}; there are {shown}{more}",
        err=True,
    )
    return True


_NAMED = 20
_ENDED = ("SUCCEEDED", "FAILED", "KILLED")


def _prune(args: argparse.Namespace) -> int:
    if args.older is None and args.keep is None:
        raise UsageError("superluigi queue prune: which tasks? Give --older DAYS or --keep N.")
    older = None if args.older is None else timedelta(days=args.older)
    with _opened(args) as queue:
        say(f"{queue.prune(older_than=older, keep=args.keep)} tasks forgotten")
    return 0


def _delete(args: argparse.Namespace) -> int:
    from superluigi.queue import lookup

    names = _names(args.queue)
    if not names:
        there = ", ".join(name for name, _ in lookup.names()) or "none"
        say(f"no queue matches {without_passwords(args.queue)!r}; there are {there}", err=True)
        return 1
    failed = False
    for name in names:
        try:
            with _opened(args, name=name) as queue:
                say(f"{queue.location}  {_counted(queue.counts())}")
                if args.force:
                    queue.delete(force=True)
        except QueueError as error:  # one that cannot be read must not keep the others
            if len(names) == 1:
                raise
            failed = True
            say(f"{name}  {error}", err=True)
    if not args.force:
        what = "this queue and its logs" if len(names) == 1 else f"these {len(names)} queues and their logs"
        say(f"would delete {what}; nothing done: add --force", err=True)
        return 1
    return 1 if failed else 0


def _names(pattern: str) -> list[str]:
    """The queues that a name with `*`, `?` or `[` means; else that very name."""
    from superluigi.queue import lookup

    if "://" in pattern or pattern.endswith(".sqlite") or not any(sign in pattern for sign in "*?["):
        return [pattern]
    return [str(file) for _, file in lookup.names(pattern)]


def _which_verb(args: argparse.Namespace) -> int:
    raise UsageError(
        "superluigi queue: which verb? submit, spawn, work, tasks, time, top, serve, pause, resume, retry, kill, "
        "prune, delete, or list (which shows the queues there are). `superluigi queue --help` explains them."
    )

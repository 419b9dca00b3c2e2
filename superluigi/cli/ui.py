"""Show Luigi's own page about a run that is going on.

Serves Luigi's visualiser, on this machine only, over the scheduler inside a running process: the newest run of
yours, or the one that you name. When the run ends, the page says so and keeps its last state. Stops with Ctrl-C; the
run does not notice. Exit code 1 when no run is going on.
"""

from __future__ import annotations

import argparse
from typing import Any

from superluigi.cli._output import json_option, print_json
from superluigi.cli._parser import Parser, whole
from superluigi.errors import ExecutionError
from superluigi.terminal import say

EXAMPLE = """
superluigi ui
superluigi ui --list
superluigi ui --run 20131215T101500Z-1f2e3d4c --port 8090
"""


def configure(parser: Parser) -> None:
    """`--run`, `--port`, `--list`."""
    parser.add_argument("--run", metavar="ID", help="this run (default: the newest)")
    parser.add_argument("--port", type=whole(0, 65535), default=0, help="of 127.0.0.1 (default: a free one)")
    parser.add_argument("--list", action="store_true", help="name the runs that go on, and end")
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from superluigi.engine import status_socket

    views = status_socket.active_runs()
    if args.list or args.json:
        rows = [{"run": view.run_id, "pid": view.pid, "task": _task(view)} for view in views]
        if args.json:
            print_json(rows)
        else:
            say(
                "\n".join(f"{row['run']}  process {row['pid']:<7}  {row['task']}".rstrip() for row in rows)
                or "no run is going on"
            )
        return 0
    _serve(_chosen(views, args.run), args.port)
    return 0


def _chosen(views: list[Any], run_id: str | None) -> Any:
    fitting = [view for view in views if run_id in (None, view.run_id)]
    if fitting:
        return fitting[-1]
    if views:
        known = ", ".join(view.run_id for view in views)
        raise ExecutionError(f"No run {run_id} is going on. These are: {known}.")
    raise ExecutionError(
        "No run of yours is going on. Start one, and ask again while it runs. (A central luigid has this page itself, "
        "on its own port; a durable queue has `superluigi queue serve`.)"
    )


def _task(view: Any) -> str:
    """The task of a run; empty when it has just ended."""
    try:
        return str(view.about()["task"])
    except ExecutionError:
        return ""


def _serve(client: Any, port: int) -> None:
    import asyncio

    from superluigi.engine import visualiser
    from superluigi.engine.last_state import RunView

    view = RunView(client, lambda words: say(f"The run {words}; the page keeps its last state.", flush=True))

    def ready(address: str) -> None:
        root = address.removesuffix("static/visualiser/index.html")
        named = f"{task} (run {client.run_id})" if (task := _task(client)) else f"run {client.run_id}"
        say(f"{root} shows {named}; Ctrl-C ends this.", flush=True)

    asyncio.run(visualiser.serve(view, "127.0.0.1", port, ready))

"""`superluigi queue top`: a queue, live."""

from __future__ import annotations

import io
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from superluigi.terminal import visible, write

if TYPE_CHECKING:
    from rich.console import Console, Group

    from superluigi.queue.api import Queue

_ROWS = 15


def show(queue: Queue, screen: Console, *, interval: float, once: bool) -> None:
    """Show counts, what runs and what failed; again every `interval` seconds until Ctrl-C."""
    if once:
        shown = io.StringIO()
        screen.file = shown
        screen.print(_picture(queue))
        write(shown.getvalue())
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows few characters
    from rich.live import Live

    with Live(_picture(queue), console=screen, screen=screen.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(min(max(0.05, interval), 3600.0))
                live.update(_picture(queue), refresh=True)
        except KeyboardInterrupt:
            return


def _picture(queue: Queue) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from superluigi.queue.failures import reason_of
    from superluigi.setting_texts import without_passwords

    counts = queue.counts()
    total = sum(counts.values())
    done = counts["SUCCEEDED"]
    head = f"{without_passwords(queue.name)}  {datetime.now():%H:%M:%S}  {done} of {total} done  "
    head += "  ".join(f"{state} {number}" for state, number in counts.items() if number)
    if paused := queue.paused_pools():
        head += f"  paused: {', '.join(paused)}"
    table = Table(box=None, pad_edge=False)
    for column in ("state", "task", "seconds", "attempt", "worker / error"):
        table.add_column(column, no_wrap=True)
    for state in ("RUNNING", "FAILED", "KILLED"):
        for row in queue.tasks(state=state)[:_ROWS]:
            ended = row.ended or datetime.now(timezone.utc)
            seconds = f"{(ended - row.started).total_seconds():.1f}" if row.started else ""
            last = row.worker if state == "RUNNING" else reason_of(row)
            table.add_row(
                state, Text(visible(row.id)), seconds, str(row.attempts), Text(visible(last or "")),
            )  # fmt: skip
    return Group(Text(visible(head)), table)

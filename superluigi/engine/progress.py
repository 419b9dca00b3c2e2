"""Progress for people: live lines on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import html
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from luigi.task import Task
from luigi.task_status import DONE, FAILED, PENDING

from superluigi.execution.attempt import AttemptResult
from superluigi.execution.observer import Observer
from superluigi.runs import logs
from superluigi.terminal import in_notebook, say

#: More running tasks than this are counted, not listed.
LINES = 12
REFRESHES_PER_SECOND = 5
#: Between two looks at what a notebook shows.
NOTEBOOK_SECONDS = 0.3
#: Between two plain lines.
PLAIN_SECONDS = 5.0
NAME_WIDTH = 60
#: What would begin another line, or move the cursor.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass
class _Running:
    task: Task
    since: float = field(default_factory=time.monotonic)
    percentage: float | None = None
    message: str = ""

    @property
    def name(self) -> str:
        """What a line shows; only asked for where there are lines."""
        return _short(str(self.task))


class Counter(Observer):
    """Counts, and which tasks run now."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.running: dict[str, _Running] = {}
        self.done = 0
        self.complete = 0
        self.failed: set[str] = set()
        self.began = time.monotonic()

    def scheduled(self, task: Task, status: str) -> None:
        if status == PENDING:
            self.waiting.add(task.task_id)
        elif status == DONE:
            self.complete += 1

    def started(self, task: Task) -> None:
        self.waiting.discard(task.task_id)
        self.running[task.task_id] = _Running(task)

    def ended(self, task: Task, status: str, outcome: AttemptResult) -> None:
        self.running.pop(task.task_id, None)
        if status == DONE:
            self.done += 1
            self.failed.discard(task.task_id)
        elif status == FAILED:
            self.failed.add(task.task_id)
        else:
            self.waiting.add(task.task_id)

    def progressed(self, task_id: str, percentage: float | None, message: str | None) -> None:
        running = self.running.get(task_id)
        if running is not None:
            running.percentage = running.percentage if percentage is None else percentage
            running.message = running.message if message is None else message

    def total(self) -> int:
        return self.done + len(self.failed) + len(self.running) + len(self.waiting)

    def seconds_left(self) -> float | None:
        """By the pace so far; None before anything has ended."""
        if not self.done:
            return None
        pace = (time.monotonic() - self.began) / self.done
        return pace * (len(self.waiting) + len(self.running))

    def line(self) -> str:
        """All counts in one line."""
        parts = [f"{self.done} of {self.total()} done", f"{len(self.running)} running"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{self.complete} were complete"] if self.complete else []
        left = self.seconds_left()
        parts += [f"about {_duration(left)} left"] if left else []
        return ", ".join(parts)


class Plain(Counter):
    """A line every few seconds, to stderr when somebody asked for progress, else to Luigi's log."""

    def __init__(self, aloud: bool) -> None:
        super().__init__()
        self._aloud = aloud
        self._said = time.monotonic()

    def ended(self, task: Task, status: str, outcome: AttemptResult) -> None:
        super().ended(task, status, outcome)
        if time.monotonic() - self._said >= PLAIN_SECONDS:
            self.say()

    def say(self) -> None:
        self._said = time.monotonic()
        if self._aloud:
            say(self.line(), err=True, flush=True)
        else:
            logs.logger.info(self.line())


class Live(Counter):
    """What rich draws: one line for each running task, however long its name, and a bar for all."""

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shown = list(self.running.values())[:LINES]
        width = min(max((cell_len(one.name) for one in shown), default=0), options.max_width // 2)
        for running in shown:
            told = "" if running.percentage is None else f"{running.percentage:.0f} %"
            elapsed = _duration(time.monotonic() - running.since)
            yield _one_line(
                ("▶ ", "green"),
                _cut(running.name, width),
                (f" {elapsed:>7}", "dim"),
                f" {told:>5} {_CONTROL.sub(' ', running.message)}",
            )
        more = len(self.running) - LINES
        if more > 0:
            yield Text(f"… and {more} more", "dim")
        said = self.line()
        bar = max(5, min(40, options.max_width - len(said) - 2))
        total = Table.grid(padding=(0, 1))
        total.add_row(
            ProgressBar(total=max(1, self.total()), completed=self.done + len(self.failed), width=bar),
            Text(said, "red" if self.failed else "", no_wrap=True, overflow="ellipsis"),
        )
        yield total


def _one_line(*parts: Any) -> Any:
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis", end="\n")


def _cut(name: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(name, width) if cell_len(name) <= width else f"{set_cell_size(name, width - 1)}…"


class Displayed(Counter):
    """One display below a notebook's cell, which is replaced as the run goes on."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        super().__init__()
        self._handle = DisplayHandle()
        self._ended = threading.Event()
        self._lock = threading.Lock()  # while it draws, tasks begin and end
        self._thread = threading.Thread(target=self._follow, name="superluigi-display", daemon=True)

    def __enter__(self) -> Displayed:
        self._handle.display(self._content(), raw=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._handle.update(self._content(), raw=True)

    def scheduled(self, task: Task, status: str) -> None:
        with self._lock:
            super().scheduled(task, status)

    def started(self, task: Task) -> None:
        with self._lock:
            super().started(task)

    def ended(self, task: Task, status: str, outcome: AttemptResult) -> None:
        with self._lock:
            super().ended(task, status, outcome)

    def _follow(self) -> None:
        before: dict[str, str] = {}
        while not self._ended.wait(NOTEBOOK_SECONDS):
            content = self._content()
            if content != before:
                self._handle.update(content, raw=True)
                before = content

    def _content(self) -> dict[str, str]:
        with self._lock:
            running = list(self.running.values())
            said, done, failed, total = self.line(), self.done, len(self.failed), max(1, self.total())
        texts = [f"{said}"]
        rows = []
        for one in running[:LINES]:
            told = "" if one.percentage is None else f"{one.percentage:.0f} % "
            elapsed = _duration(time.monotonic() - one.since)
            message = _CONTROL.sub(" ", one.message)
            texts.append(f"  {one.name}  {elapsed} {told}{message}".rstrip())
            rows.append(
                f"<tr><td style='text-align:left'>{html.escape(one.name)}</td><td>{elapsed}</td>"
                f"<td style='text-align:left'>{html.escape(told + message)}</td></tr>"
            )
        if len(running) > LINES:
            texts.append(f"  and {len(running) - LINES} more")
            rows.append(f"<tr><td colspan=3 style='text-align:left'>and {len(running) - LINES} more</td></tr>")
        colour = "#c62828" if failed else "#2e7d32"
        bar = (
            "<div style='background:rgba(128,128,128,.25);border-radius:3px;height:8px;max-width:480px'>"
            f"<div style='background:{colour};border-radius:3px;height:8px;width:{100 * (done + failed) / total:.1f}%'>"
            "</div></div>"
        )
        table = f"<table>{''.join(rows)}</table>" if rows else ""
        page = f"<div class='superluigi-progress'>{bar}<div>{html.escape(said)}</div>{table}</div>"
        return {"text/plain": "\n".join(texts), "text/html": page}


@contextlib.contextmanager
def shown(progress: bool | None) -> Iterator[Observer]:
    """The observer for `progress`: None shows it on a terminal and in a notebook, True always, False never."""
    if progress is False:
        yield Observer()
        return
    if in_notebook():
        with Displayed() as displayed:
            yield displayed
        return
    if not sys.stderr.isatty():
        plain = Plain(aloud=progress is True)
        yield plain
        if progress:
            plain.say()
        return
    from rich.console import Console
    from rich.live import Live as Display

    live = Live()
    with Display(live, console=Console(stderr=True), refresh_per_second=REFRESHES_PER_SECOND, transient=True):
        yield live


def _short(name: str) -> str:
    name = _CONTROL.sub(" ", name)
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

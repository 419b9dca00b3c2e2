"""Progress to look at: live lines on a terminal, a plain line a minute elsewhere."""

from __future__ import annotations

import contextlib
import html
import sys
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luigi.task import Task
from luigi.task_status import DONE, FAILED, PENDING

from superluigi.execution.attempt import AttemptResult
from superluigi.execution.observer import Observer
from superluigi.terminal import in_notebook, is_terminal, say, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: More running tasks than this are counted, not listed.
LINES = 12
REFRESHES_PER_SECOND = 5
#: Between two looks at what a notebook shows.
NOTEBOOK_SECONDS = 0.3
#: Between two plain lines: of those who asked for progress, and of all others.
ASKED_SECONDS, PLAIN_SECONDS = 5.0, 60.0
NAME_WIDTH = 100
#: Columns of elapsed time, time left and percentage, with the blanks before them.
_TIMES = 8 + 9 + 6


@dataclass
class _Running:
    task: Task
    since: float
    percentage: float | None = None
    #: What it says of itself, as it can be shown in a line.
    message: str = ""

    @property
    def name(self) -> str:
        """What a line shows; only asked for where there are lines."""
        return visible(self.task, one_line=True)

    def elapsed(self) -> float:
        return time.monotonic() - self.since


@dataclass
class _Pace:
    """How long finished tasks took."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def mean(self) -> float | None:
        return self.seconds / self.count if self.count else None


class Counter(Observer):
    """Counts, which tasks run now, and how long those of a family take."""

    def __init__(self) -> None:
        #: Id → family.
        self.waiting: dict[str, str] = {}
        self.running: dict[str, _Running] = {}
        self.done = 0
        self.complete = 0
        self.failed: set[str] = set()
        self.began = time.monotonic()
        self._paces: dict[str, _Pace] = {}
        self._all = _Pace()
        self._at_once = 1

    def scheduled(self, task: Task, status: str) -> None:
        if status == PENDING:
            self.waiting[task.task_id] = type(task).__name__
        elif status == DONE:
            self.complete += 1

    def started(self, task: Task) -> None:
        self.waiting.pop(task.task_id, None)
        self.running[task.task_id] = _Running(task, time.monotonic())
        self._at_once = max(self._at_once, len(self.running))

    def ended(self, task: Task, status: str, outcome: AttemptResult) -> None:
        running = self.running.pop(task.task_id, None)
        if status == DONE:
            self.done += 1
            self.failed.discard(task.task_id)
            if running is not None:
                for pace in (self._paces.setdefault(type(task).__name__, _Pace()), self._all):
                    pace.add(running.elapsed())
        elif status == FAILED:
            self.failed.add(task.task_id)
        else:
            self.waiting[task.task_id] = type(task).__name__

    def progressed(self, task_id: str, percentage: float | None, message: str | None) -> None:
        running = self.running.get(task_id)
        if running is not None:
            if isinstance(percentage, (int, float)):  # Luigi hands on whatever a task says
                running.percentage = percentage
            running.message = running.message if message is None else visible(message, one_line=True)

    def total(self) -> int:
        return self.done + len(self.failed) + len(self.running) + len(self.waiting)

    def left_of(self, running: _Running) -> float | None:
        """Of one task: by the progress that it reports, else by finished ones of its family; None if neither tells."""
        elapsed = running.elapsed()
        if running.percentage is not None and 0.001 < running.percentage <= 100:
            return elapsed * (100 - running.percentage) / running.percentage
        pace = self._paces.get(type(running.task).__name__)
        mean = pace.mean() if pace is not None else None
        return None if mean is None else max(0.0, mean - elapsed)

    def seconds_left(self) -> float | None:
        """Of all tasks, as many at once as there have been; None before anything tells how long one takes."""
        running = list(self.running.values())
        known = [self.left_of(one) for one in running]
        paces = self._paces
        mean = self._all.mean()
        if mean is None:  # nothing has ended: what runs and reports is all that is known
            told = [one.elapsed() + left for one, left in zip(running, known, strict=True) if left is not None]
            if not told:
                return None
            mean = sum(told) / len(told)
        lefts = [
            max(0.0, mean - one.elapsed()) if left is None else left for one, left in zip(running, known, strict=True)
        ]
        work = sum(lefts)
        for family, count in Tally(list(self.waiting.values())).items():
            own = paces[family].mean() if family in paces else None
            work += count * (mean if own is None else own)
        return max([work / self._at_once, *lefts])

    def counts(self) -> str:
        """How many are done, run, failed."""
        parts = [f"{self.done} of {self.total()} done", f"{len(self.running)} running"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{self.complete} were complete"] if self.complete else []
        return ", ".join(parts)

    def line(self) -> str:
        """Counts, elapsed time and time left in one line."""
        left = self.seconds_left()
        said = f"{self.counts()}, {_duration(time.monotonic() - self.began)} so far"
        return f"{said}, about {_duration(left)} left" if left else said


class Plain(Counter):
    """A line on stderr each time that `every` seconds have passed, also while one long task runs."""

    def __init__(self, every: float) -> None:
        super().__init__()
        self._every = every
        self._waited: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="superluigi-progress", daemon=True)

    def __enter__(self) -> Plain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(self._every):
            self.say()

    def waits(self, task: Task, told: str) -> None:
        now = time.monotonic()
        if self._waited is None or now - self._waited >= self._every:  # of many, one now and then
            self._waited = now
            with contextlib.suppress(OSError, ValueError):
                say(f"{task} is {told}", err=True, flush=True)

    def say(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the other end is closed
            say(self.line(), err=True, flush=True)


class Live(Counter):
    """What rich draws: one line for each running task, however long its name, and a bar for all.

    Elapsed times, times left and percentages stand below each other.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The cells of each line that was drawn last.
        self.drawn: list[int] = []

    def __rich_console__(self, console: object, options: Any) -> Iterator[Any]:
        from rich.text import Text

        shown = list(self.running.values())[:LINES]
        width = options.max_width
        said = self.counts()
        times = _TIMES if width >= 2 * _TIMES else 0
        messages = min(30, width // 4) if times and any(one.message for one in shown) else 0
        room = width - times - messages - 2
        names = [_cut_middle(one.name, min(NAME_WIDTH, room)) for one in shown]
        column = min(max([_cells(name) for name in names] + [len(said) + 12], default=0), max(1, width - times - 2))
        lines = []
        for name, running in zip(names, shown, strict=True):
            line = Text.assemble(("▶ ", "green"), _padded(name, column))
            if times:
                told = "" if running.percentage is None else f"{running.percentage:.0f} %"
                line.append(_times(running.elapsed(), self.left_of(running)), "dim")
                line.append(f"{told:>6}")
                if running.message and width - line.cell_len > 8:
                    line.append(f" {running.message}")
            lines.append(line)
        more = len(self.running) - LINES
        if more > 0:
            lines.append(Text(f"… and {more} more", "dim"))
        lines.append(self._total(said, column + 2, times))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            line.truncate(width)
        self.drawn = [line.cell_len for line in lines]
        yield from lines

    def _total(self, said: str, column: int, times: int) -> Text:
        from rich.text import Text

        width = max(5, min(40, column - len(said) - 1))
        full = round(width * (self.done + len(self.failed)) / max(1, self.total()))
        colour = "red" if self.failed else "green"
        line = Text.assemble(("━" * full, colour), ("━" * (width - full), "bright_black"), " ", (said, colour))
        if times:
            line.pad_right(max(0, column - line.cell_len))
            line.append(_times(time.monotonic() - self.began, self.seconds_left()), "dim")
        return line


def _times(elapsed: float, left: float | None) -> str:
    return f"{_duration(elapsed):>8}{'' if left is None else f'~{_duration(left)}':>9}"


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _padded(name: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(name, width)


def _cut_middle(name: str, width: int) -> str:
    """`name` in at most `width` cells: the ends of its parameters tell tasks of a family apart."""
    from rich.cells import set_cell_size

    if _cells(name) <= width:
        return name
    if width < 8:
        return set_cell_size(name, max(0, width))
    tail = name[-((width - 1) // 3) :]
    while _cells(tail) > (width - 1) // 3:
        tail = tail[1:]
    return f"{set_cell_size(name, width - 1 - _cells(tail))}…{tail}"


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
            if self.complete and not self.total():
                said, done = f"nothing to do: {self.complete} complete", 1
        texts = [f"{said}"]
        rows = []
        for one in running[:LINES]:
            told = "" if one.percentage is None else f"{one.percentage:.0f} % "
            elapsed = _duration(time.monotonic() - one.since)
            texts.append(f"  {one.name}  {elapsed} {told}{one.message}".rstrip())
            rows.append(
                f"<tr><td style='text-align:left'>{html.escape(one.name)}</td><td>{elapsed}</td>"
                f"<td style='text-align:left'>{html.escape(told + one.message)}</td></tr>"
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
    """The observer for `progress`: None shows it on a terminal and in a notebook, and a line a minute elsewhere."""
    if progress is False:
        yield Observer()
        return
    if in_notebook():
        with Displayed() as displayed:
            yield displayed
        return
    if not is_terminal(sys.stderr):
        with Plain(ASKED_SECONDS if progress else PLAIN_SECONDS) as plain:
            yield plain
        if progress:
            plain.say()
        return
    from rich.console import Console

    live = Live()
    with _display(live, Console(stderr=True)):
        yield live


def _display(live: Live, console: Console) -> Any:
    """rich's display, which leaves nothing behind where a narrower terminal has broken its lines."""
    from rich.control import Control
    from rich.live import Live as Display
    from rich.segment import ControlType

    class Resized(Display):
        width = console.width

        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            before, self.width = self.width, console.width
            rows = [-(-cells // self.width) for cells in live.drawn if cells] if self.width < before else []
            more = sum(rows) - len(rows)
            up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * more
            erased = [Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up)] if more > 0 else []
            return [*erased, *super().process_renderables(renderables)]

    return Resized(live, console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

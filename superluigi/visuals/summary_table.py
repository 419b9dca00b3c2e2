"""The end of a run: what failed, why, where its log is, what waits for it; how many ended how, and the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from superluigi.runs.report import BLOCKED_NAMED, WORDS, Failure, Report, grouped, said, shortened
from superluigi.terminal import Part, wrapped

_ORDER = (
    "ran", "complete", "failed", "cancelled", "ended", "scheduling failed", "disabled", "missing", "blocked", "not run",
)  # fmt: skip
_STYLES = {
    "ran": "green", "complete": "green", "failed": "red", "cancelled": "red", "scheduling failed": "red",
    "missing": "magenta", "blocked": "yellow", "ended": "yellow", "disabled": "yellow", "not run": "yellow",
}  # fmt: skip
#: So many groups of failures are told, and so many tasks of each.
_GROUPS, _ALIKE = 10, 3


def lines(
    report: Report, seconds: float, width: int | None = None, *, failures: bool = True
) -> Iterator[Sequence[Part]]:
    """The lines, as parts for `terminal.line`, where they may be `width` wide; without `failures` the last one only."""
    durations = {one.task_id: one.duration for one in report.failed_attempts}
    groups = grouped(report.failures) if failures else []
    for group in groups[:_GROUPS]:
        for failure in group[:_ALIKE]:
            yield from _failure(failure, durations.get(failure.task_id), width)
        if len(group) > _ALIKE:
            yield [(f"  and {len(group) - _ALIKE} more {group[0].family} with {type(group[0].error).__name__}", "red")]
        yield from _blocked(group, report, width)
    if len(groups) > _GROUPS:
        yield [(f"and {sum(map(len, groups[_GROUPS:]))} more", "red")]
    counts = report.counts()
    words = [*(word for word in _ORDER if word in counts), *(word for word in counts if word not in _ORDER)]
    parts: list[Part] = [("✓ ", "green") if report.success else ("✕ ", "red")]
    for word in words:
        parts += [(f"{counts[word]:,} {word}", _STYLES.get(word, "")), ", "]
    yield [*parts[:-1], f" in {duration(seconds)}"] if words else ["nothing to do"]


def _failure(failure: Failure, took: float | None, width: int | None) -> Iterator[Sequence[Part]]:
    tries = f" after {failure.attempts} attempts" if failure.attempts > 1 else ""
    time = f" after {duration(took)}" if took is not None and not tries and failure.kind == "failed" else ""
    reason = shortened(said(failure.error).partition("\n")[0], 300)
    first, *rest = wrapped(
        f"✕ {shortened(failure.task, 300)} {WORDS[failure.kind]}{tries}{time}: {reason}", width, "  "
    )
    yield [("✕ ", "red"), first[2:]]
    yield from ([line] for line in rest)
    if failure.log_file:
        yield [("  log     ", "grey"), failure.log_file]


def _blocked(group: Sequence[Failure], report: Report, width: int | None) -> Iterator[Sequence[Part]]:
    ids = {failure.task_id for failure in group}
    held = [task for task, by in report.blocked.items() if not ids.isdisjoint(by)]
    if held:
        more = f" and {len(held) - BLOCKED_NAMED:,} more" if len(held) > BLOCKED_NAMED else ""
        named = ", ".join(shortened(report.names.get(task, task), 300) for task in held[:BLOCKED_NAMED])
        first, *rest = wrapped(f"  blocks  {named}{more}", width, " " * 10)
        yield [("  blocks  ", "yellow"), first[10:]]
        yield from ([line] for line in rest)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

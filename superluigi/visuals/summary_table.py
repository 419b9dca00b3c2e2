"""The short table at the end of a run: how many tasks ended how, and what failed, why, and where its log is."""

from __future__ import annotations

from superluigi.runs.report import Failure, Report

_ORDER = (
    "ran", "complete", "failed", "cancelled", "ended", "scheduling failed", "disabled", "missing", "blocked", "not run",
)  # fmt: skip
_SHOWN = 10


def table(report: Report) -> str:
    """Lines of `word  count`; below `failed` and `missing` each such task with its reason and the file of its log."""
    counts = report.counts()
    words = [*(word for word in _ORDER if word in counts), *(word for word in counts if word not in _ORDER)]
    width = max(map(len, words), default=0)
    digits = max((len(str(count)) for count in counts.values()), default=0)
    lines = []
    for word in words:
        lines.append(f"{word:<{width}}  {counts[word]:>{digits}}")
        told = [one for one in report.failures if report.outcomes.get(one.task_id) == word]
        for failure in told[:_SHOWN]:
            lines += _lines(failure)
        if len(told) > _SHOWN:
            lines.append(f"    and {len(told) - _SHOWN} more")
    return "\n".join(lines)


def _lines(failure: Failure) -> list[str]:
    reason = str(failure.error).strip().partition("\n")[0]
    first = f"    {failure.task}: {type(failure.error).__name__}{': ' if reason else ''}{reason}"
    log = failure.log_file or _log_file(failure)
    return [first, f"        log: {log}"] if log else [first]


def _log_file(failure: Failure) -> str:
    from superluigi.visuals.attempts import log_file  # late: it knows where tasks have their folders

    if failure.instance is None:
        return ""
    return log_file(failure.instance)

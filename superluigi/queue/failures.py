"""Rows that failed, as the failures and exceptions that a run without a queue would have given."""

from __future__ import annotations

from dataclasses import replace

from superluigi.errors import (
    CheckFailedError,
    RemoteError,
    TargetMissingError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from superluigi.queue import models
from superluigi.queue.models import TaskRow
from superluigi.runs.report import Failure

#: How a traceback tells it; the rest of the text is its message.
_CHECK_FAILED = f"{CheckFailedError.__module__}.{CheckFailedError.__qualname__}: "


def failure_of(row: TaskRow) -> Failure:
    """The failure that a failed or killed row, or a missing external one, stands for."""
    return replace(_explained(row), log_file=row.log or "")


def _explained(row: TaskRow) -> Failure:
    words = (row.error or "").strip()
    last = words.splitlines()[-1] if words else f"{row.state}"
    shown = f"{row.name}({', '.join(f'{name}={value}' for name, value in row.params.items())})"
    if row.external and row.state == models.WAITING:
        return Failure(row.id, shown, "missing", TargetMissingError(f"{last}. Provide it, or check its parameters."))
    kind, error = "failed", RemoteError(last, words)
    if row.state == models.KILLED:
        return Failure(row.id, shown, kind, TaskCancelledError(last), attempts=row.attempts)
    _, told, message = words.rpartition(_CHECK_FAILED)
    if told:
        return Failure(row.id, shown, kind, CheckFailedError(message), traceback=words, attempts=row.attempts)
    first = words.splitlines()[0] if words else ""
    if first.startswith("The task took longer"):
        return Failure(row.id, shown, "timeout", TaskTimeoutError(first), attempts=row.attempts)
    if first.startswith(("The process that ran the task died", "The worker ")):
        return Failure(row.id, shown, "lost", WorkerLostError(words), attempts=row.attempts)
    return Failure(row.id, shown, kind, error, traceback=words, attempts=row.attempts)

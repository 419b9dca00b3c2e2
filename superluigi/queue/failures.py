"""Rows that failed, as the failures and exceptions that a run without a queue would have given."""

from __future__ import annotations

import os
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
from superluigi.runs import tracebacks
from superluigi.runs.report import Failure

#: How a traceback tells it; the rest of the text is its message.
_CHECK_FAILED = f"{CheckFailedError.__module__}.{CheckFailedError.__qualname__}: "


def shown_as(row: TaskRow) -> str:
    """The task as Luigi prints it."""
    return f"{row.name}({', '.join(f'{name}={value}' for name, value in row.params.items())})"


def failure_of(row: TaskRow) -> Failure:
    """The failure that a failed or killed row, or a missing external one, stands for."""
    return replace(_explained(row), log_file=_log_of(row))


def _log_of(row: TaskRow) -> str:
    """The file that tells most: what went to stderr, the traceback too; else what went to stdout."""
    for file in (models.stderr_of(row.log), row.log) if row.log else ():
        if os.path.exists(file) and os.path.getsize(file):
            return file
    return row.log or ""


def reason_of(row: TaskRow) -> str:
    """The first line of the error with which a failed or killed row ended; "" of any other."""
    ended = row.state in (models.FAILED, models.KILLED)
    return _error_in((row.error or "").strip()).partition("\n")[0] if ended else ""


def _error_in(words: str) -> str:
    """Class and message of the error that a traceback ends with, without the module before it."""
    told = words[tracebacks.end_of_frames(words) :].strip()
    kind, colon, message = told.partition(":")
    return f"{kind.rpartition('.')[2]}{colon}{message}" if kind.replace(".", "").isidentifier() else told


def _explained(row: TaskRow) -> Failure:
    words = (row.error or "").strip()
    last = _error_in(words) or row.state
    shown = shown_as(row)
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

"""Forgetting: rows of tasks that ended long ago, or that are too many, with their attempts and logs.

The targets are the truth: what is forgotten here is still complete when it is asked for again. Nothing is forgotten of
a run of which anything may still happen, nor what an unfinished task is behind.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from superluigi.queue import models
from superluigi.queue.store import submit, tables
from superluigi.storage.local import copy

_T, _E, _A, _R = (table.name for table in (tables.tasks, tables.edges, tables.attempts, tables.runs))
_OF_TASKS, _OF_WORKERS = (".stdout.log", ".stderr.log"), (".log", ".out")
_ENDED = "('SUCCEEDED', 'FAILED', 'KILLED')"
_OLD = text(
    f"""
    SELECT t.id, COALESCE(t.ended, r.started) AS ended FROM {_T} t LEFT JOIN {_R} r ON r.id = t.run
    WHERE t.state IN {_ENDED}
    AND t.run NOT IN (SELECT o.run FROM {_T} o WHERE o.state NOT IN {_ENDED})
    AND NOT EXISTS (SELECT 1 FROM {_E} e JOIN {_T} d ON d.id = e.downstream
                    WHERE e.upstream = t.id AND d.state NOT IN {_ENDED})
    ORDER BY ended DESC, t.id DESC
    """
)


def prune(connection: Connection, *, before: float | None, keep: int | None) -> tuple[int, list[str]]:
    """Forget what ended before that time, and all but the latest `keep`; how many tasks, and the logs of them."""
    rows = [(row.id, row.ended or 0.0) for row in connection.execute(_OLD)]
    chosen = [
        row_id for index, (row_id, ended) in enumerate(rows)
        if (before is not None and ended < before) or (keep is not None and index >= keep)
    ]  # fmt: skip
    logs: list[str] = []
    for chunk in submit.chunks(chosen):
        ids = {"ids": list(chunk)}
        logs += [
            log for log in connection.execute(_in(f"SELECT log FROM {_A} WHERE task IN :ids"), ids).scalars() if log
        ]
        below = list(connection.execute(_in(f"SELECT downstream FROM {_E} WHERE upstream IN :ids"), ids).scalars())
        for statement in (
            f"DELETE FROM {_A} WHERE task IN :ids", f"DELETE FROM {_E} WHERE upstream IN :ids",
            f"DELETE FROM {_E} WHERE downstream IN :ids", f"DELETE FROM {_T} WHERE id IN :ids",
        ):  # fmt: skip
            connection.execute(_in(statement), ids)
        submit.recount(connection, sorted(set(below) - set(chunk)))
    if chosen:
        used = f"SELECT run FROM {_T} UNION SELECT rerun FROM {_T} WHERE rerun IS NOT NULL"
        connection.execute(text(f"DELETE FROM {_R} WHERE id NOT IN ({used})"))
        codes = tables.codes.name
        connection.execute(
            text(f"DELETE FROM {codes} WHERE digest NOT IN (SELECT code FROM {_T} WHERE code IS NOT NULL)")
        )
    return len(chosen), logs


def is_due(connection: Connection, now: float, interval_seconds: float) -> bool:
    """Whether the last look at all rows is long ago; asking counts as one: not every manager needs to look."""
    column = tables.meta.c
    last = connection.execute(select(column.value).where(column.key == "pruned")).scalar()
    if last is not None and float(last) > now - interval_seconds:
        return False
    connection.execute(tables.meta.delete().where(column.key == "pruned"))
    connection.execute(tables.meta.insert(), [{"key": "pruned", "value": str(now)}])
    return True


def _in(statement: str) -> Any:
    return text(statement).bindparams(bindparam("ids", expanding=True))


def remove_logs(logs: list[str], folder: Path) -> None:
    """Remove files of attempts, if they are where this queue puts them: a row describes, it does not command."""
    for log in logs:
        if os.path.abspath(log).startswith(f"{folder}{os.sep}") and log.endswith(".stdout.log"):
            for file in (log, models.stderr_of(log)):
                with contextlib.suppress(OSError):
                    os.unlink(file)


def remove_all_logs(folder: Path) -> None:
    """Remove what tasks and workers of one queue have printed; what else lies there, such as a queue's file, stays."""
    if folder.is_symlink():
        return
    with contextlib.suppress(OSError):
        for inner in copy.entries(str(folder)):
            if inner.is_dir(follow_symlinks=False):
                _remove_logs_in(inner.path, _OF_WORKERS if inner.name == "workers" else _OF_TASKS)
        os.rmdir(folder)


def _remove_logs_in(folder: str, endings: tuple[str, ...]) -> None:
    with contextlib.suppress(OSError):
        for entry in copy.entries(folder):
            if entry.name.endswith(endings):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        os.rmdir(folder)

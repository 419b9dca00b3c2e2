"""The last log lines of each attempt, kept for the report of what failed."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar

from superluigi.terminal import visible_record

#: Luigi's own logger: users who configured it keep what they have.
logger = logging.getLogger("luigi-interface")
logger.addFilter(visible_record)  # tasks' names and errors are in these lines, and terminals at their ends

LINES_KEPT = 20

_lines: ContextVar[deque[str] | None] = ContextVar("superluigi_log_lines", default=None)
_format = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _Keeper(logging.Handler):
    """Adds each record to the lines of the attempt that wrote it; prints nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = _lines.get()
        if lines is not None:
            try:
                lines.extend(_format.format(record).splitlines())
            except Exception:  # noqa: BLE001 - arguments that cannot be written, as with any other handler
                self.handleError(record)
        root = logging.getLogger()
        if root.handlers == [self] and logging.lastResort and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)  # as if we were not here: nobody else shows this record


_keeper = _Keeper()
_users = 0
_guard = threading.Lock()


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """While this is open, attempts of this process keep their last log lines."""
    global _users
    with _guard:
        _users += 1
        if _users == 1:
            logging.getLogger().addHandler(_keeper)
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                logging.getLogger().removeHandler(_keeper)


@contextlib.contextmanager
def captured(task_id: str) -> Iterator[deque[str]]:
    """The lines that this context logs while the block runs (the last `LINES_KEPT`)."""
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    token = _lines.set(lines)
    try:
        yield lines
    finally:
        _lines.reset(token)

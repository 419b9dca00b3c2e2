"""The last log lines of each attempt, kept for the report of what failed."""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from superluigi.errors import ConfigError
from superluigi.luigi_compat.configuration import value
from superluigi.terminal import in_notebook, visible_record

#: Luigi's own logger: users who configured it keep what they have.
logger = logging.getLogger("luigi-interface")
logger.addFilter(visible_record)  # tasks' names and errors are in these lines, and terminals at their ends

LINES_KEPT = 20

_lines: ContextVar[deque[str] | None] = ContextVar("superluigi_log_lines", default=None)
_format = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


_TOLD_BY_ERROR = "superluigi_told_by_error"


def tell_failure(text: str, *, final: bool) -> None:
    """Say that a task has failed, through Luigi's logger.

    Where nothing has set logging up a notebook shows a `final` failure only once, as the error that ends the cell.
    """
    logger.warning("%s", text, extra={_TOLD_BY_ERROR: final})


class _Keeper(logging.Handler):
    """Adds each record to the lines of the attempt that wrote it; prints nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = _lines.get()
        if lines is not None:
            try:
                lines.extend(_format.format(record).splitlines())
            except Exception:  # noqa: BLE001 - arguments that cannot be written, as with any other handler
                self.handleError(record)
        if getattr(record, _TOLD_BY_ERROR, False) and in_notebook():
            return  # the error that ends the cell tells it
        root = logging.getLogger()
        if root.handlers == [self] and logging.lastResort and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)  # as if we were not here: nothing else shows this record


class _Keeping:
    """Has the keeper stand among the handlers for as long as it has users."""

    def __init__(self) -> None:
        self._keeper = _Keeper()
        self._users = 0
        self._guard = threading.Lock()

    def begin(self) -> None:
        with self._guard:
            self._users += 1
            if self._users == 1:
                logging.getLogger().addHandler(self._keeper)

    def end(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                logging.getLogger().removeHandler(self._keeper)

    def stand_again(self) -> None:
        """After a new set-up of logging, which removes what stood there."""
        with self._guard:
            if self._users and self._keeper not in logging.getLogger().handlers:
                logging.getLogger().addHandler(self._keeper)


_keeping = _Keeping()


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """While this is open, attempts of this process keep their last log lines."""
    _keeping.begin()
    try:
        yield
    finally:
        _keeping.end()


class captured:  # noqa: N801 - used like a function, around every attempt
    """The lines that this context logs while the block runs (the last `LINES_KEPT`)."""

    def __enter__(self) -> deque[str]:
        lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._token = _lines.set(lines)
        return lines

    def __exit__(self, *exc_info: object) -> None:
        _lines.reset(self._token)


@contextlib.contextmanager
def as_told() -> Iterator[bool]:
    """Set logging up as Luigi's configuration says, and as `luigi` would; whether it says anything.

    `[core] logging_conf_file`, or a `[logging]` table of a TOML file, is for the process, as in Luigi, and read again
    only when it is another one. `[core] log_level` holds while the block runs. With `no_configure_logging` logging is
    left alone.

    Raises:
        ConfigError: the file is not there, or cannot be understood.
    """
    from luigi.configuration import get_config

    parser: Any = get_config()
    if value("core", "no_configure_logging", False, "boolean"):
        yield True
        return
    file = str(value("core", "logging_conf_file") or "")
    table = (getattr(parser, "data", None) or {}).get("logging")
    if file or table:
        _told.follow(file, table)
        yield True
        return
    level = str(value("core", "log_level") or "")
    if not level:
        yield False
        return
    with _at_level(level):
        yield True


class _Told:
    """What the process has been told last."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._guard = threading.Lock()

    def follow(self, file: str, table: object) -> None:
        key = (os.path.abspath(file) if file else "", repr(table))
        with self._guard:
            if key == self._last:
                return
            self._apply(file, table)
            self._last = key
        _keeping.stand_again()

    def _apply(self, file: str, table: object) -> None:
        if file and not os.path.exists(file):
            raise ConfigError(
                f"[core] logging_conf_file names {file}, which is not there (from {os.getcwd()}). Correct the path, or "
                "take the option out of Luigi's configuration."
            )
        try:
            if file:
                logging.config.fileConfig(file, disable_existing_loggers=False)
            else:
                from luigi.freezing import recursively_unfreeze

                logging.config.dictConfig(recursively_unfreeze(table))
        except Exception as error:
            what = f"[core] logging_conf_file, {file}," if file else "The table [logging] of Luigi's configuration"
            raise ConfigError(f"{what} cannot be used to set up logging: {error}") from error


_told = _Told()


@contextlib.contextmanager
def _at_level(name: str) -> Iterator[None]:
    """Luigi's own way to show its log: on stderr, from this level on."""
    if not isinstance(getattr(logging, name, None), int):
        raise ConfigError(f"[core] log_level is {name!r}. It may be NOTSET, DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    before, handler = logger.level, None
    logger.setLevel(name)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setLevel(name)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        if handler is not None:
            logger.removeHandler(handler)

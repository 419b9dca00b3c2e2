"""Connections to either kind of database: how a transaction begins and waits for the one writer; which still live."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from superluigi.errors import MissingDependencyError, QueueError
from superluigi.queue.store import tables
from superluigi.queue.store.database_errors import BUSY_TIMEOUT_SECONDS, DAMAGED, SQLITE_ADVICE


def make_engine(url: URL) -> Engine:
    """Connections to `url`, each of whose transactions begins as its options say: `superluigi_write`, `…_moment`."""
    if url.drivername == "sqlite":
        # what SQLAlchemy 2 does anyway, said for 1.4
        connect_args = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        engine = create_engine(url, connect_args=connect_args, poolclass=QueuePool, future=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        # The driver's own BEGIN would be a round trip more: `_begin_postgres` sends ours with the lock.
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
    except (ImportError, NoSuchModuleError) as error:  # SQLAlchemy 1.4 does not know this driver
        raise MissingDependencyError(
            "A queue in PostgreSQL needs psycopg and SQLAlchemy 2: pip install 'superluigi[postgres]'"
        ) from error
    event.listen(engine, "begin", _begin_postgres)
    event.listen(engine, "checkout", _ping_after_a_while)
    event.listen(engine, "checkin", _note_use)
    return engine


def switch_to_wal(path: Path) -> str:
    """The journal mode after asking for WAL; it stays with the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection:
                return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]).lower()
        except UnicodeDecodeError as error:  # what it says quotes the file
            raise QueueError(f"{path} cannot be opened as a queue: {error}. {DAMAGED}") from error
        except sqlite3.DatabaseError as error:
            # Two processes that switch the mode at once: SQLite answers "locked" here without waiting.
            if "locked" not in str(error) or time.monotonic() > deadline:
                known = ((kind, advice) for sign, kind, advice in SQLITE_ADVICE if sign in str(error))
                kind, advice = next(known, (QueueError, ""))
                raise kind(f"{path} cannot be opened as a queue: {error}. {advice}".strip()) from error
            time.sleep(0.01)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.execute("PRAGMA wal_autocheckpoint=4000")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("superluigi_write")
    cursor = connection.connection.cursor()
    if write:
        # After a power cut NORMAL may lose the latest commits, never the consistency.
        cursor.execute(f"PRAGMA synchronous={'FULL' if write == 'flush' else 'NORMAL'}")
        _become_the_writer(cursor)
    else:
        cursor.execute("BEGIN")
    cursor.close()


def _become_the_writer(cursor: Any) -> None:
    """BEGIN IMMEDIATE; a writer that must wait looks again soon: others write for a fraction of a millisecond.

    SQLite's own waiting sleeps 1 ms, then 2, 5, 10 … 100.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    nap = _WRITER_NAPS_SECONDS[0]
    cursor.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(nap)
            nap = min(1.5 * nap, _WRITER_NAPS_SECONDS[1])
    finally:
        cursor.execute(f"PRAGMA busy_timeout={round(BUSY_TIMEOUT_SECONDS * 1000)}")


#: Pauses of a writer that waits for its turn, growing from the first to the second.
_WRITER_NAPS_SECONDS = (0.00005, 0.005)


def _begin_postgres(connection: Connection) -> None:
    """One round trip for all that a transaction needs; who reads with one statement does without."""
    options = connection.get_execution_options()
    begin = ""
    if write := options.get("superluigi_write"):
        late = "" if write == "flush" else "SET LOCAL synchronous_commit TO OFF; "
        begin = f"BEGIN; {late}SELECT {LOCK}"
    elif options.get("superluigi_moment"):
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    if begin:
        cursor = connection.connection.cursor()
        cursor.execute(begin)
        cursor.close()


#: Who holds it is the only writer, until its transaction ends.
LOCK = f"pg_advisory_xact_lock(hashtext(current_schema() || '.{tables.tasks.name}'))"
#: A connection that was used so recently is believed to live: asking costs as much as a statement.
_FRESH_SECONDS = 1.0


def _note_use(_connection: object, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _ping_after_a_while(connection: Any, record: Any, _proxy: object) -> None:
    if time.monotonic() - record.info.get("used", time.monotonic()) < _FRESH_SECONDS:
        return
    try:
        connection.execute("")
    except Exception as error:
        raise DisconnectionError() from error


@contextlib.contextmanager
def as_sqlalchemy_raises(connection: Connection) -> Iterator[None]:
    """Give errors that come straight from the driver (`statement.Statement`, BEGIN) the face of all others."""
    driver: Any = getattr(connection.dialect, "loaded_dbapi", None) or connection.dialect.dbapi  # in 1.4 the latter
    try:
        yield
    except driver.Error as error:
        lost = connection.invalidated
        if not lost and connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, None):
            lost = True
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, driver.Error, connection_invalidated=lost, dialect=connection.dialect
        ) from error

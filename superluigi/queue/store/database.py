"""Transactions on the database of a queue: a SQLite file on a local disk, or PostgreSQL.

There is one writer at a time on both (`BEGIN IMMEDIATE`; an advisory lock), so that what a statement reads
still holds when the next one writes. Readers never wait and never make others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import func, inspect, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from superluigi import config
from superluigi.errors import OptionError, QueueError, QueueGoneError, QueueUnreachableError
from superluigi.queue.store import clock, tables
from superluigi.queue.store.connections import as_sqlalchemy_raises, make_engine, switch_to_wal
from superluigi.queue.store.database_errors import (
    DAMAGED,
    ELSE,
    HOW_TO_MAKE,
    RESTORED,
    not_kept,
    postgres_error,
    sqlite_error,
)
from superluigi.queue.store.queue_url import REMEDY, SUFFIX, refuse_namesake, require_local, storable_path, url_of
from superluigi.setting_texts import without_passwords

#: So many changes ago, at most, a copy was made that is told from what has become of the queue since.
_MARKS = 50
_CHANGES = tables.meta.c.key == "changes"
#: How long the server's clock is believed to run as fast as ours.
_TRUSTED_SECONDS = 5.0


class Database:
    """Transactions on one database; safe for threads, and after a fork.

    Whatever a database says is raised as one of ours, with advice, here and in `read` and `write`.

    Raises:
        QueueGoneError: it does not exist and `create` is False; or it was deleted meanwhile.
        QueueVersionError: its tables are newer than this program.
        QueueUnreachableError: it does not answer, is locked or is full: that may pass.
        QueueError: it cannot hold a queue; the message says why.
    """

    def __init__(self, name: str, *, create: bool = True) -> None:
        self.url = url_of(name)
        self.is_sqlite = self.url.drivername == "sqlite"
        self._engine: Engine | None = None
        self._closing: Callable[[], object]
        self._pid = 0
        #: What `now` adds to the seconds since the boot, and when (by these) the server was asked for it.
        self._anchor = 0.0
        self._asked = -math.inf
        #: Device and inode of the file.
        self._file: tuple[int, int] | None = None
        #: How many changes there were when this process looked last, and the mark of the latest.
        self._seen = 0, ""
        try:
            if self.path is not None and not create and _is_missing(self.path):  # to look for a queue makes no folder
                raise QueueGoneError(f"There is no queue {self.path}. {HOW_TO_MAKE}")
            with self._no_deletion():
                if self.is_sqlite:
                    self._open_file(create)
                with self.write() as connection:
                    if not create and tables.version_of(connection) is None:
                        raise QueueGoneError(f"There is no queue in {self.shown}. {HOW_TO_MAKE}")
                    tables.upgrade(connection)
                    self.look(connection)
                    if self.is_sqlite:
                        self._anchor = _anchored(connection)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a database server."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @property
    def logs(self) -> Path:
        """The folder with what tasks and workers print."""
        if self.path is not None:  # there may be a q.sqlite and a q.db
            return self.path.with_suffix(".logs") if self.path.suffix == SUFFIX else Path(f"{self.path}-logs")
        folder: Path = config.get("queue_dir")
        # Two servers may have databases of one name, and a file beside them; who deletes one must not take the others'.
        # So may two of its schemas (`options=-csearch_path=…`).
        parts = [self.url.host or "local", str(self.url.port or ""), self.url.database or ""]
        parts += [str(self.url.query["options"])] if "options" in self.url.query else []
        return storable_path(folder) / "postgresql" / f"{'-'.join(quote(part, safe='') for part in parts)}.logs"

    @property
    def shown(self) -> str:
        """What to call it in messages; hides a password."""
        return str(self.path) if self.is_sqlite else without_passwords(self.url.render_as_string(hide_password=False))

    def _open_file(self, create: bool) -> None:
        path = self.path
        if path is None:
            raise OptionError("A queue cannot live in memory: other processes must see it. Give it a name.")
        if _is_missing(path):
            if not create:  # deleted just now
                raise QueueGoneError(f"There is no queue {path}. {HOW_TO_MAKE}")
            refuse_namesake(path)
        elif not path.is_file():
            raise QueueError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: no queue can be there. {ELSE}")
        _refuse_to_lock_out(path)
        require_local(path.parent)
        mode = switch_to_wal(path)
        if mode != "wal":
            raise QueueError(f"{path}: SQLite's WAL mode does not work here (mode {mode}). {REMEDY}")

    @contextlib.contextmanager
    def _no_deletion(self, *, but_mine: bool = False) -> Iterator[None]:
        """This queue is not deleted meanwhile; with `but_mine`, it is not opened either.

        Else who opens it between the deletion of the tables and that of the file would submit to nowhere. The lock is
        on the folder: closing a file of the database would drop SQLite's own locks.
        """
        if self.path is None:
            yield
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise QueueError(
                f"The folder of the queue {self.path} cannot be used: {error.strerror}. Choose another one for queues "
                "(the setting queue_dir, or SUPERLUIGI_QUEUE_DIR), or give the path of a .sqlite file."
            ) from error
        try:
            with contextlib.suppress(OSError):  # a file system without such locks
                fcntl.flock(folder, fcntl.LOCK_EX if but_mine else fcntl.LOCK_SH)
            yield
        finally:
            os.close(folder)

    def _require_file(self) -> None:
        """Refuse to work on a file that has been removed, or has another one in its place."""
        if self.path is None:
            return
        found = _identity(self.path)
        if found is None or self._file not in (None, found):
            raise QueueGoneError(f"The queue {self.shown} is gone: its file was removed. {HOW_TO_MAKE}")
        self._file = found

    def _require_log(self, connection: Connection) -> None:
        """Refuse a connection whose write-ahead log has been removed: what it reads and writes no other one sees."""
        log, info = _identity(f"{self.path}-wal"), connection.info
        if info.get("log") not in (None, log):
            connection.invalidate()
            connection.close()
            raise QueueGoneError(f"The queue {self.shown} was replaced: its -wal file is another one now. {RESTORED}")
        info["log"] = log if info.get("used") else None  # it opens the log with its first statement
        info["used"] = True

    def look(self, connection: Connection) -> None:
        """See that the queue is what this process has seen, and what came since.

        Raises:
            QueueGoneError: an older copy is in its place.
        """
        count, marks = self._changes(connection)
        self._seen = count, marks[-1] if marks else ""

    @contextlib.contextmanager
    def change(self) -> Iterator[Connection]:
        """`write`, and count it as a change of the plan that an older copy of the queue lacks.

        Raises:
            QueueGoneError: as `look`.
        """
        with self.write() as connection:
            yield connection
            count, marks = self._changes(connection)
            count, marks = count + 1, [*marks[1 - _MARKS :], secrets.token_hex(3)]
            connection.execute(tables.meta.delete().where(_CHANGES))
            connection.execute(tables.meta.insert(), [{"key": "changes", "value": " ".join([str(count), *marks])}])
        self._seen = count, marks[-1]  # now: it might have been rolled back

    def _changes(self, connection: Connection) -> tuple[int, list[str]]:
        """How often the queue was submitted to and joined by workers, and marks of the last times."""
        with tables.as_stored("The number of changes"):
            text, *marks = str(connection.execute(select(tables.meta.c.value).where(_CHANGES)).scalar() or 0).split()
            count = int(text)
        seen, mark = self._seen
        since = count - seen
        if since < 0 or (since < len(marks) and marks[-1 - since] != mark):
            raise QueueGoneError(f"The queue {self.shown} was replaced by an older copy of itself. {RESTORED}")
        return count, marks

    def _connected(self) -> Connection:
        self._require_file()
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)  # the parent's connections are the parent's to close
            self._engine = make_engine(self.url)
            self._pid = os.getpid()
            # A queue that is not closed is closed with its last reference, by the process that opened it.
            self._closing = weakref.finalize(self, _dispose, self._engine, self._pid)
        connection = self._engine.connect()
        if self.is_sqlite:
            self._require_log(connection)
        return connection

    @contextlib.contextmanager
    def read(self, *, one_moment: bool = False) -> Iterator[Connection]:
        """A connection for reading; with `one_moment`, all that is read is of the same moment."""
        with self._explained(), self._connected() as connection:
            if one_moment:
                connection = connection.execution_options(superluigi_moment=True)
            with as_sqlalchemy_raises(connection):
                yield connection

    @contextlib.contextmanager
    def write(self, *, flush: bool = True) -> Iterator[Connection]:
        """A transaction that is the only writer of this queue; all or nothing.

        Without `flush`, a power cut or crash of the server may take it back, never a part of it: right for what
        workers say, since the targets tell what was done, and wrong for what users ask for.
        """
        with self._explained(), self._connected() as connection:
            connection = connection.execution_options(superluigi_write="flush" if flush else "fast")
            with as_sqlalchemy_raises(connection), connection.begin():
                yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """The one place where what a database says becomes an error of ours."""
        try:
            yield
        except DBAPIError as error:
            raise (sqlite_error if self.is_sqlite else postgres_error)(self.shown, error) from error
        except SQLAlchemyError as error:
            raise QueueUnreachableError(f"The queue {self.shown} cannot be reached: {error}") from error
        except (UnicodeEncodeError, OverflowError) as error:  # drivers say so before they ask the database
            raise QueueError(not_kept(self.shown, str(error))) from error
        except UnicodeDecodeError as error:
            raise QueueError(f"The queue {self.shown}: {error}. {DAMAGED}") from error

    def now(self, *, exactly: bool = False) -> float:
        """Seconds since the epoch by the clock that all workers share, which no step of this host's clock moves.

        For PostgreSQL that is the server's, asked again and again (`exactly`: just now). For SQLite it is the clock
        since the boot of the one host there is, ahead by what it was when a queue was first opened after the boot.
        """
        if self.is_sqlite:
            return self._anchor + clock.since_boot()
        before = clock.since_boot()
        if exactly or before > self._asked + _TRUSTED_SECONDS:
            with self.read() as connection:
                before = clock.since_boot()  # the connection may have had to be made
                there = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
                self._asked = clock.since_boot()
                self._anchor = there - (before + self._asked) / 2
        return self._anchor + clock.since_boot()

    def remove(self) -> None:
        """Remove the tables, and the file if there is one and nothing of others in it.

        A process that still has it open finds it gone.
        """
        with self._no_deletion(but_mine=True):
            with self.write() as connection:
                tables.metadata.drop_all(connection)
                others = self.is_sqlite and inspect(connection).get_table_names()
            self.close()
            if self.path is not None and not others:
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections of this process; the next use opens them again."""
        if self._engine is not None:
            self._closing()  # once only: what is closed is not kept until we go
        self._engine = None


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Device and inode of a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refuse_to_lock_out(path: Path) -> None:
    """Refuse to open a file that we may not write where SQLite would have to make its companions.

    They would be ours, so that who may write the file could do so no more.

    Raises:
        QueueError: says who can help.
    """
    real, effectively = path.resolve(), os.access in os.supports_effective_ids
    file, folder = (os.access(one, os.W_OK, effective_ids=effectively) for one in (real, real.parent))
    there = all(os.path.exists(f"{real}{suffix}") for suffix in ("-wal", "-shm"))
    if folder and not file and not there and real.exists():
        raise QueueError(
            f"You may not write {path}, and to look at it would leave files beside it that its owner could not write. "
            "Have its owner let you write it (`chmod`), or look while its workers run."
        )


def _is_missing(path: Path) -> bool:
    """Whether a file is not there; one that we may not ask for may be."""
    try:
        return not path.exists()
    except OSError:
        return False


def _anchored(connection: Connection) -> float:
    """What to add to the seconds since the boot, so that all who use this file have one clock.

    It is the same for all of one boot. After another one all leases are over, as are all who held them (of one host).
    """
    boot, namespace = clock.boot()
    stored = connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == "clock")).scalar()
    with tables.as_stored("The clock"):
        known: dict[str, Any] = json.loads(stored) if stored else {"boot": boot, "anchors": {}}
        if known["boot"] == boot and namespace in known["anchors"]:
            return float(known["anchors"][namespace])
    begin = time.time()
    if known["boot"] != boot:
        latest = connection.execute(select(func.max(tables.tasks.c.lease))).scalar()
        led = connection.execute(select(func.max(tables.spawners.c.lease))).scalar()
        begin = max([begin, *(lease + 1.0 for lease in (latest, led) if lease is not None)])
        known = {"boot": boot, "anchors": {}}
    anchor = known["anchors"][namespace] = begin - clock.since_boot()
    connection.execute(tables.meta.delete().where(tables.meta.c.key == "clock"))
    connection.execute(tables.meta.insert(), [{"key": "clock", "value": json.dumps(known)}])
    return float(anchor)


def _dispose(engine: Engine, pid: int) -> None:
    if pid == os.getpid():
        engine.dispose()

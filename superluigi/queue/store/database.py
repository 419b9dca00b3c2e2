"""Where a queue lives: a SQLite file on a local disk, or a PostgreSQL database; transactions on either.

There is one writer at a time on both (`BEGIN IMMEDIATE`; an advisory lock), so that what a statement reads
still holds when the next one writes. Readers never wait and never make others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import QueuePool

from superluigi import config
from superluigi.errors import (
    MissingDependencyError,
    OptionError,
    QueueError,
    QueueGoneError,
    QueueUnreachableError,
)
from superluigi.queue.store import clock, tables

#: How long a writer waits for the others; a submission of 100,000 tasks holds the lock for seconds.
BUSY_TIMEOUT_SECONDS = 120.0
SUFFIX = ".sqlite"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
#: Kinds of file system on which SQLite's WAL cannot work: its index is memory shared by processes of one host.
_NETWORK = frozenset(
    """nfs nfs4 cifs smb3 smbfs afs afpfs ceph lustre gpfs beegfs panfs pvfs2 orangefs glusterfs ocfs2 gfs2 9p
    davfs webdav fuse.sshfs fuse.glusterfs fuse.cephfs fuse.ceph-fuse fuse.s3fs fuse.rclone
    fuse.gcsfuse""".split()  # noqa: SIM905 twenty quoted names read worse
)


def url_of(name: str) -> URL:
    """The database that `name` means: a plain name, a path of a SQLite file, or a database URL.

    Raises:
        OptionError: it is none of these.
    """
    if name.startswith(_BY_VARIABLE):
        name = os.environ.get(name.removeprefix(_BY_VARIABLE), "")
    if "://" in name:
        try:
            url = make_url(name)
        except ArgumentError as error:
            raise OptionError(f"{name!r} is no database URL. Expected postgresql://host/database.") from error
        if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return url.set(drivername="postgresql+psycopg")
        if url.drivername == "sqlite" and url.database:
            return url.set(database=os.path.abspath(url.database))
        raise OptionError(f"Queues live in sqlite or postgresql databases, not in {url.drivername!r}.")
    if "\0" in name:
        raise OptionError(f"{name!r} holds a NUL character, which no name of a queue or path can.")
    if name.endswith(SUFFIX) and name != SUFFIX:
        return URL.create("sqlite", database=str(Path(name).expanduser().absolute()))
    return URL.create("sqlite", database=str(_named(name)))


def _named(name: str) -> Path:
    """The file of a queue by name: always inside the folder of queues.

    Raises:
        OptionError: it is no name.
    """
    parts = name.split("/")
    too_long = any(len(f"{part}{SUFFIX}-wal".encode(errors="replace")) > _LONGEST_NAME_BYTES for part in parts)
    if too_long or not _NAME.fullmatch(name) or any(part.startswith((".", "-")) for part in parts):
        shown = f"{name[:40]!r}…" if too_long else repr(name)
        raise OptionError(
            f"{shown} is no name of a queue. Use letters, digits, '_', '-', '.' (the first one a letter, a digit or "
            f"'_'), of at most some 200 bytes; or a path that ends in {SUFFIX}; or postgresql://host/database."
        )
    folder: Path = config.get("queue_dir")
    return folder / f"{name}{SUFFIX}"


#: What file systems take as one name.
_LONGEST_NAME_BYTES = 230


def _refuse_namesake(file: Path) -> None:
    """Refuse to make a queue whose name differs from another's only in case: on some disks they would be one.

    Raises:
        OptionError: there is such a queue.
    """
    with contextlib.suppress(OSError):
        for other in os.listdir(file.parent):
            if other.casefold() == file.name.casefold() and other != file.name:
                raise OptionError(
                    f"There is a queue {other.removesuffix(SUFFIX)!r} already, which differs from "
                    f"{file.name.removesuffix(SUFFIX)!r} in upper and lower case only. Use that one, or another name."
                )


def passed_on(name: str) -> str:
    """The name under which another process opens this queue; a password travels in the environment instead.

    Command lines can be read by everybody on the machine.
    """
    url = url_of(name)
    if url.drivername == "sqlite":
        file = str(url.database)
        return file if file.endswith(SUFFIX) else f"sqlite:///{file}"  # another suffix says no queue without it
    if url.password is None:
        return name
    os.environ[_VARIABLE] = name if "://" in name else os.environ[_VARIABLE]
    return f"{_BY_VARIABLE}{_VARIABLE}"


_VARIABLE = "SUPERLUIGI_QUEUE_URL"
_BY_VARIABLE = "env:"


def filesystem_of(path: Path, mounts: str) -> str:
    """The kind of the file system that `path` is on, by a table in the format of /proc/mounts (fstab(5))."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].encode().decode("unicode_escape")  # spaces are \040 there
        inside = path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= best:  # later lines cover earlier ones
            best, kind = len(point), fields[2]
    return kind


def require_local(path: Path) -> None:
    """Refuse folders on which SQLite cannot keep its promises.

    Raises:
        QueueError: `path` is on a network file system.
    """
    try:
        mounts = Path("/proc/mounts").read_text()
    except OSError:  # no /proc: the probe for WAL in `Database` must do
        return
    kind = filesystem_of(path.resolve(), mounts)
    if kind in _NETWORK:
        raise QueueError(f"{path} is on a network file system ({kind}). {_REMEDY}")


_REMEDY = (
    "SQLite cannot share a database between hosts. Either give the queue a PostgreSQL database: "
    "Queue('postgresql://host/database'), with pip install 'superluigi[postgres]'; or, for workers of this "
    "host only, a folder on a local disk: SUPERLUIGI_QUEUE_DIR=/local/folder."
)


class Database:
    """Transactions on one database; safe for threads, and after a fork.

    Whatever a database says is raised as one of ours, with advice, here and in `read` and `write`.

    Raises:
        QueueGoneError: it does not exist and `create` is False; or it was deleted meanwhile.
        QueueVersionError: its tables are newer than this program.
        QueueUnreachableError: it does not answer, is locked or has no room: that may pass.
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
        try:
            with self._no_deletion():
                if self.is_sqlite:
                    self._open_file(create)
                with self.write() as connection:
                    if not create and tables.version_of(connection) is None:
                        raise QueueGoneError(f"There is no queue in {self.shown}. {_HOW_TO_MAKE}")
                    tables.upgrade(connection)
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
        if self.path is not None:
            return self.path.with_suffix(".logs")
        folder: Path = config.get("queue_dir")
        # Two servers may have databases of one name, and a file beside them; who deletes one must not take the others'.
        parts = (self.url.host or "local", str(self.url.port or ""), self.url.database or "")
        return folder / "postgresql" / f"{'-'.join(quote(part, safe='') for part in parts)}.logs"

    @property
    def shown(self) -> str:
        """What to call it in messages; hides a password."""
        return str(self.path) if self.is_sqlite else self.url.render_as_string(hide_password=True)

    def _open_file(self, create: bool) -> None:
        path = self.path
        if path is None:
            raise OptionError("A queue cannot live in memory: other processes must see it. Give it a name.")
        if not path.exists() and not create:
            raise QueueGoneError(f"There is no queue {path}. {_HOW_TO_MAKE}")
        if not path.exists():
            _refuse_namesake(path)
        require_local(path.parent)
        mode = _switch_to_wal(path)
        if mode != "wal":
            raise QueueError(f"{path}: SQLite's WAL mode does not work here (mode {mode}). {_REMEDY}")

    @contextlib.contextmanager
    def _no_deletion(self, *, but_mine: bool = False) -> Iterator[None]:
        """Nobody deletes this queue meanwhile; with `but_mine`, nobody opens it either.

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
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is None or (self._file is not None and self._file != (found.st_dev, found.st_ino)):
            raise QueueGoneError(f"The queue {self.shown} is gone: its file was removed. {_HOW_TO_MAKE}")
        self._file = found.st_dev, found.st_ino

    def _connected(self) -> Connection:
        self._require_file()
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)  # the parent's connections are the parent's to close
            self._engine = self._make_engine()
            self._pid = os.getpid()
            # A queue that nobody closes is closed with its last reference, by the process that opened it.
            self._closing = weakref.finalize(self, _dispose, self._engine, self._pid)
        return self._engine.connect()

    def _make_engine(self) -> Engine:
        if self.is_sqlite:
            # what SQLAlchemy 2 does anyway, said for 1.4
            connect_args = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
            engine = create_engine(self.url, connect_args=connect_args, poolclass=QueuePool, future=True)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            # The driver's own BEGIN would be a round trip more: `_begin_postgres` sends ours with the lock.
            engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        except (ImportError, NoSuchModuleError) as error:  # SQLAlchemy 1.4 does not know this driver
            raise MissingDependencyError(
                "A queue in PostgreSQL needs psycopg and SQLAlchemy 2: pip install 'superluigi[postgres]'"
            ) from error
        event.listen(engine, "begin", _begin_postgres)
        event.listen(engine, "checkout", _ping_after_a_while)
        event.listen(engine, "checkin", _note_use)
        return engine

    @contextlib.contextmanager
    def read(self, *, one_moment: bool = False) -> Iterator[Connection]:
        """A connection for reading; with `one_moment`, all that is read is of the same moment."""
        with self._explained(), self._connected() as connection:
            if one_moment:
                connection = connection.execution_options(superluigi_moment=True)
            with _as_sqlalchemy_raises(connection):
                yield connection

    @contextlib.contextmanager
    def write(self, *, flush: bool = True) -> Iterator[Connection]:
        """A transaction that is the only writer of this queue; all or nothing.

        Without `flush`, a power cut or crash of the server may take it back, never a part of it: right for what
        workers say, since the targets tell what was done, and wrong for what people say.
        """
        with self._explained(), self._connected() as connection:
            connection = connection.execution_options(superluigi_write="flush" if flush else "fast")
            with _as_sqlalchemy_raises(connection), connection.begin():
                yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """The one place where what a database says becomes an error of ours."""
        try:
            yield
        except DBAPIError as error:
            raise (self._sqlite_error(error) if self.is_sqlite else self._postgres_error(error)) from error
        except SQLAlchemyError as error:
            raise QueueUnreachableError(f"The queue {self.shown} cannot be reached: {error}") from error

    def _sqlite_error(self, error: DBAPIError) -> QueueError:
        words = str(error.orig).partition("\n")[0]
        if "no such table" in words:
            return QueueGoneError(f"The queue {self.shown} is gone: {words}. {_HOW_TO_MAKE}")
        for sign, kind, advice in _SQLITE_ADVICE:
            if sign in words:
                return kind(f"The queue {self.shown}: {words}. {advice}")
        passes = isinstance(error, OperationalError)
        return (QueueUnreachableError if passes else QueueError)(f"The queue {self.shown} cannot be used: {words}.")

    def _postgres_error(self, error: DBAPIError) -> QueueError:
        words = " ".join(str(error.orig).split()) or type(error.orig).__name__
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in ("42P01", "3D000") or "does not exist" in words:
            return QueueGoneError(f"The queue {self.shown} is gone: {words}. {_HOW_TO_MAKE}")
        for sign, kind, advice in _POSTGRES_ADVICE:
            if state.startswith(sign) or (not state and sign in words):
                return kind(f"The queue {self.shown}: {words}. {advice}")
        if isinstance(error, OperationalError) or error.connection_invalidated:
            return QueueUnreachableError(f"The queue {self.shown} cannot be reached: {words}. {_IS_IT_UP}")
        return QueueError(f"The queue {self.shown} cannot be used: {words}.")

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
        """Remove the tables, and the file if there is one. Whoever still has it open finds it gone."""
        with self._no_deletion(but_mine=True):
            with self.write() as connection:
                tables.metadata.drop_all(connection)
            self.close()
            if self.path is not None:
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections of this process; the next use opens them again."""
        if self._engine is not None:
            self._closing()  # once only: what is closed is not kept until we go
        self._engine = None


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


#: What SQLite says, what that is, and what to do.
_SQLITE_ADVICE: tuple[tuple[str, type[QueueError], str], ...] = (
    ("is full", QueueUnreachableError, "Make room on that disk: workers go on, and what was submitted stands."),
    ("locked", QueueUnreachableError,
     f"Another process has held it for {BUSY_TIMEOUT_SECONDS:g} seconds; `fuser -v` on the file shows which. "
     "Try again, or end that process."),
    ("readonly", QueueError, "Make the file and its folder writable for you, or use a queue of your own."),
    ("unable to open", QueueError, "Make the file and its folder readable and writable for you."),
    ("disk I/O error", QueueUnreachableError, "Look after that disk (`dmesg`); what was submitted stands."),
    ("malformed", QueueError,
     "The file is damaged. Outputs are the truth, the queue is only a plan: move it away, and submit again."),
    ("not a database", QueueError,
     "It is no SQLite file, or damaged. Give another path; or move it away, and submit again."),
)  # fmt: skip
#: Beginnings of SQLSTATE codes (or words, where the connection failed before there were codes), and what to do.
_POSTGRES_ADVICE: tuple[tuple[str, type[QueueError], str], ...] = (
    ("28", QueueError, "Check user and password in the URL."),
    ("password authentication failed", QueueError, "Check user and password in the URL."),
    ("42501", QueueError, "Have the owner of the database grant you what is missing."),
    ("25006", QueueError, "The server is read-only (a standby?): give the address of the primary."),
    ("53100", QueueUnreachableError, "The server's disk is full: make room there, workers go on then."),
    ("53", QueueUnreachableError,
     "The server is short of connections or memory: raise its limits, or have fewer workers."),
)  # fmt: skip
_IS_IT_UP = "Is the server up, and are host and port right? (`pg_isready` tells.)"
#: How long the server's clock is believed to run as fast as ours.
_TRUSTED_SECONDS = 5.0
_HOW_TO_MAKE = "`superluigi queue submit` or Queue(name) in Python makes one; `superluigi queue list` shows all."


def _switch_to_wal(path: Path) -> str:
    """The journal mode after asking for WAL; it stays with the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection:
                return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]).lower()
        except sqlite3.DatabaseError as error:
            # Two processes that switch the mode at once: SQLite answers "locked" here without waiting.
            if "locked" not in str(error) or time.monotonic() > deadline:
                advice = next((advice for sign, _, advice in _SQLITE_ADVICE if sign in str(error)), "")
                raise QueueError(f"{path} cannot be opened as a queue: {error}. {advice}".strip()) from error
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
    """BEGIN IMMEDIATE; whoever must wait looks again soon: others write for a fraction of a millisecond.

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


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _ping_after_a_while(connection: Any, record: Any, _proxy: object) -> None:
    if time.monotonic() - record.info.get("used", time.monotonic()) < _FRESH_SECONDS:
        return
    try:
        connection.execute("")
    except Exception as error:
        raise DisconnectionError() from error


@contextlib.contextmanager
def _as_sqlalchemy_raises(connection: Connection) -> Iterator[None]:
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

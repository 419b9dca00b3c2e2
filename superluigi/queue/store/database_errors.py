"""What a database says, as an error of ours with advice."""

from __future__ import annotations

import re

from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from superluigi.errors import QueueError, QueueGoneError, QueueUnreachableError

#: How long a writer waits for the others; a submission of 100,000 tasks holds the lock for seconds.
BUSY_TIMEOUT_SECONDS = 120.0
DAMAGED = "The file is damaged. Outputs are the truth, the queue is only a plan: move it away, and submit again."
#: What SQLite says, what that is, and what to do.
SQLITE_ADVICE: tuple[tuple[str, type[QueueError], str], ...] = (
    ("is full", QueueUnreachableError, "Free space on that disk: workers go on, and what was submitted stands."),
    ("locked", QueueUnreachableError,
     f"Another process has held it for {BUSY_TIMEOUT_SECONDS:g} seconds; `fuser -v` on the file shows which. "
     "Try again, or end that process."),
    ("readonly", QueueError,
     "Make the file, its -wal and -shm and its folder writable for you, or use a queue of your own."),
    ("unable to open", QueueError, "Make the file and its folder readable and writable for you."),
    ("disk I/O error", QueueUnreachableError, "Look after that disk (`dmesg`); what was submitted stands."),
    ("malformed", QueueError, DAMAGED),
    ("no such column", QueueError, DAMAGED),
    ("has no column", QueueError, DAMAGED),
    ("not a database", QueueError,
     "It is no SQLite file, or damaged. Give another path; or move it away, and submit again."),
)  # fmt: skip
#: Beginnings of SQLSTATE codes, what the server says where a connection fails and there are no codes yet, what to do.
_POSTGRES_ADVICE: tuple[tuple[str, tuple[str, ...], type[QueueError], str], ...] = (
    ("53", ("too many clients", "too many connections", "connection slots"), QueueUnreachableError,
     "The server is short of connections or memory: raise its limits, or have fewer workers."),
    ("28", ("password authentication failed", 'role "'), QueueError, "Check user and password in the URL."),
    ("42501", (), QueueError, "Have the owner of the database grant you what is missing."),
    ("3F", (), QueueError, "Make the schema that its search_path names, or name another one."),
    ("25006", (), QueueError, "The server is read-only (a standby?): give the address of the primary."),
    ("53100", (), QueueUnreachableError, "The server's disk is full: free space there, workers go on then."),
    ("57014", (), QueueUnreachableError,
     "The server gave up (its statement_timeout): it is busy, or that is too short for this queue."),
    ("55P03", (), QueueUnreachableError,
     "The server gave up (its lock_timeout): another process holds the queue, as pg_locks shows."),
)  # fmt: skip
#: Classes of SQLSTATE that may be called operational, and do not pass: what cannot be done, or be said.
_LASTING = ("0A", "42")
_NO_DATABASE = re.compile(r'database ".*" does not exist')
_IS_IT_UP = "Is the server up, and are host and port right? (`pg_isready` tells.)"
HOW_TO_MAKE = "`superluigi queue submit` or Queue(name) in Python makes one; `superluigi queue list` shows all."

ELSE = "Give another path, or the name of a queue."
RESTORED = (
    "Outputs are the truth, the queue is only a plan: submit again, and what is missing is made. Before another file "
    "is put in the place of a queue's, end all who use it (`fuser -v` on it shows them), and remove its -wal and -shm."
)


def not_kept(shown: str, words: str) -> str:
    """What to say when a value is none that the database `shown` can hold."""
    return (
        f"The queue {shown} cannot keep that: {words}. Text must have no zero bytes and no half characters (lone "
        "surrogates), and a value a size that a database takes."
    )


def sqlite_error(shown: str, error: DBAPIError) -> QueueError:
    """What the SQLite file `shown` answered."""
    words = str(error.orig).partition("\n")[0]
    if "no such table" in words:
        return QueueGoneError(f"The queue {shown} is gone: {words}. {HOW_TO_MAKE}")
    for sign, kind, advice in SQLITE_ADVICE:
        if sign in words:
            return kind(f"The queue {shown}: {words}. {advice}")
    if isinstance(error, DataError):
        return QueueError(not_kept(shown, words))
    passes = isinstance(error, OperationalError)
    return (QueueUnreachableError if passes else QueueError)(f"The queue {shown} cannot be used: {words}.")


def postgres_error(shown: str, error: DBAPIError) -> QueueError:
    """What the server of the database `shown` answered, or that it did not."""
    words = " ".join(str(error.orig).split()) or type(error.orig).__name__
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in ("42P01", "3D000") or (not state and _NO_DATABASE.search(words)):
        return QueueGoneError(f"The queue {shown} is gone: {words}. {HOW_TO_MAKE}")
    for code, signs, kind, advice in _POSTGRES_ADVICE:
        if state.startswith(code) if state else any(sign in words for sign in signs):
            return kind(f"The queue {shown}: {words}. {advice}")
    if isinstance(error, DataError) or state.startswith("54"):
        return QueueError(not_kept(shown, words))
    if (isinstance(error, OperationalError) and state[:2] not in _LASTING) or error.connection_invalidated:
        return QueueUnreachableError(f"The queue {shown} cannot be reached: {words}. {_IS_IT_UP}")
    return QueueError(f"The queue {shown} cannot be used: {words}.")

"""The tables of a queue, their version, and how an older one becomes the present one.

Ten tables, the same on SQLite and PostgreSQL, all named `superluigi_…`. Two invariants that every
transaction keeps (`Store.check` verifies them):

- `tasks.unmet` is the number of its requirements that are not SUCCEEDED;
- a task is RUNNING iff it has a `lease`, and its `fence` has grown by one for each claim.

There are no foreign keys: one writer at a time keeps the references, and each check would cost a look-up
a row (SQLite does not even make it unless asked).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from superluigi.errors import QueueError, QueueVersionError
from superluigi.setting_texts import without_passwords

#: Version of the tables below; raise it together with a new entry in `_MIGRATIONS`.
VERSION = 4
PREFIX = "superluigi_"

metadata = MetaData()

meta = Table(
    f"{PREFIX}meta", metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)  # fmt: skip

pools = Table(
    f"{PREFIX}pools", metadata,
    Column("name", Text, primary_key=True),
    Column("max_workers", Integer),
    Column("paused", Integer, nullable=False, server_default="0"),
    Column("definition", Text, nullable=False, server_default="{}"),
)  # fmt: skip

runs = Table(
    f"{PREFIX}runs", metadata,
    Column("id", Text, primary_key=True),
    Column("started", Float, nullable=False),
    Column("definition", Text, nullable=False),
)  # fmt: skip

codes = Table(
    f"{PREFIX}codes", metadata,
    Column("digest", Text, primary_key=True),
    Column("pickle", LargeBinary, nullable=False),
)  # fmt: skip

tasks = Table(
    f"{PREFIX}tasks", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("task_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("module", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("code", Text),
    Column("tags", Text),
    Column("pool", Text, nullable=False),
    Column("priority", Float, nullable=False, server_default="0"),
    Column("need", Integer, nullable=False, server_default="0"),
    Column("timeout", Float),
    Column("max_failures", Integer, nullable=False, server_default="1"),
    Column("retry_delay", Float, nullable=False, server_default="0"),
    # Seconds: failures longer ago do not count; and a failure so long after the first one is the last.
    Column("retry_window", Float),
    Column("retry_deadline", Float),
    Column("external", Integer, nullable=False, server_default="0"),
    Column("run", Text, nullable=False),
    Column("rerun", Text),
    Column("state", Text, nullable=False),
    Column("unmet", Integer, nullable=False, server_default="0"),
    Column("due", Float),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease", Float),
    Column("worker", Text),
    Column("kill", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("started", Float),
    Column("ended", Float),
    Column("exit_code", Integer),
    Column("error", Text),
    Column("log", Text),
    # What the task tells while it runs, and the need that is left when it gives resources back.
    Column("progress", Float),
    Column("status_message", Text),
    Column("tracking_url", Text),
    Column("held", Integer),
)  # fmt: skip

Index(f"{PREFIX}tasks_state", tasks.c.state, tasks.c.pool)
# As text, which both databases understand: SQLAlchemy's `Index(…, sqlite_where=…)` imports all dialects, at the start
# of each worker. A claim reads one entry of the first index per kind of need, whatever the number of rows.
_PARTIAL_INDEXES = (
    f"CREATE INDEX {PREFIX}tasks_claim ON {tasks.name} (pool, need, priority DESC, id) WHERE state = 'PENDING'",
    f"CREATE INDEX {PREFIX}tasks_due ON {tasks.name} (due) WHERE due IS NOT NULL",
)

edges = Table(
    f"{PREFIX}edges", metadata,
    Column("upstream", Integer, primary_key=True),
    Column("downstream", Integer, primary_key=True),
    # 1: asked for by a `yield` in run(), 0: by requires()
    Column("yielded", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)  # fmt: skip
Index(f"{PREFIX}edges_down", edges.c.downstream)

needs = Table(
    f"{PREFIX}needs", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("signature", Text, nullable=False, unique=True),
)  # fmt: skip
need_items = Table(
    f"{PREFIX}need_items", metadata,
    Column("need", Integer, primary_key=True),
    Column("resource", Text, primary_key=True),
    Column("amount", Float, nullable=False),
)  # fmt: skip
resources = Table(
    f"{PREFIX}resources", metadata,
    Column("name", Text, primary_key=True),
    Column("total", Float, nullable=False),
)  # fmt: skip

attempts = Table(
    f"{PREFIX}attempts", metadata,
    Column("task", Integer, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("exit_code", Integer),
    Column("error", Text),
    Column("log", Text),
)  # fmt: skip

workers = Table(
    f"{PREFIX}workers", metadata,
    Column("id", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("place", Text, key="boot_id", nullable=False),
    Column("started", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("stop", Integer, nullable=False, server_default="0"),
)  # fmt: skip

spawners = Table(
    f"{PREFIX}spawners", metadata,
    Column("pool", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("place", Text, key="boot_id", nullable=False),
    Column("lease", Float, nullable=False),
)  # fmt: skip


def create(connection: Connection) -> None:
    """Make all tables of the present version, in one transaction of the caller's."""
    metadata.create_all(connection)
    for statement in _PARTIAL_INDEXES:
        connection.execute(text(statement))
    connection.execute(meta.insert(), [{"key": "version", "value": str(VERSION)}])
    connection.execute(needs.insert(), [{"id": 0, "signature": "{}"}])


def upgrade(connection: Connection) -> None:
    """Bring the tables to the present version, or make them; one transaction of the caller's.

    Raises:
        QueueVersionError: they are newer than this program, or older than it can read.
        QueueError: the database holds something else, or a part of a queue.
    """
    found = version_of(connection)
    if found is None:
        create(connection)
        return
    if found > VERSION:
        raise QueueVersionError(
            f"This queue has schema version {found}; this superluigi reads up to version {VERSION}. "
            "Upgrade superluigi on this machine (pip install -U superluigi), or use another queue."
        )
    _require_all(connection)
    for step in range(found, VERSION):
        if step not in _MIGRATIONS:
            raise QueueVersionError(
                f"This queue has schema version {found}, older than can be migrated: submit again to another one."
            )
        for table, column in _MIGRATIONS[step]:
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column}"))
    if found < VERSION:
        connection.execute(meta.update().where(meta.c.key == "version").values(value=str(VERSION)))


def version_of(connection: Connection) -> int | None:
    """The version of the tables in this database; None when there are none.

    Raises:
        QueueError: the version cannot be read: not a queue of ours.
    """
    if not inspect(connection).has_table(meta.name):
        if rest := sorted(metadata.tables.keys() & set(inspect(connection).get_table_names())):
            raise _damaged(connection, f"it has {rest[0]}, but no {meta.name}")
        return None
    value = connection.execute(meta.select().where(meta.c.key == "version")).first()
    if value is None or not str(value.value).isdecimal():
        raise _damaged(connection, f"{meta.name} has no readable version")
    return int(value.value)


def _require_all(connection: Connection) -> None:
    try:
        connection.execute(text(f"SELECT 1 FROM {', '.join(metadata.tables)} WHERE 1 = 0"))
    except DBAPIError as error:
        words = str(error.orig).partition("\n")[0]
        if "no such table" not in words and getattr(error.orig, "sqlstate", None) != "42P01":
            raise
        raise _damaged(connection, words) from error


def _damaged(connection: Connection, words: str) -> QueueError:
    where = without_passwords(connection.engine.url.render_as_string(hide_password=False))
    return QueueError(
        f"{where} holds a part of a queue: {words}. Outputs are the truth, the queue is only a plan: drop its tables "
        f"({PREFIX}…) with an SQL shell, or move the file away, and submit again."
    )


#: From which version -> the columns that the next one has more.
_MIGRATIONS: dict[int, tuple[tuple[Table, str], ...]] = {
    # it counts lost workers (a task that ends its worker each time must stop), and knows what was yielded
    1: ((tasks, "losses INTEGER NOT NULL DEFAULT 0"), (tasks, "tags TEXT"),
        (edges, "yielded INTEGER NOT NULL DEFAULT 0")),
    # Luigi's `disable_window` and `disable_hard_timeout`
    2: ((tasks, "retry_window FLOAT"), (tasks, "retry_deadline FLOAT")),
    # what tasks tell while they run
    3: ((tasks, "progress FLOAT"), (tasks, "status_message TEXT"), (tasks, "tracking_url TEXT"),
        (tasks, "held INTEGER")),
}  # fmt: skip


@contextlib.contextmanager
def as_stored(what: str) -> Iterator[None]:
    """Read in this block what a database holds as text: of another shape than ours, it is damaged.

    Raises:
        QueueError: it is; says what, and what to do.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as error:
        raise QueueError(
            f"{what} in the queue is damaged ({type(error).__name__}: {error}). Outputs are the truth, the queue is "
            "only a plan: put it right with an SQL shell, or move the queue away and submit again."
        ) from error

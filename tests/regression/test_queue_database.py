"""Clocks that are stepped, and databases that are gone, damaged, locked, full or never there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import postgres_support as postgres
import psycopg
import pytest
from queue_support import PI
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from superluigi import cli, run_task
from superluigi.errors import QueueError, QueueGoneError, QueueTimeoutError, QueueUnreachableError
from superluigi.queue import Queue, api
from superluigi.queue.store import claims, clock, connections, registry, tables, views
from superluigi.queue.store.database import Database
from superluigi.queue.store.database_errors import postgres_error

Project = Callable[[str], ModuleType]


def _running(name: str, project: Project) -> tuple[Database, claims.Claim]:
    """A queue with one task that another host's worker has claimed for a minute."""
    module = project(PI)
    with Queue(name) as queue:
        queue.submit(module.Draw(seed=1), pool="default")
    opened = Database(name)
    with opened.write() as connection:
        claim = claims.claim(connection, "elsewhere-1", "default", opened.now(), 60.0)
        registry.add_worker(connection, "elsewhere-1", "default", opened.now())
    assert claim is not None
    return opened, claim


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_stepped_clock_takes_no_task_from_a_worker_that_lives(
    any_queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    opened, claim = _running(any_queue_name, project)
    before = opened.now()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    with Queue(any_queue_name) as queue:  # one that opens it after the step, and one that had it open
        for looking in (opened, queue._database):
            assert abs(looking.now(exactly=True) - before) < 60
            with looking.read() as connection:
                assert not claims.overdue(connection, looking.now(), registry.dead_workers(connection))
            with looking.write() as connection:
                assert claims.renew(connection, claim, looking.now() + 60) == "held"
        assert queue.tasks()[0].state == "RUNNING"
    opened.close()


def test_the_servers_clock_is_asked_again_and_again(
    postgres_server: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = _running(postgres.database(postgres_server, f"asked{os.getpid()}"), project)
    before = opened.now()
    real = clock.since_boot
    monkeypatch.setattr(clock, "since_boot", lambda: real() + 1000)  # this machine was suspended: its view is old
    assert abs(opened.now() - before) < 60
    opened.close()


def test_after_another_boot_every_lease_is_over_and_within_one_none_is(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = _running(queue_name, project)
    opened.close()
    monkeypatch.setattr(clock, "since_boot", lambda: 5.0)  # the machine was started five seconds ago
    monkeypatch.setattr(time, "time", lambda: 0.0)  # and has no clock of its own
    monkeypatch.setattr(clock, "boot", lambda: ("another", ""))
    again = Database(queue_name)
    with again.write() as connection:
        assert claims.sweep(connection, again.now()) == 1
        claim = claims.claim(connection, "elsewhere-2", "default", again.now(), 60.0)
    assert claim is not None
    third = Database(queue_name)
    assert third.now() == again.now()
    with third.write() as connection:
        assert claims.sweep(connection, third.now()) == 0
    again.close()
    third.close()


def test_a_removed_file_ends_those_who_have_it_open(queue_name: str, project: Project) -> None:
    module = project(PI)
    with Queue(queue_name) as queue:
        queue.submit(module.Draw(seed=1), pool="default")
        for suffix in ("", "-wal", "-shm"):
            Path(f"{queue_name}{suffix}").unlink(missing_ok=True)
        with pytest.raises(QueueGoneError, match="file was removed"):
            queue.counts()
        with Queue(queue_name) as newer:  # another queue in its place is another queue
            with pytest.raises(QueueGoneError):
                queue.submit(module.Draw(seed=1), pool="default")
            assert sum(newer.counts().values()) == 0


REPLACED = """
    class First(luigi.Task):
        how, name = luigi.Parameter(), luigi.Parameter()

        def output(self):
            return luigi.LocalTarget("first")

        def run(self):
            import sqlite3
            connection = sqlite3.connect(self.name)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            if "log" in self.how:
                for suffix in ("-wal", "-shm"):
                    os.unlink(self.name + suffix)
            if "copied" in self.how:
                old = pathlib.Path("old.sqlite").read_bytes()
                with open(self.name, "r+b") as file:
                    file.truncate()
                    file.write(old)
            elif self.how == "moved":
                os.replace("old.sqlite", self.name)
            else:
                os.unlink(self.name)
            self.output().open("w").close()


    class Second(First):
        def requires(self):
            return First(how=self.how, name=self.name)

        def output(self):
            return luigi.LocalTarget("second")

        def run(self):
            self.output().open("w").close()
"""


@pytest.mark.parametrize("how", ["copied", "copied, and the log removed", "moved", "removed"])
@pytest.mark.parametrize("submitted", [False, True])
def test_a_file_that_an_older_copy_replaces_while_it_is_used_is_an_error_and_no_success(
    project: Project, queue_name: str, how: str, submitted: bool
) -> None:
    second = project(REPLACED).Second(how=how, name=queue_name)
    with Queue(queue_name) as queue:
        if submitted:
            queue.submit(second)
        with (
            contextlib.closing(sqlite3.connect(queue_name)) as one,
            contextlib.closing(sqlite3.connect("old.sqlite")) as two,
        ):
            one.backup(two)
        known = queue.submit(second)
        for wait in (
            lambda: queue.spawn(1, until=known), lambda: queue.wait(known, timeout=60), lambda: queue.wait(timeout=60),
            queue.work,
        ):  # fmt: skip
            try:
                wait()
            except QueueError as error:
                assert any(
                    words in str(error) for words in ("replaced", "was removed", "malformed", "not a database")
                ), error
            else:  # the older plan held it as well, and whoever carried that out has made it
                assert submitted and second.complete()
    assert os.path.exists("first") and (submitted or not second.complete())  # the older plan may be good enough
    for suffix in ("", "-wal", "-shm"):
        Path(f"{queue_name}{suffix}").unlink(missing_ok=True)
    run_task(second, queue=queue_name)
    assert second.complete()


def test_an_older_copy_is_told_even_when_others_have_changed_as_much_in_it(queue_name: str, project: Project) -> None:
    module = project(PI)
    with (
        Queue(queue_name) as queue,
        contextlib.closing(sqlite3.connect(queue_name)) as file,
        contextlib.closing(sqlite3.connect(":memory:")) as older,
    ):
        queue.submit(module.Draw(seed=1), pool="default")
        file.backup(older)
        queue.submit(module.Draw(seed=2), pool="default")
        older.backup(file)
        with Queue(queue_name) as newer:
            newer.submit(module.Draw(seed=3), pool="default")
        with pytest.raises(QueueGoneError, match="replaced by an older copy"):
            queue.wait(timeout=60)


def test_who_waits_for_a_task_that_the_queue_does_not_know_is_told_so(queue_name: str, project: Project) -> None:
    module = project(PI)
    with Queue(queue_name) as queue:
        done = queue.submit(module.Draw(seed=1), pool="default")
        queue.work()
        queue.wait(done)
        for unknown in ("Draw_typo", [module.Draw(seed=1), module.Draw(seed=2)]):
            for wait in (queue.wait, lambda which: queue.spawn(until=which)):
                with pytest.raises(
                    QueueError, match=r"has no task Draw_\S+: it was not submitted there, or was forgotten"
                ):
                    wait(unknown)
        assert queue.prune(keep=0) == 1
        with pytest.raises(QueueError, match="or was forgotten"):
            queue.wait(done)


def test_a_file_that_holds_something_of_others_outlives_the_queue_in_it(queue_name: str, project: Project) -> None:
    with contextlib.closing(sqlite3.connect(queue_name)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 42 AS answer")
    module = project(PI)
    with Queue(queue_name) as queue:
        queue.submit(module.Draw(seed=1), pool="default")
        queue.delete()
    with contextlib.closing(sqlite3.connect(queue_name)) as connection:
        assert connection.execute("SELECT name, answer FROM sqlite_master, theirs").fetchall() == [("theirs", 42)]
    with pytest.raises(QueueGoneError):
        Queue(queue_name, create=False)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("kept", ["superluigi_meta", "superluigi_pools"])
def test_a_part_of_a_queue_is_told_as_that_and_what_is_advised_helps(
    either_queue_name: str, kept: str, create: bool
) -> None:
    with contextlib.closing(Database(either_queue_name)) as database, database.write() as connection:
        for name in tables.metadata.tables.keys() - {kept}:
            connection.execute(text(f"DROP TABLE {name}"))
    with pytest.raises(QueueError, match=r"part of a queue: .*drop its tables \(superluigi_") as caught:
        Queue(either_queue_name, create=create)
    assert not isinstance(caught.value, QueueGoneError)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_who_may_only_look_at_a_queue_does_not_lock_out_its_owner(tmp_path: Path, project: Project) -> None:
    module = project(PI)
    owner, other = 1234, 65534
    folder = Path(f"/tmp/superluigi-{secrets.token_hex(8)}")  # other users may not enter the usual one
    folder.mkdir()
    folder.chmod(0o777)
    name = str(folder / "q.sqlite")
    try:
        os.seteuid(owner)
        with Queue(name) as queue:
            queue.submit(module.Draw(seed=1), pool="default")
        os.seteuid(0)
        os.seteuid(other)
        with pytest.raises(QueueError, match="Have its owner let you write it"):
            Queue(name, create=False)
        assert [one.name for one in folder.iterdir()] == ["q.sqlite"]
        os.seteuid(0)
        os.seteuid(owner)
        with Queue(name) as queue:
            queue.submit(module.Draw(seed=2), pool="default")
            os.seteuid(0)
            os.seteuid(other)
            with Queue(name, create=False) as looking:  # the files beside it are there
                assert len(looking.tasks()) == 2
            os.seteuid(0)
            os.seteuid(owner)
            queue.submit(module.Draw(seed=3), pool="default")
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_told_as_that(queue_name: str, make: Callable[[str], None]) -> None:
    make(queue_name)
    for create in (True, False):
        with pytest.raises(QueueError, match=r"is (a folder|no file): no queue can be there\. Give another"):
            Queue(queue_name, create=create)


def test_who_opens_a_queue_while_it_is_deleted_gets_a_new_one(queue_name: str, project: Project) -> None:
    module = project(PI)
    with Queue(queue_name) as queue:
        held, done = threading.Event(), threading.Event()
        with queue._database._no_deletion():
            deleting = threading.Thread(target=lambda: (held.set(), queue._database.remove(), done.set()))
            deleting.start()
            held.wait()
            assert not done.wait(0.1)  # somebody is just opening it
        deleting.join(30)
    with Queue(queue_name) as newer:
        newer.submit(module.Draw(seed=1), pool="default")
        assert newer.counts()["PENDING"] == 1


@contextlib.contextmanager
def _damaged(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if kind == "malformed":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_master SET rootpage = 9999 WHERE type = 'table'")
        connection.close()
        yield
    elif kind == "not a database":
        path.write_bytes(b"no database at all\n" * 100)
        yield
    elif kind == "locked":
        monkeypatch.setattr(connections, "BUSY_TIMEOUT_SECONDS", 0.2)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    elif kind == "full":
        prepare = connections._prepare_sqlite

        def small(connection: sqlite3.Connection, record: object) -> None:
            prepare(connection, record)
            connection.execute("PRAGMA max_page_count = 1")

        monkeypatch.setattr(connections, "_prepare_sqlite", small)
        yield
    elif kind == "no such column":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE superluigi_tasks DROP COLUMN tags")
        yield
    elif kind == "readonly":
        prepare = connections._prepare_sqlite

        def only(connection: sqlite3.Connection, record: object) -> None:
            prepare(connection, record)
            connection.execute("PRAGMA query_only = ON")

        monkeypatch.setattr(connections, "_prepare_sqlite", only)
        yield


@pytest.mark.parametrize(
    ("kind", "error", "advice"),
    [
        ("malformed", QueueError, "damaged"),
        ("no such column", QueueError, "damaged"),
        ("not a database", QueueError, "submit again"),
        ("locked", QueueUnreachableError, "fuser"),
        ("full", QueueUnreachableError, "Free space"),
        ("readonly", QueueError, "writable for you"),
    ],
)
def test_whatever_is_wrong_with_the_file_is_told_with_advice(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch, kind: str, error: type[QueueError], advice: str
) -> None:
    module = project(PI)
    with Queue(queue_name) as queue:
        queue.submit(module.Draw(seed=1), pool="default")
    more = [module.Draw(seed=seed) for seed in range(2, 400)]
    with (
        _damaged(kind, Path(queue_name), monkeypatch),
        pytest.raises(error, match=advice) as caught,
        Queue(queue_name) as queue,
    ):
        queue.submit(more, pool="default")
    assert type(caught.value).__module__ == "superluigi.errors" and queue_name in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://nobody@127.0.0.1:9/x", "nowhere/q.sqlite", "/proc/q.sqlite", "postgresql://[bad/x",
        "postgresql://nobody:secret@127.0.0.1:9/x", "postgresql://nobody@127.0.0.1:9/x?password=secret",
    ],
)  # fmt: skip
def test_commands_on_a_database_that_is_not_there_give_advice_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words: tuple[str, ...] = ("Queue", "OptionError")
    if version("SQLAlchemy").startswith("1.") and address.startswith("postgresql"):
        words = ("MissingDependencyError: A queue in PostgreSQL needs psycopg and SQLAlchemy 2",)
    for verb in (["tasks"], ["work"], ["spawn"], ["pause"], ["delete", "--force"], ["serve", "--port", "0"]):
        assert cli.main(["queue", verb[0], address, *verb[1:]]) == 1
        said = capsys.readouterr().err
        assert said.startswith(words) and "Traceback" not in said and "secret" not in said, said
        assert "pg_isready" in said or len(words) == 1 or not address.startswith("postgresql://nobody")


def test_a_server_that_goes_is_told_as_such_and_waited_for(tmp_path: Path, project: Project) -> None:
    module = project(PI)
    if postgres.binaries() is None or version("SQLAlchemy").startswith("1."):
        pytest.skip("needs PostgreSQL, and SQLAlchemy 2 to speak with it")
    with postgres.server() as url:
        queue = Queue(f"{url}postgres", lease=timedelta(seconds=1))
        queue.submit(module.Draw(seed=1), pool="default")
    with pytest.raises(QueueUnreachableError, match="Is the server up"):
        queue.counts()
    with pytest.raises(QueueUnreachableError):
        queue.work()
    queue.close()


@pytest.mark.parametrize(
    ("port", "kind", "says"),
    [
        (port, kind, says)
        for port in ("28531", "48287", "42501", "25006", "53100", "5353")  # which are codes of PostgreSQL's, too
        for kind, says in [
            (QueueUnreachableError, "connection failed: Connection refused"),
            (QueueUnreachableError, "FATAL:  sorry, too many clients already"),
            (QueueUnreachableError, 'FATAL:  too many connections for database "x"'),
            (QueueUnreachableError, 'FATAL:  too many connections for role "me"'),
            (QueueError, 'FATAL:  password authentication failed for user "me"'),
            (QueueError, 'FATAL:  role "me" does not exist'),
            (QueueGoneError, 'FATAL:  database "x" does not exist'),
        ]
    ],
)
def test_what_a_server_says_is_not_read_out_of_its_port(port: str, kind: type[QueueError], says: str) -> None:
    said = psycopg.OperationalError(f'connection to server at "127.0.0.1", port {port} failed: {says}')
    error = postgres_error("q", OperationalError("SELECT 1", {}, said))
    assert type(error) is kind
    assert ("user and password" in str(error)) is ("password" in says or 'role "me" does' in says)
    assert ("fewer workers" in str(error)) is ("too many" in says)
    assert ("Is the server up" in str(error)) is ("refused" in says)


@pytest.mark.parametrize(
    ("setting", "kind", "says"),
    [
        ("statement_timeout = '50ms'", QueueUnreachableError, "statement_timeout"),
        ("lock_timeout = '10ms'", QueueUnreachableError, "lock_timeout"),
        ("default_transaction_read_only = on", QueueError, "read-only"),
        ("search_path = ''", QueueError, "the schema that its search_path names"),
    ],
)
def test_what_a_server_is_set_to_is_told_as_that(
    postgres_server: str, setting: str, kind: type[QueueError], says: str
) -> None:
    name = f"set{secrets.token_hex(4)}"
    url = postgres.database(postgres_server, name)
    waits = says.endswith("_timeout")
    if waits:
        Queue(url).close()
    with psycopg.connect(f"{postgres_server}postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    with psycopg.connect(url) as other:
        if waits:
            other.execute(f"SELECT {connections.LOCK}".encode())
        with pytest.raises(kind, match=says) as raised:
            Queue(url)
    assert type(raised.value) is kind
    assert "Is the server up" not in str(raised.value)


def test_who_waits_is_as_patient_as_a_worker_with_a_database_that_goes(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = project(PI)
    monkeypatch.setattr(api, "_LOOKS_SECONDS", (0.01, 0.01))
    with Queue(queue_name, lease=timedelta(seconds=1)) as queue:
        queue.submit(module.Draw(seed=1), pool="default")
        answers = iter([QueueUnreachableError("restarted")] * 3)
        real = queue.activity

        def activity() -> views.Activity:
            if (error := next(answers, None)) is not None:
                raise error
            queue.kill(name="*")
            return real()

        monkeypatch.setattr(queue, "activity", activity)
        assert queue.wait()["KILLED"] == 1
        answers = itertools.repeat(QueueUnreachableError("gone for good"))
        with pytest.raises(QueueUnreachableError, match="for good"):
            queue.wait()
        with pytest.raises(QueueTimeoutError):
            queue.wait(timeout=0.05)


def test_a_damaged_file_whose_words_are_no_text_is_told_as_damaged(queue_name: str) -> None:
    Queue(queue_name).close()
    file = Path(queue_name)
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE superluigi_pools", b"CREATE TABLE superluig\xeb_pools"))
    with pytest.raises(QueueError, match=r"damaged|malformed"):
        Queue(queue_name)


def test_a_clock_that_was_written_down_is_one_for_all_processes(queue_name: str) -> None:
    with Queue(queue_name) as queue:
        code = (
            "from superluigi.queue.store.database import Database; "
            f"d = Database({queue_name!r}); print(d._anchor); d.close()"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert float(printed) == queue._database._anchor
    with contextlib.closing(sqlite3.connect(queue_name)) as connection:
        (stored,) = connection.execute("SELECT value FROM superluigi_meta WHERE key = 'clock'").fetchone()
    assert json.loads(stored)["boot"] == clock.boot()[0]

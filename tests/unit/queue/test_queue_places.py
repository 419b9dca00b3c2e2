"""Where a queue may live, what it is called, and which versions of its tables are read."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import postgres_support as postgres
import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool as ConnectionPool

from superluigi.errors import MissingDependencyError, OptionError, QueueError, QueueGoneError, QueueVersionError
from superluigi.queue import Pool, Queue, lookup
from superluigi.queue.providers.local import LocalProvider
from superluigi.queue.store import queue_url, tables

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/export /mnt/with\\040space nfs4 rw,vers=4.2 0 0
scratch /mnt/scratch lustre rw 0 0
/dev/vdb /mnt/scratch/local xfs rw 0 0
sshfs#host: /home/ada/remote fuse.sshfs rw 0 0
server:/export /mnt/été\u2028 nfs4 rw,vers=4.2 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/queues", "ext4"),
        ("/mnt/with space/queues", "nfs4"),
        ("/mnt/scratch", "lustre"),
        ("/mnt/scratch/local/queues", "xfs"),
        ("/mnt/scratchy", "ext4"),
        ("/home/ada/remote", "fuse.sshfs"),
        ("/mnt/été\u2028/queues", "nfs4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert queue_url.filesystem_of(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_and_postgresql_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(queue_url, "filesystem_of", lambda path, mounts: "nfs4")
    with pytest.raises(QueueError, match=r"network file system \(nfs4\).*postgresql://"):
        Queue(str(tmp_path / "q.sqlite"))


def test_names_paths_and_urls_mean_their_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(tmp_path))
    assert queue_url.url_of("pi").database == str(tmp_path / "pi.sqlite")
    assert queue_url.url_of("team/pi").database == str(tmp_path / "team" / "pi.sqlite")
    assert queue_url.url_of("/x/y.sqlite").database == "/x/y.sqlite"
    assert queue_url.url_of("postgresql://host/pi").drivername == "postgresql+psycopg"
    for wrong in ("../../etc", "a b", "mysql://host/pi", "", "sqlite:///file:pi?mode=memory&uri=true"):
        with pytest.raises((OptionError, QueueError)):
            queue_url.url_of(wrong) if wrong != "../../etc" else Queue(wrong, create=False)


def test_a_password_stays_out_of_command_lines_and_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_URL", "")
    for url in ("postgresql://ada:secret@host/pi", "postgresql://ada@host/pi?sslmode=require&password=secret"):
        passed = queue_url.passed_on(url)
        assert "secret" not in passed
        assert "secret" in queue_url.url_of(passed).render_as_string(hide_password=False)
        assert queue_url.passed_on(passed) == passed
    assert queue_url.passed_on("postgresql://ada@host/pi") == "postgresql://ada@host/pi"
    for odd in ("postgresql://a:se/cret@h:port/x", "postgresql:/a:secret@h/x", "mysql://a:secret@h/x", "://a:secret@h"):
        with pytest.raises(OptionError, match=r":/+a:\*\*\*@h"):
            queue_url.url_of(odd)


def test_a_queue_that_does_not_exist_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(QueueGoneError, match="superluigi queue list"):
        Queue(str(tmp_path / "none.sqlite"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("this is no database" * 100)
    with pytest.raises(QueueError, match="cannot be opened as a queue"):
        Queue(str(tmp_path / "text.sqlite"))


def test_a_newer_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    name = str(tmp_path / "newer.sqlite")
    Queue(name).close()
    with sqlite3.connect(name) as connection:
        connection.execute("UPDATE superluigi_meta SET value = '99' WHERE key = 'version'")
    connection.close()
    with pytest.raises(QueueVersionError, match=rf"version 99.*up to version {tables.VERSION}.*[Uu]pgrade"):
        Queue(name)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_version_is_migrated_with_all_it_holds(tmp_path: Path, version: int) -> None:
    name = str(tmp_path / "older.sqlite")
    with contextlib.closing(sqlite3.connect(name)) as connection:
        connection.executescript((Path(__file__).parents[2] / "data" / "queue_v2.sql").read_text())
        if version == 1:  # it had everything but these three columns, and was never released
            for table, column in (("tasks", "losses"), ("tasks", "tags"), ("edges", "yielded")):
                connection.execute(f"ALTER TABLE superluigi_{table} DROP COLUMN {column}")
            connection.execute("UPDATE superluigi_meta SET value = '1' WHERE key = 'version'")
            connection.commit()
    with Queue(name) as queue:
        rows = {row.id.rsplit("_", 1)[0]: row for row in queue.tasks()}
        assert {key: row.state for key, row in rows.items()} == {
            "Draw_0": "SUCCEEDED", "Draw_1": "SUCCEEDED", "Draw_2": "FAILED", "Average_": "BLOCKED",
        }  # fmt: skip
        assert "seed two" in (rows["Draw_2"].error or "") and rows["Average_"].blocked_by == rows["Draw_2"].id
        assert [attempt.outcome for attempt in queue.attempts(rows["Draw_2"])] == ["FAILED"]
        assert queue.pools["draws"] == Pool(3)
        assert queue.check() == []
        assert queue.retry() == 1
        assert queue.counts()["PENDING"] == 1
    with contextlib.closing(sqlite3.connect(name)) as connection:
        assert connection.execute("SELECT value FROM superluigi_meta").fetchone() == (str(tables.VERSION),)


#: What version 4 added.
_TOLD = ("progress", "status_message", "tracking_url", "held")


def test_on_postgresql_an_older_version_is_migrated_and_a_newer_one_refused(postgres_server: str) -> None:
    import psycopg

    name = postgres.database(postgres_server, f"older{os.getpid()}")
    Queue(name).close()
    with psycopg.connect(name, autocommit=True) as server:
        for column in ("losses", "tags", "retry_window", "retry_deadline", *_TOLD):
            server.execute(f"ALTER TABLE superluigi_tasks DROP COLUMN {column}")
        server.execute("ALTER TABLE superluigi_edges DROP COLUMN yielded")
        server.execute("UPDATE superluigi_meta SET value = '1' WHERE key = 'version'")
        with Queue(name) as queue:
            assert queue.tasks() == queue.check() == []
            assert queue.work() == 0
        found = server.execute("SELECT value FROM superluigi_meta WHERE key = 'version'").fetchall()
        assert found == [(str(tables.VERSION),)]
        server.execute("UPDATE superluigi_meta SET value = '99' WHERE key = 'version'")
    with pytest.raises(QueueVersionError, match="version 99"):
        Queue(name)


def test_many_processes_may_make_one_queue_at_once(tmp_path: Path) -> None:
    name = str(tmp_path / "race.sqlite")
    code = f"from superluigi.queue import Queue; Queue({name!r}).close()"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")


def test_named_queues_are_listed_by_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(tmp_path))
    for name in ("pi", "e", "team/pi"):
        Queue(name).close()
    assert [name for name, _ in lookup.names()] == ["e", "pi", "team/pi"]
    assert [name for name, _ in lookup.names("pi")] == ["pi"]
    assert [name for name, _ in lookup.names("team/*")] == ["team/pi"]
    assert len(list(lookup.names("*/*"))) == 3


def test_pools_say_what_is_wrong_with_them_all_at_once() -> None:
    with pytest.raises(OptionError, match=r"max_workers is 0.*on_term is 'explode'"):
        Pool(0, on_term="explode")  # type: ignore[arg-type]


def test_a_queue_survives_a_fork_of_its_process(tmp_path: Path) -> None:
    code = f"""
import os, warnings
warnings.simplefilter("ignore")
from superluigi.queue import Queue
queue = Queue({str(tmp_path / "fork.sqlite")!r})
queue.counts()
pid = os.fork()
queue.pause()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert queue.paused
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependencyError, match=r"superluigi\[postgres\]"):
        Queue("postgresql://127.0.0.1:1/nothing")


def test_workers_that_cannot_start_are_told_with_their_last_words(tmp_path: Path) -> None:
    from superluigi.queue.providers import WorkerOrder

    provider = LocalProvider()
    order = WorkerOrder("a", (sys.executable, "-c", "raise SystemExit('no such environment')"), str(tmp_path), Pool())
    with pytest.raises(QueueError, match="no such environment"):
        for _ in range(200):
            provider.start(order)
            provider.close(wait=True)
            provider.alive("a")
    assert os.environ["PATH"]


def test_a_provider_of_another_package_enters_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from superluigi.queue import providers

    (tmp_path / "clouds_of_mine.py").write_text(
        "class Provider:\n    def start(self, order): pass\n    def alive(self, prefix): return {}\n"
        "    def cancel(self, label): pass\n    def close(self, *, wait): pass\n"
    )
    about = tmp_path / "clouds-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        f"[{providers.GROUP}]\nclouds = clouds_of_mine:Provider\nbroken = no_such_module:Provider\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert providers.load("clouds").alive("") == {}
    with pytest.raises(OptionError, match=r"'broken' \(no_such_module:Provider\) cannot be loaded"):
        providers.load("broken")
    with pytest.raises(OptionError, match="broken, clouds, local, slurm"):
        providers.load("slrm")


def test_the_benchmark_called_queue_does_not_hide_the_standard_library() -> None:
    benchmarks = Path(__file__).parents[3] / "benchmarks"
    code = "import queue, concurrent.futures; print(queue.SimpleQueue.__module__, queue.__name__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=benchmarks, capture_output=True, text=True, check=True)
    assert found.stdout == "_queue queue\n"
    helped = subprocess.run([sys.executable, benchmarks / "queue.py", "--help"], capture_output=True, text=True)
    assert "benchmarks/queue.py" in helped.stdout and helped.returncode == 0


def test_a_queue_that_is_forgotten_closes_its_connections(tmp_path: Path) -> None:
    opened: list[object] = []
    closed: list[object] = []

    @event.listens_for(ConnectionPool, "connect")
    def count_opened(connection: object, _: object) -> None:
        opened.append(connection)

    @event.listens_for(ConnectionPool, "close")
    def count_closed(connection: object, _: object) -> None:
        closed.append(connection)

    try:
        assert Queue(str(tmp_path / "q.sqlite")).tasks() == []
        gc.collect()
    finally:
        event.remove(ConnectionPool, "connect", count_opened)
        event.remove(ConnectionPool, "close", count_closed)
    assert opened and closed == opened


@pytest.mark.parametrize(
    "name", ["pi", "team/pi", "x.sqlite", "sqlite:///x.sqlite", "sqlite:///x.db", "sqlite:////tmp/x"]
)
def test_what_is_passed_on_means_the_same_queue_to_another_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    meant, passed = queue_url.url_of(name), queue_url.passed_on(name)
    monkeypatch.chdir("/")
    assert queue_url.url_of(passed) == meant
    assert queue_url.passed_on(passed) == passed

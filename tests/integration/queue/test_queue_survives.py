"""Kills at any moment: of workers, spawners, everything; stolen leases, recycled pids, power cuts."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import postgres_support as postgres
import pytest
from sqlalchemy import text

from superluigi.errors import QueueError, QueueGoneError
from superluigi.queue import Pool, Queue
from superluigi.queue.store.database import Database
from superluigi.storage import owner_token

Project = Callable[[str], ModuleType]
LEASE = timedelta(seconds=2)

SLEEPERS = """
    class Sleeper(luigi.Task):
        number = luigi.IntParameter(default=0)
        seconds = luigi.FloatParameter(default=60)
        pool = "default"

        def output(self):
            return luigi.LocalTarget(f"slept-{self.number}")

        def run(self):
            begun = pathlib.Path(f"begun-{self.number}")
            with begun.open("a") as file:
                file.write(f"{os.getpid()}\\n")
            if pathlib.Path("be-quick").exists():
                self.seconds = 0
            time.sleep(self.seconds)
            with self.output().open("w") as file:
                file.write("slept")
"""


@contextlib.contextmanager
def _command(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `superluigi queue …` process of this test, ended by its own handle."""
    process = subprocess.Popen([sys.executable, "-m", "superluigi", "queue", *words], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _begun(number: int = 0) -> list[int]:
    file = Path(f"begun-{number}")
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def _gone(pid: int) -> bool:
    return owner_token.start_time(pid) == 0


def test_a_killed_worker_gives_its_task_back_and_takes_its_child_along(project: Project, any_queue_name: str) -> None:
    module = project(SLEEPERS)
    with Queue(any_queue_name, lease=LEASE) as queue:
        queue.submit(module.Sleeper())
        with _command("work", any_queue_name, "--lease", "2") as worker:
            _until(_begun)
            worker.kill()
        _until(lambda: _gone(_begun()[0]))
        Path("be-quick").touch()
        queue.spawn(workers=1)
        (row,) = queue.tasks()
        assert (row.state, row.attempts) == ("SUCCEEDED", 2)
        assert [attempt.outcome for attempt in queue.attempts(row)] == ["LOST", "SUCCEEDED"]
        assert queue.check() == []


def test_a_killed_spawner_leaves_its_workers_and_the_next_takes_over(project: Project, either_queue_name: str) -> None:
    module = project(SLEEPERS)
    with Queue(either_queue_name, lease=LEASE) as queue:
        queue.submit([module.Sleeper(number=0, seconds=3), module.Sleeper(number=1, seconds=0)])
        with _command("spawn", either_queue_name, "--workers", "1", "--lease", "2") as spawner:
            _until(_begun)
            spawner.kill()
        queue.spawn(workers=1)
        assert [(row.state, row.attempts) for row in queue.tasks()] == [("SUCCEEDED", 1)] * 2
        assert len(_begun(0)) == 1


def test_after_a_kill_of_everything_a_restart_finishes(project: Project, either_queue_name: str) -> None:
    module = project(SLEEPERS)
    with Queue(either_queue_name, lease=LEASE) as queue:
        queue.submit([module.Sleeper(number=number) for number in range(2)])
        with (
            _command("work", either_queue_name, "--lease", "2") as first,
            _command("work", either_queue_name, "--lease", "2") as second,
        ):
            _until(lambda: _begun(0) and _begun(1))
            os.kill(_begun(0)[0], signal.SIGKILL)  # a child of a worker of ours, alive a moment ago
            first.kill()
            second.kill()
        Path("be-quick").touch()
        queue.spawn(workers=2)
        assert {row.state for row in queue.tasks()} <= {"SUCCEEDED", "FAILED"}
        queue.retry()
        queue.spawn(workers=2)
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}


def test_a_worker_that_lost_its_lease_ends_its_child_and_changes_nothing(
    project: Project, either_queue_name: str
) -> None:
    module = project(SLEEPERS)
    with Queue(either_queue_name, lease=LEASE) as queue:
        queue.submit(module.Sleeper())
        with _command("work", either_queue_name, "--lease", "2") as worker:
            _until(_begun)
            worker.send_signal(signal.SIGSTOP)  # it sleeps through its lease
            time.sleep(2.2)
            Path("be-quick").touch()
            queue.work()
            assert [(row.state, row.attempts) for row in queue.tasks()] == [("SUCCEEDED", 2)]
            worker.send_signal(signal.SIGCONT)
            _until(lambda: _gone(_begun()[0]))
            assert worker.wait(30) == 0
        assert [(row.state, row.attempts) for row in queue.tasks()] == [("SUCCEEDED", 2)]


def test_a_lost_worker_on_another_host_is_known_by_its_lease_alone(project: Project, either_queue_name: str) -> None:
    module = project(SLEEPERS)
    Path("be-quick").touch()
    with Queue(either_queue_name, lease=LEASE) as queue:
        queue.submit(module.Sleeper())
        _pretend_claimed(either_queue_name, worker="elsewhere-1-1-000000000000", place="elsewhere//", lease=1.5)
        assert queue.counts()["RUNNING"] == 1
        began = time.monotonic()
        queue.work()
        assert time.monotonic() - began > 1.0  # nobody here may say that it is dead before its lease is over
        assert [(row.state, row.attempts) for row in queue.tasks()] == [("SUCCEEDED", 2)]


def test_a_recycled_pid_is_not_taken_for_the_worker_and_never_signalled(
    project: Project, either_queue_name: str
) -> None:
    module = project(SLEEPERS)
    Path("be-quick").touch()
    with Queue(either_queue_name) as queue:
        queue.submit(module.Sleeper())
        bystander = subprocess.Popen(["sleep", "60"])
        try:
            # Our own place, a pid that lives, but another start time: somebody else got the number.
            name = f"{owner_token.host()}-{owner_token.world()}-{bystander.pid}-1-000000000000"
            _pretend_claimed(either_queue_name, worker=name, place=owner_token.world(), lease=600)
            assert queue.kill(state="RUNNING") == 1
            queue.spawn(workers=1)
            assert [row.state for row in queue.tasks()] == ["KILLED"]
            queue.retry(state="KILLED")
            queue.work()
            assert [row.state for row in queue.tasks()] == ["SUCCEEDED"]
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


def _pretend_claimed(name: str, *, worker: str, place: str, lease: float) -> None:
    database = Database(name)
    with database.write() as connection:
        now = time.time()
        connection.execute(
            text(
                "UPDATE superluigi_tasks SET state = 'RUNNING', worker = :worker, lease = :lease, fence = 1, "
                "attempts = 1, started = :now"
            ),
            {"worker": worker, "lease": now + lease, "now": now},
        )
        connection.execute(
            text("INSERT INTO superluigi_workers (id, pool, place, started, seen) VALUES (:id, 'default', :p, :n, :n)"),
            {"id": worker, "p": place, "n": now},
        )
    database.close()


def test_kill_ends_a_running_task_with_all_it_started_and_it_stays_killed(
    project: Project, any_queue_name: str
) -> None:
    module = project("""
        class Parent(luigi.Task):
            def run(self):
                import subprocess
                child = subprocess.Popen(["sleep", "300"], start_new_session=True)
                pathlib.Path("begun-0").write_text(f"{os.getpid()}\\n{child.pid}\\n")
                child.wait()
    """)
    with Queue(any_queue_name, lease=LEASE) as queue:
        queue.submit(module.Parent())
        with _command("work", any_queue_name, "--lease", "2") as worker:
            _until(lambda: len(_begun()) == 2)
            assert queue.kill(name="Parent") == 1
            assert worker.wait(60) == 0
        _until(lambda: all(_gone(pid) for pid in _begun()))
        queue.spawn(workers=1)
        assert [(row.state, row.attempts) for row in queue.tasks()] == [("KILLED", 1)]


@pytest.mark.parametrize(("on_term", "state"), [("requeue", "PENDING"), ("kill", "KILLED")])
def test_a_worker_that_is_told_to_end_puts_its_task_back_or_kills_it(
    project: Project, either_queue_name: str, on_term: str, state: str
) -> None:
    module = project(SLEEPERS)
    with Queue(either_queue_name, pools={"default": Pool(on_term=on_term)}) as queue:  # type: ignore[arg-type]
        queue.submit(module.Sleeper())
        with _command("work", either_queue_name) as worker:
            _until(_begun)
            worker.terminate()
            assert worker.wait(30) == 0
        assert _gone(_begun()[0])
        assert [row.state for row in queue.tasks()] == [state]
        assert queue.tasks()[0].failures == 0


def test_walltime_ends_a_worker_in_time(project: Project, either_queue_name: str) -> None:
    module = project(SLEEPERS)
    with Queue(either_queue_name, pools={"default": Pool(walltime=timedelta(seconds=7))}) as queue:
        queue.submit(module.Sleeper())
        with _command("work", either_queue_name) as worker:
            assert worker.wait(60) == 1
        # No worker could ever make it: it had a whole walltime for itself.
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "had the whole walltime" in str(row.error)


def test_three_spawners_one_killed_never_run_more_than_the_pool_allows(
    project: Project, either_queue_name: str
) -> None:
    module = project("""
        class Step(luigi.Task):
            number = luigi.IntParameter()
            pool = "narrow"

            def run(self):
                with open("steps", "a") as log:
                    log.write("+")
                time.sleep(0.05)
                with open("steps", "a") as log:
                    log.write("-")
    """)
    with Queue(either_queue_name, pools={"narrow": Pool(2)}, lease=LEASE) as queue:
        queue.submit([module.Step(number=number) for number in range(40)])
        spawn = ("spawn", either_queue_name, "--lease", "2", "--workers", "4")
        with _command(*spawn) as one, _command(*spawn) as two, _command(*spawn) as three:
            _until(lambda: Path("steps").exists() and len(Path("steps").read_text()) > 10)
            one.kill()
            assert (two.wait(90), three.wait(90)) == (0, 0)
        assert queue.counts()["SUCCEEDED"] == 40
        running = 0
        for sign in Path("steps").read_text():
            running += 1 if sign == "+" else -1
            assert running <= 2
        assert running == 0


def test_a_copy_made_at_a_power_cut_is_sound_and_goes_on(project: Project, queue_name: str, tmp_path: Path) -> None:
    module = project("""
        class Quick(luigi.Task):
            number = luigi.IntParameter()

            def output(self):
                return luigi.LocalTarget(f"quick-{self.number}")

            def run(self):
                self.output().open("w").close()
    """)
    with Queue(queue_name) as queue:
        queue.submit([module.Quick(number=number) for number in range(300)])
    copy = str(tmp_path / "copy.sqlite")
    with _command("work", queue_name) as one, _command("work", queue_name) as two:
        with Queue(queue_name) as queue:
            _until(lambda: queue.counts()["SUCCEEDED"] > 50)
        for worker in (one, two):
            worker.send_signal(signal.SIGSTOP)  # the power goes: what the kernel has is what there is
        for suffix in ("", "-wal"):
            if Path(f"{queue_name}{suffix}").exists():
                shutil.copyfile(f"{queue_name}{suffix}", f"{copy}{suffix}")
        for worker in (one, two):
            worker.kill()
            worker.wait()
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Queue(copy) as queue:
        assert queue.check() == []
        assert queue.counts()["SUCCEEDED"] > 50
        queue.spawn(workers=1)
        assert queue.counts()["SUCCEEDED"] == 300
    shutil.rmtree(Path(copy).with_suffix(".logs"), ignore_errors=True)


def test_delete_with_running_children_needs_force_and_ends_them(project: Project, any_queue_name: str) -> None:
    module = project(SLEEPERS)
    with Queue(any_queue_name, lease=LEASE) as queue:
        queue.submit(module.Sleeper())
        with _command("work", any_queue_name, "--lease", "2") as worker:
            _until(_begun)
            with pytest.raises(QueueError, match="running"):
                queue.delete()
            queue.delete(force=True)
            _until(lambda: _gone(_begun()[0]))
            assert worker.wait(30) == 0
        with pytest.raises(QueueGoneError):
            Queue(any_queue_name, create=False)


def test_eight_workers_on_one_file_meet_no_busy_error(project: Project, queue_name: str) -> None:
    module = project("""
        class Nothing(luigi.Task):
            number = luigi.IntParameter()

            def run(self):
                pass
    """)
    with Queue(queue_name) as queue:
        queue.submit([module.Nothing(number=number) for number in range(400)])
        queue.spawn(workers=8)
        assert queue.counts()["SUCCEEDED"] == 400
        assert not [row for row in queue.tasks() if row.error]
        assert not [file for file in (queue.logs / "workers").glob("*.out") if "locked" in file.read_text()]


def test_a_restart_of_the_database_server_ends_neither_worker_nor_spawner(
    project: Project, postgres_server: str
) -> None:  # fmt: skip
    """The server ends every connection, as a restart does; nobody but those who ask notices."""
    import psycopg

    module = project(SLEEPERS)
    name = postgres.database(postgres_server, f"restart{secrets.token_hex(4)}")
    with Queue(name) as queue:
        queue.submit([module.Sleeper(number=number, seconds=0.5) for number in range(6)])
        # a claim whose answer got lost waits for its lease
        with _command("spawn", name, "--workers", "1", "--lease", "10") as spawner:
            _until(_begun)
            for _ in range(3):
                with psycopg.connect(name, autocommit=True) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                time.sleep(0.3)
            assert spawner.wait(90) == 0
        assert queue.counts()["SUCCEEDED"] == 6
        assert queue.check() == []


def test_a_worker_whose_connection_is_cut_under_a_running_task_goes_on(project: Project, postgres_server: str) -> None:
    import psycopg

    module = project(SLEEPERS)
    name = postgres.database(postgres_server, f"cut{secrets.token_hex(4)}")
    with Queue(name) as queue, psycopg.connect(name, autocommit=True) as connection:
        queue.submit(module.Sleeper(seconds=3))
        with _command("work", name, "--lease", "10") as worker:
            _until(_begun)
            for _ in range(20):  # the worker looks at its lease twice a second
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                time.sleep(0.1)
            assert worker.wait(90) == 0
        assert [(row.state, row.attempts) for row in queue.tasks()] == [("SUCCEEDED", 1)]


def test_workers_of_a_spawner_look_for_external_data_as_often_as_was_said(project: Project, queue_name: str) -> None:
    module = project("""
        class Data(luigi.ExternalTask):
            def output(self):
                return luigi.LocalTarget("data.csv")
    """)
    with Queue(queue_name) as queue:
        queue.submit(module.Data())
        with _command("spawn", queue_name, "--keep-alive", "--recheck", "1"):
            _until(lambda: "not there yet" in (queue.tasks()[0].error or ""))
            Path("data.csv").touch()
            _until(lambda: queue.tasks()[0].state == "SUCCEEDED", seconds=45)  # a minute is the default
            queue.delete(force=True)

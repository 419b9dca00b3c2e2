"""One process that works for long: memory, descriptors, threads, children, temporary files stay what they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what a process holds")

HELD = """
import gc, json, os, resource, sys, tempfile, threading
from pathlib import Path

def held():
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    places = (tempfile.gettempdir(), os.environ["SUPERLUIGI_LOCAL_DATA_DIR"], "store")
    return {
        "memory": int(status["VmRSS"].split()[0]) >> 10, "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(), "children": len(children),
        "temporary": sum(
            len(files) for place in places for folder, _, files in os.walk(place)
            if ".superluigi" in folder or place == tempfile.gettempdir()
        ),
    }
"""

RUNS = """
import contextlib, io
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Part(AtomicTaskWithMetadata):
    n: Param[int]
    def output(self):
        return LocalFileTarget(f"store/{self.n % 10}.txt")
    def run(self, output_path):
        output_path.write_text("x" * 1000)

class Whole(AtomicTaskWithMetadata):
    n: Param[int]
    def requires(self):
        return Part(n=self.n)
    def output(self):
        return LocalFileTarget(f"store/whole-{self.n % 10}.txt")
    def run(self, input_path, output_path):
        output_path.write_text(input_path.read_text())

def runs(count):
    for n in range(count):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_task(Whole(n=n % 20), force_upstream=True, quiet=True)

warm, count = int(sys.argv[1]), int(sys.argv[2])
runs(warm)
before = held()
runs(count)
print(json.dumps([before, held()]))
"""

QUEUE = """
import logging
from superluigi.parameters import Param
from superluigi.queue import Pool, Queue
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
import queue_tasks

warm, count = int(sys.argv[1]), int(sys.argv[2])
queue = Queue("q.sqlite", pools={"default": Pool(1)})
queue.submit([queue_tasks.Part(n=n) for n in range(warm + count)])
queue.work(max_tasks=warm)
before = held()
queue.work()
assert queue.counts()["SUCCEEDED"] == warm + count
after = held()
print(json.dumps([before, after]))
"""

TASKS = """
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Part(AtomicTaskWithMetadata):
    n: Param[int]
    def output(self):
        return LocalFileTarget(f"store/{self.n % 100}/{self.n}.txt")
    def run(self, output_path):
        output_path.write_text("x")
"""

MANY = """
import contextlib, io
import luigi
from superluigi import run_task

class Leaf(luigi.Task):
    n = luigi.IntParameter()
    done = set()
    def complete(self):
        return self.n in self.done
    def run(self):
        self.done.add(self.n)

class All(luigi.WrapperTask):
    count = luigi.IntParameter()
    def requires(self):
        return [Leaf(n=n) for n in range(self.count)]

with contextlib.redirect_stdout(io.StringIO()):
    run_task(All(count=int(sys.argv[2])), quiet=True)
assert len(Leaf.done) == int(sys.argv[2])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))
"""


def played(place: Path, script: str, warm: int, count: int) -> Any:
    """What a script prints at its end, in a process of its own whose temporary folder nobody else has."""
    (place / "tmp").mkdir()
    (place / "queue_tasks.py").write_text(textwrap.dedent(TASKS))
    (place / "script.py").write_text(HELD + script)
    done = subprocess.run(
        [sys.executable, "script.py", str(warm), str(count)], cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(place / "tmp"), "PYTHONPATH": str(place)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_flat(before: dict[str, int], after: dict[str, int], memory: int) -> None:
    assert after["memory"] <= before["memory"] + memory, (before, after)
    for what in ("descriptors", "threads", "children", "temporary"):
        assert after[what] <= before[what], (what, before, after)


def test_a_process_of_many_runs_holds_no_more_than_after_the_first(tmp_path: Path) -> None:
    check_flat(*played(tmp_path, RUNS, 20, 60), memory=8)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_process_of_a_thousand_runs_holds_no_more_than_after_the_first(tmp_path: Path) -> None:
    check_flat(*played(tmp_path, RUNS, 50, 1000), memory=12)


def test_a_worker_of_many_tasks_holds_no_more_than_after_the_first(tmp_path: Path) -> None:
    check_flat(*played(tmp_path, QUEUE, 20, 60), memory=8)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_worker_of_five_thousand_tasks_holds_no_more_than_after_the_first(tmp_path: Path) -> None:
    check_flat(*played(tmp_path, QUEUE, 50, 5000), memory=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_tasks_take_less_than_700_megabytes(tmp_path: Path) -> None:
    assert played(tmp_path, MANY, 0, 100_000) < 700

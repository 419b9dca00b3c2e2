"""Ctrl-C, kill -9 and tasks of `__main__`, from outside: a script in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import luigi
import pytest
from process_support import alive_in

from superluigi.engine.engine import run_graph
from superluigi.runs.context import RunContext
from superluigi.testing.executor_tasks import LoggedTask, journal, note

# No `if __name__ == "__main__"` guard, as in notebooks: worker processes must not run the script again.
SCRIPT = """
    import subprocess, sys, time
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context
    from pathlib import Path
    import luigi
    from superluigi.targets import LocalFileTarget
    from superluigi.task_runner import run_task
    from superluigi.tasks import AtomicTaskWithMetadata
    from superluigi.testing.executor_tasks import journal, note

    FOLDER, WORKERS, EXECUTOR = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    LENT = {"lent threads": ThreadPoolExecutor, "lent processes": ProcessPoolExecutor}.get(EXECUTOR)
    note(FOLDER, "script")

    class Slow(AtomicTaskWithMetadata):
        number = luigi.IntParameter()

        def output(self):
            return LocalFileTarget(f"{FOLDER}/out/{self.number}.txt")

        def run(self, output_path):
            output_path.write_text("partial")
            note(FOLDER, "begin", self.number)
            if self.number >= 3 and not Path(FOLDER, "quick").exists():
                self.wait()
            output_path.write_text("whole")

        def wait(self):
            if Path(FOLDER, "daemons").exists():  # they leave our process group, and our session
                subprocess.Popen(["sleep", "600"], start_new_session=True)
                note(FOLDER, "daemon")
            while Path(FOLDER, "swallows").exists():
                try:
                    time.sleep(600)
                except BaseException:
                    note(FOLDER, "swallowed")
            try:
                in_python = LENT or Path(FOLDER, "tidies").exists()  # else in one long call
                for _ in range(600 if in_python else 1):
                    time.sleep(0.1 if in_python else 60)
            finally:
                note(FOLDER, "tidying")
                time.sleep(0.5 if Path(FOLDER, "tidies").exists() else 0)

    class Root(AtomicTaskWithMetadata):
        def requires(self):
            return [Slow(number=i) for i in range(6)]

        def output(self):
            return LocalFileTarget(f"{FOLDER}/out/root.txt")

        def run(self, output_path):
            output_path.write_text("root")

    class Deaf(luigi.Task):
        def complete(self):
            return False

        def run(self):
            note(FOLDER, "begin", "deaf")
            while not Path(FOLDER, "enough").exists():
                time.sleep(0.1)

    class Interrupted(ProcessPoolExecutor):
        def submit(self, *args, **kwargs):
            # Ctrl-C comes when the task has begun, and before anything else knows that it was handed over
            before = len(journal(Path(FOLDER)))
            future = super().submit(*args, **kwargs)
            while len(journal(Path(FOLDER))) == before:
                time.sleep(0.01)
            if int(journal(Path(FOLDER))[-1][1]) >= 3:
                raise KeyboardInterrupt
            return future

    if Path(FOLDER, "handed over").exists():
        EXECUTOR = Interrupted(WORKERS, get_context("fork"))
    elif LENT:
        EXECUTOR = LENT(WORKERS, *([get_context("fork")] if LENT is ProcessPoolExecutor else []))
    ROOT = Deaf() if Path(FOLDER, "deaf").exists() else Root()
    run_task(ROOT, num_workers=WORKERS, executor=None if EXECUTOR == "None" else EXECUTOR)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


def start(script: Path, folder: Path, workers: int, executor: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(script), str(folder), str(workers), executor]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    )


def wait_until(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def stray_files(folder: Path) -> list[str]:
    """Files below `out` that are neither outputs nor their records."""
    known = {f"{name}.txt{end}" for name in (*range(6), "root") for end in ("", ".metadata.json")}
    return [str(p) for p in (folder / "out").rglob("*") if p.is_file() and p.name not in known and p.stat().st_size]


WAYS = [(1, "None"), (2, "threads"), (2, "lent threads"), (2, "processes"), (2, "lent processes")]


@pytest.mark.parametrize(("workers", "executor"), WAYS)
def test_ctrl_c_ends_everything_and_a_second_run_resumes(
    script: Path, tmp_path: Path, workers: int, executor: str
) -> None:
    process = start(script, tmp_path, workers, executor)
    wait_until(lambda: sum(line[0] == "begin" for line in journal(tmp_path)) >= 3 + workers)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode not in (0, None), said
    wait_until(lambda: alive_in(tmp_path) == [], 5)
    assert stray_files(tmp_path) == []
    (tmp_path / "quick").touch()
    again = start(script, tmp_path, workers, executor)
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said
    counted = Counter(line[1] for line in journal(tmp_path) if line[0] == "begin")
    assert [counted[str(i)] for i in range(3)] == [1, 1, 1]  # what was complete did not run again
    assert (tmp_path / "out" / "root.txt").read_text() == "root"
    assert all((tmp_path / "out" / f"{i}.txt").read_text() == "whole" for i in range(6))


# Not with a pool of the standard library, which waits for ever when it is interrupted while the interpreter ends.
@pytest.mark.parametrize(("workers", "executor"), WAYS[1:-1])
def test_an_impatient_second_ctrl_c_leaves_nothing_behind_either(
    script: Path, tmp_path: Path, workers: int, executor: str
) -> None:
    (tmp_path / "tidies").touch()
    process = start(script, tmp_path, workers, executor)
    wait_until(lambda: sum(line[0] == "begin" for line in journal(tmp_path)) >= 3 + workers)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: ["tidying"] in journal(tmp_path))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None), said
    assert alive_in(tmp_path) == []
    assert stray_files(tmp_path) == []


def test_ctrl_c_reaches_a_task_that_is_just_being_handed_over(script: Path, tmp_path: Path) -> None:
    (tmp_path / "handed over").touch()
    process = start(script, tmp_path, 1, "lent processes")
    said, _ = process.communicate(timeout=45)
    assert process.returncode not in (0, None), said
    assert "was ended; 3 of 7 tasks were made" in said, said
    assert journal(tmp_path)[-1] == ["tidying"]


def test_ctrl_c_says_what_may_go_on_in_processes_of_others(script: Path, tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    process = start(script, tmp_path, 2, "lent processes")
    wait_until(lambda: ["begin", "deaf"] in journal(tmp_path))
    process.send_signal(signal.SIGINT)  # to this process alone, as one on another host would have it
    said = ""
    while "Interrupted" not in said:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, said
        said += line
    assert "Deaf() may go on in processes of the executor that was given; 0 of 1 tasks were made" in said
    (tmp_path / "enough").touch()  # the standard library's pool waits for it
    process.communicate(timeout=60)


def test_ctrl_c_ends_what_a_task_has_started_in_a_session_of_its_own(script: Path, tmp_path: Path) -> None:
    (tmp_path / "daemons").touch()
    process = start(script, tmp_path, 2, "processes")
    wait_until(lambda: journal(tmp_path).count(["daemon"]) == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # they hold its stdout
    wait_until(lambda: alive_in(tmp_path) == [], 5)


def test_children_end_when_the_parent_is_killed(script: Path, tmp_path: Path) -> None:
    process = start(script, tmp_path, 2, "processes")
    wait_until(lambda: sum(line[0] == "begin" for line in journal(tmp_path)) >= 5)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: alive_in(tmp_path) == [], 20)


def test_a_task_that_swallows_the_end_of_its_parent_is_killed(script: Path, tmp_path: Path) -> None:
    (tmp_path / "swallows").touch()
    process = start(script, tmp_path, 2, "processes")
    wait_until(lambda: sum(line[0] == "begin" for line in journal(tmp_path)) >= 5)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: ["swallowed"] in journal(tmp_path), 20)
    wait_until(lambda: alive_in(tmp_path) == [], 60)


def test_tasks_of_main_run_in_processes_and_the_script_itself_only_once(script: Path, tmp_path: Path) -> None:
    (tmp_path / "quick").touch()
    process = start(script, tmp_path, 2, "processes")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sum(line == ["script"] for line in journal(tmp_path)) == 1


class Victim(LoggedTask):
    """Works for a moment in a process that may be killed; retried by policy."""

    retry_count = 50

    def work(self) -> None:
        time.sleep(0.03)


def _kill_now_and_then(folder: str, pause: float, stop: threading.Event, killed: list[int]) -> None:
    dice = random.Random(5)
    while not stop.wait(pause):
        pids = {int(line[3]) for line in journal(folder)[-6:] if line[0] == "begin"} - {os.getpid()}
        alive = [pid for pid in sorted(pids) if Path(f"/proc/{pid}").exists()]
        if alive:
            killed.append(dice.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)


def _survives_kills(folder: str, count: int, pause: float) -> int:
    stop, killed = threading.Event(), []  # type: ignore[var-annotated]
    killer = threading.Thread(target=_kill_now_and_then, args=(folder, pause, stop, killed))
    killer.start()
    try:
        roots = [Victim(folder=folder, name=f"v{i}") for i in range(count)]
        report = run_graph(roots, RunContext(), num_workers=3, scheduler_config={"limited_retry_delay": 0.01})
    finally:
        stop.set()
        killer.join()
    assert report.success, report.describe()
    lines = journal(folder)
    running: dict[str, str] = {}
    for line in lines:
        if line[0] == "begin":
            other = running.get(line[1])
            assert other is None or int(other) in killed, f"{line[1]} ran twice at once"
            running[line[1]] = line[3]
        else:
            running.pop(line[1], None)
    for i in range(count):
        assert (Path(folder) / f"v{i}.txt").read_text() == f"v{i}"
    return len(killed)


def test_all_finish_although_workers_are_killed(tmp_path: Path) -> None:
    assert _survives_kills(str(tmp_path), 120, 0.4) > 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_hundred_finish_although_a_worker_is_killed_every_second(tmp_path: Path) -> None:
    assert _survives_kills(str(tmp_path), 500, 1.0) > 0


class LeavesAHelper(LoggedTask):
    """Forks a process that outlives it, as a multiprocessing Manager or Pool does, and holds what it inherited."""

    then = luigi.Parameter(default="")

    def work(self) -> None:
        helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
        helper.start()
        note(self.folder, "helper", helper.pid)
        if self.then == "die":
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("then", ["", "die"])
def test_what_a_task_has_forked_keeps_no_run_from_ending(tmp_path: Path, then: str) -> None:
    roots = [LeavesAHelper(folder=str(tmp_path), name=f"h{i}", then=then if i else "") for i in range(2)]
    report = run_graph(roots, RunContext(), num_workers=2, executor="processes")
    assert report.counts() == ({"ran": 1, "failed": 1} if then else {"ran": 2})
    assert all("SIGKILL" in str(failure.error) for failure in report.failures)
    helpers = [int(line[1]) for line in journal(tmp_path) if line[0] == "helper"]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers), 20)

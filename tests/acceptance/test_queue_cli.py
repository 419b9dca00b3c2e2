"""`superluigi queue …` as a person uses it: a script in a fresh folder, commands, exit codes, what is printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

TASKS = """
import luigi, pathlib, time

class Step(luigi.Task):
    number = luigi.IntParameter(default=0)
    tags = {"lr": 0.1}

    def output(self):
        return luigi.LocalTarget(f"step-{self.number}")

    def run(self):
        print("step", self.number)
        if self.number == 3 and not pathlib.Path("mended").exists():
            raise ValueError("step three breaks")
        self.output().open("w").close()

class Last(luigi.Task):
    def requires(self):
        return [Step(number=number) for number in range(4)]

    def output(self):
        return luigi.LocalTarget("last")

    def run(self):
        self.output().open("w").close()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "steps.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(tmp_path / "queues"))
    return tmp_path


def _queue(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "superluigi", "queue", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_day_in_the_life_of_a_queue(folder: Path) -> None:
    assert "5 to run" in _queue("submit", "q", "steps", "Last", "--priority", "5").stdout
    assert "5 known" in _queue("submit", "q", "steps", "Last").stdout
    assert _queue("list").stdout.split() == ["queue", "tasks", "paused", "q", "WAITING:1", "PENDING:4"]
    assert json.loads(_queue("list", "--json", "*/*").stdout)[0]["counts"]["PENDING"] == 4

    (folder / "steps.py").rename(folder / "hidden")  # looking imports no user code
    rows = json.loads(_queue("tasks", "q", "--json").stdout)
    assert len(rows) == 5 and {row["priority"] for row in rows} == {5}
    assert len(json.loads(_queue("tasks", "q", "--json", "--tag", "lr=.1").stdout)) == 4
    assert len(json.loads(_queue("tasks", "q", "--json", "--name", "La*").stdout)) == 1
    (folder / "hidden").rename(folder / "steps.py")

    _queue("spawn", "q", "--workers", "2", code=1)
    shown = _queue("tasks", "q", "--state", "FAILED", "--log").stdout
    assert "Step_3" in shown and "| step 3" in shown and "ValueError: step three breaks" in shown
    assert "BLOCKED" in _queue("tasks", "q", "--name", "Last").stdout
    assert "Step" in _queue("time", "q").stdout
    assert "3 of 5 done" in _queue("top", "q", "--once").stdout

    (folder / "mended").touch()
    assert _queue("retry", "q", "--state", "FAILED").stdout == "to be tried again: 1\n"
    _queue("pause", "q")
    _queue("spawn", "q")
    assert not (folder / "last").exists()
    _queue("resume", "q", "--spawn")
    deadline = time.monotonic() + 90
    while not (folder / "last").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def told_of_step_three(stderr: str) -> None:
    """That the failure is told once, with its frame and its log, and once in the ending."""
    first, ending = stderr.split("✕ Step(number=3) failed", 1)
    told = first.splitlines()
    assert told[0] == "Step(number=3) failed: ValueError: step three breaks"
    assert (
        len(told) == 3
        and told[1].startswith("    steps.py:14 in run: raise ValueError")
        and told[2].startswith("    log: ")
    )
    log = Path(told[2].removeprefix("    log: "))
    assert "ValueError: step three breaks" in log.read_text()
    lines = ending.splitlines()
    assert lines[0].endswith(": ValueError: step three breaks") and lines[1] == f"  log     {log}"
    assert lines[2] == "  blocks  Last()" and re.match(r"✕ 3 \w+, 1 failed, 1 blocked in ", lines[3])


@pytest.mark.parametrize("verb", ["spawn", "work"])
def test_a_failure_is_told_where_it_happens_and_in_the_ending(folder: Path, verb: str) -> None:
    _queue("submit", "q", "steps", "Last")
    done = _queue(verb, "q", code=1)
    assert done.stdout == ""
    told_of_step_three(done.stderr)
    (folder / "mended").touch()
    _queue("retry", "q")
    assert re.fullmatch(r"✓ 2 ran, 3 complete in .* s\n", _queue(verb, "q").stderr)


def test_who_waits_for_a_queue_hears_of_each_failure_once(folder: Path) -> None:
    _queue("submit", "q", "steps", "Last")
    script = (
        "from superluigi.queue import Queue\n"
        "queue = Queue('q')\n"
        "queue.spawn(1, detach=True)\n"
        "queue.wait()\n"
        "queue.wait()\n"  # an old failure is no news
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.count("Step(number=3) failed: ValueError: step three breaks") == 1
    assert done.stderr.count("steps.py:14 in run: ") == 1


def test_a_failure_that_is_tried_again_says_so(folder: Path) -> None:
    source = TASKS.replace("    tags =", "    retry_count = 2\n    tags =")
    (folder / "steps.py").write_text(source)
    _queue("submit", "q", "steps", "Last")
    said = _queue("work", "q", code=1).stderr
    assert said.count("Step(number=3) failed, and will be tried again: ValueError: step three breaks") == 1
    assert said.count("Step(number=3) failed: ValueError: step three breaks") == 1
    assert "✕ Step(number=3) failed after 2 attempts: ValueError: step three breaks" in said


def test_destructive_verbs_list_first_and_need_force(folder: Path) -> None:
    _queue("submit", "q", "steps", "Step")
    listed = _queue("kill", "q", "--name", "Step", code=1)
    assert "Step_0" in listed.stdout and "--force" in listed.stderr
    assert "PENDING:1" in _queue("list").stdout
    assert "1 tasks killed" in _queue("kill", "q", "--name", "Step", "--force").stdout
    assert "KILLED:1" in _queue("list").stdout
    assert "--force" in _queue("delete", "q", code=1).stderr
    _queue("delete", "q", "--force")
    assert _queue("list").stdout == ""
    assert not [file for file in (folder / "queues").rglob("*") if file.is_file()]


def test_mistakes_are_told_as_advice(folder: Path) -> None:
    assert "There is no queue" in _queue("tasks", "nothing", code=1).stderr
    assert "is not one of" in _queue("tasks", "q", "--state", "FAILT", code=2).stderr
    assert "did you mean" in _queue("tsks", "q", code=2).stderr
    _queue("submit", "q", "steps", "Step")
    assert "There is no pool 'gpu'" in _queue("work", "q", "--pool", "gpu", code=2).stderr
    assert "kill which tasks" in _queue("kill", "q", "--force", code=2).stderr


def test_a_detached_manager_outlives_its_shell(folder: Path) -> None:
    _queue("submit", "q", "steps", "Step", "--number", "1")
    _queue("spawn", "q", "--workers", "1", "--detach")
    deadline = time.monotonic() + 90
    while not (folder / "step-1").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_luigis_own_page_shows_the_queue(folder: Path) -> None:
    _queue("submit", "q", "steps", "Last")
    _queue("spawn", "q", "--workers", "1", code=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "superluigi", "queue", "serve", "q", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        root = address.partition("/static")[0]
        assert root.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as page:
            assert b"Luigi Task Visualiser" in page.read()

        def ask(method: str, **data: object) -> object:
            query = urllib.parse.urlencode({"data": json.dumps(data)}).encode()
            with urllib.request.urlopen(f"{root}/api/{method}", query) as answer:
                return json.load(answer)["response"]

        assert len(ask("task_list", status="DONE", upstream_status="")) == 3  # type: ignore[arg-type]
        (failed,) = ask("task_list", status="FAILED", upstream_status="")  # type: ignore[misc]
        assert "step three breaks" in ask("fetch_error", task_id=failed)["error"]  # type: ignore[index,call-overload]
        last = next(iter(ask("task_search", task_str="Last")["PENDING"]))  # type: ignore[index,call-overload]
        blocked = ask("task_list", status="PENDING", upstream_status="UPSTREAM_FAILED")
        waiting = blocked[last]  # type: ignore[index]
        assert time.time() - 3600 < waiting["last_updated"] <= time.time()  # since it was submitted, not since 1970
        graph = ask("dep_graph", task_id=last, include_done=True)
        assert len(graph) == 5  # type: ignore[arg-type]
        assert len(ask("inverse_dep_graph", task_id=failed)) == 2  # type: ignore[arg-type]
        assert ask("worker_list") == []
        assert ask("resource_list")[0]["name"] == "pool default"  # type: ignore[index]
        ask("pause")
        assert ask("is_paused") == {"paused": True}
        ask("unpause")
        assert ask("re_enable_task", task_id=failed)["status"] == "PENDING"  # type: ignore[index,call-overload]
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert process.returncode == 0
    assert os.environ["SUPERLUIGI_QUEUE_DIR"]

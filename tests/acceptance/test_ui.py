"""`superluigi ui`: Luigi's page over a run that is going on, from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
    import sys
    from superluigi.engine.engine import run_graph
    from superluigi.testing.executor_tasks import Joins
    run_graph(Joins(folder=sys.argv[1], name="root", width=4, seconds=20.0))
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="sl") as runtime:  # the path of a UNIX socket must be short
        yield {**os.environ, "XDG_RUNTIME_DIR": runtime}


@pytest.fixture
def page(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of the page about a run of five tasks."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    run = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    ui = None
    try:
        deadline = time.monotonic() + 30
        while not list(Path(environment["XDG_RUNTIME_DIR"]).rglob("*.sock")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command = [sys.executable, "-m", "superluigi", "ui"]
        ui = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert ui.stdout is not None
        said = ui.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said
        yield address[0]
    finally:
        for process in filter(None, (ui, run)):
            process.kill()
            process.wait()
        if ui is not None and ui.stdout is not None:
            ui.stdout.close()


def ask(page: str, method: str, **arguments: Any) -> Any:
    query = urllib.parse.urlencode({"data": json.dumps(arguments)})
    with urllib.request.urlopen(f"{page}/api/{method}?{query}", timeout=20) as answer:
        return json.load(answer)["response"]


def test_the_page_shows_the_tasks_of_the_run(page: str) -> None:
    with urllib.request.urlopen(f"{page}/static/visualiser/index.html", timeout=20) as answer:
        assert b"Luigi Task Visualiser" in answer.read()
    tasks = ask(page, "task_list", status="", upstream_status="")
    names = sorted(task["params"]["name"] for task in tasks.values())
    assert names == ["leaf0", "leaf1", "leaf2", "leaf3", "root"]
    assert sorted(task["status"] for task in tasks.values()).count("RUNNING") == 1
    root = next(task_id for task_id, task in tasks.items() if task["params"]["name"] == "root")
    assert len(ask(page, "dep_graph", task_id=root)) == 5
    assert len(ask(page, "worker_list")) == 1


def test_nobody_takes_tasks_out_through_the_page_or_reaches_it_by_another_name(page: str) -> None:
    with pytest.raises(urllib.error.HTTPError):
        ask(page, "get_work", worker="thief", host="x")
    foreign = urllib.request.Request(f"{page}/api/task_list", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(foreign, timeout=20)


def test_without_a_run_it_says_so(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "superluigi", "ui"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "No run of yours is going on" in ended.stderr


class _Watched:
    """A run of one task that waits for a file, `superluigi ui` over it, and what both printed."""

    def __init__(self, folder: Path, environment: dict[str, str], *, fails: bool) -> None:
        self.go = folder / "go"
        script = folder / "flow.py"
        script.write_text(
            "import os, time, luigi\nfrom superluigi import run_task\nfrom superluigi.tasks import Task\n"
            "from superluigi.targets import LocalFileTarget\n"
            "class WaitsForAWord(Task):\n    word = luigi.Parameter()\n"
            f"    def output(self): return LocalFileTarget({str(folder / 'out.txt')!r})\n"
            "    def run(self):\n"
            f"        while not os.path.exists({str(self.go)!r}): time.sleep(0.02)\n"
            f"        if {fails}: raise ValueError('the word was wrong')\n"
            "        return 'x'\n"
            "if __name__ == '__main__': run_task(WaitsForAWord('please'))\n"
        )
        self.run = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=-3, stderr=-3)
        deadline = time.monotonic() + 60
        while not list(Path(environment["XDG_RUNTIME_DIR"]).rglob("*.sock")):
            assert time.monotonic() < deadline and self.run.poll() is None
            time.sleep(0.05)
        command = [sys.executable, "-m", "superluigi", "ui"]
        listed = subprocess.run([*command, "--list"], env=environment, capture_output=True, text=True, check=True)
        self.listed = listed.stdout
        self.errors = (folder / "errors.txt").open("w+")
        self.ui = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        assert self.ui.stdout is not None
        self.said = self.ui.stdout.readline()
        self.page = self.said.split()[0].rstrip("/")

    def ended(self) -> dict[str, Any]:
        """Wait until the page knows that the run has ended; what it says."""
        assert self.ui.stdout is not None
        assert "The run" in self.ui.stdout.readline()
        state: dict[str, Any] = ask(self.page, "superluigi_state")
        return state

    def close(self) -> str:
        for process in (self.run, self.ui):
            process.kill()
            process.wait()
        assert self.ui.stdout is not None
        self.ui.stdout.close()
        self.errors.seek(0)
        with self.errors:
            return self.errors.read()


@pytest.mark.parametrize("fails", [False, True])
def test_the_page_names_the_task_says_when_the_run_has_ended_and_keeps_its_last_state(
    tmp_path: Path, environment: dict[str, str], browser: Any, fails: bool
) -> None:
    watched = _Watched(tmp_path, environment, fails=fails)
    try:
        assert "WaitsForAWord(word=please)" in watched.said and "WaitsForAWord(word=please)" in watched.listed
        context = browser.new_context(viewport={"width": 1200, "height": 700})
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(watched.page)
        bar = page.locator("#superluigi-state")
        bar.get_by_text("WaitsForAWord(word=please) is running").wait_for()
        watched.go.touch()
        state = watched.ended()
        assert state["ended"] and state["counts"] == ({"FAILED": 1} if fails else {"DONE": 1})
        bar.get_by_text("This is its last state").wait_for()
        page.locator("#taskTable tbody", has_text="WaitsForAWord").wait_for()
        context.close()
        assert complaints == []
        status = "FAILED" if fails else "DONE"
        tasks = ask(watched.page, "task_list", status=status, upstream_status="")
        assert [task["name"] for task in tasks.values()] == ["WaitsForAWord"]
        (task_id,) = tasks
        assert list(ask(watched.page, "dep_graph", task_id=task_id)) == [task_id]
        if fails:
            assert "the word was wrong" in ask(watched.page, "fetch_error", task_id=task_id)["error"]
    finally:
        errors = watched.close()
    assert errors == "", "nothing but the address and the end is said"


def test_a_run_that_is_killed_leaves_what_was_seen_last(tmp_path: Path, environment: dict[str, str]) -> None:
    watched = _Watched(tmp_path, environment, fails=False)
    try:
        before = ask(watched.page, "task_list", status="RUNNING", upstream_status="")
        watched.run.kill()
        state = watched.ended()
        assert state["ended"] and not state["known"]
        assert ask(watched.page, "task_list", status="RUNNING", upstream_status="") == before
        with pytest.raises(urllib.error.HTTPError):
            ask(watched.page, "dep_graph", task_id="never asked")
    finally:
        errors = watched.close()
    assert errors == ""

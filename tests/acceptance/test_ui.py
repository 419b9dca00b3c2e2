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

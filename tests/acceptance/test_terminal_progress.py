"""The live lines of a run on a pseudo-terminal, and the plain ones elsewhere."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from screens import Terminal

PIPELINE = """
import os, time
from pathlib import Path
import luigi
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata


class Train(AtomicTaskWithMetadata):
    n: Param[int]
    note: Param[str] = "x" * 70
    fail: Param[bool] = False

    def run(self):
        self.set_progress_percentage(50)
        while not Path(f"go-{self.n}").exists():
            time.sleep(0.02)
        if self.fail:
            raise ValueError("bad")
        return 1


class All(luigi.WrapperTask):
    def requires(self):
        return [Train(n=n, fail=n == 9) for n in (0, 1, 2, 9)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shown_here.py").write_text(PIPELINE)
    return tmp_path


RUN = ("run", "shown_here", "All", "--workers", "4", "--executor", "threads")


def test_a_resized_terminal_shows_each_running_task_once_and_nothing_is_left(folder: Path) -> None:
    with Terminal(folder, *RUN, width=120) as terminal:
        shown = terminal.until(lambda text: text.count("▶ Train(") == 4 and "50 %" in text)
        rows = [line for line in shown.splitlines() if "▶" in line]
        assert all("…" in line and re.search(r"n=\d, .*fail=", line) for line in rows)
        ends = {re.search(r" +\d:\d\d +~\d:\d\d", line).end() for line in shown.splitlines()[-5:]}  # type: ignore[union-attr]
        assert len(ends) == 1, shown
        assert "32" in terminal.screen.colours and "31" not in terminal.screen.colours
        for width in (60, 100, 45):
            terminal.resize(width)
            terminal.screen.feed("")
            for _ in range(20):  # a second: several refreshes
                terminal.read()
            # waited for, since the last read may have ended in the middle of a refresh; what is left over stays
            terminal.until(lambda text: text.count("▶ Train(") == 4 and text.count("of 5 done") == 1)
        (folder / "go-9").touch()
        shown = terminal.until(lambda text: "1 failed" in text)
        assert "31" in terminal.screen.colours
        assert shown.count("fail=True) failed") + shown.count("failed: ValueError") >= 1
        for n in range(3):
            (folder / f"go-{n}").touch()
        end = terminal.ended()
        assert "▶" not in end and "━" not in end
        assert "✕ 3 ran, 1 failed" in end.replace("\n", " ")


def test_ctrl_c_says_what_was_ended_and_that_a_re_run_goes_on(folder: Path) -> None:
    with Terminal(folder, *RUN, width=200) as terminal:
        (folder / "go-0").touch()
        terminal.until(lambda text: "1 of 5 done" in text and "3 running" in text)
        terminal.process.send_signal(signal.SIGINT)
        end = terminal.ended()
        assert terminal.process.returncode == 130
    told = " ".join(end.split())
    assert "Interrupted: " in told and "Train(n=1, " in told and "were ended; 1 of 5 tasks were made" in told
    assert "Run the same again: it goes on with what is missing." in told
    assert "▶" not in end and told.count("nterrupted") == 1


def test_without_colours_nothing_is_coloured(folder: Path) -> None:
    for n in (0, 1, 2, 9):
        (folder / f"go-{n}").touch()
    with Terminal(folder, *RUN, width=100, NO_COLOR="1") as terminal:
        end = terminal.ended()
    assert "✕ 3 ran, 1 failed" in end
    assert not {"31", "32", "33", "35", "90"} & terminal.screen.colours


def test_elsewhere_a_plain_line_comes_each_minute_and_for_each_failure(folder: Path) -> None:
    for n in (0, 1, 9):
        (folder / f"go-{n}").touch()
    code = (
        "from superluigi.engine import progress\n"
        "progress.PLAIN_SECONDS = 0.3\n"
        "from superluigi.cli import main\n"
        f"raise SystemExit(main({list(RUN)!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    while not re.match(
        r"2 of 5 done, 1 running, 1 failed, \d:\d\d so far, about \d:\d\d left$", lines[-1] if lines else ""
    ):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    assert sum("failed: ValueError: bad" in line for line in lines) == 1
    (folder / "go-2").touch()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 1 and "\x1b" not in "".join(lines) + rest

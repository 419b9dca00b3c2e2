"""What a terminal shows of running tasks, drawn at several widths."""

from __future__ import annotations

import io
from pathlib import Path

import luigi
import pytest
from luigi.task_status import DONE, PENDING
from rich.console import Console

from superluigi import terminal
from superluigi.engine import progress
from superluigi.engine.progress import Counter, Live
from superluigi.errors import ConfigError, ExecutorLostError, MissingDependencyError
from superluigi.execution.attempt import AttemptResult
from superluigi.task_runner import run_task
from superluigi.testing.executor_tasks import LoggedTask, journal


class Named(luigi.Task):
    name = luigi.Parameter()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_each_running_task_has_one_line_however_long_its_name(width: int) -> None:
    live = Live()
    tasks = [Named(name=name) for name in ("short", "n" * 300, "中" * 80, "two\nlines\x1b[2J", "[red]")]
    for number, task in enumerate(tasks):
        live.started(task)
        live.progressed(task.task_id, 10.0 * number, f"message {number}\nof {'m' * 200}")
    printed = io.StringIO()
    Console(file=printed, width=width, force_terminal=False).print(live)
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(tasks) + 1
    assert [line.startswith("▶ N") for line in lines] == [True] * len(tasks) + [False]
    assert "0 of 5" in lines[-1]
    assert "\x1b" not in printed.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_a_task_says_of_itself_has_room_or_is_left_out_and_never_takes_the_percentage(width: int) -> None:
    live = Live()
    live.started(task := Named(name="n" * 200))
    live.progressed(task.task_id, 25.0, "step 3 of 12: \u202e\x1b[2J" + "語" * 50)
    live.started(odd := Named(name="odd"))
    live.progressed(odd.task_id, "50%", None)  # type: ignore[arg-type]
    printed = io.StringIO()
    Console(file=printed, width=width, force_terminal=False).print(live)
    line = printed.getvalue().splitlines()[0]
    assert terminal.cells(line) <= width
    assert line.endswith(" 25 %") if width == 60 else " 25 % step" in line and line.endswith("…")
    assert "\u202e" not in printed.getvalue() and "\x1b" not in printed.getvalue()


NOWHERE = {"scheduler_host": "127.0.0.1", "scheduler_port": 9}


@pytest.mark.parametrize(
    ("core", "kind", "words"),
    [
        (NOWHERE, ExecutorLostError, ["http://127.0.0.1:9", "scheduler_port", "Start `luigid`", "Nothing has"]),
        ({"scheduler_url": "here:8082"}, ExecutorLostError, ["here:8082", "scheduler_url"]),
        ({"scheduler_url": "http://[::1"}, ExecutorLostError, ["http://[::1", "scheduler_url"]),
        ({"scheduler_url": "http+unix://x"}, MissingDependencyError, ["requests-unixsocket", "http+unix://x"]),
        ({"scheduler_port": "many"}, ConfigError, ["scheduler_port", "[core]"]),
    ],
    ids=str,
)
def test_a_central_scheduler_that_is_not_there_is_said_so_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, core: dict[str, object], kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        run_task(LoggedTask(folder=str(tmp_path), name="one"), config={"core": core}, central_scheduler=True)
    assert all(word in str(caught.value) for word in words), caught.value
    assert journal(tmp_path) == [] and caplog.text == ""


@pytest.mark.filterwarnings("ignore:The configuration contains the parameter .rpc_retry_attempts")
def test_one_that_is_lost_later_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("superluigi.engine.engine.ask_once", lambda scheduler: None)
    core = {**NOWHERE, "rpc_retry_attempts": 1}
    with pytest.raises(ExecutorLostError, match="start luigid"):
        run_task(LoggedTask(folder=str(tmp_path), name="one"), config={"core": core}, central_scheduler=True)
    assert journal(tmp_path) == []


class Slow(Named):
    pass


def test_time_left_is_told_by_progress_and_by_finished_tasks_of_the_same_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counter = Counter()
    quick, slow = [Named(name=str(n)) for n in range(4)], [Slow(name=str(n)) for n in range(3)]
    for task in (*quick, *slow):
        counter.scheduled(task, PENDING)
    assert counter.seconds_left() is None
    counter.started(slow[0])
    assert counter.seconds_left() is None
    now[0] = 10.0
    counter.progressed(slow[0].task_id, 25, None)
    assert counter.left_of(counter.running[slow[0].task_id]) == 30
    now[0] = 40.0
    counter.ended(slow[0], DONE, AttemptResult(slow[0].task_id, DONE))
    counter.started(quick[0])
    now[0] = 42.0
    counter.ended(quick[0], DONE, AttemptResult(quick[0].task_id, DONE))
    assert counter.seconds_left() == 3 * 2 + 2 * 40
    counter.started(slow[1])
    now[0] = 52.0
    assert counter.left_of(counter.running[slow[1].task_id]) == 30
    assert counter.seconds_left() == 3 * 2 + 40 + 30
    assert "about 1:16 left" in counter.line()
    counter.started(quick[1])  # from now on two at once
    assert counter.seconds_left() == (2 * 2 + 2 + 40 + 30) / 2

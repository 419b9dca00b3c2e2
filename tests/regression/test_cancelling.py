"""A cancellation reaches the attempt that runs, whatever happens around it, and no other; and what it says is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from superluigi import run_task
from superluigi.errors import TaskFailedError
from superluigi.parameters import Parameter
from superluigi.storage import failpoints
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.runtime import cancel

PIPELINE = """
import os, shutil, sys, time
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Parameter
from superluigi.storage import failpoints
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Waits(AtomicTaskWithMetadata):
    name = Parameter()
    def output(self):
        return LocalFileTarget(f"{self.name}.txt")
    def run(self, output_path):
        output_path.write_text("x")
        Path(f"begun-{os.getpid()}").touch()
        end = time.monotonic() + 60
        while not os.path.exists("go") and time.monotonic() < end:
            time.sleep(0.01)

def hold(at):
    def hook(name):
        if name == at:
            Path("held").touch()
            while not os.path.exists("on"):
                time.sleep(0.01)
    failpoints.hook = hook
"""


class Somewhere:
    """A folder with a pipeline, a workspace, and the processes that were started there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, folder / "workspace"
        self.started: list[subprocess.Popen[str]] = []
        (folder / "slow.py").write_text(PIPELINE)

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.started.append(
            subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env={**os.environ, "SUPERLUIGI_WORKSPACE": str(self.workspace)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self.started[-1]

    def run(self, code: str) -> subprocess.Popen[str]:
        return self.start("-c", f"from slow import *\n{code}")

    def cancel(self, name: str = "a") -> tuple[int, str]:
        command = self.start("-m", "superluigi", "cancel", "slow", "Waits", "--name", name)
        said, _ = command.communicate(timeout=60)
        return command.returncode, said

    def wait_for(self, pattern: str, count: int = 1) -> None:
        deadline = time.monotonic() + 60
        while len(list(self.folder.glob(pattern))) < count:
            assert time.monotonic() < deadline, f"{pattern} never came"
            assert any(process.poll() is None for process in self.started), self.started[-1].communicate()[0]
            time.sleep(0.01)


@pytest.fixture
def somewhere(tmp_path: Path) -> Iterator[Somewhere]:
    place = Somewhere(tmp_path)
    yield place
    for process in place.started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("moment", ["an attempt is known", "an attempt is watched"])
def test_a_cancellation_that_arrives_while_the_attempt_is_being_set_up_is_obeyed(
    somewhere: Somewhere, moment: str
) -> None:
    run = somewhere.run(f"hold({moment!r})\nrun_task(Waits(name='a'))")
    somewhere.wait_for("held")
    code, said = somewhere.cancel()
    assert (code, "asked to stop" in said) == (0, True), said
    (somewhere.folder / "on").touch()
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 1 and "was cancelled" in out
    assert not list(somewhere.folder.glob("begun-*")), "run() was not even called"
    assert not (somewhere.folder / "a.txt").exists()


def test_the_task_folder_may_be_removed_moved_or_made_around_a_cancellation(somewhere: Somewhere) -> None:
    run = somewhere.run("run_task(Waits(name='a'))")
    somewhere.wait_for("begun-*")
    (somewhere.workspace / "jobs").mkdir(parents=True, exist_ok=True)
    (somewhere.workspace / "jobs").rename(somewhere.workspace / "elsewhere")
    assert somewhere.cancel()[0] == 0
    assert "was cancelled" in run.communicate(timeout=60)[0]


def test_all_attempts_at_a_task_are_meant_and_those_of_other_tasks_are_not(somewhere: Somewhere) -> None:
    runs = [somewhere.run(f"run_task(Waits(name={name!r}), exclusive='off')") for name in ("a", "a", "b")]
    somewhere.wait_for("begun-*", 3)
    assert somewhere.cancel("a")[0] == 0
    assert all("was cancelled" in run.communicate(timeout=60)[0] for run in runs[:2])
    assert runs[2].poll() is None
    (somewhere.folder / "go").touch()
    assert runs[2].wait(60) == 0


def test_what_does_not_run_is_not_cancelled_later_and_the_command_says_so(somewhere: Somewhere) -> None:
    code, said = somewhere.cancel()
    assert (code, "nothing to stop" in said) == (1, True), said
    other = somewhere.run("run_task(Waits(name='b'))")
    somewhere.wait_for("begun-*")
    code, said = somewhere.cancel("a")  # another process lives, and runs another task
    assert (code, "nothing to stop" in said) == (1, True), said
    (somewhere.folder / "go").touch()
    assert other.wait(60) == 0
    run = somewhere.run("run_task(Waits(name='a'))")
    assert run.wait(60) == 0, run.communicate()[0]
    code, said = somewhere.cancel()
    assert (code, "nothing to stop" in said) == (1, True), said
    assert not (somewhere.workspace / "running").exists(), "what the processes left there"


def test_an_attempt_that_was_killed_does_not_keep_the_command_waiting(somewhere: Somewhere) -> None:
    run = somewhere.run("run_task(Waits(name='a'))")
    somewhere.wait_for("begun-*")
    run.send_signal(signal.SIGKILL)
    run.wait()
    code, said = somewhere.cancel()
    assert (code, "nothing to stop" in said) == (1, True), said


def test_a_process_that_does_not_answer_is_named_and_hears_nothing_later(
    somewhere: Somewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superluigi.tasks.runtime.workspace import inbox

    run = somewhere.run("run_task(Waits(name='a'))")
    somewhere.wait_for("begun-*")
    run.send_signal(signal.SIGSTOP)
    try:
        stops, silent = inbox.ask(somewhere.workspace, "whatever", "reason", patience=0.2)
    finally:
        run.send_signal(signal.SIGCONT)
    assert not stops
    assert [str(run.pid) in name for name in silent] == [True]
    (somewhere.folder / "go").touch()
    assert run.wait(60) == 0, "the request was taken back"


class Here(AtomicTaskWithMetadata):
    """Runs in a thread of this process, held at one step."""

    folder: str = Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(Path(self.folder) / "here.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")
        failpoints.failpoint("in run")


@pytest.fixture
def held_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    def held_at(step: str) -> tuple[threading.Event, threading.Event]:
        held, on = threading.Event(), threading.Event()

        def hook(name: str) -> None:
            if name == step and not held.is_set():
                held.set()
                on.wait(60)

        monkeypatch.setattr(failpoints, "hook", hook)
        return held, on

    return held_at


@pytest.mark.parametrize("executor", ["threads", None])
@pytest.mark.parametrize("step", ["an attempt is known", "an attempt is watched", "in run"])
def test_until_the_commit_begins_the_answer_is_yes_and_nothing_is_published(
    tmp_path: Path, held_at: Callable[[str], tuple[threading.Event, threading.Event]], executor: str | None, step: str
) -> None:
    held, on = held_at(step)
    task = Here(folder=str(tmp_path))
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            run_task(task, executor=executor)
        except TaskFailedError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(60)
    assert task.cancel("enough") is True
    on.set()
    thread.join(60)
    assert "was cancelled: enough" in str(outcome)
    assert not (tmp_path / "here.txt").exists()


def test_once_the_commit_has_begun_the_answer_is_no_and_the_output_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Here(folder=str(tmp_path))
    answers: list[bool] = []

    def hook(name: str) -> None:
        if not answers and any(scope.committing for scope in cancel.running()):
            answers.append(False)
            answers.append(task.cancel())

    monkeypatch.setattr(failpoints, "hook", hook)
    run_task(task)
    assert answers == [False, False]
    assert (tmp_path / "here.txt").read_text() == "x"


def test_an_attempt_that_is_stopped_as_it_becomes_known_is_not_taken_for_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Here(folder=str(tmp_path))

    def hook(name: str) -> None:
        if name == "an attempt is known":
            raise OSError("no")

    with monkeypatch.context() as patch, pytest.raises(TaskFailedError):
        patch.setattr(failpoints, "hook", hook)
        run_task(task)
    assert task not in [scope.task for scope in cancel.running()]


class FailsInItsCleanUp(Here):
    retry_count = 3

    def run(self, output_path: Path) -> None:
        with open(Path(self.folder) / "tries", "a") as stream:
            stream.write(".")
        try:
            self.cancel("now")
        finally:
            raise ValueError("in the clean-up")


def test_a_cancelled_task_whose_clean_up_fails_is_cancelled_and_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match="was cancelled: now"):
        run_task(FailsInItsCleanUp(folder=str(tmp_path)))
    assert (tmp_path / "tries").read_text() == "."

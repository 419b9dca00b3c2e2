"""SIGTERM, SIGHUP and Ctrl-C from outside: nothing stays behind, and the parent sees what ended the process.

SIGTERM left the programs of a task running and its stage behind; Ctrl-C showed the frames of the engine.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from process_support import alive_in

from superluigi.execution.process import termination
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.executor_tasks import LoggedTask

JOB = """
    import signal, subprocess, sys, time
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context
    from pathlib import Path
    from superluigi.targets import LocalFileTarget
    from superluigi.task_runner import run_task
    from superluigi.tasks import AtomicTaskWithMetadata

    class Slow(AtomicTaskWithMetadata):
        def output(self):
            return LocalFileTarget("out/slow.txt")

        def run(self, output_path):
            output_path.write_text("partial")
            subprocess.Popen(["sleep", "600"])
            try:
                Path("begun").touch()
                while True:
                    time.sleep(0.05)
            finally:
                Path("tidying").touch()
                time.sleep(0.5 if Path("tidies").exists() else 0)
                Path("tidied").touch()

    class Deaf(Slow):
        def run(self, output_path):
            Path("begun").touch()
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass

    def main(way):
        options = {"num_workers": 2} if way != "here" else {}
        if way == "lent processes":
            with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
                run_task(Slow(), executor=pool, **options)
        elif way == "lent threads":
            with ThreadPoolExecutor(2) as pool:
                run_task(Slow(), executor=pool, **options)
        elif way == "deaf":
            from superluigi.execution.process import termination
            termination.END_SECONDS = 0.3
            run_task(Deaf())
        else:
            if way == "own handler":
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
            run_task(Slow(), executor=None if way in ("here", "own handler") else way, **options)

    if __name__ == "__main__":
        main(sys.argv[1])
"""


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """Signals as a terminal leaves them, which children inherit: `nohup` and shells without one ignore some."""
    before = {signum: signal.getsignal(signum) for signum in (TERM, HUP, INT)}
    for signum in (TERM, HUP):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(INT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def command(way: str) -> Sequence[str]:
    if way == "superluigi run":
        return [sys.executable, "-m", "superluigi", "run", "job", "Slow"]
    if way == "luigi":
        return [sys.executable, "-m", "luigi", "--module", "job", "Slow", "--local-scheduler"]
    return [sys.executable, "job.py", way]


def start(folder: Path, way: str, *signals: int, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the job, and send it the signals in order: the first when its task has begun, others when it cleans up."""
    (folder / "job.py").write_text(textwrap.dedent(JOB))
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [*before, *command(way)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "SUPERLUIGI_WORKSPACE": str(folder / "workspace")},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    for name, signum in zip(["begun", *["tidying"] * 9], signals, strict=False):
        wait_for(folder / name, process)
        process.send_signal(signum)
    return process


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    while not file.exists():
        assert process.poll() is None, file.with_name("said").read_text()
        time.sleep(0.02)


def still_alive_in(folder: Path, seconds: float = 10.0) -> list[str]:
    """Processes that work in `folder` after a while: a fork server has to see the end."""
    deadline = time.monotonic() + seconds
    while (found := alive_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def left_of(folder: Path) -> list[str]:
    """What lies where outputs should be, and what says that something runs."""
    return [str(path) for path in (*folder.glob("out/*"), *folder.glob("out/.*"))]


TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
ENDINGS = [
    ("here", TERM),
    ("here", INT),
    ("threads", HUP),
    ("threads", INT),
    ("processes", TERM),
    ("lent threads", TERM),
    ("lent processes", TERM),
    ("dask", TERM),
    ("superluigi run", TERM),
    ("luigi", HUP),
]


@pytest.mark.parametrize(("way", "signum"), ENDINGS)
def test_a_signal_ends_a_run_with_all_it_has_started_and_the_parent_sees_which(
    tmp_path: Path, way: str, signum: int
) -> None:
    if way == "dask":
        pytest.importorskip("distributed")
    process = start(tmp_path, way, signum)
    assert process.wait(60) == -signum
    assert (tmp_path / "tidied").exists()
    assert still_alive_in(tmp_path) == []
    assert left_of(tmp_path) == []
    said = (tmp_path / "said").read_text()
    if way != "luigi":  # whose own worker tells nothing
        assert "Interrupted: Slow() was ended; 0 of 1 tasks were made." in said
        assert "/superluigi/" not in said, said  # no frame of ours
        assert "During handling" not in said


@pytest.mark.parametrize("way", ["here", "processes", "deaf"])
def test_the_first_process_of_a_container_ends_by_the_number_of_its_signal(tmp_path: Path, way: str) -> None:
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces of its own here")
    process = start(tmp_path, way, before=container)
    wait_for(tmp_path / "begun", process)
    (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(first), TERM)  # no signal kills it: it has to leave by itself
    assert process.wait(60) == 128 + TERM
    assert still_alive_in(tmp_path) == []
    assert way == "deaf" or left_of(tmp_path) == []


def test_the_command_line_ends_with_130_after_ctrl_c(tmp_path: Path) -> None:
    process = start(tmp_path, "superluigi run", INT)
    assert process.wait(60) == 130
    assert still_alive_in(tmp_path) == []


def test_ctrl_c_shows_the_lines_of_the_script(tmp_path: Path) -> None:
    start(tmp_path, "here", INT).wait(60)
    said = (tmp_path / "said").read_text()
    assert said.rstrip().endswith("KeyboardInterrupt")
    first, second, third = [line.strip() for line in said.splitlines() if "File " in line]
    assert first == f'File "{tmp_path}/job.py", line {_line("main(sys.argv")}, in <module>'
    assert second == f'File "{tmp_path}/job.py", line {_line("run_task(Slow(), executor=None")}, in main'
    assert third.startswith(f'File "{tmp_path}/job.py", line ')  # wherever it was just then
    assert third.endswith(", in run")


def _line(code: str) -> int:
    return next(number for number, line in enumerate(textwrap.dedent(JOB).splitlines(), 1) if code in line)


@pytest.mark.parametrize("others", [(TERM, INT), (INT, TERM, HUP)])
def test_further_signals_do_not_disturb_what_cleans_up(tmp_path: Path, others: tuple[int, ...]) -> None:
    (tmp_path / "tidies").touch()
    process = start(tmp_path, "here", *others)
    assert process.wait(60) in (-TERM, -HUP)  # of two that wait the kernel chooses
    assert (tmp_path / "tidied").exists()
    assert still_alive_in(tmp_path) == []
    assert left_of(tmp_path) == []


class Made(AtomicTaskWithMetadata):
    """Writes a file."""

    folder: Param[str]

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(Path(self.folder) / "made.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("made")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_processes_of_a_lent_pool_take_their_inbox_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        run_task(Made(str(tmp_path)), executor=pool, num_workers=2, quiet=True)
    assert list((tmp_path / "workspace").glob("running/*")) == []


def test_what_swallows_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    assert start(tmp_path, "deaf", TERM).wait(60) == -TERM


def test_handlers_of_the_program_stay_in_force(tmp_path: Path) -> None:
    process = start(tmp_path, "own handler", TERM)
    assert process.wait(60) != -TERM  # its SystemExit fails the task, as any other


class Looks(LoggedTask):
    """Writes down which handlers are in force."""

    def work(self) -> None:
        found = [str(signal.getsignal(signum) is signal.SIG_IGN) for signum in (TERM, HUP, INT)]
        Path(self.folder, "handlers").write_text(" ".join(found))


@pytest.mark.parametrize("ignored", [(), (HUP,), (TERM, INT)])
def test_only_defaults_are_replaced_and_all_are_put_back(tmp_path: Path, ignored: tuple[int, ...]) -> None:
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)
    set_so = [signal.getsignal(signum) for signum in (TERM, HUP, INT)]
    run_task(Looks(folder=str(tmp_path), name="one"), quiet=True)
    assert [signal.getsignal(signum) for signum in (TERM, HUP, INT)] == set_so
    inside = (tmp_path / "handlers").read_text().split()
    assert inside == [str(signum in ignored) for signum in (TERM, HUP, INT)]


def test_an_interruption_that_was_swallowed_hides_no_later_one() -> None:
    heard = 0
    with termination.ends_cleanly():
        for _ in range(3):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                heard += 1
    assert heard == 3

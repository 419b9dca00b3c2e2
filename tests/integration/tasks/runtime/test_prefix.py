"""Attempts behind a command: exit codes, signals, logs and errors are the task's own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_host import available, slurm_host

TASKS = """
class Below(Base):
    def run(self, output_path):
        output_path.write_text("below")
class Behind(Base):
    environment = {"MINE": "a=b\\nc"}
    command_prefix = "./wrap --option 'two words'"
    def run(self, output_path, metadata):
        print("on stdout", os.environ["MINE"]); subprocess.run("echo child", shell=True)
        print("on stderr", file=sys.stderr)
        below = yield Below()
        self.set_status_message("halfway")
        metadata["wrapped"] = os.environ["WRAPPED"]
        metadata["pid"] = os.getpid()
        output_path.write_text(below.read_text())
class Ends(Base):
    command_prefix = ["nice", "-n", "1"]
    how = Parameter()
    def run(self, output_path):
        output_path.write_text("never published")
        if self.how == "raise": raise ValueError("mine")
        if self.how == "exit": sys.exit(3)
        if self.how == "_exit": os._exit(4)
        if self.how == "kill": os.kill(os.getpid(), 9)
class Chooses(Base):
    niceness = IntParameter()
    def command_prefix(self):
        return f"nice -n {self.niceness}"
    def run(self, output_path):
        output_path.write_text(str(os.nice(0)))
class Missing(Below):
    command_prefix = "no-such-command --flag"
class Refuses(Below):
    command_prefix = "./refuse"
class Unclosed(Ends):
    command_prefix = "nice 'unclosed"
"""


def _script(user: Any, name: str, text: str) -> None:
    file = user.folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("executor", [None, "processes"])
def test_the_attempt_runs_behind_the_command_and_everything_comes_back(user: Any, executor: str | None) -> None:
    user.write(TASKS)
    _script(user, "wrap", 'echo "wrapped with $1 $2"; shift 2; WRAPPED="yes" exec "$@"')
    out = user.run(f"""
        task = Behind()
        print(run_task(task, executor={executor!r}).read_text(), os.getpid())
        record = task.output().read_metadata()
        assert record["wrapped"] == "yes" and record["pid"] != os.getpid()
        assert record["run"]["task_dir"] == str(task.task_dir)
        assert not [p for p in task.task_dir.iterdir() if p.name in (".order", ".outcome", ".messages")]
    """)
    assert "below" in out
    log = (user.jobs("Behind") / "stdout.log").read_text()
    assert log == "wrapped with --option two words\non stdout a=b\nc\nchild\n"
    assert (user.jobs("Behind") / "stderr.log").read_text() == "on stderr\n"


def test_however_it_ends_the_task_says_so_and_nothing_is_published(user: Any) -> None:
    user.write(TASKS)
    _script(user, "refuse", "echo no memory for you >&2; exit 7")
    expected = {
        "Ends(how='raise')": ["ValueError: mine"],
        "Ends(how='exit')": ["SystemExit: 3"],
        "Ends(how='_exit')": ["CommandFailedError", "exit code 4", "`nice -n 1`"],
        "Ends(how='kill')": ["WorkerLostError", "signal 9 (SIGKILL)"],
        "Unclosed(how='raise')": [
            "DefinitionError",
            "command_prefix of Unclosed",
            "No closing quotation",
            "list of words",
        ],
        "Missing()": ["CommandFailedError", "cannot be started", "no-such-command --flag", "Install"],
        "Refuses()": ["CommandFailedError", "exit code 7", "no memory for you"],
    }
    out = user.run(f"""
        for task in [{", ".join(expected)}]:
            try:
                run_task(task)
            except Exception as error:
                print("<<<", error, ">>>")
    """)
    said = [part.split(">>>")[0] for part in out.split("<<<")[1:]]
    for words, text in zip(expected.values(), said, strict=True):
        assert all(word in text for word in words), text
    assert not list((user.folder / "out").glob("[!.]*"))  # after a kill, a marked left-over may lie there


def test_a_function_of_the_task_chooses_the_command(user: Any) -> None:
    user.write(TASKS)
    base = os.nice(0)
    out = user.run("print([run_task(Chooses(niceness=n)).read_text() for n in (2, 5)])")
    assert str([str(base + 2), str(base + 5)]) in out


def test_ctrl_c_and_a_kill_end_the_child_with_its_starter(user: Any, eventually: Callable[..., None]) -> None:
    user.write("""
        class Waits(Base):
            command_prefix = "nice"
            def run(self, output_path):
                Path("pid").write_text(str(os.getpid()))
                try:
                    time.sleep(60)
                finally:
                    Path("cleaned").touch()
    """)
    for number in (signal.SIGINT, signal.SIGKILL):
        run = user.start("-c", "from pipeline import *; run_task(Waits())")
        eventually((user.folder / "pid").exists)
        eventually(lambda: (user.folder / "pid").read_text())
        child = int((user.folder / "pid").read_text())
        run.send_signal(number)
        run.communicate(timeout=30)
        eventually(lambda gone=Path(f"/proc/{child}"): not gone.exists())
        assert (user.folder / "cleaned").exists(), number
        (user.folder / "pid").unlink()
        (user.folder / "cleaned").unlink()


def test_programs_that_lead_elsewhere_start_the_python_there() -> None:
    import sys

    from superluigi.tasks import Task
    from superluigi.tasks.runtime.command_prefix import command

    class Anywhere(Task):
        pass

    class Named(Task):
        prefix_python = "python3.12 -X dev"

    at = Path("/jobs/x")
    tail = ["-m", "superluigi.worker_process", "/jobs/x"]
    assert command(Anywhere(), ["docker", "run", "image"], at) == ["docker", "run", "image", "python", *tail]
    assert command(Anywhere(), ["/usr/bin/conda", "run"], at)[2:] == ["python", *tail]
    assert command(Anywhere(), ["srun"], at) == ["srun", sys.executable, *tail]
    assert command(Named(), ["srun"], at) == ["srun", "python3.12", "-X", "dev", *tail]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not available():
        pytest.skip("no Slurm on this machine (needs root, slurmctld, slurmd, slurm-client, munge)")
    with slurm_host(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


def test_a_real_slurm_runs_the_attempt_as_a_job_step(user: Any, slurm: dict[str, str]) -> None:
    user.write("""
        class OnNode(Base):
            how = Parameter("well")
            environment = {"MINE": "a=b\\nc"}
            command_prefix = "srun --cpus-per-task 1 --mem 100M --quiet"
            def run(self, output_path, metadata):
                print("in job", os.environ["SLURM_JOB_ID"], os.environ["MINE"])
                metadata["job"] = os.environ["SLURM_JOB_ID"]
                metadata["step"] = os.environ["SLURM_STEP_ID"]
                if self.how == "raise": raise ValueError("mine")
                if self.how == "_exit": os._exit(5)
                if self.how == "kill": os.kill(os.getpid(), 9)
                output_path.write_text("x")
    """)
    program = """
        run_task(OnNode())
        for how in ("raise", "_exit", "kill"):
            try:
                run_task(OnNode(how=how))
            except RuntimeError as error:
                print(error)
        print((OnNode().task_dir / "stdout.log").read_text())
        print("JOB", OnNode().output().read_metadata()["job"], "OF")
    """
    out = user.run(program, **slurm)
    for words in ("ValueError: mine", "exit code 5", "SIGKILL"):
        assert words in out
    job = out.split("JOB ")[1].split(" OF")[0]
    assert f"in job {job} a=b\nc\n" in out


def test_scancel_is_the_tasks_own_end_and_ours_reaches_the_job(
    user: Any, slurm: dict[str, str], eventually: Callable[..., None]
) -> None:
    user.write("""
        class Long(Base):
            command_prefix = "srun --quiet"
            def run(self, output_path):
                Path("job").write_text(os.environ["SLURM_JOB_ID"] + " " + str(os.getpid()))
                time.sleep(60)
    """)
    for ender in ("scancel", "interrupt"):
        run = user.start("-c", "from pipeline import *; run_task(Long())", **slurm)
        eventually(lambda: (user.folder / "job").exists() and (user.folder / "job").read_text())
        job, pid = (user.folder / "job").read_text().split()
        if ender == "scancel":
            subprocess.run(["scancel", job], check=True, env=user.environment(**slurm))
        else:
            run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        assert run.returncode != 0, out + err
        assert ender != "scancel" or "Long() failed" in err or "lost its process" in err
        eventually(lambda gone=Path(f"/proc/{pid}"): not gone.exists())
        (user.folder / "job").unlink()

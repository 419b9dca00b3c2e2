"""Slurm as a provider of workers: by fake commands everywhere, by a real Slurm where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
import slurm_host

from superluigi.errors import MissingDependencyError, OptionError, QueueError
from superluigi.queue import Pool, Queue
from superluigi.queue.providers import WorkerOrder, load
from superluigi.queue.providers.slurm import SlurmProvider

Project = Callable[[str], ModuleType]

TASKS = """
    class Job(luigi.Task):
        number = luigi.IntParameter()
        pool = "cluster"

        def output(self):
            return luigi.LocalTarget(f"job-{self.number}")

        def run(self):
            time.sleep(0.2)
            with self.output().open("w") as file:
                file.write(os.environ.get("SLURM_JOB_NAME", "no slurm"))
"""

#: Three commands that behave like Slurm's as far as we use them: jobs are folders, `squeue` lists what lives.
FAKE = """#!{python}
import os, pathlib, re, subprocess, sys, time
home = pathlib.Path({home!r})
verb = pathlib.Path(sys.argv[0]).name
with open(home / "calls", "a") as calls:
    calls.write(verb + " " + " ".join(sys.argv[1:]) + "\\n")

def alive(job):
    try:
        stat = pathlib.Path("/proc", (job / "pid").read_text(), "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"

jobs = [job for job in home.glob("job.*") if (job / "pid").exists() and alive(job)]
if verb == "sbatch":
    options = dict(re.findall(r"--([a-z-]+)=(\\S+)", " ".join(sys.argv[1:])))
    if options.get("partition") == "nowhere":
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    job = home / f"job.{{len(list(home.glob('job.*'))) + 1}}"
    job.mkdir()
    (job / "script").write_text(sys.stdin.read())
    (job / "name").write_text(options["job-name"])
    with open(home / "output", "ab") as output:
        process = subprocess.Popen(
            ["sh", job / "script"], stdout=output, stderr=output, start_new_session=True,
            env={{**os.environ, "SLURM_JOB_NAME": options["job-name"]}},
        )
    (job / "pid").write_text(str(process.pid))
    print(job.name)
elif verb == "squeue":
    for job in jobs:
        print((job / "name").read_text())
    with open(home / "most", "a") as most:
        most.write(f"{{len(jobs)}}\\n")
elif verb == "scancel":
    name = [word for word in sys.argv if word.startswith("--name=")][0].removeprefix("--name=")
    for job in jobs:
        if (job / "name").read_text() == name:
            os.kill(int((job / "pid").read_text()), 15)
"""


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake `sbatch`, `squeue` and `scancel` on PATH; the folder where they keep jobs and the calls."""
    home = tmp_path / "fake slurm"
    home.mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    for verb in ("sbatch", "squeue", "scancel"):
        (commands / verb).write_text(FAKE.format(python=sys.executable, home=str(home)))
        (commands / verb).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return home


def test_a_pool_of_slurm_jobs_runs_its_tasks(project: Project, queue_name: str, fake_slurm: Path) -> None:
    module = project(TASKS)
    walltime = timedelta(minutes=90, seconds=1)
    cluster = Pool(2, provider="slurm", walltime=walltime, options={"partition": "gpu", "cpus_per_task": 2})
    with Queue(queue_name, pools={"cluster": cluster}) as queue:
        queue.submit([module.Job(number=number) for number in range(6)])
        queue.spawn()
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}
    assert Path("job-0").read_text() == "superluigi-queue-cluster"
    calls = (fake_slurm / "calls").read_text().splitlines()
    submissions = [call for call in calls if call.startswith("sbatch")]
    assert len(submissions) == 2  # at most max_workers, waiting and running
    for option in ("--job-name=superluigi-queue-cluster", "--time=91", "--partition=gpu", "--cpus-per-task=2"):
        assert all(option in call for call in submissions)
    assert all("--signal=B:TERM@" in call for call in submissions)
    script = (fake_slurm / "job.1" / "script").read_text()
    assert f"queue work {queue_name} --pool cluster" in script


def test_one_squeue_answers_for_all_pools_and_scancel_goes_by_name(fake_slurm: Path) -> None:
    provider = SlurmProvider()
    for label in ("superluigi-q-a", "superluigi-q-a", "superluigi-q-b"):
        provider.start(WorkerOrder(label, ("sleep", "60"), str(fake_slurm), Pool()))
    assert provider.alive("superluigi-q-") == {"superluigi-q-a": 2, "superluigi-q-b": 1}
    provider.cancel("superluigi-q-a")
    deadline = time.monotonic() + 20
    while provider.alive("superluigi-q-") != {"superluigi-q-b": 1}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    provider.cancel("superluigi-q-b")
    calls = (fake_slurm / "calls").read_text()
    assert "scancel" in calls and "--name=superluigi-q-a" in calls


def test_what_slurm_refuses_is_told_in_its_own_words(fake_slurm: Path) -> None:
    with pytest.raises(QueueError, match="invalid partition specified: nowhere"):
        SlurmProvider().start(WorkerOrder("a", ("true",), str(fake_slurm), Pool(options={"partition": "nowhere"})))
    with pytest.raises(OptionError, match="sbatch option"):
        SlurmProvider().start(WorkerOrder("a", ("true",), str(fake_slurm), Pool(options={"--wrap;rm": 1})))


def test_without_slurm_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="login node"):
        SlurmProvider().start(WorkerOrder("a", ("true",), str(tmp_path), Pool()))


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'slrum'.*local, slurm.*Did you mean 'slurm'"):
        load("slrum")


@pytest.mark.long
@pytest.mark.skipif(
    not slurm_host.available(), reason="needs root and Debian's slurmctld, slurmd, slurm-client and munge"
)
def test_a_real_slurm_runs_a_pool_and_a_cancelled_job_puts_its_task_back(
    project: Project, queue_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with slurm_host.slurm_host(tmp_path_factory.mktemp("slurm")) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        _runs_a_pool_and_puts_a_cancelled_job_back(project, queue_name)


def _runs_a_pool_and_puts_a_cancelled_job_back(project: Project, queue_name: str) -> None:
    module = project(TASKS)
    cluster = Pool(2, provider="slurm", walltime=timedelta(minutes=5))
    with Queue(queue_name, pools={"cluster": cluster}) as queue:
        queue.submit([module.Job(number=number) for number in range(6)])
        queue.spawn()
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}
        assert Path("job-0").read_text() == "superluigi-queue-cluster"

        slow = project(TASKS.replace("0.2", "300 if not pathlib.Path('quick').exists() else 0"))
        queue.submit(slow.Job(number=100))
        queue.spawn(detach=True)
        deadline = time.monotonic() + 90
        while not queue.tasks(state="RUNNING"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        queue.pause()
        Path("quick").touch()
        subprocess.run(["scancel", "--name=superluigi-queue-cluster"], check=True)
        while not queue.tasks(state="PENDING"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        queue.resume()
        queue.spawn()
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}

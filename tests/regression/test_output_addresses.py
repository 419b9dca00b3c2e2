"""A task writes where its caller says that it does, or it does not run; and what run_task names is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import OutputElsewhereError, TaskFailedError
from superluigi.execution.addresses import addresses, refuse_other
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

PIPE = """
import luigi
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
OUT = IN = "default"
class Plain(luigi.Task):
    def output(self):
        return luigi.LocalTarget(f"{OUT}/plain.txt")
    def run(self):
        with self.output().open("w") as stream:
            stream.write(OUT)
class Ours(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget(f"{OUT}/ours.txt")
    def run(self, output_path):
        output_path.write_text(OUT)
class Behind(Ours):
    command_prefix = "env"
class Source(ExternalTask):
    def output(self):
        return LocalFileTarget(f"{IN}.txt")
class PlainSource(luigi.ExternalTask):
    def output(self):
        return luigi.LocalTarget(f"{IN}.txt")
class Reads(AtomicTaskWithMetadata):
    def requires(self):
        return Source()
    def output(self):
        return LocalFileTarget("fixed/reads.txt")
    def run(self, input_path, output_path):
        output_path.write_text(input_path.read_text())
class ReadsPlain(Reads):
    def requires(self):
        return PlainSource()
"""
MAIN = """
import sys, multiprocessing, pipe
from concurrent.futures import ProcessPoolExecutor
from superluigi import run_task
if __name__ == "__main__":
    pipe.OUT, pipe.IN = sys.argv[2], sys.argv[3]
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    how = {"processes": dict(num_workers=2), "pool": dict(executor=pool),
           "retrying": dict(num_workers=2, config={"worker": {"retry_external_tasks": "true"}}),
           "here": {}, "threads": dict(executor="threads"),
           "queue": dict(queue="sqlite:///queue.db")}[sys.argv[4]]
    print(run_task(getattr(pipe, sys.argv[1])(), **how))
"""


def main(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "pipe.py").write_text(PIPE)
    (folder / "main.py").write_text(MAIN)
    for name in ("default", "results"):
        (folder / f"{name}.txt").write_text(name)
    return subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=folder,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(folder / "workspace")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("name", "where"),
    [("Plain", "processes"), ("Ours", "pool"), ("Behind", "here"), ("Plain", "queue"), ("Ours", "queue")],
)
def test_a_task_that_would_write_elsewhere_in_its_process_is_refused(tmp_path: Path, name: str, where: str) -> None:
    done = main(tmp_path, name, "results", "default", where)
    assert done.returncode == 1, done.stdout
    assert "results" in done.stdout and "parameter" in done.stdout
    assert "Outputs can be found" not in done.stdout
    assert not (tmp_path / "default").exists()
    assert not any((tmp_path / "results").glob("*")), "an empty folder at most, of who looked whether it is made"


def test_one_that_would_read_elsewhere_is_refused_too(tmp_path: Path) -> None:
    done = main(tmp_path, "Reads", "default", "results", "processes")
    assert done.returncode == 1, done.stdout
    assert "what it requires is LocalFileTarget results.txt" in done.stdout
    assert not (tmp_path / "fixed").exists()


@pytest.mark.parametrize(
    ("name", "where"),
    [("Source", "retrying"), ("PlainSource", "retrying"), ("ReadsPlain", "retrying"), ("PlainSource", "queue")],
)
def test_external_data_that_is_found_elsewhere_only_is_not_taken_for_what_is_missing(
    tmp_path: Path, name: str, where: str
) -> None:
    done = main(tmp_path, name, "default", "nowhere", where)
    assert done.returncode == 1, done.stdout
    assert "Target nowhere.txt where the run was started, but " in done.stdout and "parameter" in done.stdout
    assert "Outputs can be found" not in done.stdout and not (tmp_path / "fixed").exists()


@pytest.mark.parametrize("where", ["here", "threads"])
def test_in_the_callers_process_it_runs(tmp_path: Path, where: str) -> None:
    done = main(tmp_path, "Ours", "results", "default", where)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "results" / "ours.txt").read_text() == "results"


@pytest.mark.parametrize("where", ["processes", "queue"])
def test_what_is_the_same_everywhere_runs_everywhere(tmp_path: Path, where: str) -> None:
    done = main(tmp_path, "Reads", "default", "default", where)
    assert done.returncode == 0, done.stdout


class Changes(AtomicTaskWithMetadata):
    """Names another place each time."""

    folder: str = Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/{os.urandom(4).hex()}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


QUEUED = """
import sys, jobs
from superluigi.queue import Queue
if __name__ == "__main__":
    with Queue("sqlite:///queue.db") as queue:
        jobs.One.folder = sys.argv[1]
        queue.submit([jobs.One(number=number) for number in range(3)] + [jobs.Two()], retry_failed=True)
        queue.spawn(1)
        print(*sorted({f"{row.name} {row.state}" for row in queue.tasks()}), sep=", ")
        print(*[row.error for row in queue.tasks(state="FAILED")])
"""
JOBS = """
import luigi
class One(luigi.Task):
    folder = "default"
    number = luigi.IntParameter()
    def output(self):
        return luigi.LocalTarget(f"{self.folder}/{self.number}.txt")
    def run(self):
        with self.output().open("w") as stream:
            stream.write("x")
class Two(One):
    number = 2
    def output(self):
        return luigi.LocalTarget("two.txt")
"""


def test_a_queue_refuses_the_tasks_of_a_class_whose_outputs_are_elsewhere_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "go.py").write_text(QUEUED)
    for folder, said in (("mine", "One FAILED, Two SUCCEEDED"), ("default", "One SUCCEEDED, Two SUCCEEDED")):
        ran = subprocess.run(
            [sys.executable, "go.py", folder], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert ran.stdout.startswith(said), ran.stdout + ran.stderr
        assert ran.stdout.count("mine/0.txt where the run was started") == (3 if folder == "mine" else 0), ran.stdout
    assert not (tmp_path / "mine").exists()
    assert sorted(path.name for path in (tmp_path / "default").iterdir()) == ["0.txt", "1.txt", "2.txt"]


class WritesNothing(luigi.Task):
    folder = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(Path(self.folder) / "nothing.txt")

    def run(self) -> None:
        pass


@pytest.mark.parametrize("executor", ["processes", None])
def test_what_run_task_names_is_there(tmp_path: Path, executor: str | None) -> None:
    with pytest.raises((TaskFailedError, OSError), match=r"nothing\.txt"):
        run_task(WritesNothing(folder=str(tmp_path)), executor=executor)
    with pytest.raises((TaskFailedError, OSError), match=r"\.txt"):
        run_task(Changes(folder=str(tmp_path)), executor=executor)


def test_names_that_differ_each_time_are_refused_in_other_processes(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError) as caught:
        run_task(Changes(folder=str(tmp_path)), executor="processes")
    assert "differs from call to call" in str(caught.value.__cause__)


class InTheStore(AtomicTaskWithMetadata):
    """Is where the run's store is."""

    def run(self) -> str:
        return "x"


class BehindInTheStore(InTheStore):
    command_prefix = "env"


@pytest.mark.parametrize("task", [InTheStore(), BehindInTheStore()])
def test_the_store_of_a_run_is_known_everywhere(tmp_path: Path, task: AtomicTaskWithMetadata) -> None:
    path = run_task(task, executor="processes", store=tmp_path / "its store")
    assert Path(path).is_relative_to(tmp_path / "its store")


class NeedsASet(luigi.Task):
    folder = luigi.Parameter()

    def requires(self) -> set[luigi.Task]:
        return {OneOf(folder=self.folder, number=number) for number in range(9)}

    def output(self) -> set[luigi.LocalTarget]:
        return {luigi.LocalTarget(Path(self.folder) / f"{number}-of-set.txt") for number in range(9)}

    def run(self) -> None:
        for target in self.output():
            Path(target.path).touch()


class OneOf(NeedsASet):
    number = luigi.IntParameter()

    def requires(self) -> set[luigi.Task]:
        return set()

    def output(self) -> set[luigi.LocalTarget]:
        return {luigi.LocalTarget(Path(self.folder) / f"{self.number}.txt")}


def test_the_order_of_sets_is_no_difference(tmp_path: Path) -> None:
    run_task(NeedsASet(folder=str(tmp_path)), executor="processes", num_workers=2)
    assert len(list(tmp_path.glob("*-of-set.txt"))) == 9


class Raises(Changes):
    def output(self) -> LocalFileTarget:
        raise ValueError("not known yet")


def test_outputs_that_cannot_be_told_are_not_compared(tmp_path: Path) -> None:
    task = Raises(folder=str(tmp_path))
    assert addresses(task, []) is None
    refuse_other(task, None)
    with pytest.raises(OutputElsewhereError, match="its output is LocalFileTarget elsewhere"):
        refuse_other(Changes(folder=str(tmp_path)), (("LocalFileTarget elsewhere",),))

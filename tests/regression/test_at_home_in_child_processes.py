"""What people's programs do works in child processes, or is refused before it runs."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.contrib.simulate import RunAnywayTarget
from luigi.mock import MockTarget

from superluigi import run_task
from superluigi.engine.engine import run_graph
from superluigi.errors import ExecutionError, OptionError
from superluigi.parameters import Parameter
from superluigi.queue import Queue
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(folder / "workspace")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Mocked(luigi.Task):
    name = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        return [] if self.name == "first" else [Mocked(name="first")]

    def output(self) -> MockTarget:
        return MockTarget(f"regression-{self.name}")

    def run(self) -> None:
        with self.output().open("w") as stream:
            stream.write(self.name)


class Anyway(luigi.Task):
    folder = luigi.Parameter()
    last = luigi.BoolParameter(default=False)

    def requires(self) -> list[luigi.Task]:
        return [Anyway(folder=self.folder)] if self.last else []

    def output(self) -> RunAnywayTarget:
        return RunAnywayTarget(self)

    def run(self) -> None:
        with open(Path(self.folder) / "runs", "a") as stream:
            stream.write(".")
        self.output().done()


@pytest.fixture(scope="module")
def pool() -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as executor:
        yield executor


@pytest.mark.parametrize("where", ["processes", "pool", "queue"])
def test_targets_that_are_always_made_again_are_made_once_in_other_processes(
    tmp_path: Path, pool: ProcessPoolExecutor, queue_name: str, where: str
) -> None:
    last = Anyway(folder=str(tmp_path), last=True)
    if where == "queue":
        run_task(last, queue=queue_name, raise_exception=True)
    else:
        report = run_graph([last], executor=pool if where == "pool" else where)
        assert report.success, report.describe()
    assert (tmp_path / "runs").read_text() == ".." and last.complete()


class ReadsMocked(Anyway):
    def requires(self) -> list[luigi.Task]:
        return [Mocked(name="third")]


class YieldsMocked(Anyway):
    def run(self) -> Any:
        yield Mocked(name="fourth")


def test_mock_targets_are_refused_where_a_queue_would_run_them_on_its_workers(tmp_path: Path, queue_name: str) -> None:
    Mocked(name="third").output().open("w").close()  # complete here, and nowhere else
    with Queue(queue_name) as queue:
        for one in (Mocked(name="unseen"), ReadsMocked(folder=str(tmp_path)), [Mocked(name="third"), Mocked(name="x")]):
            with pytest.raises(ExecutionError, match=r"uses a MockTarget.* the workers of a queue do not see it. Run"):
                queue.submit(one)
            assert not any(queue.counts().values())
        queue.submit(YieldsMocked(folder=str(tmp_path)))
        queue.work()
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "uses a MockTarget" in str(row.error)


def test_mock_targets_work_in_our_processes_and_are_refused_in_others(pool: ProcessPoolExecutor) -> None:
    report = run_graph([Mocked(name="refused")], executor=pool)
    assert "MockTarget" in report.describe() and "executor='threads'" in report.describe()
    assert not Mocked(name="first").complete()
    assert run_graph([Mocked(name="second")], executor="processes").success


class InItsFolder(AtomicTaskWithMetadata):
    chdir = True
    name: str = Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"out/{self.name}.txt")

    def run(self, output_path: Path, task_dir: Path) -> None:
        assert Path.cwd() == task_dir
        Path("scratch.txt").write_text("x")
        output_path.write_text(str(task_dir))


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_task_may_work_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = run_task(InItsFolder(name="one"), executor=executor, force=True)
    assert (Path(Path(path).read_text()) / "scratch.txt").exists()
    assert Path.cwd() == tmp_path and Path(path) == Path("out/one.txt") and Path(path).exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01:30:00", timedelta(hours=1.5)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(hours=1.5)),
        ("90 min", timedelta(hours=1.5)),
        ("1-12:00:00", timedelta(days=1.5)),
        ("45s", timedelta(seconds=45)),
        ("0:30", timedelta(minutes=30)),
        (" 2 H ", timedelta(hours=2)),
    ],
)
def test_a_walltime_may_be_text(text: str, expected: timedelta) -> None:
    pytest.importorskip("sqlalchemy")
    from superluigi.queue import Pool
    from superluigi.queue.models import duration

    assert duration(text) == expected
    if expected > timedelta(hours=1):
        assert Pool(walltime=text) == Pool(walltime=expected)


@pytest.mark.parametrize("text", ["", "soon", "2 parsecs", "1:2:3:4", "-1h", "0s", "1.2.3h"])
def test_one_that_says_no_time_is_refused(text: str) -> None:
    pytest.importorskip("sqlalchemy")
    from superluigi.queue import Pool

    with pytest.raises(OptionError):
        Pool(walltime=text)


TASK = """
from superluigi import run_task
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
"""


def test_packages_with_relative_imports_and_files_named_like_those_of_the_standard_library(tmp_path: Path) -> None:
    package = tmp_path / "pack" / "inner"
    package.mkdir(parents=True)
    for folder in (tmp_path / "pack", package):
        (folder / "__init__.py").touch()
    (tmp_path / "pack" / "helper.py").write_text("VALUE = 'from the helper'\n")
    (package / "queue.py").write_text(
        TASK
        + textwrap.dedent("""
        import queue as standard
        from ..helper import VALUE
        from . import calendar as own

        class Inner(AtomicTaskWithMetadata):
            def output(self):
                return LocalFileTarget("out/inner.txt")
            def run(self, output_path):
                from ..helper import VALUE as again
                assert standard.SimpleQueue() and own.MINE
                output_path.write_text(VALUE + again)

        if __name__ == "__main__":
            print(run_task(Inner(), num_workers=2))
    """)
    )
    (package / "calendar.py").write_text("MINE = True\n")
    run(tmp_path, "-m", "pack.inner.queue")
    assert (tmp_path / "out" / "inner.txt").read_text() == "from the helperfrom the helper"
    (tmp_path / "out" / "inner.txt").unlink()
    run(tmp_path, "-m", "superluigi", "run", "pack.inner.queue", "Inner", "--workers", "2")
    assert (tmp_path / "out" / "inner.txt").exists()


def test_cells_that_are_run_again_bring_their_last_definition_to_the_processes(tmp_path: Path) -> None:
    cell = TASK + textwrap.dedent("""
        def word():
            return "{word}"
        class Cell(AtomicTaskWithMetadata):
            def output(self):
                return LocalFileTarget("out/cell.txt")
            def run(self, output_path):
                output_path.write_text(word())
    """)
    notebook = textwrap.dedent("""
        import sys
        cells = [open(f"cell{n}.py").read() for n in (1, 2)]
        main = sys.modules["__main__"].__dict__
        for cell, expected in zip(cells, ["first", "second"]):
            exec(compile(cell, f"<ipython-input-{expected}>", "exec"), main)
            path = run_task(Cell(), num_workers=2, force=True)
            assert open(path).read() == expected, open(path).read()
        print("ALL WELL")
    """)
    for number, word in enumerate(["first", "second"], start=1):
        (tmp_path / f"cell{number}.py").write_text(cell.format(word=word))
    assert "ALL WELL" in run(tmp_path, "-c", notebook)

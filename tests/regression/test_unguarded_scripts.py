"""A module that is imported for its tasks starts no run, wherever it is imported; it is told to guard that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from superluigi.errors import ExecutionError, UnguardedScriptError
from superluigi.execution.importing import only_importing, refuse_if_importing

SQUARE = """
import os, sys
from pathlib import Path
with open("imports", "a") as stream:
    stream.write(f"{os.getpid()}\\n")
if len(Path("imports").read_text().split()) > 12:
    os._exit(9)  # for the safety of this machine: nothing else would end it
from superluigi import compute, run_task
from superluigi.parameters import IntParameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Square(AtomicTaskWithMetadata):
    n = IntParameter()
    def output(self):
        return LocalFileTarget(f"out/{self.n}.txt")
    def run(self, output_path):
        output_path.write_text(str(self.n**2))

class Behind(Square):
    command_prefix = "env"
"""
STARTS = {
    "processes": "run_task(Square(n=3), num_workers=2)",
    "compute": "compute(Square(n=3), executor='processes')",
    "prefix": "run_task(Behind(n=3))",
    "queue": "run_task(Square(n=3), queue='sqlite:///queue.db')",
    "spawn": "from superluigi.queue import Queue\nq = Queue('sqlite:///queue.db')\nq.submit(Square(n=3))\nq.spawn(1)\n"
    "for row in q.tasks(): assert not row.error, row.error",
    "engine": "from superluigi.engine.engine import run_graph\n"
    "report = run_graph([Square(n=3)], num_workers=2)\nassert report.success, report.describe()",
    "luigi": "import luigi\nluigi.build([Square(n=4)], local_scheduler=True, no_lock=True)\n"
    "run_task(Square(n=3), num_workers=2)",
    "thread": "run_task(Square(n=3), executor='threads')",
    "pool": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool:\n"
    "    list(pool.map(lambda n: run_task(Square(n=n), num_workers=2), [3, 4]))",
}


def run(folder: Path, *words: str, stdin: IO[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        stdin=stdin,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(folder / "workspace"), "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )


def imports(folder: Path) -> int:
    return len((folder / "imports").read_text().split())


@pytest.mark.parametrize("start", ["processes", "prefix", "queue", "luigi"])
def test_workers_that_import_an_unguarded_module_refuse_what_it_starts(tmp_path: Path, start: str) -> None:
    (tmp_path / "unguarded.py").write_text(f"{SQUARE}\n{STARTS[start]}\n")
    done = run(tmp_path, "-c", "import unguarded")
    assert imports(tmp_path) <= 8, done.stdout
    assert "if __name__ == '__main__':" in done.stdout, done.stdout
    assert done.returncode == 1
    assert not (tmp_path / "out" / "3.txt").exists()


@pytest.mark.long
@pytest.mark.parametrize("start", ["compute", "spawn", "engine"])
def test_so_do_those_of_other_doors(tmp_path: Path, start: str) -> None:
    test_workers_that_import_an_unguarded_module_refuse_what_it_starts(tmp_path, start)


@pytest.mark.parametrize("start", ["thread", "processes", "pool"])
def test_commands_that_look_for_a_task_start_nothing_that_the_module_starts(tmp_path: Path, start: str) -> None:
    (tmp_path / "unguarded.py").write_text(f"{SQUARE}\n{STARTS[start]}\n")
    done = run(tmp_path, "-m", "superluigi", "run", "unguarded", "Square", "--n", "5", "--workers", "2")
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stdout and "unguarded.py" in done.stdout
    assert imports(tmp_path) == 1
    assert not (tmp_path / "out").exists()


def test_a_script_of_its_own_runs_without_a_guard(tmp_path: Path) -> None:
    (tmp_path / "unguarded.py").write_text(f"{SQUARE}\n{STARTS['processes']}\n")
    done = run(tmp_path, "unguarded.py")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "3.txt").read_text() == "9"


def test_a_guarded_module_works_everywhere_and_tasks_may_start_runs(tmp_path: Path) -> None:
    nested = """
class Nested(Square):
    def run(self, output_path):
        output_path.write_text(str(run_task(Square(n=self.n + 1), num_workers=2)))

if __name__ == "__main__":
    run_task(Nested(n=1), num_workers=2)
"""
    (tmp_path / "guarded.py").write_text(SQUARE + nested)
    for words in (["guarded.py"], ["-m", "superluigi", "run", "guarded", "Nested", "--n", "6", "--workers", "2"]):
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("?.txt")) == ["1.txt", "2.txt", "6.txt", "7.txt"]


READS = (
    SQUARE
    + """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int, required=True)
N = parser.parse_args().n
class Plus(Square):
    def run(self, output_path):
        output_path.write_text(f"{self.n + N} {sys.argv[1:]}")
"""
)


def test_a_module_may_read_its_command_line_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text(READS)
    (tmp_path / "main.py").write_text("import reads\nreads.run_task(reads.Plus(n=1), num_workers=2)")
    done = run(tmp_path, "main.py", "--n", "5")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "1.txt").read_text() == "6 ['--n', '5']"
    done = run(tmp_path, "-m", "superluigi", "run", "reads", "Plus", "--n", "2")
    assert done.returncode == 1
    assert "reads.py ends the process" in done.stdout and "__name__" in done.stdout


def test_what_imports_may_define_but_not_start() -> None:
    with only_importing():
        with pytest.raises(UnguardedScriptError, match="start a run while this process only imports"):
            refuse_if_importing("a run")
        with only_importing(), pytest.raises(RuntimeError):
            refuse_if_importing("a run")
    refuse_if_importing("a run")
    arguments = sys.argv
    with pytest.raises(ExecutionError, match="ends the process"), only_importing(["x", "-y"]):
        assert sys.argv == ["x", "-y"]
        sys.exit(2)
    assert sys.argv is arguments


@pytest.mark.long
@pytest.mark.parametrize("how", ["a file", "stdin"])
def test_a_local_dask_cluster_that_cannot_import_the_program_says_what_it_needs(tmp_path: Path, how: str) -> None:
    """Dask itself says no more than that its nanny failed to start."""
    pytest.importorskip("distributed")
    script = tmp_path / "unguarded.py"
    script.write_text(f"{SQUARE}\nrun_task(Square(n=3), executor='dask', num_workers=1)\n")
    with script.open() as stream:
        done = run(tmp_path, *(["unguarded.py"] if how == "a file" else []), stdin=stream)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if "Square(n=3) failed" in line][-1]
    assert "ExecutorLostError" in said and "if __name__ == '__main__':" in said
    assert ("<stdin>" in said) == (how == "stdin") and not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_pool_of_the_standard_library_that_imports_main_again_starts_no_run_there(tmp_path: Path) -> None:
    pool = (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "run_task(Square(n=3), executor=ProcessPoolExecutor(1, multiprocessing.get_context('spawn')))"
    )
    (tmp_path / "unguarded.py").write_text(f"{SQUARE}\n{pool}\n")
    done = run(tmp_path, "unguarded.py")
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stdout
    assert imports(tmp_path) == 2

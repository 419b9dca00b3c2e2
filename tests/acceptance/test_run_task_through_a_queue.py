"""`run_task(queue=…)` gives what `run_task` gives: the same summary, the same value, the same errors."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from superluigi.errors import OptionError
from superluigi.task_runner import run_task
from superluigi.tasks import Task

PIPELINE = """
import luigi
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Draw(AtomicTaskWithMetadata):
    seed = luigi.IntParameter()
    def output(self): return LocalFileTarget(f"draw-{self.seed}.txt")
    def run(self, output_path): output_path.write_text(str(self.seed))

class Sum(AtomicTaskWithMetadata):
    def requires(self): return [Draw(seed) for seed in range(4)]
    def output(self): return LocalFileTarget("sum.txt")
    def run(self, input_path, output_path): output_path.write_text(str(sum(int(p.read_text()) for p in input_path)))
"""
RUN = """
import sys
from pipeline import Sum
from superluigi.task_runner import run_task
print("returned", run_task(Sum(), queue=sys.argv[1], num_workers=2, force=len(sys.argv) > 2))
"""


def test_a_run_through_a_queue_returns_the_path_and_prints_the_summary(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(PIPELINE))
    (tmp_path / "run.py").write_text(textwrap.dedent(RUN))
    command = [sys.executable, "-W", "ignore", "run.py", f"sqlite:///{tmp_path}/queue.sqlite"]
    for extra, ran in (([], "5 ran successfully"), ([], "Did not run any tasks"), (["force"], "1 ran successfully")):
        done = subprocess.run([*command, *extra], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert ran in done.stdout
        assert "Outputs can be found at sum.txt" in done.stdout
        assert "returned sum.txt" in done.stdout
    assert (tmp_path / "sum.txt").read_text() == "6"


def test_a_queue_and_an_executor_cannot_be_combined() -> None:
    with pytest.raises(OptionError, match="queue cannot be combined with executor"):
        run_task(Task(), queue="q", executor="threads")

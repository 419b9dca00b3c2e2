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


def test_callbacks_are_called_once_by_whoever_waits_for_the_queue(tmp_path: Path) -> None:
    (tmp_path / "called.py").write_text(
        textwrap.dedent("""
            import sys
            import luigi
            from superluigi import run_task
            from superluigi.queue import Queue
            from superluigi.tasks import Task

            class Good(Task):
                name = luigi.Parameter()
                def output(self):
                    return luigi.LocalTarget(self.name)
                def run(self):
                    self.output().open("w").close()

            class Bad(Task):
                def run(self):
                    raise ValueError("no")

            if __name__ == "__main__":
                import called
                def watched(task):
                    task.on_completed(lambda task: print("completed", task))
                    task.on_failed(lambda task, error: print("failed", task, type(error).__name__))
                    return task
                run_task(watched(called.Good(name="run")), queue="q.sqlite")
                with Queue("q.sqlite") as queue:
                    queue.submit([watched(called.Good(name="spawn")), watched(called.Bad())])
                    queue.spawn(1)
                    queue.submit(watched(called.Good(name="wait")))
                    queue.spawn(1, detach=True)
                    queue.wait()
                    queue.wait()
        """)
    )
    done = subprocess.run([sys.executable, "called.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("completed", "failed "))]
    assert said == [
        "completed Good(name=run)",
        "completed Good(name=spawn)",
        "failed Bad() RemoteError",
        "completed Good(name=wait)",
    ]

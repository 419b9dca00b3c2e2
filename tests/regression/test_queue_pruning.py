"""What has ended is forgotten by age and number; what may still happen is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from superluigi.queue import Queue

Project = Callable[[str], ModuleType]

TASKS = """
    class Leaf(luigi.Task):
        number = luigi.IntParameter()
        def output(self):
            return luigi.LocalTarget(f"leaf-{self.number}")
        def run(self):
            print("said")
            with self.output().open("w") as file:
                file.write("x")

    class Root(luigi.Task):
        number = luigi.IntParameter()
        def requires(self):
            return [Leaf(self.number), Leaf(self.number + 1)]
        def run(self):
            if self.number == 10:
                raise ValueError("no")

    class Behind(luigi.Task):
        def requires(self):
            return Root(10)
"""


def test_what_has_ended_is_forgotten_with_its_logs_and_the_rest_stays_sound(
    any_queue_name: str, project: Project
) -> None:
    module = project(TASKS)
    with Queue(any_queue_name) as queue:
        queue.submit(module.Root(0))
        queue.submit(module.Root(5))
        queue.submit(module.Behind())
        queue.work()
        logs = [Path(str(row.log)) for row in queue.tasks(module.Leaf(0), module.Leaf(10))]
        assert all(log.exists() for log in logs)
        assert queue.prune(older_than=timedelta(hours=1)) == 0
        assert queue.prune(keep=4) == 2
        assert queue.prune(older_than=timedelta(0)) == 4
        # Something may still happen in the third run: its failed task can be retried.
        assert {row.id for row in queue.tasks()} == {
            task.task_id for task in (module.Leaf(10), module.Leaf(11), module.Root(10), module.Behind())
        }
        assert [log.exists() for log in logs] == [False, True]
        assert queue.check() == []
        assert queue.retry() == 1
        again = queue.submit(module.Leaf(0))  # the target is the truth
        assert again.done and not again.added
        queue.work()
        assert queue.check() == []


@pytest.mark.parametrize(("keep", "left"), [("2", 2), ("0", 3)])
def test_managers_forget_by_the_settings(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch, keep: str, left: int
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_KEEP_TASKS", keep)
    module = project(TASKS)
    with Queue(queue_name) as queue:
        queue.submit(module.Root(0))
        queue.work()
        for _ in range(2):
            queue.spawn()
            assert len(queue.tasks()) == left


def test_a_log_elsewhere_that_a_row_names_is_left_alone(queue_name: str, project: Project, tmp_path: Path) -> None:
    from superluigi.queue.store import pruning

    foreign = tmp_path / "other.stdout.log"
    foreign.write_text("x")
    inside = tmp_path / "q.logs"
    inside.mkdir()
    for log in (str(foreign), f"{inside}/../other.stdout.log", str(inside / "kept.txt")):
        pruning.remove_logs([log], inside)
    assert foreign.exists()

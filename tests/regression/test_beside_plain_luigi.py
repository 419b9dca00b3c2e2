"""What a user of plain Luigi meets who mixes Luigi's classes and commands with ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import luigi
import pytest

from superluigi import cli, run_task
from superluigi.engine.worker import Worker
from superluigi.errors import DefinitionError, ParameterError
from superluigi.tasks import AtomicTaskWithMetadata, Task

ODD_DEFAULTS = """
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget

class Words(luigi.Parameter):
    def parse(self, text):
        return tuple(text.split())

    def serialize(self, words):
        return " ".join(words)

class Say(AtomicTaskWithMetadata):
    words = Words(default=None)
    of = luigi.TaskParameter(default=None)

    def output(self):
        return LocalFileTarget("said.txt")

    def run(self, output_path):
        output_path.write_text(f"{'-'.join(self.words)} {self.of.__name__}")
"""


def test_a_default_that_has_no_text_keeps_no_command_from_running(
    project: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = project(ODD_DEFAULTS).__name__
    assert cli.main(["run", module, "Say", "--help"]) == 0
    assert "(default: None)" in capsys.readouterr().out
    assert cli.main(["run", module, "Say", "--words", "a b", "--of", "Say"]) == 0
    assert Path("said.txt").read_text() == "a-b Say"


def test_what_json_cannot_hold_is_named_in_the_refusal() -> None:
    class Holds(Task):
        options = luigi.DictParameter(default={})

    with pytest.raises(ParameterError, match="what JSON can hold"):
        Holds(options={"a": {1, 2}})


COPIES_ITSELF = """
import copy, pickle
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget

def copied(task):
    pickled = pickle.loads(pickle.dumps(task))
    with task.no_unpicklable_properties():  # as Luigi's Spark and Hadoop tasks do
        again = pickle.loads(pickle.dumps(task))
    task.set_status_message("copied")
    return pickled == again == copy.copy(task) == copy.deepcopy(task) == task

class Ours(AtomicTaskWithMetadata):
    way = luigi.Parameter()

    def output(self):
        return LocalFileTarget(f"ours-{self.way}.txt")

    def run(self, output_path):
        output_path.write_text(str(copied(self)))

class Luigis(luigi.Task):
    way = luigi.Parameter()

    def requires(self):
        return Ours(way=self.way)

    def output(self):
        return luigi.LocalTarget(f"luigis-{self.way}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write(str(copied(self)))
"""


@pytest.mark.parametrize("options", [{}, {"executor": "threads"}, {"executor": "processes"}])
def test_a_task_may_pickle_and_copy_itself_while_it_runs(
    options: dict[str, Any], project: Callable[[str], ModuleType]
) -> None:
    way = str(options.get("executor", "here"))
    run_task(project(COPIES_ITSELF).Luigis(way=way), **options)
    assert [Path(f"{kind}-{way}.txt").read_text() for kind in ("ours", "luigis")] == ["True", "True"]


class Builds(AtomicTaskWithMetadata):
    def run(self) -> int:
        assert luigi.build([luigi.WrapperTask()], local_scheduler=True, no_lock=True, log_level="CRITICAL")
        return 1


def test_a_task_that_sets_signal_handlers_in_a_thread_is_told_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DefinitionError, match=r"sets signal handlers .* Write executor = 'processes' in the class"):
        run_task(Builds(), store=tmp_path, executor="threads", raise_exception=True)
    monkeypatch.setattr(Builds, "executor", "processes")
    run_task(Builds(), store=tmp_path, executor="threads")


def test_a_task_that_names_no_module_is_told_to_a_scheduler_without_one() -> None:
    class Unknown(luigi.Task):
        task_module = None

        def complete(self) -> bool:
            return False

    scheduler = luigi.scheduler.Scheduler()
    Worker(scheduler).add(Unknown())
    assert scheduler.get_work(worker="an assistant", assistant=True)["task_module"] is None

"""What a queue's worker runs is the very task that was submitted, or nothing."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import luigi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superluigi import run_task
from superluigi.errors import DefinitionError, ParameterError, QueueError, TaskFailedError
from superluigi.parameters import Param
from superluigi.queue import Queue
from superluigi.queue.specs import SpecOptions, collect
from superluigi.runs.context import RunContext
from superluigi.tasks import AtomicTaskWithMetadata

Project = Callable[[str], ModuleType]

WRITES = """
    class Writes(luigi.Task):
        x = luigi.Parameter()
        also = luigi.Parameter(default="")

        def output(self):
            return luigi.LocalTarget(f"{self.task_id}.txt")

        def run(self):
            with self.output().open("w") as file:
                file.write(f"{type(self.x).__name__} {self.x(3) if callable(self.x) else self.x!r}")

    class Whole(Writes):
        x = luigi.IntParameter()

    class Real(Writes):
        x = luigi.FloatParameter()

    class Day(Writes):
        x = luigi.DateParameter(default=None)

    class Pair(Writes):
        x = luigi.TupleParameter(default=None)

    class Flag(Writes):
        x = luigi.BoolParameter(default=None)

    class Listed(Writes):
        x = luigi.ListParameter()

    def triple(number):
        return 3 * number
"""


def _made_by(task: luigi.Task, queue_name: str) -> str:
    with Queue(queue_name) as queue:
        queue.submit(task)
        queue.work()
        (row,) = queue.tasks(task)
        assert row.state == "SUCCEEDED", row.error
    return Path(f"{task.task_id}.txt").read_text()


@pytest.mark.filterwarnings("ignore:Parameter")
def test_values_whose_text_does_not_give_them_back_arrive_as_they_are(project: Project, queue_name: str) -> None:
    module = project(WRITES)
    tasks = [
        module.Writes(x=None), module.Writes(x=5), module.Writes(x=2.5), module.Writes(x=True),
        module.Writes(x=(1, "a")),
        module.Whole(x=None), module.Real(x=1), module.Real(x=None), module.Day(), module.Pair(), module.Flag(),
        module.Writes(x="given", also=None), module.Listed(x=[1, None]), module.Listed(x=[True]),
    ]  # fmt: skip
    with Queue(queue_name) as queue:
        queue.submit(tasks)
        assert queue.tasks(tasks[0])[0].params["x"] == "None"  # what people read stays text
        queue.work()
        assert {row.error for row in queue.tasks()} == {None}
        assert [row.task().param_kwargs for row in queue.tasks()] == [task.param_kwargs for task in tasks]
    for task in tasks:
        assert Path(f"{task.task_id}.txt").read_text() == f"{type(task.x).__name__} {task.x!r}"


@pytest.mark.filterwarnings("ignore:Parameter")
def test_functions_in_luigis_parameters_arrive_or_are_refused(project: Project, queue_name: str) -> None:
    module = project(WRITES)
    factor = 4

    def closure(number: int) -> int:
        return factor * number

    with Queue(queue_name) as queue:
        for function in (module.triple, closure, lambda number: number):
            with pytest.raises(ParameterError, match="address of memory"):
                queue.submit(module.Writes(x=function))
        assert queue.tasks() == []


FUNCTIONS = """
    from superluigi import task

    def double(number):
        return 2 * number

    @task
    def use(fn, number: int = 3) -> str:
        return f"{type(fn).__name__}: {fn(number) if callable(fn) else fn!r}"
"""


def test_every_instance_of_a_class_is_tried_out_not_only_the_first(project: Project, queue_name: str) -> None:
    module = project(FUNCTIONS)
    tasks = [module.use(fn=5), module.use(fn=module.double), module.use(fn="5"), module.use(fn=[module.double])]
    with Queue(queue_name) as queue:
        queue.submit(tasks)
        queue.work()
        assert {row.error for row in queue.tasks()} == {None}
    assert [task.result() for task in tasks][:3] == ["int: 5", "function: 6", "str: '5'"]
    assert "[<function double" in tasks[3].result()


def test_what_the_worker_makes_of_a_row_must_be_the_task_that_was_submitted(project: Project, queue_name: str) -> None:
    module = project(
        """
        class Changes(luigi.Task):
            number = luigi.IntParameter()
            def run(self):
                pathlib.Path("ran").touch()
        """
    )
    with Queue(queue_name) as queue:
        queue.submit(module.Changes(number=1))
        file = Path(str(module.__file__))
        file.write_text(file.read_text().replace("def run", "more = luigi.IntParameter(default=7)\n    def run"))
        queue.work()
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "is another task" in str(row.error)
    assert not Path("ran").exists()


def test_a_text_that_differs_in_each_process_runs_nothing(
    project: Project, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = project(
        """
        class Order(luigi.Parameter):
            def serialize(self, value):
                return os.environ["ORDER"]

        class Ordered(luigi.Task):
            x = Order()
            def run(self):
                pathlib.Path("ran").touch()
        """
    )
    monkeypatch.setenv("ORDER", "ab")
    with Queue(queue_name) as queue:
        queue.submit(module.Ordered(x="ab"))
        monkeypatch.setenv("ORDER", "ba")
        queue.work()
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "x is 'ba', not 'ab'" in str(row.error)
    assert not Path("ran").exists()


def test_a_family_that_two_modules_use_means_the_module_of_the_row(project: Project, queue_name: str) -> None:
    other = project("class Twice(luigi.Task):\n        def run(self):\n            pathlib.Path('wrong').touch()\n")
    module = project(
        f"""
        import {other.__name__}
        if "SECOND" not in os.environ:
            class Twice(luigi.Task):
                def run(self):
                    pathlib.Path("right").touch()
        """
    )
    with Queue(queue_name) as queue:
        queue.submit(module.Twice())
        os.environ["SECOND"] = "1"  # the worker finds the other module's class only
        try:
            queue.work()
        finally:
            del os.environ["SECOND"]
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "defines no task 'Twice'" in str(row.error)
    assert not Path("wrong").exists()


@pytest.mark.filterwarnings("ignore:Parameter")
def test_without_allow_pickle_nothing_is_pickled_into_a_queue_or_out_of_it(
    project: Project, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = project(WRITES)
    pickled = module.Writes(x=(1, "a"))
    with Queue(queue_name) as queue:
        queue.submit(pickled)
        queue.submit(module.Writes(x="plain"), by_value=True)
        monkeypatch.setenv("SUPERLUIGI_ALLOW_PICKLE", "false")
        for task, options in ((module.Writes(x=(2, "b")), {}), (module.Writes(x="other"), {"by_value": True})):
            with pytest.raises(DefinitionError, match="allow_pickle"):
                queue.submit(task, **options)
        with pytest.raises(DefinitionError, match="allow_pickle"):
            queue.tasks(pickled)[0].task()
        queue.work()
        assert all(row.state == "FAILED" and "allow_pickle" in str(row.error) for row in queue.tasks())
        queue.submit(module.Writes(x=None))  # needs no pickle
        queue.work()
        assert queue.counts()["SUCCEEDED"] == 1


class Holds(AtomicTaskWithMetadata):
    """Any value of a supported type, with and without an annotation."""

    plain = luigi.Parameter(default=None)
    number = luigi.FloatParameter(default=None)
    listed = luigi.ListParameter(default=None)
    keyed = luigi.DictParameter(default=None)
    day = luigi.DateParameter(default=None)
    hidden = luigi.Parameter(default=None, significant=False)
    anything: Param[Any] = None
    maybe: Param[int | str | None] = None
    pairs: Param[dict[str, list[float]]] = {}

    def run(self) -> None:
        """Nothing."""


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

#: Reads rows as a worker would, one JSON line each, and says what it made of them.
_READER = """
import json, sys
from superluigi.queue.rebuild import found, remake
sys.path[:0] = sys.argv[1:]
for line in sys.stdin:
    row = json.loads(line)
    code = bytes.fromhex(row["code"]) if row["code"] else None
    task = remake(found(row["module"], row["name"], code), row["name"], row["task_id"], json.loads(row["params"]), None)
    kinds = {name: type(getattr(task, name)).__name__ for name, _ in task.get_params()}
    print(json.dumps([task.task_id, repr(sorted(task.param_kwargs.items())), kinds]), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[subprocess.Popen[str]]:
    """Another process, where texts have other hashes."""
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _READER, str(Path(__file__).parent), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        yield process
        process.communicate()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    plain=_SCALARS, number=st.none() | st.floats() | st.integers(-(2**53), 2**53), hidden=_SCALARS,
    listed=st.none() | st.lists(_JSON, max_size=3), keyed=st.none() | st.dictionaries(st.text(), _JSON, max_size=3),
    day=st.none() | st.dates(min_value=datetime.date(1900, 1, 1)), anything=_JSON,
    maybe=st.none() | st.integers() | st.text(),
    pairs=st.dictionaries(st.text(), st.lists(st.floats(allow_nan=False)), max_size=3),
)  # fmt: skip
def test_any_row_read_under_another_hash_seed_is_the_same_task(elsewhere: Any, **values: Any) -> None:
    try:
        task = Holds(**values)
    except ParameterError:  # refused when it is made: it never reaches a queue
        return
    try:
        found = collect([task], RunContext(), SpecOptions())
    except (ParameterError, DefinitionError, QueueError):  # refused when it is submitted
        return
    (spec,) = found.specs
    row = {
        "task_id": spec.task_id, "name": spec.name, "module": spec.module, "params": spec.params,
        "code": found.codes[spec.code].hex() if spec.code else None,
    }  # fmt: skip
    elsewhere.stdin.write(json.dumps(row) + "\n")
    elsewhere.stdin.flush()
    task_id, held, kinds = json.loads(elsewhere.stdout.readline())
    assert task_id == task.task_id
    assert held == repr(sorted(task.param_kwargs.items()))
    assert kinds == {name: type(getattr(task, name)).__name__ for name, _ in task.get_params()}


COPIES = """
    from luigi.task import externalize
    from superluigi.tasks import AtomicTaskWithMetadata
    from superluigi.targets import LocalFileTarget

    class Plain(luigi.Task):
        def output(self):
            return luigi.LocalTarget("made.txt")

        def run(self):
            pathlib.Path("made.txt").write_text("x")

    class Ours(AtomicTaskWithMetadata):
        def output(self):
            return LocalFileTarget("made.txt")

        def run(self, output_path):
            output_path.write_text("x")

    class Called(Plain):
        @property
        def task_family(self):
            return "Other"

    class Reads(luigi.Task):
        kind = luigi.Parameter()
        of_class = luigi.BoolParameter()

        def requires(self):
            kind = globals()[self.kind]
            return externalize(kind)() if self.of_class else externalize(kind())

        def output(self):
            return luigi.LocalTarget(f"read-{self.kind}-{self.of_class}.txt")

        def run(self):
            pathlib.Path(self.output().path).write_text(pathlib.Path(self.input().path).read_text())
"""


@pytest.mark.parametrize("of_class", [True, False])
@pytest.mark.parametrize("kind", ["Plain", "Ours"])
def test_what_was_made_external_is_made_by_no_worker_either(
    project: Project, queue_name: str, kind: str, of_class: bool
) -> None:
    reads = project(COPIES).Reads(kind=kind, of_class=of_class)
    with pytest.raises(TaskFailedError, match="is missing"):
        run_task(reads, queue=queue_name)
    assert not Path("made.txt").exists()
    Path("made.txt").write_text("by others")
    run_task(reads, queue=queue_name)
    assert Path(reads.output().path).read_text() == "by others"


def test_a_task_that_gives_itself_another_name_arrives(project: Project, queue_name: str) -> None:
    run_task(project(COPIES).Called(), queue=queue_name)
    assert Path("made.txt").read_text() == "x"

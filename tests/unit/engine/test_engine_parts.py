"""The parts of the engine, one by one: completeness, limits, reports, executors by name."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import luigi
import pytest

from superluigi import execution
from superluigi.engine.engine import run_graph
from superluigi.errors import ExecutionError, OptionError, SharedStorageError, TargetMissingError, TaskFailedError
from superluigi.execution import yielded
from superluigi.runs.context import RunContext
from superluigi.runs.force import ForcePlan
from superluigi.runs.report import Failure, Report
from superluigi.scheduler.limits import Limits, Rate, Rates
from superluigi.scheduler.scheduler import ReadyScheduler
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.executor_tasks import LoggedTask, journal

asked: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def fresh_counters() -> None:
    asked.clear()


class Watched(LoggedTask):
    """Counts what it is asked."""

    below = luigi.IntParameter(default=0)

    def requires(self) -> list[luigi.Task]:
        asked[f"requires {self.name}"] += 1
        return [Watched(folder=self.folder, name=f"leaf{i}") for i in range(self.below)]

    def complete(self) -> bool:
        asked[f"complete {self.name}"] += 1
        return super().complete()


def test_each_task_is_asked_once_what_it_requires_and_whether_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yielded, "CHECKED_DATA", set())
    roots = [Watched(folder=str(tmp_path), name=f"root{i}", below=4) for i in range(3)]
    report = run_graph(roots)
    assert report.success
    assert set(asked.values()) == {1}
    assert len(asked) == 2 * 7
    asked.clear()
    run_graph([*roots, Watched(folder=str(tmp_path), name="new", below=4)])
    assert {n for question, n in asked.items() if question.startswith("complete")} == {1}


class Recorded(AtomicTaskWithMetadata):
    """Counts what it is asked, and keeps a record: which needs its hash, that of its requirements, and its inputs."""

    folder = luigi.Parameter()
    name = luigi.Parameter()
    once = luigi.BoolParameter(default=False)

    def requires(self) -> Any:
        asked[f"requires {self.name}"] += 1
        below = (Recorded(folder=self.folder, name=f"leaf{i}") for i in range(4 if self.name == "root" else 0))
        return below if self.once else list(below)

    def output(self) -> LocalFileTarget:
        asked[f"output {self.name}"] += 1
        return LocalFileTarget(f"{self.folder}/{self.name}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text(self.name)


def test_planning_asks_once_what_a_task_requires_and_its_attempt_once_more(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport json, test_engine_parts as here\n"
        "assert here.run_graph(here.Recorded(folder=sys.argv[2], name='root')).success\n"
        "print(json.dumps(here.asked))"
    )  # in a process of its own: what other tests have defined is asked about as well
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    asked: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    outputs = {question: n for question, n in asked.items() if question.startswith("output")}
    assert {n for question, n in asked.items() if question not in outputs} == {2}
    # twice more than the work needs: a place has one owner, so that the places of a graph are compared, and one maker
    assert outputs == {"output root": 4, **{f"output leaf{i}": 5 for i in range(4)}}


def test_requirements_that_come_from_an_iterator_are_all_in_the_record(tmp_path: Path) -> None:
    root = Recorded(folder=str(tmp_path), name="root", once=True)
    assert run_graph(root).success
    record = root.output().read_metadata()
    assert record is not None and [item["size"] for item in record["input"]] == [5] * 4


class Finds(LoggedTask):
    """Discovers tasks, level by level: the last requires what the first level has made."""

    def requires(self) -> Any:
        return [LoggedTask(folder=self.folder, name="leaf")] if self.name == "above" else []

    def run(self) -> Any:
        leaf, middle = LoggedTask(folder=self.folder, name="leaf"), Finds(folder=self.folder, name="middle")
        yield {"root": [leaf, middle], "middle": [Finds(folder=self.folder, name="above")], "above": []}[self.name]
        super().run()


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("force", [False, True])
def test_what_was_made_already_is_not_made_again_for_a_discovered_task(
    tmp_path: Path, force: bool, num_workers: int
) -> None:
    root = Finds(folder=str(tmp_path), name="root")
    if force:
        assert run_graph(root).success
        (tmp_path / "journal").unlink()
    assert run_graph(root, RunContext(plan=ForcePlan(everything=force)), num_workers=num_workers).success
    made = [line[1] for line in journal(tmp_path) if line[0] == "end"]
    assert sorted(made) == ["above", "leaf", "middle", "root"]


class SlowToLook(luigi.Task):
    number = luigi.IntParameter()
    busy = 0
    most = 0
    guard = threading.Lock()

    def complete(self) -> bool:
        with SlowToLook.guard:
            SlowToLook.busy += 1
            SlowToLook.most = max(SlowToLook.most, SlowToLook.busy)
        time.sleep(0.02)
        with SlowToLook.guard:
            SlowToLook.busy -= 1
        return True


def test_slow_questions_are_asked_many_at_a_time() -> None:
    assert run_graph([SlowToLook(number=i) for i in range(64)]).success
    assert SlowToLook.most > 8


class Wrap(luigi.WrapperTask):
    depth = luigi.IntParameter()
    side = luigi.IntParameter(default=0)

    def requires(self) -> list[luigi.Task]:
        if self.depth == 0:
            return [AlwaysThere()]
        return [Wrap(depth=self.depth - 1, side=side) for side in (0, 1)]


class AlwaysThere(luigi.ExternalTask):
    def complete(self) -> bool:
        asked["there"] += 1
        return True


def test_running_nested_wrapper_tasks_asks_a_leaf_a_few_times_only(tmp_path: Path) -> None:
    asked: list[None] = []

    class Leaf(luigi.Task):
        def output(self) -> luigi.LocalTarget:
            return luigi.LocalTarget(str(tmp_path / "leaf"))

        def run(self) -> None:
            (tmp_path / "leaf").write_text("x")

        def complete(self) -> bool:
            asked.append(None)
            return bool(super().complete())

    class Nest(luigi.WrapperTask):
        depth = luigi.IntParameter()
        side = luigi.IntParameter()

        def requires(self) -> list[luigi.Task]:
            return [Nest(self.depth - 1, side) for side in (0, 1)] if self.depth else [Leaf()]

    assert run_graph([Nest(10, 0)]).success
    assert len(asked) < 10


def test_nested_wrapper_tasks_do_not_ask_the_same_leaf_again_and_again() -> None:
    assert run_graph(Wrap(depth=14)).success
    assert asked["there"] == 1


def test_many_are_asked_at_once_where_somebody_can_tell(tmp_path: Path) -> None:
    roots = [Watched(folder=str(tmp_path), name=f"t{i}") for i in range(5)]
    report = run_graph(roots, complete_many=lambda tasks: {t.task_id: True for t in tasks})
    assert report.counts() == {"complete": 5}
    assert not any(question.startswith("complete") for question in asked)


class Broken(luigi.Task):
    def complete(self) -> bool:
        raise OSError("the disk is gone")


def test_a_question_that_fails_is_a_failure_that_names_its_task() -> None:
    report = run_graph(Broken())
    (failure,) = report.failures
    assert (failure.kind, str(failure.error)) == ("scheduling", "the disk is gone")
    with pytest.raises(TaskFailedError, match=r"Broken\(\)") as caught:
        report.raise_failure()
    assert isinstance(caught.value.__cause__, OSError)


class Missing(luigi.ExternalTask):
    def output(self) -> Any:
        return luigi.LocalTarget("/nowhere/at/all.csv")


class NeedsMissing(LoggedTask):
    def requires(self) -> luigi.Task:
        return Missing()


def test_a_missing_external_input_is_named_with_its_place_and_whom_it_blocks(tmp_path: Path) -> None:
    root = NeedsMissing(folder=str(tmp_path), name="root")
    report = run_graph(root)
    assert not report.success
    assert report.missing == (Missing().task_id,)
    assert report.blocked == {root.task_id: (Missing().task_id,)}
    assert isinstance(report.failures[0].error, TargetMissingError)
    assert "/nowhere/at/all.csv" in report.describe()
    assert "NeedsMissing" in report.describe()


class WritesNothing(LoggedTask):
    def run(self) -> None:
        pass


class NeedsNothing(LoggedTask):
    def requires(self) -> luigi.Task:
        return WritesNothing(folder=self.folder, name="nothing")


def test_a_requirement_that_wrote_nothing_stops_its_dependant_as_in_luigi(tmp_path: Path) -> None:
    report = run_graph(NeedsNothing(folder=str(tmp_path), name="root"))
    assert not report.success
    assert "Unfulfilled dependency at run time" in report.describe()
    assert "nothing.txt" in report.describe()


class Appears(luigi.ExternalTask):
    folder = luigi.Parameter()
    retry_count = 100

    def output(self) -> Any:
        return luigi.LocalTarget(Path(self.folder) / "late.txt")


class WaitsFor(LoggedTask):
    def requires(self) -> luigi.Task:
        return Appears(folder=self.folder)


def test_external_data_may_appear_later(tmp_path: Path) -> None:
    timer = threading.Timer(0.3, (tmp_path / "late.txt").touch)
    timer.start()
    report = run_graph(
        WaitsFor(folder=str(tmp_path), name="root"),
        scheduler_config={"limited_retry_delay": 0.02},
        worker_config={"retry_external_tasks": True, "keep_alive": True},
    )
    timer.join()
    assert report.success, report.describe()


class ChoosesThreads(LoggedTask):
    executor = "threads"

    def work(self) -> None:
        note_thread.append(threading.current_thread().name)


note_thread: list[str] = []


def test_a_task_class_may_ask_for_its_executor(tmp_path: Path) -> None:
    note_thread.clear()
    assert run_graph(ChoosesThreads(folder=str(tmp_path), name="one"), num_workers=2).success
    assert note_thread[0].startswith("superluigi-")


@pytest.mark.timeout(60)
def test_a_ping_that_takes_for_ever_keeps_no_worker(tmp_path: Path) -> None:
    asking, answer = threading.Event(), threading.Event()

    class Slow(ReadyScheduler):
        def ping(self, **kwargs: Any) -> Any:
            asking.set()
            answer.wait(120)

    class Waits(LoggedTask):
        def work(self) -> None:
            assert asking.wait(30)

    try:
        task = Waits(folder=str(tmp_path), name="a")
        assert run_graph(task, scheduler=Slow(), worker_config={"ping_interval": 0.01}).success
    finally:
        answer.set()


def test_the_history_that_luigid_is_told_to_keep_is_not_ours(tmp_path: Path) -> None:
    """Luigi's configuration files are read by luigid and by clients; a client that needs no luigid keeps no history."""
    config = luigi.configuration.get_config()
    config.set("scheduler", "record_task_history", "true")
    config.set("task_history", "db_connection", f"sqlite:///{tmp_path}/history.db")
    try:
        assert run_graph([LoggedTask(folder=str(tmp_path), name="a")]).success
    finally:
        config.remove_section("task_history")
        config.remove_option("scheduler", "record_task_history")
    assert not (tmp_path / "history.db").exists()


# -- limits


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls."""
    calls = 0

    def count(frame: Any, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def run_all(scheduler: ReadyScheduler) -> None:
    while (task_id := scheduler.get_work(worker="me")["task_id"]) is not None:
        scheduler.add_task(worker="me", task_id=task_id, status="DONE")


def test_tasks_that_all_differ_cost_no_more_than_tasks_that_are_alike() -> None:
    def looked_at(kinds: int) -> int:
        scheduler = ReadyScheduler(resources={f"lock{i}": 1 for i in range(400)})
        for i in range(400):
            scheduler.add_task(worker="me", task_id=str(i), resources={f"lock{i % kinds}": 1})
        return calls_of(lambda: run_all(scheduler))

    assert looked_at(400) < 3 * looked_at(1)


@pytest.mark.parametrize("resources", [{}, {"cpu": 1}])
def test_a_task_of_a_large_map_and_reduce_costs_what_one_of_a_small_one_costs(resources: dict[str, int]) -> None:
    """Each reducer is older than the maps that are left: once its own are done it is next, ahead of all of them."""

    def looked_at(width: int) -> float:
        scheduler = ReadyScheduler(resources={"cpu": 1})
        maps = {f"reduce{r}": [f"map{r}-{m}" for m in range(width)] for r in range(width)}
        scheduler.add_task(worker="me", task_id="root", deps=list(maps), resources=resources)
        for reduce, needed in maps.items():
            scheduler.add_task(worker="me", task_id=reduce, deps=needed, resources=resources)
        for needed in maps.values():
            for task_id in needed:
                scheduler.add_task(worker="me", task_id=task_id, resources=resources)
        return calls_of(lambda: run_all(scheduler)) / (width * width + width)

    assert looked_at(64) < 1.2 * looked_at(8)


class Yields(LoggedTask):
    """Needs both licences to begin with, and the first task keeps one only until the second has begun."""

    resources = {"licence": 2}

    def work(self) -> None:
        task: Any = self
        task.decrease_running_resources({"licence": 1})
        deadline = time.monotonic() + 60
        while sum(line[0] == "begin" for line in journal(self.folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_what_a_running_task_gives_back_is_used_at_once(tmp_path: Path, executor: str) -> None:
    both = [Yields(folder=str(tmp_path), name=name) for name in ("one", "two")]
    options: dict[str, Any] = {"resources": {"licence": 3}, "worker_config": {"wait_interval": 100}}
    assert run_graph(both, num_workers=2, executor=executor, **options).success
    assert [line[0] for line in journal(tmp_path)][:2] == ["begin", "begin"]


def test_limits_are_read_as_numbers_at_once_or_per_time() -> None:
    limits = Limits.parse({"gpu": 1, "TrainTask": 2, "api": "10/minute", "web": "3/10s"})
    assert limits.at_once == {"gpu": 1, "TrainTask": 2}
    assert limits.per_time == {"api": Rate(10, 60.0), "web": Rate(3, 10.0)}


@pytest.mark.parametrize("value", [-1, True, "10", "ten/minute", "10/fortnight", "0/minute", None, 1.5])
def test_a_limit_that_means_nothing_says_what_would(value: Any) -> None:
    with pytest.raises(OptionError, match="10/minute"):
        Limits.parse({"api": value})


def test_no_more_start_within_the_time_than_allowed() -> None:
    rates = Rates({"api": Rate(2, 60.0)})
    for _ in range(2):
        assert rates.allows({"api": 1})
        rates.acquire({"api": 1})
    assert not rates.allows({"api": 1})
    assert rates.due is not None
    assert 50 < rates.due - time.time() <= 60
    assert rates.allows({"other": 1})


class Calls(LoggedTask):
    channel = "api"


def test_a_rate_spreads_a_channel_over_time(tmp_path: Path) -> None:
    tasks = [Calls(folder=str(tmp_path), name=f"c{i}") for i in range(5)]
    report = run_graph(tasks, rate_limits={"api": "2/0.3s"})
    assert report.success
    begun = sorted(float(line[2]) for line in journal(tmp_path) if line[0] == "begin")
    assert all(later - earlier > 0.25 for earlier, later in zip(begun, begun[2:], strict=False))


# -- executors by name


def test_an_unknown_executor_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="dask, processes, threads"):
        run_graph(LoggedTask(folder=str(tmp_path), name="one"), executor="thread")


def test_packages_add_executors_by_an_entry_point(tmp_path: Path) -> None:
    point = EntryPoint("mine", f"{__name__}:my_executor", execution.ENTRY_POINTS)
    with mock.patch.object(execution, "entry_points", return_value=[point]):
        assert "mine" in execution.names()
        assert run_graph(LoggedTask(folder=str(tmp_path), name="one"), num_workers=2, executor="mine").success


def my_executor(name: str, max_workers: int) -> ThreadPoolExecutor:
    assert (name, max_workers) == ("mine", 2)
    return ThreadPoolExecutor(max_workers)


def test_an_entry_point_that_cannot_be_loaded_is_named() -> None:
    point = EntryPoint("broken", "no.such.module:factory", execution.ENTRY_POINTS)
    with (
        mock.patch.object(execution, "entry_points", return_value=[point]),
        pytest.raises(OptionError, match=r"no\.such\.module"),
    ):
        execution.make("broken", 1)


def test_a_dask_scheduler_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from superluigi.execution import dask

    monkeypatch.setattr(dask, "CONNECT_SECONDS", 1)
    with pytest.raises(ExecutionError, match="No Dask scheduler answers"):
        execution.make("tcp://127.0.0.1:9", 1)


class OwnDisk(luigi.LocalTarget):
    """A file that only the process which has written it can see."""

    def exists(self) -> bool:
        import os

        path = Path(self.path)
        return path.exists() and path.read_text() == str(os.getpid())


class Elsewhere(LoggedTask):
    """Its output is on a disk that the process has for itself."""

    def output(self) -> Any:
        return OwnDisk(Path(self.folder) / "mine.txt")

    def run(self) -> None:
        import os

        Path(self.output().path).write_text(str(os.getpid()))


def test_an_output_that_only_the_worker_sees_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from superluigi.engine import backends

    monkeypatch.setattr(backends, "VISIBLE_WITHIN_SECONDS", 0.1)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        report = run_graph(Elsewhere(folder=str(tmp_path), name="one"), num_workers=2, executor=pool)
    (failure,) = report.failures
    assert isinstance(failure.error, SharedStorageError)
    assert "cannot be seen from" in str(failure.error)


# -- reports


def failure(name: str, error: Exception, **more: Any) -> Failure:
    return Failure(f"{name}_id", f"{name}(x=1)", "failed", error, **more)


def test_failures_of_one_kind_are_told_together_with_their_last_words_and_whom_they_block() -> None:
    report = Report(
        run_id="r",
        summary="s",
        status="FAILED",
        success=False,
        outcomes={},
        failures=(
            failure("Load", ValueError("bad row"), log=("reading a.csv", "row 7 is odd")),
            failure("Load", ValueError("bad row")),
            failure("Train", KeyError("x")),
        ),
        blocked={"Root_id": ("Load_id",)},
    )
    told = report.describe()
    assert told.count("ValueError") == 1
    assert "2 tasks" in told
    assert "| row 7 is odd" in told
    assert "blocks Root_id" in told


@pytest.mark.parametrize("options", [{"num_workers": 0}, {"num_workers": True}, {"on_error": "ignore"}])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        run_graph(LoggedTask(folder=str(tmp_path), name="one"), **options)
    assert journal(tmp_path) == []


def test_who_counts_tasks_hears_of_those_that_were_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    scheduler = ReadyScheduler()
    collector = type("Collector", (), {"handle_task_done": lambda _, task: heard.append(task.id)})()
    scheduler.state._metrics_collector = collector
    monkeypatch.setattr(scheduler, "_counted", scheduler.has_metrics())
    scheduler.add_task(worker="me", task_id="done", status="DONE")
    assert heard == ["done"]

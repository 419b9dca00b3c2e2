"""`on_error="stop"`: after a failure, what runs is ended and cleans up, and nothing new begins."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import luigi
import pytest
from dask_support import DaskCluster

from superluigi import run_task
from superluigi.engine.engine import run_graph
from superluigi.errors import TaskFailedError
from superluigi.execution.process import process_state
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata

WAIT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_for(name: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not Path(name).exists() and time.monotonic() < end:
        time.sleep(0.01)


class Long(AtomicTaskWithMetadata):
    """Runs until it is ended."""

    folder: Param[str]
    n: Param[int]
    one_call: Param[bool] = False

    def output(self) -> Any:
        place = f"{self.folder}/long-{self.n}"
        return LocalFolderTarget(place) if self.n % 2 else LocalFileTarget(place)

    def run(self, output_path: Path) -> None:
        (output_path / "half" if self.n % 2 else output_path).write_text("half")
        Path(self.folder, f"begun-{self.n}").touch()
        try:
            if self.one_call:
                time.sleep(WAIT_SECONDS)
            end = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < end:
                time.sleep(0.01)
        finally:
            Path(self.folder, f"cleaned-{self.n}").touch()


class Later(AtomicTaskWithMetadata):
    folder: Param[str]
    n: Param[int]
    priority = -1

    def run(self) -> int:
        Path(self.folder, "later").touch()
        return 1


class Fails(AtomicTaskWithMetadata):
    folder: Param[str]
    longs: Param[int]

    def run(self) -> int:
        for n in range(self.longs):
            wait_for(f"{self.folder}/begun-{n}")
        raise ValueError("boom")


class All(luigi.WrapperTask):
    folder = luigi.Parameter()
    longs = luigi.IntParameter(default=2)
    one_call = luigi.BoolParameter(default=False)

    def requires(self) -> Any:
        longs = [Long(folder=self.folder, n=n, one_call=self.one_call) for n in range(self.longs)]
        return [Fails(folder=self.folder, longs=self.longs), *longs, Later(folder=self.folder, n=0)]


def assert_ended(root: All, executor: Any, here: Path) -> None:
    began = time.monotonic()
    report = run_graph(root, num_workers=3, executor=executor, on_error="stop")
    assert time.monotonic() - began < WAIT_SECONDS, "nobody was ended"
    words = {task.task_id: report.outcomes[task.task_id] for task in root.requires()}
    fails, *longs, later = root.requires()
    assert words[fails.task_id] == "failed"
    assert [words[long.task_id] for long in longs] == ["ended"] * root.longs
    assert words[later.task_id] == "not run"
    assert [failure.task_id for failure in report.failures] == [fails.task_id]
    assert not any(long.complete() for long in longs)
    kept = {path.name for path in here.iterdir() if not path.name.startswith(("begun-", "cleaned-"))}
    assert kept <= {"store"}, kept
    assert "* 1 failed:" in report.summary


@pytest.mark.parametrize("executor", ["threads", "processes", None])
def test_what_runs_is_ended_and_cleans_up(executor: Any, here: Path) -> None:
    assert_ended(All(str(here)), executor, here)
    assert {path.name for path in here.glob("cleaned-*")} == {"cleaned-0", "cleaned-1"}


def test_a_thread_in_one_long_call_is_given_up_and_publishes_nothing(here: Path) -> None:
    assert_ended(All(str(here), one_call=True), "threads", here)


def test_threads_that_we_were_given_are_ended_too(here: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert_ended(All(str(here)), pool, here)


def test_processes_that_we_were_given_are_told(here: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        assert_ended(All(str(here)), pool, here)


def test_dask_ends_what_runs_there(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its own executor calls a future cancelled while the task goes on, and publishes after the run."""
    distributed = pytest.importorskip("distributed")
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"), workers=3)
    with cluster as address, distributed.Client(address, set_as_default=False) as client:
        for name, executor in (("theirs", client.get_executor()), ("ours", address)):
            place = here / name
            place.mkdir()
            assert_ended(All(str(place)), executor, place)
            assert {path.name for path in place.glob("cleaned-*")} == {"cleaned-0", "cleaned-1"}


def test_what_is_ended_is_said_and_a_next_run_makes_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Quick(AtomicTaskWithMetadata):
        def run(self) -> int:
            if Path(here, "second").exists():
                return 1
            (here / "begun-0").touch()
            end = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < end:
                time.sleep(0.01)
            return 0

    class Both(luigi.WrapperTask):
        def requires(self) -> Any:
            return [Quick(), Fails(folder=str(here), longs=1)]

    with pytest.raises(TaskFailedError) as caught:
        run_task(Both(), num_workers=2, executor="threads", on_error="stop")
    assert [task for task, _ in caught.value.failures] == [str(Fails(folder=str(here), longs=1))]
    assert "ended" in capsys.readouterr().out
    (here / "second").touch()
    with pytest.raises(TaskFailedError):
        run_task(Both(), num_workers=2, executor="threads")
    assert Quick().complete()


def test_a_retry_that_is_left_is_made_before_anything_is_ended(here: Path) -> None:
    class Second(AtomicTaskWithMetadata):
        retry_count = 2

        def run(self) -> int:
            if not (here / "tried").exists():
                (here / "tried").touch()
                raise ValueError("not yet")
            return 1

    class Other(AtomicTaskWithMetadata):
        def run(self) -> int:
            wait_for(str(here / "tried"))
            return 2

    class Both(luigi.WrapperTask):
        def requires(self) -> Any:
            return [Second(), Other()]

    run_task(Both(), num_workers=2, executor="threads", on_error="stop")
    assert Second().complete()
    assert Other().complete()


def test_a_thread_that_was_given_up_leaves_what_came_after_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when the run is long over: what is around the process by then is not its to put back."""
    monkeypatch.setenv("OF_THE_RUN", "1")
    go_on, ended = threading.Event(), threading.Event()

    def attempt() -> None:
        os.environ["OF_THE_TASK"] = "1"
        go_on.wait(30)

    def run() -> None:
        process_state.isolated(attempt)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    while "OF_THE_TASK" not in os.environ:
        time.sleep(0.001)
    process_state.let_go(thread.ident)
    assert "OF_THE_TASK" not in os.environ
    os.environ["OF_THE_RUN"] = "2"
    monkeypatch.setenv("LATER", "1")
    go_on.set()
    thread.join()
    assert ended.is_set()
    assert (os.environ["OF_THE_RUN"], os.environ["LATER"]) == ("2", "1")
    process_state.isolated(os.environ.update, {"LEFT": "1"})  # the next attempt puts back its own as ever
    assert "LEFT" not in os.environ

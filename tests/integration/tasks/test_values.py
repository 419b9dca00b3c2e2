"""What `run` returns is stored, what `inputs` holds was stored: values travel through real runs, files and records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import numpy as np
import pandas as pd
import pytest

import superluigi
from superluigi import compute, run_task
from superluigi.errors import FormatError, OutputNotWrittenError, TargetMissingError, TaskFailedError
from superluigi.parameters import Const, Param, Requires
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, task


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


class Numbers(AtomicTaskWithMetadata):
    n: Param[int] = 3

    def run(self) -> list[int]:
        return list(range(self.n))


class Frame(AtomicTaskWithMetadata):
    numbers: Requires[list[int]]

    def run(self, inputs: Any) -> pd.DataFrame:
        return pd.DataFrame({"x": inputs["numbers"]})


class Total(AtomicTaskWithMetadata):
    frame: Requires[Frame]

    def run(self, inputs: Any) -> int:
        return int(inputs["frame"].x.sum())


def test_a_task_without_output_has_a_home_in_the_store(store: Path) -> None:
    graph = Total(frame=Frame(numbers=Numbers(5)))
    path = run_task(graph)
    assert path == store / "Total" / f"{graph.task_hash}.json"
    assert graph.result() == 10
    assert {
        file.parent.name + file.suffix for file in store.rglob("*") if "metadata" not in file.name and file.is_file()
    } == {
        "Total.json",
        "Frame.parquet",
        "Numbers.json",
    }
    record = graph.output().read_metadata()
    assert record["output"]["format"] == "json"
    assert record["input"]["frame"]["task_hash"] == graph.frame.task_hash


def test_the_store_is_chosen_by_argument_then_environment_then_configuration(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_task(Numbers(), store=tmp_path / "other").is_relative_to(tmp_path / "other")
    assert not store.exists()
    assert run_task(Numbers()).is_relative_to(store)
    monkeypatch.delenv("SUPERLUIGI_STORE")
    configured = run_task(Numbers(), config={"superluigi": {"store": str(tmp_path / "third")}})
    assert configured.is_relative_to(tmp_path / "third")
    assert run_task(Numbers()).is_relative_to(tmp_path / "superluigi-data")


def test_the_store_may_be_s3(s3_bucket: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.client_options["endpoint_url"])
    store = f"s3://{s3_bucket}/some/prefix"
    graph = Total(frame=Frame(numbers=Numbers(4)))
    assert run_task(graph, store=store) == f"{store}/Total/{graph.task_hash}.json"
    assert compute(graph, store=store) == 6
    target = S3ObjectTarget(s3_bucket, f"some/prefix/Total/{graph.task_hash}.json", **s3_server.client_options)
    assert target.load() == 6 and target.read_metadata()["output"]["format"] == "json"


def test_a_result_that_is_not_there_is_an_error_with_a_remedy() -> None:
    with pytest.raises(TargetMissingError, match=r"Numbers\(n=3\) has no result yet.*Run it"):
        Numbers().result()


class Home(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget("out/value.json")


class Lazy(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return {"good": Numbers(2), "list": [Numbers(3), Broken()], "one": (Numbers(1),)}

    def run(self, inputs: Any) -> list[Any]:
        return [
            dict(inputs)["good"],
            list(inputs["list"][:1]),
            inputs["one"] == [[0]],
            sorted(inputs),
            len(inputs["list"]),
        ]


class Broken(ExternalTask):
    def output(self) -> Any:
        return LocalFileTarget("broken.json")


def test_inputs_are_loaded_only_when_they_are_looked_at() -> None:
    Path("broken.json").write_text("{no json")
    assert compute(Lazy()) == [[0, 1], [[0, 1, 2]], True, ["good", "list", "one"], 2]


class WantsBroken(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return Broken()

    def run(self, inputs: Any) -> Any:
        return inputs


def test_an_input_that_cannot_be_read_is_named() -> None:
    Path("broken.json").write_text("{no json")
    with pytest.raises(TaskFailedError, match=r"broken\.json cannot be read"):
        run_task(WantsBroken())


def test_the_annotation_of_the_input_picks_the_table_library() -> None:
    polars = pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")

    class ByRun(AtomicTaskWithMetadata):
        frame: Requires[Frame]

        def run(self, inputs: dict[str, polars.DataFrame]) -> str:
            return type(inputs["frame"]).__module__.split(".")[0]

    class ByParameter(AtomicTaskWithMetadata):
        frame: Requires[pyarrow.Table]

        def run(self, inputs: Any) -> str:
            return type(inputs["frame"]).__module__.split(".")[0]

    @task
    def by_argument(frames: list[polars.DataFrame]) -> str:
        return type(frames[0]).__module__.split(".")[0]

    frame = Frame(numbers=Const([1, 2]))
    assert compute(ByRun(frame=frame)) == "polars"
    assert compute(ByParameter(frame=frame)) == "pyarrow"
    assert compute(by_argument([frame])) == "polars"
    assert isinstance(compute(frame), pd.DataFrame)
    assert isinstance(frame.result(polars.DataFrame), polars.DataFrame)
    assert isinstance(frame.output().load(pyarrow.Table), pyarrow.Table)


def test_polars_tables_are_stored_as_they_are() -> None:
    polars = pytest.importorskip("polars")

    class Made(AtomicTaskWithMetadata):
        def run(self) -> polars.DataFrame:
            return polars.DataFrame({"a": [1, 2]})

    assert compute(Made()).equals(polars.DataFrame({"a": [1, 2]}))


class ReturnsNone(AtomicTaskWithMetadata):
    kind: Param[int]

    def run(self) -> int | None:
        return None


def test_none_is_a_value_and_is_kept() -> None:
    graph = ReturnsNone(kind=1)
    assert compute(graph) is None and graph.complete()

    @task
    def nothing() -> None:
        return None

    @task
    def got(value: Any) -> bool:
        return value is None

    assert compute(got(nothing())) is True


class Forgets(Home):
    def run(self, output_path: Path) -> None:
        """Writes nothing."""


def test_a_run_that_asked_for_the_path_and_wrote_nothing_is_no_none() -> None:
    with pytest.raises(TaskFailedError) as caught:
        run_task(Forgets())
    assert isinstance(caught.value.__cause__, OutputNotWrittenError)


class Writes(Home):
    def run(self, output_path: Path) -> int:
        return output_path.write_text("[1]")


def test_what_run_writes_itself_wins_over_what_it_returns() -> None:
    assert json.loads(run_task(Writes()).read_text()) == [1]


class Unsaveable(Home):
    good: Param[bool]

    def run(self) -> Any:
        return {"fine": True} if self.good else {"tuple": (1, 2)}


def test_a_value_that_cannot_be_saved_fails_before_the_old_output_is_touched() -> None:
    path = run_task(Unsaveable(good=True))
    before = path.read_bytes(), LocalFileTarget(path).read_metadata()
    with pytest.raises(TaskFailedError) as caught:
        run_task(Unsaveable(good=False), force=True)
    assert isinstance(caught.value.__cause__, FormatError)
    assert f"cannot be saved as {path}:" in str(caught.value), "the place that the user knows, not the stage"
    assert (path.read_bytes(), LocalFileTarget(path).read_metadata()) == before
    assert sorted(item.name for item in path.parent.iterdir()) == ["value.json", "value.json.metadata.json"]


class Several(AtomicTaskWithMetadata):
    right: Param[bool] = True

    def output(self) -> Any:
        return {"a": LocalFileTarget("a.json"), "b": [LocalFileTarget("b.npy"), LocalFolderTarget("c")]}

    def run(self) -> Any:
        return (
            {"a": {"x": 1}, "b": [np.arange(3), {"t": pd.DataFrame({"n": [1]}), "s": "text"}]}
            if self.right
            else {"a": 1}
        )


def test_several_outputs_take_a_value_of_the_same_shape() -> None:
    value = compute(Several())
    assert value["a"] == {"x": 1} and value["b"][0].tolist() == [0, 1, 2]
    assert value["b"][1]["s"] == "text" and value["b"][1]["t"].n.tolist() == [1]
    assert compute(Several()["a"]) == {"x": 1}
    with pytest.raises(TaskFailedError, match=r"returned a dict, but output\(\) has a dict with the keys \['a', 'b'\]"):
        run_task(Several(right=False), force=True)


class Own(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget("own.json")

    def save_output(self, value: Any, path: Path) -> None:
        path.write_text(f"<{value}>")

    def load_output(self, path: Path) -> Any:
        return int(path.read_text()[1:-1])

    def run(self) -> int:
        return 7


class ReadsOwn(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return Own()

    def run(self, inputs: Any) -> int:
        return int(inputs) + 1


def test_a_tasks_own_save_output_and_load_output_win_and_the_record_says_so() -> None:
    assert compute(ReadsOwn()) == 8 and Own().result() == 7
    assert Path("own.json").read_text() == "<7>"
    assert Own().output().read_metadata()["output"]["format"] == "task"


def test_reading_never_guesses_by_suffix_when_the_record_knows() -> None:
    run_task(Own())
    with pytest.raises(FormatError, match="only that task can read it"):
        LocalFileTarget("own.json").load()


@pytest.mark.parametrize("kind", [LocalFileTarget, "s3"])
def test_any_target_loads_and_dumps(kind: Any, s3_bucket: str, s3_server: Any) -> None:
    if kind == "s3":
        target: Any = S3ObjectTarget(s3_bucket, "x/table.csv.gz", **s3_server.client_options)
    else:
        target = kind("x/table.csv.gz")
    target.dump(pd.DataFrame({"a": [1, 2]}))
    assert target.load().a.tolist() == [1, 2]
    with pytest.raises(FormatError, match=f"cannot be saved as {target.path}:"):
        target.dump({"no": "table"})
    assert target.load().a.tolist() == [1, 2], "the old output stands"


@pytest.mark.parametrize("kind", ["folder", "prefix"])
def test_folders_and_prefixes_load_as_dicts_and_as_one_table(kind: str, s3_bucket: str, s3_server: Any) -> None:
    if kind == "prefix":
        target: Any = S3PrefixTarget(s3_bucket, "some/prefix/", **s3_server.client_options)
    else:
        target = LocalFolderTarget("some/folder")
    target.dump({"a": [1], "b": "text"})
    assert target.load() == {"a": [1], "b": "text"}
    with target.tmp_write_path() as path:
        for year in (2013, 2014):
            (path / f"year={year}").mkdir()
            pd.DataFrame({"n": [year]}).to_parquet(path / f"year={year}" / "part.parquet")
    assert target.load().to_dict("list") == {"n": [2013, 2014], "year": [2013, 2014]}


class Pickled(AtomicTaskWithMetadata):
    def run(self) -> set[int]:
        return {1}


class ReadsPickled(AtomicTaskWithMetadata):
    pickled: Requires[Pickled]

    def run(self, inputs: Any) -> int:
        return len(inputs["pickled"])


def test_unpickling_can_be_switched_off_for_a_run() -> None:
    run_task(Pickled())
    with pytest.raises(TaskFailedError, match="run code"):
        run_task(ReadsPickled(pickled=Pickled()), config={"superluigi": {"allow_pickle": "false"}})
    assert compute(ReadsPickled(pickled=Pickled())) == 1


class Plain(luigi.Task):  # type: ignore[misc]
    def output(self) -> Any:
        return luigi.LocalTarget("plain.json")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("[4]")


def test_values_of_plain_luigi_tasks_are_loaded_too() -> None:
    @task
    def first(values: list[int]) -> int:
        return values[0]

    assert compute(first(Plain())) == 4


class Stepwise(AtomicTaskWithMetadata):
    def run(self) -> Iterator[Any]:
        paths = yield [Numbers(2), Numbers(3)]
        return sum(len(json.loads(path.read_text())) for path in paths)


def test_a_generator_may_return_a_value() -> None:
    assert compute(Stepwise()) == 5


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_values_travel_the_same_way_on_every_executor(executor: Any) -> None:
    graph = Total(frame=Frame(numbers=Numbers(6)))
    assert compute(graph, executor=executor, num_workers=2) == 15
    assert superluigi.plan(graph).counts == {}

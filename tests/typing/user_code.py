"""Typical user code; every line that is wrong ends in `# E`. Type checkers read it, nobody runs it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from typing_extensions import assert_type

import superluigi
from superluigi import as_path, cached, collect, compute, grid, run_task, shell_task, task
from superluigi.parameters import Const, IgnoreDefault, IntParameter, Meta, Param, Requires
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, InitStep, MapReduceTask, Task, TaskWithMetadata


class Features(AtomicTaskWithMetadata):
    day: Param[datetime.date]
    size: Param[int] = 10
    kind: Param[Literal["a", "b"]] = "a"
    device: Meta[str] = "cpu"
    dropout: Param[float, IgnoreDefault] = 0.0
    version: Param[int, Const] = 2
    layers: Param[list[int]] = [1]

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"features-{self.day}.parquet")

    def run(self, output_path: Path) -> None:
        assert_type(self.size, int)
        assert_type(self.layers, list[int])
        assert_type(self.day, datetime.date)


class Train(TaskWithMetadata):
    def output(self) -> LocalFolderTarget:
        return LocalFolderTarget("model")

    def run(self, metadata: dict[str, Any]) -> None:
        metadata["x"] = 1


class Raw(ExternalTask):
    def output(self) -> LocalFileTarget:
        return LocalFileTarget("raw.csv")


class Plain(Task):
    n = IntParameter(default=3)

    def requires(self) -> list[Task]:
        return [Raw(), Train()]


class Load(InitStep):
    model: Requires[Train]

    def run(self, inputs: Any, task: Any) -> None: ...


class Predict(AtomicTaskWithMetadata):
    features: Requires[Features]
    model: Requires[Train]
    folds: Requires[list[Features]] = Const([])
    scores: Requires[dict[str, Features]] = Const({})
    score: Requires[float] = Const(0.5)

    @cached("terms.csv")
    def terms(self, path: Path) -> pd.DataFrame:
        return pd.DataFrame()

    def run(self, input_path: dict[str, Path], inputs: dict[str, Any], output_path: Path) -> None:
        assert_type(self.features, Features)
        assert_type(self.folds, list[Features])
        assert_type(self.terms(), pd.DataFrame)


class Squares(MapReduceTask):
    numbers: Param[list[int]]
    accumulator = 0

    def items(self) -> list[int]:
        return self.numbers

    def map(self, item: int) -> int:
        return item * item

    def reduce(self, accumulator: int, value: int) -> int:
        return accumulator + value


@task
def fraction(seed: int = 42, size: int = 10_000) -> float:
    return 0.5


@task(output=lambda task: LocalFileTarget(f"{task.task_hash}.json"), resources={"cpu": 2})
def average(fractions: list[float]) -> float:
    return 0.5


@task
def name() -> str:
    return "x"


@shell_task
def echo(avg: float) -> list[str]:
    return ["echo"]


day = datetime.date(2013, 1, 1)
features = Features(day)
predict = Predict(features=features, model=Train())
assert_type(Features(day=day, size=5, kind="b", device="gpu"), Features)
assert_type(Features(day, 5).size, int)
Predict(features=features, model=Train(), folds=[features], scores={"a": features}, score=fraction(seed=1))
Predict(features=features["part"], model=Const("model"), folds=Const([1]))
Predict(features=features, model=Train(), init=(Load(model=Train()),), hash_seed="b")
assert_type(fraction(seed=1).result(), float)
assert_type(compute(fraction(seed=1)), float)
assert_type(compute(echo(average([fraction(seed=i) for i in range(3)]))), str)
run_task(predict, num_workers=2, force=True)
run_task(Train)
superluigi.plan(predict)
collect({"a": [features]})
as_path(features)
assert_type(grid(Features, day=[day], size=[1, 2]), list[Features])
Squares(numbers=[1, 2])

Features()  # E
Features(3)  # E
Features(day, size="5")  # E
Features(day, kind="c")  # E
Features(day, sise=5)  # E
Features(day, dropout="x")  # E
Features(day, layers=["x"])  # E
Predict(features=features)  # E
Predict(features=Train(), model=Train())  # E
Predict(features=features, model=Train(), folds=[Train()])  # E
Predict(features=features, model=Train(), score=name())  # E
Squares(numbers=3)  # E
features.size.upper()  # E
features.result().no_such_thing
fraction(seed=1).result().upper()  # E
fraction(seed=1).no_such_thing  # E
run_task(3)  # E

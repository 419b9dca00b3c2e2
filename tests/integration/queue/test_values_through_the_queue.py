"""Tasks that were passed into tasks go through the durable queue: its workers are other processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from superluigi import Queue, apply, outputs_of, task
from superluigi.parameters import Const, Param, Requires
from superluigi.targets import LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, InitStep, MapReduceTask


@task
def a_number(n: int) -> int:
    return n


@task
def total(frame: pd.DataFrame, more: list[int]) -> int:
    return int(frame.a.sum()) + sum(more)


class Folder(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFolderTarget(Path(os.environ["SUPERLUIGI_STORE"]) / "folder")

    def run(self) -> dict[str, int]:
        return {"a": 1, "b": 2}


class Squares(MapReduceTask):
    numbers: Param[list[int]]
    accumulator = 0

    def items(self) -> list[int]:
        return self.numbers

    def map(self, item: int) -> int:
        return item * item

    def reduce(self, accumulator: int, value: int) -> int:
        return accumulator + value


class Load(InitStep):
    value: Requires[int]

    def run(self, inputs: Any) -> int:
        return int(inputs["value"])


class Loaded(AtomicTaskWithMetadata):
    def run(self) -> int:
        return int(self.init[0].value)


def test_every_kind_of_composition_runs_in_queue_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    frame = Const(pd.DataFrame({"a": range(300)}))
    offset = 5
    graphs = {
        44853: total(frame, [a_number(1), a_number(2)]),
        7: apply(lambda value: value + offset, outputs_of(Folder(), b="b").b),
        14: Squares(numbers=[1, 2, 3]),
        9: Loaded(init=(Load(value=a_number(9)),)),
    }
    queue = Queue("values")
    for graph in graphs.values():
        queue.submit(graph)
    queue.spawn(2)
    assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}, [row.error for row in queue.tasks()]
    assert {graph.result(): value for value, graph in graphs.items()} == {value: value for value in graphs}

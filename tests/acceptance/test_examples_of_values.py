"""The examples that other workflow systems tell, re-told in ours, with their expected values."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from superluigi import compute, grid, outputs_of, run_task, shell_task, task
from superluigi.parameters import Const, Param, Requires
from superluigi.targets import LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, InitStep, NotebookTask


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


# ---- a chain: squares, summed


@task
def square(x: int) -> int:
    return x * x


@task
def total(values: list[int]) -> int:
    return sum(values)


@task
def add(a: int, b: int) -> int:
    return a + b


def test_one_square_is_16_and_ten_squares_and_one_are_286() -> None:
    assert compute(square(4)) == 16
    assert compute(add(total([square(x) for x in range(10)]), 1)) == 286
    assert compute(add(total(grid(square, x=range(10))), b=Const(1))) == 286


# ---- the binomial coefficient by composition


class Choose(AtomicTaskWithMetadata):
    """n over k, from the two cells above it in Pascal's triangle."""

    above: Requires[list[int]]
    n: Param[int]
    k: Param[int]

    def run(self, inputs: Any) -> int:
        with open("computed.txt", "a") as file:
            file.write(f"{self.n} {self.k}\n")
        return sum(inputs["above"])


def choose(n: int, k: int) -> Any:
    above: Any = Const([1]) if k in (0, n) else [choose(n - 1, k - 1), choose(n - 1, k)]
    return Choose(above=above, n=n, k=k)


def computed() -> list[str]:
    lines = Path("computed.txt").read_text().splitlines() if Path("computed.txt").exists() else []
    Path("computed.txt").unlink(missing_ok=True)
    return lines


def test_6_over_3_is_20_and_a_deleted_cell_is_traced_back() -> None:
    graph = choose(6, 3)
    assert compute(graph) == 20 == math.comb(6, 3)
    cells = computed()
    assert len(cells) == len(set(cells)) == 15, "each cell once"
    assert compute(graph) == 20 and computed() == []

    choose(4, 2).clear()
    assert compute(graph) == 20 and computed() == [], "as in Luigi, nothing looks behind a complete task"
    graph.clear()
    choose(5, 2).clear()
    assert compute(graph) == 20
    assert computed() == ["4 2", "5 2", "6 3"], "the trace back leads to the cells that are missing, no further"


# ---- Monte-Carlo pi


@task
def fraction(seed: int = 42, size: int = 10_000) -> float:
    draw = random.Random(seed)
    return sum(draw.random() ** 2 + draw.random() ** 2 <= 1 for _ in range(size)) / size


@task
def average(fractions: list[float]) -> float:
    return 4 * sum(fractions) / len(fractions)


@shell_task
def echo(avg: float) -> list[str]:
    return ["echo", "-n", f"pi is ~ {avg:.4f}"]


def test_pi_over_20_draws() -> None:
    graph = echo(average([fraction(seed=seed) for seed in range(20)]))
    text = compute(graph, num_workers=2, executor="threads")
    assert text.startswith("pi is ~ ") and abs(float(text.removeprefix("pi is ~ ")) - math.pi) < 0.02
    expected = 4 * sum(fraction.function(seed) for seed in range(20)) / 20
    assert text == f"pi is ~ {expected:.4f}"


# ---- sampled topics


class Collection(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFolderTarget("collection")

    def run(self) -> dict[str, Any]:
        topics = pd.DataFrame({"id": range(50), "text": [f"topic {n}" for n in range(50)]})
        return {"documents": [f"document {n}" for n in range(200)], "topics.tsv": topics}


class Sample(AtomicTaskWithMetadata):
    topics: Requires[pd.DataFrame]
    ratio: Param[float]

    def output(self) -> Any:
        return LocalFolderTarget("sampled")

    def run(self, inputs: Any) -> dict[str, Any]:
        return {"topics.tsv": inputs["topics"].head(round(len(inputs["topics"]) * self.ratio)).reset_index(drop=True)}


@task
def index(documents: list[str]) -> int:
    return len(documents)


@task
def evaluate(topics: pd.DataFrame, index: int) -> str:
    return f"{len(topics)} topics, {index} documents"


def test_untouched_documents_of_sampled_topics_are_not_a_dependency() -> None:
    raw = outputs_of(Collection(), documents="documents", topics="topics.tsv")
    sampled = outputs_of(Sample(topics=raw.topics, ratio=0.1), topics="topics.tsv", documents=raw.documents)
    assert compute(index(sampled.documents)) == 200
    assert not Path("sampled").exists(), "indexing the documents did not need the sample"
    assert compute(evaluate(sampled.topics, index(sampled.documents))) == "5 topics, 200 documents"


# ---- a loader as init step


class Learn(AtomicTaskWithMetadata):
    lr: Param[float]

    def output(self) -> Any:
        return LocalFolderTarget(f"model-{self.lr}")

    def run(self, output_path: Path) -> None:
        np.save(output_path / "weights.npy", np.arange(3) * self.lr)


class LoadWeights(InitStep):
    weights: Requires[Any]

    def run(self, inputs: Any) -> Any:
        return inputs["weights"]


class Score(AtomicTaskWithMetadata):
    def run(self) -> float:
        return float(self.init[0].value.sum())


def test_a_loader_as_init_step_is_part_of_identity_and_requirements() -> None:
    scores = [Score(init=(LoadWeights(weights=model["weights.npy"]),)) for model in grid(Learn, lr=[1.0, 2.0])]
    assert compute(scores) == [3.0, 6.0]
    assert scores[0].task_hash != scores[1].task_hash


# ---- a notebook


def notebook(cells: list[str]) -> dict[str, Any]:
    made = [
        {"cell_type": "code", "source": cell, "metadata": {"tags": ["parameters"]} if at == 0 else {}}
        | {"execution_count": None, "outputs": [], "id": f"cell{at}"}
        for at, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def test_a_notebook_runs_as_a_task_with_tasks_as_inputs() -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    Path("report.ipynb").write_text(json.dumps(notebook(["value, title = 0, ''", "print(title, value + 1)"])))
    graph = NotebookTask("report.ipynb", value=square(4), title="sixteen and one:")
    assert graph.deps() == [square(4)]
    path = run_task(graph)
    executed = json.loads(path.read_text())
    assert executed["cells"][-1]["outputs"][0]["text"] == ["sixteen and one: 17\n"]
    assert json.loads(Path("report.ipynb").read_text())["cells"][-1]["outputs"] == [], "the source stays as it is"
    assert graph.result().cells[-1]["source"] == "print(title, value + 1)"

    Path("report.ipynb").write_text(json.dumps(notebook(["value = 0", "print(value / 0)"])))
    broken = NotebookTask("report.ipynb", value=square(4))
    assert broken.task_id != NotebookTask("report.ipynb", value=square(5)).task_id
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run_task(broken)
    assert not broken.complete()

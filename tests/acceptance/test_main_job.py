"""The walk of the three-task example: what runs, what Luigi's summary says, where it all is; on every kind of place."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata

KINDS = ["file", "folder", "object", "prefix"]


def target_at(place: Any, name: str) -> Any:
    """The target `name` in a place: a kind, where, and options for S3."""
    if place["kind"] == "file":
        return LocalFileTarget(Path(place["root"]) / f"{name}.txt")
    if place["kind"] == "folder":
        return LocalFolderTarget(Path(place["root"]) / name)
    from superluigi.targets import S3ObjectTarget, S3PrefixTarget

    if place["kind"] == "object":
        return S3ObjectTarget(place["root"], f"out/{name}.txt", **place["options"])
    return S3PrefixTarget(place["root"], f"out/{name}", **place["options"])


def write(path: Path, text: str) -> None:
    if path.is_dir():
        (path / "part-1").write_text(text)
        path = path / "part-2"
    path.write_text(text)


def read(path: Path) -> str:
    return (path / "part-2" if path.is_dir() else path).read_text()


class Step(AtomicTaskWithMetadata):
    """Counts on disk how often it ran, and writes what it read plus its own name."""

    place = luigi.DictParameter()
    counters = luigi.Parameter(significant=False)

    def output(self) -> Any:
        return target_at(self.place, self.task_family)

    def run(self, input_path: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        with open(Path(self.counters) / self.task_family, "a") as counter:
            counter.write("x")
        read_texts = [read(path) for path in (input_path or {}).values()]
        times = len((Path(self.counters) / self.task_family).read_text())
        metadata["times"] = times
        write(output_path, "+".join([*read_texts, f"{self.task_family}{times}"]))


class Features(Step):
    pass


class Model(Step):
    pass


class Predictions(Step):
    def requires(self) -> Any:
        return {
            "features": Features(place=self.place, counters=self.counters),
            "model": Model(place=self.place, counters=self.counters),
        }


@dataclass
class Walk:
    """The example in one place, with what a bystander sees of a run."""

    place: dict[str, Any]
    counters: Path
    workers: int
    output: Callable[[], str]

    def task(self, cls: type[Step] = Predictions) -> Any:
        return cls(place=self.place, counters=str(self.counters))

    def go(self, **options: Any) -> dict[str, int]:
        """Run; the counts of Luigi's summary."""
        before = self.ran()
        self.path = run_task(self.task(), num_workers=self.workers, **options)
        text = self.output()
        self.made = {
            name: count - before.get(name, 0) for name, count in self.ran().items() if count != before.get(name)
        }
        assert f"Outputs can be found at {self.path}" in text
        return summary_counts(text)

    def ran(self) -> dict[str, int]:
        return {file.name: len(file.read_text()) for file in self.counters.iterdir()}

    def result(self) -> str:
        with self.task().output().tmp_read_path() as path:
            return read(path)

    def times(self, cls: type[Step]) -> int:
        record = self.task(cls).output().read_metadata()
        assert record["task_id"] == self.task(cls).task_id
        return int(record["times"])


def summary_counts(text: str) -> dict[str, int]:
    """The figures of Luigi's execution summary."""
    found = {"scheduled": int(re.search(r"Scheduled (\d+) tasks? of which", text)[1])}  # type: ignore[index]
    words = {"complete": r"\* (\d+) complete ones", "ran": r"\* (\d+) ran successfully", "failed": r"\* (\d+) failed"}
    for word, pattern in words.items():
        if match := re.search(pattern, text):
            found[word] = int(match[1])
    return found


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    kind = request.param
    if kind in ("file", "folder"):
        return {"kind": kind, "root": str(tmp_path / "out")}
    server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket")
    return {"kind": kind, "root": bucket, "options": dict(server.client_options)}


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def walk(
    request: pytest.FixtureRequest, place: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Walk:
    counters = tmp_path / "counters"
    counters.mkdir()
    return Walk(place, counters, request.param, lambda: capfd.readouterr().out)


def test_the_three_task_example_runs_what_each_option_says_and_nothing_else(walk: Walk) -> None:
    all_three = {"Features": 1, "Model": 1, "Predictions": 1}

    assert walk.go() == {"scheduled": 3, "ran": 3}  # cold
    assert walk.made == all_three and walk.result() == "Features1+Model1+Predictions1"

    assert walk.go() == {"scheduled": 1, "complete": 1}  # warm
    assert walk.made == {}

    assert walk.go(force=True) == {"scheduled": 3, "complete": 2, "ran": 1}
    assert walk.made == {"Predictions": 1} and walk.result() == "Features1+Model1+Predictions2"

    assert walk.go(force_upstream=True) == {"scheduled": 3, "ran": 3}
    assert walk.made == all_three and walk.result() == "Features2+Model2+Predictions3"

    assert walk.go(force_upstream_to_task=walk.task(Features)) == {"scheduled": 3, "complete": 1, "ran": 2}
    assert walk.made == {"Features": 1, "Predictions": 1} and walk.result() == "Features3+Model2+Predictions4"

    assert walk.go(force_upstream_to_task_cls=Features) == {"scheduled": 3, "complete": 1, "ran": 2}
    assert walk.made == {"Features": 1, "Predictions": 1} and walk.result() == "Features4+Model2+Predictions5"

    assert [walk.times(cls) for cls in (Features, Model, Predictions)] == [4, 2, 5]
    assert walk.go() == {"scheduled": 1, "complete": 1}
    assert walk.made == {}


def test_the_summary_names_the_model_as_complete_when_features_are_forced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counters").mkdir()
    root = Predictions(place={"kind": "file", "root": str(tmp_path / "out")}, counters=str(tmp_path / "counters"))
    run_task(root)
    capfd.readouterr()
    run_task(root, force_upstream_to_task_cls=Features)
    said = capfd.readouterr().out
    complete, ran = re.search(
        r"complete ones were encountered:(.*)ran successfully:(.*)This progress", said, re.S
    ).groups()  # type: ignore[union-attr]
    assert "Model" in complete and "Features" not in complete
    assert "Features" in ran and "Predictions" in ran and "Model" not in ran


SCRIPT = """
from pathlib import Path
import sys
import luigi
from superluigi.parameters import DateParameter, IntParameter
from superluigi.targets import LocalFileTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata


def ran(name):
    with open("ran.log", "a") as log:
        log.write(name + "\\n")


class Features(AtomicTaskWithMetadata):
    date = DateParameter()

    def output(self):
        return LocalFileTarget(f"data/features-{self.date}.csv")

    def run(self, output_path, metadata):
        output_path.write_text("features")
        metadata["rows"] = 3
        ran("Features")


class Model(AtomicTaskWithMetadata):
    version = IntParameter()

    def output(self):
        return LocalFileTarget(f"data/model-{self.version}.bin")

    def run(self, output_path):
        output_path.write_bytes(b"model")
        ran("Model")


class Predictions(AtomicTaskWithMetadata):
    date = DateParameter()
    version = IntParameter(default=4)

    def requires(self):
        return {"features": Features(self.date), "model": Model(self.version)}

    def output(self):
        return LocalFileTarget(f"data/predictions-{self.date}-{self.version}.csv")

    def run(self, input_path, output_path, metadata):
        assert metadata["input"]["features"]["path"].endswith(".csv")
        output_path.write_text(input_path["features"].read_text() + input_path["model"].read_text())
        ran("Predictions")


if __name__ == "__main__":
    options = eval(sys.argv[1])
    print("RETURNED", repr(run_task(Predictions, config={"Predictions": {"date": "2013-12-15"}}, **options)))
"""


def run_script(folder: Path, options: str) -> str:
    done = subprocess.run(
        [sys.executable, "flow.py", options], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_script_runs_forces_and_returns_a_path(tmp_path: Path, workers: int) -> None:
    (tmp_path / "flow.py").write_text(SCRIPT)

    def ran(options: str) -> list[str]:
        (tmp_path / "ran.log").write_text("")
        said = run_script(tmp_path, f"dict({options}, num_workers={workers})")
        assert "RETURNED PosixPath('data/predictions-2013-12-15-4.csv')" in said
        assert "Outputs can be found at data/predictions-2013-12-15-4.csv" in said
        return sorted((tmp_path / "ran.log").read_text().split())

    assert ran("force=False") == ["Features", "Model", "Predictions"]
    assert ran("force=False") == []
    assert ran("force=True") == ["Predictions"]
    assert ran("force_upstream_to_task_cls='Features'") == ["Features", "Predictions"]
    assert ran("force_upstream=True") == ["Features", "Model", "Predictions"]
    assert (tmp_path / "data/predictions-2013-12-15-4.csv").read_text() == "featuresmodel"
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    outputs = ["features-2013-12-15.csv", "model-4.bin", "predictions-2013-12-15-4.csv"]
    assert names == sorted(outputs + [name + ".metadata.json" for name in outputs])

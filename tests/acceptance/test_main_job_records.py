"""Records: every key, small, true, the same in every process; values that tasks put there; nothing private."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import luigi
import numpy as np
import pandas as pd
import pytest
from luigi.mock import MockTarget
from luigi.parameter import ParameterVisibility

from superluigi import targets
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, TaskWithMetadata

KEYS = [
    "schema",
    "task_family",
    "task_id",
    "task_hash",
    "params",
    "start_time",
    "end_time",
    "duration",
    "run",
    "code",
    "environment",
    "input",
    "output",
]


def sha256(content: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(content).hexdigest()}


class Raw(ExternalTask):
    path = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(self.path)


class Clean(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    day = luigi.DateParameter(default=datetime.date(2013, 12, 15))
    rate = luigi.FloatParameter(default=0.5)
    token = luigi.Parameter(default="s3cr3t-token", visibility=ParameterVisibility.PRIVATE)
    hidden = luigi.Parameter(default="hidden-value", visibility=ParameterVisibility.HIDDEN)

    def requires(self) -> Any:
        return {"raw": Raw(str(Path(self.folder) / "raw.csv"))}

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "clean.csv")

    def run(self, input_path: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text(input_path["raw"].read_text().upper())
        metadata["rows"] = 3


class Split(AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def requires(self) -> Any:
        return [Clean(self.folder), [Clean(self.folder, day=datetime.date(2013, 12, 15))]]

    def output(self) -> Any:
        return {"parts": LocalFolderTarget(Path(self.folder) / "parts", metadata_contents_limit=2)}

    def run(self, output_path: Any) -> None:
        for n in range(5):
            (output_path["parts"] / f"{n}.txt").write_text(str(n))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw.csv").write_text("abc")
    return tmp_path


def test_a_record_has_every_promised_key_in_order_and_they_are_true(folder: Path) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    run_task(Clean(str(folder)))
    after = datetime.datetime.now(datetime.timezone.utc)
    record = json.loads((folder / "clean.csv.metadata.json").read_text())
    task = Clean(str(folder))

    assert [key for key in record if key in KEYS] == KEYS and set(record) == {*KEYS, "rows"}
    assert record["schema"] == "superluigi.lineage/1"
    assert record["task_family"] == "Clean" and record["task_id"] == task.task_id
    assert record["task_hash"] == task.task_hash and len(task.task_hash) == 32
    assert record["params"] == {"folder": str(folder), "day": "2013-12-15", "rate": 0.5, "hidden": "hidden-value"}
    start, end = (datetime.datetime.fromisoformat(record[key]) for key in ("start_time", "end_time"))
    assert start.utcoffset() == end.utcoffset() == datetime.timedelta(0)
    assert before <= start <= end <= after
    assert record["duration"] == pytest.approx((end - start).total_seconds(), abs=1e-5)
    assert set(record["run"]) >= {"id", "parent", "attempt", "forced", "reason"}
    assert record["run"]["attempt"] == 1 and record["run"]["forced"] is False
    assert set(record["code"]) >= {"digest", "repo", "commit", "branch", "dirty", "path"}
    assert set(record["environment"]) >= {"python", "platform", "host", "user", "packages"}
    assert record["environment"]["python"] == platform.python_version()
    assert record["environment"]["packages"]["luigi"] == luigi.__version__
    assert record["rows"] == 3

    raw = record["input"]["raw"]
    assert raw["type"] == "LocalFileTarget" and raw["path"] == str(folder / "raw.csv")
    assert raw["size"] == 3 and raw["digest"] == sha256(b"abc")
    assert "task_id" not in raw and "metadata_path" not in raw

    output = record["output"]
    assert output["type"] == "LocalFileTarget" and output["path"] == str(folder / "clean.csv")
    assert output["size"] == 3 and output["digest"] == sha256(b"ABC")
    assert task.output().read_metadata() == record


def test_inputs_are_references_in_the_shape_of_requires(folder: Path) -> None:
    run_task(Split(str(folder)))
    clean = json.loads((folder / "clean.csv.metadata.json").read_text())
    record = json.loads((folder / "parts.metadata.json").read_text())
    first, (second,) = record["input"]
    assert first == second
    assert first["path"] == str(folder / "clean.csv") and first["digest"] == clean["output"]["digest"]
    assert first["task_id"] == clean["task_id"] and first["task_hash"] == clean["task_hash"]
    assert first["run"] == clean["run"]["id"] and first["metadata_path"] == str(folder / "clean.csv.metadata.json")
    assert "raw.csv" not in json.dumps(record["input"])


def test_the_contents_of_a_folder_are_cut_but_digest_and_count_cover_all(folder: Path) -> None:
    run_task(Split(str(folder)))
    output = Split(str(folder)).output()["parts"].read_metadata()["output"]
    assert [item["path"] for item in output["contents"]] == ["0.txt", "1.txt"]
    assert output["contents"][0] == {"path": "0.txt", "size": 1, "digest": sha256(b"0")}
    assert output["count"] == 5 and output["size"] == 5 and len(output["digest"]["sha256"]) == 64


def test_forced_runs_say_so(folder: Path) -> None:
    run_task(Clean(str(folder)))
    first = Clean(str(folder)).output().read_metadata()
    run_task(Clean(str(folder)), force=True)
    second = Clean(str(folder)).output().read_metadata()
    assert second["run"]["forced"] is True and second["run"]["reason"] == "forced"
    assert first["run"]["id"] != second["run"]["id"] and first["task_hash"] == second["task_hash"]


def test_nothing_private_is_in_records_task_ids_summaries_or_errors(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Leaks(AtomicTaskWithMetadata):
        secret = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

        def output(self) -> Any:
            return LocalFileTarget(folder / "leaks")

        def run(self, output_path: Path) -> None:
            raise ZeroDivisionError

    run_task(Clean(str(folder), token="pa55word"))
    with pytest.raises(Exception, match="Leaks") as caught:
        run_task(Leaks("pa55word"))
    assert "pa55word" not in str(caught.value) + repr(Leaks("pa55word")) + Leaks("pa55word").task_id
    for file in folder.rglob("*"):
        assert "pa55word" not in file.read_text()
    said = capfd.readouterr()
    assert "pa55word" not in said.err


def test_values_that_people_put_into_metadata_come_back_as_json(tmp_path: Path) -> None:
    moment = datetime.datetime(2013, 12, 15, 10, tzinfo=datetime.timezone.utc)
    values = {
        "numpy int": (np.int64(3), 3),
        "numpy float": (np.float32(0.5), 0.5),
        "numpy bool": (np.bool_(True), True),
        "array": (np.arange(3), [0, 1, 2]),
        "numpy date": (np.datetime64("2013-12-15"), "2013-12-15"),
        "table": (pd.DataFrame({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        "series": (pd.Series([1, 2]), {"0": 1, "1": 2}),
        "timestamp": (pd.Timestamp("2013-12-15"), "2013-12-15T00:00:00"),
        "missing": (pd.NA, None),
        "path": (Path("/a/b"), "/a/b"),
        "date": (datetime.date(2013, 12, 15), "2013-12-15"),
        "moment": (moment, "2013-12-15T10:00:00+00:00"),
        "span": (datetime.timedelta(minutes=2), 120.0),
        "decimal": (decimal.Decimal("1.10"), "1.10"),
        "nan": (float("nan"), "nan"),
        "set": ({2, 1}, [1, 2]),
        "tuple": ((1, (2,)), [1, [2]]),
        "keys": ({1: "a", datetime.date(2013, 12, 15): "b", (1, "x"): "c"}, {"1": "a", "2013-12-15": "b", "1, x": "c"}),
        "ünï": ("çødé\n日本", "çødé\n日本"),
    }

    class Says(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "says")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            output_path.write_text("x")
            metadata.update({key: value for key, (value, _) in values.items()})

    run_task(Says())
    record = json.loads((tmp_path / "says.metadata.json").read_text(encoding="utf-8"))
    for key, (_, expected) in values.items():
        assert record[key] == expected, key


def test_metadata_says_before_the_run_what_is_known_before_it(folder: Path) -> None:
    seen: dict[str, Any] = {}

    class Looks(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Clean(str(folder))

        def output(self) -> Any:
            return LocalFileTarget(folder / "looks")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            seen.update(metadata)
            output_path.write_text("x")

    run_task(Looks())
    assert set(seen) == set(KEYS) - {"end_time", "duration", "output"}
    assert seen["input"]["path"] == str(folder / "clean.csv")


def test_a_task_that_writes_by_itself_gets_its_record_too(tmp_path: Path) -> None:
    class Writes(TaskWithMetadata):
        def output(self) -> Any:
            return [LocalFileTarget(tmp_path / "a"), LocalFolderTarget(tmp_path / "b")]

        def run(self, metadata: dict[str, Any]) -> None:
            with self.output()[0].open("w") as stream:
                stream.write("a")
            with self.output()[1].tmp_write_path() as path:
                (path / "x").write_text("b")
            metadata["rows"] = 1

    run_task(Writes())
    for target in Writes().output():
        record = target.read_metadata()
        assert record["rows"] == 1 and record["output"]["path"] == str(target.path)
    (tmp_path / "a").unlink()
    run_task(Writes())
    assert Writes().complete()


def test_external_folders_and_luigis_targets_are_described_too(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "x").write_text("x")
    (tmp_path / "plain.txt").write_text("plain")
    with MockTarget("records-mock").open("w") as stream:
        stream.write("mock")

    class Given(ExternalTask):
        def output(self) -> Any:
            return [
                LocalFolderTarget(tmp_path / "given"),
                luigi.LocalTarget(str(tmp_path / "plain.txt")),
                MockTarget("records-mock"),
            ]

    class Uses(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Given()

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "uses")

        def run(self, input_path: Any, output_path: Path) -> None:
            output_path.write_text(input_path[1].read_text() + input_path[2].read_text())

    run_task(Uses())
    folder_, plain, mock = Uses().output().read_metadata()["input"]
    assert folder_["size"] == 1 and folder_["count"] == 1 and len(folder_["digest"]["sha256"]) == 64
    assert plain["size"] == 5 and plain["digest"] == sha256(b"plain") and plain["path"] == str(tmp_path / "plain.txt")
    assert mock["type"] == "MockTarget" and "records-mock" in mock["path"]
    assert (tmp_path / "uses").read_text() == "plainmock"


def test_external_objects_are_described_by_size_and_etag(s3_server: Any, s3_bucket: str, tmp_path: Path) -> None:
    options = dict(s3_server.client_options)
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="raw/a.csv", Body=b"abc")

    class Given(ExternalTask):
        def output(self) -> Any:
            return {
                "object": targets.S3ObjectTarget(s3_bucket, "raw/a.csv", **options),
                "prefix": targets.S3PrefixTarget(s3_bucket, "raw", **options),
            }

    class Uses(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Given()

        def output(self) -> Any:
            return targets.S3ObjectTarget(s3_bucket, "out.txt", **options)

        def run(self, input_path: Any, output_path: Path) -> None:
            output_path.write_text(input_path["object"].read_text() + (input_path["prefix"] / "a.csv").read_text())

    assert run_task(Uses()) == f"s3://{s3_bucket}/out.txt"
    record = Uses().output().read_metadata()
    given = record["input"]["object"]
    assert given["path"] == f"s3://{s3_bucket}/raw/a.csv" and given["size"] == 3
    assert given["etag"].strip('"') == client.head_object(Bucket=s3_bucket, Key="raw/a.csv")["ETag"].strip('"')
    assert record["input"]["prefix"]["count"] == 1
    assert record["output"]["digest"] == sha256(b"abcabc") and record["output"]["etag"]


# ---------------------------------------------------------------- task_hash

HASHES = """
import datetime, json, sys
import luigi
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task

class Leaf(AtomicTaskWithMetadata):
    n = luigi.IntParameter()
    note = luigi.Parameter(default="x", significant=False)
    token = luigi.Parameter(default="t", visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    def output(self): return LocalFileTarget(f"{self.n}")
    def run(self, output_path): pass

class Plain(luigi.Task):
    def requires(self): return {Leaf(1), Leaf(2), Leaf(3)}

class Shapes(Task):
    shape = luigi.Parameter()
    hash_of = luigi.ListParameter(default=[1, 2, 3])
    def requires(self):
        a, b, c = (Leaf(n) for n in self.hash_of)
        return {
            "none": None, "one": a, "list": [a, b, c], "set": {a, b, c}, "frozen": frozenset([c, a]),
            "inner set": {"x": {a, b, c}, "y": [{a, c}]}, "dates": {datetime.date(2013, 12, 15): a, 5: b, "t": c},
            "tuples": {(1, "x"): a, (2, None): b}, "generator": (task for task in (a, b)), "plain": Plain(),
        }[self.shape]

names = ["none", "one", "list", "set", "frozen", "inner set", "dates", "tuples", "generator", "plain"]
print(json.dumps({name: Shapes(name).task_hash for name in names}))
"""


def test_the_task_hash_is_the_same_in_every_process(tmp_path: Path) -> None:
    seen = []
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0].values())) == len(seen[0])


class Leaf(AtomicTaskWithMetadata):
    n = luigi.IntParameter()
    note = luigi.Parameter(default="x", significant=False)

    def output(self) -> Any:
        return LocalFileTarget(f"/nonexistent/{self.n}")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


class Above(AtomicTaskWithMetadata):
    n = luigi.IntParameter(default=0)

    def requires(self) -> Any:
        return {"leaf": Leaf(self.n), "seeded": Leaf(5, hash_seed="b")}

    def output(self) -> Any:
        return LocalFileTarget(f"/nonexistent/above-{self.task_hash}")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


def test_the_task_hash_covers_significant_parameters_and_requirements() -> None:
    assert Leaf(1).task_hash == Leaf(1, note="y").task_hash != Leaf(2).task_hash
    assert Above(1).task_hash != Above(2).task_hash
    assert Above(1).output().path.name == f"above-{Above(1).task_hash}"
    before = Above(1).task_hash

    class Leaf2(Leaf):
        pass

    assert Leaf2(1).task_hash != Leaf(1).task_hash
    assert Above(1).task_hash == before


def test_hash_seed_makes_another_task_of_the_same_parameters() -> None:
    plain, seeded = Leaf(5), Leaf(5, hash_seed="b")
    assert plain != seeded and plain.task_id != seeded.task_id and plain.task_hash != seeded.task_hash
    assert Leaf(5, hash_seed="b") is seeded and Leaf(5, hash_seed="") is plain
    assert "hash_seed" not in dict(Leaf.get_params()) and seeded.n == 5

    class Seeded(Leaf):
        hash_seed = "class"

    assert Seeded(5).task_hash != plain.task_hash
    assert seeded.clone().task_hash == seeded.task_hash
    assert Leaf.from_str_params(seeded.to_str_params()) == seeded

"""What users get for their own tests: a vanishing place, records compared, one task with fake inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from superluigi import run_task
from superluigi.errors import DefinitionError, TaskFailedError
from superluigi.parameters import IntParameter
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing import assert_record, run_alone, run_in
from superluigi.testing.s3_dialects import UNCONDITIONAL
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, s3_server


class Numbers(AtomicTaskWithMetadata):
    n = IntParameter(default=3)

    def run(self) -> list[int]:
        return list(range(self.n))


class OnS3(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return S3ObjectTarget("my-bucket", "a/b.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("on s3")


class Source(ExternalTask):
    name = IntParameter(default=1)

    def output(self) -> Any:
        return LocalFileTarget(f"/nowhere/{self.name}.csv")


class Folder(ExternalTask):
    def output(self) -> Any:
        return LocalFolderTarget("/nowhere/folder")


class Reads(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return {"csv": Source(), "numbers": Numbers(), "more": [Source(name=2), Folder()]}

    def run(self, input_path: Any, inputs: Any, metadata: Any) -> dict[str, Any]:
        metadata["rows"] = len(inputs["csv"])
        input_path["csv"].unlink()  # its own copy
        return {
            "total": int(inputs["csv"]["a"].sum()) + sum(inputs["numbers"]),
            "names": [input_path["csv"].name, input_path["more"][0].read_text()],
            "inside": sorted(path.name for path in input_path["more"][1].iterdir()),
        }


class FileAndValue(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return Numbers()

    def run(self, input_path: Path, inputs: Any) -> list[str]:
        return [input_path.read_text(), inputs]


def test_everything_is_in_the_place_and_gone_afterwards(tmp_path: Path) -> None:
    before = dict(os.environ)
    with run_in(tmp_path) as place:
        path = run_task(Numbers(n=5))
        assert path.is_relative_to(place.store) and place.root.is_relative_to(tmp_path)
        assert_record(Numbers(n=5), params={"n": 5}, run={"forced": False})
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_a_text_that_is_given_as_a_value_is_one_also_in_the_file(tmp_path: Path) -> None:
    with run_in(tmp_path):
        run_alone(FileAndValue(), inputs="text")
        assert FileAndValue().result() == ['"text"', "text"]


def test_s3_is_there_when_asked_for_and_nobody_elses_otherwise(tmp_path: Path) -> None:
    with run_in(tmp_path) as place:
        with pytest.raises(TaskFailedError, match="my-bucket"):
            run_task(OnS3())
        place.bucket("my-bucket")
        assert run_task(OnS3()) == "s3://my-bucket/a/b.txt"
        assert_record(OnS3().output(), task_family="OnS3")
        listed = place.s3.client().list_objects_v2(Bucket="my-bucket")["Contents"]
        assert [item["Key"] for item in listed] == ["a/b.txt", "a/b.txt.metadata.json"]


def test_a_server_that_was_named_gets_the_credentials_that_belong_to_it(tmp_path: Path, monkeypatch) -> None:
    with s3_server(dialect=UNCONDITIONAL) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-server")
        with run_in(tmp_path) as place:
            with pytest.raises(TaskFailedError):
                run_task(OnS3())
            place.bucket("my-bucket")
            run_task(OnS3())
        assert server.requests and all(
            "Credential=of-the-server/" in r.headers["authorization"] for r in server.requests
        )


def test_a_record_that_differs_is_told_in_every_point(tmp_path: Path) -> None:
    with run_in(tmp_path):
        with pytest.raises(AssertionError, match="does not exist"):
            assert_record(Numbers())
        run_task(Numbers())
        with pytest.raises(AssertionError) as caught:
            assert_record(Numbers(), params={"n": 4}, rows=3, task_family=lambda name: name == "Other")
        for words in ("params.n: expected 4, found 3", "rows: missing", "task_family: 'Numbers' will not do"):
            assert words in str(caught.value)


def test_one_task_runs_on_fake_inputs_without_its_requirements(tmp_path: Path) -> None:
    import pandas as pd

    given = tmp_path / "given"
    given.mkdir()
    (given / "x").touch()
    with run_in(tmp_path):
        task = Reads()
        identity = task.task_hash
        inputs = {"csv": pd.DataFrame({"a": [1, 2]}), "numbers": [10], "more": ["text", given]}
        run_alone(task, inputs)
        assert task.result() == {"total": 13, "names": ["1.csv", "text"], "inside": ["x"]}
        assert_record(task, rows=2, task_hash=identity)
        assert task.requires()["csv"] == Source(), "the task itself is as before"
        assert not Numbers().complete()
    assert (given / "x").exists()


@pytest.mark.parametrize(
    "inputs", [None, {}, {"csv": "a", "numbers": [1]}, {"csv": 1, "numbers": [1], "more": ["one"]}]
)
def test_inputs_of_another_shape_are_refused_by_name(tmp_path: Path, inputs: Any) -> None:
    with run_in(tmp_path), pytest.raises((DefinitionError, ValueError), match=r"inputs of Reads|cannot be saved"):
        run_alone(Reads(), inputs)


def test_the_plugin_offers_fixtures(superluigi_place: Any, superluigi_bucket: str) -> None:
    assert str(superluigi_place.store) == os.environ["SUPERLUIGI_STORE"]
    assert superluigi_place.s3.client().list_objects_v2(Bucket=superluigi_bucket)["KeyCount"] == 0

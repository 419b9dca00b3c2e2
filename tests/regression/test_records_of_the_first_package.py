"""Records of the first `super-luigi` package: read where they describe the data, not mistaken for ours where not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import lineage, run_task
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def record(output: dict[str, Any], **more: Any) -> str:
    known = {"params": {}, "task_family": "F", "task_id": "F__9", "task_hash": "abc", "duration": 1.5, "input": None}
    return json.dumps({**known, **more, "output": output}, indent=4)


def state(place: object) -> str:
    (found,) = lineage.verify(place)
    return found.state


def a_file(folder: Path, text: str = "hi") -> LocalFileTarget:
    (folder / "x.txt").write_text("hi")
    output = {"type": "LocalFileTarget", "path": "x.txt", "md5_hash": md5(text)}
    (folder / "x.txt.metadata.json").write_text(record(output, row_count=3))
    return LocalFileTarget(folder / "x.txt")


def test_a_file_that_is_what_its_record_says_has_it(tmp_path: Path) -> None:
    target = a_file(tmp_path)
    found = target.read_metadata()
    assert found is not None
    assert (found["task_id"], found["row_count"], found["output"]["size"]) == ("F__9", 3, 2)
    assert state(target) == "ok"


def test_a_file_that_was_changed_since_has_none(tmp_path: Path) -> None:
    target = a_file(tmp_path, text="ho")
    assert target.exists()
    assert target.read_metadata() is None
    assert state(target) == "changed"


@pytest.mark.parametrize(
    ("named", "whole", "same"),
    [
        ({"a.txt": "a", "b/c.txt": "c"}, True, True),
        ({"a.txt": "a"}, True, False),  # a file was added
        ({"a.txt": "a", "b/c.txt": "C"}, True, False),
        ({"a.txt": "a", "b/c.txt": "c", "lost.txt": "l"}, False, False),
    ],
)
def test_a_folder_is_told_by_its_files(named: dict[str, str], whole: bool, same: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "b" / "c.txt").write_text("c")
    contents = [{"path": name, "md5_hash": md5(text)} for name, text in named.items()]
    output = {"type": "LocalFolderTarget", "path": "folder", "contents": contents}
    (tmp_path / "folder.metadata.json").write_text(record(output))
    target = LocalFolderTarget(folder)
    assert target.exists() is whole
    assert (target.read_metadata() is not None) is same


def test_a_folder_whose_record_is_inside_is_told_by_its_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "c.txt").write_text("c")
    output = {"type": "LocalFolderTarget", "path": "folder", "contents": [{"path": "b/c.txt", "md5_hash": md5("c")}]}
    (folder / "metadata.json").write_text(record(output, row_count=3))
    target = LocalFolderTarget(folder, metadata_path=folder / "metadata.json")
    found = target.read_metadata()
    assert target.exists() and found is not None and found["row_count"] == 3
    assert state(target) == "ok"
    with target.tmp_read_path() as copy:
        assert [path.name for path in copy.iterdir()] == ["b"]
    (folder / "more.txt").write_text("m")
    assert target.read_metadata() is None


def test_a_prefix_whose_record_is_inside_is_told_by_its_other_objects(server: S3Server) -> None:
    contents = [{"key": "a.txt", "size": 1, "etag": put(server, "p/a.txt", "a")}]
    output = {"type": "S3PrefixTarget", "path": "s3://first/p/", "contents": contents}
    put(server, "p/metadata.json", record(output, row_count=3))
    target = S3PrefixTarget("first", "p", metadata_object_key="p/metadata.json")
    found = target.read_metadata()
    assert found is not None and (found["row_count"], found["output"]["count"], state(target)) == (3, 1, "ok")


def test_what_a_task_reads_of_such_an_input_is_what_the_first_package_noted(tmp_path: Path) -> None:
    a_file(tmp_path)

    class Made(ExternalTask):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "x.txt")

    class Reads(AtomicTaskWithMetadata):
        def requires(self) -> luigi.Task:
            return Made()

        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "y.txt")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            output_path.write_text(str(metadata["input"]["row_count"]))

    assert run_task(Reads()).read_text() == "3"
    assert lineage.trace(tmp_path / "y.txt").nodes[str(tmp_path / "x.txt")]["task_id"] == "F__9"


def test_records_of_inputs_that_stood_in_a_record_become_references(tmp_path: Path) -> None:
    a_file(tmp_path)
    (tmp_path / "y.txt").write_text("y")
    inner = json.loads((tmp_path / "x.txt.metadata.json").read_text())
    inner["output"]["path"] = str(tmp_path / "x.txt")
    text = record({"type": "LocalFileTarget", "path": "y.txt", "md5_hash": md5("y")}, input={"x": inner})
    (tmp_path / "y.txt.metadata.json").write_text(text)
    found = LocalFileTarget(tmp_path / "y.txt").read_metadata()
    assert found is not None and found["input"]["x"]["task_id"] == "F__9"
    assert "row_count" not in found["input"]["x"]
    assert len(lineage.trace(tmp_path / "y.txt").nodes) == 2


def put(server: S3Server, key: str, body: str) -> str:
    return str(server.client().put_object(Bucket="first", Key=key, Body=body.encode())["ETag"])


@pytest.fixture
def server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    s3_server.create_bucket("first")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    return s3_server


def test_an_object_is_told_by_its_etag(server: S3Server) -> None:
    etag = put(server, "o.txt", "hi")
    output = {"type": "S3ObjectTarget", "path": "s3://first/o.txt", "size": 2, "etag": etag}
    put(server, "o.txt.metadata.json", record(output))
    target = S3ObjectTarget("first", "o.txt")
    found = target.read_metadata()
    assert found is not None and found["output"]["etag"] == etag.strip('"')
    assert state(target) == "ok"
    put(server, "o.txt", "ho")
    assert target.exists() and target.read_metadata() is None
    assert state(target) == "changed"


@pytest.mark.parametrize("limited", [False, True])
def test_a_prefix_is_told_by_its_keys_unless_there_were_too_many(limited: bool, server: S3Server) -> None:
    contents = [{"key": name, "size": 1, "etag": put(server, f"p/{name}", name[0])} for name in ("a.txt", "b/c.txt")]
    output = {"type": "S3PrefixTarget", "path": "s3://first/p/", **({} if limited else {"contents": contents})}
    put(server, "p.metadata.json", record(output))
    target = S3PrefixTarget("first", "p")
    found = target.read_metadata()
    assert target.exists() and found is not None and found["output"]["count"] == 2
    with target.tmp_read_path() as path:
        assert (path / "b" / "c.txt").read_text() == "b"
    put(server, "p/more.txt", "m")
    assert (target.read_metadata() is None) is not limited
    with target.tmp_read_path() as path:
        assert (path / "more.txt").exists()


@pytest.mark.parametrize("body", ["{}", '{"output": 5}', '{"output": {"type": "S3PrefixTarget", "contents": 3}}'])
def test_what_is_nobodys_record_is_none_and_the_data_is_taken_as_it_is(body: str, server: S3Server) -> None:
    for key in ("p/a.txt", "o.txt"):
        put(server, key, "hi")
    for key in ("p.metadata.json", "o.txt.metadata.json"):
        put(server, key, body)
    for target in (S3PrefixTarget("first", "p"), S3ObjectTarget("first", "o.txt")):
        assert target.exists()
        if body == "{}" or isinstance(target, S3PrefixTarget):
            assert target.read_metadata() is None
        with target.tmp_read_path() as path:
            assert path.exists()


def test_a_task_makes_such_an_output_again_and_the_record_is_ours(server: S3Server, tmp_path: Path) -> None:
    put(server, "p/a.txt", "hi")
    put(server, "p.metadata.json", record({"type": "S3PrefixTarget", "path": "s3://first/p/"}))
    a_file(tmp_path)

    class Makes(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [S3PrefixTarget("first", "p"), LocalFileTarget(tmp_path / "x.txt")]

        def run(self, output_path: Any) -> None:
            (output_path[0] / "new.txt").write_text("new")
            output_path[1].write_text("new")

    run_task(Makes(), force=True)
    for target in Makes().output():
        found = target.read_metadata()
        assert found is not None and found["schema"] == "superluigi.lineage/1"
    listed = server.client().list_objects_v2(Bucket="first", Prefix="p/")["Contents"]
    assert [item["Key"] for item in listed] == ["p/new.txt"]

"""Wrong code and wrong settings get a clear error; what was there before is untouched and nothing is left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import luigi
import pytest

from superluigi import targets
from superluigi.errors import (
    BucketMissingError,
    DefinitionError,
    OptionError,
    OutputNotWrittenError,
    RecordKeyError,
    RecordValueError,
    RunSignatureError,
    StorageAccessError,
    TargetKindError,
    TaskFailedError,
)
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, TaskWithMetadata

KINDS = ["file", "folder", "object", "prefix"]


class Place:
    """One target, and everything that is stored around it."""

    def __init__(self, kind: str, root: Path, bucket: str = "", options: dict[str, Any] | None = None) -> None:
        self.kind, self.root, self.bucket, self.options = kind, root, bucket, options or {}
        self.is_folder = kind in ("folder", "prefix")

    def target(self) -> Any:
        if self.kind == "file":
            return LocalFileTarget(self.root / "out.txt")
        if self.kind == "folder":
            return LocalFolderTarget(self.root / "out")
        if self.kind == "object":
            return targets.S3ObjectTarget(self.bucket, "a/out.txt", **self.options)
        return targets.S3PrefixTarget(self.bucket, "a/out", **self.options)

    def snapshot(self) -> dict[str, Any]:
        """Every file with its bytes and time; every key with its ETag and time; nothing hidden."""
        data_dir = Path(os.environ["SUPERLUIGI_LOCAL_DATA_DIR"])
        staging = [str(path) for path in data_dir.rglob("*-*-*-*")] if data_dir.exists() else []
        seen: dict[str, Any] = {"staging": staging}
        for path in sorted(self.root.rglob("*")):
            seen[str(path)] = (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else "folder"
        if self.bucket:
            client = boto3.client("s3", **self.options)
            for item in client.list_objects_v2(Bucket=self.bucket).get("Contents", []):
                seen[item["Key"]] = (item["ETag"], item["LastModified"])
            seen["uploads"] = client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return seen


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    root = tmp_path / "data"
    root.mkdir()
    if request.param in ("file", "folder"):
        return Place(request.param, root)
    server = request.getfixturevalue("s3_server")
    return Place(request.param, root, request.getfixturevalue("s3_bucket"), dict(server.client_options))


@pytest.fixture
def file_place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place("file", tmp_path / "data")


def fill(path: Path) -> None:
    if path.is_dir():
        (path / "part").write_text("good")
    else:
        path.write_text("good")


def publish_good(place: Place) -> None:
    """An earlier, good output with its record."""

    class Good(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return place.target()

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            fill(output_path)
            metadata["who"] = "good"

    run_task(Good())


def refused(place: Place, cls: type[luigi.Task], error: type[Exception], words: str) -> None:
    """Running `cls` raises `error` with `words`; with and without a good output before; nothing changes."""
    for before in (False, True):
        if before:
            publish_good(place)
        untouched = place.snapshot()
        with pytest.raises(TaskFailedError, match=words) as caught:
            run_task(cls(), force=True)
        assert isinstance(caught.value.__cause__, error), repr(caught.value.__cause__)
        assert place.snapshot() == untouched
        if before:
            assert place.target().read_metadata()["who"] == "good"


def with_run(place: Place, run: Callable[..., Any]) -> type[luigi.Task]:
    """A task for that place with that run."""
    name = f"{run.__name__.title()}"
    body = {"run": run, "output": lambda self: place.target(), "__module__": __name__}
    cls: type[luigi.Task] = type(AtomicTaskWithMetadata)(name, (AtomicTaskWithMetadata,), body)
    return cls


# ---------------------------------------------------------------- run


def test_a_task_without_a_run_method_is_told_so(place: Place) -> None:
    class NoRun(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return place.target()

    refused(place, NoRun, DefinitionError, "NoRun has no run")


def test_a_task_with_metadata_without_a_run_method_is_told_so(file_place: Place) -> None:
    class NoRun(TaskWithMetadata):
        def output(self) -> Any:
            return file_place.target()

    refused(file_place, NoRun, DefinitionError, "NoRun has no run")


@pytest.mark.parametrize("name", ["inptu_path", "output_paths", "meta"])
def test_an_unknown_name_in_runs_signature_is_an_error_when_the_class_is_written(name: str) -> None:
    body: dict[str, Any] = {}
    exec(f"def run(self, output_path, {name}): pass", body)
    with pytest.raises(RunSignatureError, match=name) as caught:
        type(AtomicTaskWithMetadata)("Wrong", (AtomicTaskWithMetadata,), {"run": body["run"]})
    for known in ("input_path", "output_path", "metadata"):
        assert known in str(caught.value)


def test_a_run_that_writes_nothing_is_an_error(place: Place) -> None:
    def run(self: Any, output_path: Path) -> None:
        pass

    refused(place, with_run(place, run), OutputNotWrittenError, "output_path")


def test_a_run_that_removes_what_it_should_write_is_an_error(place: Place) -> None:
    def run(self: Any, output_path: Path) -> None:
        if output_path.is_dir():
            output_path.rmdir()

    refused(place, with_run(place, run), OutputNotWrittenError, "output_path")


def test_writing_the_other_kind_is_an_error_that_names_the_class_to_use(place: Place) -> None:
    def run(self: Any, output_path: Path) -> None:
        if output_path.is_dir():
            output_path.rmdir()
            output_path.write_text("a file")
        else:
            output_path.mkdir()
            (output_path / "x").write_text("in a folder")

    fitting = {"file": "LocalFolderTarget", "folder": "LocalFileTarget", "object": "S3PrefixTarget"}
    refused(place, with_run(place, run), TargetKindError, fitting.get(place.kind, "S3ObjectTarget"))


def test_an_empty_folder_of_empty_folders_counts_as_something_only_where_it_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    place = Place("folder", tmp_path / "data")

    def run(self: Any, output_path: Path) -> None:
        (output_path / "empty").mkdir()

    run_task(with_run(place, run)())
    assert (tmp_path / "data/out/empty").is_dir()


def test_a_run_that_raises_half_way_is_an_error(place: Place) -> None:
    def run(self: Any, output_path: Path) -> None:
        fill(output_path)
        raise ZeroDivisionError("half way")

    refused(place, with_run(place, run), ZeroDivisionError, "half way")


def test_a_run_that_exits_the_process_fails_like_any_other(file_place: Place) -> None:
    def run(self: Any, output_path: Path) -> None:
        fill(output_path)
        raise SystemExit(3)

    refused(file_place, with_run(file_place, run), SystemExit, "3")


# ---------------------------------------------------------------- metadata


class Strange:
    pass


@pytest.mark.parametrize("value", [Strange(), {"deep": [1, Strange()]}, lambda: 1, {("a", Strange()): 1}])
def test_a_metadata_value_that_json_cannot_hold_is_an_error_that_names_the_key(place: Place, value: Any) -> None:
    def run(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        metadata["odd one"] = value

    refused(place, with_run(place, run), RecordValueError, "odd one")


def test_a_metadata_value_that_contains_itself_is_an_error(file_place: Place) -> None:
    def run(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        metadata["loop"] = metadata

    refused(file_place, with_run(file_place, run), RecordValueError, "cycle")


@pytest.mark.parametrize("key", ["task_id", "params", "start_time", "code", "input", "schema", "run", "environment"])
def test_changing_or_deleting_a_key_of_ours_is_an_error(file_place: Place, key: str) -> None:
    def change(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        metadata[key] = "mine"

    def delete(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        del metadata[key]

    refused(file_place, with_run(file_place, change), RecordKeyError, key)
    shutil.rmtree(file_place.root)
    file_place.root.mkdir()
    refused(file_place, with_run(file_place, delete), RecordKeyError, key)


@pytest.mark.parametrize("key", ["output", "end_time", "duration", "dynamic_input"])
def test_taking_a_key_that_we_set_after_the_run_is_an_error(place: Place, key: str) -> None:
    def run(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        metadata[key] = 1

    refused(place, with_run(place, run), RecordKeyError, key)


def test_changing_something_inside_a_key_of_ours_is_an_error(file_place: Place) -> None:
    def run(self: Any, output_path: Path, metadata: dict[str, Any]) -> None:
        fill(output_path)
        metadata["environment"]["host"] = Strange()

    refused(file_place, with_run(file_place, run), RecordKeyError, "environment")


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("output", ["data/out.txt", ["data/out.txt"], 5, luigi.LocalTarget])
def test_outputs_that_are_no_targets_are_an_error(file_place: Place, output: Any) -> None:
    class Wrong(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return output

        def run(self, output_path: Path) -> None:
            raise AssertionError("must not run")

    for options in ({}, {"force": True}, {"force_upstream": True}, {"num_workers": 2}):
        untouched = file_place.snapshot()
        with pytest.raises(TaskFailedError, match=r"Wrong\.output\(\)") as caught:
            run_task(Wrong(), **options)
        assert isinstance(caught.value.__cause__, DefinitionError)
        assert file_place.snapshot() == untouched


def test_luigis_own_target_as_output_of_an_atomic_task_is_an_error(file_place: Place) -> None:
    class Wrong(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return luigi.LocalTarget(str(file_place.root / "out.txt"))

        def run(self, output_path: Path) -> None:
            raise AssertionError("must not run")

    with pytest.raises(TaskFailedError, match="LocalFileTarget") as caught:
        run_task(Wrong())
    assert isinstance(caught.value.__cause__, DefinitionError)


def test_two_outputs_with_the_same_path_are_an_error(place: Place) -> None:
    class Twice(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return {"a": place.target(), "b": [place.target()]}

        def run(self, output_path: Any) -> None:
            raise AssertionError("must not run")

    refused(place, Twice, DefinitionError, "same path")


def test_two_spellings_of_one_path_are_the_same_path(file_place: Place) -> None:
    class Twice(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [file_place.target(), LocalFileTarget(file_place.root / ".." / "data" / "out.txt")]

        def run(self, output_path: Any) -> None:
            raise AssertionError("must not run")

    refused(file_place, Twice, DefinitionError, "same path")


def test_an_output_that_is_another_ones_record_is_an_error(file_place: Place) -> None:
    class Mixed(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [file_place.target(), LocalFileTarget(file_place.root / "out.txt.metadata.json")]

        def run(self, output_path: Any) -> None:
            raise AssertionError("must not run")

    refused(file_place, Mixed, DefinitionError, "same path")


def test_an_output_inside_another_output_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    place = Place("folder", tmp_path / "data")

    class Nested(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [place.target(), LocalFileTarget(place.root / "out" / "inner.txt")]

        def run(self, output_path: Any) -> None:
            raise AssertionError("must not run")

    refused(place, Nested, DefinitionError, "inside")


def test_the_record_cannot_be_put_where_the_data_is(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="metadata_path"):
        LocalFileTarget(tmp_path / "a.txt", metadata_path=tmp_path / "b" / ".." / "a.txt")
    with pytest.raises(OptionError, match="metadata_path"):
        LocalFolderTarget(tmp_path / "a", metadata_path=tmp_path / "a")
    with pytest.raises(OptionError, match="record"):
        targets.S3ObjectTarget("bucket", "a.txt", metadata_object_key="a.txt")
    with pytest.raises(OptionError):
        LocalFileTarget("")
    assert list(tmp_path.iterdir()) == []


def test_data_of_the_other_kind_at_the_output_is_an_error_that_names_the_class(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    with pytest.raises(TargetKindError, match="LocalFolderTarget"):
        LocalFileTarget(tmp_path / "folder").exists()
    with pytest.raises(TargetKindError, match="LocalFileTarget"):
        LocalFolderTarget(tmp_path / "file").exists()


# ---------------------------------------------------------------- S3


def s3_targets(bucket: str, options: dict[str, Any]) -> list[Any]:
    return [targets.S3ObjectTarget(bucket, "a/out.txt", **options), targets.S3PrefixTarget(bucket, "a/out", **options)]


def test_a_missing_bucket_is_an_error_and_not_an_absence(s3_server: Any) -> None:
    for target in s3_targets("nobody-made-this-bucket", dict(s3_server.client_options)):
        with pytest.raises(BucketMissingError, match="nobody-made-this-bucket"):
            target.exists()
        with pytest.raises(BucketMissingError, match="nobody-made-this-bucket"), target.tmp_write_path() as path:
            fill(path)
        place = Place("object", Path("/nonexistent"))
        assert place.snapshot()["staging"] == []


def test_a_task_with_a_missing_bucket_fails_with_that_reason(s3_server: Any) -> None:
    options = dict(s3_server.client_options)

    class Lost(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return targets.S3ObjectTarget("nobody-made-this-bucket", "a.txt", **options)

        def run(self, output_path: Path) -> None:
            raise AssertionError("must not run")

    with pytest.raises(TaskFailedError, match="nobody-made-this-bucket") as caught:
        run_task(Lost())
    assert isinstance(caught.value.__cause__, BucketMissingError)


@pytest.fixture(scope="module")
def guarded() -> Iterator[dict[str, Any]]:
    """An S3 server that checks credentials; options with valid ones, and a bucket with data."""
    import subprocess
    import sys
    import textwrap

    # a process of its own: moto's switch for checks is global
    script = textwrap.dedent(
        """
        import sys, urllib.request, boto3
        from moto.server import ThreadedMotoServer
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://127.0.0.1:{port}"
        headers = {"Content-Type": "application/octet-stream"}
        free = urllib.request.Request(url + "/moto-api/reset-auth", data=b"3", method="POST", headers=headers)
        urllib.request.urlopen(free)
        iam = boto3.client("iam", endpoint_url=url, region_name="us-east-1",
                           aws_access_key_id="x", aws_secret_access_key="y")
        iam.create_user(UserName="u")
        key = iam.create_access_key(UserName="u")["AccessKey"]
        policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
        iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy)
        print(url, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
        sys.stdin.read()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url, key, secret = process.stdout.readline().split()
        options = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "aws_access_key_id": key,
            "aws_secret_access_key": secret,
        }
        boto3.client("s3", **options).create_bucket(Bucket="vault")
        yield options
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.terminate()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", ["aws_access_key_id", "aws_secret_access_key"])
def test_wrong_credentials_are_an_error_and_never_does_not_exist(guarded: dict[str, Any], wrong: str) -> None:
    for target in s3_targets("vault", guarded):
        with target.tmp_write_path() as path:
            fill(path)
        assert target.exists()
    for target in s3_targets("vault", {**guarded, wrong: "nonsense"}):
        for ask in (target.exists, target.read_metadata, target.remove):
            with pytest.raises(StorageAccessError):
                ask()
        with pytest.raises(StorageAccessError), target.tmp_write_path() as path:
            fill(path)
        with pytest.raises(StorageAccessError), target.tmp_read_path():
            pass
    assert all(target.exists() for target in s3_targets("vault", guarded))


def test_a_task_with_wrong_credentials_fails_with_that_reason_and_does_not_run(guarded: dict[str, Any]) -> None:
    class Refused(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return targets.S3ObjectTarget("vault", "new.txt", **{**guarded, "aws_secret_access_key": "nonsense"})

        def run(self, output_path: Path) -> None:
            raise AssertionError("must not run")

    with pytest.raises(TaskFailedError) as caught:
        run_task(Refused())
    assert isinstance(caught.value.__cause__, StorageAccessError)

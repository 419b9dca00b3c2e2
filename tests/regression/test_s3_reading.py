"""What is read from S3: one whole version while others replace it; what others have put there, however odd."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from superluigi.errors import BucketMissingError, SuperLuigiError, TargetMissingError, TransferError
from superluigi.parameters import Param
from superluigi.storage import local_names
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import LocalFileTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server

ENGINES = pytest.mark.parametrize("engine", ["", "boto3"])
KINDS = pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])


def fill(path: Path, is_folder: bool, version: int, count: int = 6) -> None:
    if not is_folder:
        path.write_text(f"{version}" * 3000)
    for number in range(count) if is_folder else ():
        (path / f"v{version}-{number}").write_text(f"{version}" * 500)


def seen_in(path: Path) -> set[str]:
    """The versions that a copy has anything of."""
    files = [path] if path.is_file() else list(path.iterdir())
    return {file.read_text()[0] for file in files}


class Meanwhile:
    """Does something as soon as the first bytes arrive, `times` times: each time in the middle of a read."""

    def __init__(self, act: Callable[[int], None], times: int = 1) -> None:
        self.act, self.left, self.done = act, times, 0
        self.lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self.lock:
            if self.left:
                self.left -= 1
                self.done += 1
                self.act(self.done)


@contextlib.contextmanager
def in_ranges(limit: int = 100, part: int = 400) -> Iterator[None]:
    """Objects count as large inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "SINGLE_LIMIT", limit)
        patch.setattr(transfer, "PART", part)
        yield


@ENGINES
@KINDS
@pytest.mark.parametrize("small", [True, False])
def test_a_reader_gets_one_whole_version_while_it_is_replaced(
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: Any,
    engine: str,
    small: bool,
) -> None:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    writer = kind(s3_bucket, "k", local_root=tmp_path / "writer", **s3_server.client_options)

    def replace(version: int) -> None:
        with in_ranges(16 << 20, 16 << 20), writer.tmp_write_path() as path:
            fill(path, writer.is_folder, version)

    replace(0)
    meanwhile = Meanwhile(replace, times=4)
    reader = kind(s3_bucket, "k", progress=meanwhile, **s3_server.client_options)
    with contextlib.nullcontext() if small else in_ranges(), reader.tmp_read_path() as path:
        assert len(seen_in(path)) == 1 and meanwhile.done >= 1
        assert not reader.is_folder or len(list(path.iterdir())) == 6


@ENGINES
@KINDS
def test_what_goes_while_it_is_read_is_missing(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, kind: Any, engine: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    target = kind(s3_bucket, "k", **s3_server.client_options)
    with target.tmp_write_path() as path:
        fill(path, target.is_folder, 0, count=40)  # more than come at once
    target.location.cache.clear()
    reader = kind(s3_bucket, "k", progress=Meanwhile(lambda _: target.remove()), **s3_server.client_options)
    with in_ranges(), pytest.raises(TargetMissingError), reader.tmp_read_path():
        pass


@ENGINES
@pytest.mark.parametrize("changed", [False, True])
def test_a_member_that_others_took_or_changed_is_an_error_with_advice(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, engine: str, changed: bool
) -> None:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    target = S3PrefixTarget(s3_bucket, "p", **s3_server.client_options)
    with target.tmp_write_path() as path:
        fill(path, True, 0)
    target.location.cache.clear()
    if changed:
        s3_server.client().put_object(Bucket=s3_bucket, Key="p/v0-1", Body=b"1" * 500)
    else:
        s3_server.client().delete_object(Bucket=s3_bucket, Key="p/v0-1")
    with pytest.raises(TransferError if changed else TargetMissingError, match="make the output again"):
        target.download()


# ---------------------------------------------------------------- what others have put there


class Theirs(ExternalTask):
    bucket: Param[str]
    prefix: Param[str]
    endpoint: Param[str]
    is_object: Param[bool] = False

    def output(self) -> Any:
        kind = S3ObjectTarget if self.is_object else S3PrefixTarget
        return kind(self.bucket, self.prefix, endpoint_url=self.endpoint, region_name="us-east-1")


class Read(AtomicTaskWithMetadata):
    theirs: Param[Theirs]
    place: Param[str]

    def requires(self) -> Theirs:
        return self.theirs

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(self.place)

    def run(self, input_path: Path, output_path: Path) -> None:
        files = [input_path] if input_path.is_file() else [f for f in input_path.rglob("*") if f.is_file()]
        output_path.write_text("\n".join(sorted(file.read_text() for file in files)))


def read(theirs: Theirs, tmp_path: Path) -> list[str]:
    task = Read(theirs=theirs, place=str(tmp_path / f"{len(list(tmp_path.iterdir()))}"))
    run_task(task, raise_exception=True)
    record = task.output().read_metadata()
    assert record is not None and record["input"]["path"].startswith("s3://")
    return Path(task.place).read_text().splitlines()


@pytest.mark.parametrize("marks", [["inbox/"], ["inbox/", "inbox/sub/"], [f"inbox/{n:02}/" for n in range(30)]])
def test_marks_of_folders_alone_are_no_data(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, marks: list[str]
) -> None:
    client, theirs = s3_server.client(), Theirs(s3_bucket, "inbox", s3_server.endpoint_url)
    for key in marks:
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"")
    assert not theirs.complete()
    client.put_object(Bucket=s3_bucket, Key="inbox/sub/zz", Body=b"1")
    assert theirs.complete() and read(theirs, tmp_path) == ["1"]


COLLIDING = [
    ["a", "a/b"],
    ["a", "a/", "a/b", "a/b/c"],
    ["a//b", "a/b", "/a", "//a", "a/", "a"],
    [".", "..", "./a", "../a", "a/./b", "a/../b", "a"],
    ["A.txt", "a.txt", "é", "e\u0301"],
    ["%~keya", "a", "a/b", "%~is%~keya", "%~empty", "%~dot"],
    ["n" * 300, "n" * 301, "n" * 300 + "/n", "/" * 700 + "x", "x/" * 400 + "f"],
    [".superluigi/x", ".superluigi-a/y", "C:\\x", "~/x", "tab\t", "\u202egnp"],
]


@pytest.mark.parametrize("keys", COLLIDING, ids=lambda keys: repr(keys)[:40])
@pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="other servers refuse some of these")
def test_keys_that_would_be_one_path_are_all_kept(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, keys: list[str]
) -> None:
    client = s3_server.client()
    kept = [key for key in keys if not key.startswith(".superluigi-")]
    for number, key in enumerate(keys):
        client.put_object(Bucket=s3_bucket, Key=f"p/{key}", Body=f"{number}".encode())
    expected = sorted(str(number) for number, key in enumerate(keys) if key in kept)
    assert read(Theirs(s3_bucket, "p", s3_server.endpoint_url), tmp_path) == expected
    root = Path(os.environ["SUPERLUIGI_LOCAL_DATA_DIR"])
    outside = [path for path in root.parent.iterdir() if path.name not in (root.name, "workspace", "queues")]
    assert outside == []
    for number, key in enumerate(kept):
        if key.endswith("/"):
            continue
        whole = S3ObjectTarget(s3_bucket, f"p/{key}", **s3_server.client_options)
        assert whole.download().read_text() == str(keys.index(key)), (number, key)


def test_names_that_a_disk_takes_for_one_are_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("1")
    local_names.check_apart(str(tmp_path), ["a.txt", "b.txt"])
    os.link(tmp_path / "a.txt", tmp_path / "A.txt")  # as it is where the two are one
    with pytest.raises(TransferError, match=r"A\.txt.*a\.txt|a\.txt.*A\.txt"):
        local_names.check_apart(str(tmp_path), ["a.txt", "A.txt", "b.txt"])


@pytest.mark.parametrize("change", ["another", "gone", "more", "no record of ours", "no json", "odd contents"])
def test_data_of_others_is_taken_as_it_is_whatever_lies_where_its_record_would_be(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, change: str
) -> None:
    client = s3_server.client()
    with S3PrefixTarget(s3_bucket, "p", **s3_server.client_options).tmp_write_path() as path:
        (path / "x").write_text("1")
        (path / "y").write_text("2")
    theirs = Theirs(s3_bucket, "p", s3_server.endpoint_url)
    expected = ["1", "2"]
    assert theirs.output().read_metadata() is not None and read(theirs, tmp_path) == expected
    if change == "another":
        client.put_object(Bucket=s3_bucket, Key="p/x", Body=b"0")
        expected = ["0", "2"]
    elif change == "gone":
        client.delete_object(Bucket=s3_bucket, Key="p/x")
        expected = ["2"]
    elif change == "more":
        client.put_object(Bucket=s3_bucket, Key="p/z", Body=b"3")
        expected = ["1", "2", "3"]
    else:
        text = {"no json": b"<xml/>", "no record of ours": b'{"owner": "them"}'}.get(
            change, b'{"output": {"contents": [1]}}'
        )
        client.put_object(Bucket=s3_bucket, Key="p.metadata.json", Body=text)
    target = Theirs(s3_bucket, "p", s3_server.endpoint_url).output()
    target.location.external = True
    assert theirs.complete() and target.read_metadata() is None
    assert read(theirs, tmp_path) == expected


# ---------------------------------------------------------------- rights


@pytest.fixture
def without_listing(s3_server: S3Server, s3_bucket: str) -> Iterator[tuple[FaultProxy, str]]:
    """A server whose bucket may be read and not listed: there, what is missing is refused too."""
    parts = urlsplit(s3_server.endpoint_url)
    s3_server.client().put_object(Bucket=s3_bucket, Key="data/there", Body=b"1")
    with FaultProxy(parts.hostname or "", parts.port or 80) as proxy:
        proxy.add(Fault.STATUS, method="GET", query="list-type", status=403, code="AccessDenied", times=None)
        proxy.add(
            Fault.STATUS, path="(metadata.json|missing|claim|pending)", status=403, code="AccessDenied", times=None
        )
        yield proxy, s3_bucket


def test_data_that_may_be_read_and_not_listed_is_an_input(
    without_listing: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    proxy, bucket = without_listing
    there = Theirs(bucket, "data/there", proxy.url, is_object=True)
    assert there.complete() and read(there, tmp_path) == ["1"]


def test_many_that_may_be_read_and_not_listed_are_looked_at_one_by_one(
    without_listing: tuple[FaultProxy, str], s3_server: S3Server
) -> None:
    from superluigi.storage.objects.exists_many import exists_many

    proxy, bucket = without_listing
    for number in range(12):
        s3_server.client().put_object(Bucket=bucket, Key=f"many/{number}", Body=b"1")
    options = {**s3_server.client_options, "endpoint_url": proxy.url}
    assert exists_many([S3ObjectTarget(bucket, f"many/{n}", **options).location for n in range(12)]) == [True] * 12


def test_a_refusal_names_the_right_that_is_missing(
    without_listing: tuple[FaultProxy, str], s3_server: S3Server
) -> None:
    proxy, bucket = without_listing
    with pytest.raises(PermissionError, match="s3:ListBucket"):
        Theirs(bucket, "data", proxy.url).complete()
    with pytest.raises(PermissionError, match=r"s3:GetObject; without s3:ListBucket a missing key"):
        Theirs(bucket, "data/missing", proxy.url, is_object=True).complete()
    for method, right in (("PUT", "s3:PutObject"), ("DELETE", "s3:DeleteObject")):
        proxy.clear()
        s3_server.client().put_object(Bucket=bucket, Key="new", Body=b"1")
        target = S3ObjectTarget(bucket, "new", endpoint_url=proxy.url, region_name="us-east-1")
        rule = proxy.add(Fault.STATUS, method=method, status=403, code="AccessDenied", times=None)
        with pytest.raises(PermissionError, match=right):
            target.open("w").close() if method == "PUT" else target.remove()
        proxy.rules.remove(rule)


def test_every_error_of_a_bucket_that_is_not_there_is_ours(s3_server: S3Server) -> None:
    target = S3ObjectTarget("superluigi-no-such-bucket", "k", **s3_server.client_options)
    for work in (target.exists, target.download, target.read_metadata):
        with pytest.raises((BucketMissingError, TargetMissingError)) as caught:
            work()
        assert isinstance(caught.value, SuperLuigiError)

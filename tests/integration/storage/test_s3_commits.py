"""S3 objects and prefixes, looked at from outside: requests counted, keys listed, writers racing."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from superluigi.errors import BucketMissingError, CommitConflictError, OptionError, TargetError, TargetKindError
from superluigi.storage.base import Record
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing.fault_proxy import Fault
from superluigi.testing.s3_server import S3Server


def write(target: AtomicTarget, content: bytes | dict[str, bytes], record: Record | None = None) -> Record | None:
    with target.stage() as staged:
        if isinstance(content, bytes):
            staged.path.write_bytes(content)
        else:
            for name, data in content.items():
                (staged.path / name).parent.mkdir(parents=True, exist_ok=True)
                (staged.path / name).write_bytes(data)
        return staged.commit({"run": {"id": "r"}} if record is None else record)


def read(target: AtomicTarget) -> bytes | dict[str, bytes]:
    with target.tmp_read_path() as path:
        if path.is_file():
            return path.read_bytes()
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def keys(server: S3Server, bucket: str) -> list[str]:
    return sorted(item["Key"] for item in server.client().list_objects_v2(Bucket=bucket).get("Contents", []))


@pytest.fixture
def thing(s3_server: S3Server, s3_bucket: str) -> S3ObjectTarget:
    return S3ObjectTarget(s3_bucket, "a/thing.txt", **s3_server.client_options)


@pytest.fixture
def folder(s3_server: S3Server, s3_bucket: str) -> S3PrefixTarget:
    return S3PrefixTarget(s3_bucket, "a/folder", **s3_server.client_options)


# ---------------------------------------------------------------- budgets


def test_a_cold_object_costs_one_look_and_two_puts_and_a_warm_one_a_look(s3_server, thing) -> None:
    with s3_server.counted() as cold:
        assert not thing.exists()
        write(thing, b"1")
    with s3_server.counted() as warm:
        assert thing.exists()
    assert Counter(request.method for request in cold)["PUT"] == 2 and len(cold) == 3
    assert [request.method for request in warm] == ["HEAD"]


def test_overwriting_an_object_costs_five_requests_and_a_check_before_it_its_own(s3_server, thing) -> None:
    write(thing, b"1")
    with s3_server.counted() as overwriting:
        write(thing, b"2")
    with s3_server.counted() as checked_before:  # another process may have replaced it since
        assert thing.exists()
        write(thing, b"3")
    assert len(overwriting) <= 5 and len(checked_before) <= 6


def test_a_cold_prefix_costs_one_look_a_put_per_object_and_the_record(s3_server, folder) -> None:
    with s3_server.counted() as cold:
        assert not folder.exists()
        write(folder, {"one": b"1"})
    with s3_server.counted() as warm:
        assert folder.exists()
    assert len(cold) == 3 and len(warm) == 1


def test_constructors_and_names_ask_nothing(s3_server, s3_bucket) -> None:
    with s3_server.counted() as seen:
        target = S3ObjectTarget(s3_bucket, "x", **s3_server.client_options)
        assert target.path == f"s3://{s3_bucket}/x" and target.local_path.name == "x"
    assert seen == []


# ---------------------------------------------------------------- prefixes


def test_unchanged_objects_are_not_sent_again_and_those_gone_are_removed(s3_server, s3_bucket, folder) -> None:
    write(folder, {"same": b"1", "sub/changed": b"2", "gone": b"3"})
    with s3_server.counted() as seen:
        write(folder, {"same": b"1", "sub/changed": b"22", "new": b"4"})
    sent = {request.path.removeprefix(f"/{s3_bucket}/a/folder/") for request in seen if request.method == "PUT"}
    assert "same" not in sent and {"new", "sub/changed"} <= sent
    assert read(folder) == {"same": b"1", "sub/changed": b"22", "new": b"4"}
    assert keys(s3_server, s3_bucket) == [
        "a/folder.metadata.json",
        "a/folder/new",
        "a/folder/same",
        "a/folder/sub/changed",
    ]


def test_a_long_record_is_cut_and_a_manifest_names_everything(s3_server, s3_bucket, folder) -> None:
    files = {f"{number:03}": b"%d" % number for number in range(30)}
    record = write(folder, files)
    assert record is not None
    output = record["output"]
    assert len(output["contents"]) == 10 and output["count"] == 30
    assert output["contents"][0] == {
        "key": "a/folder/000", "size": 1, "digest": output["contents"][0]["digest"],
        "etag": s3_server.client().head_object(Bucket=s3_bucket, Key="a/folder/000")["ETag"].strip('"'),
    }  # fmt: skip
    assert read(folder) == files and folder.read_metadata() == record
    write(folder, {"one": b"1"})
    assert keys(s3_server, s3_bucket) == ["a/folder.metadata.json", "a/folder/one"]


def test_keys_without_a_record_are_no_output_and_are_replaced(s3_server, s3_bucket, folder) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/folder/stray", Body=b"1")
    assert not folder.exists() and folder.read_metadata() is None
    write(folder, {"one": b"1"})
    assert folder.exists() and "a/folder/stray" not in keys(s3_server, s3_bucket)


def test_an_external_prefix_is_whatever_is_there(s3_server, s3_bucket, folder) -> None:
    folder.location.external = True
    assert not folder.exists()
    for name in ("x", "sub/y"):
        s3_server.client().put_object(Bucket=s3_bucket, Key=f"a/folder/{name}", Body=name.encode())
    assert folder.exists() and read(folder) == {"x": b"x", "sub/y": b"sub/y"}
    described = folder.location.describe()
    assert described["count"] == 2 and described["size"] == 6
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/folder/x", Body=b"z")
    assert read(folder) == {"x": b"z", "sub/y": b"sub/y"}
    assert folder.location.describe()["digest"] != described["digest"]


def test_a_reader_never_gets_what_the_record_does_not_name(s3_server, s3_bucket, folder) -> None:
    write(folder, {"one": b"1"})
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/folder/extra", Body=b"x")
    assert read(folder) == {"one": b"1"}
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/folder/one", Body=b"2")
    assert folder.read_metadata() is None
    with pytest.raises(TargetError, match="It was changed outside"), folder.tmp_read_path():
        folder.download(force_local_download=True)


def test_a_reader_of_a_prefix_sees_one_whole_version_while_a_writer_replaces_it(folder) -> None:
    write(folder, {f"f{number}": b"0" for number in range(3)})
    stop, wrong = threading.Event(), list[object]()

    def watch() -> None:
        while not stop.is_set():
            if folder.exists():
                try:
                    files = read(folder)
                except TargetError as error:  # absent in between is allowed (P1)
                    if "does not exist" not in str(error):
                        wrong.append(error)
                    continue
                if len(set(files.values())) != 1 or len(files) != 3:
                    wrong.append(files)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for version in range(1, 12):
        write(folder, {f"f{number}": b"%d" % version for number in range(3)})
    stop.set()
    watcher.join()
    assert wrong == []


# ---------------------------------------------------------------- kinds and mistakes


def test_an_object_where_a_prefix_was_made_and_the_reverse_name_the_class_to_use(s3_server, s3_bucket) -> None:
    options = s3_server.client_options
    write(S3PrefixTarget(s3_bucket, "p", **options), {"x": b"1"})
    write(S3ObjectTarget(s3_bucket, "o", **options), b"1")
    with pytest.raises(TargetKindError, match="S3PrefixTarget"):
        write(S3ObjectTarget(s3_bucket, "p", **options), b"1")
    with pytest.raises(TargetKindError, match="S3ObjectTarget"):
        write(S3PrefixTarget(s3_bucket, "o", **options), {"x": b"1"})
    with (
        pytest.raises(TargetKindError, match="S3PrefixTarget"),
        S3ObjectTarget(s3_bucket, "p", **options).tmp_read_path(),
    ):
        pass
    with (
        pytest.raises(TargetKindError, match="S3ObjectTarget"),
        S3PrefixTarget(s3_bucket, "o", **options).tmp_read_path(),
    ):
        pass
    external = S3ObjectTarget(s3_bucket, "p", **options)
    external.location.external = True
    with pytest.raises(TargetKindError, match="S3PrefixTarget"):
        external.exists()


@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
def test_a_missing_bucket_is_an_error_and_not_an_absent_output(s3_server, kind) -> None:
    target = kind("superluigi-no-such-bucket", "x", **s3_server.client_options)
    with pytest.raises(BucketMissingError, match="no-such-bucket"):
        target.exists()
    with pytest.raises(BucketMissingError):
        write(target, b"1" if kind is S3ObjectTarget else {"x": b"1"})


def test_unknown_options_and_impossible_places_are_refused_at_once() -> None:
    with pytest.raises(OptionError, match="endpoint"):
        S3ObjectTarget("b", "k", endpoint="http://x")
    with pytest.raises(OptionError):
        S3ObjectTarget("b", "k", metadata_object_key="k")
    with pytest.raises(OptionError):
        S3PrefixTarget("b", "p", metadata_inside_prefix=True, metadata_object_key="x")
    with pytest.raises(OptionError):
        S3ObjectTarget("s3://b/k", "k")
    for kind in (S3ObjectTarget, S3PrefixTarget):
        for key in ("k\udcff", "k\0"):  # no record may name the second one
            with pytest.raises(OptionError, match="UTF-8 without NUL"):
                kind("b", key)
    with pytest.raises(TargetKindError, match="S3PrefixTarget"):
        S3ObjectTarget("b", "k/").stage()


# ---------------------------------------------------------------- writers against each other


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("kind", ["thing", "folder"])
def test_of_many_commits_at_once_exactly_one_wins_with_its_own_record(
    request, s3_server, s3_bucket, kind, there_before
) -> None:
    target = request.getfixturevalue(kind)

    def content(text: bytes) -> bytes | dict[str, bytes]:
        return text if kind == "thing" else {"same": text, f"own-{text.decode()}": text}

    if there_before:
        write(target, content(b"before"))
    outcome, together = dict[int, object](), threading.Barrier(6)

    def commit(number: int) -> None:
        text = b"%d" % number
        try:
            with target.stage() as staged:
                data = content(text)
                if isinstance(data, bytes):
                    staged.path.write_bytes(data)
                else:
                    for name, part in data.items():
                        (staged.path / name).write_bytes(part)
                together.wait()
                staged.commit({"run": {"id": str(number)}})
            outcome[number] = "won"
        except CommitConflictError as error:
            outcome[number] = error

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [number for number, what in outcome.items() if what == "won"]
    assert len(won) == 1, outcome
    assert read(target) == content(b"%d" % won[0])
    record = target.read_metadata()
    assert record is not None and record["run"]["id"] == str(won[0])
    assert "superluigi_pending" not in record
    left = [key for key in keys(s3_server, s3_bucket) if ".superluigi" in key or ".pending" in key]
    assert left == []


def test_the_record_of_a_stranger_s_data_is_nobody_s(s3_server, s3_bucket, thing) -> None:
    write(thing, b"1")
    there = s3_server.client().head_object(Bucket=s3_bucket, Key="a/thing.txt")
    s3_server.client().put_object(Bucket=s3_bucket, Key="a/thing.txt", Body=b"2", Metadata=there["Metadata"])
    assert thing.exists() and thing.read_metadata() is None
    thing.write_metadata({"mine": 1})
    assert thing.read_metadata()["mine"] == 1


# ---------------------------------------------------------------- the wire


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("path", [r"thing\.txt$", r"metadata\.json$"])
def test_a_lost_reply_is_no_conflict(s3_server, s3_bucket, proxy, path, there_before) -> None:
    """boto3 sends the request again, and S3 answers 412 although our own write won."""
    target = S3ObjectTarget(s3_bucket, "a/thing.txt", **{**s3_server.client_options, "endpoint_url": proxy.url})
    if there_before:
        write(target, b"before")
    rule = proxy.add(Fault.LOST_REPLY, method="PUT", path=path)
    write(target, b"1")
    assert rule.hits == 1
    assert read(target) == b"1" and target.read_metadata() is not None
    assert keys(s3_server, s3_bucket) == ["a/thing.txt", "a/thing.txt.metadata.json"]


def test_a_lost_reply_in_a_prefix_is_no_conflict(s3_server, s3_bucket, proxy) -> None:
    target = S3PrefixTarget(s3_bucket, "f", **{**s3_server.client_options, "endpoint_url": proxy.url})
    for version in (b"1", b"2"):
        for path in ("f/x$", "f/y$", r"json$", r"pending$"):
            proxy.add(Fault.LOST_REPLY, method="PUT", path=path)
        write(target, {"x": version, "y": b"same"})
        assert read(target) == {"x": version, "y": b"same"}
    assert keys(s3_server, s3_bucket) == ["f.metadata.json", "f/x", "f/y"]


@pytest.mark.parametrize("fault", [Fault.STATUS, Fault.REFUSE, Fault.CUT_REQUEST])
@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
def test_a_store_that_fails_for_long_leaves_the_old_output(
    s3_server, s3_bucket, proxy, kind, fault, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    options = {**s3_server.client_options, "endpoint_url": proxy.url}
    target = kind(s3_bucket, "out", **options)
    old, new = (b"old", b"new") if kind is S3ObjectTarget else ({"x": b"old"}, {"x": b"new", "y": b"2"})
    write(target, old)
    rule = proxy.add(fault, method="PUT", path=r"out(/.*x)?$", times=None)
    with pytest.raises(TargetError):
        write(target, new)
    proxy.rules.remove(rule)
    assert read(target) == old and target.read_metadata() is not None
    assert not [key for key in keys(s3_server, s3_bucket) if ".superluigi" in key or ".pending" in key]
    write(target, new)
    assert read(target) == new


def test_slow_down_is_waited_for(s3_server, s3_bucket, proxy) -> None:
    target = S3PrefixTarget(s3_bucket, "f", **{**s3_server.client_options, "endpoint_url": proxy.url})
    proxy.add(Fault.STATUS, times=2)
    proxy.add(Fault.STATUS, method="PUT", times=2, skip=1, status=500, code="InternalError")
    write(target, {f"{number}": b"%d" % number for number in range(5)})
    proxy.add(Fault.CUT_REPLY, method="GET", path="f/2$", after=0)
    proxy.add(Fault.CORRUPT_REPLY, method="GET", path="f/3$")
    target.location.cache.clear()
    assert read(target) == {f"{number}": b"%d" % number for number in range(5)}


# ---------------------------------------------------------------- large objects, in parts


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(transfer, "PART", 5 << 20)
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 5 << 20)
    return 12 << 20


def test_a_large_object_goes_up_and_down_in_parts(s3_server, s3_bucket, thing, small_parts) -> None:
    data = os.urandom(small_parts)
    with s3_server.counted() as seen:
        record = write(thing, data)
    assert sum("partNumber" in request.query and request.path.endswith("a/thing.txt") for request in seen) == 3
    there = s3_server.client().head_object(Bucket=s3_bucket, Key="a/thing.txt")
    assert record is not None and record["output"]["etag"] == there["ETag"].strip('"') and "-3" in there["ETag"]
    thing.location.cache.clear()
    with s3_server.counted() as seen:
        assert read(thing) == data
    assert sum(request.method == "GET" for request in seen) == 3
    assert thing.read_metadata() == record


def test_broken_parts_are_sent_again_and_a_hopeless_upload_leaves_no_parts(
    s3_server, s3_bucket, proxy, small_parts, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    target = S3ObjectTarget(s3_bucket, "big", **{**s3_server.client_options, "endpoint_url": proxy.url})
    data = os.urandom(small_parts)
    proxy.add(Fault.CUT_REQUEST, method="PUT", query="partNumber=2", after=1 << 20)
    proxy.add(Fault.LOST_REPLY, method="POST", query="uploadId")  # completed, but did it happen?
    write(target, data)
    assert read(target) == data
    proxy.add(Fault.STATUS, method="PUT", query="partNumber=3", times=None)
    with pytest.raises(TargetError):
        write(target, data[::-1])
    assert s3_server.client().list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []
    assert read(target) == data and keys(s3_server, s3_bucket) == ["big", "big.metadata.json"]


def test_bits_that_flip_on_the_way_are_noticed(s3_server, s3_bucket, proxy, small_parts) -> None:
    target = S3ObjectTarget(s3_bucket, "big", **{**s3_server.client_options, "endpoint_url": proxy.url})
    data = os.urandom(small_parts)
    # each time: some releases of botocore send a refused part again
    proxy.add(Fault.CORRUPT_REQUEST, method="PUT", query="partNumber=2", after=1000, times=None)
    with pytest.raises(TargetError):
        write(target, data)
    proxy.clear()
    write(target, data)
    target.location.cache.clear()
    rule = proxy.add(Fault.CORRUPT_REPLY, method="GET", path="big$", skip=1, after=1000)
    assert read(target) == data and rule.hits == 1


# ---------------------------------------------------------------- what users meet


@pytest.mark.parametrize("key", ["a b+c%20d/é ü.txt", "a//b.txt", "/leading.txt", "x/../y.txt", "a%~empty", "k" * 900])
def test_odd_keys_are_keys(s3_server, s3_bucket, key) -> None:
    target = S3ObjectTarget(s3_bucket, key, **s3_server.client_options)
    write(target, b"1")
    write(target, b"2")
    assert key in keys(s3_server, s3_bucket)
    assert read(target) == b"2" and target.download().read_bytes() == b"2"
    assert target.location.local_root in target.local_path.parents


def test_a_key_may_be_an_object_and_a_prefix(s3_server, s3_bucket) -> None:
    options = s3_server.client_options
    one, two = S3ObjectTarget(s3_bucket, "a", **options), S3ObjectTarget(s3_bucket, "a/b", **options)
    three = S3PrefixTarget(s3_bucket, "a", metadata_object_key="records/a.json", **options)
    write(one, b"1")
    write(three, {"c": b"3"})
    write(two, b"2")
    for _ in range(2):
        assert (read(one), read(two), read(three)) == (b"1", b"2", {"c": b"3"})
        assert one.download().read_bytes() == b"1" and two.download().read_bytes() == b"2"
        assert sorted(file.name for file in three.download().iterdir()) == ["c"]


def test_records_may_be_elsewhere(s3_server, s3_bucket) -> None:
    other = s3_server.create_bucket()
    options = s3_server.client_options
    thing = S3ObjectTarget(s3_bucket, "a", other, "records/a.json", **options)
    folder = S3PrefixTarget(s3_bucket, "f", other, "records/f.json", **options)
    inside = S3PrefixTarget(s3_bucket, "i", metadata_inside_prefix=True, **options)
    write(thing, b"1")
    for version in (b"1", b"2"):
        for target in (folder, inside):
            write(target, {"x": version, "y": b"1"})
            assert target.exists() and read(target) == {"x": version, "y": b"1"} and target.read_metadata()
    assert keys(s3_server, other) == ["records/a.json", "records/f.json"]
    assert keys(s3_server, s3_bucket) == ["a", "f/x", "f/y", "i/.metadata.json", "i/x", "i/y"]
    assert thing.metadata_path == f"s3://{other}/records/a.json"


def test_versions_are_recorded(s3_server) -> None:
    bucket = s3_server.create_bucket(versioned=True)
    target = S3ObjectTarget(bucket, "v", **s3_server.client_options)
    first, second = write(target, b"1"), write(target, b"1")
    there = s3_server.client().head_object(Bucket=bucket, Key="v")
    assert first and second and first["output"]["version"] != second["output"]["version"] == there["VersionId"]
    assert target.read_metadata() == second
    old = S3ObjectTarget(bucket, "v", get_options={"VersionId": first["output"]["version"]}, **s3_server.client_options)
    assert read(old) == b"1"


def skip_where_refused(client, bucket: str, options) -> None:
    """An external server may refuse encryption, classes or rights to anybody."""
    try:
        client.put_object(Bucket=bucket, Key="plain", Body=b"", **options)
    except client.exceptions.ClientError as error:
        pytest.skip(f"this server refuses such options from anybody: {error}")


def test_put_options_reach_data_and_what_fits_the_record(s3_server, s3_bucket) -> None:
    options = {
        "ServerSideEncryption": "AES256", "StorageClass": "STANDARD_IA", "Tagging": "team=a", "ContentType": "text/x-y",
        "Metadata": {"colour": "red"},
    }  # fmt: skip
    client = s3_server.client()
    skip_where_refused(client, s3_bucket, options)
    thing = S3ObjectTarget(s3_bucket, "a", put_options=options, **s3_server.client_options)
    folder = S3PrefixTarget(s3_bucket, "f", put_options=options, **s3_server.client_options)
    for version in (b"1", b"2"):
        write(thing, version)
        write(folder, {"x": version})
        for key in ("a", "f/x"):
            there = client.head_object(Bucket=s3_bucket, Key=key)
            assert there["StorageClass"] == "STANDARD_IA" and there["ServerSideEncryption"] == "AES256"
            assert there["ContentType"] == "text/x-y" and there["Metadata"]["colour"] == "red"
            assert client.get_object_tagging(Bucket=s3_bucket, Key=key)["TagSet"] == [{"Key": "team", "Value": "a"}]
            assert (
                client.head_object(Bucket=s3_bucket, Key=f"{key[0]}.metadata.json")["ServerSideEncryption"] == "AES256"
            )
        assert read(thing) == version and thing.read_metadata() and read(folder) == {"x": version}


def test_a_key_of_kms_and_an_acl_reach_the_data(s3_server, s3_bucket) -> None:
    options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/pipelines", "ACL": "public-read"}
    client = s3_server.client()
    skip_where_refused(client, s3_bucket, options)
    thing = S3ObjectTarget(s3_bucket, "a", put_options=options, **s3_server.client_options)
    for version in (b"small", b"0123456789abcdef" * (2 << 20)):  # the second goes up in parts
        write(thing, version)
        there = client.head_object(Bucket=s3_bucket, Key="a")
        assert (there["ServerSideEncryption"], there["SSEKMSKeyId"]) == ("aws:kms", "alias/pipelines")
        grants = client.get_object_acl(Bucket=s3_bucket, Key="a")["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("AllUsers") for grant in grants)
        assert read(thing) == version and thing.read_metadata()


def test_who_pays_for_requests_is_named_in_every_one_that_reads(s3_server, s3_bucket, local_root) -> None:
    write(S3ObjectTarget(s3_bucket, "a", **s3_server.client_options), b"1")
    write(S3PrefixTarget(s3_bucket, "f", **s3_server.client_options), {"x": b"1", "y": b"2"})
    options = {**s3_server.client_options, "get_options": {"RequestPayer": "requester"}, "local_root": local_root / "b"}
    with s3_server.counted() as seen:
        thing, folder = S3ObjectTarget(s3_bucket, "a", **options), S3PrefixTarget(s3_bucket, "f", **options)
        assert thing.exists() and folder.exists() and thing.read_metadata() and folder.read_metadata()
        assert read(thing) == b"1" and read(folder) == {"x": b"1", "y": b"2"}
    assert len(seen) > 5
    assert [str(request) for request in seen if request.headers.get("x-amz-request-payer") != "requester"] == []


def test_luigi_s_file_system_interface(s3_server, s3_bucket, thing) -> None:
    with thing.open("w") as stream:
        stream.write("héllo")
    with thing.open("r") as stream:
        assert stream.read() == "héllo"
    with pytest.raises(ZeroDivisionError), thing.open("w") as stream:
        stream.write("half")
        raise ZeroDivisionError
    with thing.temporary_path() as path:
        Path(path).write_text("again")
    fs = thing.fs
    assert fs.exists(thing.path) and fs.exists(f"s3://{s3_bucket}/a") and not fs.exists(f"s3://{s3_bucket}/b")
    fs.copy(thing.path, f"s3://{s3_bucket}/b/copy.txt")
    fs.move(f"s3://{s3_bucket}/b/copy.txt", f"s3://{s3_bucket}/b/moved.txt")
    assert list(fs.listdir(f"s3://{s3_bucket}/b")) == [f"s3://{s3_bucket}/b/moved.txt"]
    assert fs.isdir(f"s3://{s3_bucket}/b")
    fs.remove(f"s3://{s3_bucket}/b")
    thing.remove()
    assert keys(s3_server, s3_bucket) == []


def test_a_multipart_object_copied_to_another_bucket_keeps_its_record(s3_server, s3_bucket) -> None:
    content = os.urandom(24 << 20)
    source = S3ObjectTarget(s3_bucket, "large.bin", **s3_server.client_options)
    with source.stage() as staged:
        staged.path.write_bytes(content)
        staged.commit({"schema": "superluigi.lineage/1", "run": {"id": "r"}, "text": "large"})
    etag = s3_server.client().head_object(Bucket=s3_bucket, Key="large.bin")["ETag"]
    assert "-" in etag, "the source was uploaded in parts"
    other = s3_server.create_bucket()
    source.fs.copy(source.path, f"s3://{other}/deep/copy.bin")
    copy = S3ObjectTarget(other, "deep/copy.bin", **s3_server.client_options)
    with copy.tmp_read_path() as path:
        assert path.read_bytes() == content
    record = copy.read_metadata()
    assert record is not None and record["text"] == "large"


def test_progress_is_reported(s3_server, s3_bucket) -> None:
    moved: list[int] = []
    options = {**s3_server.client_options, "progress": moved.append}
    write(S3ObjectTarget(s3_bucket, "a", **options), b"12345")
    write(S3PrefixTarget(s3_bucket, "f", **options), {"x": b"123", "y": b"1"})
    assert sum(moved) == 9


def test_many_targets_are_asked_about_with_few_requests(s3_server, s3_bucket) -> None:
    from superluigi.storage.objects.exists_many import exists_many

    client, options = s3_server.client(), s3_server.client_options
    for number in range(0, 60, 2):
        client.put_object(Bucket=s3_bucket, Key=f"day/{number:03}.csv", Body=b"1")
    targets = [S3ObjectTarget(s3_bucket, f"day/{number:03}.csv", **options) for number in range(60)]
    targets += [S3ObjectTarget(s3_bucket, "elsewhere", **options), targets[0]]
    with s3_server.counted() as seen:
        found = exists_many([target.location for target in targets])
    assert found == [target.exists() for target in targets]
    assert len(seen) <= 2


def test_an_upload_that_a_living_process_is_sending_is_never_stale(s3_server, s3_bucket, small_parts) -> None:
    """moto says of every upload that it was begun in 2010."""
    from datetime import timedelta

    from superluigi.storage.objects.cleanup import clean

    def cleaned_meanwhile(_: int) -> None:
        clean(f"s3://{s3_bucket}/f", older_than=timedelta(0), options=s3_server.client_options)

    target = S3ObjectTarget(s3_bucket, "f/big", progress=cleaned_meanwhile, **s3_server.client_options)
    data = os.urandom(small_parts)
    write(target, data)
    assert read(target) == data


def test_a_process_that_dies_long_ago_on_another_host_is_cleaned_by_age(s3_server, s3_bucket, monkeypatch) -> None:
    from datetime import timedelta

    from superluigi.storage.objects.cleanup import clean

    client = s3_server.client()
    stale = "f/.superluigi-elsewhere-1-1-aaaaaaaaaaaa/x"
    client.put_object(Bucket=s3_bucket, Key=stale, Body=b"1")
    client.create_multipart_upload(Bucket=s3_bucket, Key="f/big")
    options = s3_server.client_options
    young = clean(f"s3://{s3_bucket}/f", options=options, dry_run=True)
    assert "unfinished commit" not in {item.what for item in young}
    found = clean(f"s3://{s3_bucket}/f", older_than=timedelta(0), dry_run=True, options=options)
    assert {item.what for item in found} == {"multipart upload", "unfinished commit"}
    assert keys(s3_server, s3_bucket) == [stale]
    time.sleep(1.1)  # S3 counts in whole seconds
    clean(f"s3://{s3_bucket}/f", older_than=timedelta(0), options=options)
    assert keys(s3_server, s3_bucket) == []
    assert client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []

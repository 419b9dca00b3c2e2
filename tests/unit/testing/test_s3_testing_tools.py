"""The embedded S3 server and the fault proxy do what tests rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server

embedded_only = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="about the embedded server")


def test_requests_are_counted_at_the_http_layer(s3_server: S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    with s3_server.counted() as seen:
        client.put_object(Bucket=s3_bucket, Key="a b/ä+c", Body=b"1")
        client.get_object(Bucket=s3_bucket, Key="a b/ä+c")["Body"].read()
    assert [request.method for request in seen] == ["PUT", "GET"]


@embedded_only
def test_of_racing_conditional_writes_exactly_one_wins(s3_server: S3Server, s3_bucket: str) -> None:
    client, outcome, together = s3_server.client(), Counter[str](), threading.Barrier(8)

    def put(number: int) -> None:
        together.wait()
        try:
            client.put_object(Bucket=s3_bucket, Key="race", Body=b"%d" % number, IfNoneMatch="*")
            outcome["won"] += 1
        except ClientError as error:
            outcome[error.response["Error"]["Code"]] += 1

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == {"won": 1, "PreconditionFailed": 7}


@embedded_only
def test_completing_a_multipart_upload_minds_its_conditions(s3_server: S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="big", Body=b"old")

    def complete(**condition: str) -> None:
        upload = client.create_multipart_upload(Bucket=s3_bucket, Key="big")["UploadId"]
        etag = client.upload_part(Bucket=s3_bucket, Key="big", UploadId=upload, PartNumber=1, Body=b"new")["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        client.complete_multipart_upload(
            Bucket=s3_bucket, Key="big", UploadId=upload, MultipartUpload=parts, **condition
        )

    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": "0" * 32}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            complete(**condition)
    complete(IfMatch=client.head_object(Bucket=s3_bucket, Key="big")["ETag"])
    assert client.get_object(Bucket=s3_bucket, Key="big")["Body"].read() == b"new"


@embedded_only
def test_the_server_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "superluigi.testing.s3_server", "--bucket", "made"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            client = boto3.client("s3", endpoint_url=url)
            assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["made"]
            client.close()
        finally:
            process.terminate()


def _client(server: S3Server, proxy: FaultProxy):  # type: ignore[no-untyped-def]
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=1)
    return boto3.session.Session().client("s3", **{**server.client_options, "endpoint_url": proxy.url}, config=config)


def test_a_proxy_without_rules_changes_nothing(s3_server: S3Server, s3_bucket: str, proxy: FaultProxy) -> None:
    client = _client(s3_server, proxy)
    client.put_object(Bucket=s3_bucket, Key="k", Body=b"x" * 200_000)
    assert client.get_object(Bucket=s3_bucket, Key="k")["Body"].read() == b"x" * 200_000
    assert [(entry.method, entry.status) for entry in proxy.log] == [("PUT", 200), ("GET", 200)]


@pytest.mark.parametrize(
    ("fault", "how", "error", "there"),
    [
        (Fault.STATUS, {}, ClientError, False),
        (Fault.REFUSE, {}, ConnectionClosedError, False),
        (Fault.CUT_REQUEST, {"after": 1000}, ConnectionClosedError, False),
        (Fault.LOST_REPLY, {}, ConnectionClosedError, True),
        (Fault.CORRUPT_REQUEST, {"after": 1000}, ClientError, False),
        (Fault.HANG, {"seconds": 1.5}, ReadTimeoutError, True),
    ],
)
def test_faults_of_requests(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, fault: Fault, how, error, there
) -> None:  # type: ignore[no-untyped-def]
    proxy.add(fault, method="PUT", path="/k$", **how)
    with pytest.raises(error):
        _client(s3_server, proxy).put_object(Bucket=s3_bucket, Key="k", Body=b"x" * 200_000)
    assert ("Contents" in s3_server.client().list_objects_v2(Bucket=s3_bucket)) is there


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.CUT_REPLY, ResponseStreamingError), (Fault.SHORT_REPLY, (IncompleteReadError, ResponseStreamingError))],
)
def test_faults_of_answers(s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, fault: Fault, error) -> None:  # type: ignore[no-untyped-def]
    s3_server.client().put_object(Bucket=s3_bucket, Key="k", Body=b"x" * 200_000)
    proxy.add(fault, method="GET", after=70_000)
    client = _client(s3_server, proxy)
    with pytest.raises(error):
        client.get_object(Bucket=s3_bucket, Key="k")["Body"].read()
    assert len(client.get_object(Bucket=s3_bucket, Key="k")["Body"].read()) == 200_000

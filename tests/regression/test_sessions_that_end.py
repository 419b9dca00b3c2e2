"""A session that ends in the middle of a commit is renewed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from superluigi.errors import StorageAccessError, TargetError
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server, open_uploads

pytestmark = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="signs with keys that are none")
KINDS = ["object", "in parts", "prefix", "prefix by boto3"]


class Chain:
    """One way of the AWS chain to have keys, which others renew."""

    def __init__(self, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.way, self.file, self.monkeypatch, self.made = way, folder / "keys", monkeypatch, 0
        self.options: dict[str, Any] = {}
        config, keys = folder / "config", folder / "credentials"
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
        if way in ("file", "program"):
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
                monkeypatch.delenv(name, raising=False)
        if way == "file":
            self.file = keys
        if way == "program":
            config.write_text(f"[default]\ncredential_process = cat {self.file}\n")
        if way == "role":
            self.options = {"role_arn": "arn:aws:iam::123456789012:role/writer"}
        self.renew()

    def renew(self) -> None:
        self.made += 1
        key = f"KEY{self.made}"
        if self.way == "file":
            self.file.write_text(
                f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
            )
        elif self.way == "program":
            self.file.write_text(f'{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "s"}}')
        elif self.way == "environment":
            self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
            self.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


def target_of(kind: str, bucket: str, chain: Chain, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", "boto3" if "boto3" in kind else "")
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 5 << 20)
    monkeypatch.setattr(transfer, "PART", 5 << 20)
    where = {"endpoint_url": proxy.url, "region_name": "us-east-1", **chain.options}
    return (S3PrefixTarget if kind.startswith("prefix") else S3ObjectTarget)(bucket, "k", **where)


def write(kind: str, path: Path, text: str) -> None:
    for name in "abc" if kind.startswith("prefix") else "":
        (path / name).write_text(text)
    if not kind.startswith("prefix"):
        path.write_text(text.ljust((11 << 20) if kind == "in parts" else 3))


def texts_of(target: Any) -> set[str]:
    with target.tmp_read_path() as path:
        files = sorted(path.iterdir()) if target.is_folder else [path]
        return {file.read_text().strip() for file in files}


def key_of(request: Any) -> str:
    return str(request.headers["authorization"].split("Credential=")[1].split("/")[0])


def left_behind(server: S3Server, bucket: str) -> set[str]:
    listed = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"] for item in listed} - {"k", "k/a", "k/b", "k/c", "k.metadata.json"}


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((kind, "program") for kind in KINDS), ("object", "file"), ("object", "environment"), ("prefix", "role")],
)
def test_a_session_that_ends_before_any_request_of_a_commit_is_renewed(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: Any, kind: str, way: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "data"))
    chain = Chain(way, tmp_path, monkeypatch)
    target = target_of(kind, s3_bucket, chain, proxy, monkeypatch)
    for number in range(50):
        proxy.clear()
        with target.stage() as staged:
            write(kind, staged.path, f"{number}")
            old = key_of(proxy.log[-1])
            ended = proxy.add(Fault.STATUS, status=400, code="ExpiredToken", authorization=old, skip=number, times=None)
            chain.renew()
            staged.commit({"run": {"id": f"{number}"}})
        assert (texts_of(target), target.read_metadata()["run"]["id"]) == ({f"{number}"}, f"{number}")
        assert left_behind(s3_server, s3_bucket) == set() and not open_uploads(s3_server.client(), s3_bucket)
        if not ended.hits:
            break
    assert number > 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_cannot_be_renewed_leaves_a_whole_output_and_says_what_to_do(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "data"))
    target = target_of(kind, s3_bucket, Chain("program", tmp_path, monkeypatch), proxy, monkeypatch)

    def make(text: str) -> None:
        with target.stage() as staged:
            write(kind, staged.path, text)
            staged.commit({"run": {"id": text}})

    make(there := "old")
    for number in range(50):
        proxy.clear()
        proxy.add(Fault.STATUS, status=400, code="ExpiredToken", skip=number, times=None)
        try:
            make(f"new {number}")
            break
        except TargetError as error:
            assert "Sign in again" in str(error)
            if "the next commit there finishes it" in str(error):
                there = f"new {number}"
            else:
                assert isinstance(error, StorageAccessError)
        proxy.clear()
        assert (texts_of(target), target.read_metadata()["run"]["id"]) == ({there}, there)
    assert number > 2  # what was owed on the server is for the next process that cleans

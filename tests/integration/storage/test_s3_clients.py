"""How S3 is reached: shared clients, roles, refusals, forks; and processes that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from superluigi.errors import StorageAccessError, TransferError
from superluigi.storage.objects.s3 import client as s3_client
from superluigi.storage.objects.s3.options import S3Options
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server

embedded_only = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="about the embedded server")


def test_one_client_serves_all_targets_with_the_same_options(s3_server: S3Server, s3_bucket: str) -> None:
    options = S3Options.of(s3_server.client_options)
    made = [S3ObjectTarget(s3_bucket, f"{number}", **s3_server.client_options).location.s3 for number in range(3)]
    assert {id(store.client) for store in made} == {id(s3_client.client(options))}
    assert (
        s3_client.client(S3Options.of({**s3_server.client_options, "config": Config(retries={"mode": "standard"})}))
        is not made[0]
    )


def test_secrets_are_not_shown_and_targets_travel_by_pickle(s3_server: S3Server) -> None:
    target = S3ObjectTarget("b", "k", aws_access_key_id="id", aws_secret_access_key="very-secret")
    assert "very-secret" not in repr(target.location.place.options) + repr(target) + str(target)
    assert pickle.loads(pickle.dumps(target)).location.place == target.location.place


@pytest.mark.parametrize("address", ["http://me:very-secret@127.0.0.1:9", "http://me:very-secret@[nowhere"])
def test_a_password_in_an_address_is_shown_nowhere(monkeypatch, caplog, address: str) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    caplog.set_level("INFO")
    target = S3ObjectTarget("bucket", "k", endpoint_url=address, region_name="us-east-1")
    with pytest.raises((TransferError, StorageAccessError)) as caught:
        target.exists()
    shown = "".join(traceback.format_exception(caught.value)) + repr(target.location.place) + caplog.text
    assert "very-secret" not in shown and "***@" in shown


@embedded_only
def test_a_role_is_assumed_late_and_its_credentials_sign_and_refresh(s3_server: S3Server, s3_bucket: str) -> None:
    options = {
        **s3_server.client_options,
        "role_arn": "arn:aws:iam::123456789012:role/reader",
        "role_duration_seconds": 3600,
    }
    with s3_server.counted() as seen:
        target = S3ObjectTarget(s3_bucket, "k", **options)
    assert seen == []
    with s3_server.counted() as seen:
        assert not target.exists()
        with target.tmp_write_path() as path:
            path.write_text("1")
        assert target.exists()
    asked = [request for request in seen if request.method == "POST" and request.path == "/"]
    assert len(asked) == 1
    used = next(request.headers["authorization"] for request in seen if request.method == "PUT")
    assert "Credential=ASIA" in used  # temporary credentials, not those of the caller
    credentials = target.location.s3.client.session.get_credentials()
    assert credentials.refresh_needed() is False and credentials.method == "assume-role"


@embedded_only
def test_a_role_s_credentials_are_renewed_before_they_end_for_both_engines(s3_server: S3Server, s3_bucket: str) -> None:
    # Those of a quarter of an hour are due as soon as they are there: that is when botocore begins to renew.
    role = {"role_arn": "arn:aws:iam::123456789012:role/reader", "role_duration_seconds": 900}
    folder = S3PrefixTarget(s3_bucket, "f", **s3_server.client_options, **role)
    used = []
    for text in ("1", "2"):
        with s3_server.counted() as seen, folder.tmp_write_path() as path:
            for number in range(3):
                (path / f"{number}").write_text(text)
        assert folder.exists() and (folder.download() / "0").read_text() == text
        assert [request for request in seen if request.method == "POST" and request.path == "/"]
        used.append({request.headers["authorization"].split("/")[0] for request in seen if request.method == "PUT"})
    assert all("Credential=ASIA" in key for keys in used for key in keys)
    # While one thread renews them the others go on with those they have: these are good for minutes yet.
    assert used[1] - used[0]


def test_a_refusal_is_an_error_and_never_absence(s3_server: S3Server, s3_bucket: str) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(s3_server.endpoint_url)
    with FaultProxy(parts.hostname or "", parts.port or 80) as proxy:
        options = {**s3_server.client_options, "endpoint_url": proxy.url}
        thing, folder = S3ObjectTarget(s3_bucket, "k", **options), S3PrefixTarget(s3_bucket, "f", **options)
        for status, code in ((403, "AccessDenied"), (403, "InvalidAccessKeyId"), (401, "Unauthorized")):
            rule = proxy.add(Fault.STATUS, status=status, code=code, times=None)
            for ask in (thing.exists, folder.exists, thing.read_metadata, thing.download, folder.download, thing.stage):
                with pytest.raises(StorageAccessError, match=r"refuses"):
                    ask()
            proxy.rules.remove(rule)
        with thing.stage() as staged:
            staged.path.write_text("1")
            proxy.add(Fault.STATUS, method="PUT", status=403, code="AccessDenied", times=None)
            with pytest.raises(PermissionError):
                staged.commit({})
        proxy.clear()
        assert not thing.exists()


def test_no_credentials_at_all_is_an_access_error(s3_server: S3Server, s3_bucket: str, monkeypatch) -> None:
    if ENDPOINT_VARIABLE in os.environ:
        pytest.skip("needs an environment without credentials")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageAccessError, match="credentials"):
        S3ObjectTarget(s3_bucket, "k", endpoint_url=s3_server.endpoint_url).exists()


def test_a_server_that_is_not_there_is_a_transfer_error(monkeypatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransferError, match="endpoint"):
        S3ObjectTarget("bucket", "k", endpoint_url="http://127.0.0.1:9", region_name="us-east-1").exists()


def test_the_environment_s_endpoint_and_profile_are_used(
    s3_server: S3Server, s3_bucket: str, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint_url)
    with S3ObjectTarget(s3_bucket, "k").tmp_write_path() as path:
        path.write_text("1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    lines = [
        "[profile mine]",
        f"endpoint_url = {s3_server.endpoint_url}",
        "region = us-east-1",
        f"aws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}",
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}",
    ]
    (tmp_path / "config").write_text("\n".join(lines))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert S3ObjectTarget(s3_bucket, "k", profile_name="mine").exists()


def _use(bucket: str, options: dict[str, Any]) -> None:
    folder = S3PrefixTarget(bucket, f"f{os.getpid()}", **options)
    with folder.tmp_write_path() as path:
        for number in range(3):
            (path / f"{number}").write_text("1")
    folder.location.cache.clear()
    os._exit(0 if folder.exists() and len(list(folder.download().iterdir())) == 3 else 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork with threads: the very case
def test_clients_survive_a_fork_even_after_the_fast_engine_was_used(s3_server: S3Server, s3_bucket: str) -> None:
    folder = S3PrefixTarget(s3_bucket, "before", **s3_server.client_options)
    with folder.tmp_write_path() as path:
        for number in range(3):
            (path / f"{number}").write_text("1")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_use, args=(s3_bucket, s3_server.client_options)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert folder.exists()


def test_threads_share_a_client(s3_server: S3Server, s3_bucket: str) -> None:
    wrong: list[Exception] = []

    def work(number: int) -> None:
        try:
            target = S3ObjectTarget(s3_bucket, f"t{number}", **s3_server.client_options)
            with target.tmp_write_path() as path:
                path.write_text(str(number))
            with target.tmp_read_path() as path:
                assert path.read_text() == str(number)
        except Exception as error:  # noqa: BLE001  # shown below
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---------------------------------------------------------------- size


def _grow(server: S3Server, bucket: str, count: int) -> None:
    folder = S3PrefixTarget(bucket, "many", **server.client_options)

    def commit(changed: int) -> list[str]:
        with server.counted() as seen, folder.stage() as staged:
            for number in range(count):
                text = f"{number} again" if number < changed else f"{number}"
                (staged.path / f"{number % 10}").mkdir(exist_ok=True)
                (staged.path / f"{number % 10}" / f"{number:05}").write_text(text)
            staged.commit({"run": {"id": str(changed)}})
        return [request.path for request in seen if request.method == "PUT"]

    assert len(commit(0)) <= count + 3
    with server.counted() as seen:
        assert folder.exists()
    assert len(seen) == 1
    record = folder.read_metadata()
    assert record is not None and record["output"]["count"] == count and len(str(record)) < 5000
    # one upload to a staged key and one copy on the server for each changed object, claim, manifest, record
    assert len(commit(count // 100)) <= 2 * (count // 100) + 6
    folder.location.cache.clear()
    path = folder.download()
    assert sum(file.is_file() for file in path.rglob("*")) == count
    assert (path / "0" / "00000").read_text() == "0 again"


def test_of_a_large_prefix_only_what_changed_is_sent_again(s3_server: S3Server, s3_bucket: str) -> None:
    _grow(s3_server, s3_bucket, 400)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_of_a_prefix_of_10_000_objects_only_what_changed_is_sent_again(s3_server: S3Server, s3_bucket: str) -> None:
    _grow(s3_server, s3_bucket, 10_000)

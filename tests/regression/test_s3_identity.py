"""Who we are at S3: whatever is wrong with credentials, profile, region or address is an error that says what to do."""

from __future__ import annotations

import os
import pickle
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config

from superluigi.errors import OptionError, StorageAccessError, SuperLuigiError, TargetError
from superluigi.storage.objects.s3 import s3_errors
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server

pytestmark = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="needs an environment of its own")
SECRET = "very-secret"


def chain(error: BaseException) -> list[BaseException]:
    """An error with all that led to it; never a circle."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None:
        assert not any(one is other for other in found), "an error is its own cause"
        found.append(one)
        one = one.__cause__
    return found


class Setup:
    """An AWS set-up that can be spoiled in one place."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.options: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:9"}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")

    def env(self, **values: str) -> None:
        for name, value in values.items():
            self.patch.setenv(name, value)

    def config(self, text: str) -> None:
        (self.folder / "config").write_text(text)
        self.env(AWS_CONFIG_FILE=str(self.folder / "config"))

    def keys(self) -> None:
        self.env(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY=SECRET)

    def process(self, answer: str) -> None:
        program = self.folder / "program"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.config(f"[default]\ncredential_process = {program}\n")


SPOILT: dict[str, tuple[str, Callable[[Setup], object]]] = {
    "nothing": ("AWS_ACCESS_KEY_ID", lambda s: None),
    "a key alone": ("both AWS_ACCESS_KEY_ID and", lambda s: s.env(AWS_ACCESS_KEY_ID="key")),
    "a secret alone": ("AWS_ACCESS_KEY_ID", lambda s: s.env(AWS_SECRET_ACCESS_KEY=SECRET)),
    "half a file": ("AWS_ACCESS_KEY_ID", lambda s: s.config("[default]\naws_access_key_id = key\n")),
    "half the options": ("AWS_ACCESS_KEY_ID", lambda s: s.options.update(aws_access_key_id="key")),
    "no such profile": ("AWS_PROFILE", lambda s: (s.keys(), s.env(AWS_PROFILE="nobody"))),
    "no such profile_name": ("profile_name", lambda s: (s.keys(), s.options.update(profile_name="nobody"))),
    "sso": (
        "Sign in again",
        lambda s: s.config(
            "[default]\nsso_session = x\nsso_account_id = 1\nsso_role_name = r\n"
            "[sso-session x]\nsso_region = us-east-1\nsso_start_url = https://x\n"
        ),
    ),
    "old sso": (
        "Sign in again",
        lambda s: s.config(
            "[default]\nsso_start_url = https://x\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n"
        ),
    ),
    "a process that fails": ("credential_process", lambda s: s.config("[default]\ncredential_process = /bin/false\n")),
    "no such process": ("/no/such", lambda s: s.config("[default]\ncredential_process = /no/such/program\n")),
    "a process without json": ("Check", lambda s: s.process("hello")),
    "a process of another version": ("credential_process", lambda s: s.process('{"Version": 7}')),
    "a process without keys": ("credential_process", lambda s: s.process('{"Version": 1}')),
    "no web identity": (
        "/no/file",
        lambda s: s.env(AWS_ROLE_ARN="arn:aws:iam::123456789012:role/x", AWS_WEB_IDENTITY_TOKEN_FILE="/no/file"),
    ),
    "a circle of roles": (
        "AWS_CONFIG_FILE",
        lambda s: s.config(
            "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = b\n"
            "[profile b]\nrole_arn = arn:aws:iam::1:role/b\nsource_profile = a\n[default]\n"
            "role_arn = arn:aws:iam::1:role/c\nsource_profile = a\n"
        ),
    ),
    "no such source": (
        "AWS_CONFIG_FILE",
        lambda s: s.config("[default]\nrole_arn = arn:aws:iam::1:role/c\nsource_profile = nobody\n"),
    ),
    "a config that is none": ("AWS_CONFIG_FILE", lambda s: s.config("hello\n[")),
    "an address without scheme": ("http://", lambda s: (s.keys(), s.options.update(endpoint_url="127.0.0.1:9000"))),
    "a host without scheme": ("http://", lambda s: (s.keys(), s.options.update(endpoint_url="minio:9000"))),
    "half an address": ("http://", lambda s: (s.keys(), s.options.update(endpoint_url="http:/minio:9000"))),
    "a port that is none": ("http://", lambda s: (s.keys(), s.options.update(endpoint_url="http://127.0.0.1:port"))),
    "an address in the environment": (
        "AWS_ENDPOINT_URL",
        lambda s: (s.keys(), s.options.clear(), s.env(AWS_ENDPOINT_URL="localhost:9000")),
    ),
    "a region that is none": ("region", lambda s: (s.keys(), s.options.update(region_name="us east 1"))),
    "a region with a slash": (
        "region",
        lambda s: (s.keys(), s.options.clear(), s.env(AWS_DEFAULT_REGION="eu/central")),
    ),
    "a key with a line break": ("line break", lambda s: (s.keys(), s.env(AWS_ACCESS_KEY_ID=f"{SECRET}\n"))),
    "a token with a line break": ("line break", lambda s: (s.keys(), s.env(AWS_SESSION_TOKEN=f"{SECRET}\n"))),
    "a region with a line break": (
        "line break",
        lambda s: (s.keys(), s.options.update(region_name="eu-central-1\n")),
    ),
    "a retry mode that is none": ("Check the options", lambda s: (s.keys(), s.env(AWS_RETRY_MODE="often"))),
    "attempts that are none": ("Check the options", lambda s: (s.keys(), s.env(AWS_MAX_ATTEMPTS="many"))),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_who_we_are_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    setup, (remedy, spoil) = Setup(tmp_path, monkeypatch), SPOILT[name]
    spoil(setup)
    for kind in (S3ObjectTarget, S3PrefixTarget):
        target = kind("bucket", "k", **setup.options)
        for work in (target.exists, target.download, target.read_metadata):
            with pytest.raises(StorageAccessError) as caught:
                work()
            text = str(caught.value)
            assert remedy in text and text.endswith(".") and ".." not in text, text
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert len(chain(caught.value)) >= 2 and str(pickle.loads(pickle.dumps(caught.value))) == text


def test_keys_with_odd_characters_are_refused_in_our_words(s3_server: S3Server, s3_bucket: str) -> None:
    for key, secret in (("a\nb", SECRET), ("é", SECRET), ("key", "\u20ac"), ("key\x00", SECRET)):
        options = {"aws_access_key_id": key, "aws_secret_access_key": secret}
        target = S3ObjectTarget(s3_bucket, "k", **{**s3_server.client_options, **options})
        try:
            target.exists()
        except SuperLuigiError as error:
            assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestExpired", "TokenRefreshRequired"])
def test_a_session_that_has_expired_is_said_also_where_the_answer_has_no_body(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, code: str
) -> None:
    target = S3ObjectTarget(s3_bucket, "k", **{**s3_server.client_options, "endpoint_url": proxy.url})
    with target.tmp_write_path() as path:
        path.write_text("1")
    proxy.add(Fault.STATUS, status=400, code=code, times=None)
    for work in (target.exists, target.download, target.read_metadata, target.remove):
        with pytest.raises(StorageAccessError, match=r"Sign in again.*AWS_SESSION_TOKEN") as caught:
            work()
        chain(caught.value)


@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
@pytest.mark.parametrize(
    ("status", "code", "says", "expected"),
    [
        (403, "QuotaExceeded", "Quota", r"(?s)(?=.*QuotaExceeded)(?!.*rights).*No room is left"),
        (507, "InsufficientStorage", "Full", r"InsufficientStorage.*No room is left"),
        (
            403,
            "AccessDenied",
            "User: arn:aws:iam::1:user/me is not authorized",
            r"\(AccessDenied: User: arn:.*needs s3:P",
        ),
        (403, "AccessDenied", "Access Denied.", r"\(AccessDenied\).*needs s3:PutObject"),
    ],
)
def test_what_the_store_says_of_a_refusal_is_said_and_no_room_is_no_missing_right(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, status: int, code: str, says: str, expected: str, kind: Any
) -> None:
    target = kind(s3_bucket, "k", **{**s3_server.client_options, "endpoint_url": proxy.url})
    text = f"<Error><Code>{code}</Code><Message>{says}</Message></Error>"
    proxy.add(Fault.STATUS, method="PUT", status=status, text=text, times=None)
    with pytest.raises(TargetError, match=expected), target.tmp_write_path() as path:
        (path / "x" if target.is_folder else path).write_text("1")
    proxy.clear()
    assert not target.exists()


@pytest.mark.parametrize("engine", ["", "boto3"])
@pytest.mark.parametrize(
    ("status", "code"), [(403, "InvalidObjectState"), (403, "AccessDenied"), (403, "KMS.DisabledException"), (500, "X")]
)
def test_no_refused_download_is_its_own_cause(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, engine: str, status: int,
    code: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    options = {**s3_server.client_options, "endpoint_url": proxy.url}
    made = [S3ObjectTarget(s3_bucket, "k", **options), S3PrefixTarget(s3_bucket, "p", **options)]
    for target in made:
        with target.tmp_write_path() as path:
            (path / "x" if target.is_folder else path).write_text("1")
        target.location.cache.clear()
        assert target.exists()
    proxy.add(Fault.STATUS, method="GET", path="/(k|p/x)$", status=status, code=code, times=None)
    for target in made:
        with pytest.raises(SuperLuigiError) as caught:
            target.download()
        chain(caught.value)


#: Named like errors of identity, and none.
NO_IDENTITY = {"WaiterConfigError", "InvalidProxiesConfigError", "InvalidChecksumConfigError"} | {
    "InvalidS3UsEast1RegionalEndpointConfigError", "InvalidSTSRegionalEndpointsConfigError", "ServiceNotInRegionError",
}  # fmt: skip


def test_every_error_of_botocore_becomes_ours() -> None:
    import inspect

    from botocore import exceptions

    class Anything(dict[str, str]):
        def __missing__(self, key: str) -> str:
            return "thing"

    made = 0
    for name, kind in vars(exceptions).items():
        if not (inspect.isclass(kind) and issubclass(kind, exceptions.BotoCoreError)):
            continue
        error = kind.__new__(kind)
        Exception.__init__(error, getattr(kind, "fmt", name).format_map(Anything()))
        made += 1
        with (
            pytest.raises(SuperLuigiError, match=r"(?s)s3://b/k.*\.$") as caught,
            s3_errors.explained("look at", "s3://b/k"),
        ):
            raise error
        chain(caught.value)
        if any(sign in name for sign in ("Credential", "SSO", "Token", "Login", "Profile", "Region", "ConfigError")):
            assert isinstance(caught.value, StorageAccessError) or name in NO_IDENTITY, name
    assert made > 50


# ---------------------------------------------------------------- access points

ARNS = [
    "arn:aws:s3:us-west-2:123456789012:accesspoint/mine",
    "arn:aws:s3:us-west-2:123456789012:accesspoint:mine",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/accesspoint/mine",
]


@pytest.mark.parametrize("arn", ARNS)
def test_the_bucket_may_be_an_access_point(arn: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    from superluigi.lineage.records import resolve

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    options = {"config": Config(proxies={"http": proxy.url}), "use_ssl": False, "region_name": "us-west-2"}
    proxy.add(Fault.STATUS, status=404, code="NoSuchKey", times=None)
    thing, folder = S3ObjectTarget(arn, "a/b", **options), S3PrefixTarget(arn, "a/b", **options)
    assert not thing.exists()
    asked = {urlsplit(entry.path).hostname for entry in proxy.log}
    assert len(asked) == 1 and str(asked.pop()).startswith("mine-123456789012.")
    assert thing.path == f"s3://{arn}/a/b" and folder.path == f"s3://{arn}/a/b/"
    assert resolve.split_s3(thing.path) == (arn, "a/b") == s3_errors.split(thing.path)
    assert thing.local_path.name == "b" and s3_errors.bucket_of(folder.path) == arn


@pytest.mark.parametrize(
    "bucket", ["", "s3://bucket", "bucket/a", "arn:aws:s3:::x/y", "arn:aws:s3:a:1:accesspoint/m/k"]
)
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(OptionError, match="bucket"):
        S3ObjectTarget(bucket, "k")

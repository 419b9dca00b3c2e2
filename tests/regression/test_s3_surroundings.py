"""Which server is asked, and as whom: what is in force when a piece of work begins, for all of it, in any order."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from superluigi.errors import OptionError
from superluigi.storage.objects.s3 import client as s3_client
from superluigi.storage.objects.s3 import obstore_engine
from superluigi.storage.objects.s3.options import S3Options
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server

pytestmark = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="needs two servers of its own")
BUCKET = "superluigi-surroundings"


@pytest.fixture(scope="module")
def second() -> Iterator[str]:
    """Another server, in another process: two of them in one would hold the same buckets."""
    command = [sys.executable, "-m", "superluigi.testing.s3_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


class Servers:
    """Two servers with a bucket of one name; what is on each, and what was asked of the first one."""

    def __init__(self, first: S3Server, second: str) -> None:
        self.first = first
        self.urls = {"first": first.endpoint_url, "second": second}
        keys = {"aws_access_key_id": "looking", "aws_secret_access_key": "on"}
        self.clients = {name: first.client(endpoint_url=url, **keys) for name, url in self.urls.items()}
        for client in self.clients.values():
            client.create_bucket(Bucket=BUCKET)

    def texts(self, server: str) -> dict[str, str]:
        """What is on one server: key -> text, but for records."""
        client, found = self.clients[server], {}
        for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            body = client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read().decode()
            found[item["Key"]] = "record" if item["Key"].endswith(".json") else body
        return found

    def close(self) -> None:
        for client in self.clients.values():
            for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=item["Key"])
            client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def servers(s3_server: S3Server, second: str) -> Iterator[Servers]:
    both = Servers(s3_server, second)
    yield both
    both.close()


# ---------------------------------------------------------------- any order

SERVERS = st.sampled_from(["first", "second"])
WAYS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "profile", "profile file", "HOME")


class Changing(RuleBasedStateMachine):
    """Objects and prefixes are written, looked at and read while everything around the process changes."""

    servers: Servers
    folder: Path

    @initialize()
    def begin(self) -> None:
        self.made: dict[str, dict[str, str]] = {"first": {}, "second": {}}
        self.patch = pytest.MonkeyPatch()
        self.number, self.targets = 0, list[tuple[Any, str | None]]()
        for name in (*WAYS[:2], "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            self.patch.delenv(name, raising=False)
        self.file = self.folder / "config"
        self.patch.setenv("AWS_CONFIG_FILE", str(self.file))
        self.profiles = {"one": "first", "two": "second"}
        self._write()
        self.patch.setenv("AWS_PROFILE", "one")
        for folder in (True, False):
            self.target(folder, None, "a", True)

    def teardown(self) -> None:
        self.patch.undo()
        for client in self.servers.clients.values():
            for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=item["Key"])

    def _write(self) -> None:
        lines = []
        for name, server in self.profiles.items():
            keys = f"aws_access_key_id = {name}\naws_secret_access_key = s\nregion = us-east-1"
            lines.append(f"[profile {name}]\nendpoint_url = {self.servers.urls[server]}\n{keys}\n")
        self.file.write_text("".join(lines))

    def _server(self, option: str | None) -> str:
        """The one that the AWS chain means."""
        if option is not None:
            return option
        urls = {url: name for name, url in self.servers.urls.items()}
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
            if name in os.environ:
                return urls[os.environ[name]]
        return self.profiles[os.environ["AWS_PROFILE"]]

    # ---- what changes

    @rule(name=st.sampled_from(WAYS[:2]), server=st.none() | SERVERS)
    def address(self, name: str, server: str | None) -> None:
        if server is None:
            self.patch.delenv(name, raising=False)
        else:
            self.patch.setenv(name, self.servers.urls[server])

    @rule(name=st.sampled_from(["one", "two"]))
    def profile(self, name: str) -> None:
        self.patch.setenv("AWS_PROFILE", name)

    @rule()
    def the_profiles_of_the_file_change_places(self) -> None:
        self.profiles = {"one": self.profiles["two"], "two": self.profiles["one"]}
        self._write()

    @rule(folder=st.booleans(), option=st.none() | SERVERS, name=st.sampled_from(["a", "b"]), same=st.booleans())
    def target(self, folder: bool, option: str | None, name: str, same: bool) -> None:
        kind = S3PrefixTarget if folder else S3ObjectTarget
        options = {"endpoint_url": self.servers.urls[option]} if option else {}
        key = f"{kind.__name__}/{name}"
        self.targets.append((kind(BUCKET, key, config=Config(connect_timeout=9 + same), **options), option))

    # ---- what is done

    def _write_texts(self, path: Path, folder: bool) -> dict[str, str]:
        self.number += 1
        names = ["x", "y"] if folder else [""]
        for name in names:
            (path / name if folder else path).write_text(f"{self.number} {name}")
        return {name: f"{self.number} {name}" for name in names}

    def _check(self) -> None:
        for server, expected in self.made.items():
            assert {k: v for k, v in self.servers.texts(server).items() if v != "record"} == expected

    @rule(which=st.integers(0, 9), turn=st.booleans(), server=SERVERS)
    def write(self, which: int, turn: bool, server: str) -> None:
        """Also when the address changes while the output is being made."""
        target, option = self.targets[which % len(self.targets)]
        goes_to = self._server(option)
        before = {name: os.environ.get(name) for name in WAYS[:2]}
        with target.tmp_write_path() as path:
            texts = self._write_texts(path, target.is_folder)
            if turn:
                for name in WAYS[:2]:
                    self.patch.setenv(name, self.servers.urls[server])
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        key = target.path.removeprefix(f"s3://{BUCKET}/")
        self.made[goes_to].update({key + name: text for name, text in texts.items()})
        self._check()
        records = [k for k, v in self.servers.texts(goes_to).items() if v == "record"]
        assert not target.is_folder or f"{key.rstrip('/')}.metadata.json" in records

    @rule(which=st.integers(0, 9))
    def read(self, which: int) -> None:
        target, option = self.targets[which % len(self.targets)]
        key, there = target.path.removeprefix(f"s3://{BUCKET}/"), self.made[self._server(option)]
        expected = {name.removeprefix(key): text for name, text in there.items() if name.startswith(key)}
        assert target.exists() is bool(expected)
        if expected:
            with target.tmp_read_path() as path:
                found = {f.name: f.read_text() for f in path.iterdir()} if target.is_folder else {"": path.read_text()}
            assert found == expected


def test_nothing_goes_to_a_server_that_is_not_in_force(servers: Servers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Changing.servers, Changing.folder = servers, Path(folder)
        run_state_machine_as_test(
            Changing,
            settings=settings(
                max_examples=12, stateful_step_count=14, deadline=None, database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
def test_an_address_that_is_given_wins_over_the_environment_for_both_engines(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, variable: str, kind: Any
) -> None:
    monkeypatch.setenv(variable, servers.urls["second"])
    target = kind(BUCKET, "given", endpoint_url=servers.urls["first"])
    with target.tmp_write_path() as path:
        for number in range(3) if target.is_folder else ():
            (path / f"{number}").write_text("1")
        if not target.is_folder:
            path.write_text("1")
    assert servers.texts("second") == {} and len(servers.texts("first")) == (4 if target.is_folder else 1)


@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
@pytest.mark.parametrize("change", ["address", "profile", "file"])
def test_a_change_is_for_what_begins_after_it(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, change: str
) -> None:
    file = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    def point_to(server: str) -> None:
        if change == "address":
            monkeypatch.setenv("AWS_ENDPOINT_URL", servers.urls[server])
        elif change == "profile":
            sections = [f"[profile {name}]\nendpoint_url = {url}\n" for name, url in servers.urls.items()]
            file.write_text("".join(sections))
            monkeypatch.setenv("AWS_PROFILE", server)
        else:
            file.write_text(f"[default]\nendpoint_url = {servers.urls[server]}\n")

    def write(path: Path) -> None:
        for name in ("x", "y") if target.is_folder else ("",):
            (path / name if name else path).write_text("1")

    point_to("first")
    target = kind(BUCKET, "turned")
    with target.tmp_write_path() as path:
        write(path)
        point_to("second")
    whole = servers.texts("first")
    assert len(whole) == (3 if target.is_folder else 1) and servers.texts("second") == {}
    assert not target.exists()
    with target.tmp_write_path() as path:
        write(path)
    assert servers.texts("second") == whole == servers.texts("first") and target.exists()
    point_to("first")
    target.remove()
    assert not target.exists() and servers.texts("first") == {} and servers.texts("second") == whole


def test_everything_is_signed_by_the_profile_in_force(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ENDPOINT_URL", servers.urls["first"])
    (tmp_path / ".aws").mkdir()
    file = tmp_path / ".aws" / "credentials"
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    target = S3PrefixTarget(BUCKET, "signed")

    def keys_that_sign(write: bool = True) -> set[str]:
        with servers.first.counted() as seen:
            with target.tmp_write_path() as path:
                (path / "x").write_text("1")
                (path / "y").write_text("2")
            target.location.cache.clear()
            target.download()
        return {request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in seen}

    for names in (("one", "two"), ("three", "two")):  # the second round is a file that was renewed
        named = list(zip("ab", names, strict=True))
        sections = [f"[{p}]\naws_access_key_id = {name}\naws_secret_access_key = s\n" for p, name in named]
        file.write_text("".join(sections))
        for profile, name in named:
            monkeypatch.setenv("AWS_PROFILE", profile)
            assert keys_that_sign() == {name}


def test_credentials_that_a_file_renews_while_an_output_is_made_sign_its_commit(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superluigi.storage.objects import location

    monkeypatch.setattr(location, "_PINNED_SECONDS", 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\n"
    file.write_text(text.format("old"))
    target = S3ObjectTarget(BUCKET, "renewed", endpoint_url=servers.urls["first"])
    with target.stage() as staged:
        staged.path.write_text("1")
        file.write_text(text.format("renewed"))
        with servers.first.counted() as seen:
            staged.commit(None)
    assert all("Credential=renewed/" in request.headers["authorization"] for request in seen) and seen


def test_what_was_seen_of_one_version_or_record_says_nothing_of_another(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket(versioned=True)
    client = s3_server.client()
    old = client.put_object(Bucket=bucket, Key="k", Body=b"old")["VersionId"]
    client.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert S3ObjectTarget(bucket, "k", get_options={"VersionId": old}, **s3_server.client_options).exists()
    with S3ObjectTarget(bucket, "k", **s3_server.client_options).tmp_write_path() as path:
        path.write_text("newer")
    elsewhere = S3PrefixTarget(bucket, "p", metadata_object_key="records/p.json", **s3_server.client_options)
    with elsewhere.tmp_write_path() as path:
        (path / "x").write_text("1")
    assert elsewhere.exists() and not S3PrefixTarget(bucket, "p", **s3_server.client_options).exists()
    with elsewhere.tmp_write_path() as path:  # that the other one is not there is not what it had seen
        (path / "x").write_text("2")
    assert (elsewhere.download() / "x").read_text() == "2"


# ---------------------------------------------------------------- options are values


def _options() -> list[Any]:
    return [
        lambda: {"config": Config(connect_timeout=5)},
        lambda: {"config": Config(connect_timeout=6)},
        lambda: {"config": Config(connect_timeout=5, s3={"addressing_style": "virtual"}, retries={"mode": "standard"})},
        lambda: {"config": Config(proxies={"http": "http://127.0.0.1:1", "https": "http://127.0.0.1:2"})},
        lambda: {"config": Config(client_cert=("a", "b"))},
        lambda: {"config": Config(signature_version=UNSIGNED)},
        lambda: {"verify": "/some/ca.pem"},
        lambda: {"verify": False},
        lambda: {"verify": Path("/some/other.pem")},
        lambda: {},
    ]


def test_options_of_equal_values_are_equal_and_others_are_not() -> None:
    made = [[S3Options.of(make()) for make in _options()] for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0])) == len(made[0])
    assert [hash(options) for options in made[0]] == [hash(options) for options in made[1]]
    assert pickle.loads(pickle.dumps(made[0])) == made[0]
    assert S3Options.of({"anonymous": True}) == S3Options.of({"config": Config(signature_version=UNSIGNED)})


def test_one_client_serves_equal_configs_and_the_targets_travel(s3_server: S3Server, s3_bucket: str) -> None:
    before = set(s3_client._clients)
    for number in range(20):
        config = Config(connect_timeout=7, read_timeout=11, s3={"addressing_style": "path"})
        target = S3ObjectTarget(s3_bucket, f"{number}", config=config, **s3_server.client_options)
        assert not pickle.loads(pickle.dumps(target)).exists()
    assert len(set(s3_client._clients) - before) == 1
    assert target.location.s3.client.boto.meta.config.read_timeout == 11


def test_anonymous_targets_sign_nothing(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    options = {"endpoint_url": s3_server.endpoint_url, "anonymous": True}
    for number in range(3):
        s3_server.client().put_object(Bucket=s3_bucket, Key=f"p/{number}", Body=b"1", ACL="public-read")
    with s3_server.counted() as seen:
        assert S3ObjectTarget(s3_bucket, "p/0", **options).download().read_text() == "1"
        folder = S3PrefixTarget(s3_bucket, "p", **options)
        folder.location.external = True
        assert sorted(f.name for f in pickle.loads(pickle.dumps(folder)).download().iterdir()) == ["0", "1", "2"]
    assert seen and not any("authorization" in request.headers for request in seen)
    for more in ({"aws_access_key_id": "a", "aws_secret_access_key": "b"}, {"role_arn": "arn:aws:iam::1:role/x"}):
        with pytest.raises(OptionError, match="anonymous"):
            S3ObjectTarget(s3_bucket, "k", anonymous=True, **more)


def test_no_secret_is_in_what_a_client_shows(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    with contextlib.suppress(OSError):
        assert "very-secret" not in repr(s3_client.client(S3Options()))


@pytest.mark.parametrize("form", ["{}/", "{}//", "{}#there", "HTTP{}"])
@pytest.mark.parametrize("kind", [S3ObjectTarget, S3PrefixTarget])
def test_an_address_of_another_form_is_that_of_the_server_for_both_engines(
    s3_server: S3Server, s3_bucket: str, kind: Any, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = form.format(s3_server.endpoint_url.removeprefix("http" if form.startswith("HTTP") else ""))
    target = kind(s3_bucket, "k", **{**s3_server.client_options, "endpoint_url": url})
    for text in ("old", "new"):
        with target.tmp_write_path() as path:
            for number in range(4) if target.is_folder else ():
                (path / f"{number}").write_text(text)
            if not target.is_folder:
                path.write_text(text)
        with target.tmp_read_path(force_local_download=True) as path:
            assert (path / "3" if target.is_folder else path).read_text() == text
    assert "fast engine" not in caplog.text


def test_a_panic_of_the_fast_engine_is_no_more_than_a_failure_of_it(s3_server: S3Server) -> None:
    panic = type("PanicException", (BaseException,), {})
    engine = obstore_engine.FastStore(None, s3_client.client(S3Options.of(s3_server.client_options)))

    def stop(error: BaseException) -> None:
        raise error

    assert engine.attempt(lambda: stop(panic("request valid"))) is None
    with pytest.raises(KeyboardInterrupt):
        engine.attempt(lambda: stop(KeyboardInterrupt()))

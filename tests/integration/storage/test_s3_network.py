"""What stands between here and S3: forward proxies and certificates of one's own, for both engines."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from superluigi.errors import TransferError
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.fault_proxy import FaultProxy
from superluigi.testing.s3_server import S3Request, S3Server


def use(bucket: str, options: dict[str, Any]) -> None:
    """One object and one prefix, written and read; the prefix is what the fast engine moves."""
    thing, folder = S3ObjectTarget(bucket, "k", **options), S3PrefixTarget(bucket, "f", **options)
    with thing.tmp_write_path() as path:
        path.write_text("1")
    with folder.tmp_write_path() as path:
        for number in range(3):
            (path / f"{number}").write_text("1")
    thing.location.cache.clear()
    assert thing.download().read_text() == "1"
    assert sorted(file.name for file in folder.download().iterdir()) == ["0", "1", "2"]


# ---------------------------------------------------------------- proxies


@pytest.fixture
def forward(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A forward proxy: it is asked for whole addresses, of whatever host."""
    parts = urlsplit(s3_server.endpoint_url)
    with FaultProxy(parts.hostname or "", parts.port or 80) as running:
        yield running


@pytest.mark.parametrize("engine", ["", "boto3"])
@pytest.mark.parametrize("how", ["environment", "config"])
def test_a_proxy_is_used_by_everything(
    s3_server: S3Server, s3_bucket: str, forward: FaultProxy, monkeypatch: pytest.MonkeyPatch, how: str, engine: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", engine)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    options = dict(s3_server.client_options)
    if how == "environment":
        monkeypatch.setenv("HTTP_PROXY", forward.url)
        monkeypatch.setenv("http_proxy", forward.url)
    else:
        options["config"] = Config(proxies={"http": forward.url})
    with s3_server.counted() as seen:
        use(s3_bucket, options)
    through = [entry for entry in forward.log if entry.path.startswith("http://")]
    assert len(through) == len(seen) >= 9


# ---------------------------------------------------------------- certificates


class Certified:
    """A CA of one's own, and a certificate of it for 127.0.0.1 with its key; or one that signs itself."""

    def __init__(self, folder: Path, *, signs_itself: bool) -> None:
        self.ca, self.server = folder / "ca.pem", folder / "server.pem"
        root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1" if signs_itself else "our CA")])
        ca = self._made(issuer, issuer, root, root, is_ca=True, named=signs_itself)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        leaf = ca if signs_itself else self._made(subject, issuer, key, root, is_ca=False, named=True)
        private = (root if signs_itself else key).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.server.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _made(subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, *, is_ca: bool, named: bool) -> Any:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
        )  # fmt: skip
        if named:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            made = made.add_extension(x509.SubjectAlternativeName([address]), False)
        return made.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Certified(tmp_path_factory.mktemp("tls"), signs_itself=False)


@pytest.fixture
def certificate(certified: Certified) -> Path:
    """The CA's."""
    return certified.ca


@pytest.fixture
def secure(s3_server: S3Server, certified: Certified) -> Iterator[dict[str, Any]]:
    """Options for the same server behind TLS."""
    with behind_tls(s3_server, certified) as url:
        yield {**s3_server.client_options, "endpoint_url": url}


@contextlib.contextmanager
def behind_tls(s3_server: S3Server, certified: Certified) -> Iterator[str]:
    """Another address of the server, behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified.server)
    parts = urlsplit(s3_server.endpoint_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while block := source.recv(65536):
                    sink.sendall(block)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def serve(raw: socket.socket) -> None:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(raw, server_side=True) as client,
                socket.create_connection((parts.hostname, parts.port or 80)) as server,
            ):
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "config file", "verify", "unverified"])
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_certificate_of_one_s_own_is_trusted_where_it_was_named_by_both_engines(
    s3_server: S3Server, s3_bucket: str, secure: dict[str, Any], certificate: Path, monkeypatch: pytest.MonkeyPatch,
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransferError, match=r"certificate|SSL"):
        S3ObjectTarget(s3_bucket, "k", **secure).exists()
    if how.endswith("BUNDLE"):
        monkeypatch.setenv(how, os.fspath(certificate))
    elif how == "config file":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {certificate}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        secure["verify"] = os.fspath(certificate) if how == "verify" else False
    with s3_server.counted() as seen:
        use(s3_bucket, secure)
    assert by_fast_engine(seen) and "obstore" not in caplog.text


def by_fast_engine(seen: list[S3Request]) -> set[str]:
    """Keys that the fast engine asked for or sent; botocore names itself in every request."""
    return {entry.path for entry in seen if "botocore" not in entry.headers.get("user-agent", "").lower()}


def test_once_refused_the_fast_engine_leaves_a_server_to_the_other_with_one_warning(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # OpenSSL takes a certificate that signs itself for its own CA, rustls does not.
    certified, other = Certified(tmp_path, signs_itself=True), s3_server.create_bucket()
    with behind_tls(s3_server, certified) as url:
        options = {**s3_server.client_options, "endpoint_url": url, "verify": os.fspath(certified.ca)}
        with s3_server.counted() as seen:
            for bucket in (s3_bucket, other, s3_bucket):
                use(bucket, options)
        assert not by_fast_engine(seen)
        warnings = [entry.getMessage() for entry in caplog.records if "obstore" in entry.getMessage()]
        assert len(warnings) == 1 and url in warnings[0]
    with s3_server.counted() as seen:  # the same server by another address is not meant
        use(s3_bucket, s3_server.client_options)
    assert by_fast_engine(seen)


def test_a_fast_engine_that_never_gets_through_is_given_up_and_one_that_did_is_not(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    from superluigi.storage.objects.s3.client import client
    from superluigi.storage.objects.s3.obstore_engine import FastStore
    from superluigi.storage.objects.s3.options import S3Options

    def fails() -> None:
        raise ValueError("this way is closed")

    for works in (True, False):
        s3 = client(S3Options.of({**s3_server.client_options, "config": Config(connect_timeout=30 + works)}))
        store = FastStore(None, s3)
        assert not works or store.attempt(lambda: 1) == 1
        for _ in range(10):
            assert store.attempt(fails) is None
        assert s3.fast.is_off is not works
    assert caplog.text.count("this way is closed") == 1

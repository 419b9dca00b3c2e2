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
from superluigi.testing.s3_server import S3Server


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def secure(s3_server: S3Server, certificate: Path) -> Iterator[dict[str, Any]]:
    """Options for the same server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
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
        yield {**s3_server.client_options, "endpoint_url": f"https://127.0.0.1:{listener.getsockname()[1]}"}
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", ["environment", "verify", "unverified"])
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_certificate_of_one_s_own_is_trusted_where_it_was_named(
    s3_bucket: str, secure: dict[str, Any], certificate: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransferError, match=r"certificate|SSL"):
        S3ObjectTarget(s3_bucket, "k", **secure).exists()
    if how == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", os.fspath(certificate))
    else:
        secure["verify"] = os.fspath(certificate) if how == "verify" else False
    use(s3_bucket, secure)

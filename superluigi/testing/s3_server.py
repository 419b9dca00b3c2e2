"""An S3 server that starts by itself from a pip package (moto), for tests and demos.

    with s3_server() as server:
        server.create_bucket("flights")
        target = S3ObjectTarget("flights", "a.csv", **server.client_options)

It listens on a free port of 127.0.0.1, keeps everything in memory, accepts any credentials and writes
down each request at the HTTP layer (`server.requests`). Unlike moto alone it answers writes one after
the other, so that conditional writes decide races, checks the checksums that clients send, and minds
conditions when a multipart upload is completed.

`SUPERLUIGI_TEST_S3_ENDPOINT` names another server (MinIO, S3 itself) to use instead; credentials and
region then come from the AWS environment. `python -m superluigi.testing.s3_server` runs one until it
is ended and prints its address, and with it the environment to export.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import hashlib
import io
import logging
import os
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from superluigi.errors import MissingDependencyError
from superluigi.testing.fault_proxy import FaultProxy
from superluigi.testing.s3_dialects import S3, Dialect

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ENDPOINT_VARIABLE = "SUPERLUIGI_TEST_S3_ENDPOINT"
#: moto loses keys with a line break: inside it they have this character of the private use area instead.
_LINE_BREAK, _STAND_IN = "\n", "\ue00a"
CREDENTIALS = {"aws_access_key_id": "superluigi", "aws_secret_access_key": "superluigi-secret"}


@dataclass(frozen=True)
class S3Request:
    """One request as the server saw it; `path` is decoded, `/bucket/key`."""

    method: str
    path: str
    query: str
    status: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}{'?' if self.query else ''}{self.query} {self.status}"


class S3Server:
    """A running S3 server: where it is, how to talk to it, what it was asked."""

    def __init__(self, endpoint_url: str, log: Callable[[], list[S3Request]], *, other: bool = True) -> None:
        self.endpoint_url, self._other, self._log = endpoint_url, other, log
        self._made: list[str] = []
        self._errands: Any = None
        self._session: Any = None
        self._making = threading.Lock()

    @property
    def client_options(self) -> dict[str, str]:
        """Keywords for boto3 and for S3 targets."""
        options = {"endpoint_url": self.endpoint_url, "region_name": os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
        return options if self._other else options | CREDENTIALS

    @property
    def requests(self) -> list[S3Request]:
        """What the server was asked, in the order of the answers."""
        return self._log()

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[S3Request]]:
        """The requests made inside the block; the list is filled when the block ends."""
        before, seen = len(self._log()), list[S3Request]()
        yield seen
        seen.extend(self._log()[before:])

    def client(self, service: str = "s3", **options: object) -> Any:
        """A boto3 client of this server, made anew: for looking from outside."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        style = {"addressing_style": "path"}
        config = Config(s3=style, max_pool_connections=32, request_checksum_calculation="when_required")
        with self._making:
            # A session reads its descriptions of services once: most of the time that a client takes.
            self._session = self._session or boto3.session.Session()
            return self._session.client(service, config=config, **{**self.client_options, **options})

    def create_bucket(self, name: str | None = None, *, versioned: bool = False) -> str:
        """Make an empty bucket (with a fresh name if none is given) and return its name."""
        name = name or f"superluigi-{secrets.token_hex(6)}"
        client = self._own_client()
        client.create_bucket(Bucket=name)
        self._made.append(name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def _own_client(self) -> Any:
        self._errands = self._errands or self.client()  # making one takes longer than what it is for
        return self._errands

    def reset(self) -> None:
        """Remove the buckets that were made through this object, with all that is in them."""
        client = self._own_client()
        while self._made:
            _empty(client, bucket := self._made.pop())
            client.delete_bucket(Bucket=bucket)


def open_uploads(client: Any, bucket: str) -> list[dict[str, Any]]:
    """Multipart uploads that were begun and not finished, as boto3 tells of them."""
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        return [upload for page in pages for upload in page.get("Uploads", ())]
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchUpload", "NotImplemented"):  # rclone, s3rver: there is none
            raise
        return []


def _empty(client: Any, bucket: str) -> None:
    for upload in open_uploads(client, bucket):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    if client.get_bucket_versioning(Bucket=bucket).get("Status"):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for item in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])


@contextlib.contextmanager
def s3_server(port: int = 0, *, dialect: Dialect = S3) -> Iterator[S3Server]:
    """Start the embedded server, or reach the one that `SUPERLUIGI_TEST_S3_ENDPOINT` names.

    Requests to another server are counted by a proxy in front of it, which speaks HTTP only. With a `dialect` it
    is always the embedded one, which then differs from S3 as others do.

    Raises:
        MissingDependencyError: moto is not installed.
    """
    other = os.environ.get(ENDPOINT_VARIABLE)
    if other and dialect is S3:
        parts = urlsplit(other)
        if parts.scheme == "https":
            yield S3Server(other, lambda: [])
            return
        with FaultProxy(parts.hostname or "127.0.0.1", parts.port or 80) as proxy:
            yield S3Server(
                proxy.url,
                lambda: [S3Request(e.method, unquote(e.path), e.query, e.status or 0, e.headers) for e in proxy.log],
            )
        return
    with _embedded(port, dialect) as (url, log):
        yield S3Server(url, lambda: log, other=False)


@contextlib.contextmanager
def _embedded(port: int, dialect: Dialect) -> Iterator[tuple[str, list[S3Request]]]:
    try:
        from moto.moto_server import werkzeug_app
        from werkzeug.serving import WSGIRequestHandler, make_server
    except ImportError as error:
        raise MissingDependencyError(
            "The embedded S3 server needs moto: pip install 'superluigi[test]', "
            f"or name another server in {ENDPOINT_VARIABLE}."
        ) from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    log: list[S3Request] = []
    theirs = werkzeug_app.DomainDispatcherApplication
    # moto lists its folders twice for each request, a fourth of its time, to learn what it learned before.
    once = {"get_backend_for_host": functools.cache(theirs.get_backend_for_host)}
    app = _Strict(type("Dispatcher", (theirs,), once)(werkzeug_app.create_backend_app), log, dialect)

    base = getattr(werkzeug_app, "MotoRequestHandler", WSGIRequestHandler)  # moto before 5.2.5 has none
    kept: set[socket.socket] = set()
    own = {"version_string": lambda _: dialect.server or "Superluigi", "kept": kept}
    handler = type("Handler", (_KeepingConnections, base), own)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=handler)
    thread = threading.Thread(target=server.serve_forever, name="superluigi-s3-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in kept.copy():
            with contextlib.suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class _KeepingConnections:
    """Answers one request after the other on a connection, as S3 does; werkzeug's handler closes it after the first.

    A connection and a thread for each request take as long as what the request is for.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    #: To be closed with the server.
    kept: set[socket.socket]
    connection: socket.socket
    command: str
    #: Of `http.server`, from here on.
    server: Any
    headers: Any
    rfile: Any
    wfile: Any
    make_environ: Any
    send_response: Any
    send_header: Any
    end_headers: Any

    def run_wsgi(self) -> None:
        """Answer a request whose headers have been read; what is called has read its body."""
        answer = "500 Internal Server Error", list[tuple[str, str]]()

        def started(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Any:
            nonlocal answer
            answer = status, headers

        self.kept.add(self.connection)
        environ = self.make_environ()
        body = b"".join(self.server.app(environ, started))
        if self.command in ("GET", "HEAD"):
            self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0))
        status, headers = answer
        self.send_response(int(status.split()[0]), status.partition(" ")[2])
        for name, value in headers:
            self.send_header(name, value)
        bodiless = self.command == "HEAD" or status.startswith(("204", "304"))
        if not bodiless and "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and not bodiless:
            self.wfile.write(body)


class _Strict:
    """WSGI middleware: one write at a time, checksums and conditions checked, requests written down."""

    def __init__(self, app: WSGIApplication, log: list[S3Request], dialect: Dialect) -> None:
        self.app, self.log, self.dialect, self.writing = app, log, dialect, threading.RLock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer: list[str] = []

        def started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            answer.append(status)
            return start_response(status, self.dialect.headers(headers), exc_info)

        method = environ["REQUEST_METHOD"]
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        _hide_line_breaks(environ)
        if method in ("GET", "HEAD"):
            query = environ.get("QUERY_STRING", "")
            if "list-type=2" in query:
                environ["QUERY_STRING"] = self.dialect.whole_query(query)
                result: Iterable[bytes] = self.dialect.listed(query, _show_line_breaks(self.app(environ, started)))
                environ["QUERY_STRING"] = query
            else:
                result = self.app(environ, started)
        else:
            # Read before locking: a client that stalls in its body must not stop the others.
            chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "")
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read() if chunked else environ["wsgi.input"].read(length)
            if not chunked and len(body) < length:
                started("400 Bad Request", [("Content-Length", "0")])
                return [b""]
            environ["wsgi.input"] = io.BytesIO(body)
            if chunked:
                del environ["HTTP_TRANSFER_ENCODING"]
                environ["CONTENT_LENGTH"] = str(len(body))
            refusal = "" if self.dialect.believes else _wrong_checksum(environ, body)
            if environ.get("QUERY_STRING", "").startswith("delete"):
                body = body.replace(b"&#xA;", _STAND_IN.encode()).replace(b"&#10;", _STAND_IN.encode())
                environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
            with self.writing:
                refusal = refusal or self.dialect.refusal(environ, self.app) or self._refuse_complete(environ)
                result = [_error(refusal, started)] if refusal else list(self.app(environ, started))
            result = self.dialect.body(environ, result)
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") and isinstance(value, str)
        }
        status = int(answer[0].split()[0])
        self.log.append(S3Request(method, path, environ.get("QUERY_STRING", ""), status, headers))
        return result

    def _refuse_complete(self, environ: WSGIEnvironment) -> str:
        """moto ignores If-Match and If-None-Match on CompleteMultipartUpload."""
        wanted, unwanted = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if environ["REQUEST_METHOD"] != "POST" or "uploadId" not in query or not (wanted or unwanted):
            return ""
        seen: list[tuple[int, str]] = []

        def started(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Any:
            etag = {name.lower(): value for name, value in headers}.get("etag", "")
            seen.append((int(status.split()[0]), etag.strip('"')))
            return lambda _data: None

        dropped = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "CONTENT_TYPE")
        look = {name: value for name, value in environ.items() if name not in dropped}
        look |= {"REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO()}
        list(self.app(look, started))
        status, etag = seen[0]
        if unwanted and status == 200:
            return "412 PreconditionFailed"
        if wanted and status != 200:
            return "404 NoSuchKey"
        return "412 PreconditionFailed" if wanted and etag != wanted.strip('"') else ""


def _hide_line_breaks(environ: WSGIEnvironment) -> None:
    environ["PATH_INFO"] = environ["PATH_INFO"].replace(_LINE_BREAK, _STAND_IN.encode().decode("latin-1"))
    for name in ("RAW_URI", "REQUEST_URI", "QUERY_STRING", "HTTP_X_AMZ_COPY_SOURCE"):
        if "%0A" in environ.get(name, ""):
            environ[name] = environ[name].replace("%0A", quote(_STAND_IN))


def _show_line_breaks(result: Iterable[bytes]) -> Iterable[bytes]:
    """In a listing, whose keys are quoted; `%0A` is shorter, so the length is made up with a line break."""
    text = b"".join(result)
    shown = text.replace(quote(_STAND_IN).encode(), b"%0A")
    return [shown + b"\n" * (len(text) - len(shown))]


def _wrong_checksum(environ: WSGIEnvironment, body: bytes) -> str:
    """moto believes every checksum; S3 answers BadDigest."""
    if "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", ""):
        return ""
    sent = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
    if len(sent) == 64 and sent != hashlib.sha256(body).hexdigest():
        return "400 XAmzContentSHA256Mismatch"
    checks: dict[str, Callable[[], bytes]] = {
        "HTTP_CONTENT_MD5": lambda: hashlib.md5(body).digest(),
        "HTTP_X_AMZ_CHECKSUM_SHA256": lambda: hashlib.sha256(body).digest(),
        "HTTP_X_AMZ_CHECKSUM_CRC32": lambda: zlib.crc32(body).to_bytes(4, "big"),
    }
    # Of a completion, the checksum sent is the object's and not the body's.
    if environ["REQUEST_METHOD"] == "PUT":
        for name, digest in checks.items():
            if environ.get(name, "") and environ[name] != base64.b64encode(digest()).decode():
                return "400 BadDigest"
    return ""


def _error(refusal: str, started: StartResponse) -> bytes:
    status, _, code = refusal.partition(" ")
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    started(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return text.encode()


def main(arguments: list[str] | None = None) -> None:
    """Serve until ended; print the address, and what to export, one a line."""
    parser = argparse.ArgumentParser(
        prog="python -m superluigi.testing.s3_server", description="An S3 server in memory."
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket (may be repeated)")
    chosen = parser.parse_args(arguments)
    try:
        _serve(chosen.port, chosen.bucket)
    except MissingDependencyError as error:
        raise SystemExit(str(error)) from None


def _serve(port: int, buckets: Sequence[str]) -> None:
    with s3_server(port) as server, contextlib.suppress(KeyboardInterrupt):
        for bucket in buckets:
            server.create_bucket(bucket)
        shown = {
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            **{name.upper(): value for name, value in CREDENTIALS.items()},
        }
        print(server.endpoint_url, *(f"export {name}={value}" for name, value in shown.items()), sep="\n", flush=True)  # noqa: T201
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

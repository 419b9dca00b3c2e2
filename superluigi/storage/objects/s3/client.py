"""Clients of S3: made late, shared per set of options, safe in threads and after a fork; errors in our words.

Everything AWS is the AWS chain's own: profiles, environment, `AWS_ENDPOINT_URL(_S3)`, proxies, `AWS_CA_BUNDLE`,
retry mode. What we add to boto3's defaults: a connection pool that fits our transfers, and path-style
addresses for servers that are not AWS (their host names have no bucket in front).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from superluigi.errors import StorageAccessError
from superluigi.storage import failpoints
from superluigi.storage.fork_lock import ForkLock
from superluigi.storage.objects.s3.identity import Identity
from superluigi.storage.objects.s3.options import (
    CREDENTIALS,
    ROLE_OPTIONS,
    SESSION_OPTIONS,
    Environment,
    S3Options,
    environment,
    variables_of,
)
from superluigi.storage.objects.s3.s3_errors import access_error, no_s3, without_secrets

#: Connections to one endpoint, and so the most transfers at once.
CONNECTIONS = 32


# ---------------------------------------------------------------- clients


@dataclass
class FastEngine:
    """How the fast engine fares at one server, as one identity."""

    works: bool = False
    failures: int = 0
    #: Once refused, boto3 does everything.
    is_off: bool = False


@dataclass
class S3Client:
    """One shared boto3 client with what is known about its server."""

    boto: Any
    options: S3Options
    session: object
    pid: int
    #: What was around the process when it was made.
    around: Environment = dataclasses.field(repr=False)
    #: Buckets that answered; a missing bucket and a missing key look the same to a HEAD.
    buckets: set[str] = dataclasses.field(default_factory=set)
    #: The `Server` header of the last answer.
    server: str = ""
    #: Its `Date` header, and when that was by this process's own monotonic clock.
    date: tuple[str, float] | None = None
    #: What was looked at -> when, and what was there (None: nothing).
    seen: dict[tuple[object, ...], float] = dataclasses.field(default_factory=dict)
    #: bucket -> the fast engine's store of it, which signs as this client does and asks the same server.
    stores: dict[str, Any] = dataclasses.field(default_factory=dict)
    fast: FastEngine = dataclasses.field(default_factory=FastEngine)

    #: Whether its listings were seen to be in the order of S3, that of bytes; some have `a/b` before `a.b`.
    seen_in_order: bool = False
    #: Makes another client with more configuration.
    remake: Callable[[Any], object] | None = None
    _parts: object = None
    identity: Identity = dataclasses.field(init=False, repr=False)

    @property
    def parts(self) -> Any:
        """A client for the parts of large objects.

        Each part has a CRC32 that the server verifies; a SHA-256 in its signature, as over HTTP by default,
        costs several times as much and adds nothing. Servers that are not known to verify CRC32 get it.
        """
        if self._parts is None:
            from botocore.config import Config  # type: ignore[import-untyped]

            config = Config(s3={**(self.boto.meta.config.s3 or {}), "payload_signing_enabled": False})
            self._parts = self.remake(config) if self.verifies_crc32 and self.remake else self.boto
        return self._parts

    @property
    def is_known(self) -> bool:
        """Whether this is surely a server that honours conditions: S3, the embedded server, MiniStack, a new moto.

        Names prove little: rclone says `AmazonS3` and honours nothing, an old moto or MinIO has the name of a new one.
        """
        return self.verifies_crc32 or "amazon.com" in self.server

    @property
    def verifies_crc32(self) -> bool:
        """Whether this is surely a server that refuses bytes whose CRC32 is another one; moto believes everything."""
        return self.is_aws or self.server.lower().startswith(("superluigi", "aws-emulator"))

    @property
    def in_order(self) -> bool:
        """Whether a key that a listing has passed by is surely not there."""
        return self.seen_in_order or self.is_known

    @property
    def now(self) -> datetime | None:
        """The time by the server's clock, as of its last answer; None if it never says.

        This machine's own clock may be set to anything. Time in which the machine slept may be missing.
        """
        if self.date is None:
            return None
        text, then = self.date
        try:
            return in_utc(parsedate_to_datetime(text)) + timedelta(seconds=time.monotonic() - then)
        except (TypeError, ValueError):  # it says something else than a date
            return None

    @property
    def endpoint(self) -> str:
        return str(self.boto.meta.endpoint_url)

    @property
    def is_aws(self) -> bool:
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def is_renewed_by(self, other: S3Client) -> bool:
        """Whether `other` is this client with what files say by now, which is how credentials are renewed."""
        same = (self.options, variables_of(self.around)) == (other.options, variables_of(other.around))
        return same and self.endpoint == other.endpoint

    @property
    def namespace(self) -> str:
        """A folder name for this endpoint: empty for AWS, else `host_port`, and a mark of the path if it has one."""
        if self.is_aws:
            return ""
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        path = parts.path.strip("/")
        mark = f"_{hashlib.sha256(path.encode()).hexdigest()[:8]}" if path else ""
        return f"{parts.hostname}_{port}{mark}"


def in_utc(when: datetime) -> datetime:
    """A time that a server tells: without a zone it is UTC, as all times of HTTP and S3 are."""
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


_lock = ForkLock()
_clients: dict[tuple[int, S3Options, Environment], S3Client] = {}
#: A notebook that goes through many identities, or a file of credentials that is renewed each hour, makes many.
_MOST_CLIENTS = 64


def client(options: S3Options) -> S3Client:
    """The shared client for `options` and what is around this process; made at the first call in this process.

    Raises:
        StorageAccessError: credentials, profile, region or address are not what a client can be made of.
    """
    key = (os.getpid(), options, environment())
    found = _clients.get(key)
    while found is None:
        with _lock:
            # A forked child must not share sockets, nor close its parent's: it makes its own.
            made = _clients.get(key) or _make(options, key[2])
            now = environment()
            if now == key[2]:  # else another thread has changed it meanwhile: what this client read is not known
                found = _clients[key] = made
                own = [other for other in _clients if other[0] == key[0]]
                for oldest in own[:-_MOST_CLIENTS]:
                    del _clients[oldest]
        key = (os.getpid(), options, now)
    return found


def _make(options: S3Options, around: Environment) -> S3Client:
    import boto3  # type: ignore[import-untyped]  # late: 0.2 s
    from botocore import UNSIGNED  # type: ignore[import-untyped]
    from botocore.config import Config

    given = options.keywords()
    session_options = {name: given.pop(name) for name in SESSION_OPTIONS if name in given}
    role_options = {name: given.pop(name) for name in ROLE_OPTIONS if name in given}
    wanted = options.config()
    try:
        config = Config(max_pool_connections=CONNECTIONS, tcp_keepalive=True).merge(Config(**wanted))
        if options.anonymous:
            config = config.merge(Config(signature_version=UNSIGNED))
        session = boto3.session.Session(**session_options)
        _descriptions.share(session)
        if options.role_arn:
            _assume(session, options.role_arn, role_options, given)
        boto = session.client("s3", config=config, **given)
        made = S3Client(boto, options, session, os.getpid(), around)
        made.identity = Identity(options, lambda: _credentials_by_now(made))
        if made.namespace:  # which reads the address: a port that is none is said here
            style = (wanted.get("s3") or {}).get("addressing_style", "path")
            more: dict[str, object] = {"s3": {**(config.s3 or {}), "addressing_style": style}}
            if "request_checksum_calculation" not in wanted:
                # Trailing checksums are unknown to older servers; all of them verify Content-MD5, which we send.
                more["request_checksum_calculation"] = "when_required"
            config = config.merge(Config(**more))
            made.boto = session.client("s3", config=config, **given)
        made.remake = lambda more: _watched(made, session.client("s3", config=config.merge(more), **given))
    except StorageAccessError:
        raise
    except Exception as error:  # of botocore and of whatever it calls: plug-ins, parsers, programs
        raise access_error(error, f"No S3 client can be made ({options})") from error
    for (_, *others), parent in _clients.copy().items():
        if others == [options, around]:  # forked: what the parent knows of its server is true here as well
            made.buckets, made.server, made.seen = set(parent.buckets), parent.server, dict(parent.seen)
    _watched(made, made.boto)
    return made


def _watched(made: S3Client, boto: Any) -> object:
    made.identity.attach(boto)
    boto.meta.events.register("before-call.s3", _step)
    boto.meta.events.register("before-parse.s3.ListObjectsV2", _keep_keys)
    if not made.is_aws:
        boto.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    boto.meta.events.register("after-call.s3", functools.partial(_remember_server, made))
    boto.meta.events.register("after-call.s3", functools.partial(_refuse_strangers, made))
    return boto


def _credentials_by_now(made: S3Client) -> Any:
    """What would sign for a client of the same options at the same server that was made now; None if it is no such."""
    around = environment()
    other = _make(made.options, around)
    if other.endpoint != made.endpoint or variables_of(around, but=CREDENTIALS) != variables_of(
        made.around, but=CREDENTIALS
    ):
        return None
    for key in [key for key, known in _clients.copy().items() if known is made and key[2] != around]:
        _clients.pop(key, None)  # it will not sign as what was around it says
    made.stores.clear()  # the fast engine keeps for minutes what it has been told
    return other.boto._request_signer._credentials


_lean = threading.local()
_DETAILS = re.compile(rb"<(LastModified|ETag|Size|StorageClass|Checksum[A-Za-z]+)>[^<]*</\1>")


@contextlib.contextmanager
def keys_only() -> Iterator[None]:
    """Listings of this thread have keys only: botocore needs four fifths of its time for the rest of each entry."""
    _lean.on = True
    try:
        yield
    finally:
        _lean.on = False


def _keep_keys(response_dict: Any, **_: object) -> None:
    if getattr(_lean, "on", False) and response_dict.get("status_code") == 200:
        response_dict["body"] = _DETAILS.sub(b"", response_dict["body"])


def _add_md5(params: Any, **_: object) -> None:
    """botocore sends a CRC32 instead, which older servers refuse: they ask for this header."""
    params.get("context", {}).pop("checksum", None)
    params["headers"].pop("x-amz-sdk-checksum-algorithm", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


class _Descriptions:
    """The description of S3, read once for all sessions: that is most of what a client costs."""

    def __init__(self) -> None:
        self._loader: object = None

    def share(self, session: Any) -> None:
        """Have `session` use what the first one has read."""
        if self._loader is None:
            self._loader = session._session.get_component("data_loader")
        session._session.register_component("data_loader", self._loader)


_descriptions = _Descriptions()


def _step(model: Any, params: Any, **_: object) -> None:
    from botocore import xform_name

    failpoints.failpoint(f"{xform_name(model.name)} {params['url_path']}")
    if model.name == "HeadBucket":  # botocore asks it where a redirected request belongs, and would follow it for ever
        params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _remember_server(made: S3Client, http_response: Any, **_: object) -> None:
    if http_response is not None:
        headers = http_response.headers
        # Emulators of AWS that name no server (MiniStack, LocalStack) have this header, which S3 itself has not.
        name = headers.get("server") or ("aws-emulator" if "x-amzn-requestid" in headers else "")
        if not made.server.startswith(name):  # moto says all of its name in some answers only
            made.server = name
        if "date" in headers:
            made.date = headers["date"], time.monotonic()


#: Of what an answer of S3 always says something.
_SAID = {
    **dict.fromkeys(("HeadObject", "GetObject", "PutObject", "UploadPart"), ("ETag",)),
    "CopyObject": ("CopyObjectResult",),
    "CreateMultipartUpload": ("UploadId",),
    "ListObjectsV2": ("Name", "KeyCount", "IsTruncated", "Contents"),
}


def _refuse_strangers(made: S3Client, http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """A page that says 200 to everything is no S3: nothing that it says of an output is true."""
    said = _SAID.get(model.name)
    if said and http_response is not None and http_response.status_code < 300 and not parsed.keys() & set(said):
        if "Body" in parsed:  # its connection serves nobody any more
            parsed["Body"].close()
        raise no_s3(without_secrets(made.endpoint), f"{model.name} was answered without {said[0]}")


def _assume(session: Any, role_arn: str, role: Mapping[str, object], given: dict[str, object]) -> None:
    """Let `session` sign with credentials of the role, asked for at first use and renewed before they end."""
    from botocore.credentials import (  # type: ignore[import-untyped]
        AssumeRoleCredentialFetcher,
        Credentials,
        DeferredRefreshableCredentials,
    )

    keys = [given.pop(name, None) for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")]
    source = Credentials(*keys) if keys[0] else session.get_credentials()
    if source is None:
        raise StorageAccessError(
            f"Role {role_arn} cannot be assumed: no AWS credentials were found. "
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
        )
    # MinIO and emulators answer STS where they answer S3.
    endpoint = role.get("sts_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL_STS") or given.get("endpoint_url")
    core = session._session

    def create(service: str, **keywords: object) -> object:
        return core.create_client(
            service, region_name=given.get("region_name") or session.region_name or "us-east-1",
            endpoint_url=endpoint, verify=given.get("verify"), **keywords,
        )  # fmt: skip

    names = {"external_id": "ExternalId", "role_duration_seconds": "DurationSeconds"}
    extra = {names[name]: value for name, value in role.items() if name in names}
    extra["RoleSessionName"] = role.get("role_session_name", "superluigi")
    fetcher = AssumeRoleCredentialFetcher(create, source, role_arn, extra_args=extra)
    core._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

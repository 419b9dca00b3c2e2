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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from superluigi.errors import OptionError, StorageAccessError
from superluigi.storage import steps
from superluigi.storage.s3_errors import without_secrets

#: Connections to one endpoint, and so the most transfers at once.
CONNECTIONS = 32
_SESSION_OPTIONS = ("profile_name", "aws_account_id")
_ROLE_OPTIONS = ("role_session_name", "external_id", "role_duration_seconds", "sts_endpoint_url")
_CLIENT_OPTIONS = (
    "endpoint_url", "region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
    "verify", "use_ssl", "api_version", "config", *_SESSION_OPTIONS,
)  # fmt: skip


@dataclass(frozen=True)
class S3Options:
    """How to reach S3: keywords of a boto3 client, plus `role_arn` and friends. Frozen, hashable, picklable."""

    items: tuple[tuple[str, Any], ...] = ()
    role_arn: str | None = None

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> S3Options:
        """Check and freeze the keywords that a target was given.

        Raises:
            OptionError: an unknown keyword; names the known ones.
        """
        given = {name: value for name, value in keywords.items() if value is not None}
        role = given.pop("role_arn", None)
        known = (*_CLIENT_OPTIONS, *_ROLE_OPTIONS)
        for name in given:
            if name not in known:
                raise OptionError(f"Unknown option {name!r} for S3. Known: {', '.join(sorted((*known, 'role_arn')))}.")
        return cls(tuple(sorted(given.items())), role)

    def get(self, name: str, default: Any = None) -> Any:
        return dict(self.items).get(name, default)

    def __repr__(self) -> str:  # never shows a secret
        shown = {name: value for name, value in self.items if name in ("endpoint_url", "region_name", "profile_name")}
        return without_secrets(f"S3Options({shown}{', role_arn=' + self.role_arn if self.role_arn else ''})")


# ---------------------------------------------------------------- clients


@dataclass
class S3Client:
    """One shared boto3 client with what is known about its server."""

    boto: Any
    options: S3Options
    session: Any
    pid: int
    #: Buckets that answered; a missing bucket and a missing key look the same to a HEAD.
    buckets: set[str] = dataclasses.field(default_factory=set)
    #: The `Server` header of the last answer.
    server: str = ""
    #: (bucket, key) -> when, and the head of what was there (None: nothing).
    seen: dict[tuple[str, str], tuple[float, Any]] = dataclasses.field(default_factory=dict)

    #: Whether its listings were seen to be in the order of S3, that of bytes; some have `a/b` before `a.b`.
    seen_in_order: bool = False
    #: Makes another client with more configuration.
    remake: Callable[[Any], Any] | None = None
    _parts: Any = None

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
    def endpoint(self) -> str:
        return str(self.boto.meta.endpoint_url)

    @property
    def is_aws(self) -> bool:
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def place(self) -> str:
        """A folder name for this endpoint: empty for AWS, else `host_port`."""
        if self.is_aws:
            return ""
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.hostname}_{port}"


_lock = threading.Lock()
_clients: dict[tuple[int, S3Options, tuple[str | None, ...]], S3Client] = {}
#: What the environment says about where and who; tests and notebooks change it while the process runs.
_SURROUNDINGS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def client(options: S3Options) -> S3Client:
    """The shared client for `options` and the AWS environment; made at the first call in this process."""
    key = (os.getpid(), options, _surroundings())
    found = _clients.get(key)
    if found is None:
        with _lock:
            found = _clients.get(key)
            if found is None:
                # A forked child must not share sockets, nor close its parent's: it makes its own.
                found = _clients[key] = _make(options)
    return found


def _surroundings() -> tuple[str | None, ...]:
    return tuple(map(os.environ.get, _SURROUNDINGS))


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def _make(options: S3Options) -> S3Client:
    import boto3  # type: ignore[import-untyped]  # late: 0.2 s
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

    given = dict(options.items)
    session_options = {name: given.pop(name) for name in _SESSION_OPTIONS if name in given}
    role_options = {name: given.pop(name) for name in _ROLE_OPTIONS if name in given}
    user_config = given.pop("config", None)
    config = Config(max_pool_connections=CONNECTIONS, tcp_keepalive=True)
    if user_config is not None:
        config = config.merge(user_config)
    try:
        session = boto3.session.Session(**session_options)
        _share_loader(session)
        if options.role_arn:
            _assume(session, options.role_arn, role_options, given)
        boto = session.client("s3", config=config, **given)
        made = S3Client(boto, options, session, os.getpid())
        if not made.is_aws:
            style = (getattr(user_config, "s3", None) or {}).get("addressing_style", "path")
            more: dict[str, Any] = {"s3": {**(config.s3 or {}), "addressing_style": style}}
            if "request_checksum_calculation" not in getattr(user_config, "_user_provided_options", {}):
                # Trailing checksums are unknown to older servers; all of them verify Content-MD5, which we send.
                more["request_checksum_calculation"] = "when_required"
            config = config.merge(Config(**more))
            made.boto = session.client("s3", config=config, **given)
        made.remake = lambda more: _watched(made, session.client("s3", config=config.merge(more), **given))
    except (BotoCoreError, ValueError) as error:
        error.args = tuple(without_secrets(str(part)) for part in error.args)
        raise OptionError(f"No S3 client can be made from {options!r}: {error}") from error
    for (_, *others), parent in list(_clients.items()):
        if others == [options, _surroundings()]:  # forked: what the parent knows of its server is true here as well
            made.buckets, made.server, made.seen = set(parent.buckets), parent.server, dict(parent.seen)
    _watched(made, made.boto)
    return made


def _watched(made: S3Client, boto: Any) -> Any:
    boto.meta.events.register("before-call.s3", _step)
    boto.meta.events.register("before-parse.s3.ListObjectsV2", _keep_keys)
    if not made.is_aws:
        boto.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    boto.meta.events.register("after-call.s3", functools.partial(_remember_server, made))
    return boto


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


def _keep_keys(response_dict: Any, **_: Any) -> None:
    if getattr(_lean, "on", False) and response_dict.get("status_code") == 200:
        response_dict["body"] = _DETAILS.sub(b"", response_dict["body"])


def _add_md5(params: Any, **_: Any) -> None:
    """botocore sends a CRC32 instead, which older servers refuse: they ask for this header."""
    params.get("context", {}).pop("checksum", None)
    params["headers"].pop("x-amz-sdk-checksum-algorithm", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _share_loader(session: Any) -> None:
    """Let all sessions read the description of S3 once: that is most of what a client costs."""
    global _loader
    if _loader is None:
        _loader = session._session.get_component("data_loader")
    session._session.register_component("data_loader", _loader)


_loader: Any = None


def _step(model: Any, params: Any, **_: Any) -> None:
    from botocore import xform_name  # type: ignore[import-untyped]

    steps.step(f"{xform_name(model.name)} {params['url_path']}")


def _remember_server(made: S3Client, http_response: Any, **_: Any) -> None:
    if http_response is not None:
        headers = http_response.headers
        # Emulators of AWS that name no server (MiniStack, LocalStack) have this header, which S3 itself has not.
        name = headers.get("server") or ("aws-emulator" if "x-amzn-requestid" in headers else "")
        if not made.server.startswith(name):  # moto says all of its name in some answers only
            made.server = name


def _assume(session: Any, role_arn: str, role: dict[str, Any], given: dict[str, Any]) -> None:
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

    def create(service: str, **keywords: Any) -> Any:
        return core.create_client(
            service, region_name=given.get("region_name") or session.region_name or "us-east-1",
            endpoint_url=endpoint, verify=given.get("verify"), **keywords,
        )  # fmt: skip

    extra = {"RoleSessionName": role.get("role_session_name", "superluigi")}
    if "external_id" in role:
        extra["ExternalId"] = role["external_id"]
    if "role_duration_seconds" in role:
        extra["DurationSeconds"] = role["role_duration_seconds"]
    fetcher = AssumeRoleCredentialFetcher(create, source, role_arn, extra_args=extra)
    core._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


# ---------------------------------------------------------------- obstore


_stores: dict[tuple[int, S3Options, str], Any] = {}
_runtime_pid: int | None = None


def fast_store(s3: S3Client, bucket: str) -> Any | None:
    """An obstore store of `bucket` that signs with boto3's credentials; None where it cannot be used.

    Its Rust runtime does not survive a fork: a child of a process that has used it falls back to boto3.
    """
    global _runtime_pid
    pid = os.getpid()
    if _runtime_pid not in (None, pid) or os.environ.get("SUPERLUIGI_S3_ENGINE") == "boto3":
        return None
    key = (pid, s3.options, bucket)
    if key not in _stores:
        with _lock:
            if key not in _stores:
                _stores[key] = _make_store(s3, bucket)
    if _stores[key] is not None:
        _runtime_pid = pid
    return _stores[key]


def _make_store(s3: S3Client, bucket: str) -> Any | None:
    try:
        from obstore.store import S3Store
    except ImportError:
        return None
    config = s3.boto.meta.config
    verify = s3.options.get("verify")
    secure = s3.endpoint.startswith("https:")
    ca_bundle = secure and (verify if isinstance(verify, str) else os.environ.get("AWS_CA_BUNDLE"))
    credentials = s3.boto._request_signer._credentials
    if credentials is None or config.client_cert or config.proxies or ca_bundle or config.signature_version not in (
        "s3v4", "v4", None
    ):  # fmt: skip
        return None  # what only boto3 knows how to do
    client_options: dict[str, Any] = {"timeout": "300s", "connect_timeout": f"{int(config.connect_timeout)}s"}
    if not secure:
        client_options["allow_http"] = True
    if verify is False:
        client_options["allow_invalid_certificates"] = True
    virtual = s3.is_aws and "." not in bucket
    endpoint = s3.endpoint
    if s3.is_aws and virtual:
        parts = urlsplit(endpoint)
        endpoint = f"{parts.scheme}://{bucket}.{parts.netloc}"

    def signing() -> Any:
        from datetime import datetime, timedelta, timezone

        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(minutes=2),
        }  # fmt: skip

    return S3Store(
        bucket,
        region=s3.boto.meta.region_name if s3.boto.meta.region_name not in (None, "aws-global") else "us-east-1",
        endpoint=endpoint,
        virtual_hosted_style_request=virtual,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={"max_retries": 4},
        credential_provider=signing,
        unsigned_payload=secure,
    )

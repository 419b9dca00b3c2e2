"""The fast engine: obstore moves many small objects and ranges; boto3 does again, and explains, what it fails at.

A store of it belongs to one client of ours, and so to one server and identity. Whatever obstore would read from the
environment by itself is told to it instead, or it is not used: else it could ask another server than boto3 does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from superluigi.storage.fork_lock import ForkLock
from superluigi.storage.objects.s3.client import S3Client

T = TypeVar("T")
_log = logging.getLogger(__name__)
_lock = ForkLock()

#: What obstore reads and boto3 does not, and that changes what is stored or where: there boto3 does everything.
_OBSTORE_ONLY = (
    "AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_BUCKET_KEY_ENABLED", "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_CHECKSUM_ALGORITHM", "AWS_CONDITIONAL_PUT", "AWS_REQUEST_PAYER", "AWS_PROXY_URL", "AWS_PROXY_CA_CERTIFICATE",
    "AWS_PROXY_EXCLUDES", "AWS_ROOT_CERTIFICATE", "AWS_DEFAULT_HEADERS", "AWS_DEFAULT_CONTENT_TYPE",
)  # fmt: skip
#: So often it may fail, where boto3 does not, before it has done anything at all.
_PATIENCE = 3


class FastStore:
    """An obstore store of one bucket."""

    def __init__(self, store: Any, s3: S3Client) -> None:
        self.store, self.endpoint, self.engine = store, s3.endpoint, s3.fast

    def attempt(self, work: Callable[[], T], *, conditional: bool = False) -> T | None:
        """What `work` gives; None where boto3 has to do it (again).

        Raises:
            obstore's AlreadyExistsError and PreconditionError: the condition of a `conditional` write did not hold.
            OSError: of this system, as when the disk is full.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            result = work()
        except (AlreadyExistsError, PreconditionError):
            self.engine.works = True
            if conditional:
                raise
            return None
        except FileNotFoundError as error:  # obstore has no class of its own for a key that is not there
            if error.errno is not None:
                raise
            self.engine.works = True
            return None
        except OSError as error:
            if error.errno is not None:
                raise
            self._failed(error)
            return None
        except BaseException as error:  # whatever it is, boto3 tries again and says it in its own words
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # that is of Rust
                raise
            self._failed(error)
            return None
        self.engine.works = True
        return result

    def _failed(self, error: BaseException) -> None:
        engine = self.engine
        engine.failures += 1
        distrusts = "certificate" in str(error).lower()
        if engine.is_off or not (distrusts or (not engine.works and engine.failures >= _PATIENCE)):
            return
        with _lock:
            first, engine.is_off = not engine.is_off, True
        if first:
            advice = " Name its CA in AWS_CA_BUNDLE to have the fast way." if distrusts else ""
            reason = str(error).partition("\n")[0][:200]
            _log.warning(
                "The fast engine (obstore) cannot talk to %s (%s): boto3, which is slower, does all from here on.%s",
                self.endpoint, reason, advice,
            )  # fmt: skip


class _Runtime:
    """The Rust runtime, which runs once it is used."""

    def __init__(self) -> None:
        #: The process that has used it.
        self.pid: int | None = None

    @property
    def is_of_a_parent(self) -> bool:
        """Whether it was used before this process was forked, so that it stands still here."""
        return self.pid not in (None, os.getpid())


_runtime = _Runtime()


def fast_store(s3: S3Client, bucket: str) -> FastStore | None:
    """An obstore store of `bucket` that signs with boto3's credentials; None where it cannot be used.

    Its Rust runtime does not survive a fork: a child of a process that has used it falls back to boto3.
    """
    if s3.fast.is_off or _runtime.is_of_a_parent or os.environ.get("SUPERLUIGI_S3_ENGINE") == "boto3":
        return None
    if bucket not in s3.stores:
        with _lock:
            if bucket not in s3.stores:
                made = _make_store(s3, bucket)
                s3.stores[bucket] = made and FastStore(made, s3)
    store: FastStore | None = s3.stores[bucket]
    if store is not None:
        _runtime.pid = os.getpid()
    return store


def _make_store(s3: S3Client, bucket: str) -> object | None:
    try:
        from obstore.exceptions import UnknownConfigurationKeyError
        from obstore.store import S3Store
    except ImportError:
        return None
    config = s3.boto.meta.config
    credentials = s3.boto._request_signer._credentials
    anonymous = s3.options.anonymous
    if (
        (credentials is None and not anonymous)
        or config.client_cert or config.proxies or bucket.startswith("arn:")
        or (not anonymous and config.signature_version not in ("s3v4", "v4", None))
        or any(name in os.environ for name in _OBSTORE_ONLY)
    ):  # fmt: skip
        return None  # what only boto3 knows how to do
    secure = s3.endpoint.startswith("https:")
    client_options: dict[str, object] = {"timeout": "300s", "connect_timeout": f"{int(config.connect_timeout)}s"}
    if not secure:
        client_options["allow_http"] = True
    else:
        verify = s3.boto._endpoint.http_session._verify  # what options, environment and config file come down to
        if verify is False:
            client_options["allow_invalid_certificates"] = True
        elif isinstance(verify, (str, os.PathLike)):
            try:
                client_options["root_certificate"] = Path(verify).read_bytes()
            except OSError:
                return None  # a folder of certificates
    virtual = s3.is_aws and "." not in bucket
    parts = urlsplit(s3.endpoint.strip())
    endpoint = f"{parts.scheme}://{f'{bucket}.' if virtual else ''}{parts.netloc}{parts.path}"
    region = s3.boto.meta.region_name

    def signing() -> object:
        from datetime import datetime, timedelta, timezone

        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(minutes=2),
        }  # fmt: skip

    told: dict[str, Any] = {
        "region": region if region not in (None, "aws-global") else "us-east-1",
        "endpoint": endpoint,
        "virtual_hosted_style_request": virtual,
        "unsigned_payload": secure,
        "skip_signature": anonymous,
        "s3_express": False,
        "client_options": client_options,
        "retry_config": {"max_retries": 4},
        **({} if anonymous else {"credential_provider": signing}),
    }
    try:
        try:
            # This variable would win over the address that is given.
            return S3Store(bucket, **told, aws_endpoint_url_s3=endpoint)
        except UnknownConfigurationKeyError:  # of a version that does not read that variable
            return S3Store(bucket, **told)
    except Exception as error:  # noqa: BLE001  # of a version that does not know what it is told
        _log.debug("No fast engine for %s: %s", s3.endpoint, error)
        return None

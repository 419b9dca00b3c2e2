"""What S3 objects and S3 prefixes share as locations: where things are, how the store is reached, staging."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from superluigi import config
from superluigi.errors import TargetKindError
from superluigi.storage import atomic, cache, cache_files, s3_client, s3_leftovers, staging
from superluigi.storage.base import Ground, Location
from superluigi.storage.s3_client import S3Client, S3Options
from superluigi.storage.s3_conditions import Conditions, conditions_of
from superluigi.storage.s3_record import Register
from superluigi.storage.s3_transfer import Head, Progress, head, listing

#: How long a check may stand for the look with which the commit that follows it begins.
_SEEN_SECONDS = 60.0
#: Of `put_options`, what the records' objects get too.
_RECORD_OPTIONS = (
    "ACL", "BucketKeyEnabled", "ExpectedBucketOwner", "GrantFullControl", "GrantRead", "GrantReadACP",
    "GrantWriteACP", "RequestPayer", "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5",
    "SSEKMSEncryptionContext", "SSEKMSKeyId", "ServerSideEncryption", "Tagging",
)  # fmt: skip


@dataclass(frozen=True)
class S3Place:
    """Where an output and its record are, and how to get there; nothing is asked of the store to make one."""

    bucket: str
    key: str
    record_bucket: str
    record_key: str
    options: S3Options = field(default_factory=S3Options)
    local_root: Path | None = None
    put_options: Mapping[str, Any] = field(default_factory=dict)
    get_options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    cache_limit_bytes: int | None = None
    cache_min_free_bytes: int | None = None


class S3Location(Location):
    """One output on S3."""

    kind: ClassVar[str]

    def __init__(self, place: S3Place) -> None:
        self.place = place
        self.uri = f"s3://{place.bucket}/{place.key}"
        self.record_uri = f"s3://{place.record_bucket}/{place.record_key}"

    def grounds(self) -> list[Ground]:
        place = self.place
        data = Ground((self.s3.place, place.bucket), place.key, place.key.endswith("/"))
        return [data, Ground((self.s3.place, place.record_bucket), place.record_key)]

    # ---- the ways out of here

    @property
    def s3(self) -> S3Client:
        return s3_client.client(self.place.options)

    @property
    def local_root(self) -> Path:
        root = self.place.local_root
        return Path(config.get("local_data_dir")) if root is None else Path(root).expanduser().absolute()

    @property
    def conditions(self) -> Conditions:
        """What the server decides for us, both for the data and for the record."""
        place, s3, root = self.place, self.s3, self.local_root
        found = conditions_of(s3, place.record_bucket, place.record_key, root)
        if place.bucket != place.record_bucket:
            found &= conditions_of(s3, place.bucket, place.key, root)
        return found

    @property
    def register(self) -> Register:
        put_options = {key: value for key, value in self.place.put_options.items() if key in _RECORD_OPTIONS}
        return Register(self.s3, self.place.record_bucket, self.place.record_key, self.place.get_options, put_options)

    @property
    def cache(self) -> cache.Cache:
        return cache.Cache(self.local_root, self.place.cache_limit_bytes, self.place.cache_min_free_bytes)

    @property
    def local_path(self) -> Path:
        """Where a local copy is, or would be."""
        return self.cache.entry(self.s3.place, self.place.bucket, self.place.key).path

    def alone(self) -> contextlib.AbstractContextManager[object]:
        """Where the server decides nothing for us: one commit at a time on this machine, by a local lock.

        Between machines such a server leaves a gap, which looking before and after makes small.
        """
        if self.conditions.create and self.conditions.match:
            return contextlib.nullcontext()
        name = hashlib.sha256(f"{self.s3.place} {self.uri}".encode()).hexdigest()[:32]
        return cache_files.lock(self.local_root / staging.STAGING / "servers" / f"{name}.lock")

    # ---- what was seen lately

    def saw(self, there: Any) -> Any:
        """Remember what is there (a head, None, or what a prefix's look found) for `recent`, and return it."""
        seen = self.s3.seen
        if len(seen) > 20_000:
            seen.clear()
        seen[self.place.bucket, self.place.key] = (time.monotonic(), there)
        return there

    def look(self) -> Head | None:
        """What is there now: one request."""
        return head(self.s3, self.place.bucket, self.place.key, self.place.get_options)

    def recent(self) -> Any:
        """What a look saw just before, in this process or its parent; `...` if there was none.

        A check and the commit that follows from it are one decision, and cost one look. What was seen serves
        once: the commit after that one looks for itself.
        """
        when, there = self.s3.seen.pop((self.place.bucket, self.place.key), (float("-inf"), ...))
        return there if time.monotonic() - when < _SEEN_SECONDS else ...

    # ---- staging

    def clean(self) -> None:
        """Remove what dead processes of this host left, here and on the server."""
        with atomic.explained("make room for", self.uri):
            s3_leftovers.clean(self.s3, self.local_root)

    def staging(self) -> Path:
        """A fresh folder for a commit."""
        with atomic.explained("make room for", self.uri):
            return staging.staging_folder(self.local_root)

    def name(self) -> str:
        """The last part of the key, fit for a file name."""
        return cache_files.segment(self.place.key.rstrip("/").rpartition("/")[2])

    def other_kind(self, key: str, prefix: bool) -> bool:
        """Whether something is at `key` (or below it, with `prefix`)."""
        if prefix:
            return next(listing(self.s3, self.place.bucket, key, self.place.get_options, MaxKeys=1), None) is not None
        return head(self.s3, self.place.bucket, key, self.place.get_options) is not None


def kind_error(uri: str, there: str, expects: str, use: str) -> TargetKindError:
    return TargetKindError(f"{uri} is {there}, but {expects}. Use {use}, or another key.")


def quietly(work: Callable[[], object]) -> None:
    """Clean up as well as possible while another error is on its way; the note of this process remains."""
    with contextlib.suppress(Exception):
        work()

"""What S3 objects and S3 prefixes share as locations: where things are, how the store is reached, staging."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from superluigi import config
from superluigi.errors import (
    CommitConflictError,
    CommitError,
    RecordError,
    StorageAccessError,
    TargetError,
    TargetKindError,
)
from superluigi.setting_texts import at_home
from superluigi.storage import local_names
from superluigi.storage.base import Ground, Holder, Lease, Location, Record
from superluigi.storage.cache import cache, files
from superluigi.storage.local.stages import staging
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.leases import LeaseFile
from superluigi.storage.objects.record import Register
from superluigi.storage.objects.store import ConditionalWrites, Head, ObjectStore, Progress

_Method = TypeVar("_Method", bound=Callable[..., Any])
_log = logging.getLogger(__name__)

#: How long a check that found nothing may stand for the look with which the commit that follows it begins.
_SEEN_SECONDS = 60.0
#: Bytes of a key, by the documentation of S3.
_LONGEST_KEY = 1024
#: So often long work looks whether its credentials were renewed.
_PINNED_SECONDS = 60.0
#: Of `put_options`, what the records' objects get too.
_RECORD_OPTIONS = (
    "ACL", "BucketKeyEnabled", "ExpectedBucketOwner", "GrantFullControl", "GrantRead", "GrantReadACP",
    "GrantWriteACP", "RequestPayer", "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5",
    "SSEKMSEncryptionContext", "SSEKMSKeyId", "ServerSideEncryption", "Tagging",
)  # fmt: skip


@dataclass(frozen=True)
class S3Address:
    """Where an output and its record are, and how to get there; nothing is asked of the store to make one."""

    bucket: str
    key: str
    record_bucket: str
    record_key: str
    #: How the store is reached, as a value: equal ones share a store.
    options: Hashable
    #: The shared store for such options and what is around this process now.
    open: Callable[[Any], ObjectStore]
    local_root: Path | None = None
    put_options: Mapping[str, object] = field(default_factory=dict)
    get_options: Mapping[str, object] = field(default_factory=dict)
    progress: Progress | None = None
    cache_limit_bytes: int | None = None
    cache_min_free_bytes: int | None = None


_Self = TypeVar("_Self", bound="S3Location")


def at_one_server(method: _Method) -> _Method:
    """A method of an `S3Location` all of whose requests go to one server, as one identity."""

    @functools.wraps(method)
    def pinned(self: S3Location, *arguments: object, **keywords: object) -> object:
        return method(self.pinned(), *arguments, **keywords)

    return pinned  # type: ignore[return-value]


class S3Location(Location):
    """One output on S3."""

    kind: ClassVar[str]
    refuses_latecomers = True

    def __init__(self, place: S3Address) -> None:
        self.place = place
        self.uri = f"s3://{place.bucket}/{place.key}"
        self.record_uri = f"s3://{place.record_bucket}/{place.record_key}"
        self._pinned: tuple[ObjectStore, float] | None = None
        self._root: Path | None = None

    def grounds(self) -> list[Ground]:
        place, server = self.place, self.s3.namespace
        data = Ground((server, place.bucket), place.key, place.key.endswith("/"))
        return [data, Ground((server, place.record_bucket), place.record_key)]

    # ---- the ways out of here

    @property
    def s3(self) -> ObjectStore:
        """The client for what is around this process now; in one piece of work, for what was when it began."""
        if self._pinned is None:
            return self.place.open(self.place.options)
        pinned, since = self._pinned
        if pinned.pid == os.getpid() and time.monotonic() - since < _PINNED_SECONDS:
            return pinned
        now = self.place.open(self.place.options)
        if pinned.is_renewed_by(now) or pinned.pid != now.pid:
            pinned = now
        self._pinned = pinned, time.monotonic()
        return pinned

    def pinned(self: _Self) -> _Self:
        """This location with the server, the identity and the local root that are in force now, whatever comes.

        What tasks do to the environment between the beginning of a commit and its end must not send a part of it
        to another server.
        """
        if self._pinned is not None:
            return self
        here = object.__new__(type(self))
        here.__dict__ = {**self.__dict__, "_pinned": (self.s3, time.monotonic())}
        return here

    @property
    def local_root(self) -> Path:
        if self._root is None:
            root = self.place.local_root
            found = Path(config.get("local_data_dir")) if root is None else at_home(root).absolute()
            if self._pinned is None:
                return found
            self._root = found
        return self._root

    @property
    def conditions(self) -> ConditionalWrites:
        """What the server decides for us, both for the data and for the record."""
        place, s3, root = self.place, self.s3, self.local_root
        found = s3.conditional_writes(place.record_bucket, place.record_key, root)
        if place.bucket != place.record_bucket:
            found &= s3.conditional_writes(place.bucket, place.key, root)
        return found

    @property
    def register(self) -> Register:
        put_options = {key: value for key, value in self.place.put_options.items() if key in _RECORD_OPTIONS}
        kind = _OthersRegister if self.external else Register
        return kind(self.s3, self.place.record_bucket, self.place.record_key, self.place.get_options, put_options)

    @property
    def cache(self) -> cache.Cache:
        return cache.Cache(self.local_root, self.place.cache_limit_bytes, self.place.cache_min_free_bytes)

    @property
    def local_path(self) -> Path:
        """Where a local copy is, or would be."""
        return self.cache.entry(self.s3.namespace, self.place.bucket, self.place.key).path

    def commit_lock(self) -> contextlib.AbstractContextManager[object]:
        """Where the server decides nothing for us: one commit at a time on this machine, by a local lock.

        Between machines such a server leaves a gap, which looking before and after makes small.
        """
        if self.conditions.create and self.conditions.match:
            return contextlib.nullcontext()
        name = hashlib.sha256(f"{self.s3.namespace} {self.uri}".encode()).hexdigest()[:32]
        return files.lock(self.local_root / staging.STAGING / "servers" / f"{name}.lock")

    # ---- one attempt at a time

    def lease(self, *, make: bool = True) -> Lease | Holder | None:
        """A lease beside the record, by conditional writes; None where the server knows none."""
        conditions = self.conditions
        return self._lease_file.take() if conditions.create and conditions.match else None

    def holder(self) -> Holder | None:
        return self._lease_file.holder()

    @property
    def _lease_file(self) -> LeaseFile:
        here = self.pinned()
        return LeaseFile(here.s3, self.place.record_bucket, self.place.record_key, here.register.put_options)

    # ---- what was seen lately

    @property
    def _question(self) -> tuple[object, ...]:
        """What an answer of the store depends on, besides the client: another version of a key is another answer."""
        place = self.place
        options = tuple(sorted((k, str(v)) for k, v in place.get_options.items())) if place.get_options else ()
        return (self.kind, self.uri, self.record_uri, options)

    def head(self) -> Head | None:
        """What is there now: one request."""
        there = self.s3.head(self.place.bucket, self.place.key, self.place.get_options)
        if there is not None:
            self.forget_looks()
        return there

    def saw_nothing(self, s3: ObjectStore | None = None) -> None:
        """Remember that a check has found nothing here."""
        seen = (s3 or self.s3).seen
        if len(seen) > 20_000:
            seen.clear()
        seen[self._question] = time.monotonic()

    def forget_looks(self, s3: ObjectStore | None = None) -> None:
        (s3 or self.s3).seen.pop(self._question, None)

    def found_nothing(self) -> bool:
        """Whether a check, in this process or its parent, has found nothing here just before.

        A check that finds nothing and the commit that follows from it are one decision, to make what is missing,
        and cost one look. What was seen *there* is never remembered: another process may have replaced it, and a
        commit replaces what is in force when it begins. The memory serves once.
        """
        when = self.s3.seen.pop(self._question, float("-inf"))
        return time.monotonic() - when < _SEEN_SECONDS

    # ---- staging

    def refuse_long(self, *keys: str) -> None:
        """Refuse before the work what a server of S3 refuses after it.

        Raises:
            CommitError: one of `keys` is longer than any key can be.
        """
        for key in keys:
            if len(os.fsencode(key)) > _LONGEST_KEY:
                raise CommitError(
                    f"{self.uri} cannot be written: with {key[-60:]!r} at its end a key is too long, for S3 takes "
                    f"{_LONGEST_KEY:,} bytes. Choose a shorter one; that of the record is metadata_object_key."
                )

    def clean(self) -> None:
        """Remove what dead processes of this host left, here and on the server."""
        with self._room():
            intent_log.clean(self.s3, self.local_root)

    def staging(self) -> Path:
        """A fresh folder for a commit."""
        with self._room():
            return staging.staging_folder(self.local_root)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, TargetError):
                raise
            kind = StorageAccessError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else CommitError
            raise kind(
                f"Cannot make a folder for {self.uri} in {self.local_root}: {error.strerror}. Name a folder that may "
                "be written and has space in SUPERLUIGI_LOCAL_DATA_DIR (or local_root)."
            ) from error

    def name(self) -> str:
        """The last part of the key, fit for a file name."""
        last = self.place.key.rstrip("/").rpartition("/")[2]
        kept = local_names.safe_component(last)
        fits = len(os.fsencode(last)) <= staging.NAME_MAX and "\0" not in last
        return last if fits and len(os.fsencode(last)) > local_names.LONGEST_NAME else kept

    def other_kind(self, key: str, prefix: bool) -> bool:
        """Whether something is at `key` (or below it, with `prefix`)."""
        if prefix:
            return next(self.s3.list(self.place.bucket, key, self.place.get_options, page_size=1), None) is not None
        return self.s3.head(self.place.bucket, key, self.place.get_options) is not None


class _OthersRegister(Register):
    """What lies where the record of data made by others would be: it may be anything, and need not be for our eyes."""

    def read(self) -> tuple[list[Record], str | None]:
        try:
            records, etag = super().read()
        except (StorageAccessError, RecordError):
            return [], None
        ours = [record for record in records if isinstance(record.get("output"), dict)]
        return ours, etag if ours else None


def kind_error(uri: str, there: str, expects: str, use: str) -> TargetKindError:
    return TargetKindError(f"{uri} is {there}, but {expects}. Use {use}, or another key.")


def suppress_errors(work: Callable[[], object]) -> bool:
    """Clean up as well as possible while another error is on its way; whether it worked, else the note must remain."""
    with contextlib.suppress(Exception):
        work()
        return True
    return False


def afterwards(uri: str, work: Callable[[], object]) -> None:
    """Do `work` after the commit point: what goes wrong fails nothing any more, and is mended later."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  # see above
        _log.warning("%s is committed, but what comes after that failed, and is left for later: %s", uri, error)


def twice(work: Callable[[], object]) -> None:
    """Do `work`, and once more if it fails or Ctrl-C stops it: of what must not remain half done."""
    try:
        work()
    except CommitConflictError:
        raise
    except Exception:  # noqa: BLE001  # raised by the second attempt if it lasts
        work()
    except BaseException:
        suppress_errors(work)
        raise

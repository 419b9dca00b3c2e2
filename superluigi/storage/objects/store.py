"""What the commits of objects and prefixes ask of a store, and nothing more: another vendor is one more implementation.

Writes and removals take a condition on the ETag of what is there; what a server does not decide by itself is said by
`ConditionalWrites`. Errors are of `superluigi.errors`. `options` are the implementation's own request options.
"""

from __future__ import annotations

import abc
import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

#: Called with the bytes moved since the last call; from several threads.
Progress = Callable[[int], None]
Options = Mapping[str, Any]
T = TypeVar("T")
Item = TypeVar("Item")

#: So many small objects are asked for, written or removed at once.
OBJECTS_AT_ONCE = 16


# ---------------------------------------------------------------- values


@dataclass(frozen=True)
class Head:
    """What the store tells of an object without its bytes."""

    etag: str
    size: int
    version: str | None = None
    #: User metadata, names in lower case.
    metadata: Mapping[str, str] = field(default_factory=dict)
    encryption: str | None = None
    modified: datetime | None = None

    @property
    def commit(self) -> str | None:
        return self.metadata.get("superluigi-commit")

    @property
    def sha256(self) -> str | None:
        return self.metadata.get("superluigi-sha256")

    @property
    def crc32(self) -> str | None:
        return self.metadata.get("superluigi-crc32")


@dataclass(frozen=True)
class WriteCondition:
    """When a write may happen: only if nothing is there (`etag` None), or only over this ETag."""

    etag: str | None = None


@dataclass(frozen=True)
class PutResult:
    """What the store said of a finished write."""

    etag: str
    version: str | None = None


@dataclass(frozen=True)
class ObjectEntry:
    """One object of many: where it is locally, its key, what is known of its bytes."""

    key: str
    path: str | Path
    size: int
    etag: str | None = None
    sha256: str | None = None
    crc32: str | None = None


class ListedObject(NamedTuple):
    """One object as a listing tells of it; of a listing of names, the key alone."""

    key: str
    size: int = 0
    etag: str = ""
    modified: datetime = datetime.min


class PendingUpload(NamedTuple):
    """An upload in parts that was begun and not finished."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(frozen=True)
class ConditionalWrites:
    """What a server decides for us; where it does not, a commit looks before and after, which leaves a gap."""

    #: Whether a write happens only where nothing is,
    create: bool = True
    #: only over a given ETag,
    match: bool = True
    #: and both for what was uploaded in parts.
    complete: bool = True

    def __and__(self, other: ConditionalWrites) -> ConditionalWrites:
        return ConditionalWrites(
            *(
                ours and theirs
                for ours, theirs in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
            )
        )


# ---------------------------------------------------------------- the contract


class Upload(Protocol):
    """One file on its way to one key: `send` moves what can be moved unseen, `publish` makes it visible."""

    upload_id: str | None

    @property
    def in_parts(self) -> bool:
        """Whether it goes up in parts."""

    def begin(self) -> str | None:
        """Open an upload in parts where one is needed; its id, to be noted down before parts are sent."""

    def send(self) -> str:
        """Send the parts; the ETag that the object will have if the server computes it as S3 does."""

    def publish(self, condition: WriteCondition | None) -> PutResult:
        """Make the object visible in one request.

        Raises:
            CommitConflictError: the server says that `condition` does not hold. A lost reply looks the
                same: the caller has to look whose object is there.
        """

    def abort(self) -> bool:
        """Drop parts that were sent; nothing happens if there are none. False if they may still be there."""


class ObjectStore(abc.ABC):
    """The objects of one server as one identity sees them; safe in threads, not for a forked child (`pid`).

    Every method raises, besides what it names: BucketMissingError, StorageAccessError, TransferError, CommitError.
    """

    #: The process that it was opened in.
    pid: int
    #: What was looked at -> when (monotonic seconds), and what was there (None: nothing).
    seen: dict[tuple[Hashable, ...], float]

    # ---- the server

    @property
    @abc.abstractmethod
    def namespace(self) -> str:
        """A folder name for this server, by which local copies and notes are kept apart; empty for the usual one."""

    @property
    @abc.abstractmethod
    def now(self) -> datetime | None:
        """The time by the server's clock, as of its last answer; None if it never says."""

    @property
    @abc.abstractmethod
    def in_order(self) -> bool:
        """Whether a key that a listing has passed by is surely not there."""

    @abc.abstractmethod
    def saw_order(self) -> None:
        """Remember that a listing was seen to be in the order of bytes."""

    @abc.abstractmethod
    def is_renewed_by(self, other: ObjectStore) -> bool:
        """Whether `other` is this store with credentials that were renewed since."""

    @abc.abstractmethod
    def conditional_writes(self, bucket: str, key: str, root: Path) -> ConditionalWrites:
        """What the server decides in `bucket`, known or tried out near `key`; `root` keeps what was found."""

    # ---- one object

    @abc.abstractmethod
    def head(self, bucket: str, key: str, options: Options) -> Head | None:
        """The object's head, or None if it is not there: one request."""

    @abc.abstractmethod
    def get(self, bucket: str, key: str, options: Options) -> tuple[bytes, Head] | None:
        """The whole of a small object with its head, or None if it is not there."""

    @abc.abstractmethod
    def read(self, bucket: str, key: str, options: Options) -> Iterator[bytes]:
        """The bytes of an object of any size, in blocks.

        Raises:
            TargetMissingError: it is not there.
        """

    @abc.abstractmethod
    def put(self, bucket: str, key: str, body: bytes, condition: WriteCondition | None, options: Options) -> PutResult:
        """Write a small object.

        Raises:
            CommitConflictError: `condition` does not hold (or our own write won and its reply was lost).
        """

    @abc.abstractmethod
    def delete_if(self, bucket: str, key: str, etag: str, options: Options) -> None:
        """Remove a key if it still has this ETag; nothing happens if it is gone.

        Raises:
            CommitConflictError: something else is there now.
        """

    @abc.abstractmethod
    def delete_versions(self, bucket: str, key: str) -> None:
        """Remove a key with all its versions."""

    # ---- many

    @abc.abstractmethod
    def list(
        self, bucket: str, prefix: str, options: Options, *, start_after: str = "", page_size: int | None = None,
        pages: int | None = None, names_only: bool = False,
    ) -> Iterator[ListedObject]:  # fmt: skip
        """What begins with `prefix`, in the order of the store: a request for each page, `pages` at most."""

    @abc.abstractmethod
    def delete(self, bucket: str, keys: Iterable[str], options: Options) -> None:
        """Remove keys; those that are gone already do not matter."""

    @abc.abstractmethod
    def copy(
        self, bucket: str, pairs: Sequence[tuple[str, str, int]], options: Options, source_bucket: str | None = None
    ) -> dict[str, PutResult]:
        """Copy (source key, key, size) on the server, with metadata, into `bucket`; key -> result.

        Raises:
            TargetMissingError: a source is not there.
        """

    @abc.abstractmethod
    def copies_in_parts(self, size: int) -> bool:
        """Whether a copy of so many bytes is an upload in parts, whose last step needs no source any more."""

    # ---- bytes up and down

    @abc.abstractmethod
    def part_size(self, size: int) -> int | None:
        """How large the parts are in which a file of `size` bytes goes up; None if it goes in one request."""

    @abc.abstractmethod
    def upload(
        self, bucket: str, entry: ObjectEntry, metadata: Mapping[str, str], options: Options, progress: Progress | None,
        pieces: Sequence[int] = (),
    ) -> Upload:  # fmt: skip
        """A file that goes to one key; `pieces` are the CRC-32 of its parts where they are known already."""

    @abc.abstractmethod
    def upload_many(
        self, bucket: str, entries: Sequence[ObjectEntry], metadata: Mapping[str, str], options: Options,
        condition: WriteCondition | None = None, progress: Progress | None = None,
    ) -> dict[str, PutResult]:  # fmt: skip
        """Put every entry under its key; key -> what the server said.

        Raises:
            CommitConflictError: a key exists although `condition` says that none must.
        """

    @abc.abstractmethod
    def download(self, bucket: str, entry: ObjectEntry, options: Options, progress: Progress | None) -> None:
        """Fetch one object, of exactly its ETag, verified against its digest where known.

        Raises:
            TargetMissingError: it is not there, or not in that version.
        """

    @abc.abstractmethod
    def download_many(
        self, bucket: str, entries: Sequence[ObjectEntry], options: Options, progress: Progress | None = None
    ) -> None:
        """As `download`, for many; files that came before an error stay."""

    # ---- uploads in parts that were not finished

    @abc.abstractmethod
    def uploads(self, bucket: str, prefix: str) -> Iterator[PendingUpload]:
        """Uploads in parts below `prefix` that were begun and not finished."""

    @abc.abstractmethod
    def last_part(self, bucket: str, upload: PendingUpload) -> datetime:
        """When the last part of an upload came, or when it was begun."""

    @abc.abstractmethod
    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the parts of an upload; nothing happens if it is finished or gone."""


def is_key(text: str) -> bool:
    """Whether it can be sent as a key: UTF-8 without NUL, which no record may name. Files may have any names."""
    try:
        return bool(text.encode()) and "\0" not in text
    except UnicodeEncodeError:
        return False


def in_threads(work: Callable[[Item], T], items: Iterable[Item], at_once: int) -> list[T]:
    """`work` over `items` in at most `at_once` threads; the first error ends it and is raised.

    Each thread takes the next item by itself: a future for each would cost more than a small object.
    """
    waiting = list(items)
    if len(waiting) <= 1:
        return [work(item) for item in waiting]
    source, results, failed = iter(waiting), list[T](), list[BaseException]()
    turn = threading.Lock()

    def run() -> None:
        while not failed:
            try:
                with turn:
                    item = next(source)
            except StopIteration:
                return
            try:
                results.append(work(item))
            except BaseException as error:  # noqa: BLE001  # raised again below, in the caller's thread
                failed.append(error)

    with ThreadPoolExecutor(min(at_once, len(waiting)), thread_name_prefix="superluigi-s3") as pool:
        running = [pool.submit(run) for _ in range(min(at_once, len(waiting)))]
        try:
            for future in running:
                future.result()
        except BaseException as error:
            failed.append(error)  # Ctrl-C: the threads stop after the item in hand
            raise
    if failed:
        raise failed[0]
    return results

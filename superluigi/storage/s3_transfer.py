"""Bytes to and from S3: one object or many, in parts where large, bounded in memory and connections.

Many small objects go through obstore where it can be used, single objects and everything special through
boto3 (docs/decisions/s3.md has the figures). Every upload carries a checksum that the server verifies, and
every download is compared with a digest or ETag where one is known.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from superluigi.errors import CommitConflictError, TargetMissingError, TransferError
from superluigi.storage import steps
from superluigi.storage.s3_client import (
    S3Client,
    code_of,
    explained,
    fast_store,
    is_absent,
    is_precondition,
    translated,
)

#: Called with the bytes moved since the last call; from several threads.
Progress = Callable[[int], None]
Options = Mapping[str, Any]
T = TypeVar("T")

PART = 16 << 20
SINGLE_LIMIT = 16 << 20  # larger objects go up in parts, and come down in ranges
PARTS_AT_ONCE = 6
OBJECTS_AT_ONCE = 16
_MAX_PARTS = 10_000
_BLOCK = 1 << 20
#: Of `put_options`, what the requests after CreateMultipartUpload need too.
_PART_OPTIONS = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "RequestPayer", "ExpectedBucketOwner")
#: Names that obstore sends exactly as they are; others (`//`, `..`, `%`, …) it refuses or normalises.
_PLAIN_KEY = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.=@-]+(?:/[A-Za-z0-9_.=@-]+)*")


@dataclass(frozen=True)
class Head:
    """What one HEAD (or GET) tells of an object."""

    etag: str
    size: int
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    encryption: str | None = None
    modified: datetime | None = None

    @property
    def commit(self) -> str | None:
        return self.metadata.get("superluigi-commit")

    @property
    def sha256(self) -> str | None:
        return self.metadata.get("superluigi-sha256")


@dataclass(frozen=True)
class Condition:
    """When a write may happen: only if nothing is there (`etag` None), or only over this ETag."""

    etag: str | None = None

    def headers(self) -> dict[str, str]:
        # Unquoted: AWS takes both, older Ceph only this.
        return {"IfNoneMatch": "*"} if self.etag is None else {"IfMatch": self.etag}


@dataclass(frozen=True)
class Put:
    """What the server said of a finished write."""

    etag: str
    version: str | None = None


@dataclass(frozen=True)
class Member:
    """One object of many: where it is locally, its key, what is known of its bytes."""

    key: str
    path: Path
    size: int
    etag: str | None = None
    sha256: str | None = None


def plain_etag(etag: str | None) -> str:
    return (etag or "").strip('"')


def head_of(answer: Mapping[str, Any]) -> Head:
    size = answer.get("ContentLength", 0)
    if "ContentRange" in answer:
        size = int(answer["ContentRange"].rpartition("/")[2])
    return Head(
        plain_etag(answer["ETag"]),
        size,
        version_of(answer),
        answer.get("Metadata", {}),
        answer.get("ServerSideEncryption") or answer.get("SSECustomerAlgorithm"),
        answer.get("LastModified"),
    )


def version_of(answer: Mapping[str, Any]) -> str | None:
    version = answer.get("VersionId")
    return None if version in (None, "null") else str(version)


# ---------------------------------------------------------------- looking


def head(s3: S3Client, bucket: str, key: str, options: Options) -> Head | None:
    """The object's head, or None if it is not there: one request.

    A HEAD cannot say whether the key or the bucket is missing. The first look into a bucket therefore
    asks for one byte instead, whose refusal has a body that tells.

    Raises:
        BucketMissingError, StorageAccessError, TransferError
    """
    uri = f"s3://{bucket}/{key}"
    with explained("look at", uri):
        try:
            if bucket not in s3.buckets:
                with contextlib.suppress(_EmptyObjectError):
                    return _first_look(s3, bucket, key, options)
            answer = s3.boto.head_object(Bucket=bucket, Key=key, **options)
        except Exception as error:  # told apart just below
            if is_absent(error):
                if code_of(error) == "NoSuchKey":
                    s3.buckets.add(bucket)
                return None
            raise
    s3.buckets.add(bucket)
    return head_of(answer)


class _EmptyObjectError(Exception):
    """There is no first byte."""


def _first_look(s3: S3Client, bucket: str, key: str, options: Options) -> Head:
    try:
        answer = s3.boto.get_object(Bucket=bucket, Key=key, **{**options, "Range": "bytes=0-0"})
    except s3.boto.exceptions.ClientError as error:
        if code_of(error) in ("InvalidRange", "416", "InvalidObjectState"):
            raise _EmptyObjectError from error
        raise
    with answer["Body"] as body:
        body.read()
    s3.buckets.add(bucket)
    return head_of(answer)


def listing(
    s3: S3Client, bucket: str, prefix: str, options: Options, *, pages: int | None = None, **more: Any
) -> Iterator[dict[str, Any]]:
    """Keys under `prefix` in order, with Size, ETag and LastModified: one request per 1,000, `pages` at most."""
    arguments = {"Bucket": bucket, "Prefix": prefix, **_list_options(options), **more}
    with explained("list", f"s3://{bucket}/{prefix}"):
        while pages is None or pages > 0:
            page = s3.boto.list_objects_v2(**arguments)
            s3.buckets.add(bucket)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            pages = None if pages is None else pages - 1
            arguments["ContinuationToken"] = page["NextContinuationToken"]


def _list_options(options: Options) -> dict[str, Any]:
    return {name: options[name] for name in ("RequestPayer", "ExpectedBucketOwner") if name in options}


# ---------------------------------------------------------------- one object up


class Upload:
    """One file on its way to one key: `send` moves what can be moved unseen, `publish` makes it visible."""

    def __init__(
        self,
        s3: S3Client,
        bucket: str,
        member: Member,
        metadata: Mapping[str, str],
        options: Options,
        progress: Progress | None,
    ) -> None:
        self.s3, self.bucket, self.member, self.progress = s3, bucket, member, progress
        self.options = {**options, "Metadata": {**options.get("Metadata", {}), **metadata}}
        self.upload_id: str | None = None
        self.parts: list[dict[str, Any]] = []
        self._body = b""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.member.key}"

    @property
    def in_parts(self) -> bool:
        return self.member.size > SINGLE_LIMIT

    def begin(self) -> str | None:
        """Open a multipart upload where one is needed; its id, so that the caller can note it down."""
        if self.in_parts:
            with explained("upload", self.uri):
                answer = self.s3.boto.create_multipart_upload(Bucket=self.bucket, Key=self.member.key, **self.options)
            self.upload_id = answer["UploadId"]
        return self.upload_id

    def send(self) -> str:
        """Send the parts; the ETag that the object will have if the server computes it as S3 does."""
        if not self.in_parts:
            self._body = self.member.path.read_bytes()
            return hashlib.md5(self._body, usedforsecurity=False).hexdigest()
        part = max(PART, -(-self.member.size // _MAX_PARTS))
        numbers = range(-(-self.member.size // part))
        with open(self.member.path, "rb", buffering=0) as file, explained("upload", self.uri):
            sent = in_threads(lambda number: self._send_part(file.fileno(), number, part), numbers, PARTS_AT_ONCE)
        self.parts = sorted(sent, key=lambda item: int(item["PartNumber"]))
        whole = hashlib.md5(usedforsecurity=False)
        for item in self.parts:
            with contextlib.suppress(ValueError):  # an ETag that is no MD5: then nothing can be foretold
                whole.update(bytes.fromhex(plain_etag(item["ETag"])))
        return f"{whole.hexdigest()}-{len(self.parts)}"

    def _send_part(self, descriptor: int, number: int, size: int) -> dict[str, Any]:
        body = os.pread(descriptor, size, number * size)
        answer = self.s3.boto.upload_part(
            Bucket=self.bucket, Key=self.member.key, UploadId=self.upload_id, PartNumber=number + 1, Body=body,
            ChecksumCRC32=base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
            **{name: value for name, value in self.options.items() if name in _PART_OPTIONS},
        )  # fmt: skip
        if self.progress:
            self.progress(len(body))
        return {"PartNumber": number + 1, "ETag": answer["ETag"]}

    def publish(self, condition: Condition | None) -> Put:
        """Make the object visible in one request.

        Raises:
            CommitConflictError: the server says that `condition` does not hold. A lost reply looks the
                same: the caller has to look whose object is there.
        """
        wanted = condition.headers() if condition else {}
        with explained("upload", self.uri):
            try:
                if self.in_parts:
                    answer = self.s3.boto.complete_multipart_upload(
                        Bucket=self.bucket, Key=self.member.key, UploadId=self.upload_id,
                        MultipartUpload={"Parts": self.parts}, **wanted,
                        **{name: value for name, value in self.options.items() if name in _PART_OPTIONS},
                    )  # fmt: skip
                else:
                    answer = self.s3.boto.put_object(
                        Bucket=self.bucket, Key=self.member.key, Body=self._body, **self.options, **wanted
                    )
            except self.s3.boto.exceptions.ClientError as error:
                if is_precondition(error) or (code_of(error) in ("NoSuchUpload", "NoSuchKey", "404")):
                    raise CommitConflictError(f"{self.uri}: the server answers {code_of(error)}.") from error
                raise
        if self.progress and not self.in_parts:
            self.progress(self.member.size)
        self.upload_id = None
        return Put(plain_etag(answer["ETag"]), version_of(answer))

    def abort(self) -> None:
        """Drop parts that were sent; nothing happens if there are none."""
        if self.upload_id is not None:
            with contextlib.suppress(Exception):  # best effort: the note of this process finds it again
                self.s3.boto.abort_multipart_upload(Bucket=self.bucket, Key=self.member.key, UploadId=self.upload_id)
            self.upload_id = None


def put_bytes(s3: S3Client, bucket: str, key: str, body: bytes, condition: Condition | None, options: Options) -> Put:
    """Write a small object.

    Raises:
        CommitConflictError: `condition` does not hold (or our own write won and its reply was lost).
    """
    wanted = condition.headers() if condition else {}
    with explained("write", f"s3://{bucket}/{key}"):
        try:
            answer = s3.boto.put_object(Bucket=bucket, Key=key, Body=body, **options, **wanted)
        except s3.boto.exceptions.ClientError as error:
            if is_precondition(error) or (condition and condition.etag and is_absent(error)):
                raise CommitConflictError(f"s3://{bucket}/{key}: the server answers {code_of(error)}.") from error
            raise
    s3.buckets.add(bucket)
    return Put(plain_etag(answer["ETag"]), version_of(answer))


def get_bytes(s3: S3Client, bucket: str, key: str, options: Options) -> tuple[bytes, Head] | None:
    """The whole of a small object with its head, or None if it is not there."""
    with explained("read", f"s3://{bucket}/{key}"):
        try:
            for attempt in range(3):
                answer = s3.boto.get_object(Bucket=bucket, Key=key, **options)
                s3.buckets.add(bucket)
                try:
                    return answer["Body"].read(), head_of(answer)
                except Exception:  # a body cut on its way: botocore does not ask again by itself
                    if attempt == 2:
                        raise
        except s3.boto.exceptions.ClientError as error:
            if not is_absent(error):
                raise
    return None


# ---------------------------------------------------------------- one object down


def download(s3: S3Client, bucket: str, member: Member, options: Options, progress: Progress | None = None) -> Head:
    """Fetch one object of exactly `member.etag` (any, if None) to `member.path`, and verify it.

    Raises:
        TargetMissingError: it is not there, or no longer with this ETag.
        TransferError: the bytes could not be moved, or arrived changed twice.
    """
    uri = f"s3://{bucket}/{member.key}"
    expected = None
    for _ in range(2):
        found = _download_once(s3, bucket, member, options, progress)
        expected = member.sha256 or found.sha256
        if expected is None or _sha256(member.path) == expected:
            return found
    raise TransferError(
        f"{uri} arrived changed twice: its SHA-256 is not the recorded {expected}. "
        "Check the network, or verify the object."
    )


def _download_once(s3: S3Client, bucket: str, member: Member, options: Options, progress: Progress | None) -> Head:
    uri = f"s3://{bucket}/{member.key}"
    wanted = {**options, **({"IfMatch": member.etag} if member.etag else {})}
    last: Exception | None = None
    broken: tuple[type[Exception], ...] = (_CutError, *_stream_errors())
    for _ in range(4):
        with explained("download", uri):
            try:
                ranged = {"Range": f"bytes=0-{PART - 1}"} if member.size > SINGLE_LIMIT or member.size < 0 else {}
                answer = s3.boto.get_object(Bucket=bucket, Key=member.key, **wanted, **ranged)
                s3.buckets.add(bucket)
                found = head_of(answer)
                with open(member.path, "wb", buffering=0) as file:
                    got = _stream(answer["Body"], file.fileno(), 0, progress)
                    if got < found.size:
                        if not ranged or got != PART:
                            raise _CutError(f"{got} of {found.size} bytes arrived")
                        _fetch_ranges(
                            s3, bucket, member.key, found, {**options, "IfMatch": found.etag}, file.fileno(), progress
                        )
                return found
            except s3.boto.exceptions.ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return _empty(s3, bucket, member, wanted)
                if is_absent(error) or is_precondition(error):
                    changed = (
                        "" if is_absent(error) else " in the version that was asked for: it was replaced meanwhile"
                    )
                    raise TargetMissingError(
                        f"{uri} does not exist{changed}. Run the task that makes it, or check the key."
                    ) from error
                raise
            except broken as error:
                last = error  # asks again: botocore does not, once the body has begun
    raise TransferError(f"Cannot download {uri}: the connection breaks again and again ({last}).") from last


def _empty(s3: S3Client, bucket: str, member: Member, options: Options) -> Head:
    member.path.write_bytes(b"")
    return head_of(s3.boto.head_object(Bucket=bucket, Key=member.key, **options))


class _CutError(Exception):
    """Fewer bytes arrived than were announced."""


def _stream_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import (  # type: ignore[import-untyped]
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    return (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, FlexibleChecksumError)


def _stream(body: Any, descriptor: int, offset: int, progress: Progress | None) -> int:
    total = 0
    with body:
        while block := body.read(_BLOCK):
            os.pwrite(descriptor, block, offset + total)
            total += len(block)
            if progress:
                progress(len(block))
    return total


def _fetch_ranges(
    s3: S3Client, bucket: str, key: str, found: Head, options: Options, descriptor: int, progress: Progress | None
) -> None:
    """Everything after the first part, several ranges at once, all of one version."""

    def fetch(start: int) -> None:
        end = min(start + PART, found.size)
        for attempt in range(4):
            answer = s3.boto.get_object(Bucket=bucket, Key=key, **options, Range=f"bytes={start}-{end - 1}")
            try:
                if _stream(answer["Body"], descriptor, start, progress) == end - start:
                    return
            except _stream_errors():
                if attempt == 3:
                    raise
        raise _CutError(f"the bytes from {start} to {end} did not all arrive")

    in_threads(fetch, range(PART, found.size, PART), PARTS_AT_ONCE)


def _sha256(path: Path) -> str:
    from superluigi.storage import atomic

    return atomic.sha256(path)


# ---------------------------------------------------------------- many objects


def upload_many(
    s3: S3Client,
    bucket: str,
    members: Sequence[Member],
    metadata: Mapping[str, str],
    options: Options,
    condition: Condition | None = None,
    progress: Progress | None = None,
) -> dict[str, Put]:
    """Put every member under its key; key -> what the server said.

    Raises:
        CommitConflictError: a key exists although `condition` says that none must.
    """
    store = None if set(options) - {"ContentType"} else fast_store(s3, bucket)

    def one(member: Member) -> tuple[str, Put]:
        put = None
        labels = {**metadata, **({"superluigi-sha256": member.sha256} if member.sha256 else {})}
        if store is not None and member.size <= SINGLE_LIMIT and _PLAIN_KEY.fullmatch(member.key):
            put = _fast_put(store, bucket, member, labels, options, condition)
            if put is not None and progress:
                progress(member.size)
        if put is None:
            put = _put_whole(s3, bucket, member, labels, options, condition, progress)
        return member.key, put

    at_once = OBJECTS_AT_ONCE if max((m.size for m in members), default=0) < PART // 4 else PARTS_AT_ONCE
    return dict(in_threads(one, members, at_once))


def _fast_put(
    store: Any, bucket: str, member: Member, labels: Mapping[str, str], options: Options, condition: Condition | None
) -> Put | None:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    attributes = {**labels, **({"Content-Type": options["ContentType"]} if "ContentType" in options else {})}
    mode: Any = "overwrite"
    if condition is not None:
        mode = "create" if condition.etag is None else {"e_tag": condition.etag}
    steps.step(f"put_object {bucket}/{member.key}")
    try:
        answer = obstore.put(
            store, member.key, member.path.read_bytes(), attributes=attributes, mode=mode, use_multipart=False
        )
    except (AlreadyExistsError, PreconditionError) as error:
        raise CommitConflictError(f"s3://{bucket}/{member.key} was written by somebody else.") from error
    except BaseError:
        return None  # boto3 tries again, and says what is wrong in its own words
    return Put(plain_etag(answer["e_tag"]), answer["version"] if answer["version"] != "null" else None)


def _put_whole(
    s3: S3Client, bucket: str, member: Member, labels: Mapping[str, str], options: Options,
    condition: Condition | None, progress: Progress | None,
) -> Put:  # fmt: skip
    upload = Upload(s3, bucket, member, labels, options, progress)
    try:
        upload.begin()
        upload.send()
        return upload.publish(condition)
    except CommitConflictError:
        found = head(s3, bucket, member.key, {})
        if found is not None and found.commit == labels.get("superluigi-commit"):
            return Put(found.etag, found.version)  # our own write won, its reply was lost
        raise
    finally:
        upload.abort()


def download_many(
    s3: S3Client, bucket: str, members: Sequence[Member], options: Options, progress: Progress | None = None
) -> None:
    """Fetch every member to its path, each of exactly its ETag, verified against its digest where known.

    Files arrive whole: each is written under a temporary name beside its path and renamed. Files that
    came before an error stay, so that the caller can go on from there.
    """
    store = None if options else fast_store(s3, bucket)
    for folder in {member.path.parent for member in members}:
        folder.mkdir(parents=True, exist_ok=True)

    def one(member: Member) -> None:
        part = member.path.with_name(f"{member.path.name[:200]}.part")
        fast = store is not None and 0 <= member.size <= SINGLE_LIMIT and _PLAIN_KEY.fullmatch(member.key)
        if not (fast and _fast_get(store, member, part)):
            download(s3, bucket, Member(member.key, part, member.size, member.etag, member.sha256), options, progress)
        elif progress:
            progress(member.size)
        os.replace(part, member.path)

    at_once = OBJECTS_AT_ONCE if max((m.size for m in members), default=0) < PART // 4 else PARTS_AT_ONCE
    in_threads(one, members, at_once)


def _fast_get(store: Any, member: Member, path: Path) -> bool:
    import obstore
    from obstore.exceptions import BaseError

    options = {"if_match": f'"{member.etag}"'} if member.etag else {}
    try:
        body = obstore.get(store, member.key, options=options).bytes()  # type: ignore[arg-type]
    except BaseError:
        return False  # boto3 tries again, and says what is wrong in its own words
    if member.sha256 is not None and hashlib.sha256(body).hexdigest() != member.sha256:
        return False
    with open(path, "wb", buffering=0) as file:
        file.write(body)
    return len(body) == member.size


def delete_many(s3: S3Client, bucket: str, keys: Iterable[str], options: Options) -> None:
    """Remove keys, 1,000 a request; those that are gone already do not matter."""
    doomed = list(keys)
    with explained("remove", f"s3://{bucket}/{doomed[0] if doomed else ''}"):
        if len(doomed) == 1:
            s3.boto.delete_object(Bucket=bucket, Key=doomed[0], **_list_options(options))
            return
        for start in range(0, len(doomed), 1000):
            batch = [{"Key": key} for key in doomed[start : start + 1000]]
            answer = s3.boto.delete_objects(
                Bucket=bucket, Delete={"Objects": batch, "Quiet": True}, **_list_options(options)
            )
            for failed in answer.get("Errors", ()):
                raise translated(_as_error(s3, failed), "remove", f"s3://{bucket}/{failed.get('Key')}")


def _as_error(s3: S3Client, failed: Mapping[str, Any]) -> Exception:
    answer = {"Error": {"Code": failed.get("Code", ""), "Message": failed.get("Message", "")}}
    error: Exception = s3.boto.exceptions.ClientError(answer, "DeleteObjects")
    return error


def copy_many(s3: S3Client, bucket: str, pairs: Sequence[tuple[str, str, int]], options: Options) -> dict[str, Put]:
    """Copy (source key, key, size) inside a bucket, on the server, metadata included; key -> result."""
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

    def one(pair: tuple[str, str, int]) -> tuple[str, Put]:
        source, key, size = pair
        origin = {"Bucket": bucket, "Key": source}
        with explained("copy", f"s3://{bucket}/{key}"):
            if size < 5 << 30:
                answer = s3.boto.copy_object(Bucket=bucket, Key=key, CopySource=origin, **options)
                return key, Put(plain_etag(answer["CopyObjectResult"]["ETag"]), version_of(answer))
            s3.boto.copy(
                origin, bucket, key, ExtraArgs=dict(options), Config=TransferConfig(multipart_chunksize=1 << 30)
            )
            found = head(s3, bucket, key, {})
            return key, Put(found.etag, found.version) if found else Put("")

    return dict(in_threads(one, pairs, OBJECTS_AT_ONCE))


def in_threads(work: Callable[[Any], T], items: Iterable[Any], at_once: int) -> list[T]:
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
            with turn:
                item = next(source, turn)
            if item is turn:
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

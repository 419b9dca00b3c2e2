"""Bytes from S3: one object whole or in ranges, or many at once; each compared with its digest where one is known.

Ranges of large objects and many small objects come through obstore where it can be used; whatever it cannot do,
or fails at, boto3 does again and explains. botocore does not ask again once a body has begun, nor does it verify
the checksum of a range: both happen here.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from superluigi.errors import TargetMissingError, TargetReplacedError, TransferError
from superluigi.storage.local import copy
from superluigi.storage.objects import crc32
from superluigi.storage.objects.s3 import transfer
from superluigi.storage.objects.s3.client import S3Client
from superluigi.storage.objects.s3.obstore_engine import FastStore, fast_store
from superluigi.storage.objects.s3.s3_errors import code_of, explained, is_absent, is_precondition
from superluigi.storage.objects.s3.transfer import PARTS_AT_ONCE, PLAIN_KEY, head_of
from superluigi.storage.objects.store import OBJECTS_AT_ONCE, Head, ObjectEntry, Options, Progress, in_threads

_BLOCK = 256 << 10  # larger ones come from fresh memory each time, which costs more than the calls saved
_ATTEMPTS = 4
_RANGE = 8 << 20


def download(
    s3: S3Client, bucket: str, member: ObjectEntry, options: Options, progress: Progress | None = None
) -> Head:
    """Fetch one object of exactly `member.etag` (any, if None) to `member.path`, and verify it.

    Raises:
        TargetMissingError: it is not there, or no longer with this ETag.
        TransferError: the bytes could not be moved, or arrived changed twice.
    """
    uri = f"s3://{bucket}/{member.key}"
    for _ in range(2):
        if member.etag and member.size > transfer.SINGLE_LIMIT:
            found, right = _in_ranges(s3, bucket, member, options, progress)
        else:
            found, right = _whole(s3, bucket, member, options, progress)
        if right:
            return found
    raise TransferError(
        f"{uri} arrived changed twice: its checksum is not the recorded one. Check the network, or verify the object."
    )


def blocks(s3: S3Client, bucket: str, key: str, options: Options) -> Iterator[bytes]:
    """The bytes of an object as they come.

    Raises:
        TargetMissingError: it is not there.
    """
    uri = f"s3://{bucket}/{key}"
    with explained("read", uri):
        try:
            answer = s3.boto.get_object(Bucket=bucket, Key=key, **options)
        except s3.boto.exceptions.ClientError as error:
            if (missing := _missing(uri, error)) is None:
                raise
            raise missing from error
        yield from answer["Body"].iter_chunks(1 << 20)


# ---------------------------------------------------------------- whole


def _whole(
    s3: S3Client, bucket: str, member: ObjectEntry, options: Options, progress: Progress | None
) -> tuple[Head, bool]:
    wanted = {**options, **({"IfMatch": member.etag} if member.etag else {})}
    uri = f"s3://{bucket}/{member.key}"
    last: Exception | None = None
    broken = _broken()
    for _ in range(_ATTEMPTS):
        with explained("download", uri):
            try:
                answer = s3.boto.get_object(Bucket=bucket, Key=member.key, **wanted)
                s3.buckets.add(bucket)
                found, digest = head_of(answer), hashlib.sha256()
                with open(member.path, "wb", buffering=0) as file:
                    if _stream(answer["Body"], file.fileno(), 0, progress, digest) == found.size:
                        return found, (member.sha256 or found.sha256) in (None, digest.hexdigest())
            except s3.boto.exceptions.ClientError as error:
                if (missing := _missing(uri, error)) is None:
                    raise
                raise missing from error
            except broken as error:
                last = error
    raise _given_up(uri, last)


def _stream(body: Any, descriptor: int, offset: int, progress: Progress | None, digest: Any = None) -> int:
    total = 0
    with body:
        while block := body.read(_BLOCK):
            total += _write_all(descriptor, block, offset + total)
            if digest is not None:
                digest.update(block)
            if progress:
                progress(len(block))
    return total


def _write_all(descriptor: int, block: bytes, offset: int) -> int:
    """Write a whole block, and give its length: one call may write less, as when the disk is about to be full."""
    view, length = memoryview(block), len(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    return length


# ---------------------------------------------------------------- in ranges


def _in_ranges(
    s3: S3Client, bucket: str, member: ObjectEntry, options: Options, progress: Progress | None
) -> tuple[Head, bool]:
    """Several ranges at once, all of the one version; each is checked while it arrives, where a CRC-32 is known."""
    part, uri = min(transfer.PART, _RANGE), f"s3://{bucket}/{member.key}"
    wanted = {**options, "IfMatch": member.etag}
    store = None if options or not PLAIN_KEY.fullmatch(member.key) else fast_store(s3, bucket)
    with open(member.path, "wb", buffering=0) as file, explained("download", uri):

        def fetch(start: int) -> tuple[int, int]:
            end = min(start + part, member.size)
            if (crc := _fast_range(store, member, file.fileno(), start, end)) is None:
                crc = _range(s3, bucket, member.key, wanted, file.fileno(), start, end)
            if progress:
                progress(end - start)
            return start, crc

        try:
            arrived = in_threads(fetch, range(0, member.size, part), PARTS_AT_ONCE)
        except s3.boto.exceptions.ClientError as error:
            if (missing := _missing(uri, error)) is None:
                raise
            raise missing from error
        except _broken() as error:
            raise _given_up(uri, error) from error
    known = {"superluigi-sha256": member.sha256, "superluigi-crc32": member.crc32}
    found = Head(member.etag or "", member.size, metadata={name: text for name, text in known.items() if text})
    if member.crc32 is not None:
        whole = crc32.combined((crc for _, crc in sorted(arrived)), member.size, part)
        return found, crc32.text(whole) == member.crc32
    return found, member.sha256 in (None, copy.sha256(Path(member.path)))


def _fast_range(store: FastStore | None, member: ObjectEntry, descriptor: int, start: int, end: int) -> int | None:
    """Fetch and write one range; its CRC-32, or None where boto3 has to do it (again)."""
    if store is None:
        return None
    import obstore

    def work() -> int | None:
        crc, position = 0, start
        answer = obstore.get(store.store, member.key, options={"range": (start, end), "if_match": member.etag})
        # Written block by block: collected first, every byte would be copied once more, into fresh memory.
        for block in answer.stream(min_chunk_size=_BLOCK):
            position += _write_all(descriptor, block, position)
            crc = zlib.crc32(block, crc)
        return crc if position == end else None

    return store.attempt(work)


def _range(s3: S3Client, bucket: str, key: str, options: Options, descriptor: int, start: int, end: int) -> int:
    broken = _broken()
    for attempt in range(_ATTEMPTS):
        answer = s3.boto.get_object(Bucket=bucket, Key=key, **options, Range=f"bytes={start}-{end - 1}")
        crc, position = 0, start
        try:
            with answer["Body"] as stream:
                while block := stream.read(_BLOCK):
                    position += _write_all(descriptor, block, position)
                    crc = zlib.crc32(block, crc)
            if position == end:
                return crc
        except broken:
            if attempt == _ATTEMPTS - 1:
                raise
    raise _CutError(f"the bytes from {start} to {end} did not all arrive")


# ---------------------------------------------------------------- many


def download_many(
    s3: S3Client, bucket: str, members: Sequence[ObjectEntry], options: Options, progress: Progress | None = None
) -> None:
    """Fetch every member to its path, each of exactly its ETag, verified against its digest where known.

    A file of the right size is a whole one: large ones are written under a temporary name and renamed, small ones by
    one call. Files that came before an error stay, so that the caller can go on from there.
    """
    store = None if options else fast_store(s3, bucket)
    for folder in {os.path.dirname(member.path) for member in members}:
        os.makedirs(folder, exist_ok=True)

    def one(member: ObjectEntry) -> None:
        if (
            store is not None
            and member.size <= transfer.SINGLE_LIMIT
            and PLAIN_KEY.fullmatch(member.key)
            and _fast_get(store, member)
        ):
            if progress:
                progress(member.size)
            return
        folder, name = os.path.split(member.path)
        part = f"{folder}/{name[:200]}.part"
        download(s3, bucket, replace(member, path=part), options, progress)
        os.replace(part, member.path)

    largest = max((member.size for member in members), default=0)
    in_threads(one, members, OBJECTS_AT_ONCE if largest < transfer.PART // 4 else PARTS_AT_ONCE)


def _fast_get(store: FastStore, member: ObjectEntry) -> bool:
    """Fetch and write one small object; False where boto3 has to do it (again)."""
    import obstore

    def work() -> Any:
        if member.sha256 is not None and member.size > 1:
            # One step where `get` and `bytes` are two; the digest below says more than If-Match would.
            return obstore.get_range(store.store, member.key, start=0, end=member.size)
        return obstore.get(store.store, member.key, options={"if_match": member.etag} if member.etag else {}).bytes()

    body = store.attempt(work)
    if body is None or len(body) != member.size or member.sha256 not in (None, hashlib.sha256(body).hexdigest()):
        return False
    _write_new(member.path, body)
    return True


def _write_new(path: str | Path, body: Any) -> None:
    """Make a file by one call that writes; what a killed process has left of it is shorter, and goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # never into a file that is linked elsewhere
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        os.unlink(path)
        descriptor = os.open(path, flags, 0o666)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- errors


class _CutError(Exception):
    """Fewer bytes arrived than were announced."""


def _broken() -> tuple[type[Exception], ...]:
    """What a connection that breaks in the middle of a body raises."""
    from botocore.exceptions import (  # type: ignore[import-untyped]
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    return (_CutError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError, FlexibleChecksumError)


def _missing(uri: str, error: Exception) -> TargetMissingError | None:
    """Our error where the object is not there (any more); None where something else is wrong."""
    if (not is_absent(error) and not is_precondition(error)) or code_of(error) == "NoSuchBucket":
        return None
    if is_absent(error):
        return TargetMissingError(f"{uri} does not exist. Run the task that makes it, or check the key.")
    return TargetReplacedError(
        f"{uri} does not exist in the version that was asked for: it was replaced meanwhile. Run the task that makes "
        "it, or check the key."
    )


def _given_up(uri: str, error: Exception | None) -> TransferError:
    return TransferError(
        f"Cannot download {uri}: the connection breaks again and again ({error}). Check the network, then run again."
    )

"""Bytes to S3: one object whole or in parts, or many at once.

Many small objects go through obstore where it can be used, single objects and everything special through
boto3 (docs/decisions/s3/ has the figures). Every upload carries a checksum that the server verifies.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from superluigi.errors import CommitConflictError, TransferError
from superluigi.storage import failpoints
from superluigi.storage.local.copy import read_file
from superluigi.storage.objects.s3 import transfer
from superluigi.storage.objects.s3.client import S3Client
from superluigi.storage.objects.s3.obstore_engine import FastStore, fast_store
from superluigi.storage.objects.s3.s3_errors import code_of, explained, is_precondition
from superluigi.storage.objects.s3.transfer import (
    PARTS_AT_ONCE,
    PLAIN_KEY,
    checksum,
    head,
    headers_of,
    plain_etag,
    strong,
    version_of,
)
from superluigi.storage.objects.store import (
    OBJECTS_AT_ONCE,
    ObjectEntry,
    Options,
    Progress,
    PutResult,
    WriteCondition,
    in_threads,
)

_MAX_PARTS = 10_000
#: Of `put_options`, what the requests after CreateMultipartUpload need too.
_PART_OPTIONS = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "RequestPayer", "ExpectedBucketOwner")


def part_size(size: int) -> int:
    """How large the parts of an object are."""
    return max(transfer.PART, -(-size // _MAX_PARTS))


class S3Upload:
    """One file on its way to one key: `send` moves what can be moved unseen, `publish` makes it visible.

    `pieces` are the CRC-32 of its parts where they are known already.
    """

    def __init__(
        self, s3: S3Client, bucket: str, member: ObjectEntry, metadata: Mapping[str, str], options: Options,
        progress: Progress | None, pieces: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.pieces = pieces
        self.s3, self.bucket, self.member, self.progress = s3, bucket, member, progress
        self.options = {**options, "Metadata": {**options.get("Metadata", {}), **metadata}}
        self.upload_id: str | None = None
        self.parts: list[dict[str, Any]] = []
        self._body = b""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.member.key}"

    @property
    def _more(self) -> dict[str, object]:
        return {name: value for name, value in self.options.items() if name in _PART_OPTIONS}

    @property
    def in_parts(self) -> bool:
        return self.member.size > transfer.SINGLE_LIMIT

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
            self._body = read_file(self.member.path)
            return hashlib.md5(self._body, usedforsecurity=False).hexdigest()
        part = part_size(self.member.size)
        numbers = range(-(-self.member.size // part))
        with open(self.member.path, "rb", buffering=0) as file, explained("upload", self.uri):
            sent = in_threads(lambda number: self._send_part(file.fileno(), number, part), numbers, PARTS_AT_ONCE)
        self.parts = sorted(sent, key=lambda item: int(item["PartNumber"]))
        whole = hashlib.md5(usedforsecurity=False)
        for item in self.parts:
            with contextlib.suppress(ValueError):  # an ETag that is no MD5: then nothing can be foretold
                whole.update(bytes.fromhex(plain_etag(item["ETag"])))
        return f"{whole.hexdigest()}-{len(self.parts)}"

    def _send_part(self, descriptor: int, number: int, size: int) -> dict[str, object]:
        body = os.pread(descriptor, size, number * size)
        sums = _part_checksum(self.s3, body, self.pieces[number] if self.pieces else None)
        answer = self.s3.parts.upload_part(
            Bucket=self.bucket, Key=self.member.key, UploadId=self.upload_id, PartNumber=number + 1, Body=body,
            **sums, **self._more,
        )  # fmt: skip
        if _is_other(answer, sums):
            raise TransferError(
                f"A part of {self.uri} arrived changed, and its server did not mind. Check the network, then run again."
            )
        if self.progress:
            self.progress(len(body))
        return {"PartNumber": number + 1, "ETag": strong(answer["ETag"])}

    def publish(self, condition: WriteCondition | None) -> PutResult:
        """Make the object visible in one request.

        Raises:
            CommitConflictError: the server says that `condition` does not hold. A lost reply looks the
                same: the caller has to look whose object is there.
        """
        wanted = headers_of(condition)
        with explained("upload", self.uri):
            try:
                if self.in_parts:
                    answer = self.s3.boto.complete_multipart_upload(
                        Bucket=self.bucket, Key=self.member.key, UploadId=self.upload_id,
                        MultipartUpload={"Parts": self.parts}, **wanted,
                        **self._more,
                    )  # fmt: skip
                else:
                    answer = self.s3.boto.put_object(
                        Bucket=self.bucket, Key=self.member.key, Body=self._body,
                        **checksum(self.s3, self._body), **self.options, **wanted,
                    )  # fmt: skip
            except self.s3.boto.exceptions.ClientError as error:
                if is_precondition(error) or (code_of(error) in ("NoSuchUpload", "NoSuchKey", "404")):
                    raise CommitConflictError(f"{self.uri}: the server answers {code_of(error)}.") from error
                raise
        if self.progress and not self.in_parts:
            self.progress(self.member.size)
        self.upload_id = None
        etag = plain_etag(answer.get("ETag"))
        if not etag:  # Ceph 16 does not say which one a completed upload has got
            found = head(self.s3, self.bucket, self.member.key, self._more)
            if found is None or found.commit != self.options["Metadata"].get("superluigi-commit"):
                raise CommitConflictError(f"{self.uri} was replaced as soon as it was written.")
            return PutResult(found.etag, found.version)
        return PutResult(etag, version_of(answer))

    def abort(self) -> bool:
        """Drop parts that were sent; nothing happens if there are none. False if they may still be there."""
        if self.upload_id is not None:
            try:
                transfer.abort_upload(self.s3, self.bucket, self.member.key, self.upload_id)
            except Exception:  # noqa: BLE001  # best effort: the note of this process finds it again
                return False
            self.upload_id = None
        return True


def _part_checksum(s3: S3Client, body: bytes, crc: int | None) -> dict[str, str]:
    """A CRC32 where it is known to be verified, which costs a fraction of the MD5 that every server knows."""
    if s3.verifies_crc32:
        found = zlib.crc32(body) if crc is None else crc
        return {"ChecksumCRC32": base64.b64encode(found.to_bytes(4, "big")).decode()}
    return checksum(s3, body)


def _is_other(answer: Mapping[str, Any], sums: Mapping[str, str]) -> bool:
    """Whether a part's ETag, if it is an MD5, is that of other bytes: some servers verify nothing (moto)."""
    etag = plain_etag(answer.get("ETag"))
    is_md5 = re.fullmatch("[0-9a-f]{32}", etag) and not answer.keys() & {"ServerSideEncryption", "SSECustomerAlgorithm"}
    return bool(is_md5 and "ContentMD5" in sums and base64.b64decode(sums["ContentMD5"]).hex() != etag)


def upload_many(
    s3: S3Client, bucket: str, members: Sequence[ObjectEntry], metadata: Mapping[str, str], options: Options,
    condition: WriteCondition | None = None, progress: Progress | None = None,
) -> dict[str, PutResult]:  # fmt: skip
    """Put every member under its key; key -> what the server said.

    Raises:
        CommitConflictError: a key exists although `condition` says that none must.
    """
    store = None if set(options) - {"ContentType"} else fast_store(s3, bucket)

    def one(member: ObjectEntry) -> tuple[str, PutResult]:
        put = None
        labels = {**metadata, **({"superluigi-sha256": member.sha256} if member.sha256 else {})}
        if store is not None and member.size <= transfer.SINGLE_LIMIT and PLAIN_KEY.fullmatch(member.key):
            put = _fast_put(store, bucket, member, labels, options, condition)
            if put is not None and progress:
                progress(member.size)
        if put is None:
            put = _put_whole(s3, bucket, member, labels, options, condition, progress)
        return member.key, put

    at_once = OBJECTS_AT_ONCE if max((m.size for m in members), default=0) < transfer.PART // 4 else PARTS_AT_ONCE
    return dict(in_threads(one, members, at_once))


def _fast_put(
    store: FastStore, bucket: str, member: ObjectEntry, labels: Mapping[str, str], options: Options,
    condition: WriteCondition | None,
) -> PutResult | None:  # fmt: skip
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    attributes = {**labels, **({"Content-Type": options["ContentType"]} if "ContentType" in options else {})}
    mode: Any = "overwrite"
    if condition is not None:
        mode = "create" if condition.etag is None else {"e_tag": condition.etag}
    failpoints.failpoint(f"put_object {bucket}/{member.key}")
    body = read_file(member.path)
    try:
        answer = store.attempt(
            lambda: obstore.put(store.store, member.key, body, attributes=attributes, mode=mode, use_multipart=False),
            conditional=condition is not None,
        )
    except (AlreadyExistsError, PreconditionError) as error:
        raise CommitConflictError(f"s3://{bucket}/{member.key} was written by another writer.") from error
    if answer is None:
        return None  # boto3 tries again, and says what is wrong in its own words
    return PutResult(plain_etag(answer["e_tag"]), answer["version"] if answer["version"] != "null" else None)


def _put_whole(
    s3: S3Client, bucket: str, member: ObjectEntry, labels: Mapping[str, str], options: Options,
    condition: WriteCondition | None, progress: Progress | None,
) -> PutResult:  # fmt: skip
    upload = S3Upload(s3, bucket, member, labels, options, progress)
    try:
        upload.begin()
        upload.send()
        return upload.publish(condition)
    except CommitConflictError:
        found = head(s3, bucket, member.key, {})
        if found is not None and found.commit == labels.get("superluigi-commit"):
            return PutResult(found.etag, found.version)  # our own write won, its reply was lost
        raise
    finally:
        upload.abort()

"""What moving bytes to and from S3 has in common: looking, listing, small objects, many at once.

`upload` and `download` move the rest. Memory and connections are bounded by the constants below.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from superluigi.errors import CommitConflictError, TargetMissingError
from superluigi.storage.objects.s3.client import S3Client, in_utc, keys_only
from superluigi.storage.objects.s3.s3_errors import code_of, explained, is_absent, is_precondition, translated
from superluigi.storage.objects.store import (
    OBJECTS_AT_ONCE,
    Head,
    ListedObject,
    Options,
    PendingUpload,
    PutResult,
    WriteCondition,
    in_threads,
)

PART = 16 << 20
SINGLE_LIMIT = 16 << 20  # larger objects go up in parts, and come down in ranges
COPIED_AT_ONCE = 5 << 30  # larger objects are copied in parts, by the server too
PARTS_AT_ONCE = 6
_REFUSALS = 4
#: Names that obstore sends exactly as they are; others (`//`, `..`, `%`, …) it refuses or normalises.
PLAIN_KEY = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.=@-]+(?:/[A-Za-z0-9_.=@-]+)*")


def headers_of(condition: WriteCondition | None) -> dict[str, str]:
    if condition is None:
        return {}
    # Unquoted: AWS takes both, older Ceph only this.
    return {"IfNoneMatch": "*"} if condition.etag is None else {"IfMatch": condition.etag}


def strong(etag: str) -> str:
    """Without the `W/` of a proxy that may pack what it passes on: no condition on a weak ETag ever holds."""
    return etag.removeprefix("W/")


def plain_etag(etag: str | None) -> str:
    return strong(etag or "").strip('"')


def head_of(answer: Mapping[str, Any]) -> Head:
    size = answer.get("ContentLength", 0)
    if "ContentRange" in answer:
        size = int(answer["ContentRange"].rpartition("/")[2])
    return Head(
        plain_etag(answer["ETag"]),
        size,
        version_of(answer),
        {name.lower(): value for name, value in answer.get("Metadata", {}).items()},  # Go servers send `Superluigi-Run`
        answer.get("ServerSideEncryption") or answer.get("SSECustomerAlgorithm"),
        in_utc(answer["LastModified"]) if "LastModified" in answer else None,
    )


def version_of(answer: Mapping[str, object]) -> str | None:
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
            if bucket not in s3.buckets and (found := _first_look(s3, bucket, key, options)):
                return found
            try:
                answer = s3.boto.head_object(Bucket=bucket, Key=key, **options)
            except s3.boto.exceptions.ClientError as error:
                # Of an expired session, say: an answer to HEAD has no body that tells.
                if code_of(error) not in ("400", "403") or not (found := _first_look(s3, bucket, key, options)):
                    raise
                return found
        except Exception as error:  # told apart just below
            if is_absent(error):
                if code_of(error) == "NoSuchKey":
                    s3.buckets.add(bucket)
                return None
            raise
    s3.buckets.add(bucket)
    return head_of(answer)


def _first_look(s3: S3Client, bucket: str, key: str, options: Options) -> Head | None:
    """The object's head; None where there is no first byte."""
    try:
        answer = s3.boto.get_object(Bucket=bucket, Key=key, **{**options, "Range": "bytes=0-0"})
    except s3.boto.exceptions.ClientError as error:
        if code_of(error) in ("InvalidRange", "416", "InvalidObjectState"):
            return None
        raise
    with answer["Body"] as body:
        body.read()
    s3.buckets.add(bucket)
    return head_of(answer)


def listing(
    s3: S3Client, bucket: str, prefix: str, options: Options, *, pages: int | None = None, names_only: bool = False,
    **more: object,
) -> Iterator[ListedObject]:  # fmt: skip
    """What is under `prefix`, in the order of the server: one request per 1,000 keys, `pages` at most."""
    arguments = {"Bucket": bucket, "Prefix": prefix, **_list_options(options), **more}
    with explained("list", f"s3://{bucket}/{prefix}"):
        while pages is None or pages > 0:
            with keys_only() if names_only else contextlib.nullcontext():
                page = s3.boto.list_objects_v2(**arguments)
            s3.buckets.add(bucket)
            if names_only:
                yield from (ListedObject(item["Key"]) for item in page.get("Contents", ()))
            else:
                yield from map(_listed, page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            pages = None if pages is None else pages - 1
            arguments["ContinuationToken"] = page["NextContinuationToken"]


def _listed(item: Mapping[str, Any]) -> ListedObject:
    return ListedObject(item["Key"], item["Size"], plain_etag(item["ETag"]), in_utc(item["LastModified"]))


def _list_options(options: Options) -> dict[str, object]:
    return {name: options[name] for name in ("RequestPayer", "ExpectedBucketOwner") if name in options}


# ---------------------------------------------------------------- small objects, whole


def checksum(s3: S3Client, body: bytes) -> dict[str, str]:
    """What makes a server verify a body: on AWS botocore's CRC32, elsewhere the MD5 that every server knows."""
    if s3.is_aws:
        return {}
    return {"ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}


def put_bytes(
    s3: S3Client, bucket: str, key: str, body: bytes, condition: WriteCondition | None, options: Options
) -> PutResult:
    """Write a small object.

    Raises:
        CommitConflictError: `condition` does not hold (or our own write won and its reply was lost).
    """
    wanted = headers_of(condition)
    with explained("write", f"s3://{bucket}/{key}"):
        try:
            more = {**checksum(s3, body), **options, **wanted}
            answer = _settled(s3, lambda: s3.boto.put_object(Bucket=bucket, Key=key, Body=body, **more))
        except s3.boto.exceptions.ClientError as error:
            if is_precondition(error) or (condition and condition.etag and is_absent(error)):
                raise CommitConflictError(f"s3://{bucket}/{key}: the server answers {code_of(error)}.") from error
            raise
    s3.buckets.add(bucket)
    return PutResult(plain_etag(answer["ETag"]), version_of(answer))


def _settled(s3: S3Client, request: Callable[[], Any]) -> Any:
    """The answer to a request with a condition, once no other one for its key is under way: S3 says 409 meanwhile."""
    for attempt in range(_REFUSALS):
        try:
            return request()
        except s3.boto.exceptions.ClientError as error:
            if code_of(error) not in ("409", "ConditionalRequestConflict", "OperationAborted"):
                raise
            time.sleep(random.uniform(0, 0.1) * attempt)
    return request()


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


# ---------------------------------------------------------------- many at once


def delete_many(s3: S3Client, bucket: str, keys: Iterable[str], options: Options) -> None:
    """Remove keys, 1,000 a request; those that are gone already do not matter."""
    doomed = list(keys)
    more = _list_options(options)
    with explained("remove", f"s3://{bucket}/{doomed[0] if doomed else ''}"):
        if len(doomed) == 1:
            s3.boto.delete_object(Bucket=bucket, Key=doomed[0], **more)
            return
        for start in range(0, len(doomed), 1000):
            batch = doomed[start : start + 1000]
            try:
                wanted = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
                answer = s3.boto.delete_objects(Bucket=bucket, Delete=wanted, **more)
            except s3.boto.exceptions.ClientError as error:
                if error.response["ResponseMetadata"].get("HTTPStatusCode") not in (400, 405, 501):
                    raise
                in_threads(lambda key: s3.boto.delete_object(Bucket=bucket, Key=key, **more), batch, OBJECTS_AT_ONCE)
                continue  # a server that cannot remove many at once, or asks for a checksum of its own
            for failed in answer.get("Errors", ()):
                raise translated(_as_error(s3, failed), "remove", f"s3://{bucket}/{failed.get('Key')}")


def _as_error(s3: S3Client, failed: Mapping[str, object]) -> Exception:
    answer = {"Error": {"Code": failed.get("Code", ""), "Message": failed.get("Message", "")}}
    error: Exception = s3.boto.exceptions.ClientError(answer, "DeleteObjects")
    return error


def delete_if(s3: S3Client, bucket: str, key: str, etag: str, options: Options) -> None:
    """Remove a key if it still has this ETag; nothing happens if it is gone.

    A server that knows no conditional deletes is asked before, which leaves a gap of one request.

    Raises:
        CommitConflictError: something else is there now.
    """
    where = {"Bucket": bucket, "Key": key, **_list_options(options)}
    uri = f"s3://{bucket}/{key}"
    with explained("remove", uri):
        try:
            _settled(s3, lambda: s3.boto.delete_object(**where, IfMatch=etag))
        except s3.boto.exceptions.ClientError as error:
            if is_absent(error):
                return
            if is_precondition(error):
                raise CommitConflictError(f"{uri} changed.") from error
            if error.response["ResponseMetadata"].get("HTTPStatusCode") not in (400, 501):
                raise
            there = head(s3, bucket, key, options)
            if there is not None and there.etag != etag:
                raise CommitConflictError(f"{uri} changed.") from error
            s3.boto.delete_object(**where)


def copy_many(
    s3: S3Client, bucket: str, pairs: Sequence[tuple[str, str, int]], options: Options,
    source_bucket: str | None = None,
) -> dict[str, PutResult]:  # fmt: skip
    """Copy (source key, key, size) on the server, with metadata, into a bucket, from it or another; key -> result.

    Raises:
        TargetMissingError: a source is not there.
    """
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

    def one(pair: tuple[str, str, int]) -> tuple[str, PutResult]:
        source, key, size = pair
        origin = {"Bucket": source_bucket or bucket, "Key": source}
        with explained("copy", f"s3://{bucket}/{key}"):
            try:
                if size < COPIED_AT_ONCE:
                    answer = s3.boto.copy_object(Bucket=bucket, Key=key, CopySource=origin, **options)
                    return key, PutResult(plain_etag(answer["CopyObjectResult"]["ETag"]), version_of(answer))
                metadata = s3.boto.head_object(**origin)["Metadata"]  # a copy in parts does not bring it by itself
                extra = {"Metadata": metadata, **options}
                s3.boto.copy(origin, bucket, key, ExtraArgs=extra, Config=TransferConfig(multipart_chunksize=1 << 30))
            except s3.boto.exceptions.ClientError as error:
                if is_absent(error):
                    raise TargetMissingError(f"s3://{origin['Bucket']}/{source} is not there to be copied.") from error
                raise
            found = head(s3, bucket, key, {})
            return key, PutResult(found.etag, found.version) if found else PutResult("")

    return dict(in_threads(one, pairs, OBJECTS_AT_ONCE))


# ---------------------------------------------------------------- versions, and uploads in parts


def delete_versions(s3: S3Client, bucket: str, key: str) -> None:
    """Remove a key, with all its versions where there are any."""
    where = {"Bucket": bucket, "Key": key}
    if "VersionId" not in s3.boto.delete_object(**where):
        return
    found = s3.boto.list_object_versions(Bucket=bucket, Prefix=key)
    for item in (*found.get("Versions", ()), *found.get("DeleteMarkers", ())):
        s3.boto.delete_object(**where, VersionId=item["VersionId"])


def uploads(s3: S3Client, bucket: str, prefix: str) -> Iterator[PendingUpload]:
    """Multipart uploads that were begun and not finished."""
    with explained("list", f"s3://{bucket}/{prefix}"):
        try:
            for page in s3.boto.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Uploads", ()):
                    yield PendingUpload(item["Key"], item["UploadId"], in_utc(item["Initiated"]))
        except s3.boto.exceptions.ClientError as error:
            if code_of(error) not in ("NoSuchUpload", "NotImplemented"):  # some servers say so when there is none
                raise


def last_part(s3: S3Client, bucket: str, upload: PendingUpload) -> datetime:
    """When the last part of an upload came, or when it was begun."""
    where = {"Bucket": bucket, "Key": upload.key, "UploadId": upload.upload_id}
    newest = upload.initiated
    with explained("look at", f"s3://{bucket}/{upload.key}"):
        try:
            for page in s3.boto.get_paginator("list_parts").paginate(**where):
                newest = max([newest, *(in_utc(part["LastModified"]) for part in page.get("Parts", ()))])
        except s3.boto.exceptions.ClientError as error:
            if not is_absent(error):
                raise
    return newest


def abort_upload(s3: S3Client, bucket: str, key: str, upload_id: str) -> None:
    """Drop the parts of a multipart upload; nothing happens if it is finished or gone."""
    try:
        s3.boto.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except s3.boto.exceptions.ClientError as error:
        if not is_absent(error):
            raise

"""Which conditional writes a server honours: known for good ones, tried out once a day for the others.

A condition that is sent and ignored is worse than none: two writers would both believe that they won.
What was found is kept in `<local root>/.superluigi/servers/`, for all processes of this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from superluigi.storage import owner_token, small_files
from superluigi.storage.base import parsed
from superluigi.storage.cache import files
from superluigi.storage.local import atomic
from superluigi.storage.local.stages import staging
from superluigi.storage.objects.intent_log import MARK, IntentLog
from superluigi.storage.objects.s3 import transfer
from superluigi.storage.objects.s3.client import S3Client
from superluigi.storage.objects.s3.s3_errors import explained, is_precondition
from superluigi.storage.objects.store import ConditionalWrites


def conditional_writes(s3: S3Client, bucket: str, key: str, root: Path) -> ConditionalWrites:
    """What the server of `s3` honours in `bucket`; tries it out near `key` if that was not done lately on this machine.

    A bucket each: Ceph 16 minds conditions, but none of them in buckets with versions.
    """
    if s3.is_known:
        return ConditionalWrites()
    # By the server's name too: another one may listen at this address since, an upgraded one or just another.
    facts = json.dumps([s3.namespace, bucket, s3.server])
    name = f"{s3.namespace}_{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    known, until = _known.get(name, (None, 0.0))
    if known is None or not _is_fresh(until):
        file = root / staging.STAGING / "servers" / f"{name}.json"
        known, until = _stored(file)
        if known is None:
            known, until = _try_out(s3, bucket, key.rpartition("/")[0], root), time.time() + _KEPT_SECONDS
            with contextlib.suppress(OSError):  # then the next process tries again
                staging.ensure_folder(file.parent)
                new = file.with_name(f"{file.name}.{owner_token.token()}")
                new.write_text(json.dumps({**dataclasses.asdict(known), "until": until}))
                atomic.replace(new, file)
        _known[name] = known, until
    return known


#: Servers are upgraded, and versions switched on.
_KEPT_SECONDS = 24 * 3600
_known: dict[str, tuple[ConditionalWrites, float]] = {}


def _is_fresh(until: float) -> bool:
    """Whether that time is to come, and was not told by a clock that has been put back since."""
    return 0 < until - time.time() <= _KEPT_SECONDS


def _stored(file: Path) -> tuple[ConditionalWrites | None, float]:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        text, status = small_files.read_with_status(file)
        if not files.is_trusted(status):
            return None, 0.0  # in a shared folder others may write what they like
        stored = parsed(text)
        if _is_fresh(until := stored.pop("until")):
            return ConditionalWrites(**stored), until
    return None, 0.0


def _try_out(s3: S3Client, bucket: str, folder: str, root: Path) -> ConditionalWrites:
    folder_here = staging.staging_folder(root)  # with a note, so that the key goes even if this process dies
    where = {"Bucket": bucket, "Key": f"{folder}/{MARK}{folder_here.name}".lstrip("/")}
    IntentLog(folder_here, s3.namespace).add("delete", bucket=bucket, key=where["Key"])
    with explained("write", f"s3://{bucket}/{folder}"):
        try:
            etag = transfer.plain_etag(s3.boto.put_object(**where, Body=b"1")["ETag"])
            create = _refused(s3, lambda: s3.boto.put_object(**where, Body=b"2", IfNoneMatch="*"))
            match = _refused(s3, lambda: s3.boto.put_object(**where, Body=b"3", IfMatch="0" * 32))
            # A server that refuses each If-Match is of no use either.
            match = match and create and not _refused(s3, lambda: s3.boto.put_object(**where, Body=b"4", IfMatch=etag))
            return ConditionalWrites(create, match, create and _refused(s3, lambda: _complete(s3, where)))
        finally:
            transfer.delete_versions(s3, bucket, where["Key"])
            staging.drop_staging(folder_here)


def _complete(s3: S3Client, where: dict[str, str]) -> None:
    upload = s3.boto.create_multipart_upload(**where)["UploadId"]
    try:
        part = s3.boto.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"5")
        parts = {"Parts": [{"PartNumber": 1, "ETag": transfer.strong(part["ETag"])}]}
        s3.boto.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    except BaseException:
        s3.boto.abort_multipart_upload(**where, UploadId=upload)
        raise


def _refused(s3: S3Client, write: Callable[[], object]) -> bool:
    try:
        write()
    except s3.boto.exceptions.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if is_precondition(error):
            return True
        if status in (400, 501):
            return False  # does not know the header: writes with it cannot work, writes without can
        raise
    return False

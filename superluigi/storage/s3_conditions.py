"""Which conditional writes a server honours: known for good ones, tried out once for the others.

A condition that is sent and ignored is worse than none: two writers would both believe that they won.
What was found is kept in `<local root>/.superluigi/servers/`, so that a server is tried once a machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi.storage import atomic, identity, staging
from superluigi.storage.s3_client import S3Client, explained, is_precondition


@dataclass(frozen=True)
class Conditions:
    """What the server decides for us; where it does not, we look before and after, which leaves a gap."""

    create: bool = True  # If-None-Match: * on PutObject
    match: bool = True  # If-Match on PutObject
    complete: bool = True  # both on CompleteMultipartUpload


def conditions_of(s3: S3Client, bucket: str, key: str, root: Path) -> Conditions:
    """What the server of `s3` honours; tries it out beside `key` if nobody on this machine did before."""
    if s3.is_known:
        return Conditions()
    known = _known.get(s3.place)
    if known is None:
        file = root / staging.STAGING / "servers" / f"{s3.place}.json"
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = Conditions(**json.loads(file.read_text()))
        if known is None:
            known = _try_out(s3, bucket, f"{key}.probe-{identity.token()}")
            with contextlib.suppress(OSError):  # then the next process tries again
                file.parent.mkdir(parents=True, exist_ok=True)
                new = file.with_name(f"{file.name}.{identity.token()}")
                new.write_text(json.dumps(dataclasses.asdict(known)))
                atomic.replace(new, file)
        _known[s3.place] = known
    return known


_known: dict[str, Conditions] = {}


def _try_out(s3: S3Client, bucket: str, key: str) -> Conditions:
    where = {"Bucket": bucket, "Key": key}
    with explained("write", f"s3://{bucket}/{key}"):
        try:
            etag = s3.boto.put_object(**where, Body=b"1")["ETag"].strip('"')
            create = _refused(s3, lambda: s3.boto.put_object(**where, Body=b"2", IfNoneMatch="*"))
            match = _refused(s3, lambda: s3.boto.put_object(**where, Body=b"3", IfMatch="0" * 32))
            # A server that refuses each If-Match is of no use either.
            match = match and create and not _refused(s3, lambda: s3.boto.put_object(**where, Body=b"4", IfMatch=etag))
            return Conditions(create, match, create and _refused(s3, lambda: _complete(s3, where)))
        finally:
            s3.boto.delete_object(**where)


def _complete(s3: S3Client, where: dict[str, str]) -> None:
    upload = s3.boto.create_multipart_upload(**where)["UploadId"]
    try:
        part = s3.boto.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"5")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.boto.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    except BaseException:
        s3.boto.abort_multipart_upload(**where, UploadId=upload)
        raise


def _refused(s3: S3Client, write: Callable[[], Any]) -> bool:
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

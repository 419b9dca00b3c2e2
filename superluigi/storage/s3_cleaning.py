"""Find and remove what dead processes left below an S3 prefix; of other hosts, only what is old enough."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from superluigi import config
from superluigi.errors import CommitConflictError
from superluigi.storage import cache_files, owner_token, s3_leftovers
from superluigi.storage.base import RECORD_SUFFIX
from superluigi.storage.cleaning import Leftover
from superluigi.storage.s3_client import S3Client, client
from superluigi.storage.s3_conditions import conditions_of
from superluigi.storage.s3_errors import split
from superluigi.storage.s3_options import S3Options
from superluigi.storage.s3_prefix_recovery import CLAIM, ClaimFile, PrefixPlace, recover
from superluigi.storage.s3_transfer import delete_many, listing


def clean(
    place: str,
    *,
    older_than: timedelta = timedelta(hours=24),
    dry_run: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[Leftover]:
    """Remove (or only list) left-overs below `s3://bucket/prefix`, and in the local data folder what dead processes
    of this host were sending to that server; whole outputs are never touched.

    Half-done commits are finished or taken back. Removed are temporary keys of processes of this host that no
    longer run, and temporary keys of other hosts and multipart uploads older than `older_than`, but for those that
    a living process of this host is sending.
    """
    bucket, prefix = split(place)
    prefix = prefix or ""
    s3, root = client(S3Options.of(options or {})), Path(config.get("local_data_dir"))
    limit = datetime.now(timezone.utc) - older_than
    found = list(_leftovers(s3, bucket, prefix, limit, root))  # first: what is told is the same in a dry run
    for _, remove in () if dry_run else found:
        with contextlib.suppress(CommitConflictError):  # another process is just doing it
            remove()
    return [leftover for leftover, _ in found]


def _leftovers(
    s3: S3Client, bucket: str, prefix: str, limit: datetime, root: Path
) -> Iterator[tuple[Leftover, Callable[[], object]]]:
    for folder in s3_leftovers.dead(s3, root):
        noted = Leftover(str(folder), "unfinished commit", cache_files.size_of(folder))
        yield noted, _call(s3_leftovers.follow, s3, folder, root)
    living = s3_leftovers.uploads_of_the_living(root)
    for upload in s3_leftovers.uploads(s3, bucket, prefix):
        if upload["Initiated"] < limit and upload["UploadId"] not in living:
            key, upload_id = upload["Key"], upload["UploadId"]
            line = {"bucket": bucket, "key": key, "upload_id": upload_id}
            yield Leftover(f"s3://{bucket}/{key}", "multipart upload", 0), _call(s3_leftovers.abort, s3, line, root)
    for item in list(listing(s3, bucket, prefix, {})):
        key, old = item["Key"], item["LastModified"] < limit
        leftover = f"s3://{bucket}/{key}"
        if key.endswith(RECORD_SUFFIX + CLAIM):
            where = _place_of(bucket, key.removesuffix(CLAIM))
            conditions = conditions_of(s3, bucket, where.record_key, root)
            claim = ClaimFile(s3, where, {}, conditions).read()
            if claim is not None and (claim.is_abandoned() or (not claim.commit and old)):
                yield Leftover(leftover, "half-done commit", item["Size"]), _call(recover, s3, where, {}, conditions)
        token = s3_leftovers.token_in(key)
        if token and (owner_token.owner_is_gone(token) or (old and not owner_token.is_of_this_world(token))):
            yield Leftover(leftover, "unfinished commit", item["Size"]), _call(delete_many, s3, bucket, [key], {})


def _place_of(bucket: str, record_key: str) -> PrefixPlace:
    """The prefix whose record is at `record_key`, inside it or beside it."""
    inside = record_key.endswith("/" + RECORD_SUFFIX)
    prefix = record_key.removesuffix(RECORD_SUFFIX) if inside else f"{record_key.removesuffix(RECORD_SUFFIX)}/"
    return PrefixPlace(bucket, prefix, bucket, record_key)


def _call(function: Callable[..., object], *arguments: Any) -> Callable[[], object]:
    return lambda: function(*arguments)

"""Find and remove what dead processes left below an S3 prefix; of others only what gave no sign of life for long.

What a living writer needs is not touched: signs of life are the claim that it renews, the keys and the parts of
uploads that it sends, all by the server's clock.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from superluigi import config
from superluigi.errors import CommitConflictError, OptionError, RecordError, StorageAccessError
from superluigi.storage import input_lists, owner_token
from superluigi.storage.base import RECORD_SUFFIX
from superluigi.storage.cache import files
from superluigi.storage.local.cleanup import Orphan
from superluigi.storage.objects import intent_log, leases
from superluigi.storage.objects.prefix.prefix_recovery import ClaimFile, recover
from superluigi.storage.objects.prefix.prefix_steps import BLOCKER_SIZE, CLAIM, PrefixKeys, PrefixStore
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.s3.s3_errors import split
from superluigi.storage.objects.s3.store import opened
from superluigi.storage.objects.store import ListedObject, ObjectStore

_NEVER = datetime.min.replace(tzinfo=timezone.utc)


def clean(
    place: str,
    *,
    older_than: timedelta = timedelta(hours=24),
    dry_run: bool = False,
    options: Mapping[str, object] | None = None,
) -> list[Orphan]:
    """Remove (or only list) orphans below `s3://bucket/prefix`, and in the local data folder what dead processes
    of this host were sending to that server; whole outputs are never touched.

    Half-done commits are finished or taken back. Removed are temporary keys of processes of this host that no
    longer run, and temporary keys and multipart uploads of others that gave no sign of life for `older_than`.
    """
    return list(swept(place, older_than=older_than, dry_run=dry_run, options=options))


def swept(
    place: str, *, older_than: timedelta, dry_run: bool, options: Mapping[str, object] | None = None
) -> Iterator[Orphan]:
    """What `clean` gives, each as soon as it is gone."""
    bucket, prefix = split(place)
    if not bucket:
        raise OptionError(f"{place!r} names no bucket. Write s3://bucket/prefix.")
    s3, root = opened(S3Options.of(options or {})), Path(config.get("local_data_dir"))
    found = list(_orphans(s3, bucket, prefix or "", older_than, root))  # first: what is told is the same in a dry run
    for orphan, remove in found:
        yield orphan if dry_run else _removed(orphan, remove)


def _removed(orphan: Orphan, remove: Callable[[], object]) -> Orphan:
    """The orphan, with why it stays if this identity may not remove it: that keeps no other."""
    try:
        with contextlib.suppress(CommitConflictError):  # another process is just doing it
            remove()
    except StorageAccessError as error:
        return replace(orphan, kept=str(error))
    return orphan


_Found = Iterator[tuple[Orphan, Callable[[], object]]]


def _orphans(s3: ObjectStore, bucket: str, prefix: str, older_than: timedelta, root: Path) -> _Found:
    for folder in intent_log.dead(s3, root):
        noted = Orphan(str(folder), "unfinished commit", files.size_of(folder))
        yield noted, _call(intent_log.replay, s3, folder, root)
    items = list(s3.list(bucket, prefix, {}))
    limit = s3.now - older_than if s3.now is not None else _NEVER
    signs: dict[str, datetime] = defaultdict(lambda: _NEVER)  # token -> when it last showed that it lives
    for item in items:
        if token := intent_log.token_in(item.key):
            signs[token] = max(signs[token], item.modified)
    living = intent_log.uploads_of_the_living(root)
    for upload in s3.uploads(bucket, prefix):
        key, upload_id = upload.key, upload.upload_id
        begun = upload.initiated >= limit or upload_id in living
        sign = upload.initiated if begun else s3.last_part(bucket, upload)
        token = intent_log.token_in(key)
        if token:
            signs[token] = max(signs[token], sign)
        if (sign < limit and not begun) or (token and owner_token.owner_is_gone(token)):
            yield (
                Orphan(f"s3://{bucket}/{key}", "multipart upload", 0),
                _call(s3.abort_upload, bucket, key, upload_id),
            )
    for item in items:
        key, old = item.key, item.modified < limit
        if key.endswith((RECORD_SUFFIX, RECORD_SUFFIX + CLAIM)):
            yield from _half_done(_store(s3, _place_of(bucket, key.removesuffix(CLAIM)), root), item, old)
        elif key.endswith(RECORD_SUFFIX + leases.SUFFIX):
            yield from _forgotten(leases.LeaseFile(s3, bucket, key.removesuffix(leases.SUFFIX), {}), item)
    yield from _unnamed_lists(s3, bucket, items, limit, root)
    for token, sign in signs.items():
        if _may_live(token, sign, limit):
            continue
        staged = [item for item in items if intent_log.token_in(item.key) == token]
        if staged and not _is_claimed(s3, bucket, staged[0].key, token, root):
            for item in staged:
                remove = _call(s3.delete, bucket, [item.key], {})
                yield Orphan(f"s3://{bucket}/{item.key}", "unfinished commit", item.size), remove


def _may_live(token: str, sign: datetime, limit: datetime) -> bool:
    """Whether the process of a token, whose last sign came at `sign`, may be at work yet."""
    return not owner_token.owner_is_gone(token) and (sign >= limit or owner_token.is_of_this_world(token))


def _half_done(store: PrefixStore, item: ListedObject, old: bool) -> _Found:
    """What a claim, or a blocker that no claim belongs to, stands for if it is abandoned."""
    uri, size = f"s3://{store.place.bucket}/{item.key}", item.size
    if item.key.endswith(CLAIM):
        file = ClaimFile(store)
        claim = file.read()
        if claim is not None and claim.is_abandoned():
            yield Orphan(uri, "half-done commit", size), _call(recover, store)
        elif claim is not None and not claim.commit and old:  # nothing of ours: it is not renewed
            yield Orphan(uri, "half-done commit", size), _call(file.release, claim)
    elif old and size == BLOCKER_SIZE:
        standing = store.standing()
        if standing.blocker is not None and standing.etag is not None and ClaimFile(store).read() is None:
            yield Orphan(uri, "half-done commit", size), _call(store.register.delete, standing.etag)


def _unnamed_lists(s3: ObjectStore, bucket: str, items: list[ListedObject], limit: datetime, root: Path) -> _Found:
    """Lists of inputs that no record names, of writers that are gone or gave no sign for long."""
    named: dict[str, set[str] | None] = {}
    for item in items:
        home, _, file = item.key.rpartition("/")
        token = input_lists.token_of(file)
        if token is None or not input_lists.is_at(item.key) or _may_live(token, item.modified, limit):
            continue
        key = home.removesuffix(input_lists.SUFFIX)
        if key not in named:
            store = _store(s3, _place_of(bucket, key), root)
            named[key] = None
            with contextlib.suppress(RecordError):
                records, _ = store.register.read()
                if ClaimFile(store).read() is None:  # else its plan may name them
                    named[key] = {name for record in records for name in input_lists.named(record)}
        if (names := named[key]) is not None and file not in names:
            remove = _call(s3.delete, bucket, [item.key], {})
            yield Orphan(f"s3://{bucket}/{item.key}", "list of inputs", item.size), remove


def _forgotten(file: leases.LeaseFile, item: ListedObject) -> _Found:
    """A lease whose holder is gone."""
    found = file.read()
    if found is not None and file.is_abandoned(*found):
        remove = _call(file.store.delete_if, file.bucket, file.key, found[1].etag, {})
        yield Orphan(f"s3://{file.bucket}/{file.key}", "lease of one that is gone", item.size), remove


def _is_claimed(s3: ObjectStore, bucket: str, staged: str, token: str, root: Path) -> bool:
    """Whether a claim names `token`: then its staged keys are what the commit is finished with."""
    prefix = staged.partition(intent_log.MARK + token)[0]
    there = s3.head(bucket, staged, {})
    said = intent_log.said_record(there.metadata if there else {})
    records = [said] if said else [(bucket, f"{prefix[:-1]}{RECORD_SUFFIX}"), (bucket, prefix + RECORD_SUFFIX)]
    for record_bucket, record_key in records:
        claim = ClaimFile(_store(s3, PrefixKeys(bucket, prefix, record_bucket, record_key), root)).read()
        if claim is not None and token in (claim.commit, claim.holder):
            return True
    return False


def _store(s3: ObjectStore, place: PrefixKeys, root: Path) -> PrefixStore:
    return PrefixStore(s3, place, s3.conditional_writes(place.record_bucket, place.record_key, root), {}, {})


def _place_of(bucket: str, record_key: str) -> PrefixKeys:
    """The prefix whose record is at `record_key`, inside it or beside it."""
    inside = record_key.endswith("/" + RECORD_SUFFIX)
    prefix = record_key.removesuffix(RECORD_SUFFIX) if inside else f"{record_key.removesuffix(RECORD_SUFFIX)}/"
    return PrefixKeys(bucket, prefix, bucket, record_key)


def _call(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)

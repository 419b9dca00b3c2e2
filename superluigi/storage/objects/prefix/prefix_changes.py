"""What a commit finds at an S3 prefix and in the folder it publishes, and what it therefore does; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from superluigi.errors import CommitConflictError, TargetKindError
from superluigi.storage.base import Record
from superluigi.storage.local import copy
from superluigi.storage.objects.intent_log import is_over
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.prefix.prefix_recovery import has_run_out
from superluigi.storage.objects.prefix.prefix_state import PrefixState
from superluigi.storage.objects.prefix.prefix_steps import PrefixStore
from superluigi.storage.objects.store import ListedObject, in_threads

#: Of the objects without a record, how many are asked who wrote them.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Changes:
    """What a commit does to a prefix; keys only, decided before anything is done."""

    same: dict[str, str]  # key -> ETag of what stays
    new: list[str]
    changed: list[str]
    gone: list[str]


def changes(wanted: Mapping[str, Manifest], old: Mapping[str, Manifest], there: Mapping[str, str]) -> Changes:
    """Compare what shall be with what the old record names (`old`) and what is really there (key -> ETag)."""
    same = {}
    for key, item in wanted.items():
        known = old.get(key)
        if known and known.sha256 and known.sha256 == item.sha256 and known.etag == there.get(key):
            same[key] = there[key]
    return Changes(
        same,
        new=[key for key in wanted if key not in there],
        changed=[key for key in wanted if key in there and key not in same],
        gone=[key for key in there if key not in wanted],
    )


def check_abandoned(location: PrefixState) -> bool:
    """Objects without a record: left by a dead writer or another program? True if one may be a living writer's.

    Raises:
        CommitConflictError: another process is just writing them.
    """
    newest = sorted(location.store.contents(), key=lambda item: item.modified, reverse=True)[:_LOOKED_AT]
    now, unknown = location.s3.now, False

    def look(item: ListedObject) -> tuple[ListedObject, str | None]:
        there = location.s3.head(location.place.bucket, item.key, {})
        return item, there.commit if there else None

    for item, commit in in_threads(look, newest, _LOOKED_AT):
        if commit is None or is_over(commit):
            continue
        if not has_run_out(item.modified, now):
            raise CommitConflictError(f"{location.uri} is being written by another process ({commit}).")
        unknown = True
    return unknown


def named_by(store: PrefixStore, record: Record | None) -> dict[str, Manifest]:
    """The objects that a record names, by key."""
    if record is None:
        return {}
    named = manifest.read(
        store.s3, store.place.record_bucket, store.place.record_key, record.get("output", {}), store.get_options
    )
    return {item.key: item for item in named or ()}


def files_below(root: str) -> Iterator[str]:
    """All files, through links too: a prefix knows no links.

    Raises:
        TargetKindError: a pipe, a link that leads nowhere, or one to a folder that holds it.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        if (here := (status.st_dev, status.st_ino)) in above:
            raise TargetKindError(f"{folder} is a link to a folder that holds it, so its files have no end. Remove it.")
        for entry in copy.entries(folder):
            link = entry.is_symlink()  # one that leads round in a circle makes the entry raise
            if os.path.isdir(entry.path) if link else entry.is_dir():
                waiting.append((entry.path, above | {here}))
            elif os.path.isfile(entry.path) if link else entry.is_file():
                yield entry.path
            else:
                raise TargetKindError(f"{entry.path} is no file that could go to S3, nor a link to one. Remove it.")

"""Find and remove what dead processes left in local folders.

Of this boot and container the process table tells who is dead. What others left may be in use: it is listed, and
removed only if the caller says from what age on no process can be at work on it any more.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from superluigi.errors import TargetError, TargetMissingError
from superluigi.storage import input_lists, owner_token, small_files
from superluigi.storage.base import PENDING_SUFFIX, RECORD_SUFFIX, record_in
from superluigi.storage.local import atomic, copy, leases, lists
from superluigi.storage.local.file import FileLocation
from superluigi.storage.local.folder import FolderLocation
from superluigi.storage.local.location import LocalLocation
from superluigi.storage.local.stages import staging


@dataclass(frozen=True)
class Orphan:
    """Something that a dead process left: where it is and what it was."""

    path: str
    what: str
    size: int
    #: Why it stays, if it does.
    kept: str = ""

    @property
    def in_doubt(self) -> bool:
        """It stays since whether its process lives cannot be known here."""
        return self.kept == _MAY_LIVE


def clean(root: Path, *, dry_run: bool = False, older_than: timedelta | None = None) -> list[Orphan]:
    """Remove (or only list) the orphans below `root`; half-done commits are finished or taken back.

    One that cannot be removed (another user's, say) keeps no other: it is given with the reason as `kept`.
    What belongs to another host, container or boot is removed too if nothing in it has changed for `older_than`.

    Raises:
        TargetMissingError: there is no such folder or file.
    """
    return [orphan for orphan in swept(root, dry_run=dry_run, older_than=older_than) if not orphan.in_doubt]


def swept(root: Path, *, dry_run: bool = False, older_than: timedelta | None = None) -> Iterator[Orphan]:
    """What `clean` gives, each as soon as it is gone, and what it leaves in doubt."""
    if not root.exists():
        raise TargetMissingError(f"There is nothing at {root} to clean. Check the path.")
    for orphan, remove in _orphans(root if root.is_dir() else root.parent, older_than):
        if not orphan.kept and not dry_run:
            try:
                with atomic.explained("clean", orphan.path):
                    remove()
            except TargetError as error:
                orphan = replace(orphan, kept=str(error))
        yield orphan


def _orphans(root: Path, older_than: timedelta | None) -> Iterator[tuple[Orphan, _Removal]]:
    for current, entries in copy.walk(root, staging.is_ours, tolerant=True):
        here = Path(current)
        for journal, final in staging.dead_swaps(here):  # first: what it names is no orphan until it is finished
            if staging.swap_journal(final) == journal:  # a journal does not speak of other places
                yield Orphan(str(journal), "half-done swap", _size(journal)), _Removal(journal, FolderLocation(final))
        if leases.left_by_the_dead(current):
            path = here / leases.NAME
            yield Orphan(str(path), "list of running tasks", _size(path)), _Removal(path)
        for token, path in staging.of_unknown_owners(here):
            kept = "" if older_than is not None and _age(path) > older_than else _MAY_LIVE
            what = f"unfinished output of {owner_token.host_of(token)}"
            yield Orphan(str(path), what, _size(path), kept), _Removal(path)
        for path in sorted(staging.sweep(here, always=True, anyone=True)):
            yield Orphan(str(path), "unfinished output", _size(path)), _Removal(path)
        for path in staging.dead_staging(here):
            yield Orphan(str(path), "temporary copies", _size(path)), _Removal(path, staging=True)
        if current.endswith(input_lists.SUFFIX):
            for left in map(Path, lists.orphans(current)):
                yield Orphan(str(left), "list of inputs", _size(left)), _Removal(left)
        for name in (entry.name for entry in entries):
            if name.endswith(RECORD_SUFFIX + PENDING_SUFFIX) and (location := _half_done(here / name)) is not None:
                yield (
                    Orphan(str(here / name), "half-done commit", _size(here / name)),
                    _Removal(here / name, location),
                )


class _Removal:
    def __init__(self, path: Path, location: LocalLocation | None = None, *, staging: bool = False) -> None:
        self.path, self.location, self.staging = path, location, staging

    def __call__(self) -> None:
        if self.location is not None and self.path == self.location.pending_path:
            self.location.resolve_pending()
        elif self.location is not None:
            self.location.repair()
        elif self.path.name == leases.NAME:
            leases.remove_left(str(self.path.parent))
        elif self.staging:
            staging.drop_staging(self.path)
        else:
            copy.remove_tree(self.path)


_MAY_LIVE = "its process ran elsewhere, or before this boot, and may live: give --older-than to remove it by age"


def _age(path: Path) -> timedelta:
    """How long nothing below `path` has changed."""
    now = time.time()
    return timedelta(seconds=now - max((status.st_mtime for status in _statuses(path)), default=now))


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Of `path` and of all below it, as far as it is still there: others clean up here as well."""
    with contextlib.suppress(FileNotFoundError):
        top = path.lstat()
        yield top
        if stat.S_ISDIR(top.st_mode):
            for _, entries in copy.walk(path, tolerant=True):
                for entry in entries:
                    with contextlib.suppress(OSError):  # or it lies too deep to be named
                        yield entry.stat(follow_symlinks=False)


def _half_done(pending: Path) -> LocalLocation | None:
    """The location whose commit stopped with this record pending; None while its writer may be alive."""
    try:
        record = record_in(small_files.read(pending))
        output = record["output"]
        path, token = Path(output["path"]), str(output.get("commit", ""))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # not written by us: pending records are always whole
        return None
    if (
        not path.is_absolute()
        or not path.name
        or (owner_token.is_token(token) and not owner_token.owner_is_gone(token))
    ):
        return None
    kind = FolderLocation if output.get("type") == FolderLocation.kind else FileLocation
    return kind(path, pending.with_name(pending.name.removesuffix(PENDING_SUFFIX)))


def _size(path: Path) -> int:
    return sum(status.st_size for status in _statuses(path) if not stat.S_ISDIR(status.st_mode))

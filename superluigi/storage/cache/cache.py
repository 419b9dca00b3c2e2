"""Local copies of S3 data: used only while they are what the store holds, filled once, bounded.

The copies lie where they are easily found, `<root>/<bucket>/<key>` (for other servers than AWS
`<root>/<host_port>/<bucket>/<key>`). State and locks are out of sight, in `<root>/.superluigi/`.

An entry's state says from which ETag and version its files were made, and size, time and inode of each file:
a copy that differs is not served. Files appear by rename only, so an open file never changes. Two locks per
entry, both flock(2), which the kernel frees when a process dies: `fill` keeps fillers apart, `use` is held
shared by readers; an entry in use is neither evicted nor replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi import config
from superluigi.errors import StorageAccessError, TargetError
from superluigi.storage import small_files
from superluigi.storage.cache.files import (
    NOBODYS,
    facts_of,
    files_in,
    free,
    load,
    lock,
    move,
    remove_known,
    same,
    save,
    size_of,
    validation_error,
)
from superluigi.storage.local import atomic
from superluigi.storage.local import copy as copying
from superluigi.storage.local.stages import staging
from superluigi.storage.local_names import ODD, local_name

_ACCOUNT = "cache-size"
#: Digits.
_LONGEST_SUM = 20
_log = logging.getLogger(__name__)
_refusing: set[str] = set()  # roots that no copy could be kept in, and that a warning has named

#: File name inside a folder ("" for a single file) -> what more is known of it: `etag`, `sha256`.
Facts = Mapping[str, Mapping[str, Any]]
#: Called with the path to write and, for folders, the files of another version that may be linked:
#: name -> (ETag, file). Returns what it knows of each file.
Fetch = Callable[[Path, Mapping[str, tuple[str, Path]]], Facts]


@dataclass(frozen=True)
class Info:
    """One entry as `superluigi cache list` shows it."""

    path: Path
    uri: str
    size: int
    used: float
    state_file: Path


class Cache:
    """All local copies below one root folder; several processes and containers may share it."""

    def __init__(self, root: Path, limit_bytes: int | None = None, min_free_bytes: int | None = None) -> None:
        self.root = root
        self._limit, self._min_free = limit_bytes, min_free_bytes

    @property
    def state_folder(self) -> Path:
        return self.root / staging.STAGING / "cache"

    @property
    def limit_bytes(self) -> int | None:
        value: int | None = config.get("cache_limit_bytes") if self._limit is None else self._limit
        return value

    @property
    def min_free_bytes(self) -> int:
        value = config.get("cache_min_free_bytes") if self._min_free is None else self._min_free
        return int(value or 0)

    def entry(self, place: str, bucket: str, key: str, folder: bool = False) -> CacheEntry:
        """The entry of an object, or of a whole prefix with `folder`."""
        return CacheEntry(self, place, bucket, key, folder)

    def entries(self) -> list[Info]:
        """All entries, least recently used first."""
        found = []
        for file in files_in(self.state_folder, ".json"):
            if (state := load(file)) is not None:
                with contextlib.suppress(OSError):
                    used = file.stat().st_mtime
                    found.append(Info(self.root / state["path"], state["uri"], int(state["size"]), used, file))
        return sorted(found, key=lambda info: info.used)

    # ---- bounds

    def evict_to_fit(self, coming: int) -> int:
        """Evict, least recently used first, until `coming` more bytes fit; the bytes that were freed.

        A single object larger than the limit is let in: everything else that is not in use goes.
        """
        limit, least = self.limit_bytes, self.min_free_bytes
        over = self._size() + coming - limit if limit is not None else 0
        missing = least + coming - free(self.root) if least else 0
        if max(over, missing) <= 0:
            return 0
        entries = self.entries()
        if limit is not None:
            total = sum(info.size for info in entries)  # a crash may have left the account wrong
            self.add_usage(total, absolute=True)
            over = total + coming - limit
        freed = 0
        for info in entries:
            if freed >= max(over, missing):
                break
            if self.evict(info):
                freed += info.size
        return freed

    def prune(self, limit_bytes: int | None = None, older_than: float | None = None) -> int:
        """Evict entries beyond `limit_bytes`, or unused since `older_than` (seconds since 1970); bytes freed."""
        entries, freed = self.entries(), 0
        total = sum(info.size for info in entries)
        for info in entries:
            old = older_than is not None and info.used < older_than
            if (old or (limit_bytes is not None and total > limit_bytes)) and self.evict(info):
                freed, total = freed + info.size, total - info.size
        self.add_usage(total, absolute=True)
        return freed

    def verify(self) -> Iterator[tuple[Info, str]]:
        """Each entry with what is wrong with its copy: "" or `missing`, `changed`; reads every byte with a digest."""
        for info in self.entries():
            yield info, validation_error(self.root, load(info.state_file) or {})

    def clear(self) -> int:
        """Remove every entry that is not in use; bytes freed."""
        return self.prune(limit_bytes=-1)

    def evict(self, info: Info) -> bool:
        """Remove one entry and its copy; False if it is in use, or the system refuses, which keeps no other."""
        stem = info.state_file.with_suffix("")
        with lock(stem.with_suffix(".fill"), wait=False) as mine:
            if not mine:
                return False
            with lock(stem.with_suffix(".use"), wait=False) as unused:
                if not unused:
                    return False
                try:
                    remove_known(self.root, info.state_file)
                except OSError as error:
                    _log.warning("The local copy of %s cannot be removed, and stays: %s", info.uri, error)
                    return False
                # The lock files go while their locks are held: a process that waits for them looks again.
                for suffix in (".use", ".fill"):
                    stem.with_suffix(suffix).unlink(missing_ok=True)
        self.add_usage(-info.size)
        return True

    def add_usage(self, change: int, absolute: bool = False) -> None:
        """Keep the sum of all sizes, so that a fill need not look at every entry."""
        if self.limit_bytes is None and not absolute:
            return
        staging.ensure_folder(self.state_folder)
        with open(self.state_folder / _ACCOUNT, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read(_LONGEST_SUM)
            if not absolute and re.fullmatch(r"-?[0-9]+", text) is None:  # new, or damaged
                change, absolute = sum(info.size for info in self.entries()), True
            file.truncate(0)
            file.write(str(change if absolute else int(text) + change))

    def _size(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(small_files.read(self.state_folder / _ACCOUNT))
        return sum(info.size for info in self.entries())


class CacheEntry:
    """The local copy of one object or prefix."""

    def __init__(self, cache: Cache, place: str, bucket: str, key: str, folder: bool) -> None:
        self.cache, self.place, self.bucket, self.key, self.folder = cache, place, bucket, key, folder
        self.uri = f"s3://{bucket}/{key}"
        self.relative = Path(*filter(None, (place, bucket)), local_name(key.rstrip("/") if folder else key))
        name = hashlib.sha256(json.dumps([place, bucket, key, folder]).encode()).hexdigest()[:32]
        self.stem = cache.state_folder / name

    @property
    def state_file(self) -> Path:
        return self.stem.with_suffix(".json")

    @property
    def path(self) -> Path:
        """Where the copy is, or would be."""
        state = load(self.state_file)
        return self.cache.root / (state["path"] if state else self.relative)

    def valid(self, tag: str) -> dict[str, Any] | None:
        """The state if the copy is whole and was made from the data that `tag` names."""
        state = load(self.state_file)
        if state is None or state["tag"] != tag or tag == NOBODYS:
            return None
        path = self.cache.root / state["path"]
        root = str(path)
        whole = all(same(f"{root}/{name}" if name else root, facts) for name, facts in state["files"].items())
        return state if whole else None

    @contextlib.contextmanager
    def open(
        self, tag: str, fetch: Fetch, *, size: int = 0, shared: bool = False, refresh: bool = False
    ) -> Iterator[Path]:
        """A local path with the content for the time of the block, fetched by `fetch(path, reuse)` if need be.

        `tag` names the data in the store (its ETag, version or commit). With `shared` the path is the entry
        itself, else a private copy (a clone where the file system can). Where no copy can be kept (the disk is full,
        the folder may not be written), it comes into the system's temporary folder instead, for this once.

        Raises:
            StorageAccessError: it cannot come there either; names the setting.
        """
        with contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(self._kept(tag, fetch, size, shared, refresh))
            except OSError as error:
                if not _is_of_the_disk(error):
                    raise  # of the store
                path = stack.enter_context(self._through(fetch, error))
            yield path

    @contextlib.contextmanager
    def _through(self, fetch: Fetch, refused: OSError) -> Iterator[Path]:
        """The content without a copy that is kept."""
        root, why = self.cache.root, refused.strerror or str(refused)
        if str(root) not in _refusing:
            _refusing.add(str(root))
            _log.warning(
                "No local copies can be kept in %s (%s), so that data is fetched anew each time. Free some space "
                "there, or name another folder in SUPERLUIGI_LOCAL_DATA_DIR.", root, why,
            )  # fmt: skip
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="superluigi-", ignore_cleanup_errors=True)
                )
                path = Path(folder) / self.relative.name
                if self.folder:
                    path.mkdir()
                fetch(path, {})
            except OSError as error:
                if not _is_of_the_disk(error):
                    raise
                raise StorageAccessError(
                    f"{self.uri} can be copied neither to {root} ({why}) nor to {tempfile.gettempdir()} "
                    f"({error.strerror}). Free some space, or name another folder in SUPERLUIGI_LOCAL_DATA_DIR."
                ) from error
            yield path

    @contextlib.contextmanager
    def _kept(self, tag: str, fetch: Fetch, size: int, shared: bool, refresh: bool) -> Iterator[Path]:
        with self._held(tag, fetch, size, refresh) as path:
            if shared:
                yield path
                return
            folder = staging.staging_folder(self.cache.root)
            try:
                copy = folder / self.relative.name
                if self.folder:
                    copying.copy_tree(path, copy, staging.is_ours)
                else:
                    copying.copy_file(path, copy)
                yield copy
            finally:
                staging.drop_staging(folder)

    @contextlib.contextmanager
    def _held(self, tag: str, fetch: Fetch, size: int, refresh: bool) -> Iterator[Path]:
        """The path of a valid copy that stays as it is while the block lasts."""
        # Asked without the lock first: a reader that finds nothing, or a damaged copy, must not, for that moment,
        # count as one that uses the entry, or it would keep the filler it is about to wait for from publishing.
        state = None if refresh else self.valid(tag)
        if state is not None:
            with lock(self.stem.with_suffix(".use"), shared=True):
                if load(self.state_file) == state:  # else it was replaced or evicted just now
                    with contextlib.suppress(OSError):  # of a disk that may only be read
                        os.utime(self.state_file)  # last used now
                    yield self.cache.root / state["path"]
                    return
        before = load(self.state_file)
        with contextlib.ExitStack() as stack:
            with lock(self.stem.with_suffix(".fill")):
                # Another one may have filled it while we waited; to refresh, only what came since counts.
                state = self.valid(tag)
                if state is not None and not (refresh and state == before):
                    path: Path | None = self.cache.root / state["path"]
                else:
                    path = self._fill(tag, fetch, size, {} if refresh else self._reusable())
                if path is None:  # the old version is in use: it stays, and this reader gets a copy of its own
                    path = self._own(self.partial(tag), stack)
                else:
                    stack.enter_context(lock(self.stem.with_suffix(".use"), shared=True))
            yield path

    def _own(self, part: Path, stack: contextlib.ExitStack) -> Path:
        """Take what was just fetched where no other filler looks, for the time of `stack`; the caller holds `fill`."""
        folder = staging.staging_folder(self.cache.root)
        stack.callback(staging.drop_staging, folder)
        atomic.replace(part, own := folder / part.name)
        copying.remove_tree(part.parent)
        return own

    def partial(self, tag: str) -> Path:
        """Where a copy of `tag` grows; for a folder, the next process goes on with what a dead one left."""
        mark = hashlib.sha256(tag.encode()).hexdigest()[:12]
        return self.stem.with_name(f"{self.stem.name}-{mark}.partial") / self.relative.name

    def _fill(self, tag: str, fetch: Fetch, size: int, reusable: Mapping[str, tuple[str, Path]]) -> Path | None:
        """Fetch into the partial copy and publish it; None if the entry is in use and so cannot be replaced."""
        for dead in staging.dead_staging(self.cache.root):
            if not (dead / "note.jsonl").exists():  # a reader's copy; commits are cleaned by those who can
                with contextlib.suppress(OSError):  # another user's
                    staging.drop_staging(dead)
        self.cache.evict_to_fit(size)
        part = self.partial(tag)
        if not self.folder:
            copying.remove_tree(part)
        staging.ensure_folder(part if self.folder else part.parent)
        try:
            facts = fetch(part, reusable)
        except BaseException as error:
            # Of a folder, what came so far is the beginning of the next attempt, but where no space is left for it.
            if not self.folder or _is_of_the_disk(error):
                copying.remove_tree(part.parent)
            raise
        return self._publish(part, tag, facts, size)

    def _reusable(self) -> dict[str, tuple[str, Path]]:
        """Of a folder's copy of another version: name -> ETag and file, for those that are still as they were."""
        state = load(self.state_file) if self.folder else None
        if state is None:
            return {}
        path = self.cache.root / state["path"]
        return {
            name: (facts["etag"], path / name)
            for name, facts in state["files"].items()
            if "etag" in facts and same(path / name, facts)
        }

    def insert(self, source: Path, tag: str, facts: Facts) -> None:
        """Make `source` (a file or folder of the same file system that was just uploaded) the local copy.

        Nothing but a warning comes of what goes wrong: the data is in the store by now.
        """
        try:
            with lock(self.stem.with_suffix(".fill"), wait=False) as mine:
                if mine:
                    size = size_of(source)
                    self.cache.evict_to_fit(size)
                    self._publish(source, tag, facts, size)
        except OSError as error:
            _log.warning("What was just written to %s is not kept as its local copy: %s", self.uri, error)

    def _publish(self, source: Path, tag: str, facts: Facts, size: int) -> Path | None:
        """Move `source` into place and write the state; the caller holds `fill`."""
        with lock(self.stem.with_suffix(".use"), wait=False) as unused:
            if not unused:
                return None
            old = remove_known(self.cache.root, self.state_file)
            path = self._put_in_place(source, size)
            root = str(path)
            try:
                # Now: a rename is a change of the file.
                files = {name: {**facts_of(f"{root}/{name}" if name else root), **more} for name, more in facts.items()}
                size = sum(int(file["size"]) for file in files.values())
                self._write_state(path, tag, size, files)
            except OSError:
                self.state_file.unlink(missing_ok=True)
                for left in (path, self.stem.with_suffix(".new")):
                    copying.remove_tree(left)
                raise
        for left in self.stem.parent.glob(f"{self.stem.name}-*.partial"):
            copying.remove_tree(left)
        self.cache.add_usage(size - int(old["size"] if old else 0))
        return path

    def _write_state(self, path: Path, tag: str, size: int, files: Mapping[str, object]) -> None:
        state = {
            "uri": self.uri, "path": str(path.relative_to(self.cache.root)), "tag": tag, "size": size,
            "made": time.time(), "folder": self.folder, "files": files,
        }  # fmt: skip
        save(self.state_file, state)

    def _put_in_place(self, source: Path, size: int) -> Path:
        """Under the key's own name, or aside where another entry's file or folder is in the way.

        A state that is valid for no reader says where before anything is there: what a dead process leaves is found.
        """
        own = self.cache.root / self.relative
        aside = self.cache.root.joinpath(*filter(None, (self.place, self.bucket)), f"{ODD}more", self.stem.name)
        if not os.path.lexists(own) and not self._inside_a_folder_entry():
            self._write_state(own, NOBODYS, size, {})
            if move(source, own):
                return own
        self._write_state(aside / own.name, NOBODYS, size, {})
        copying.remove_tree(aside)
        move(source, aside / own.name)
        return aside / own.name

    def _inside_a_folder_entry(self) -> bool:
        """Whether a prefix's copy, which must hold nothing else, covers this entry's place."""
        parts = self.key.rstrip("/").split("/")[:-1]
        above = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return any(
            self.cache.entry(self.place, self.bucket, f"{prefix}/", folder=True).state_file.exists() for prefix in above
        )


def _is_of_the_disk(error: BaseException) -> bool:
    """Whether this system refused a file: the errors of the store, and of ways to it, are others."""
    ways = (TargetError, ConnectionError, TimeoutError)
    return isinstance(error, OSError) and not isinstance(error, ways) and error.errno is not None

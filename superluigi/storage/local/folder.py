"""Folders on local disks as locations: staged beside the destination, swapped in one step.

Where the kernel can exchange two names the swap is one system call; else it is two renames that a journal
makes recoverable. The old tree is removed after the new one is visible.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from superluigi.errors import (
    CommitError,
    OutputNotWrittenError,
    RecordError,
    TargetKindError,
    TargetMissingError,
    UnfinishedOutputError,
)
from superluigi.storage import first_records, input_lists, small_files
from superluigi.storage.base import PENDING_SUFFIX, SCHEMA, SURROGATES, Record, StagedWrite, record_about, record_text
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import atomic, inner, lists, members
from superluigi.storage.local import copy as copying
from superluigi.storage.local.location import LocalLocation
from superluigi.storage.local.staged import LocalStaged
from superluigi.storage.local.stages import staging

_log = logging.getLogger(__name__)


class FolderLocation(LocalLocation):
    """One local folder with all it holds; its record stands beside it, or inside on request."""

    kind = "LocalFolderTarget"
    other_kind = "LocalFileTarget"
    is_folder = True

    def __init__(self, path: Path | str, record_path: Path | None = None, contents_limit: int = 10) -> None:
        super().__init__(path, record_path)
        self.contents_limit = contents_limit

    @property
    def record_inside(self) -> str | None:
        """The record's place relative to the folder, if it is inside."""
        try:
            return self.record_path.relative_to(self.path).as_posix()
        except ValueError:
            return None

    def matches_kind(self, status: os.stat_result) -> bool:
        return stat.S_ISDIR(status.st_mode)

    def exists(self) -> bool:
        return super().exists() and (self.external or self._is_whole())

    def has_data(self) -> bool:
        return super().exists()

    def _missing(self) -> TargetMissingError:
        if not self.has_data():
            return super()._missing()
        return TargetMissingError(
            f"{self.uri} is there, but not whole: a folder is complete by its record, and {self.record_uri} is "
            "missing or names what is gone. Run the task that makes it; for data made by others declare it as the "
            "output of an ExternalTask, or say LocalFolderTarget(…, external=True)."
        )

    def identity(self, path: Path | str, status: os.stat_result | None = None) -> Record:
        del status  # one that is older than the walk may be another folder's
        return members.identity(str(path), self._hidden)

    def content(self, path: Path) -> Record:
        return members.content(str(path), self._hidden, self.contents_limit)

    def is_of_first(self, record: Record) -> bool:
        return first_records.is_of_folder(record, self.final, self._hidden)

    @cached_property
    def _hidden(self) -> frozenset[str]:
        """What our own record inside is called, and what belongs to it."""
        inside = self.record_inside
        return frozenset() if inside is None else frozenset((inside, inside + PENDING_SUFFIX, lists.home(inside)))

    def _is_whole(self) -> bool:
        """Whether there is a record, and all that it names: a folder that lost a member is not what was made."""
        for _ in range(100):  # a writer that commits all the time must not keep us for ever
            record = self._read(self.record_uri, record_about)
            output = None if record is None else record.get("output")
            if isinstance(output, dict) and output.get("type", self.kind) == self.kind:
                with contextlib.suppress(FileNotFoundError):  # swapped under us
                    if members.names_are_there(self.uri, self._hidden, output):
                        return True
            pending = self._read_lenient(self.pending_uri)
            if pending is not None and self._describes(pending):
                self.repair()
                return True
            if self._read(self.record_uri, record_about) == record:
                return False
        return False

    def refuse_inner(self, action: str) -> None:
        # what may not be read can be replaced, but not removed: it stays aside, for its owner
        walk = copying.walk(self.uri, staging.is_ours, tolerant=True)
        own = {self.record_uri, self.pending_uri}
        names = [entry.path for _, entries in walk for entry in entries if entry.is_file(follow_symlinks=False)]
        found = inner.candidates(names, own)
        strangers = [] if not names or self._is_untouched() else [name for name in names if _begins_as_record(name)]
        if found or strangers:
            strangers = [name for name in strangers if name not in own and name not in found]
            inner.refuse(action, self.uri, found, _bytes_of, lambda _: self._is_as_recorded(), strangers)

    def _is_untouched(self) -> bool:
        """Whether nothing has come, gone or changed since our commit, as far as names, sizes, times and inodes tell."""
        record = self._read_lenient(self.record_uri)
        output = None if record is None else record.get("output")
        if not isinstance(output, dict):
            return False
        try:
            return all(output.get(key) == value for key, value in self.identity(self.uri).items())
        except OSError:
            return False

    def _is_as_recorded(self) -> bool:
        record = self._read(self.record_uri)
        return record is not None and self._describes(record)

    def copy(self, destination: Path) -> None:
        for _ in range(100):
            held = os.open(self.final, os.O_RDONLY | os.O_DIRECTORY)  # keeps the inode number from being used again
            try:
                inode = os.fstat(held).st_ino
                members.copy(str(self.final), destination, self._hidden)
                if os.stat(self.final).st_ino == inode:
                    break
            except FileNotFoundError:  # swapped and removed under us
                if not self.exists():
                    raise
            finally:
                os.close(held)
            copying.remove_tree(destination)

    def _resolve_held(self) -> None:
        if not os.path.lexists(staging.swap_journal(self.final)):  # else its end decides which record is right
            super()._resolve_held()

    def _recover_swap(self) -> bool:
        """Finish a swap by two renames that a dead writer left between them; True if there was one."""
        final = self.final
        journal = staging.swap_journal(final)
        if not os.path.lexists(journal):
            return False
        with atomic.explained("finish the swap of", self.path), contextlib.suppress(FileNotFoundError), self._locked():
            for whole in _moved_by(journal):
                if not os.path.lexists(final) and os.path.lexists(whole):
                    atomic.replace(whole, final)
            failpoint("drop journal")
            journal.unlink()
        return True

    def _check_names(self) -> None:
        super()._check_names()
        if atomic.is_mount(self.final_uri):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.uri)

    def _staged(self, final: str) -> StagedWrite:
        return StagedFolder.begun(self, final)


class StagedFolder(LocalStaged):
    """A folder being filled in a staging folder beside its destination."""

    location: FolderLocation

    def __init__(self, location: FolderLocation, final: str) -> None:
        super().__init__(location, final)
        self.final = Path(final)
        #: Beside the destination: there names are exchanged without rights to the folders themselves.
        self._beside = Path(staging.beside(self.parent, self.commit_id, ".new"))
        self._old = Path(staging.beside(self.parent, self.commit_id, ".old"))
        self._half_swapped = False

    def commit(self, record: Record | None) -> Record | None:
        published = super().commit({"schema": SCHEMA} if record is None else record)
        return None if record is None else published

    def begin(self) -> None:
        super().begin()
        self.path.mkdir()
        atomic.pass_on(self.final, self.path)

    def _publish(self, record: Record | None) -> None:
        inside = self.location.record_inside
        if inside is None:
            super()._publish(record)
            return
        if record is not None:
            self._write_record_inside(self.path / inside, record)
        self._swap()
        self._flush_names()

    def _write_record_inside(self, place: Path, record: Record) -> None:
        if os.path.lexists(place):
            raise RecordError(f"The task wrote {place.name} itself, but there the record of {self.location.path} goes.")
        failpoint("write record inside")
        place.parent.mkdir(parents=True, exist_ok=True)
        record, listed = input_lists.split(record, "", self.commit_id)  # also a list that goes with the old folder
        lists.write(str(place), listed, durable=self._durable)
        place.write_text(record_text(record), encoding="utf-8", errors=SURROGATES)
        if self._durable:
            atomic.flush_file(place)
            atomic.flush_folder(place.parent)

    def _swap(self) -> None:
        final = self.final
        self.location.refuse_inner("replace")
        atomic.move_folder(self.path, self._beside)
        if not final.exists():
            atomic.replace(self._beside, final)
        elif not atomic.exchange(self._beside, final):
            self._swap_by_two_renames(final)

    def _swap_by_two_renames(self, final: Path) -> None:
        """Where names cannot be exchanged the output is absent between two renames; the journal lets
        the next process finish them (`LocalLocation._recover_swap`)."""
        journal = staging.swap_journal(final)
        try:
            failpoint("write journal")
            journal.write_text(staging.journal_text(final, self._beside, self._old))
            if self._durable:
                atomic.flush_file(journal)
                atomic.flush_folder(journal.parent)
            atomic.replace(final, self._old)
            atomic.replace(self._beside, final)
        except BaseException as error:
            self._take_back(final, error)
            journal.unlink(missing_ok=True)
            raise
        with atomic.mended_later(f"{final} was committed; the journal of its swap is still {journal}"):
            failpoint("drop journal")
            journal.unlink(missing_ok=True)

    def _take_back(self, final: Path, error: BaseException) -> None:
        if final.exists() or not self._old.exists():
            return
        try:
            atomic.replace(self._old, final)
        except OSError as again:
            self._half_swapped = True  # the journal stays
            raise CommitError(
                f"Cannot publish {self.location.path}: {error}; and what was there before could not be put back: "
                f"{again}. Nothing is lost: the old folder is {self._old}, the new one {self._beside}. The next "
                f"look (a run, or `superluigi clean {final.parent}`) finishes the swap."
            ) from error

    def _drop(self) -> None:
        """Also what was swapped away: after an exchange the old tree is `_beside`, after two renames `_old`."""
        super()._drop()
        if self._half_swapped:  # finishing the swap needs both
            staging.abandon(self.commit_id, self.final.parent)
            return
        with staging.abandoning(self.commit_id, self.final.parent):
            failpoint("remove replaced folder")
            copying.remove_tree(self._beside)
            copying.remove_tree(self._old)

    def _only_file(self) -> Path | None:
        return None

    def _is_much(self) -> bool:
        return True

    def _flush(self) -> None:
        atomic.flush_tree(self.path)

    def _check(self) -> None:
        if not stat.S_ISDIR(self._written().st_mode):
            raise TargetKindError(
                f"A file was written to output_path, but the output {self.location.path} is a LocalFolderTarget: "
                "output_path is an existing empty folder. Write into it, or use LocalFileTarget."
            )
        with atomic.explained("finish writing", self.location.path):
            members.own(str(self.path), self.location.uri)
        lost = next((name for name in _ours_by_name(self.path) if not staging.is_machinery(name)), None)
        if lost is not None:
            raise UnfinishedOutputError(
                f"{lost!r} was written into the folder of {self.location.path}, but names that begin with "
                f"{staging.STAGING!r} are ours in local folders: it would be lost. Choose another name."
            )
        if next(members.walk(str(self.path), self.location._hidden), None) is None:
            raise OutputNotWrittenError(
                f"Nothing was written into the folder output_path for {self.location.path}; it is empty. "
                "Write at least one file into it."
            )


def _moved_by(journal: Path) -> list[Path]:
    """The new and the old tree of a swap, as its journal says: only what was staged beside it, through no link."""
    names = staging.journalled(journal)
    found = []
    for parts in (Path(str(names.get(key, ""))).parts for key in ("new", "old")):
        top = journal.with_name(parts[0]) if parts else journal
        staged = parts and staging.is_ours(parts[0]) and ".." not in parts and "/" not in parts
        if staged and not (len(parts) > 1 and top.is_symlink()):
            found.append(top.joinpath(*parts[1:]))
    return found


def _ours_by_name(folder: Path) -> Iterator[str]:
    for _, entries in copying.walk(folder):
        yield from (entry.name for entry in entries if staging.is_ours(entry.name))


def _begins_as_record(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(len(inner.BEGINNING)) == inner.BEGINNING
    except OSError:  # gone, or not for us to read
        return False


def _bytes_of(path: str) -> bytes | None:
    try:
        return small_files.read(path)
    except (OSError, RecordError):  # gone, no file, or not for us to read
        return None

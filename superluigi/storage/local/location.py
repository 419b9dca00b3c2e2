"""Files on local disks as locations (folders: `folder`): staged beside the destination, published by one rename.

Order of a commit, under the lock of the destination's folder: settle what an earlier writer left half done;
write the record as `<record>.pending`; swap the data; rename the record. A reader that finds data which its
record does not describe looks at the pending one, and finishes it when that does.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from superluigi import config
from superluigi.errors import (
    OutputClashError,
    RecordError,
    StorageAccessError,
    TargetError,
    TargetKindError,
    TargetMissingError,
)
from superluigi.lazy import lazy
from superluigi.storage import first_records, input_lists, owner_token, small_files
from superluigi.storage.base import (
    PENDING_SUFFIX,
    RECORD_SUFFIX,
    SCHEMA,
    SURROGATES,
    Ground,
    Holder,
    Lease,
    Location,
    Record,
    StagedWrite,
    check_name,
    record_about,
    record_in,
    record_text,
    refuse_unexpected,
)
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import atomic, case, leases, lists
from superluigi.storage.local import copy as copying
from superluigi.storage.local.scratch import private_copy
from superluigi.storage.local.stages import staging


class LocalLocation(Location):
    """What files and folders share: the record beside them, its repair, staging, removal."""

    kind: ClassVar[str]
    is_folder: ClassVar[bool] = False
    #: Whether this place is known to be on a disk that tells upper from lower case.
    _is_plain = False

    def __init__(self, path: Path | str, record_path: Path | None = None) -> None:
        """`path` is absolute; a text is what `str(Path(text))` would give."""
        self.uri = str(path)
        self._record_elsewhere = record_path

    @lazy
    def path(self) -> Path:
        """`uri` as a path."""
        return Path(self.uri)

    @lazy
    def record_uri(self) -> str:  # type: ignore[override]
        """Beside the data, unless it was told where."""
        return str(self._record_elsewhere or f"{self.uri}{RECORD_SUFFIX}")

    @lazy
    def record_path(self) -> Path:
        """`record_uri` as a path."""
        return Path(self.record_uri)

    @lazy
    def pending_uri(self) -> str:
        """Where the record of a commit waits until the data is swapped."""
        return f"{self.record_uri}{PENDING_SUFFIX}"

    @property
    def pending_path(self) -> Path:
        """`pending_uri` as a path."""
        return Path(self.pending_uri)

    @property
    def final(self) -> Path:
        """Where data is really put: through a symlink, as `open(path, "w")` would write."""
        final = self.final_uri
        return self.path if final is self.uri else Path(final)

    @property
    def final_uri(self) -> str:
        """`final` as text."""
        return os.path.realpath(self.uri) if os.path.islink(self.uri) else self.uri

    # ---- what each kind adds

    @abc.abstractmethod
    def matches_kind(self, status: os.stat_result) -> bool:
        """Whether what is there is of our kind."""

    @abc.abstractmethod
    def identity(self, path: Path | str, status: os.stat_result | None = None) -> Record:
        """Cheap facts that tell these bytes from others: `size`, `mtime_ns`, `inode` and more (or `status`'s)."""

    @abc.abstractmethod
    def content(self, path: Path) -> Record:
        """The full description with digests; reads every byte."""

    @abc.abstractmethod
    def is_of_first(self, record: Record) -> bool:
        """Whether a record of the first package describes what is there; reads every byte."""

    @abc.abstractmethod
    def copy(self, destination: Path) -> None:
        """Copy what is there to a new path, all of one version."""

    @property
    @abc.abstractmethod
    def other_kind(self) -> str:
        """The class to use for what is there instead."""

    # ---- Location

    leases_are_near = True

    def lease(self, *, make: bool = True) -> Lease | Holder | None:
        self._refuse_our_names()
        return leases.take(*os.path.split(self.final_uri), make=make)

    def _refuse_our_names(self) -> None:
        check_name(self.uri)
        if staging.is_ours(os.path.basename(self.uri)):
            raise TargetKindError(
                f"An output cannot be {self.uri}: names that begin with {staging.STAGING!r} are ours in local folders, "
                "where it would be lost. Choose another name."
            )

    def holder(self) -> Holder | None:
        return leases.holder(*os.path.split(self.final_uri))

    def exists(self) -> bool:
        if self._stat() is not None:
            return True
        return self._recover_swap() and self._stat() is not None

    def describe(self) -> Record | None:
        if not self.exists():
            return None
        record = self.read_record()
        if record is not None:
            return {key: value for key, value in record["output"].items() if key != "contents"}
        return {"type": self.kind, "path": self.uri, **self._digested()}

    def read_record(self) -> Record | None:
        return self._settled_record(json.loads)

    def read_record_summary(self) -> Record | None:
        return self._settled_record(record_about)

    def _settled_record(self, parse: Callable[[bytes], object]) -> Record | None:
        for _ in range(100):  # a writer that commits all the time must not keep us for ever
            before = self._stat()
            if before is None:
                return None
            record = self._read(self.record_uri, parse)
            for moved in (False, True):  # of two records of the same bytes, that of the very files counts
                if record is not None and self._describes(record, before, moved=moved):
                    return record
                pending = self._read_lenient(self.pending_uri)
                if pending is not None and self._describes(pending, moved=moved):
                    self.repair()
                    return pending
            after = self._stat()
            if after is not None and _same(before, after) and self._read(self.record_uri, parse) == record:
                return None
        return None

    def write_record(self, record: Mapping[str, object], expected: Mapping[str, Any] | None = None) -> None:
        if not self.has_data():
            raise TargetMissingError(
                f"{self.uri} does not exist, so there is nothing that a record could describe. Write the data first."
            )
        with self._locked():
            self._resolve_held()
            known = self._read(self.record_uri)
            known = known if known is not None and self._describes(known) else None
            output = known["output"] if known is not None else None
            if output is None:
                output = {"type": self.kind, "path": self.uri, **self.content(self.final)}
            refuse_unexpected(self.uri, known, output, expected)
            self._put_record({"schema": SCHEMA, **record, "output": output}, replaces=known is not None)

    def stage(self) -> StagedWrite:
        with atomic.explained("write to", self.uri, "Nothing has changed."):
            self.check_place()
            self._recover_swap()
            self.refuse_other_owner()
            self.refuse_inner("replace")
            final = self.final_uri
            folders = {os.path.dirname(final)}
            if self._record_elsewhere is not None or final is not self.uri:
                folders.add(os.path.dirname(self.record_uri))
            for folder in folders:
                for left in staging.sweep(folder):
                    with contextlib.suppress(OSError):  # it may be the same fault that made it stay
                        staging.remove_left(left)
            return self._staged(final)

    def check_place(self) -> None:
        """Refuse what can hold no output: by its name, or because a folder is where its record goes."""
        self._refuse_our_names()
        self._check_names()
        self._check_record()

    def _check_record(self, place: str | None = None) -> None:
        if os.path.isdir(place := place or self.record_uri):
            raise TargetKindError(f"{place} is a folder, but the record of {self.uri} goes there. Remove it.")

    @contextlib.contextmanager
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        del refresh  # local data is always fresh
        if not self.exists():
            raise self._missing()
        if shared:
            yield self.path
            return
        with private_copy(self.final.parent, self.path.name, self.copy) as copy:
            yield copy

    def grounds(self) -> list[Ground]:
        data = Ground(None, self.uri, self.is_folder)
        return [data] if self._record_elsewhere is None else [data, Ground(None, self.record_uri)]

    def remove(self) -> None:
        if not self.has_data() and os.path.exists(self.uri):  # also raises for data of another kind
            return  # it is another's, whose name differs in case
        with atomic.explained("remove", self.path), contextlib.suppress(FileNotFoundError), self._locked():
            self._check_record()
            self.refuse_inner("remove")
            final = self.final
            if final.is_dir():  # out of sight in one step, then emptied
                token = owner_token.token()
                aside = staging.beside(final.parent, token)
                atomic.replace(final, aside)
                gone = f"{final} was removed; what was in it is still {aside}"
                with atomic.mended_later(gone), staging.abandoning(token, final.parent):
                    copying.remove_tree(Path(aside))
            else:
                final.unlink(missing_ok=True)
            if self.path.is_symlink():
                self.path.unlink()
            failpoint("drop record")  # last: data is never left behind without it
            self.record_path.unlink(missing_ok=True)
            self.pending_path.unlink(missing_ok=True)
            lists.tidy(self.record_uri)

    def refuse_inner(self, action: str) -> None:
        """Leave alone what other tasks have inside; nothing is inside a file.

        Raises:
            OutputClashError: names the outputs that would go with this one.
        """

    # ---- parts

    def _missing(self) -> TargetMissingError:
        return TargetMissingError(
            f"{self.uri} does not exist. Run the task that makes it, or check the path of the external data."
        )

    @abc.abstractmethod
    def _staged(self, final: str) -> StagedWrite:
        """A stage for `final` that has been made."""

    def _check_names(self) -> None:
        """Long names are refused before the work, not after it."""
        if len(os.fsencode(os.path.basename(self.pending_uri))) > staging.NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(self.path))

    def _stat(self) -> os.stat_result | None:
        try:
            status = os.stat(self.uri)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise StorageAccessError(
                f"Cannot look at {self.path}: {error.strerror}. "
                "Whether it exists is unknown; check the rights of its folder."
            ) from error
        except OSError as error:
            raise TargetError(f"Cannot look at {self.path}: {error.strerror}. {atomic.advice(error)}") from error
        if not self.matches_kind(status):
            if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
                raise TargetKindError(f"{self.path} is a pipe, socket or device; outputs are files and folders.")
            there = "a folder" if stat.S_ISDIR(status.st_mode) else "a file"
            raise TargetKindError(
                f"{self.path} is {there}, but {self.kind} expects {'a file' if there == 'a folder' else 'a folder'}. "
                f"Use {self.other_kind}, or remove it."
            )
        if not self._is_plain:
            folder, _, name = self.uri.rpartition("/")
            if case.folding.get(folder) is not False and case.folds(folder, name):
                return None if self._other_owner(folder, name) is not None else status
            self._is_plain = True
        return status

    def _other_owner(self, folder: str, name: str) -> str | None:
        """On a disk that does not tell upper from lower case: what is here in truth, if it is called otherwise."""
        record = self._read_lenient(self.record_uri)
        output = None if record is None else record.get("output")
        recorded = str(output.get("path")) if isinstance(output, dict) else ""
        if recorded == self.uri:
            return None
        if recorded.casefold() == self.uri.casefold():
            return recorded
        other = case.other_name(folder, name)
        return None if other is None else f"{folder}/{other}"

    def refuse_other_owner(self) -> None:
        """Refuse to replace what is called otherwise, on a disk that does not tell upper from lower case.

        Raises:
            OutputClashError: names what is there.
        """
        folder, _, name = self.uri.rpartition("/")
        if case.is_plain(folder):
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            other = self._other_owner(folder, name) if os.path.exists(self.uri) and case.folds(folder, name) else None
            if other is not None:
                raise OutputClashError(
                    f"{self.uri} cannot be written: this disk does not tell upper from lower case, and {other} is "
                    "there. Choose a name that differs in more than that."
                )

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return atomic.locked(self.final.parent)

    def _describes(self, record: Record, status: os.stat_result | None = None, *, moved: bool = True) -> bool:
        """Whether the data that is there (or was, when `status` was asked for) is what `record` describes; with
        `moved`, also if both were moved or copied: another inode and time, the same bytes."""
        output = record.get("output")
        if not isinstance(output, dict):
            return False
        try:
            now = self.identity(self.uri, status)
            if all(output.get(key) == value for key, value in now.items()):
                return True
            return moved and output.get("size") == now["size"] and output.get("digest") == self._digested()["digest"]
        except FileNotFoundError:
            return False

    def _digested(self) -> Record:
        final = self.final
        return _content_of(self, tuple(sorted(self.identity(final).items())))

    def _read(self, path: Path | str, parse: Callable[[bytes], object] = json.loads) -> Record | None:
        try:
            text = small_files.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise StorageAccessError(
                f"Cannot read the record {path}: {error.strerror}. Check its owner and mode."
            ) from error
        except OSError as error:
            raise TargetError(f"Cannot read the record {path}: {error.strerror}. {atomic.advice(error)}") from error
        try:
            record = record_in(text, parse)
        except ValueError as error:  # also what is no text at all: a pickle, say
            raise RecordError(
                f"The record {path} is not valid JSON ({error}). Restore it, or remove it to have none."
            ) from error
        if not isinstance(record, dict):
            return None
        if first_records.is_first(record):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, TargetKindError):
                if self._stat() is not None and self.is_of_first(record):
                    return first_records.translated(record, {"type": self.kind, "path": self.uri, **self._digested()})
        return lists.bound(record, self.record_uri, lambda: self._read_lenient(self.record_uri))

    def _read_lenient(self, path: str) -> Record | None:
        """As `_read`; a part of a record (power lost while nothing was flushed) counts as nothing."""
        try:
            return self._read(path)
        except RecordError:
            return None

    def repair(self) -> None:
        """Finish or drop what a dead writer left half done, unless this place is read-only."""
        self._recover_swap()
        self.resolve_pending()

    def resolve_pending(self) -> None:
        """Finish or drop a pending record, nothing else: the data may lie where only that record says."""
        with contextlib.suppress(OSError), self._locked():
            self._resolve_held()

    def _resolve_held(self) -> None:
        if not os.path.lexists(self.pending_uri):
            return
        self._check_record(self.pending_uri)
        pending, record = self._read_lenient(self.pending_uri), self._read_lenient(self.record_uri)
        # A commit of the same bytes that failed, or died, is none: the record of those that are there stands.
        stands = record is not None and self._stat() is not None and self._describes(record, moved=False)
        if pending is not None and self._stat() is not None and self._describes(pending, moved=not stands):
            atomic.replace(self.pending_uri, self.record_uri)
        else:
            failpoint("drop pending record")
            self.pending_path.unlink(missing_ok=True)
        lists.tidy(self.record_uri)

    def prepare_record(self, record: Record) -> None:
        """Have a record waiting for data that is about to come here; `resolve_pending` names or drops it."""
        with self._locked():
            self._write_pending(record, owner_token.token(), durable=config.get("durable"))

    def _put_record(self, record: Record, *, replaces: bool = True) -> None:
        """Replace the record in one step; the caller holds the lock."""
        listed = self._write_pending(record, owner_token.token(), durable=config.get("durable"))
        atomic.replace(self.pending_uri, self.record_uri)
        if listed or replaces:
            self.tidy_lists()

    def tidy_lists(self) -> None:
        """Remove the lists of inputs that went with a record."""
        with atomic.mended_later(f"A list of inputs that no record names is still in {lists.home(self.record_uri)}"):
            lists.tidy(self.record_uri)

    def _write_pending(self, record: Record, token: str, *, durable: bool) -> bool:
        """Have the record waiting, whole: it is written under a name of this process and renamed.

        Its lists of inputs come before it; whether it has any.
        """
        folder = os.path.dirname(self.record_uri)
        staged = staging.beside(folder, token, ".record")
        record, listed = input_lists.split(record, lists.home(self.record_uri), token)
        content = record_text(record).encode("utf-8", SURROGATES)
        try:
            lists.write(self.record_uri, listed, durable=durable)
            failpoint("write pending record")
            made = staging.with_folders(lambda: atomic.write_new(staged, content, flush=durable), folder)
            for new in made if durable else ():
                atomic.flush_folder(new.parent)
            atomic.replace(staged, self.pending_uri)
        except BaseException:
            with contextlib.suppress(OSError), staging.abandoning(token, folder):
                Path(staged).unlink(missing_ok=True)
            if listed:
                self.tidy_lists()
            raise
        if durable:
            atomic.flush_folder(folder)
        return bool(listed)

    def _recover_swap(self) -> bool:
        """Finish a swap that a dead writer left half done; True if there was one."""
        return False


def published_together(locations: Iterable[Location]) -> contextlib.AbstractContextManager[None]:
    """Keep other writers of this machine from publishing in between where several of these are local."""
    local = [location for location in locations if isinstance(location, LocalLocation)]
    if len(local) < 2:
        return contextlib.nullcontext()
    return atomic.locked_together([location.final.parent for location in local])


def file_facts(status: os.stat_result) -> Record:
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _same(first: os.stat_result, second: os.stat_result) -> bool:
    return file_facts(first) == file_facts(second)


_known_contents: dict[tuple[str, str, tuple[tuple[str, object], ...]], Record] = {}


def _content_of(location: LocalLocation, facts: tuple[tuple[str, object], ...]) -> Record:
    """`location.content`, remembered in this process for as long as the cheap facts stay the same."""
    key = (location.kind, str(location.final), facts)
    known = _known_contents.get(key)
    if known is None:
        known = location.content(location.final)
        known.pop("contents", None)
        if len(_known_contents) > 4096:
            _known_contents.clear()
        _known_contents[key] = known
    return known

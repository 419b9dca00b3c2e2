"""Outputs on local disks."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import luigi

from superluigi import renamed
from superluigi.arguments import NotNegative, can_be_named, guarded
from superluigi.errors import OptionError
from superluigi.lazy import lazy
from superluigi.setting_texts import at_home
from superluigi.storage.base import RECORD_SUFFIX
from superluigi.storage.local.file import FileLocation
from superluigi.storage.local.folder import FolderLocation
from superluigi.targets.addresses import hint_for_path, meant
from superluigi.targets.base import AtomicTarget, LuigiFormat, StreamTarget, contents_limit
from superluigi.targets.local_system import LocalSystem, Name

#: What an absolute path as `Path` writes it does not have; `..` stays, since a link may stand before it.
_ODD = re.compile(r"//|/\./|/\.{0,2}\Z|\0")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


@guarded(hint=hint_for_path)
class LocalFileTarget(StreamTarget, luigi.LocalTarget):
    """One file; replaced by a single rename.

    Args:
        path: the file. `~` is expanded.
        metadata_path: its record; `<path>.metadata.json` by default.
        format: Luigi's format for `open`.
        external: the data is made by others. A file needs no record anyway.
    """

    location: FileLocation
    fs = LocalSystem()

    def move(self, new_path: Name, raise_if_exists: bool = False) -> None:
        """Rename the file, with its record."""
        self.fs.move_from(self.location, new_path, raise_if_exists)

    rename = move

    def copy(self, new_path: Name, raise_if_exists: bool = False) -> None:
        """Copy the file, with its record."""
        self.fs.copy_from(self.location, new_path, raise_if_exists)

    @lazy
    def path(self) -> Path:  # type: ignore[override]
        """The file, as it was named."""
        return self.location.path

    @property
    def metadata_path(self) -> Path:
        """Where the record is."""
        return self.location.record_path

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata_path: str | os.PathLike[str] | None = None,
        format: LuigiFormat = None,
        *,
        external: bool = False,
    ) -> None:
        self.is_tmp = False
        self._set_format(format)
        if metadata_path is None and type(path) is str and path[:1] == "/" and not _ODD.search(path):
            self.location = FileLocation(path)  # a run looks at many targets, mostly only whether they exist
            if external:
                self.location.external = True
            return
        self.path = _path(path)
        record_path = _other_place(self.path, metadata_path)
        if record_path and _absolute(self.path) in record_path.parents:
            raise OptionError(
                f"metadata_path {metadata_path} is inside {path}, which is one file. Choose another place."
            )
        self.location = FileLocation(_absolute(self.path), record_path)
        self.location.external = external


@guarded(hint=hint_for_path)
class LocalFolderTarget(AtomicTarget):
    """A folder with all it holds; swapped in one step where the kernel can exchange two names.

    Args:
        path: the folder. `~` is expanded.
        metadata_path: its record; `<path>.metadata.json` by default.
        metadata_inside_folder: put the record into the folder, as `.metadata.json`.
        metadata_contents_limit: how many files the record lists, None for all of them; digest and count cover all.
        external: the folder is made by others and complete without a record, as an `ExternalTask`'s is.
    """

    is_folder = True
    path: Path
    location: FolderLocation

    @property
    def metadata_path(self) -> Path:
        """Where the record is."""
        return self.location.record_path

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata_path: str | os.PathLike[str] | None = None,
        metadata_inside_folder: bool = False,
        metadata_contents_limit: NotNegative | None = 10,
        *,
        external: bool = False,
    ) -> None:
        if metadata_inside_folder and metadata_path is not None:
            raise OptionError("Give metadata_path or metadata_inside_folder=True, not both.")
        self.path = _path(path)
        inside = self.path / RECORD_SUFFIX if metadata_inside_folder else metadata_path
        record_path = _other_place(self.path, inside)
        self.location = FolderLocation(_absolute(self.path), record_path, contents_limit(metadata_contents_limit))
        self.location.external = external


def _path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text:
        raise OptionError("The path of a target is empty.")
    if (found := meant(text)) is not None:
        kind = "S3PrefixTarget" if not found[1] or found[1].endswith("/") else "S3ObjectTarget"
        raise OptionError(f"{text!r} is no local path. Use {kind}({found[0]!r}, {found[1]!r}).")
    if address := _SCHEME.match(text):
        raise OptionError(_other_target(text, address[1].lower(), text[address.end() :]))
    if "\0" in text or not can_be_named(text):
        coding = sys.getfilesystemencoding()
        can_hold = "" if coding == "utf-8" else f" in {coding}, in which Python has names here; set PYTHONUTF8=1"
        what = "a zero byte" if "\0" in text else f"a character that no name can hold{can_hold}"
        raise OptionError(f"The path of a target holds {what}: {text!r}.")
    if os.path.basename(text.rstrip("/")) in ("", ".."):
        raise OptionError(f"The path of a target must end with a name of its own, not as {text!r} does.")
    return at_home(path)


def _other_target(text: str, scheme: str, rest: str) -> str:
    if scheme == "file":
        return f"{text!r} is an address. Give the path itself: {'/' + rest!r}."
    return f"{text!r} is no local path, and no target of ours is for {scheme}://. Use one of Luigi's, or your own."


def _absolute(path: Path) -> Path:
    return path if path.is_absolute() else path.absolute()


def _other_place(path: Path, metadata_path: str | os.PathLike[str] | None) -> Path | None:
    """Where the record is to be, if not beside its data."""
    if metadata_path is None:
        return None
    record = _path(metadata_path)
    if os.path.abspath(record) == os.path.abspath(path):
        raise OptionError(f"metadata_path is the path of the data itself: {path}. Choose another place for the record.")
    return _absolute(record)


def __getattr__(name: str) -> NoReturn:
    renamed.refuse(__name__, name)

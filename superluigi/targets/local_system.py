"""Luigi's file system interface (`target.fs`) over local locations: what is moved, copied or removed takes its record
along."""

from __future__ import annotations

import os
from pathlib import Path

from luigi.local_target import LocalFileSystem
from luigi.target import FileAlreadyExists

from superluigi.storage.local.file import FileLocation
from superluigi.storage.local.folder import FolderLocation
from superluigi.storage.local.location import LocalLocation

Name = str | os.PathLike[str]


class LocalSystem(LocalFileSystem):
    """Luigi's own, with records: those of targets, else those beside the data."""

    def move(self, old_path: Name, new_path: Name, raise_if_exists: bool = False) -> None:
        """Rename a file or folder; its record follows."""
        self.move_from(_location_of(old_path), new_path, raise_if_exists)

    def move_from(self, old: LocalLocation, new_path: Name, raise_if_exists: bool) -> None:
        """`move`, for what is at a location."""
        new = type(old)(os.path.abspath(new_path))
        new.check_place()
        new.has_data()  # raises for data of another kind
        record = old.read_record()
        os.makedirs(os.path.dirname(new.uri), exist_ok=True)
        if record is not None:  # it waits there: data is never without its record
            new.prepare_record({**record, "output": {**record["output"], "path": new.uri}})
        try:
            super().move(old.uri, new.uri, raise_if_exists)
        finally:
            new.resolve_pending()
        _forget(old)

    def copy(self, old_path: Name, new_path: Name, raise_if_exists: bool = False) -> None:
        """Copy a file, whole or not at all; its record too."""
        self.copy_from(_location_of(old_path), new_path, raise_if_exists)

    def copy_from(self, old: LocalLocation, new_path: Name, raise_if_exists: bool) -> None:
        """`copy`, for what is at a location."""
        new = type(old)(os.path.abspath(new_path))
        if raise_if_exists and os.path.exists(new.uri):
            raise FileAlreadyExists(f"Destination exists: {new.uri}")
        record = old.read_record()
        with new.stage() as staged:
            if staged.path.is_dir():
                staged.path.rmdir()
            old.copy(staged.path)
            staged.notes = {"format": found} if (found := ((record or {}).get("output") or {}).get("format")) else {}
            staged.commit(record)

    def remove(self, path: Name, recursive: bool = True, skip_trash: bool = True) -> None:
        """Remove a file, or with `recursive` a folder, and its record."""
        del skip_trash
        location = _location_of(path)
        super().remove(os.fspath(path), recursive)
        _forget(location)


def _location_of(path: Name) -> LocalLocation:
    """The location of a path; of the kind that is there."""
    absolute = os.path.abspath(path)
    return FolderLocation(absolute) if os.path.isdir(absolute) else FileLocation(absolute)


def _forget(location: LocalLocation) -> None:
    """Remove the record of data that is no longer there."""
    if not os.path.lexists(location.uri):
        Path(location.record_uri).unlink(missing_ok=True)
        location.tidy_lists()

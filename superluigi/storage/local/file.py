"""Files on local disks as locations."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from superluigi.storage import first_records
from superluigi.storage.base import Record, StagedWrite
from superluigi.storage.local import copy as copying
from superluigi.storage.local.location import LocalLocation, file_facts
from superluigi.storage.local.staged import LocalStaged


class FileLocation(LocalLocation):
    """One local file."""

    kind = "LocalFileTarget"
    other_kind = "LocalFolderTarget"

    def matches_kind(self, status: os.stat_result) -> bool:
        return stat.S_ISREG(status.st_mode)

    def identity(self, path: Path | str, status: os.stat_result | None = None) -> Record:
        return file_facts(status or os.stat(path))

    def content(self, path: Path) -> Record:
        digest, status = copying.digested(str(path))
        return {**file_facts(status), "digest": {"sha256": digest}}

    def is_of_first(self, record: Record) -> bool:
        return first_records.is_of_file(record, self.final)

    def copy(self, destination: Path) -> None:
        copying.copy_file(self.final, destination)

    def _staged(self, final: str) -> StagedWrite:
        return LocalStaged.begun(self, final)

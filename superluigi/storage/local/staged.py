"""New content for a local file or folder: written beside the destination, checked, published under its lock.

It grows under its final name in a private folder, the stage, in which nothing else may lie at the end.
"""

from __future__ import annotations

import contextlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from superluigi import config
from superluigi.errors import TargetKindError
from superluigi.storage import owner_token
from superluigi.storage.base import Record, StagedWrite
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import atomic, case, members
from superluigi.storage.local.location import LocalLocation
from superluigi.storage.local.stages import stage_check, staging

_WRITE_A_COPY = "Write the bytes themselves to output_path."
_UNCHANGED = "What was there before is unchanged."
_MUCH = 8 << 20  # bytes; from here on a thread for the flush pays


class LocalStaged(StagedWrite):
    """A file being written in a staging folder beside its destination."""

    location: LocalLocation

    def __init__(self, location: LocalLocation, final: str) -> None:
        self.location, self.final_uri = location, final
        self.commit_id = owner_token.token()
        self.parent, name = os.path.split(final)
        self.stage = staging.beside(self.parent, self.commit_id)
        self.path = Path(f"{self.stage}/{name}")
        self._made_folders: list[Path] = []
        self._done = False
        self._output: Record | None = None
        self._durable = True
        self._replaces = False

    @classmethod
    def begun(cls, location: LocalLocation, final: str) -> LocalStaged:
        """A stage that has been made, or nothing of it is left."""
        staged = cls(location, final)
        try:
            staged.begin()
        except BaseException:
            staged.discard()
            raise
        return staged

    def begin(self) -> None:
        """Make the stage."""
        self._made_folders = staging.make_stage(self.stage, self.parent)

    def prepare(self) -> Record:
        if self._output is None:
            location = self.location
            with atomic.explained("finish writing", location.uri, _UNCHANGED):
                self._durable = config.get("durable")
                self._check()
                stage_check.check_alone(self.path, location.uri)
                stage_check.check_written(self.stage, location.uri, self._only_file())
                self._replaces = atomic.as_plain_open(self.path, self.final_uri)
                atomic.stamp(self.path)
                self._output = {
                    "type": location.kind,
                    "path": location.uri,
                    **self._flushed_content(),
                    "commit": self.commit_id,
                    **self.notes,
                }
        return dict(self._output)

    def commit(self, record: Record | None) -> Record | None:
        output = self.prepare()
        location = self.location
        published = None if record is None else {**record, "output": output}
        with atomic.explained("publish", location.uri, _UNCHANGED):
            location._stat()  # raises if something of another kind appeared there
            location.refuse_other_owner()
            with atomic.locked(self.parent):
                try:
                    location._resolve_held()
                    self._publish(published)
                except BaseException:
                    with contextlib.suppress(OSError):  # the first error tells more, and the next process settles
                        location._resolve_held()
                    raise
            case.learn(location.uri)
        self.discard()
        return published

    def discard(self) -> None:
        if self._done:
            return
        self._done = True
        with atomic.mended_later(f"{self.location.uri}: its temporary files {self.stage}* could not be removed"):
            self._drop()

    def _drop(self) -> None:
        """Remove what this commit's token names."""
        with staging.abandoning(self.commit_id, self.parent):
            staging.drop_stage(self.stage, self.parent)

    # ---- parts

    def _publish(self, record: Record | None) -> None:
        """Make data and record visible. After `_swap` the commit is made: what fails then, the next process does."""
        location = self.location
        listed = record is not None and location._write_pending(record, self.commit_id, durable=self._durable)
        self._swap()
        self._flush_names()
        with atomic.mended_later(f"{location.uri} was committed; its record is still {location.pending_uri}"):
            if record is not None:
                atomic.replace(location.pending_uri, location.record_uri)
            else:
                failpoint("drop record")
                location.record_path.unlink(missing_ok=True)
        if listed or self._replaces:
            location.tidy_lists()

    def _swap(self) -> None:
        """The commit: from here on readers see the new data."""
        atomic.replace(self.path, self.final_uri)

    def _flush_names(self) -> None:
        if self._durable:
            with atomic.mended_later(f"{self.location.uri} was committed, but may not survive a power cut"):
                for folder in (self.parent, *(str(made.parent) for made in self._made_folders)):
                    atomic.flush_folder(folder)

    def _flushed_content(self) -> Record:
        """Flush and digest: the disk works beside the processor where there is much to write."""
        if not self._durable:
            return self.location.content(self.path)
        if not self._is_much():
            self._flush()
            return self.location.content(self.path)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="superluigi-flush") as pool:
            flushed = pool.submit(self._flush)
            content = self.location.content(self.path)
            flushed.result()
            return content

    def _only_file(self) -> Path | None:
        return self.path

    def _is_much(self) -> bool:
        return self.path.stat().st_size > _MUCH

    def _flush(self) -> None:
        atomic.flush_file(self.path)

    def _check(self) -> None:
        written = self._written()
        mode = written.st_mode
        if stat.S_ISREG(mode):
            if written.st_nlink > 1:  # it would change with what it shares its bytes with
                members.own_file(str(self.path), self.location.uri)
            return
        if not stat.S_ISDIR(mode):
            raise TargetKindError(f"output_path for {self.location.path} is a pipe, socket or device. {_WRITE_A_COPY}")
        raise TargetKindError(
            f"A folder was written to output_path, but the output {self.location.path} is a "
            f"{self.location.kind}, one file. Write a file, or use LocalFolderTarget."
        )

    def _written(self) -> os.stat_result:
        """Of what was written; a link is replaced by what it leads to."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            raise stage_check.not_written(self.path, str(self.location.path)) from None
        if not stat.S_ISLNK(status.st_mode):
            return status
        members.own_written(str(self.path), self.location.uri)  # its data would be what others can change
        return os.lstat(self.path)

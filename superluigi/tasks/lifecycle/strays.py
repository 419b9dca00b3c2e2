"""What `run` wrote to the final place of an output, past its attempt: taken into the commit, or away.

Luigi's `open(self.output().path, "w")` cannot be seen while it happens. What has appeared at the place since the
attempt began, and has no record, is its work: in the end it becomes part of the commit if nothing else was written,
and after a failure it goes, since without a record it would count as complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from superluigi.errors import SuperLuigiError
from superluigi.runs import logs
from superluigi.storage.base import Location, Record, StagedWrite
from superluigi.storage.local import copy
from superluigi.targets.base import AtomicTarget
from superluigi.targets.joining import is_written

_Seen = tuple[int, ...]


class Watch:
    """The final places of one attempt's outputs, as they were when it began."""

    def __init__(self, task: Any, forced: bool, pairs: Iterable[tuple[AtomicTarget, StagedWrite]]) -> None:
        self._task = task
        self._forced = forced
        self._pairs = [(target.location, staged) for target, staged in pairs]
        self._before = {location.uri: _seen(location) for location, _ in self._pairs}
        records = {location.uri: location.record_uri for location, _ in self._pairs if _is_local(location)}
        self._records = {uri: _looked_at(record_uri) for uri, record_uri in records.items()}

    def adopt(self) -> None:
        """After `run` has ended well: take what it wrote on disks past its stages into them."""
        for location, staged in self._pairs:
            if not _is_local(location) or is_written(staged):
                continue
            if self._is_stray(location) or self._is_the_same_again(location):
                if staged.path.is_dir():
                    staged.path.rmdir()
                shutil.move(os.path.realpath(location.uri), staged.path)  # through a link that stands there
                self._say(f"wrote {location.uri} itself, where others could see half of it")

    def left_in_place(self) -> list[StagedWrite]:
        """The stages of what `run` has stored elsewhere by itself: all that is missing there is a record."""
        found = []
        for location, staged in self._pairs:
            if not _is_local(location) and not is_written(staged) and self._is_stray(location):
                self._say(f"wrote {location.uri} itself")
                found.append(staged)
        return found

    def was_there(self, location: Location, record: Record) -> bool:
        """Whether what is there now, with this `record`, was there when the attempt began: no clock is asked."""
        if _is_local(location):
            return _seen(location) == self._before[location.uri]
        return any(staged.replaces(record) for other, staged in self._pairs if other.uri == location.uri)

    def end(self, failure: type[BaseException] | None, *rest: object) -> None:
        """After a failure, what `run` wrote to a final place must not count as complete."""
        del rest
        if failure is None:
            return
        for location, _ in self._pairs:
            with contextlib.suppress(OSError, SuperLuigiError):  # the failure itself says more
                if not self._is_stray(location):
                    continue
                if _is_local(location):
                    copy.remove_tree(Path(os.path.realpath(location.uri)))
                    Path(location.record_uri).unlink(missing_ok=True)  # of what it was copied from
                    self._say(f"failed and had written {location.uri} itself, which is removed")
                else:
                    self._say(f"failed, and {location.uri} has no record: remove it if run() wrote it")

    def _is_stray(self, location: Location) -> bool:
        if _is_local(location):
            now = _seen(location)
            return now is not None and now != self._before[location.uri] and self._is_no_commit(location)
        # no store is asked beforehand: only where the task was not complete, so that its one output was not there
        if len(self._pairs) > 1 or self._forced:
            return False
        return location.exists() and self._is_no_commit(location)

    def _is_the_same_again(self, location: Location) -> bool:
        """Whether `run` wrote the bytes that were there already, which their record describes as before.

        A commit would have put another record there.
        """
        if _seen(location) in (None, self._before[location.uri]):
            return False
        before = self._records[location.uri]
        return before is not None and _looked_at(location.record_uri) == before

    def _is_no_commit(self, location: Location) -> bool:
        """Whether no commit has made what is there as this task's output; a copy may have its source's record."""
        made = location.read_record_summary()
        return made is None or made.get("task_hash") != self._task.task_hash

    def _say(self, what: str) -> None:
        logs.logger.warning("run() of %s %s. Write to output_path, or through self.output().", self._task, what)


def _is_local(location: Location) -> bool:
    return "://" not in location.uri


def _seen(location: Location) -> _Seen | None:
    """Enough of a local path to tell whether it was written to since; None where nothing is."""
    return _looked_at(location.uri) if _is_local(location) else None


def _looked_at(path: str) -> _Seen | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns

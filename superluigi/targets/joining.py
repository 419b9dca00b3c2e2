"""Writes to an output of the task that runs here become part of its attempt's commit, in whatever way they are made.

`self.output().open("w")` inside of `run` is Luigi's way to write. An attempt has opened a stage for that place
already, and will commit it with a record: what is written through any target of the same place goes into that stage.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path

from superluigi.errors import OutputNotWrittenError
from superluigi.storage.base import Location, Record, StagedWrite, lost_stage
from superluigi.storage.local import copy


class Stages:
    """The stages that one attempt has opened, by what the place of each is called."""

    def __init__(self, stages: Iterable[tuple[Location, StagedWrite]]) -> None:
        self.by_uri = {location.uri: staged for location, staged in stages}


_mine: ContextVar[Stages | None] = ContextVar("superluigi_stages", default=None)
#: The stages of all attempts of this process: a thread that a task has started begins without its context.
any_at_work: list[Stages] = []
_guard = threading.Lock()


class joined:  # noqa: N801 - used like a function, around every attempt
    """Until the block ends, writes to these places go into these stages."""

    def __init__(self, stages: Iterable[tuple[Location, StagedWrite]]) -> None:
        self._stages = Stages(stages)

    def __enter__(self) -> None:
        self._before = _mine.get()
        _mine.set(self._stages)
        with _guard:
            any_at_work.append(self._stages)

    def __exit__(self, *exc_info: object) -> None:
        with _guard:
            any_at_work.remove(self._stages)
        if _mine.get() is self._stages:  # a generator may be closed in another context than it was begun in
            _mine.set(self._before)


def stage_of(location: Location) -> StagedWrite | None:
    """The stage of the attempt at work here that makes what is at `location`; None where no attempt does."""
    mine = _mine.get()
    if mine is not None:
        return mine.by_uri.get(location.uri)
    with _guard:
        found = [stages.by_uri[location.uri] for stages in any_at_work if location.uri in stages.by_uri]
    return found[0] if len(found) == 1 else None


def has_written(location: Location) -> Path | None:
    """What the attempt at work here has written for `location` so far, to be read back; None where it has not."""
    if _mine.get() is None:
        return None
    staged = stage_of(location)
    return staged.path if staged is not None and is_written(staged) else None


def is_written(staged: StagedWrite) -> bool:
    """Whether there is anything in a stage yet."""
    try:
        mode = os.lstat(staged.path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISDIR(mode) or bool(os.listdir(staged.path))


class Joining(StagedWrite):
    """A write that is committed with everything else of the attempt."""

    def __init__(self, attempts: StagedWrite) -> None:
        self._attempts = attempts
        self.path = attempts.path
        self.commit_id = attempts.commit_id
        self.notes = {}
        self._kept = False

    def prepare(self) -> Record:
        raise NotImplementedError("the attempt itself prepares what it commits")

    def commit(self, record: Record | None) -> Record | None:
        """Leave what was written to the attempt, which puts its own record beside it."""
        if not is_written(self._attempts):
            why = lost_stage(self.path, self.path.name)
            raise OutputNotWrittenError(why or f"Nothing was written to {self.path}. Write the result there.")
        if self.notes:
            self._attempts.notes = self.notes
        self._kept = True
        return record

    def discard(self) -> None:
        """Drop what was written, unless it has been left to the attempt."""
        if self._kept:
            return
        self._kept = True
        for one in list(self.path.iterdir()) if self.path.is_dir() else [self.path]:
            copy.remove_tree(one)

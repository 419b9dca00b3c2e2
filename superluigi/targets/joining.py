"""Writes to an output of the task that runs here become part of its attempt's commit, whoever makes them.

`self.output().open("w")` inside of `run` is Luigi's way to write. An attempt has opened a stage for that place
already, and will commit it with a record: what is written through any target of the same place goes into that stage.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from superluigi.errors import OutputNotWrittenError
from superluigi.storage.base import Location, Record, StagedWrite
from superluigi.storage.local import copy


class Stages:
    """The stages that one attempt has opened, by what the place of each is called."""

    def __init__(self, stages: Iterable[tuple[Location, StagedWrite]]) -> None:
        self.by_uri = {location.uri: staged for location, staged in stages}


_mine: ContextVar[Stages | None] = ContextVar("superluigi_stages", default=None)
#: The stages of all attempts of this process: a thread that a task has started begins without its context.
any_at_work: list[Stages] = []
_guard = threading.Lock()


@contextlib.contextmanager
def joined(stages: Iterable[tuple[Location, StagedWrite]]) -> Iterator[None]:
    """Until the block ends, writes to these places go into these stages."""
    mine, before = Stages(stages), _mine.get()
    _mine.set(mine)
    with _guard:
        any_at_work.append(mine)
    try:
        yield
    finally:
        with _guard:
            any_at_work.remove(mine)
        if _mine.get() is mine:  # a generator may be closed in another context than it was begun in
            _mine.set(before)


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
    path = staged.path
    return any(path.iterdir()) if path.is_dir() else os.path.lexists(path)


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
            raise OutputNotWrittenError(f"Nothing was written to {self.path}. Write the result there.")
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

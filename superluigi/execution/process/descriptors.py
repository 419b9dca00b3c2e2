"""The standard descriptors, and how they mean again what they meant before a task sent them elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys

#: Which file a descriptor means: device and inode; None for a closed one.
File = tuple[int, int] | None


def _file_of(descriptor: int) -> File:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def look() -> list[File]:
    """What descriptors 0 to 2 mean."""
    return [_file_of(0), _file_of(1), _file_of(2)]


class Duplicates:
    """Descriptors 0 to 2 as they were when the first attempt began, to be put back from."""

    def __init__(self) -> None:
        self._files: list[File] = []
        self._kept: list[int] = []

    def keep(self, files: list[File]) -> None:
        """Begin: they mean `files` now."""
        self._files, self._kept = files, []
        for descriptor, file in enumerate(self._files):
            try:
                self._kept.append(-1 if file is None else os.dup(descriptor))
            except OSError:  # no descriptor is left
                self._kept.append(-1)

    def of(self, descriptor: int, file: File) -> int | None:
        """A duplicate of what `descriptor` was, if that was `file` and the task has not closed it."""
        if not self._kept or self._files[descriptor] != file:
            return None
        kept = self._kept[descriptor]
        return kept if _file_of(kept) == file else None

    def drop(self) -> None:
        """Nothing runs any more."""
        for kept, file in zip(self._kept, self._files, strict=True):
            if kept >= 0 and _file_of(kept) == file:  # else the task has closed it, and the number is another's
                os.close(kept)
        self._files, self._kept = [], []


DUPLICATES = Duplicates()


def restore(before: list[File]) -> None:
    """Have each mean what it meant; one that was closed and cannot mean that again means nothing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # what a task has printed is for where it has sent that
            stream.flush()
    for descriptor, file in enumerate(before):
        if file is None or _file_of(descriptor) == file:
            continue
        kept = DUPLICATES.of(descriptor, file)
        if kept is not None:
            os.dup2(kept, descriptor)
        elif _file_of(descriptor) is None:  # else the next file that is opened becomes standard output
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != descriptor:
                os.dup2(nothing, descriptor)
                os.close(nothing)

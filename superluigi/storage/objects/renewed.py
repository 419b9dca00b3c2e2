"""What a process holds on the server while it works: an object that says so, swapped by ETag, renewed by a thread."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from datetime import timedelta

from superluigi.errors import CommitConflictError, TargetError

#: It is renewed so often within a lease.
_RENEWALS = 6


def etag_of_ours(write: Callable[[], str], found_ours: Callable[[], str | None]) -> str:
    """The ETag that `write` gives; if that was refused, the one of what `found_ours` finds to be ours already.

    A refused write may have been our own: the server did it, the reply was lost, and it was asked again.

    Raises:
        CommitConflictError: it was refused, and another's is there.
    """
    try:
        return write()
    except CommitConflictError:
        if (etag := found_ours()) is None:
            raise
        return etag


class Renewed(abc.ABC):
    """A claim or lease of ours. Once another process has it, it is lost for good, and no request says otherwise.

    Work that needs none as long as it is short begins without an object: then the first renewal makes it.
    """

    def __init__(self, lease: timedelta, name: str) -> None:
        self._interval_seconds = lease.total_seconds() / _RENEWALS
        self._lost = False
        self._turn, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=name, daemon=True)

    @abc.abstractmethod
    def _was_ours(self) -> bool:
        """Whether there was an object of ours when we last heard of it."""

    @abc.abstractmethod
    def _swap(self) -> None:
        """Swap the object from the state that we last heard of to another one of ours.

        Raises:
            CommitConflictError: it is in another state.
        """

    @abc.abstractmethod
    def _taken_over(self) -> CommitConflictError:
        """The error that says that another process has it now."""

    def check(self) -> None:
        """Raise CommitConflictError if it is known to be no longer ours."""
        if self._lost:
            raise self._taken_over()

    def _prove(self, swap: Callable[[], None]) -> None:
        """Swap it, which proves that it is ours now.

        Raises:
            CommitConflictError: it is not.
        """
        with self._turn:
            self.check()
            try:
                swap()
            except CommitConflictError as error:
                if not self._was_ours():
                    raise
                self._lost = True
                raise self._taken_over() from error

    def _renew(self) -> None:
        while not self._lost and not self._ended.wait(self._interval_seconds):
            with self._turn:
                if self._lost or self._ended.is_set():
                    return
                try:
                    self._swap()
                except CommitConflictError:
                    self._lost = self._was_ours()  # else another one's, of which the fences of the work take care
                except (TargetError, OSError):
                    continue  # the next time

"""Whether data is still what a record says it was: by digest, else version, else ETag; never by size alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from superluigi.storage.base import Location, Record
from superluigi.storage.local.location import LocalLocation

_CHEAP = ("size", "mtime_ns", "inode", "count")
_RACY_NS = 2 * 10**9


def differs(recorded: Mapping[str, object], now: Mapping[str, object]) -> bool:
    """Whether two descriptions of data are of different bytes; also when they have no fact in common.

    A reference without any fact (a target of a kind that is not ours) cannot be compared: False.
    """
    if not any(recorded.get(key) for key in ("digest", "etag", "version", "mtime_ns")):
        return False
    for key in ("digest", "etag", "version"):
        before, after = recorded.get(key), now.get(key)
        if before and after:
            return bool(before != after)
    return recorded.get("mtime_ns") is None or any(recorded.get(key) != now.get(key) for key in _CHEAP)


def current(location: Location, recorded: Mapping[str, object], noted: str | None = None) -> Record | None:
    """What is at a location now, for a comparison with what was recorded; None if nothing is.

    Local data without a record is taken as unchanged, without reading it, when its size, time and inode are
    the recorded ones and its time lies well before `noted`, the moment of recording: a change in the same
    tick of the file system's clock would not show.
    """
    if isinstance(location, LocalLocation) and _is_settled(recorded, noted):
        try:
            facts = location.identity(location.final)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if all(recorded.get(key) == value for key, value in facts.items()):
            return dict(recorded)
    return location.describe()


def _is_settled(recorded: Mapping[str, Any], noted: str | None) -> bool:
    if noted is None or recorded.get("mtime_ns") is None:
        return False
    return int(recorded["mtime_ns"]) < datetime.fromisoformat(noted).timestamp() * 1e9 - _RACY_NS

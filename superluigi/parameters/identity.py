"""What tells two calls of a task class apart, besides equality: which values read differently though they are equal."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from pathlib import PosixPath
from typing import Any

import luigi

from superluigi.parameters.checked import Frozen

#: Of these types equal values have equal texts.
_PLAIN = frozenset({str, int, bool, type(None), bytes, datetime.date, datetime.timedelta, PosixPath, uuid.UUID, Frozen})


def key(params: Iterable[tuple[str, luigi.Parameter[Any]]], values: Iterable[tuple[str, object]]) -> tuple[object, ...]:
    """What the instance of these values is known by: the values with their types, and texts where these may differ."""
    found: list[object] = []
    texts = None
    for name, value in values:
        kind = type(value)
        found += (kind, value)
        if kind not in _PLAIN:
            texts = dict(params) if texts is None else texts
            found.append(texts[name].serialize(value))
    return tuple(found)

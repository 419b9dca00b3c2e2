"""Record files as JSON, and records as code may take them: whatever was written there by hand."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from superluigi.errors import RecordError, StorageAccessError
from superluigi.storage import small_files
from superluigi.storage.base import PENDING_SUFFIX, Record, record_in
from superluigi.storage.local import lists

_OBJECTS = ("params", "run", "code", "environment", "output")
_INNER = {"code": ("digest", "parts"), "environment": ("packages",), "output": ("digest",)}
_TEXTS = ("task_family", "task_id", "task_hash")
_TIMES = ("start_time", "end_time")


def validate(record: Record) -> Record:
    """The same record without those of our keys whose value is of another kind than ours; user keys as they are."""
    broken = {key for key in _OBJECTS if not isinstance(record.get(key, {}), Mapping)}
    if isinstance(output := record.get("output"), Mapping) and not isinstance(output.get("path"), str):
        broken.add("output")
    broken |= {key for key in _TEXTS if not isinstance(record.get(key, ""), str)}
    broken |= {key for key in _TIMES if not _is_time(record.get(key, "2000-01-01"))}
    kept = {key: value for key, value in record.items() if key not in broken}
    for key, inner in _INNER.items():
        part = kept.get(key) or {}
        if odd := {name for name in inner if not isinstance(part.get(name) or {}, Mapping)}:
            kept[key] = {name: value for name, value in part.items() if name not in odd}
    return kept


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False


def read_json(path: Path, parse: Callable[[bytes], object] = json.loads) -> Record | None:
    """The JSON object in a local file, or what `parse` takes of it; None if there is no file.

    Raises:
        RecordError: it is no file, or holds something else.
        StorageAccessError: it may not be read.
    """
    try:
        text = small_files.read(path)
    except PermissionError as error:
        raise StorageAccessError(f"Cannot read {path}: {error.strerror}. Check its owner and mode.") from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise
    try:
        value = record_in(text, parse)
    except ValueError as error:
        raise RecordError(f"{path} is not valid JSON ({error}). Restore it, or remove it to have none.") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} holds a JSON {type(value).__name__}, not a record.")
    return lists.bound(value, str(path).removesuffix(PENDING_SUFFIX), lambda: read_json(path))

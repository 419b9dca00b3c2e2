"""Records as they lie in the store; JSON only, nothing is ever unpickled here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from superluigi.errors import RecordError, StorageAccessError, TargetMissingError
from superluigi.lineage import places
from superluigi.storage.base import Record


def read(place: Any) -> Record | None:
    """The record of an output (a path, an `s3://` address, a target, or the record's own address).

    None for data that has no record of its own: made by others, or replaced since.

    Raises:
        TargetMissingError: there is no such output.
        RecordError: the record is there and unreadable.
    """
    location = places.location_of(place)
    record = location.read_record()
    if record is None and not location.exists():
        raise absent(location.uri)
    return record


def absent(uri: str) -> TargetMissingError:
    """The error for an address where nothing is."""
    return TargetMissingError(f"There is no output at {uri}. Check the path, or run the task that makes it.")


def read_json(path: Path) -> Record | None:
    """The JSON object in a local file; None if there is no file.

    Raises:
        RecordError: the file holds something else.
        StorageAccessError: it may not be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise StorageAccessError(f"Cannot read {path}: {error.strerror}. Check its owner and mode.") from error
    except ValueError as error:
        raise RecordError(f"{path} is not valid JSON ({error}). Restore it, or remove it to have none.") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} holds a JSON {type(value).__name__}, not a record.")
    return value

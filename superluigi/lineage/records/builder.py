"""The record of one output: a small JSON dict that says what made it, from what, when and where. Pure data.

`RecordBuilder` is a record while its task runs: the user reads and extends the dict, and `finish` refuses to publish
one in which our own keys were changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from superluigi.errors import RecordKeyError, RecordValueError
from superluigi.jsonable import Jsonable, jsonable
from superluigi.storage.base import SCHEMA, Record

#: Keys that are known before `run` and stay as they are.
BEFORE = (
    "schema",
    "task_family",
    "task_id",
    "task_hash",
    "params",
    "start_time",
    "run",
    "code",
    "environment",
    "input",
)
#: Keys that are known only afterwards.
AFTER = ("end_time", "duration", "dynamic_input", "checks", "output")
#: All top-level keys that are ours, in the order of a published record.
OURS = (
    "schema",
    "task_family",
    "task_id",
    "task_hash",
    "params",
    "start_time",
    "end_time",
    "duration",
    "run",
    "code",
    "environment",
    "input",
    "dynamic_input",
    "checks",
    "output",
)
_REFERENCE = ("type", "path", "size", "count", "digest", "etag", "version")


def utc_now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(timezone.utc)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds: `2013-12-15T10:15:00.000000+00:00`."""
    in_utc = moment if moment.tzinfo is timezone.utc else moment.astimezone(timezone.utc)
    return in_utc.isoformat(timespec="microseconds")


def reference(description: Mapping[str, object], record: Mapping[str, Any] | None, record_uri: str | None) -> Record:
    """How a record mentions an input: where it is, which bytes, and the link to its own record. Never a copy."""
    # Data without a record is compared by its bytes; time and inode spare reading them when nothing was touched.
    keys = _REFERENCE if record is not None else (*_REFERENCE, "mtime_ns", "inode")
    found = Jsonable({key: description[key] for key in keys if description.get(key) is not None})
    if record is not None:
        found["task_id"] = record.get("task_id")
        found["task_hash"] = record.get("task_hash")
        found["run"] = (record.get("run") or {}).get("id")
        found["metadata_path"] = record_uri
    return found


class RecordBuilder:
    """A record while its task runs.

    `metadata` is the dict that `run` gets: what is known before the run, to be read and added to.
    """

    def __init__(self, started: datetime, known: Mapping[str, object]) -> None:
        self.started = started
        ours = {"schema": SCHEMA, **known, "start_time": iso(started)}
        self._known = {key: jsonable(ours[key]) for key in BEFORE}
        self._dynamic: list[object] = []

    @cached_property
    def metadata(self) -> dict[str, object]:
        """The user's: a copy, so that nothing done to it reaches what other tasks share."""
        self._text = json.dumps(self._known)
        copy: dict[str, object] = json.loads(self._text)
        return copy

    def add_dynamic_input(self, references: object) -> None:
        """Note what a requirement yielded by `run` brought in."""
        self._dynamic.append(references)

    def finish(self, ended: datetime, checks: Sequence[Mapping[str, object]] = ()) -> Record:
        """The record as it will be published, but for `output`, which the store adds; `checks` is what these found.

        Raises:
            RecordKeyError: one of our keys was changed, deleted or taken.
            RecordValueError: a value that JSON cannot hold.
        """
        users: dict[str, object] = {}
        if "metadata" in self.__dict__:  # it has been asked for
            self._check_keys()
            users = {key: value for key, value in self.metadata.items() if key not in BEFORE}
        record: Record = dict(self._known)
        record["end_time"] = iso(ended)
        record["duration"] = round((ended - self.started).total_seconds(), 6)
        if self._dynamic:
            record["dynamic_input"] = self._dynamic
        if checks:
            record["checks"] = [dict(one) for one in checks]
        ordered = {key: record[key] for key in OURS if key in record}
        return {**ordered, **jsonable(users)}

    def _check_keys(self) -> None:
        if taken := [key for key in self.metadata if key in AFTER]:
            raise RecordKeyError(
                f"metadata[{taken[0]!r}] is set by superluigi after the run. Choose another name for your key; "
                f"ours are {', '.join(OURS)}."
            )
        if gone := [key for key in BEFORE if key not in self.metadata]:
            raise RecordKeyError(f"metadata[{gone[0]!r}] was deleted by run(), but it belongs to the record. Leave it.")
        try:
            if json.dumps({key: self.metadata[key] for key in BEFORE}) == self._text:
                return
        except (TypeError, ValueError):
            pass
        changed = [key for key in BEFORE if not _same(self.metadata[key], self._known[key])]
        if changed:
            raise RecordKeyError(
                f"metadata[{changed[0]!r}] was changed by run(), but it belongs to the record. "
                "Put your value under a key of your own."
            )


def _same(first: object, second: object) -> bool:
    try:
        return bool(jsonable(first) == second)
    except RecordValueError:  # what JSON cannot hold was not ours
        return False

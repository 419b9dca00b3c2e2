"""All records below a place as a table."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from superluigi.arguments import guarded
from superluigi.errors import SuperLuigiError
from superluigi.lineage.records import listing
from superluigi.lineage.records.builder import OURS
from superluigi.lineage.records.check_results import findings_in
from superluigi.lineage.records.resolve import Place
from superluigi.storage.base import Record
from superluigi.targets.addresses import hint_for_path

if TYPE_CHECKING:
    import pandas as pd

_TIMES = ("start_time", "end_time")


@guarded(hint=hint_for_path)
def frame(place: Place) -> pd.DataFrame:
    """One row for each record below a folder or an `s3://bucket/prefix`, sorted by start time.

    Columns: `path`, `task_family`, `task_id`, `start_time` and `end_time` (UTC), `duration` (seconds), `run`,
    `size` (bytes), `commit`, `checks` (how many), `failed_checks` (names of those that warned), then every parameter
    and every user key under its own name (`params.x` and `user.x` where a name is taken twice). Records that cannot be
    read are left out, with a warning each.

    Raises:
        TargetMissingError: there is no such folder.
    """
    import pandas as pd

    records = list(_read_all(str(place)))
    names = _column_names(records)
    table = pd.DataFrame([_row(record, names) for record in records], columns=[*_FIXED, *names.values()])
    for column in _TIMES:
        table[column] = pd.to_datetime(table[column], utc=True, format="ISO8601")
    return table.sort_values(["start_time", "path"], ignore_index=True)


_FIXED = ("path", "task_family", "task_id", *_TIMES, "duration", "run", "size", "commit", "checks", "failed_checks")


def _read_all(place: str) -> Iterator[Record]:
    with ThreadPoolExecutor(listing.CONCURRENT_READS, "superluigi-frame") as pool:
        for record in pool.map(_readable, listing.record_addresses(place)):
            if record is not None:
                yield record


def _readable(address: str) -> Record | None:
    import warnings

    try:
        return listing.read_record_file(address)
    except SuperLuigiError as error:
        warnings.warn(f"left out: {error}", UserWarning, stacklevel=2)
        return None


def _column_names(records: list[Record]) -> dict[tuple[str, str], str]:
    """(`params` or `user`, key) -> the name of its column."""
    params = dict.fromkeys(key for record in records for key in record.get("params") or {})
    users = dict.fromkeys(key for record in records for key in record if key not in OURS)
    names = {("params", key): f"params.{key}" if key in _FIXED or key in users else key for key in params}
    names |= {("user", key): f"user.{key}" if key in _FIXED or key in params else key for key in users}
    return names


def _row(record: Record, names: dict[tuple[str, str], str]) -> dict[str, object]:
    output = record.get("output") or {}
    checks = findings_in(record)
    row = {
        "path": output.get("path"),
        **{key: record.get(key) for key in ("task_family", "task_id", *_TIMES, "duration")},
        "run": (record.get("run") or {}).get("id"),
        "size": output.get("size"),
        "commit": (record.get("code") or {}).get("commit"),
        "checks": len(checks),
        "failed_checks": ", ".join(one["name"] for one in checks if one["status"] != "passed"),
    }
    for (kind, key), name in names.items():
        row[name] = ((record.get("params") or {}) if kind == "params" else record).get(key)
    return row

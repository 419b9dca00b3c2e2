"""What a record says of having been accepted for other code, packages or inputs than those it was made by.

`record["run"]["accepted"]` is a list, the latest last: `{"by", "host", "time", "why"}`, and of `code` (as records say
it), `packages` and `inputs` (a list of references) what it was accepted for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superluigi.lineage.records import resolve
from superluigi.storage.base import Record


def entries(record: Mapping[str, object]) -> list[Mapping[str, Any]]:
    """Every acceptance, the earliest first; what has another shape than ours says nothing."""
    run = record.get("run")
    found = run.get("accepted") if isinstance(run, Mapping) else None
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def accepted_code(record: Record) -> Mapping[str, Any]:
    """The code that an output was accepted for last; empty if it never was."""
    return _last(record, "code")


def accepted_packages(record: Record) -> Mapping[str, object] | None:
    found = [entry["packages"] for entry in entries(record) if isinstance(entry.get("packages"), Mapping)]
    return found[-1] if found else None


def accepted_inputs(record: Record) -> dict[str, resolve.Reference] | None:
    """Address -> reference of the inputs that it was accepted for last; None if it never was."""
    found = [entry["inputs"] for entry in entries(record) if isinstance(entry.get("inputs"), list)]
    return {one["path"]: one for one in resolve.references(found[-1])} if found else None


def told(record: Mapping[str, Any]) -> str:
    """The latest acceptance, in words; nothing if there is none."""
    known = entries(record)
    if not known:
        return ""
    last, run = known[-1], record.get("run") or {}
    what = " and ".join(word for word, key in (("code", "code"), ("inputs", "inputs")) if key in last)
    did = "adopted" if run.get("adopted") and len(known) == 1 else f"accepted for other {what}"
    return f"{did} by {last.get('by')} on {str(last.get('time'))[:10]}: {last.get('why')}"


def _last(record: Record, key: str) -> Mapping[str, object]:
    found = [entry[key] for entry in entries(record) if isinstance(entry.get(key), Mapping)]
    return found[-1] if found else {}

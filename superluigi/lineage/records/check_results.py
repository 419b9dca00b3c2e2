"""Findings as records keep them, read back whatever stands there, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_TEXTS = ("name", "status", "severity")


def findings_in(record: Mapping[str, object] | None) -> list[dict[str, Any]]:
    """The findings of a record that have the shape of ours."""
    found = (record or {}).get("checks")
    return [
        one
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict) and all(isinstance(one.get(key), str) for key in _TEXTS)
    ]


def summary(findings: Iterable[Mapping[str, object]]) -> str:
    """`2 checks passed`, `1 of 3 checks failed: no_missing_price (warn): 3 of 100 rows are false`; "" without any."""
    found = list(findings)
    bad = [one for one in found if one["status"] != "passed"]
    if not found:
        return ""
    if not bad:
        return f"{len(found)} check{'s' if len(found) > 1 else ''} passed"
    told = "; ".join(f"{one['name']} ({one['severity']}): {first_line(one)}" for one in bad)
    return f"{len(bad)} of {len(found)} check{'s' if len(found) > 1 else ''} failed: {told}"


def first_line(finding: Mapping[str, object]) -> str:
    """The first line of what a check saw."""
    return str(finding.get("detail") or finding["status"]).partition("\n")[0]

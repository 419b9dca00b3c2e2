"""Where an output comes from, whether it is still what it was, and why it would be made again.

    lineage.read(place)              the record of an output
    lineage.inputs(place)            what its record says of its inputs, one by one
    lineage.trace(place)             all its ancestors, as a `Trace`
    lineage.verify(place)            re-read outputs against their records
    lineage.why(task)                for every task of a graph, its reason
    lineage.accept(task, why=…)      take an output as good for the code and inputs of now
    lineage.adopt(task)              give an output that was there before a record
    lineage.diff(first, second)      what differs between two outputs' histories
    lineage.frame(place)             all records below a place as a DataFrame
    lineage.to_openlineage(place)    OpenLineage events of a history

A place is a path, an `s3://bucket/key` address, or a target. Nothing here unpickles anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi.lineage.openlineage.events import to_openlineage as to_openlineage
    from superluigi.lineage.records.reading import inputs as inputs
    from superluigi.lineage.records.reading import read as read
    from superluigi.lineage.records.tables import frame as frame
    from superluigi.lineage.records.trace import trace as trace
    from superluigi.lineage.staleness.accepting import accept as accept
    from superluigi.lineage.staleness.accepting import adopt as adopt
    from superluigi.lineage.staleness.diff import diff as diff
    from superluigi.lineage.staleness.why import why as why
    from superluigi.lineage.verification.local import verify as verify

#: Name -> the module it lives in; no module has the name of a function, so that neither hides the other.
_HOMES = {
    "accept": "staleness.accepting",
    "adopt": "staleness.accepting",
    "diff": "staleness.diff",
    "frame": "records.tables",
    "inputs": "records.reading",
    "read": "records.reading",
    "to_openlineage": "openlineage.events",
    "trace": "records.trace",
    "verify": "verification.local",
    "why": "staleness.why",
}
__all__ = ["accept", "adopt", "diff", "frame", "inputs", "read", "to_openlineage", "trace", "verify", "why"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

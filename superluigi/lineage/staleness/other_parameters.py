"""Complete outputs that were made with other parameters: they stay complete, as in Luigi, and the run says so.

Their places do not tell the parameters apart. One record of a family is enough for the line that is said of it; what is
looked at is bounded, so that a run in which all is complete costs what it did.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import SuperLuigiError
from superluigi.lineage.records.record_io import read_json, validate
from superluigi.lineage.staleness.facts import keeps_records, public_params
from superluigi.lineage.staleness.reasons import Facts, parameters_changed
from superluigi.storage.base import Location, Record, record_about
from superluigi.storage.local.location import LocalLocation

#: Of each family so many tasks are looked at.
EACH = 3


def chosen(tasks: Iterable[luigi.Task]) -> list[luigi.Task]:
    """The first few of each family that keep records, in order."""
    counts: dict[type, int] = {}
    found = []
    for task in tasks:
        count = counts.get(type(task), 0)
        if count < EACH and keeps_records(task):
            counts[type(task)] = count + 1
            found.append(task)
    return found


def lines(tasks: Sequence[luigi.Task], seconds: float, *, far: bool) -> list[str]:
    """What to say at the end of a run about complete `tasks`: a line for each family.

    Ends after so many `seconds`, the first task is always looked at. Records on S3 are only read if `far`: each is a
    request.
    """
    until = time.perf_counter() + seconds
    said: dict[type, str] = {}
    for number, task in enumerate(tasks):
        if number and time.perf_counter() > until:
            break
        if type(task) not in said and (change := _changed(task, far)):
            said[type(task)] = (
                f"{task.task_family} is complete, but was made with other parameters ({change}; output "
                f'{_first(task).uri}). refresh="inputs" makes it again; with the parameters in its path it would be '
                "another output."
            )
    return list(said.values())


def _first(task: luigi.Task) -> Any:
    targets = graph.flatten(task.output())
    return getattr(targets[0], "location", None) if targets else None


def _changed(task: luigi.Task, far: bool) -> str:
    """How the parameters differ from those of the record, in words; empty if they do not, or that is not known."""
    try:
        location = _first(task)
        about = _read(location, far, record_about) if isinstance(location, Location) else None
        if about is None or about.get("task_id") == task.task_id:  # as nearly always: its inputs need not be parsed
            return ""
        record = about if "task_family" in about else _read(location, far, json.loads)
        if record is None or record.get("task_family") != task.task_family:
            return ""
        return ", ".join(
            parameters_changed(Facts(params=public_params(task, only_significant=True)), validate(record))[:3]
        )
    except (SuperLuigiError, OSError):
        return ""  # the code that needs the record says what is wrong with it


def _read(location: Location, far: bool, parse: Callable[[bytes], object]) -> Record | None:
    """The record as it stands, without a look at the data; of a local one what `parse` takes."""
    if isinstance(location, LocalLocation):
        return read_json(Path(location.record_uri), parse)
    return location.read_record() if far else None

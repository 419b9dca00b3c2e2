"""Another run that makes the same output at the same time: who loses the race to it has what it wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from superluigi.lineage.records import resolve
from superluigi.runs import context as runs
from superluigi.storage import owner_token
from superluigi.storage.base import Location, Record
from superluigi.targets.base import AtomicTarget
from superluigi.tasks.runtime import exclusive

#: How long a winner may take to commit all of its outputs, seconds.
_PATIENCE = 300.0
#: How long the rest of its outputs may take while its process lives: it may have ended with an error as well.
_REST_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_CALM_LOOKS = 3
#: What tells one requirement from another: the bytes may differ, for both runs may have made them anew.
_IDENTITY = ("path", "task_id", "task_hash")


def made_it(
    task: object,
    this: runs.RunContext,
    ours: Record,
    targets: Sequence[AtomicTarget],
    was_there: Callable[[Location, Record], bool],
) -> bool:
    """Whether another run has committed what `this` one wanted to: the same `task`, all of its outputs, in time.

    `ours` is the record that lost. What `was_there` when its attempt began is what that was to replace; where some
    output of the winner was not, the others were seen between its commits. Waits for a winner that is still committing.
    """
    refresh = this.refresh is not None

    def wanted(theirs: Record) -> bool:
        if any(theirs.get(key) != ours.get(key) for key in ("task_id", "task_hash")):
            return False
        if not same_requirements(theirs, ours):
            return False
        same_code = (theirs.get("code") or {}).get("digest") == (ours.get("code") or {}).get("digest")
        return not refresh or same_code

    began = time.monotonic()
    ends, pause, calm = began + _PATIENCE, _FIRST_PAUSE, 0
    while True:
        at_work = any(target.location.being_written() for target in targets)
        if exclusive.is_at_work_elsewhere(task, this):  # as long as that takes: it renews its lease
            at_work, ends = True, time.monotonic() + _PATIENCE
        found = [target.read_metadata() for target in targets]
        made = [(one, target.location) for one, target in zip(found, targets, strict=True) if one and wanted(one)]
        new = [one for one, location in made if not was_there(location, one)]
        if new and len(made) == len(targets) and len({(one.get("run") or {}).get("id") for one, _ in made}) == 1:
            return True
        if not all(map(_is_over, new)):
            at_work |= time.monotonic() < began + _REST_SECONDS  # its other outputs are to follow
        strange = any(theirs is not None and theirs.get("task_hash") != ours.get("task_hash") for theirs in found)
        calm = 0 if at_work else calm + 1  # a third one may have begun and ended between our looks
        if calm == _CALM_LOOKS or strange or time.monotonic() > ends:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_over(record: Mapping[str, Any]) -> bool:
    return owner_token.owner_is_gone(str((record.get("output") or {}).get("commit")))


def same_requirements(theirs: Mapping[str, object], ours: Mapping[str, object]) -> bool:
    """Whether both read the same; one that was being replaced when it was described has a place, but no task."""
    first, second = _requirements(theirs), _requirements(ours)
    pairs = [pair for one, two in zip(first, second, strict=False) for pair in zip(one, two, strict=True)]
    return len(first) == len(second) and all(a == b or None in (a, b) for a, b in pairs)


def _requirements(record: Mapping[str, object]) -> list[Any]:
    """Who is required, in whatever shape."""
    references = resolve.references([record.get("input"), record.get("dynamic_input")])
    return sorted(([item.get(key) for key in _IDENTITY] for item in references), key=lambda item: str(item[0]))

"""Complete outputs of classes that have been edited since, in a notebook: there an edited cell is what one looks at.

Elsewhere `superluigi status --stale` and `refresh="code"` look; a run that finds everything complete asks no code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import luigi

from superluigi.errors import USERS_CODE, SuperLuigiError
from superluigi.lineage.staleness import reasons
from superluigi.lineage.staleness.facts import StalenessInputs

#: So many tasks are looked at.
_MOST = 1000


def lines(tasks: Sequence[luigi.Task]) -> list[str]:
    """What to say about those of the complete `tasks`, and of what they require, whose class stands in a cell: a line
    for each family.
    """
    facts = StalenessInputs()
    said: dict[type, str] = {}
    for task in _in_cells(tasks):
        if type(task) in said:
            continue
        try:
            changes = {reason.word: reason.detail for reason in reasons.reasons(facts.of(task))}
        except (SuperLuigiError, OSError):
            continue  # the code that needs the record says what is wrong with it
        if reasons.CODE_CHANGED in changes:
            what = f" ({changes[reasons.CODE_CHANGED]})" if changes[reasons.CODE_CHANGED] else ""
            said[type(task)] = (
                f"{task.task_family} is complete, but its code has changed{what}: refresh='code' makes it again."
            )
    return list(said.values())


def _in_cells(tasks: Sequence[luigi.Task]) -> Iterator[luigi.Task]:
    waiting, seen = deque(tasks), set(tasks)
    while waiting and len(seen) < _MOST:
        task = waiting.popleft()
        if type(task).__module__ == "__main__":
            yield task
            with USERS_CODE:
                waiting.extend(one for one in task.deps() if one not in seen)
                seen.update(waiting)

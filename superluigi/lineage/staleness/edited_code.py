"""Complete outputs of classes that have been edited since, in a notebook: there an edited cell is what one looks at.

Elsewhere `superluigi status --stale` and `refresh="code"` look; a run that finds everything complete asks no code.
"""

from __future__ import annotations

from collections.abc import Sequence

import luigi

from superluigi.errors import SuperLuigiError
from superluigi.lineage.staleness import reasons
from superluigi.lineage.staleness.facts import StalenessInputs


def lines(tasks: Sequence[luigi.Task]) -> list[str]:
    """What to say about those of the complete `tasks` whose class stands in a cell: a line for each family."""
    facts = StalenessInputs()
    said: dict[type, str] = {}
    for task in tasks:
        if type(task).__module__ != "__main__" or type(task) in said:
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

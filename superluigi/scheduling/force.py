"""Which tasks of a run are made again: a pure function of the graph and the options."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ForcePlan:
    """The tasks that this run makes again although their outputs exist; immutable and picklable."""

    #: Task ids that are forced.
    ids: frozenset[str] = field(default_factory=frozenset)
    #: Every task is forced, also those that are discovered while the run goes on.
    everything: bool = False
    #: Families whose every instance is forced, also those discovered at run time.
    families: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.everything or self.ids or self.families)

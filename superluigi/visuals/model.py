"""What a picture shows: nodes with states and facts, edges in the direction of the data. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from superluigi.jsonable import document

#: State -> what a legend says. The order is that of legends and summaries.
STATES: Mapping[str, str] = {
    "failed": "failed",
    "running": "running",
    "blocked": "blocked",
    "missing": "missing",
    "stale": "stale",
    "changed": "changed since it was read",
    "ran": "ran",
    "complete": "complete",
    "external": "external data",
}


@dataclass(frozen=True)
class Node:
    """One task or one piece of data."""

    id: str
    #: The task family, or the file's name.
    name: str
    state: str
    #: Why it is in this state, in words.
    reason: str = ""
    #: Public parameters only.
    params: Mapping[str, object] = field(default_factory=dict)
    #: Addresses of the outputs.
    outputs: Sequence[str] = ()
    record: Mapping[str, object] | None = None
    #: What the task itself noted (its own keys of the record): name -> text.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Of its output, in bytes.
    size: int | None = None
    #: How often it was tried in its last run.
    attempts: int | None = None
    log: str = ""
    #: In `log`, counted from 0: the line that names the user's own line of code, and the last line of its error.
    log_lines: Sequence[int] = ()
    #: ISO 8601, UTC.
    start: str | None = None
    #: Seconds.
    duration: float | None = None
    #: Who ran it: host and process.
    worker: str | None = None
    run: str | None = None
    #: Attempts that failed: `error`, `start` (ISO 8601), `duration` (seconds), `worker`, `run`.
    failed_attempts: Sequence[Mapping[str, Any]] = ()
    #: For a node that stands for several tasks: how many are in which state.
    mix: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The parameters in one line."""
        return ", ".join(f"{name}={value}" for name, value in self.params.items())

    def as_json(self, *, light: bool = False) -> dict[str, object]:
        """Plain values for the page; what is empty is left out.

        If `light`, so are record and log, which lie beside the output; the log of what failed stays.
        """
        known = {key: value for key, value in self.__dict__.items() if value not in _EMPTY}
        record = known.pop("record", None)
        if record and not light:  # as text: a browser's numbers cannot hold nanoseconds
            known["record"] = document(record, indent=2)
        if light and self.state != "failed":
            known.pop("log", None)
        return known


#: What a page need not be told.
_EMPTY: tuple[object, ...] = (None, "", (), [], {})


@dataclass(frozen=True)
class Family:
    """What a task class says about itself."""

    doc: str = ""
    #: Parameter -> its description.
    params: Mapping[str, str] = field(default_factory=dict)
    #: Where the command line finds it.
    module: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What came of a run, as a whole."""

    id: str
    #: ISO 8601, UTC.
    started: str
    #: Seconds from the first look at the graph to the end.
    seconds: float
    #: The ids of the chain of tasks, each a requirement of the next, that took longest together.
    critical: Sequence[str] = ()
    #: What that chain took.
    critical_seconds: float = 0.0


@dataclass(frozen=True)
class Graph:
    """A picture's content."""

    title: str
    nodes: Sequence[Node]
    #: `(from, to)`: data flows from the first to the second.
    edges: Sequence[tuple[str, str]]
    #: The node that everything leads to.
    root: str = ""
    #: A line below the title.
    subtitle: str = ""
    #: Name of a node -> what its class says.
    classes: Mapping[str, Family] = field(default_factory=dict)
    #: Where it shows a run.
    run: RunFacts | None = None
    #: The command that made it, as it is shown.
    command: str = ""
    #: ISO 8601, UTC: when this was looked up.
    made: str = ""

    def counts(self) -> dict[str, int]:
        """How many nodes are in which state, in the order of `STATES`."""
        found: dict[str, int] = {}
        for state in [*STATES, *(node.state for node in self.nodes if node.state not in STATES)]:
            count = sum(node.state == state for node in self.nodes)
            if count:
                found[state] = count
        return found


def families(graph: Graph) -> Graph:
    """The same picture with one node for all tasks of a name: its state is the most pressing one among them."""
    members: dict[str, list[Node]] = {}
    for node in graph.nodes:
        members.setdefault(node.name, []).append(node)
    by_id = {node.id: node.name for node in graph.nodes}
    edges = dict.fromkeys((by_id[one], by_id[other]) for one, other in graph.edges if by_id[one] != by_id[other])
    nodes = []
    for name, several in members.items():
        mix = Graph("", several, ()).counts()
        alone = len(several) == 1
        params = several[0].params if alone else {}
        nodes.append(Node(id=name, name=name, state=next(iter(mix)), params=params, mix={} if alone else mix))
    return Graph(graph.title, nodes, _acyclic(list(edges)), by_id.get(graph.root, ""), graph.subtitle)


def _acyclic(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Families may need each other in turn (today's Sum needs yesterday's Mean): such edges back are left out."""
    below: dict[str, set[str]] = {}
    kept = []
    for source, target in edges:
        if not _reaches(below, target, source):
            below.setdefault(source, set()).add(target)
            kept.append((source, target))
    return kept


def _reaches(below: Mapping[str, set[str]], start: str, goal: str) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        node = waiting.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            waiting.extend(below.get(node, ()))
    return False

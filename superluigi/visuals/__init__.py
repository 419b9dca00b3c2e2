"""Pictures of graphs: of a task and what it needs, of an output's history, of a run.

plot_dependency_graph(task)              a `Figure`; shows itself in a notebook
dependency_graph(task)                   the same graph for networkx
plot_lineage(place)                      the same for the history of an output
Figure.save("graph.html"), .show(), .svg, .mermaid
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.errors import MissingDependencyError, OptionError
from superluigi.lineage.records.resolve import Place
from superluigi.runs.force import requirements
from superluigi.targets.addresses import hint_for_path
from superluigi.tasks.base import hash_of

if TYPE_CHECKING:
    from datetime import datetime

    import networkx

    from superluigi.runs.report import Report
    from superluigi.visuals.figure import Figure


@guarded(hint=hint_for_path)
def plot_dependency_graph(
    task: luigi.Task,
    path: str | os.PathLike[str] | None = None,
    *,
    refresh: str | None = None,
    ignore_beyond: type | Sequence[type] = (),
    output_path: str | os.PathLike[str] | None = None,
    **unused: object,
) -> Figure:
    """The graph of a task and all it requires, coloured by state; nothing is run.

    With `path` (or `output_path`) it is also saved: as a page (`.html`), `.svg`, or Mermaid (`.mmd`, `.md`). What
    tasks of the classes `ignore_beyond` require is left out. `height`, `font_size`, `hierarchical` and `notebook`,
    which the first `super-luigi` package took, do nothing: the page finds its own layout.

    Raises:
        OptionError: an unknown suffix, mode of `refresh`, or argument.
    """
    from superluigi.visuals.build import of_task
    from superluigi.visuals.figure import Figure

    if unknown := sorted(set(unused) - {"height", "font_size", "hierarchical", "notebook"}):
        raise OptionError(f"plot_dependency_graph does not know {unknown[0]}. Use path=, refresh= or ignore_beyond=.")
    picture = Figure(of_task(task, refresh=refresh, ignore_beyond=_classes(ignore_beyond)))
    path = output_path if path is None else path
    if path is not None:
        picture.save(path)
    return picture


@guarded(hint=hint_for_path)
def dependency_graph(task: luigi.Task, ignore_beyond: type | Sequence[type] = ()) -> networkx.DiGraph[int]:
    """The same graph for networkx: numbered nodes with `task_family`, `task_hash`, `task_id` and `params`.

    Edges lead from what is required to what requires it.

    Raises:
        MissingDependencyError: networkx is not installed.
    """
    try:
        import networkx
    except ImportError as error:
        raise MissingDependencyError("dependency_graph needs networkx: pip install networkx") from error
    beyond = _classes(ignore_beyond)
    found: networkx.DiGraph[int] = networkx.DiGraph()
    numbers: dict[str, int] = {}
    for one, below in graph.walk([task], lambda one: [] if isinstance(one, beyond) else requirements(one)):
        numbers[one.task_id] = number = len(numbers)
        identity = {"task_family": one.get_task_family(), "task_id": one.task_id, "task_hash": hash_of(one)}
        found.add_node(number, **identity, params=one.to_str_params(only_public=True))
        found.add_edges_from((numbers[required.task_id], number) for required in below)
    return found


def _classes(given: type | Sequence[type]) -> tuple[type, ...]:
    return (given,) if isinstance(given, type) else tuple(given)


@guarded(hint=hint_for_path)
def plot_lineage(place: Place, path: str | os.PathLike[str] | None = None) -> Figure:
    """The history of an output (a path, an `s3://` address or a target) as a picture.

    Raises:
        TargetMissingError: there is no such output.
    """
    from superluigi.lineage.records.trace import trace
    from superluigi.visuals.build import of_trace
    from superluigi.visuals.figure import Figure

    picture = Figure(of_trace(trace(place)))
    if path is not None:
        picture.save(path)
    return picture


@guarded
def plot_run(
    task: luigi.Task, report: Report, path: str | os.PathLike[str] | None = None, *, started: datetime | None = None
) -> Figure:
    """A report of a run of `task`: what ran, how long, errors and logs, the critical path, a timeline of the workers.

    The run began when it was `started` (by default at the time that its id tells), and has just ended.
    """
    from superluigi.lineage.staleness.why import why
    from superluigi.visuals.attempts import last_logs
    from superluigi.visuals.build import of_run
    from superluigi.visuals.figure import Figure

    explained = why(task)
    picture = Figure(of_run(explained, report, logs=last_logs(one.task for one in explained), started=started))
    if path is not None:
        picture.save(path)
    return picture

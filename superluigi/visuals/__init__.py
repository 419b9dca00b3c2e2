"""Pictures of graphs: of a task and what it needs, of an output's history, of a run.

plot_dependency_graph(task)              a `Picture`; shows itself in a notebook
plot_lineage(place)                      the same for the history of an output
Picture.save("graph.html"), .show(), .svg, .mermaid
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import luigi

if TYPE_CHECKING:
    from superluigi.scheduling.report import Report
    from superluigi.visuals.picture import Picture


def plot_dependency_graph(
    task: luigi.Task, path: str | os.PathLike[str] | None = None, *, refresh: str | None = None
) -> Picture:
    """The graph of a task and all it requires, coloured by state; nothing is run.

    With `path` it is also saved: as a page (`.html`), `.svg`, or Mermaid (`.mmd`, `.md`).

    Raises:
        OptionError: an unknown suffix or mode of `refresh`.
    """
    from superluigi.visuals.build import of_task
    from superluigi.visuals.picture import Picture

    picture = Picture(of_task(task, refresh=refresh))
    if path is not None:
        picture.save(path)
    return picture


def plot_lineage(place: Any, path: str | os.PathLike[str] | None = None) -> Picture:
    """The history of an output (a path, an `s3://` address or a target) as a picture.

    Raises:
        TargetMissingError: there is no such output.
    """
    from superluigi.lineage.tracing import trace
    from superluigi.visuals.build import of_trace
    from superluigi.visuals.picture import Picture

    picture = Picture(of_trace(trace(place)))
    if path is not None:
        picture.save(path)
    return picture


def plot_run(task: luigi.Task, report: Report, path: str | os.PathLike[str] | None = None) -> Picture:
    """A report of a run of `task`: what ran, how long, errors and logs, a timeline for each worker."""
    from superluigi.lineage.explaining import why
    from superluigi.visuals.attempts import last_logs
    from superluigi.visuals.build import of_run
    from superluigi.visuals.picture import Picture

    explained = why(task)
    picture = Picture(of_run(explained, report, logs=last_logs(one.task for one in explained)))
    if path is not None:
        picture.save(path)
    return picture

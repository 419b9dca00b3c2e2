"""`run_task(queue=…)`: submit, work, wait, and report as a run without a queue does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import luigi

from superluigi.luigi_compat import summary
from superluigi.queue.api import Queue, submit_to
from superluigi.queue.feed import outcomes_of, report_of
from superluigi.queue.models import Submission, TaskRow
from superluigi.queue.specs import SpecOptions
from superluigi.runs.context import RunContext
from superluigi.runs.logs import logger
from superluigi.runs.report import Report
from superluigi.tasks.runtime.exclusive import refuse_circle

#: Ours -> the sets of tasks that Luigi's summary knows.
_PARTITION = {
    "complete": "already_done",
    "ran": "completed",
    "failed": "failed",
    "missing": "still_pending_ext",
    "blocked": "upstream_failure",
    "behind missing": "upstream_missing_dependency",
    "not run": "not_run",
}
_KINDS = (*_PARTITION.values(), "ever_failed", "scheduling_error", "still_pending_not_ext", "run_by_other_worker",
          "upstream_run_by_other_worker", "upstream_scheduling_error")  # fmt: skip


def run_graph(
    tasks: luigi.Task | Sequence[luigi.Task],
    run: RunContext,
    queue: str | Queue,
    *,
    num_workers: int = 1,
    resources: Mapping[str, float] | None = None,
) -> Report:
    """Make `tasks` and all they require through a durable queue; say what came of it.

    Failed tasks of the graph get a fresh start, killed ones stay so. Workers of this call are at most
    `num_workers` of each pool; others who work on the queue help. Errors of tasks come as `RemoteError`,
    since the queue keeps their words.
    """
    roots = [tasks] if isinstance(tasks, luigi.Task) else list(tasks)
    owned = not isinstance(queue, Queue)
    if isinstance(queue, str):
        opened, submission = submit_to(queue, roots, SpecOptions(), run=run, resources=resources, retry_failed=True)
    else:
        opened, submission = queue, queue.submit(roots, run=run, retry_failed=True)
    try:
        refuse_circle(run, *submission.added, *submission.known)
        if said := opened.said_of_pause():
            logger.warning("%s", said)
        opened.spawn(num_workers, until=submission)
        return _report(opened, submission, roots)
    finally:
        if owned:
            opened.close()


def _report(queue: Queue, submission: Submission, roots: Sequence[luigi.Task]) -> Report:
    rows = [row for row in queue.tasks() if row.id in submission.ids or row.run == submission.run]
    edges = queue.edges()

    def ran(row: TaskRow) -> bool:
        return bool(row.run == submission.run and row.attempts and row.id not in submission.done)

    outcomes = outcomes_of(rows, edges, ran)
    partition: dict[str, list[luigi.Task]] = {kind: [] for kind in _KINDS}
    known = {root.task_id: root for root in roots}
    for row in rows:
        task = known.get(row.id) or _stand_in(row)
        known[row.id] = task
        partition[_PARTITION[outcomes[row.id]]].append(task)
        if row.failures or outcomes[row.id] == "failed":
            partition["ever_failed"].append(task)
    for kind in ("upstream_failure", "upstream_missing_dependency", "not_run"):
        partition["still_pending_not_ext"] += partition[kind]
    made = sorted((row for row in rows if outcomes[row.id] == "ran"), key=lambda row: str(row.ended))
    return replace(
        report_of(rows, edges, ran),
        run_id=submission.run,
        summary=summary.text_of(partition, None),
        status=summary.status_of(partition).name,
        success=all(outcomes.get(root.task_id) in ("complete", "ran") for root in roots),
        made=tuple(row.id for row in made),
        made_tasks=tuple(known[row.id] for row in made),
    )


def _stand_in(row: TaskRow) -> luigi.Task:
    """The task for Luigi's summary; of a module that cannot be imported here, one that only looks like it."""
    try:
        return row.task()
    except Exception:  # noqa: BLE001 the summary must not fail where the task did: at the import of its module
        return _Named(row.id)


class _Named(luigi.Task):
    """Stands for a task that cannot be rebuilt."""

    name = luigi.Parameter()

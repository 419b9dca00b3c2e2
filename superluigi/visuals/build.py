"""From tasks, histories and runs to what a picture shows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any

import luigi

from superluigi import graph as structures
from superluigi.jsonable import document
from superluigi.lineage.records.builder import OURS, iso, utc_now
from superluigi.lineage.records.trace import Trace
from superluigi.lineage.staleness.facts import address_of
from superluigi.lineage.staleness.reasons import UP_TO_DATE, Reason
from superluigi.lineage.staleness.why import Explanation, why
from superluigi.runs.report import Failure, Report
from superluigi.visuals import origin
from superluigi.visuals.attempts import telling_lines
from superluigi.visuals.model import Family, Graph, Node, RunFacts

#: Of a text in the user's metadata; all of it stands in the record.
_LONGEST_NOTE = 2_000
_RUN_ID = re.compile(r"\d{8}T\d{6}Z")
_COMMIT = re.compile(r"(?P<worker>.+-\d+)-\d+-[0-9a-f]{12}")


def of_task(
    task: luigi.Task,
    *,
    refresh: str | None = None,
    failures: Mapping[str, str] | None = None,
    logs: Mapping[str, str] | None = None,
    ignore_beyond: tuple[type, ...] = (),
) -> Graph:
    """The graph below a task as it is now; nothing is run.

    `failures` (task id -> why) marks tasks as failed, `logs` (task id -> text) adds logs. What tasks of the classes
    `ignore_beyond` require is left out.
    """
    explained = _cut(why(task, refresh=refresh), ignore_beyond)
    return of_explanations(explained, failures=failures, logs=logs)


def _cut(explained: Sequence[Explanation], beyond: tuple[type, ...]) -> Sequence[Explanation]:
    if not beyond:
        return explained
    kept: list[Explanation] = []
    wanted = {explained[-1].task_id}
    for one in reversed(explained):  # what requires stands behind what is required
        if one.task_id in wanted:
            one = replace(one, requires=()) if isinstance(one.task, beyond) else one
            wanted.update(one.requires)
            kept.append(one)
    return kept[::-1]


def of_explanations(
    explained: Sequence[Explanation],
    *,
    failures: Mapping[str, str] | None = None,
    logs: Mapping[str, str] | None = None,
) -> Graph:
    """The graph that `lineage.why` has explained; its last task is the root."""
    failures, logs = failures or {}, logs or {}
    nodes = [_task_node(one, failures.get(one.task_id), logs.get(one.task_id, "")) for one in explained]
    edges = [(below, one.task_id) for one in explained for below in one.requires]
    root = explained[-1]
    line = ", ".join(f"{name}={value}" for name, value in root.as_json()["params"].items())
    classes = {one.task.get_task_family(): type(one.task) for one in explained}
    return Graph(
        root.task.get_task_family(), nodes, edges, root.task_id, line,
        classes={name: _family(cls) for name, cls in classes.items()},
        command=origin.command(one.task for one in explained),
        made=iso(utc_now()),
    )  # fmt: skip


def _family(cls: type[luigi.Task]) -> Family:
    """Its own docstring; the one that it inherits from a class of Luigi or of ours says nothing about it."""
    own = next((one for one in cls.__mro__ if one.__dict__.get("__doc__")), cls)
    doc = "" if own.__module__.partition(".")[0] in ("luigi", "superluigi", "builtins") else inspect.getdoc(own) or ""
    described = {name: parameter.description or "" for name, parameter in cls.get_params()}
    module = "" if cls.__module__ == "__main__" else cls.__module__
    return Family(doc, {name: text for name, text in described.items() if text}, module)


def _task_node(one: Explanation, failure: str | None, log: str) -> Node:
    told = one.as_json()
    record = one.facts.record
    missing = one.state == "missing"
    state = "failed" if failure is not None and missing else one.state
    reason = "" if one.reason == UP_TO_DATE else str(Reason(one.reason, one.detail))
    return Node(
        id=one.task_id,
        name=told["task_family"],
        state=state,
        reason=failure if state == "failed" and failure else reason,
        params=told["params"],
        outputs=tuple(address_of(target) for target in structures.flatten(one.task.output())),
        log=log,
        log_lines=telling_lines(log) if state == "failed" else (),
        **_made(record),
    )


def of_trace(found: Trace) -> Graph:
    """The history of an output; a node is an output with the task that made it, or a source without a record."""
    states = {"ok": "complete", "unreadable": "failed"}
    nodes = []
    for address, record in found.nodes.items():
        made = "task_id" in record and "schema" in record
        nodes.append(
            Node(
                id=address,
                name=str(record.get("task_family", "a task")) if made else PurePath(address).name or address,
                state=states.get(found.states[address], found.states[address]),
                reason=found.notes.get(address, ""),
                params=record.get("params") or {} if made else {},
                outputs=(address,),
                **_made(record if made else None),
            )
        )
    edges = [(source, output) for output, source in found.edges]
    title = f"Lineage of {PurePath(found.root).name}"
    return Graph(title, nodes, edges, found.root, found.root, command=origin.command(), made=iso(utc_now()))


def of_run(
    explained: Sequence[Explanation],
    report: Report,
    *,
    logs: Mapping[str, str] | None = None,
    started: datetime | None = None,
) -> Graph:
    """What a run did: which tasks ran, failed or never began, for how long and on which worker.

    Times and workers come from the records of what was made; errors and last log lines from the report. The run
    began when it was `started`, by default at the time that its id tells, and has just ended.
    """
    drawn = of_explanations(explained, logs=logs)
    failures = {failure.task_id: failure for failure in report.failures}
    attempts: dict[str, list[dict[str, Any]]] = {}
    for one in report.failed_attempts:
        start = iso(datetime.fromtimestamp(one.started, timezone.utc))
        told = {"error": one.error, "start": start, "duration": one.duration, "worker": one.worker}
        attempts.setdefault(one.task_id, []).append({**told, "run": report.run_id})
    nodes = []
    for node in drawn.nodes:
        failed = attempts.get(node.id, ())
        drawn_node = replace(_run_node(node, report, failures.get(node.id)), failed_attempts=failed)
        if failed and drawn_node.state == "failed":
            drawn_node = replace(drawn_node, worker=failed[-1]["worker"])
        nodes.append(drawn_node)
    facts = _run_facts(nodes, drawn.edges, report, started)
    return replace(drawn, title=f"Run of {drawn.title}", nodes=nodes, run=facts)


def _run_facts(
    nodes: Sequence[Node], edges: Sequence[tuple[str, str]], report: Report, started: datetime | None
) -> RunFacts:
    if started is None and (told := _RUN_ID.match(report.run_id)):
        started = datetime.strptime(told[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    now = utc_now()
    chain, seconds = critical_path(nodes, edges)
    began = started or now
    return RunFacts(report.run_id, iso(began), (now - began).total_seconds(), chain, seconds)


def critical_path(nodes: Sequence[Node], edges: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """Of what ran or failed, the chain of tasks that took longest together, from its first task, and its seconds."""
    took = {node.id: node.duration or 0.0 for node in nodes if node.state == "ran"}
    for node in nodes:
        if node.state == "failed" and node.failed_attempts:
            took[node.id] = float(node.failed_attempts[-1].get("duration") or 0.0)
    above: dict[str, list[str]] = {}
    for source, target in edges:
        above.setdefault(target, []).append(source)
    total: dict[str, float] = {}
    before: dict[str, str] = {}
    for task_id, sources in structures.walk([node.id for node in nodes], lambda one: above.get(one, [])):
        known = [one for one in sources if total.get(one)]
        last = max(known, key=total.__getitem__, default=None)
        if last is not None:
            before[task_id] = last
        total[task_id] = took.get(task_id, 0.0) + (total[last] if last is not None else 0.0)
    if not total or not any(total.values()):
        return [], 0.0
    one: str | None = max(total, key=total.__getitem__)
    seconds, chain = total[str(one)], []
    while one is not None:
        chain += [one] if one in took else []
        one = before.get(one)
    return chain[::-1], seconds


def _run_node(node: Node, report: Report, failure: Failure | None) -> Node:
    word = report.outcomes.get(node.id, "")
    changes: dict[str, Any] = {"state": _RUN_STATES.get(word, node.state), "reason": ""}
    if node.state == "external" and word in ("complete", "ran"):
        changes["state"] = "external"
    if failure is not None:
        changes["reason"] = f"{type(failure.error).__name__}: {failure.error}"
        known = node.log if "Traceback" in node.log else "\n".join(filter(None, (node.log, failure.traceback)))
        changes["log"] = known or "\n".join(failure.log)
        changes["log_lines"] = telling_lines(changes["log"])
        changes["attempts"] = failure.attempts
        changes["worker"] = failure.host or None
    elif word == "blocked":
        by = ", ".join(report.blocked.get(node.id, ()))
        changes["reason"] = f"waits for {by}" if by else "waits for what failed"
    return replace(node, **changes)


_RUN_STATES = {
    "complete": "complete",
    "ran": "ran",
    "elsewhere": "running",
    "failed": "failed",
    "cancelled": "failed",
    "scheduling failed": "failed",
    "disabled": "failed",
    "missing": "missing",
    "blocked": "blocked",
    "not run": "missing",
    "ended": "missing",
}


def _made(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """When, where and how long, as a record tells."""
    if record is None:
        return {"record": None}
    host = (record.get("environment") or {}).get("host")
    commit = _COMMIT.fullmatch(str((record.get("output") or {}).get("commit") or ""))
    return {
        "record": record,
        "start": record.get("start_time"),
        "duration": record.get("duration"),
        "run": (record.get("run") or {}).get("id"),
        "attempts": (record.get("run") or {}).get("attempt"),
        "size": (record.get("output") or {}).get("size"),
        "metadata": _noted(record),
        "worker": commit["worker"] if commit else host,
    }


def _noted(record: Mapping[str, Any]) -> dict[str, str]:
    """The user's own keys as name -> text; a dict of plain values is told by its items."""
    found: dict[str, str] = {}
    for name, value in record.items():
        if name in OURS:
            continue
        plain = isinstance(value, Mapping) and not any(isinstance(one, (Mapping, list)) for one in value.values())
        for key, one in {f"{name}.{key}": one for key, one in value.items()}.items() if plain else [(name, value)]:
            text = one if isinstance(one, str) else document(one)
            found[key] = text if len(text) <= _LONGEST_NOTE else f"{text[:_LONGEST_NOTE]}…"
    return found

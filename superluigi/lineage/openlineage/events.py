"""Records as OpenLineage events (https://openlineage.io, object model 2-0-2): plain JSON, no dependency.

A task is a job, an attempt is a run of that job, an output or input is a dataset; the Luigi run it was part
of is the parent run. Parameters of private visibility are never in a record, and so not here either.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from superluigi.arguments import guarded
from superluigi.lineage.records import resolve
from superluigi.lineage.records.check_results import findings_in
from superluigi.lineage.records.resolve import Place
from superluigi.lineage.records.trace import trace
from superluigi.storage import input_lists
from superluigi.storage.base import Record
from superluigi.targets.addresses import hint_for_path

Event = dict[str, Any]
PRODUCER = "https://pypi.org/project/superluigi/"
_SPEC = "https://openlineage.io/spec"
_NEEDED = {"schema", "task_family", "task_id", "start_time", "end_time", "output"}
_EVENT_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
#: So many inputs are named by one event: those who take events have limits.
_INPUTS = 1000
_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "superluigi/openlineage")


def namespace() -> str:
    """The namespace of jobs: `OPENLINEAGE_NAMESPACE`, else `superluigi`."""
    return os.environ.get("OPENLINEAGE_NAMESPACE") or "superluigi"


@guarded(hint=hint_for_path)
def to_openlineage(place: Place) -> list[Event]:
    """START and COMPLETE events of everything in the history of an output, in the order of their times.

    Raises:
        TargetMissingError: there is no such output.
    """
    attempts: dict[str, tuple[Record, list[Any]]] = {}
    for record in trace(place).nodes.values():
        if record.keys() >= _NEEDED:  # else a source, or what is known of an ancestor that is gone
            # a task with several outputs leaves a record at each: one attempt all the same
            attempts.setdefault(run_id(*_attempt(record)), (record, []))[1].append(record["output"])
    events = [
        event
        for record, outputs in attempts.values()
        for event in (started(record), completed(record, outputs), *checked(record, outputs))
    ]
    return sorted(events, key=lambda event: (event["eventTime"], event["eventType"] != "START"))


def started(record: Record) -> Event:
    """The START event of the attempt that a record (also an unfinished one, without output) tells of."""
    return _event("START", record["start_time"], record, outputs=())


def completed(record: Record, outputs: Iterable[Mapping[str, object]]) -> Event:
    """The COMPLETE event of the attempt that a record tells of, and what it made."""
    return _event("COMPLETE", record["end_time"], record, outputs)


def checked(record: Record, outputs: Iterable[Mapping[str, object]]) -> list[Event]:
    """START and COMPLETE of the checks that a record tells of, if any: a job of their own, which read the outputs.

    By the specification, assertions are a facet of what a job reads.
    """
    findings = findings_in(record)
    if not findings:
        return []
    luigi_run, task_id, attempt = _attempt(record)
    assertions = [{"assertion": one["name"], "success": one["status"] == "passed"} for one in findings]
    facet = _facet("DataQualityAssertionsDatasetFacet", "1-0-1", assertions=assertions)
    inputs = [{**_dataset(description), "inputFacets": {"dataQualityAssertions": facet}} for description in outputs]
    both = [_event(kind, record["end_time"], record, outputs=()) for kind in ("START", "COMPLETE")]
    for event in both:
        event["run"]["runId"] = str(uuid.uuid5(_IDS, f"{luigi_run}/{task_id}/{attempt}/checks"))
        event["job"]["name"] += ".checks"
        event["inputs"] = inputs
    return both


def failed(record: Record, time: str, message: str, stack_trace: str = "") -> Event:
    """A FAIL event; `record` holds at least `task_family`, `task_id`, `params` and `run`. `time` is ISO 8601."""
    event = _event("FAIL", time, record, outputs=())
    facet = _facet("ErrorMessageRunFacet", "1-0-1", message=message, programmingLanguage="python")
    if stack_trace:
        facet["stackTrace"] = stack_trace
    event["run"]["facets"]["errorMessage"] = facet
    return event


def run_id(luigi_run: str, task_id: str, attempt: int) -> str:
    """The UUID of one attempt; the same for all its events."""
    return str(uuid.uuid5(_IDS, f"{luigi_run}/{task_id}/{attempt}"))


def _attempt(record: Record) -> tuple[str, str, int]:
    run = record.get("run") or {}
    return str(run.get("id") or "unknown"), record["task_id"], int(run.get("attempt") or 1)


def _event(kind: str, time: str, record: Record, outputs: Iterable[Mapping[str, object]]) -> Event:
    luigi_run, task_id, attempt = _attempt(record)
    read = [record.get("input"), record.get("dynamic_input")]
    shown = list(itertools.islice(resolve.references(read), _INPUTS))
    left_out = {} if len(shown) < _INPUTS else _cut(input_lists.count(read), len(shown))
    return {
        "eventType": kind,
        "eventTime": time,
        "producer": PRODUCER,
        "schemaURL": _EVENT_SCHEMA,
        "run": {
            "runId": run_id(luigi_run, task_id, attempt),
            "facets": {**_run_facets(record, luigi_run), **left_out},
        },
        "job": {"namespace": namespace(), "name": record["task_family"], "facets": _job_facets(record)},
        "inputs": [_dataset(reference) for reference in shown],
        "outputs": [_output(description) for description in outputs],
    }


def _cut(count: int, shown: int) -> dict[str, object]:
    """A facet of ours for an event that does not name all inputs."""
    facet = {"_producer": PRODUCER, "_schemaURL": PRODUCER, "count": count, "shown": shown}
    return {"superluigi_inputs": facet} if count > shown else {}


def _run_facets(record: Record, luigi_run: str) -> dict[str, Any]:
    facets = {
        "parent": _facet(
            "ParentRunFacet",
            "1-2-0",
            run={"runId": str(uuid.uuid5(_IDS, luigi_run))},
            job={"namespace": namespace(), "name": "run_task"},
        ),
        "executionParameters": _facet(
            "ExecutionParametersRunFacet",
            "1-0-0",
            parameters=[{"key": key, "value": str(value)} for key, value in (record.get("params") or {}).items()],
        ),
    }
    packages = (record.get("environment") or {}).get("packages") or {}
    if packages.get("superluigi"):
        facets["processing_engine"] = _facet(
            "ProcessingEngineRunFacet", "1-1-1", version=packages["superluigi"], name="superluigi"
        )
    return facets


def _job_facets(record: Record) -> dict[str, Any]:
    facets = {
        "jobType": _facet("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration="SUPERLUIGI", jobType="TASK")
    }
    code = record.get("code") or {}
    repo = code.get("repo")
    if isinstance(repo, str) and urlsplit(repo).scheme in ("http", "https", "ssh", "git"):
        file = quote(f"{code.get('commit')}/{code.get('path')}")
        known = {"repoUrl": repo, "path": code.get("path"), "version": code.get("commit"), "branch": code.get("branch")}
        facets["sourceCodeLocation"] = _facet(
            "SourceCodeLocationJobFacet",
            "1-1-0",
            type="git",
            url=f"{repo.removesuffix('.git')}/blob/{file}",
            **{key: value for key, value in known.items() if value},
        )
    return facets


def _output(description: Mapping[str, object]) -> dict[str, object]:
    dataset = _dataset(description)
    statistics = {"size": description.get("size"), "fileCount": description.get("count")}
    told = {key: value for key, value in statistics.items() if value is not None}
    dataset["outputFacets"] = {
        "outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", "1-0-2", **told),
    }
    return dataset


def _dataset(description: Mapping[str, object]) -> dict[str, object]:
    """A dataset, named as OpenLineage's naming rules have it for files and S3."""
    path = str(description["path"])
    if resolve.is_s3(path):
        bucket, key = resolve.split_s3(path)
        name = {"namespace": f"s3://{bucket}", "name": key.strip("/") or "/"}
    else:
        name = {"namespace": "file", "name": path}
    version = description.get("version") or _hex(description.get("digest")) or description.get("etag")
    facets = {"version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(version))} if version else {}
    return {**name, "facets": facets}


def _hex(digest: object) -> str | None:
    if not isinstance(digest, Mapping) or not digest:
        return None
    algorithm, value = next(iter(digest.items()))
    return f"{algorithm}:{value}"


def _facet(schema_name: str, schema_version: str, /, **content: object) -> dict[str, object]:
    schema = f"{_SPEC}/facets/{schema_version}/{schema_name}.json#/$defs/{schema_name}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **content}

"""OpenLineage events: what they say, that they are valid by the specification's own JSON schemas, and that they arrive.

The schemas stand in `tests/data/openlineage`, with a word on where they come from.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import luigi
import pytest
from openlineage_support import check_event

from superluigi import lineage, run_task
from superluigi.errors import TaskFailedError
from superluigi.lineage.openlineage.events import started
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task
from superluigi.testing.s3_server import S3Server


class EventFirst(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    secret = luigi.Parameter(
        default="hunter2", visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False
    )

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/first.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("first")


class EventSecond(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return EventFirst(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/second.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text(input_path.read_text())


class EventBroken(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return EventFirst(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/broken.txt")

    def run(self, output_path: Path) -> None:
        raise ValueError("no such column")


def test_a_history_becomes_a_start_and_a_complete_event_for_each_task(tmp_path: Path) -> None:
    run_task(EventSecond(str(tmp_path)))
    events = lineage.to_openlineage(tmp_path / "second.txt")
    for event in events:
        check_event(event)
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("EventFirst", "START"), ("EventFirst", "COMPLETE"), ("EventSecond", "START"), ("EventSecond", "COMPLETE"),
    ]  # fmt: skip
    first, second = events[1], events[3]
    assert second["inputs"][0]["name"] == first["outputs"][0]["name"] == str(tmp_path / "first.txt")
    assert second["inputs"][0]["facets"]["version"] == first["outputs"][0]["facets"]["version"]
    assert first["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == 5
    assert events[0]["run"]["runId"] == first["run"]["runId"] != second["run"]["runId"]
    assert first["run"]["facets"]["parent"]["run"] == second["run"]["facets"]["parent"]["run"]
    assert "hunter2" not in json.dumps(events)


class EventPair(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return EventFirst(self.root)

    def output(self) -> Any:
        return {"one": LocalFileTarget(f"{self.root}/one.txt"), "all": LocalFolderTarget(f"{self.root}/all")}

    def run(self, output_path: Any) -> None:
        output_path["one"].write_text("1")
        (output_path["all"] / "part 1.txt").write_text("2")


class EventPlain(Task):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return EventPair(self.root)

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.root}/plain.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("x")


class EventAfterPair(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return EventPlain(self.root), EventPair(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/after.txt")

    def run(self, output_path: Path) -> Any:
        yield EventSecond(self.root)
        output_path.write_text("after")


def test_several_outputs_of_one_attempt_are_told_in_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE_URL", str(file))
    run_task(EventAfterPair(str(tmp_path)))
    told = [json.loads(line) for line in file.read_text().splitlines()]
    for events in (told, lineage.to_openlineage(tmp_path / "after.txt")):
        for event in events:
            check_event(event)
        (pair,) = [one for one in events if one["job"]["name"] == "EventPair" and one["eventType"] == "COMPLETE"]
        names = [output["name"] for output in pair["outputs"]]
        assert sorted(names) == [str(tmp_path / "all"), str(tmp_path / "one.txt")]
        ends = [one["run"]["runId"] for one in events if one["eventType"] == "COMPLETE"]
        assert len(ends) == len(set(ends)), "each run ends once"
        (last,) = [one for one in events if one["job"]["name"] == "EventAfterPair" and one["eventType"] == "COMPLETE"]
        assert str(tmp_path / "second.txt") in [one["name"] for one in last["inputs"]], "found while it ran"


def test_an_ancestor_that_is_gone_has_no_event(tmp_path: Path) -> None:
    run_task(EventSecond(str(tmp_path)))
    for path in (tmp_path / "first.txt", tmp_path / "first.txt.metadata.json"):
        path.unlink()
    events = lineage.to_openlineage(tmp_path / "second.txt")
    assert [event["job"]["name"] for event in events] == ["EventSecond", "EventSecond"]


def test_the_address_of_a_source_file_is_a_uri() -> None:
    record = record_of_a_task()
    record["code"]["path"] = "my pipelines/größe.py"
    check_event(started(record))


def test_datasets_on_s3_are_named_by_bucket_and_key(s3_server: S3Server, s3_bucket: str) -> None:
    target = S3ObjectTarget(s3_bucket, "a/b.txt", **s3_server.client_options)
    with target.stage() as staged:
        staged.path.write_text("x")
        staged.commit({**record_of_a_task(), "input": {"one": {"type": "S3PrefixTarget", "path": "s3://other/p/"}}})
    (_, complete) = lineage.to_openlineage(target)
    check_event(complete)
    assert (complete["outputs"][0]["namespace"], complete["outputs"][0]["name"]) == (f"s3://{s3_bucket}", "a/b.txt")
    assert (complete["inputs"][0]["namespace"], complete["inputs"][0]["name"]) == ("s3://other", "p")


def record_of_a_task() -> dict[str, Any]:
    time = "2013-12-15T10:15:00.000000+00:00"
    return {
        "schema": "superluigi.lineage/1", "task_family": "T", "task_id": "T_1", "params": {"n": 1},
        "start_time": time, "end_time": time, "run": {"id": "r", "attempt": 2},
        "code": {"repo": "https://example.org/flights.git", "commit": "abc", "branch": "main", "path": "p.py"},
        "environment": {"packages": {"superluigi": "1"}},
    }  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("scheme", ["path", "file"])
def test_a_run_writes_its_events_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, scheme: str
) -> None:
    file = tmp_path / "events" / "all.jsonl"
    monkeypatch.setenv("OPENLINEAGE_URL", str(file) if scheme == "path" else file.as_uri())
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "flights")
    run_task(EventSecond(str(tmp_path)), num_workers=workers)
    with pytest.raises(TaskFailedError):
        run_task(EventBroken(str(tmp_path)), num_workers=workers)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for event in events:
        check_event(event)
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("EventFirst", "START"), ("EventFirst", "COMPLETE"), ("EventSecond", "START"), ("EventSecond", "COMPLETE"),
        ("EventBroken", "START"), ("EventBroken", "FAIL"),
    ]  # fmt: skip
    assert {event["job"]["namespace"] for event in events} == {"flights"}
    message = events[-1]["run"]["facets"]["errorMessage"]
    assert "no such column" in message["message"]
    assert events[4]["run"]["runId"] == events[5]["run"]["runId"]
    told = {event["run"]["runId"] for event in lineage.to_openlineage(tmp_path / "second.txt")}
    assert told == {event["run"]["runId"] for event in events[:4]}, "records tell the same runs afterwards"
    assert "hunter2" not in file.read_text()


class EventDies(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/dies.txt")

    def run(self, output_path: Path) -> None:
        os._exit(3)


def test_a_process_that_died_is_a_run_that_began_and_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE_URL", str(file))
    with pytest.raises(TaskFailedError):
        run_task(EventDies(str(tmp_path)), executor="processes")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for event in events:
        check_event(event)
    assert [event["eventType"] for event in events] == ["START", "FAIL"]
    assert len({event["run"]["runId"] for event in events}) == 1
    assert "exit code 3" in events[1]["run"]["facets"]["errorMessage"]["message"]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """A collector on loopback, and what it got: path, authorisation, event."""
    got: list[tuple[str, str, dict[str, Any]]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers.get("Authorization", ""), json.loads(body)))
            self.send_response(503 if len(got) == 1 else 201)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_posts_its_events_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: tuple[str, list[Any]]
) -> None:
    url, got = endpoint
    monkeypatch.setenv("OPENLINEAGE_URL", url)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "key-of-test")
    run_task(EventFirst(str(tmp_path)))
    assert {(path, key) for path, key, _ in got} == {("/api/v1/lineage", "Bearer key-of-test")}
    assert [event["eventType"] for _, _, event in got] == ["START", "START", "COMPLETE"], "the first was refused"


def test_an_endpoint_that_is_away_never_fails_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "key-of-test")
    run_task(EventFirst(str(tmp_path)))
    complaints = [record.getMessage() for record in caplog.records if "OpenLineage" in record.getMessage()]
    assert len(complaints) == 1
    assert "key-of-test" not in caplog.text


def test_disabled_means_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", str(tmp_path / "events.jsonl"))
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    run_task(EventFirst(str(tmp_path)))
    assert not (tmp_path / "events.jsonl").exists()

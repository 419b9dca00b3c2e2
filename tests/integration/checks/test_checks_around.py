"""Checks beside the commit: refreshes, external data, retries, executors, the queue, commands, pages, events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest
from openlineage_support import check_event

from superluigi import check, lineage, run_task
from superluigi.checks import quarantine
from superluigi.cli import main
from superluigi.errors import CheckFailedError, TaskFailedError
from superluigi.lineage.staleness.why import why
from superluigi.queue import Queue
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server
from superluigi.visuals import plot_dependency_graph

PIPELINE = """
    from pathlib import Path
    import luigi
    from superluigi import check
    from superluigi.tasks import AtomicTaskWithMetadata
    from superluigi.targets import LocalFileTarget

    def limit():
        return LIMIT

    LIMIT = 10

    class Source(AtomicTaskWithMetadata):
        def output(self): return LocalFileTarget("source.json")
        def run(self):
            with open("ran", "a") as file: file.write("Source\\n")
            return 5

        @check(severity="warn")
        def small(self, value, metadata):
            metadata["seen"] = value
            return value < limit()

    class Sink(AtomicTaskWithMetadata):
        checks = [lambda value: value != 7]
        def requires(self): return Source()
        def output(self): return LocalFileTarget("sink.json")
        def run(self, inputs):
            with open("ran", "a") as file: file.write("Sink\\n")
            return inputs + 1
"""


class Pipeline:
    """A module in a folder of its own, run by commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = textwrap.dedent(PIPELINE)

    def change(self, old: str, new: str) -> None:
        assert self.text.count(old) == 1
        self.text = self.text.replace(old, new)

    def __call__(self, *words: str, code: int = 0) -> str:
        (self.folder / "pipe.py").write_text(self.text)
        command = [sys.executable, "-B", "-m", "superluigi", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ran(self) -> list[str]:
        file = self.folder / "ran"
        return file.read_text().split() if file.exists() else []

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{name}.metadata.json").read_text())
        return found


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_a_changed_check_checks_again_and_runs_nothing(pipeline: Pipeline) -> None:
    pipeline("run", "pipe", "Sink")
    assert pipeline.ran() == ["Source", "Sink"]
    before = pipeline.record("source.json")
    assert before["code"]["checks"] and not any("small" in name or "limit" in name for name in before["code"]["parts"])
    pipeline.change("LIMIT = 10", "LIMIT = 3")  # what only a check reaches
    told = json.loads(pipeline("why", "pipe", "Sink", "--refresh", "code", "--json"))
    assert [(one["task_family"], one["reason"], one["runs"], one["state"]) for one in told] == [
        ("Source", "check changed", False, "complete"), ("Sink", "up to date", False, "complete"),
    ]  # fmt: skip
    pipeline("run", "pipe", "Sink", "--refresh", "inputs")
    assert pipeline.record("source.json") == before
    pipeline("run", "pipe", "Sink", "--refresh", "code")
    assert pipeline.ran() == ["Source", "Sink"]
    after = pipeline.record("source.json")
    assert after["checks"][0]["status"] == "failed" and after["code"]["digest"] == before["code"]["digest"]
    assert after["code"]["checks"] != before["code"]["checks"]
    assert {**after, "checks": 0, "code": 0} == {**before, "checks": 0, "code": 0}
    assert "0 of 2 tasks would run" in pipeline("why", "pipe", "Sink", "--refresh", "code")
    pipeline.change("return 5", "return 6")
    pipeline("run", "pipe", "Sink", "--refresh", "code", code=1)  # and what is made anew is checked
    assert pipeline.ran() == ["Source", "Sink", "Source", "Sink"]


def test_what_is_there_and_does_not_pass_new_checks_stays_and_fails_the_run_each_time(pipeline: Pipeline) -> None:
    pipeline("run", "pipe", "Sink")
    before = pipeline.record("sink.json")
    pipeline.change("value != 7", "value != 6")
    for _ in range(2):
        said = pipeline("run", "pipe", "Sink", "--refresh", "code", code=1)
        assert "CheckFailedError" in said and "stays as it is" in said
    assert pipeline.record("sink.json") == before and (pipeline.folder / "sink.json").read_text().strip() == "6"
    assert pipeline.ran() == ["Source", "Sink"]
    pipeline("run", "pipe", "Sink")


def test_the_command_checks_what_is_there(pipeline: Pipeline) -> None:
    assert "is not there" in pipeline("check", "pipe", "Sink", code=1)
    pipeline("run", "pipe", "Sink")
    assert "0 of 1 checks failed" in pipeline("check", "pipe", "Sink")
    pipeline.change("LIMIT = 10", "LIMIT = 3")
    said = pipeline("check", "pipe", "Sink", "--upstream")
    assert "warns" in said and "1 of 2 checks failed" in said
    pipeline("check", "pipe", "Sink", "--upstream", "--strict", code=1)
    pipeline.change("value != 7", "value != 6")
    told = json.loads(pipeline("check", "pipe", "Sink", "--json", code=1))
    assert [one["status"] for one in told[0]["checks"]] == ["failed"]
    assert pipeline.ran() == ["Source", "Sink"]


def test_a_warning_is_said_at_the_end_of_the_run_and_wherever_the_record_is_shown(pipeline: Pipeline) -> None:
    pipeline.change("LIMIT = 10", "LIMIT = 3")
    said = pipeline("run", "pipe", "Sink")
    assert "! Source(): check 'small' failed: the check gave False" in said
    expected = "1 of 1 check failed: small (warn): the check gave False"
    assert expected in pipeline("why", "pipe", "Sink")
    assert expected in pipeline("lineage", "sink.json")
    page = pipeline.folder / "page.html"
    pipeline("graph", "pipe", "Sink", "--html", str(page))
    assert "the check gave False" in page.read_text()
    table = lineage.frame(pipeline.folder)
    assert dict(zip(table["task_family"], table["failed_checks"], strict=True)) == {"Source": "small", "Sink": ""}
    assert list(table["checks"]) == [1, 1]
    events = lineage.to_openlineage(pipeline.folder / "sink.json")
    for event in events:
        check_event(event)
    checked = {event["job"]["name"]: event for event in events if event["job"]["name"].endswith(".checks")}
    facets = [one["inputFacets"]["dataQualityAssertions"] for one in checked["Source.checks"]["inputs"]]
    assert [one["assertions"] for one in facets] == [[{"assertion": "small", "success": False}]]
    assert [one["name"] for one in checked["Source.checks"]["inputs"]] == [str(pipeline.folder / "source.json")]
    assert checked["Source.checks"]["outputs"] == []


def test_events_of_a_run_tell_of_checks(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", str(pipeline.folder / "events"))
    pipeline("run", "pipe", "Sink")
    events = [json.loads(line) for line in (pipeline.folder / "events").read_text().splitlines()]
    for event in events:
        check_event(event)
    assert {"Source.checks", "Sink.checks"} <= {event["job"]["name"] for event in events}


def test_quarantine_is_listed_shown_and_cleared(pipeline: Pipeline) -> None:
    pipeline.change("value != 7", "'too ' + 'bad'")
    assert "nothing is in quarantine" in pipeline("quarantine", "list")
    said = pipeline("run", "pipe", "Sink", code=1)
    assert "check '<lambda>' failed: too bad" in said
    [told] = json.loads(pipeline("quarantine", "list", "--json"))
    assert told["task_family"] == "Sink" and told["checks"][0]["detail"] == "too bad"
    header, row = pipeline("quarantine", "list").splitlines()
    assert header.endswith("/quarantine/)") and told["path"] in said
    assert told["path"] == header.rpartition("(in ")[2][:-1] + row.rpartition(" ")[2]
    shown = pipeline("quarantine", "show", "Sink")
    assert "too bad" in shown and f"{told['path']}/output/0/sink.json" in shown
    assert "is called Nothing." in pipeline("quarantine", "clear", "Sink", "Nothing", "--yes", code=1)
    pipeline("quarantine", "clear", code=1)  # nobody can be asked
    pipeline("quarantine", "clear", "--older-than", "1", "--yes")
    assert Path(told["path"]).exists()
    pipeline("quarantine", "clear", "--yes")
    assert not quarantine.entries()


# ---------------------------------------------------------------- external data


class Given(ExternalTask):
    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "given.json")

    @check
    def good(self, value: Any, output_path: Path) -> Any:
        with (Path(self.place) / "looked").open("a") as file:
            file.write("x")
        output_path.read_bytes()
        return value["good"]


class Taking(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    number = luigi.IntParameter()

    def requires(self) -> Any:
        return Given(self.place)

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / f"taken-{self.number}.json")

    def run(self, inputs: Any) -> Any:
        return inputs


class TakingAll(luigi.WrapperTask):
    place = luigi.Parameter()

    def requires(self) -> Any:
        return [Taking(self.place, number) for number in range(6)]


class Yielding(Taking):
    def requires(self) -> Any:
        return []

    def run(self, output_path: Path) -> Any:  # type: ignore[override]
        path = yield Given(self.place)
        output_path.write_bytes(path.read_bytes())


class OfLuigi(luigi.Task):
    place = luigi.Parameter()

    def requires(self) -> Any:
        return Given(self.place)

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.place}/plain.json")

    def run(self) -> None:
        with self.input().open() as source, self.output().open("w") as file:
            file.write(source.read())


def looks(place: Path) -> int:
    return len((place / "looked").read_text()) if (place / "looked").exists() else 0


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_external_data_is_checked_once_for_each_version(tmp_path: Path, executor: str | None) -> None:
    (tmp_path / "given.json").write_text('{"good": true}')
    run_task(TakingAll(str(tmp_path)), executor=executor, num_workers=3)
    assert looks(tmp_path) == 1
    (tmp_path / "given.json").write_text('{"good": true, "new": 1}')
    run_task(TakingAll(str(tmp_path)), force_upstream=True, num_workers=3)
    assert looks(tmp_path) == 2


@pytest.mark.parametrize("kind", [Taking, Yielding, OfLuigi])
def test_no_task_takes_external_data_that_does_not_pass(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "given.json").write_text('{"good": false}')
    made = kind(str(tmp_path)) if kind is OfLuigi else kind(str(tmp_path), 1)
    with pytest.raises(CheckFailedError, match="check 'good' failed"):
        run_task(made, raise_exception=True)
    assert not made.complete() and (tmp_path / "given.json").exists()
    (tmp_path / "given.json").write_text('{"good": true}')
    run_task(made)
    assert made.complete()


def test_what_failed_for_one_dependant_fails_for_all_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text('{"good": false}')
    with pytest.raises(TaskFailedError):
        run_task(TakingAll(str(tmp_path)))
    assert looks(tmp_path) == 1
    with pytest.raises(TaskFailedError):
        run_task(TakingAll(str(tmp_path)))
    assert looks(tmp_path) == 2


def test_luigis_own_build_checks_too(tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text('{"good": false}')
    assert not luigi.build([Taking(str(tmp_path), 1)], local_scheduler=True)
    assert looks(tmp_path) == 1 and not (tmp_path / "taken-1.json").exists()


def test_external_objects_and_folders_are_checked_once_too(tmp_path: Path, s3_server: S3Server, s3_bucket: str) -> None:
    target = S3ObjectTarget(s3_bucket, "given.json", **s3_server.client_options)

    class Far(Given):
        def output(self) -> Any:
            return [target, LocalFolderTarget(tmp_path / "folder")]

        def good(self, values: Any) -> Any:
            with (tmp_path / "looked").open("a") as file:
                file.write("x")
            return values[0]["good"] and values[1]["a"] == 1

    class TakingFar(Taking):
        def requires(self) -> Any:
            return Far(self.place)

        def run(self) -> Any:  # type: ignore[override]
            return 1

    target.dump({"good": True})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.json").write_text("1")
    for number in range(2):
        run_task(TakingFar(str(tmp_path), number))
    assert looks(tmp_path) == 1
    (tmp_path / "folder/a.json").write_text("2")
    with pytest.raises(TaskFailedError):
        run_task(TakingFar(str(tmp_path), 3))


# ---------------------------------------------------------------- retries, executors, the queue


class Tried(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    retry_count = 3

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "tried.json")

    def run(self) -> Any:
        with (Path(self.place) / "tries").open("a") as file:
            file.write("x")
        return len((Path(self.place) / "tries").read_text())

    @check
    def third(self, value: Any) -> Any:
        return value == 3


class TriedOnce(Tried):
    retry_on_failed_check = False


EXECUTORS = (None, "threads", "processes", "queue")


def options(executor: str | None, tmp_path: Path) -> dict[str, Any]:
    return {"queue": Queue(f"sqlite:///{tmp_path}/queue.db")} if executor == "queue" else {"executor": executor}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_failed_check_is_tried_again_unless_the_task_says_no(tmp_path: Path, executor: str | None) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run_task(Tried(str(tmp_path / "a")), **options(executor, tmp_path))
    assert Tried(str(tmp_path / "a")).complete() and len(quarantine.entries()) == 2
    with pytest.raises(TaskFailedError, match="check 'third' failed: the check gave False") as caught:
        run_task(TriedOnce(str(tmp_path / "b")), **options(executor, tmp_path))
    assert isinstance(caught.value.__cause__, CheckFailedError)
    assert (tmp_path / "b" / "tries").read_text() == "x" and not (tmp_path / "b" / "tried.json").exists()


class Hanging(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    worker_timeout = 2

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "hanging.json")

    def run(self) -> Any:
        return 1

    @check
    def hangs(self, value: Any) -> None:
        time.sleep(60)


@pytest.mark.parametrize("executor", ["processes", "queue"])
def test_a_check_that_hangs_falls_under_the_time_limit_of_its_task(tmp_path: Path, executor: str) -> None:
    began = time.monotonic()
    with pytest.raises(TaskFailedError, match="Hanging"):
        run_task(Hanging(str(tmp_path)), **options(executor, tmp_path))
    assert time.monotonic() - began < 50
    assert not (tmp_path / "hanging.json").exists() and not quarantine.entries()


class Cancelling(Hanging):
    worker_timeout = None

    @check
    def hangs(self, value: Any) -> None:
        self.cancel("not wanted")
        time.sleep(60)


def test_a_check_that_is_cancelled_rejects_nothing(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match="not wanted"):
        run_task(Cancelling(str(tmp_path)))
    assert not (tmp_path / "hanging.json").exists() and not quarantine.entries()


class Schemeless(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    checks: ClassVar = [lambda value: True]

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "s.json")

    def run(self) -> Any:
        return 1


def test_what_is_not_asked_is_not_imported(tmp_path: Path) -> None:
    program = (
        "import sys, superluigi.tasks, superluigi.checks.running; print({'pandera', 'pydantic'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_pages_in_this_process_show_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Schemeless(str(tmp_path))
    run_task(made)
    assert why(made)[-1].as_json()["checks"][0]["status"] == "passed"
    assert '\\"checks\\"' in plot_dependency_graph(made).html
    os.chdir(tmp_path)
    assert main(["lineage", "s.json"]) == 0
    assert "1 check passed" in capsys.readouterr().out

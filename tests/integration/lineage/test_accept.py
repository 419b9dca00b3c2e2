"""`accept` takes an output as good for other code or inputs, `adopt` one that has no record; nothing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import luigi
import pytest

from superluigi import lineage, run_task
from superluigi.errors import CommitConflictError, DefinitionError, NotAcceptableError, OptionError, TargetMissingError
from superluigi.lineage.staleness import accepting
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server

KINDS = ("file", "folder", "object", "prefix")
Make = Callable[[str, str], Any]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes a target of one kind, by its name."""
    kind = request.param
    if kind in ("file", "folder"):
        return lambda name: (LocalFileTarget if kind == "file" else LocalFolderTarget)(tmp_path / "out" / name)
    server: S3Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("s3_bucket")
    cls: Any = S3ObjectTarget if kind == "object" else S3PrefixTarget
    return lambda name: cls(bucket, name, **server.client_options)


def _write(path: Path, text: str) -> None:
    (path / "x" if path.is_dir() else path).write_text(text)


def _read(target: Any) -> str:
    with target.tmp_read_path() as path:
        return (path / "x" if path.is_dir() else path).read_text()


def _pipeline(make: Any, ran: list[str], addend: int = 1, raw: str = "raw") -> Any:
    """A task over another over data of others; `addend` changes its code."""

    class Raw(ExternalTask):
        def output(self) -> Any:
            return make(raw)

    class First(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Raw()

        def output(self) -> Any:
            return make("first")

        def run(self, output_path: Path) -> None:
            ran.append(f"first {addend}")
            _write(output_path, "first")

    class Second(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return First()

        def output(self) -> Any:
            return make("second")

        def run(self, output_path: Path) -> None:
            ran.append("second")
            _write(output_path, "second")

    return Second()


def _raw(make: Any, text: str, name: str = "raw") -> None:
    with make(name).tmp_write_path() as path:
        _write(path, text)


def _reason(task: Any) -> dict[str, str]:
    return {one.task.get_task_family(): one.reason for one in lineage.why(task)}


def test_what_was_accepted_is_up_to_date_and_keeps_how_it_was_made(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    run_task(_pipeline(make, ran))
    before = make("first").read_metadata()
    _raw(make, "two")
    task = _pipeline(make, ran, addend=2)
    assert _reason(task)["First"] == "input changed"
    found = lineage.accept(task, why="only a comment of the raw data", upstream=True)
    assert [one.task.get_task_family() for one in found] == ["First"]
    assert set(_reason(task).values()) == {"up to date"}
    run_task(task, refresh="all")
    assert ran == ["first 1", "second"]
    after = make("first").read_metadata()
    assert {**after, "run": None} == {**before, "run": None}
    accepted = after["run"].pop("accepted")
    assert after["run"] == before["run"]
    assert accepted[0]["why"] == "only a comment of the raw data"
    assert {"by", "host", "time", "code", "inputs"} <= accepted[0].keys()
    assert "accepted for other code and inputs by" in lineage.trace(make("second")).notes[make("first").location.uri]


def test_what_is_not_named_is_not_accepted_and_later_changes_are_seen(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    run_task(_pipeline(make, ran))
    changed = _pipeline(make, ran, addend=2)
    first = changed.requires()
    _raw(make, "two")
    lineage.accept(first, why="x", code=True)
    assert _reason(changed)["First"] == "input changed"
    lineage.accept(first, why="y", inputs=True)
    assert _reason(changed)["First"] == "up to date"
    assert len(make("first").read_metadata()["run"]["accepted"]) == 2
    assert lineage.accept(first, why="z") == []
    assert _reason(_pipeline(make, ran, addend=3))["First"] == "code changed"
    assert _reason(_pipeline(make, ran))["First"] == "up to date"  # what it was made by
    _raw(make, "three")
    assert _reason(changed)["First"] == "input changed"


def test_what_cannot_be_accepted_is_refused_with_the_reason(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    task = _pipeline(make, ran)
    with pytest.raises(OptionError, match="output missing"):
        lineage.accept(task, why="x")
    run_task(task)
    with pytest.raises(OptionError, match="Say why"):
        lineage.accept(task, why=" ")
    make("raw").remove()
    with pytest.raises(OptionError, match="is missing"):
        lineage.accept(task.requires(), why="x", inputs=True)


def test_what_keeps_no_record_is_in_nobodys_way_and_is_sent_nowhere_else(tmp_path: Path) -> None:
    class Keeps(luigi.Task):
        def output(self) -> luigi.LocalTarget:
            return luigi.LocalTarget(tmp_path / "keeps")

        def run(self) -> None:
            Path(self.output().path).write_text("x")

    class After(AtomicTaskWithMetadata):
        def requires(self) -> Keeps:
            return Keeps()

        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "after")

        def run(self, output_path: Path) -> None:
            output_path.write_text("x")

    run_task(After())
    assert accepting.accept(After(), why="nothing has changed", upstream=True) == []
    with pytest.raises(NotAcceptableError) as refused:
        accepting.accept(Keeps(), why="it is fine")
    assert "adopt" not in str(refused.value)


def test_an_output_that_can_have_no_record_is_told_as_that(tmp_path: Path) -> None:
    class Mixed(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [LocalFileTarget(tmp_path / "ours"), luigi.LocalTarget(tmp_path / "luigis")]

    for name in ("ours", "luigis"):
        (tmp_path / name).touch()
    for ask in (lineage.why, lineage.adopt, lambda task: lineage.accept(task, why="it is fine")):
        with pytest.raises(DefinitionError, match="luigis is a LocalTarget, which has no record"):
            ask(Mixed())


def test_what_is_made_again_meanwhile_is_not_accepted(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    run_task(_pipeline(make, ran))
    _raw(make, "two")
    task = _pipeline(make, ran, addend=2).requires()
    looked = accepting.acceptances(task, why="x")
    run_task(task, force=True)
    before = make("first").read_metadata()
    with pytest.raises(CommitConflictError):
        looked[0].write()
    assert make("first").read_metadata() == before


def _put(make: Any, name: str, text: str) -> None:
    """Data without a record, as others leave it."""
    target = make(name)
    if isinstance(target, LocalFileTarget):
        target.path.parent.mkdir(exist_ok=True)
        target.path.write_text(text)
    elif isinstance(target, LocalFolderTarget):
        target.path.mkdir(parents=True, exist_ok=True)
        (target.path / "x").write_text(text)
    else:
        place = target.location.place
        key = place.key + ("x" if isinstance(target, S3PrefixTarget) else "")
        boto3.client("s3", **dict(place.options.items)).put_object(Bucket=place.bucket, Key=key, Body=text.encode())


def test_what_was_there_before_is_adopted_and_says_so(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    _put(make, "first", "by hand")
    task = _pipeline(make, ran)
    assert _reason(task)["First"] in ("record missing", "output missing")
    lineage.adopt(task.requires(), why="made by the old pipeline")
    assert _reason(task)["First"] == "up to date"
    record = make("first").read_metadata()
    assert record["run"]["adopted"] is True and record["run"]["accepted"][0]["why"] == "made by the old pipeline"
    assert not {"start_time", "end_time", "duration"} & record.keys()
    assert record["code"] == {} and record["input"] == []
    run_task(task, refresh="all")
    assert ran == ["second"] and _read(make("first")) == "by hand"
    assert lineage.trace(make("second")).notes[make("first").location.uri].startswith("adopted by ")
    assert _reason(_pipeline(make, ran, addend=2))["First"] == "code changed"
    _raw(make, "two")
    assert _reason(task)["First"] == "input changed"


def test_what_is_not_there_or_has_a_record_is_not_adopted(make: Any) -> None:
    ran: list[str] = []
    _raw(make, "one")
    task = _pipeline(make, ran)
    with pytest.raises(TargetMissingError):
        lineage.adopt(task)
    run_task(task)
    with pytest.raises(OptionError, match="has a record"):
        lineage.adopt(task)


def test_what_was_replaced_meanwhile_is_not_adopted(tmp_path: Path) -> None:
    def make(name: str) -> Any:
        return LocalFileTarget(tmp_path / "out" / name)

    _raw(make, "one")
    _put(make, "first", "by hand")
    looked = accepting.adoption(_pipeline(make, []).requires())
    _put(make, "first", "another")
    with pytest.raises(CommitConflictError):
        looked.write()
    assert make("first").read_metadata() is None


def _three(make: Any, ran: list[str]) -> Any:
    """A task of three outputs."""

    class Three(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [make(name) for name in "abc"]

        def run(self, output_path: list[Path]) -> None:
            ran.append("three")
            for path in output_path:
                _write(path, str(len(ran)))

    return Three()


@pytest.mark.parametrize("lost", ["a", "bc"])
def test_some_of_several_outputs_that_lost_their_records_are_adopted(make: Any, lost: str) -> None:
    ran: list[str] = []
    run_task(_three(make, ran))
    for name in lost:
        text = _read(make(name))
        make(name).remove()
        _put(make, name, text)
    before = {name: make(name).read_metadata() for name in "abc"}
    found = lineage.adopt(_three(make, ran), why="restored from a copy")
    assert [path.rpartition("/")[2] for path in (one.rstrip("/") for one in found.as_json()["paths"])] == list(lost)
    assert {name: make(name).read_metadata() for name in "abc" if name not in lost} == {
        name: record for name, record in before.items() if record is not None
    }
    assert _reason(_three(make, ran)) == {"Three": "up to date"} and _three(make, ran).complete()
    run_task(_three(make, ran), refresh="all")
    assert ran == ["three"]


def test_outputs_of_different_runs_are_told_as_missing_and_not_accepted(make: Any) -> None:
    ran: list[str] = []
    run_task(_three(make, ran))
    old, other = make("b").read_metadata(), _three(make, ran)
    run_task(other, force=True)
    with make("b").location.stage() as staged:  # as if the forced run had died before this one
        _write(staged.path, "1")
        staged.commit(old)
    assert not other.complete()
    assert _reason(other) == {"Three": "output missing"}
    with pytest.raises(NotAcceptableError, match="different runs"):
        lineage.accept(other, why="x")
    run_task(other)
    assert ran == ["three"] * 3 and _reason(other) == {"Three": "up to date"}


PIPELINE = """
import os
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Made(AtomicTaskWithMetadata):
    def output(self): return LocalFileTarget("made.txt")
    def run(self, output_path): output_path.write_text("made" + "!" * CODE)
"""


def _command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superluigi", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env={**os.environ}
    )


def test_the_commands_list_ask_and_tell(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("CODE", "1"))
    (tmp_path / "made.txt").write_text("by hand")
    task = ("pipeline", "Made")
    asked = _command(tmp_path, "adopt", *task)
    assert asked.returncode == 1 and "made.txt" in asked.stderr and "--yes" in asked.stderr
    assert not (tmp_path / "made.txt.metadata.json").exists()
    assert _command(tmp_path, "adopt", *task, "--yes").stdout == f"adopted {tmp_path}/made.txt\n"
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("CODE", "2"))
    asked = _command(tmp_path, "accept", *task, "--why", "only more of it")
    assert asked.returncode == 1 and "code changed" in asked.stderr
    done = _command(tmp_path, "accept", *task, "--why", "only more of it", "--yes", "--json")
    assert json.loads(done.stdout)[0]["paths"] == [f"{tmp_path}/made.txt"], done
    assert "nothing to accept" in _command(tmp_path, "accept", *task, "--why", "x").stdout
    assert "up to date" in _command(tmp_path, "why", *task).stdout
    assert "accepted for other code by" in _command(tmp_path, "lineage", "made.txt").stdout
    assert (tmp_path / "made.txt").read_text() == "by hand"

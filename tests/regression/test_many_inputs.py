"""The references of a task with many inputs stand in a file of their own: whole with the record that names it, gone
with it, and read by everything that reads references."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import cli, lineage
from superluigi.errors import RecordError
from superluigi.lineage.openlineage import events
from superluigi.lineage.records import resolve
from superluigi.storage import input_lists, owner_token
from superluigi.storage.objects import cleanup as s3_cleanup
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.targets.base import AtomicTarget
from superluigi.targets.local_system import LocalSystem
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, TaskWithMetadata
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import (
    LocalFileRig,
    LocalFolderRig,
    S3ObjectRig,
    S3PrefixRig,
    TargetRig,
)

MANY, FEW = input_lists.LIMIT + 1, 2
#: With a limit of three.
FIVE = 5
KINDS = ("file", "folder", "folder with its record inside", "object", "prefix", "prefix with its record inside")


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> TargetRig:
    if request.param == "file":
        return LocalFileRig(tmp_path)
    if request.param.startswith("folder"):
        return LocalFolderRig(tmp_path, **({"metadata_inside_folder": True} if "inside" in request.param else {}))
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket")
    if request.param == "object":
        return S3ObjectRig(bucket, server.client_options)
    return (
        Inside(bucket, server.client_options)
        if "inside" in request.param
        else S3PrefixRig(bucket, server.client_options)
    )


class Inside(S3PrefixRig):
    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        return super().target(name, metadata_inside_prefix=True, **options)


def references(count: int, run: str) -> list[dict[str, Any]]:
    return [
        {"type": "LocalFileTarget", "path": f"/parts/{run}/{number}", "size": number, "digest": {"sha256": "0" * 64}}
        for number in range(count)
    ]


def commit(rig: TargetRig, text: str, count: int) -> None:
    """An output whose data says what its record, and the list of its inputs, must say."""
    with rig.target().location.stage() as staged:
        rig.write(staged.path, text)
        staged.commit({"task_id": text, "run": {"id": text}, "input": references(count, text)})


def files(rig: TargetRig) -> list[str]:
    """The lists of inputs that are there."""
    if isinstance(rig, S3ObjectRig):
        return sorted(key.rpartition("/")[2] for key in list(rig.keys()) if ".inputs/" in key)
    assert isinstance(rig, LocalFileRig)
    return sorted(path.name for path in rig.folder.rglob("*.inputs/*"))


def check(rig: TargetRig, *, alone: bool = True) -> str:
    """What is there, once its record and its list were found to belong to it, and no other list (`alone`) beside it."""
    target = rig.target()
    with target.tmp_read_path() as path:
        text = rig.read(path)
    record = target.read_metadata()
    assert record is not None and record["task_id"] == text
    found = [one["path"] for one in lineage.inputs(target)]
    assert found == [one["path"] for one in references(len(found), text)] and len(found) in (MANY, FIVE, FEW)
    assert bool(input_lists.named(record)) is (len(found) > input_lists.LIMIT)
    assert files(rig) == sorted(input_lists.named(record)) or not alone
    return text


def test_a_record_names_its_list_and_both_go_together(rig: TargetRig) -> None:
    commit(rig, "first", MANY)
    assert check(rig) == "first"
    record = rig.target().read_metadata()
    assert record is not None and len(json.dumps(record)) < 2_000
    assert record["input"].keys() == {"count", "digest", "file"} and record["input"]["count"] == MANY
    first = files(rig)
    commit(rig, "second", MANY)
    assert check(rig) == "second" and files(rig) != first
    commit(rig, "third", FEW)
    assert check(rig) == "third"
    commit(rig, "fourth", MANY)
    rig.target().location.write_record({**(rig.target().read_metadata() or {}), "note": "kept"})
    assert check(rig) == "fourth" and (rig.target().read_metadata() or {})["note"] == "kept"
    rig.target().location.write_record({"task_id": "fourth", "input": references(MANY, "fourth")})
    assert check(rig) == "fourth"
    rig.target().remove()
    assert files(rig) == [] and rig.leftovers() == []


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, not in child processes: the commits are faster."""
    monkeypatch.setattr(input_lists, "LIMIT", 3)


def steps_at_lists(rig: TargetRig, count: int) -> list[int]:
    """The steps of a commit over another one that write or remove a list, and the one after each."""
    commit(rig, "old", count)
    with fault_injection.stopping_at(0, "error") as seen:
        commit(rig, "old", count)
    steps = {number for number, name in enumerate(seen, 1) if "list of inputs" in name or ".inputs" in name}
    assert steps
    return sorted(steps | {number + 1 for number in steps})


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_a_commit_that_is_stopped_beside_its_list_leaves_one_record_with_its_own(
    rig: TargetRig, how: fault_injection.How
) -> None:
    for number in steps_at_lists(rig, FIVE):
        with fault_injection.stopping_at(number, how), contextlib.suppress(OSError, RuntimeError, KeyboardInterrupt):
            commit(rig, f"new{number}", FIVE)
        check(rig, alone=False)
    commit(rig, "next", FIVE)
    if not isinstance(rig, S3ObjectRig):  # what could not be removed there waits for `clean`
        check(rig)


@pytest.mark.parametrize("rig", ["file", "folder with its record inside", "object", "prefix"], indirect=True)
def test_what_a_writer_leaves_that_dies_beside_its_list_goes_with_the_next_commit(rig: TargetRig) -> None:
    for number in steps_at_lists(rig, MANY):
        fault_injection.stopped_in_child(number, "death", commit, rig, "new", MANY)
        record = rig.target().read_metadata()
        if record is not None:
            found = [one["path"] for one in lineage.inputs(rig.target())]
            assert found == [one["path"] for one in references(MANY, record["task_id"])]
        commit(rig, "next", MANY)
        assert check(rig) == "next"


@pytest.mark.parametrize("rig", ["file", "object"], indirect=True)
def test_what_the_first_writer_leaves_that_dies_beside_its_list_goes_too(rig: TargetRig) -> None:
    with fault_injection.stopping_at(0, "error") as seen:
        commit(rig, "old", MANY)
    rig.target().remove()
    (step,) = [number for number, name in enumerate(seen, 1) if "list of inputs" in name or ".inputs" in name]
    died = fault_injection.stopped_in_child(step + 1, "death", commit, rig, "new", MANY)
    assert died == fault_injection.DEATH and files(rig) != [] and not rig.target().exists()
    commit(rig, "next", MANY)
    assert check(rig) == "next"


def test_a_reader_whose_list_went_with_its_record_reads_that_of_the_new_one(rig: TargetRig) -> None:
    commit(rig, "first", MANY)
    record = rig.target().read_metadata() or {}
    commit(rig, "second", MANY)
    assert [one["path"] for one in resolve.references(record["input"])][5] == "/parts/second/5"
    commit(rig, "third", FEW)
    assert len(list(resolve.references(record["input"]))) == FEW


def test_a_list_that_was_lost_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    rig = LocalFileRig(tmp_path)
    commit(rig, "first", MANY)
    for path in tmp_path.rglob("*.inputs/*"):
        path.unlink()
    with pytest.raises(RecordError, match="Copy it along with the record, or make the output again"):
        list(lineage.inputs(rig.target()))
    commit(rig, "second", MANY)
    assert check(rig) == "second"
    (path,) = tmp_path.rglob("*.inputs/*")
    path.write_text(path.read_text().replace("/parts/", "/other/"))
    with pytest.raises(RecordError):
        list(lineage.inputs(rig.target()))


def test_records_that_hold_all_their_references_are_read_as_ever(tmp_path: Path) -> None:
    rig = LocalFileRig(tmp_path)
    commit(rig, "first", FEW)
    path = Path(rig.target().location.record_uri)
    path.write_text(json.dumps({**json.loads(path.read_text()), "input": references(MANY, "first")}))
    assert len(list(lineage.inputs(rig.target()))) == MANY
    assert len((rig.target().read_metadata() or {})["input"]) == MANY


@pytest.mark.parametrize(
    "how",
    [lambda path, new: LocalSystem().move(path, new), lambda path, new: LocalSystem().copy(path, new)],
    ids=["move", "copy"],
)
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_what_is_moved_or_copied_takes_its_list_along(
    kind: Any, how: Callable[[Path, Path], None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rig = LocalFileRig(tmp_path) if kind is LocalFileTarget else LocalFolderRig(tmp_path)
    commit(rig, "first", MANY)
    new = tmp_path / "deeper" / "new"
    how(rig.target().path, new)
    assert len(list(lineage.inputs(kind(new)))) == MANY
    moved = "move" in request.node.callspec.id
    assert len(files(rig)) == (1 if moved else 2)
    assert rig.target().exists() is not moved


def test_an_object_that_is_copied_or_moved_on_the_server_takes_its_list_along(
    s3_server: S3Server, s3_bucket: str
) -> None:
    rig = S3ObjectRig(s3_bucket, s3_server.client_options)
    commit(rig, "first", MANY)
    source, target = rig.target(), S3ObjectTarget(s3_bucket, "deeper/new", **s3_server.client_options)
    source.fs.copy(source.location.uri, target.location.uri)
    assert len(list(lineage.inputs(target))) == MANY
    other = S3ObjectTarget(s3_bucket, "deeper/other", **s3_server.client_options)
    source.fs.move(source.location.uri, other.location.uri)
    assert len(list(lineage.inputs(other))) == MANY and len(files(rig)) == 2


def test_clean_removes_lists_of_the_dead_that_no_record_names(
    tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    local, far = LocalFileRig(tmp_path), S3ObjectRig(s3_bucket, s3_server.client_options)
    dead = fault_injection.in_child(owner_token.token)
    for rig in (local, far):
        commit(rig, "first", MANY)
    (folder,) = tmp_path.rglob("*.inputs")
    for name in (f"{dead}.input", f"{owner_token.token()}.input", "notes.txt"):
        (folder / name).write_bytes(b"[]\n")
        key = f"{far.target().location.record_uri.partition(s3_bucket)[2][1:]}.inputs/{name}"
        far.client().put_object(Bucket=s3_bucket, Key=key, Body=b"[]\n")
    assert cli.main(["clean", str(tmp_path)]) == 0
    assert not (folder / f"{dead}.input").exists() and len(files(local)) == 3
    found = s3_cleanup.clean(f"s3://{s3_bucket}", options=s3_server.client_options)
    assert [one.what for one in found] == ["list of inputs"] and len(files(far)) == 3
    assert len(list(lineage.inputs(local.target()))) == len(list(lineage.inputs(far.target()))) == MANY


def test_verify_takes_lists_for_what_they_are(rig: TargetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(rig, "first", MANY)
    place = str(rig.folder) if isinstance(rig, LocalFileRig) else f"s3://{rig.bucket}"
    if isinstance(rig, S3ObjectRig):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", rig.options["endpoint_url"])
    assert [one.state for one in lineage.verify(place)] == ["ok"]


def test_an_event_names_a_thousand_inputs_and_says_how_many_there_are() -> None:
    record = {"task_family": "T", "task_id": "T_1", "run": {"id": "r"}, "start_time": "2026-11-30T00:00:00+00:00"}
    event = events.started({**record, "input": references(MANY + 5, "r")})
    assert len(event["inputs"]) == 1000
    assert event["run"]["facets"]["superluigi_inputs"].items() >= {"count": MANY + 5, "shown": 1000}.items()
    event = events.started({**record, "input": references(1000, "r")})
    assert len(event["inputs"]) == 1000 and "superluigi_inputs" not in event["run"]["facets"]


# ---------------------------------------------------------------- whole tasks, with a limit of three


class Source(ExternalTask):
    folder = luigi.Parameter()
    number = luigi.IntParameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/source{self.number}")


class Part(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    number = luigi.IntParameter()

    def requires(self) -> Source:
        return Source(self.folder, self.number)

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/part{self.number}")

    def run(self, input_path: Path, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_bytes(input_path.read_bytes())
        metadata["number"] = self.number


class Gather(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    count = luigi.IntParameter(default=5)

    def requires(self) -> dict[str, Part]:
        return {f"part{number}": Part(self.folder, number) for number in range(self.count)}

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/all")

    def run(self, output_path: Path) -> None:
        output_path.write_text(" ".join(path.path.read_text() for path in self.input().values()))


class Top(AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def requires(self) -> Gather:
        return Gather(self.folder)

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/top")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        below = metadata["input"]["input"]
        output_path.write_text(f"{sorted(below)} {below['part3']['number']}")


class Yields(AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/yields")

    def run(self, output_path: Path) -> Iterator[Any]:
        paths = yield [Part(self.folder, number) for number in range(5)]
        output_path.write_text(" ".join(path.read_text() for path in paths))


class Describes(TaskWithMetadata):
    folder = luigi.Parameter()

    def requires(self) -> list[Part]:
        return [Part(self.folder, number) for number in range(5)]

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.folder}/describes")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(input_lists, "LIMIT", 3)
    for number in range(5):
        (tmp_path / f"source{number}").write_text(str(number))
    return tmp_path


def named(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)).partition("/")[0] for path in folder.rglob("*.inputs/*"))


def test_lineage_why_and_refresh_know_each_of_many_inputs(folder: Path) -> None:
    run_task(Top(str(folder)))
    assert (folder / "top").read_text() == "['part0', 'part1', 'part2', 'part3', 'part4'] 3"
    assert named(folder) == ["all.metadata.json.inputs"]
    found = lineage.trace(folder / "top")
    assert len(found.nodes) == 12 and set(found.states.values()) == {"ok", "external"}
    assert found.inputs[str(folder / "all")] == [str(folder / f"part{number}") for number in range(5)]
    assert json.loads(json.dumps(found.as_json()))["nodes"][str(folder / "all")]["input"]["count"] == 5
    assert stale(Top(str(folder))) == {}

    before = (folder / "all").stat().st_mtime_ns
    run_task(Top(str(folder)), refresh="inputs")
    run_task(Top(str(folder)), refresh="code")
    assert (folder / "all").stat().st_mtime_ns == before
    (folder / "part3").write_text("of others")
    assert (
        stale(Gather(str(folder)))["Gather"].startswith("Gather: input changed")
        and "part3" in stale(Gather(str(folder)))["Gather"]
    )
    assert lineage.trace(folder / "top").states[str(folder / "part3")] == "changed"
    (folder / "source1").write_text("other")
    os.utime(folder / "source1", (1, 1))
    run_task(Top(str(folder)), refresh="inputs")
    assert (folder / "all").read_text() == "0 other 2 3 4"
    assert named(folder) == ["all.metadata.json.inputs"]
    run_task(Gather(str(folder)), force=True)
    assert named(folder) == ["all.metadata.json.inputs"]
    assert stale(Gather(str(folder))) == {}


def stale(task: luigi.Task) -> dict[str, str]:
    """Family -> why its output is not what it would be today."""
    return {one.task.task_family: str(one) for one in lineage.why(task) if one.state == "stale"}


@pytest.mark.parametrize("task", [Yields, Describes])
def test_yielded_and_described_inputs_have_lists_too(task: Any, folder: Path) -> None:
    run_task(task(str(folder)))
    (name,) = named(folder)
    assert name.startswith(task.__name__.lower())
    assert len(list(lineage.inputs(folder / task.__name__.lower()))) == 5
    before = (folder / "part2").stat().st_mtime_ns
    run_task(task(str(folder)), force_upstream=True)
    assert (folder / "part2").stat().st_mtime_ns != before
    assert len(named(folder)) == 1
    task(str(folder)).output().remove()
    assert named(folder) == []


def test_an_ancestor_whose_list_was_lost_is_shown_as_unreadable(folder: Path) -> None:
    run_task(Top(str(folder)))
    for path in folder.rglob("*.inputs/*"):
        path.unlink()
    found = lineage.trace(folder / "top")
    assert found.states[str(folder / "all")] == "unreadable" and "Copy it along" in found.notes[str(folder / "all")]


def test_few_inputs_cost_no_request_and_no_look_at_lists(s3_server: S3Server, s3_bucket: str) -> None:
    for rig in (S3ObjectRig(s3_bucket, s3_server.client_options), S3PrefixRig(s3_bucket, s3_server.client_options)):
        with s3_server.counted() as requests:
            for text in ("one", "two"):
                commit(rig, text, FEW)
                assert rig.target().read_metadata() is not None
            rig.target().remove()
        assert not [request for request in requests if ".inputs" in str(request)]

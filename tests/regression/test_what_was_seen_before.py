"""What was seen of an output on S3 some time ago is not what a later attempt replaces."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from target_support import write

from superluigi import run_task
from superluigi.errors import CommitConflictError
from superluigi.lineage.records import builder
from superluigi.parameters import Parameter
from superluigi.storage.objects.exists_many import exists_many
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task
from superluigi.testing.s3_server import S3Server

KINDS = {"object": S3ObjectTarget, "prefix": S3PrefixTarget}
LOOKS: dict[str, Callable[[AtomicTarget], object]] = {
    "exists": lambda target: target.exists(),
    "record": lambda target: target.read_metadata(),
    "run": lambda target: target.location.run_id_of_data(),
    "description": lambda target: target.location.describe(),
}
#: What another process does between the look and the attempt.
CHANGES = ("replaced", "removed", "removed and made", "replaced and removed")
#: How the server of the test is reached: what is a parameter would be part of the task's identity.
OPTIONS: dict[str, str] = {}


def text_of(target: AtomicTarget) -> str:
    with target.tmp_read_path() as path:
        return (path / "part" if path.is_dir() else path).read_text()


def another(kind: str, bucket: str, key: str, root: Path) -> AtomicTarget:
    """The same place, as a process sees it that shares neither client nor local folder with this one."""
    credentials = {"aws_access_key_id": "another", "aws_secret_access_key": "another"}
    target: AtomicTarget = KINDS[kind](bucket, key, local_root=root, **{**OPTIONS, **credentials})
    return target


def change(what: str, other: AtomicTarget) -> None:
    for step in what.split(" and "):
        if step == "removed":
            other.remove()
        else:
            write(other, f"theirs, {step}")


class Waits(Task):
    """Takes its time, in which another process is at work."""

    done = False
    meanwhile: Callable[[], None]

    def run(self) -> None:
        type(self).meanwhile()
        type(self).done = True

    def complete(self) -> bool:
        return self.done


class Made(AtomicTaskWithMetadata):
    kind = Parameter()
    bucket = Parameter()
    key = Parameter()

    def requires(self) -> Task:
        return Waits()

    def output(self) -> Any:
        return KINDS[self.kind](self.bucket, self.key, **OPTIONS)

    def run(self, output_path: Path) -> None:
        (output_path / "part" if self.kind == "prefix" else output_path).write_text("mine")


@pytest.fixture(autouse=True)
def _options(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    OPTIONS.clear()
    OPTIONS.update(s3_server.client_options)
    monkeypatch.setattr(Waits, "done", False)


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_write_replaces_what_is_in_force_when_it_begins_whatever_was_there_when_it_was_looked_at(
    s3_bucket: str, tmp_path: Path, kind: str, look: str, what: str
) -> None:
    target, other = KINDS[kind](s3_bucket, "thing", **OPTIONS), another(kind, s3_bucket, "thing", tmp_path)
    write(other, "old")
    LOOKS[look](target)
    change(what, other)
    write(target, "mine")
    assert text_of(target) == "mine"


@pytest.mark.parametrize("there", [False, True], ids=["absent", "there"])
@pytest.mark.parametrize("what", ["made", "made and removed", "removed", "removed and made"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forced_attempt_replaces_what_came_between_its_planning_and_its_beginning(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: str, there: bool
) -> None:
    other = another(kind, s3_bucket, "thing", tmp_path)
    if there:
        write(other, "old")
    monkeypatch.setattr(Waits, "meanwhile", staticmethod(lambda: change(what, other)), raising=False)
    task = Made(kind=kind, bucket=s3_bucket, key="thing")
    task.complete()
    run_task(task, force=True, raise_exception=True)
    assert text_of(task.output()) == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forced_run_makes_again_what_was_made_by_a_clock_that_is_ahead(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Waits, "done", True)
    task = Made(kind=kind, bucket=s3_bucket, key="thing")
    with monkeypatch.context() as ahead:
        ahead.setattr(builder, "utc_now", lambda: datetime.now(timezone.utc) + timedelta(days=1))
        run_task(task, raise_exception=True)
    before = task.output().read_metadata()
    run_task(task, force=True, raise_exception=True)
    after = task.output().read_metadata()
    assert after["run"]["id"] != before["run"]["id"] and after["start_time"] < before["start_time"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("look", ["exists", "many", "record", "copy", "description"])
def test_what_has_been_seen_there_is_not_taken_for_missing(
    s3_bucket: str, tmp_path: Path, kind: str, look: str
) -> None:
    target, other = KINDS[kind](s3_bucket, "thing", **OPTIONS), another(kind, s3_bucket, "thing", tmp_path)
    assert not target.exists()
    write(other, "theirs")
    if look == "many":
        more = [KINDS[kind](s3_bucket, f"thing{n}", **OPTIONS) for n in range(20)]
        assert exists_many([one.location for one in (target, *more)])[0]
    elif look == "copy":
        assert text_of(target) == "theirs"
    else:
        LOOKS[look](target)
    write(target, "mine")
    assert text_of(target) == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_since_it_was_found_missing_stands_and_the_conflict_says_since_when(
    s3_bucket: str, tmp_path: Path, kind: str
) -> None:
    target, other = KINDS[kind](s3_bucket, "thing", **OPTIONS), another(kind, s3_bucket, "thing", tmp_path)
    assert not target.exists()
    write(other, "theirs")
    with pytest.raises(CommitConflictError, match="since this one looked what is there"):
        write(target, "mine")
    assert text_of(target) == "theirs"
    write(target, "again")
    assert text_of(target) == "again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forced_run_looks_once_when_it_is_planned_and_once_when_it_begins(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Waits, "done", True)
    task = Made(kind=kind, bucket=s3_bucket, key="thing")
    run_task(task, raise_exception=True)
    with s3_server.counted() as seen:
        run_task(task, force=True, raise_exception=True)
    assert len(seen) <= {"object": 7, "prefix": 10}[kind], [str(one) for one in seen]

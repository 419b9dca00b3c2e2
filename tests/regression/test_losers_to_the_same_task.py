"""Runs that make the same output at the same time: who loses the race to the same task has what it wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.tasks.lifecycle import rivals
from superluigi.testing.s3_server import S3Server

PROGRAM = """
import json, os, pathlib, sys, time
os.environ["SUPERLUIGI_EXCLUSIVE"] = "off"  # else there are no losers
from superluigi import run_task
from superluigi.parameters import IntParameter
from superluigi.storage import failpoints
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata

KIND, ROOT, WHO, OTHERS, FORCE, N = sys.argv[1:7]
ROOT, OTHERS = pathlib.Path(ROOT), int(OTHERS)
LATE = os.environ.get("LATE")  # plans when nobody has begun, and begins when the other one has ended
S3 = json.loads(os.environ["S3"])

def target(name):
    if KIND in ("file", "folder"):
        return (LocalFileTarget if KIND == "file" else LocalFolderTarget)(ROOT / "store" / name)
    if KIND == "mixed" and name == "one":
        return LocalFileTarget(ROOT / "store" / name)
    return (S3ObjectTarget if KIND == "object" else S3PrefixTarget)(os.environ["BUCKET"], name, **S3)

class Source(AtomicTaskWithMetadata):
    def output(self): return LocalFileTarget(ROOT / "source.txt")
    def run(self, output_path):
        if LATE == WHO:
            (ROOT / "planned").touch()
        while LATE and not (ROOT / ("ended" if LATE == WHO else "planned")).exists():
            time.sleep(0.01)
        output_path.write_text("source")

class Same(AtomicTaskWithMetadata):
    n = IntParameter(0)
    def requires(self): return Source()
    def output(self): return [target("one"), target("two")] if KIND != "prefix" else target("one")
    def run(self, output_path, metadata):
        metadata["who"] = WHO
        (ROOT / f"{WHO}.runs").touch()
        while len(list(ROOT.glob("*.runs"))) < OTHERS:
            time.sleep(0.01)  # until all have begun, so that all but one lose
        while os.environ.get("LAST") == WHO and not (ROOT / "ended").exists():
            time.sleep(0.01)
        for path in output_path if isinstance(output_path, list) else [output_path]:
            if path.is_dir():
                for name in "ab":
                    (path / name).write_text(WHO)
            else:
                path.write_text(WHO)

if os.environ.get("SLOW") == WHO:  # in the middle of its commit, until another one has lost
    def hook(name):
        if name.startswith("put_object") and name.endswith("one.metadata.json"):
            (ROOT / "slow").touch()
            while not (ROOT / "lost").exists(): time.sleep(0.01)
    failpoints.hook = hook
elif "SLOW" in os.environ:
    from superluigi.tasks.lifecycle import rivals
    made_it = rivals.made_it
    def told(*arguments):
        (ROOT / "lost").touch()
        return made_it(*arguments)
    rivals.made_it = told
    wait = Same.run
    def run(self, output_path, metadata):
        wait(self, output_path, metadata)
        while not (ROOT / "slow").exists(): time.sleep(0.01)
    Same.run = run
if os.environ.get("BETWEEN") == WHO:  # has published one of two, and gives another run all the time that it wants
    seen = []
    def pause(name):
        seen.append(name)
        if name != "remove staged data" or seen.count(name) != 2: return
        (ROOT / "between").touch()
        while not (ROOT / "b.runs").exists(): time.sleep(0.01)
        ends = time.monotonic() + 2
        while not (ROOT / "ended").exists() and time.monotonic() < ends: time.sleep(0.01)
    failpoints.hook = pause
if os.environ.get("CLOCK", "").startswith(f"{WHO} "):  # another machine, whose clock is wrong by some days
    from datetime import timedelta
    from superluigi.lineage.records import builder
    right, days = builder.utc_now, float(os.environ["CLOCK"].split()[1])
    builder.utc_now = lambda: right() + timedelta(days=days)
run_task(Same(n=int(N)), force=FORCE == "force", raise_exception=True)
(ROOT / "ended").touch()
"""


def start(
    kind: str, root: Path, who: str, others: int, force: str = "plain", n: int = 0, **more: str
) -> subprocess.Popen[str]:
    script = root / "program.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script), kind, str(root), who, str(others), force, str(n)],
        env={**os.environ, "SUPERLUIGI_LOCAL_DATA_DIR": str(root / f"data-{who}"), **more},
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def around(s3_server: S3Server, s3_bucket: str) -> dict[str, str]:
    return {"S3": json.dumps(s3_server.client_options), "BUCKET": s3_bucket, "SUPERLUIGI_DURABLE": "false"}


def outputs(kind: str, root: Path, around: dict[str, str]) -> list[AtomicTarget]:
    options = json.loads(around["S3"])
    names = ["one"] if kind == "prefix" else ["one", "two"]
    makers = {
        "file": lambda name: LocalFileTarget(root / "store" / name),
        "folder": lambda name: LocalFolderTarget(root / "store" / name),
        "object": lambda name: S3ObjectTarget(around["BUCKET"], name, **options),
        "prefix": lambda name: S3PrefixTarget(around["BUCKET"], name, **options),
    }
    kinds = ["file", "prefix"] if kind == "mixed" else [kind] * len(names)
    return [makers[kind](name) for kind, name in zip(kinds, names, strict=True)]


def who_made(target: AtomicTarget) -> str:
    with target.tmp_read_path() as path:
        texts = {file.read_text() for file in (path.iterdir() if path.is_dir() else [path])}
    record = target.read_metadata()
    assert record is not None and texts == {record["who"]}
    return str(record["who"])


@pytest.mark.parametrize("kind", ["object", "prefix"])
def test_who_planned_before_the_winner_and_began_after_it_succeeds(
    kind: str, tmp_path: Path, around: dict[str, str]
) -> None:
    runs = [start(kind, tmp_path, who, 1, LATE="b", **around) for who in "ab"]
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert {who_made(target) for target in outputs(kind, tmp_path, around)} == {"a"}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "folder", "object", "prefix", "mixed"])
def test_all_runs_of_one_task_succeed_first_and_forced(kind: str, tmp_path: Path, around: dict[str, str]) -> None:
    for force in ("plain", "force"):
        for mark in tmp_path.glob("*.runs"):
            mark.unlink()
        runs = [start(kind, tmp_path, f"{force}{number}", 3, force, **around) for number in range(3)]
        told = [run.communicate()[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0, 0], told
        makers = {who_made(target) for target in outputs(kind, tmp_path, around)}
        assert len(makers) == 1 and makers.pop().startswith(force)


def test_who_loses_to_a_slow_winner_waits_for_it(tmp_path: Path, around: dict[str, str]) -> None:
    runs = [start("prefix", tmp_path, who, 2, SLOW="a", **around) for who in "ab"]
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert [who_made(target) for target in outputs("prefix", tmp_path, around)] == ["a"]


@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("kind", ["object", "prefix"])
def test_who_is_forced_and_loses_succeeds_whatever_the_clock_of_the_winner(
    kind: str, days: int, tmp_path: Path, around: dict[str, str]
) -> None:
    old = start(kind, tmp_path, "old", 1, **around)
    old.communicate()
    assert old.returncode == 0
    for mark in ("old.runs", "ended"):
        (tmp_path / mark).unlink()
    runs = [start(kind, tmp_path, who, 2, "force", LAST="b", CLOCK=f"a {days}", **around) for who in "ab"]
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert {who_made(target) for target in outputs(kind, tmp_path, around)} == {"a"}


@pytest.mark.parametrize("kind", ["object", "prefix"])
def test_who_loses_to_another_task_is_told(kind: str, tmp_path: Path, around: dict[str, str]) -> None:
    runs = [start(kind, tmp_path, f"w{n}", 2, n=n, **around) for n in range(2)]
    told = [run.communicate()[0] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1], told
    assert any("CommitConflictError" in text for text in told)
    assert len({who_made(target) for target in outputs(kind, tmp_path, around)}) == 1


def test_several_local_outputs_are_of_one_run_whatever_publishes_at_the_same_time(
    tmp_path: Path, around: dict[str, str]
) -> None:
    first = start("file", tmp_path, "a", 1, BETWEEN="a", **around)
    while not (tmp_path / "between").exists() and first.poll() is None:
        time.sleep(0.01)
    second = start("file", tmp_path, "b", 1, force="force", **around)
    told = [run.communicate()[0] for run in (second, first)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert len({who_made(target) for target in outputs("file", tmp_path, around)}) == 1


def test_an_input_that_was_described_while_it_was_replaced_is_the_same_requirement() -> None:
    whole = {"type": "S3PrefixTarget", "path": "s3://b/p/", "task_id": "T", "task_hash": "1"}
    bare = {"type": "S3PrefixTarget", "path": "s3://b/p/"}
    assert rivals.same_requirements({"input": [whole]}, {"input": [bare]})
    assert not rivals.same_requirements({"input": [whole]}, {"input": [{**whole, "task_hash": "2"}]})
    assert not rivals.same_requirements({"input": [whole]}, {"input": [bare, whole]})

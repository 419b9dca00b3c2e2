"""Planted faults are never published; death at any step of checking, quarantining, committing keeps the promises.

The long versions plant a thousand faults for each kind of target and each way to run, and die at every step.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pandas as pd
import pytest

from superluigi import check, run_task
from superluigi.checks import quarantine
from superluigi.errors import CheckFailedError, TaskFailedError
from superluigi.queue import Queue
from superluigi.storage.local.cleanup import clean
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server

pa: Any = pytest.importorskip("pandera.pandas")

ROWS = 40
SCHEMA = pa.DataFrameSchema(
    {"id": pa.Column(int, unique=True), "price": pa.Column(float, pa.Check.gt(0)), "name": pa.Column(str)}, strict=True
)
FAULTS = ("rows missing", "nulls", "wrong types", "empty", "truncated", "wrong encoding")
KINDS = ("file", "folder", "object", "prefix")
EXECUTORS = (None, "processes", "queue")


def table(seed: int) -> pd.DataFrame:
    """A good one, another for each seed."""
    chance = random.Random(seed)
    names = [f"näme-{chance.randrange(1000)}" for _ in range(ROWS)]
    return pd.DataFrame({"id": range(ROWS), "price": [chance.uniform(1, 9) for _ in names], "name": names})


def planted(fault: str, seed: int) -> bytes:
    """The bytes of a CSV file with one fault, another for each seed; "" plants none."""
    chance, frame = random.Random(-seed - 1), table(seed)
    row = chance.randrange(ROWS)
    if fault == "rows missing":
        frame = frame.drop(index=chance.sample(range(ROWS), chance.randrange(ROWS // 4, ROWS)))
    elif fault == "nulls":
        column = chance.choice(list(frame.columns))
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = None
    elif fault == "wrong types":
        column = chance.choice(["id", "price"])
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = chance.choice(["many", "1;2", "0x"])
    elif fault == "empty":
        return chance.choice([b"", b"id,price,name\n", b"\n"])
    text = frame.to_csv(index=False)
    if fault == "truncated":
        return text.encode()[: chance.randrange(len(text) * 3 // 4)]
    return text.encode(
        "utf-16" if fault == "wrong encoding" and seed % 2 else "latin-1" if fault == "wrong encoding" else "utf-8"
    )


class Planted(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    bucket = luigi.Parameter()
    kind = luigi.Parameter()
    fault = luigi.Parameter()
    seed = luigi.IntParameter()
    checks: ClassVar = [SCHEMA]

    def output(self) -> Any:
        name = f"{self.fault or 'none'}-{self.seed}"
        if self.kind == "file":
            return LocalFileTarget(Path(self.place) / f"{name}.csv")
        if self.kind == "folder":
            return LocalFolderTarget(Path(self.place) / name)
        if self.kind == "object":
            return S3ObjectTarget(self.bucket, f"{name}.csv")
        return S3PrefixTarget(self.bucket, name)

    def run(self, output_path: Path) -> None:
        content = planted(self.fault, self.seed)
        (output_path / "part.csv" if self.output().is_folder else output_path).write_bytes(content)

    @check
    def enough_rows(self, value: pd.DataFrame) -> Any:
        return len(value) > 0.8 * ROWS


class All(luigi.WrapperTask):
    place = luigi.Parameter()
    bucket = luigi.Parameter()
    kind = luigi.Parameter()
    count = luigi.IntParameter()

    def requires(self) -> Any:
        bad = [(FAULTS[seed % len(FAULTS)], seed) for seed in range(self.count)]
        good = [("", seed) for seed in range(max(1, self.count // 20))]
        return [Planted(self.place, self.bucket, self.kind, fault, seed) for fault, seed in [*bad, *good]]


@pytest.fixture
def bucket(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.client_options["endpoint_url"])
    return s3_bucket


def plant(place: Path, bucket: str, kind: str, executor: str | None, count: int) -> None:
    """Plant `count` faults and look that none was published, all are in quarantine, and what is good is there."""
    os.environ["SUPERLUIGI_QUARANTINE_LIMIT_BYTES"] = "none"
    root = All(str(place), bucket, kind, count)
    where: dict[str, Any] = {"queue": Queue(f"sqlite:///{place}.db")} if executor == "queue" else {"executor": executor}
    with pytest.raises(TaskFailedError) as caught:
        run_task(root, num_workers=1 if executor is None else 2, **where)
    assert len(caught.value.failures) == count
    assert all("CheckFailedError" in error or "check '" in error for _, error in caught.value.failures)
    published = [task for task in root.requires() if task.output().exists() or task.output().read_metadata()]
    assert {task.fault for task in published} == {""} and len(published) == max(1, count // 20)
    assert {one.name.partition("-")[0].partition(".")[0] for one in place.iterdir()} <= {"none"}
    # a run that takes longer than the retry delay tries some more than once
    assert len({one.task_hash for one in quarantine.entries()}) == count


@pytest.mark.parametrize(
    ("kind", "executor"), [*((kind, None) for kind in KINDS), ("file", "processes"), ("prefix", "queue")]
)
def test_no_planted_fault_is_published(
    tmp_path: Path, bucket: str, kind: str, executor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUARANTINE_LIMIT_BYTES", "none")
    (tmp_path / "store").mkdir()
    plant(tmp_path / "store", bucket, kind, executor, 12)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_thousand_planted_faults_none_is_published(
    tmp_path: Path, bucket: str, kind: str, executor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUARANTINE_LIMIT_BYTES", "none")
    (tmp_path / "store").mkdir()
    plant(tmp_path / "store", bucket, kind, executor, 1000)


# ---------------------------------------------------------------- death at every step


class Kept(AtomicTaskWithMetadata):
    """A file and a folder, and with a bucket an object and a prefix; their check rejects texts that begin with bad."""

    place = luigi.Parameter()
    bucket = luigi.Parameter()

    def output(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "file": LocalFileTarget(Path(self.place) / "file.txt"),
            "folder": LocalFolderTarget(Path(self.place) / "folder"),
        }
        if self.bucket:
            found["object"] = S3ObjectTarget(self.bucket, "object.txt")
            found["prefix"] = S3PrefixTarget(self.bucket, "prefix")
        return found

    def run(self, output_path: Mapping[str, Path]) -> None:
        text = (Path(self.place) / "text").read_text()
        for path in output_path.values():
            (path / "member.txt" if path.is_dir() else path).write_text(text)

    @check
    def is_good(self, values: Any, output_path: Any, metadata: dict[str, Any], previous: Any) -> Any:
        metadata["text"] = values["file"]
        metadata["before"] = previous and previous.values["file"]
        return "it is bad" if values["folder"]["member"].startswith("bad") else True


def make(place: Path, bucket: str, text: str) -> None:
    (place / "text").write_text(text)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_task(Kept(str(place), bucket), force=True, raise_exception=True)


def seen(place: Path, bucket: str) -> dict[str, tuple[str, Any]]:
    """The text of each output that is there, and the text that its record speaks of."""
    found = {}
    for name, target in Kept(str(place), bucket).output().items():
        if target.exists():
            with target.tmp_read_path() as path:
                text = (path / "member.txt" if path.is_dir() else path).read_text()
            found[name] = text, (target.read_metadata() or {}).get("text")
    return found


def hold(place: Path, bucket: str) -> None:
    """What is in quarantine is whole, and nothing outside of it looks like an output."""
    for entry in quarantine.entries():
        (said,) = {one["detail"] for one in entry.about["checks"]}
        files = [
            one for one in entry.path.rglob("*") if one.is_file() and "output" in one.relative_to(entry.path).parts
        ]
        (text,) = {one.read_text() for one in files}
        assert len(files) == (4 if bucket else 2)
        if not said.startswith("InjectedError"):  # an error while what it asks for is loaded is its finding, too
            assert said == "it is bad" and text.startswith("bad")
            assert json.loads((entry.path / "record.json").read_text())["text"] == text
        assert not any(one.name.endswith((".metadata.json", ".pending")) for one in entry.path.rglob("*"))


def steps(place: Path, bucket: str, text: str) -> list[str]:
    """The steps of making `text` in this process."""
    with fault_injection.stopping_at(0, "error") as names, contextlib.suppress(CheckFailedError):
        make(place, bucket, text)
    return names


def leftovers(place: Path) -> list[str]:
    """What is there after a clean-up: runs look for what the dead left only now and then, where looking is slow."""
    clean(place)
    quarantine.keep_within(None, 0)
    return [
        str(one) for one in [*place.rglob("*"), *quarantine.root().rglob("*")] if one.name.startswith(".superluigi")
    ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "store"
    folder.mkdir()
    yield folder


def test_an_error_at_any_step_of_a_rejection_leaves_the_old_outputs(place: Path) -> None:
    make(place, "", "good 1")
    names = steps(place, "", "bad 0")
    assert {"check", "make quarantine", "write findings", "name quarantine"} <= set(names)
    for n in range(1, len(names) + 1):
        with fault_injection.stopping_at(n, "error"), contextlib.suppress(Exception):
            make(place, "", f"bad {n}")
        assert set(seen(place, "").values()) == {("good 1", "good 1")}
        hold(place, "")
    make(place, "", "good 2")
    assert set(seen(place, "").values()) == {("good 2", "good 2")}
    assert not leftovers(place)


def test_death_while_checking_or_quarantining_leaves_the_old_outputs(place: Path) -> None:
    make(place, "", "good 1")
    names = steps(place, "", "bad 0")
    for name in ("check", "write findings", "name quarantine"):
        n = names.index(name) + 1
        assert fault_injection.stopped_in_child(n, "death", make, place, "", f"bad {name}") == fault_injection.DEATH
        assert set(seen(place, "").values()) == {("good 1", "good 1")}
        hold(place, "")
    with pytest.raises(CheckFailedError):
        make(place, "", "bad again")
    hold(place, "")
    make(place, "", "good 2")
    assert set(seen(place, "").values()) == {("good 2", "good 2")}
    assert not leftovers(place)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["death", "interrupt", "error"])
@pytest.mark.parametrize("text", ["bad", "good"])
def test_stopping_at_every_step_keeps_the_promises(place: Path, bucket: str, how: Any, text: str) -> None:
    make(place, bucket, "good 0")
    names = steps(place, bucket, f"{text} 1")
    for n in range(1, len(names) + 4):
        make(place, bucket, f"good before {n}")
        before = seen(place, bucket)
        assert len(before) == 4
        fault_injection.stopped_in_child(n, how, make, place, bucket, f"{text} at {n}")
        after = seen(place, bucket)
        hold(place, bucket)
        assert all(pair[0] == pair[1] for pair in after.values())
        if text == "bad":
            assert after == before
        else:
            assert {pair[0] for pair in after.values()} <= {f"good before {n}", f"good at {n}"}
    make(place, bucket, "good at last")
    assert set(seen(place, bucket).values()) == {("good at last", "good at last")}
    assert not leftovers(place)

"""What version 0.1 stored is read by this one: records, outputs, values, queue, local copies, checkpoints."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from superluigi import compute, lineage, run_task
from superluigi.lineage import why
from superluigi.queue import Queue
from superluigi.storage.cache.cache import Cache

STORE = Path(__file__).parent.parent / "data" / "store_0_1"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A copy of that store as the current folder, and the module of its tasks."""
    place = tmp_path / "store"
    shutil.copytree(STORE, place)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(place / "workspace"))
    yield importlib.import_module("tasks_of_0_1")
    sys.modules.pop("tasks_of_0_1")


def test_what_was_made_is_complete_and_has_its_records(made: ModuleType) -> None:
    whole = made.Whole()
    for task in (whole, *whole.requires()["parts"], whole.requires()["table"]):
        assert task.complete()
        record = task.output().read_metadata()
        assert (record["task_id"], record["task_hash"]) == (task.task_id, task.task_hash)
    assert [part.output().read_metadata()["rows"] for part in whole.requires()["parts"]] == [1, 2, 3]


def test_nothing_of_it_is_made_again(made: ModuleType) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("store").rglob("*") if path.is_file()}
    run_task(made.Whole())
    assert {path: path.stat().st_mtime_ns for path in Path("store").rglob("*") if path.is_file()} == before


def test_it_can_be_traced_and_verified(made: ModuleType) -> None:
    assert {found.state for found in lineage.verify("store")} == {"ok"}
    told = str(lineage.trace(made.Whole().output()))
    for name in ("Whole", "Table", "1.txt", "2.txt", "3.txt"):
        assert name in told


def test_where_it_was_made_nothing_of_it_is_stale(made: ModuleType) -> None:
    for record in Path("store").rglob("*.metadata.json"):  # as if it had been made here
        record.write_text(record.read_text().replace("/tmp/superluigi-0.1", str(Path.cwd())))
    assert [told for told in why(made.Whole()) if told.reason.startswith("input")] == []
    before = Path("store/whole-3.metadata.json").read_text()
    run_task(made.Whole(), refresh="inputs")
    assert Path("store/whole-3.metadata.json").read_text() == before


def test_its_values_are_loaded(made: ModuleType) -> None:
    assert compute(made.Table()) == {"rows": [1, 2, 3], "name": "täble"}


def test_a_new_output_stands_on_the_old_ones(made: ModuleType) -> None:
    run_task(made.Whole(parts=4))
    assert sorted(path.name for path in Path("store/whole-4/deep").iterdir()) == ["1.txt", "2.txt", "3.txt", "4.txt"]
    assert {found.state for found in lineage.verify("store")} == {"ok"}


def test_a_task_goes_on_from_its_checkpoint(made: ModuleType) -> None:
    run_task(made.Long())
    assert Path("store/long.txt").read_text() == "went on from 7"


def test_the_queue_goes_on(made: ModuleType) -> None:
    with contextlib.closing(sqlite3.connect("queue.sqlite")) as connection:
        # where its tasks were submitted is where the store is now
        connection.executescript(Path("queue.sql").read_text().replace("/tmp/superluigi-0.1", str(Path.cwd())))
    with Queue("queue.sqlite") as queue:
        assert queue.counts()["PENDING"] == 2 and queue.counts()["WAITING"] == 1
        queue.spawn(workers=1)
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}
    assert Path("store/whole-5").is_dir()


def test_a_local_copy_is_served_only_if_it_is_the_one_that_was_made(made: ModuleType) -> None:
    asked = []

    def fetch(path: Path, _: object) -> dict[str, dict[str, str]]:
        asked.append(path)
        path.write_text("copied")
        return {"": {"etag": "v1"}}

    cache = Cache(Path("copies").absolute())
    assert [(info.uri, info.size) for info in cache.entries()] == [("s3://bucket/key", 6)]
    for _ in range(2):  # the first one comes anew: it is another file than the one of then
        with cache.entry("", "bucket", "key").open("v1", fetch) as path:
            assert path.read_text() == "copied"
    assert len(asked) == 1
    cache.clear()
    assert not Path("copies/bucket").exists()

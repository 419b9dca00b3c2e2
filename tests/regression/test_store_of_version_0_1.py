"""What version 0.1 stored is read by this one: records, outputs, values, queue, local copies, checkpoints."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from superluigi import compute, lineage, run_task
from superluigi.lineage import why
from superluigi.queue import Queue
from superluigi.storage.cache.cache import Cache
from superluigi.storage.objects.cleanup import clean
from superluigi.testing.s3_server import S3Server

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


@pytest.fixture
def made_on_s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """What the bucket of that store held is there again; the module of its tasks."""
    monkeypatch.syspath_prepend(str(STORE))
    for name, value in s3_server.client_options.items():
        names = {"endpoint_url": "AWS_ENDPOINT_URL", "region_name": "AWS_DEFAULT_REGION"}
        monkeypatch.setenv(names.get(name, name.upper()), value)
    module = importlib.import_module("s3_tasks_of_0_1")
    s3_server.create_bucket(module.BUCKET)
    client = s3_server.client()
    for key, kept in json.loads((STORE / "s3.json").read_text()).items():
        body, described = kept["text"].encode(), {"Metadata": kept["metadata"], "ContentType": kept["type"]}
        client.put_object(Bucket=module.BUCKET, Key=key, Body=body, **described)
    yield module
    sys.modules.pop("s3_tasks_of_0_1")


def in_bucket(server: S3Server, bucket: str) -> dict[str, object]:
    """Each key, and when it was written."""
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", ())
    return {item["Key"]: (item["LastModified"], item["ETag"]) for item in found}


def all_on_s3(module: ModuleType) -> list[Any]:
    whole = module.Inside().requires()["whole"]
    return [module.Inside(), whole, *whole.requires()]


def test_what_was_made_on_s3_is_complete_has_its_records_and_is_not_made_again(
    made_on_s3: ModuleType, s3_server: S3Server
) -> None:
    before = in_bucket(s3_server, made_on_s3.BUCKET)
    for task in all_on_s3(made_on_s3):
        assert task.complete()
        record = task.output().read_metadata()
        assert (record["task_id"], record["task_hash"]) == (task.task_id, task.task_hash)
    run_task(made_on_s3.Inside())
    assert in_bucket(s3_server, made_on_s3.BUCKET) == before


def test_what_was_made_on_s3_is_verified_traced_and_read(made_on_s3: ModuleType) -> None:
    for task in all_on_s3(made_on_s3):
        assert {found.state for found in lineage.verify(task.output())} == {"ok"}, task
    told = str(lineage.trace(made_on_s3.Inside().output()))
    for name in ("Inside", "Whole", "1.txt", "2.txt"):
        assert name in told
    assert [told for told in why(made_on_s3.Inside()) if told.reason.startswith("input")] == []
    with made_on_s3.Whole().output().tmp_read_path() as path:
        assert {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*.txt")} == {
            f"deep/täble {n}.txt": str(n) for n in range(3)
        }
    with made_on_s3.Part(n=2).output().tmp_read_path() as path:
        assert path.read_text() == "2\n2\n"


def test_cleaning_takes_nothing_of_what_was_made_on_s3(made_on_s3: ModuleType, s3_server: S3Server) -> None:
    before = in_bucket(s3_server, made_on_s3.BUCKET)
    clean(f"s3://{made_on_s3.BUCKET}", older_than=timedelta(0))
    assert in_bucket(s3_server, made_on_s3.BUCKET) == before


def test_what_was_made_on_s3_is_replaced_and_removed(made_on_s3: ModuleType, s3_server: S3Server) -> None:
    run_task(made_on_s3.Inside(), force_upstream=True)
    for task in all_on_s3(made_on_s3):
        assert {found.state for found in lineage.verify(task.output())} == {"ok"}, task
        task.output().remove()
    assert in_bucket(s3_server, made_on_s3.BUCKET) == {}

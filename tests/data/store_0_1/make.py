"""Made this store with version 0.1; it is read for ever, and never made again."""

import contextlib
import sqlite3
from pathlib import Path

import tasks_of_0_1 as made

from superluigi import run_task
from superluigi.queue import Pool, Queue
from superluigi.storage.cache import Cache


def fetch(path, _):
    path.write_text("copied")
    return {"": {"etag": "v1"}}


run_task(made.Whole())
with contextlib.suppress(Exception):
    run_task(made.Long())
with Queue(str(Path("queue.sqlite").absolute()), pools={"default": Pool(1)}) as queue:
    queue.submit(made.Whole(parts=5))
with contextlib.closing(sqlite3.connect("queue.sqlite")) as connection:
    Path("queue.sql").write_text("\n".join(connection.iterdump()))
with Cache(Path("copies")).entry("", "bucket", "key").open("v1", fetch, shared=True):
    pass

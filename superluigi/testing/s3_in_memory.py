"""An S3 bucket in memory, at the level of boto3's client: a request costs microseconds and is one step.

It knows what commits need: conditions, copies, listings, user metadata; no multipart uploads and no versions. Use it
with `interleaving`, where each request is a step; for anything else there is `s3_server`.
"""

# ruff: noqa: N803  # arguments have the names of boto3's
from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from superluigi.storage.objects.prefix import prefix_changes, prefix_commit, prefix_recovery, prefix_steps
from superluigi.storage.objects.prefix import prefix_location as prefix
from superluigi.storage.objects.s3 import client, download, transfer, upload
from superluigi.storage.objects.s3.options import S3Options
from superluigi.testing import interleaving


def refused(status: int, code: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Request")


@dataclass
class Thing:
    body: bytes
    metadata: dict[str, str]
    modified: datetime

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body).hexdigest()


@dataclass
class MemoryStore:
    """What one bucket holds, and the clock of its server."""

    things: dict[str, Thing] = field(default_factory=dict)
    clock: datetime = datetime(2030, 1, 1, tzinfo=timezone.utc)
    #: Called after each request that changed something, with the key.
    changed: Callable[[str], None] = lambda _: None


class MemoryClient:
    """What a boto3 client of one actor does to the store; each call waits for its turn."""

    meta = SimpleNamespace(endpoint_url="https://s3.us-east-1.amazonaws.com")
    exceptions = SimpleNamespace(ClientError=ClientError)

    def __init__(self, store: MemoryStore, turn: Callable[[str], None] = interleaving.step) -> None:
        self.store, self.turn, self.client = store, turn, client.S3Client(self, S3Options(), None, os.getpid(), ())

    def _called(self, name: str, key: str) -> None:
        self.turn(f"{name} {key}")
        self.client.date = format_datetime(self.store.clock, usegmt=True), time.monotonic()

    def _put(self, key: str, thing: Thing) -> None:
        self.store.things[key] = thing
        self.store.changed(key)

    def put_object(self, Key: str, Body: bytes, **more: Any) -> dict[str, object]:
        self._called("put", Key)
        there = self.store.things.get(Key)
        if "IfNoneMatch" in more and there:
            raise refused(412, "PreconditionFailed")
        if "IfMatch" in more and (there is None or there.etag != more["IfMatch"]):
            raise refused(412 if there else 404, "PreconditionFailed" if there else "NoSuchKey")
        self._put(Key, Thing(Body, more.get("Metadata", {}), self.store.clock))
        return {"ETag": self.store.things[Key].etag}

    def copy_object(self, Key: str, CopySource: dict[str, str], **_: object) -> dict[str, object]:
        self._called("copy", Key)
        source = self.store.things.get(CopySource["Key"])
        if source is None:
            raise refused(404, "NoSuchKey")
        self._put(Key, Thing(source.body, source.metadata, self.store.clock))
        return {"CopyObjectResult": {"ETag": source.etag}}

    def head_object(self, Key: str, **_: object) -> dict[str, object]:
        self._called("head", Key)
        return self._answer(Key)

    def get_object(self, Key: str, IfMatch: str | None = None, **_: object) -> dict[str, object]:
        self._called("get", Key)
        answer = self._answer(Key)
        if IfMatch is not None and answer["ETag"] != IfMatch:
            raise refused(412, "PreconditionFailed")
        return {**answer, "Body": io.BytesIO(self.store.things[Key].body)}

    def _answer(self, key: str) -> dict[str, object]:
        thing = self.store.things.get(key)
        if thing is None:
            raise refused(404, "NoSuchKey")
        return {
            "ETag": thing.etag, "ContentLength": len(thing.body), "Metadata": thing.metadata,
            "LastModified": thing.modified,
        }  # fmt: skip

    def list_objects_v2(self, Prefix: str, StartAfter: str = "", MaxKeys: int = 1000, **_: object) -> dict[str, object]:
        self._called("list", Prefix)
        found = sorted(key for key in self.store.things if key.startswith(Prefix) and key > StartAfter)[:MaxKeys]
        things = self.store.things
        return {
            "Contents": [
                {"Key": k, "Size": len(things[k].body), "ETag": things[k].etag, "LastModified": things[k].modified}
                for k in found
            ]
        }

    def delete_object(self, Key: str, IfMatch: str | None = None, **_: object) -> None:
        self._called("delete", Key)
        there = self.store.things.get(Key)
        if IfMatch and there and there.etag != IfMatch:
            raise refused(412, "PreconditionFailed")
        self.store.things.pop(Key, None)
        self.store.changed(Key)

    def delete_objects(self, Delete: Any, **_: object) -> dict[str, object]:
        self._called("delete many", "")
        for item in Delete["Objects"]:
            self.store.things.pop(item["Key"], None)
            self.store.changed(item["Key"])
        return {}


class _NoThread(threading.Thread):
    def start(self) -> None:
        """Nothing runs."""

    def join(self, timeout: float | None = None) -> None:
        """Nothing ran."""


class NoRenewal(prefix_recovery.Hold):
    """A hold that nothing renews: leases lapse when the scene says so."""

    def __init__(self, file: prefix_recovery.ClaimFile, claim: prefix_recovery.Claim) -> None:
        super().__init__(file, claim)
        self._thread = _NoThread()


@contextlib.contextmanager
def in_memory(client_of: Callable[[], MemoryClient]) -> Iterator[None]:
    """Have every S3 target ask `client_of()`, the client of the actor that runs, one request after the other."""

    def one_by_one(work: Callable[[Any], object], items: Sequence[object], _at_once: int) -> list[object]:
        return [work(item) for item in items]

    slept = itertools.count()

    def sleep(_seconds: float) -> None:
        interleaving.step("sleep", yields=True)
        next(slept)

    # Time goes by while actors sleep, and only then: a loop that waits ends after as many turns each time.
    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: 10.0 * next(slept), time=time.time)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"SUPERLUIGI_S3_ENGINE": "boto3"}))
        stack.enter_context(mock.patch.object(client, "client", lambda _: client_of().client))
        for module in (prefix, prefix_commit):
            stack.enter_context(mock.patch.object(module, "time", clock))
        for module in (prefix_commit, prefix_recovery):
            stack.enter_context(mock.patch.object(module, "Hold", NoRenewal))
        for module in (transfer, upload, download, prefix_steps, prefix_commit, prefix_changes):
            stack.enter_context(mock.patch.object(module, "in_threads", one_by_one))
        yield

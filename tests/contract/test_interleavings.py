"""Commits, local copies and claims in every order of their steps, with deaths, power cuts and lapsed leases between.

`superluigi.testing.interleaving` plays the orders. The normal mode plays all that a bound allows, the long one more.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import event, select

from superluigi.errors import CommitConflictError, TargetMissingError
from superluigi.queue.models import Pool, TaskSpec
from superluigi.queue.store import claims, connections, registry, submit, tables
from superluigi.queue.store.claims import Claim, Result
from superluigi.queue.store.database import Database
from superluigi.queue.store.statement import Statement
from superluigi.storage.base import Record
from superluigi.storage.cache import cache, files
from superluigi.storage.cache.cache import Cache, CacheEntry
from superluigi.storage.local import atomic
from superluigi.storage.local.cleanup import clean
from superluigi.storage.local.folder import StagedFolder
from superluigi.storage.local.staged import LocalStaged
from superluigi.storage.objects.intent_log import is_over
from superluigi.storage.objects.prefix import prefix_commit, prefix_recovery
from superluigi.storage.objects.prefix.prefix_steps import PrefixStore
from superluigi.storage.objects.record import Register
from superluigi.storage.objects.s3 import transfer, upload
from superluigi.storage.objects.store import ConditionalWrites
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing import interleaving
from superluigi.testing.interleaving import Died, Event, Interleaved, InterleavingError, explore, replay, sample
from superluigi.testing.interleaving_files import SharedFolder, as_processes
from superluigi.testing.s3_in_memory import MemoryClient, MemoryStore, NoRenewal, in_memory
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, TargetRig, publish

MEMORY = Path("/dev/shm")
Outcomes = Mapping[str, BaseException | None]
Seen = tuple[str | None, str | None]


@pytest.fixture(scope="module", autouse=True)
def place() -> Iterator[Path]:
    """Where scenes have their folders: in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="superluigi-") as folder:
        Scene.place = Path(folder)
        yield Scene.place


class Scene(Interleaved):
    """Actors that share a folder."""

    place: ClassVar[Path]
    numbers: ClassVar[Iterator[int]] = itertools.count()
    calls_are_steps = True
    #: Who comes in this scene.
    cast: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.root = self.place / str(next(self.numbers))
        self.root.mkdir()
        self.folder = SharedFolder(self.root)
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(pytest.MonkeyPatch.context()).setenv("SUPERLUIGI_LOCAL_DATA_DIR", f"{self.root}.data")
        self.stack.enter_context(as_processes(self.folder, self.world, calls_are_steps=self.calls_are_steps))

    def world(self, actor: str) -> str:
        del actor
        return "000000000001.7"

    def actors(self) -> Mapping[str, Callable[[], object]]:
        return {name: partial(getattr(self, name.rstrip("12"), self.write), name) for name in self.cast}

    def write(self, name: str) -> None:
        raise NotImplementedError

    def died(self, name: str) -> None:
        self.folder.died(name)

    def close(self) -> None:
        self.stack.close()
        for path in (self.root, f"{self.root}.data"):
            shutil.rmtree(path, ignore_errors=True)


def look(target: AtomicTarget, rig: TargetRig, *, shared: bool = True) -> Seen:
    """What a reader gets, and what the record speaks of."""
    if not target.exists():
        return None, None
    try:
        with target.location.local_copy(shared=shared) as path:
            text = rig.read(path)
    except TargetMissingError:
        return None, None
    record = target.read_metadata()
    return text, None if record is None else record["text"]


class Commits(Scene):
    """Writers `A`, `B`, `C` of one output, readers, who removes it, who cleans up."""

    rig: TargetRig
    first: str | None = "old"
    may_refuse = False
    #: Whether an output may be absent while it is replaced.
    may_be_absent = False

    def write(self, name: str) -> None:
        publish(self.rig, name)

    def read(self, name: str) -> None:
        target = self.rig.target()
        text, _ = look(target, self.rig, shared=False)
        assert text in self.possible, (name, text)
        record = target.read_metadata()
        told = None if record is None else record["text"]
        assert told in self.possible, (name, told)

    def remove(self, name: str) -> None:
        self.rig.target().remove()

    def clean(self, name: str) -> None:
        clean(self.root)

    @property
    def writers(self) -> list[str]:
        return [name for name in self.cast if name in "ABC"]

    @property
    def possible(self) -> set[str | None]:
        absent = self.first is None or self.may_be_absent or any(name.startswith("remove") for name in self.cast)
        return {self.first, *self.writers, *([None] if absent else [])}

    def end(self, outcomes: Outcomes) -> None:
        for name, outcome in outcomes.items():
            if outcome is not None and not isinstance(outcome, Died):
                if self.may_refuse and isinstance(outcome, CommitConflictError):
                    continue
                raise AssertionError(f"{name}: {type(outcome).__name__}: {outcome}") from outcome
        told = {name for name, outcome in outcomes.items() if outcome is None and name in self.writers}
        dead = {name for name, outcome in outcomes.items() if isinstance(outcome, Died)}
        text, record = look(self.rig.target(), self.rig)
        assert text == record, f"{text} has the record of {record}"  # P2
        allowed: set[str | None] = told | (dead & set(self.writers))
        if not told:  # P5; what a lost writer was told of is not known
            allowed |= {self.first}
        if any(name.startswith("remove") for name in self.cast) or (self.may_be_absent and not told):
            allowed |= {None}
        assert text in allowed, f"{text} is there; {sorted(told)} were told that theirs is"  # P1, P4
        publish(self.rig, "last")  # the next commit sees to what the dead left
        assert look(self.rig.target(), self.rig) == ("last", "last")
        self.tidy()

    def tidy(self) -> None:
        clean(self.root)
        left = [path for path in self.root.rglob("*") if path.name.startswith(".superluigi") or "pending" in path.name]
        assert not left, f"left behind: {left}"  # P3


class Local(Commits):
    """On a local disk; power may be cut."""

    kind: type[LocalFileRig] = LocalFileRig
    inside_new = False
    cuts = False

    def __init__(self) -> None:
        super().__init__()
        # The flush is a step like others, not work of another thread.
        self.stack.enter_context(pytest.MonkeyPatch.context()).setattr(StagedFolder, "_is_much", lambda _: False)
        self.rig = self.kind(self.root / "new" / "deep" if self.inside_new else self.root)
        if self.first is not None:
            publish(self.rig, self.first)
            self.folder.cut_power()  # all of it was flushed

    def events(self) -> Mapping[str, Event]:
        if self.cuts:
            return {"power is cut": Event(self.folder.cut_power, tuple(self.cast))}
        return super().events()


class MemoryRig(TargetRig):
    """An object or prefix in a bucket in memory; each actor has a local root, or all have one."""

    def __init__(self, kind: type[S3ObjectTarget] | type[S3PrefixTarget], root_of: Callable[[], Path]) -> None:
        self.kind, self.root_of = kind, root_of

    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        return self.kind("b", name, local_root=self.root_of(), **options)

    def leftovers(self) -> list[str]:
        return []

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        raise NotImplementedError


class EarlyHold(NoRenewal):
    """The claim that an upload into an empty prefix makes when it lasts."""

    def __enter__(self) -> prefix_recovery.Hold:
        hold = super().__enter__()
        with contextlib.suppress(CommitConflictError):
            hold.change()
        return hold


class Remote(Commits):
    """On S3: each request is a step. `own_roots`: each on a host of its own, whose processes no other can look for."""

    calls_are_steps = False
    kind: type[S3ObjectTarget] | type[S3PrefixTarget] = S3ObjectTarget
    own_roots = False
    only: tuple[str, ...] = ()
    #: An upload that lasts makes a claim; here it does from the beginning.
    is_long = False
    may_refuse = True

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.clients: dict[str | None, MemoryClient] = {}
        self.stack.enter_context(in_memory(self.client))
        if self.is_long:
            self.stack.enter_context(pytest.MonkeyPatch.context()).setattr(prefix_commit, "Hold", EarlyHold)
        self.rig = MemoryRig(self.kind, self.local_root)
        self.may_be_absent = self.kind is S3PrefixTarget
        if self.first is not None:
            publish(self.rig, self.first)
            self.store.clock += timedelta(days=1)

    def client(self) -> MemoryClient:
        name = interleaving.current()
        if name not in self.clients:
            self.clients[name] = MemoryClient(self.store)
            self.clients[name].client.buckets.add("b")
        return self.clients[name]

    def local_root(self) -> Path:
        return self.root / (interleaving.current() or "nobody" if self.own_roots else "all")

    def world(self, actor: str) -> str:
        return (
            f"{list(self.cast).index(actor) if actor in self.cast else 9:012x}.7"
            if self.own_roots
            else "000000000001.7"
        )

    def events(self) -> Mapping[str, Event]:
        found = {**super().events(), "leases lapse": Event(self.lapse)}
        return {name: event for name, event in found.items() if not self.only or name in self.only}

    def lapse(self) -> None:
        self.store.clock += 2 * prefix_recovery.LEASE

    def clean(self, name: str) -> None:
        with contextlib.suppress(CommitConflictError):
            self.rig.target().stage().discard()

    def after_each_step(self) -> None:
        """P1 and P2 at this instant: where the record of a prefix is, all that it names is there."""
        thing = self.store.things.get("output.metadata.json")
        if thing is None or self.kind is S3ObjectTarget:
            return
        record = json.loads(thing.body)
        for item in record.get("output", {}).get("contents", ()):
            there = self.store.things.get(item["key"])
            assert there is not None and there.etag == item["etag"], f"{record['text']} is there without {item['key']}"

    def end(self, outcomes: Outcomes) -> None:
        self.store.clock += 2 * prefix_recovery.LEASE
        self.clients.clear()
        self.is_left_alone = self.own_roots and any(isinstance(outcome, Died) for outcome in outcomes.values())
        super().end(outcomes)

    def tidy(self) -> None:
        if self.is_left_alone:  # what the dead of another host left is for `superluigi clean --older-than`
            return
        data = {"output", "output.metadata.json", "output/a.txt", "output/sub/b.txt", "output/only-last.txt"}
        assert set(self.store.things) <= data, f"left behind: {sorted(set(self.store.things) - data)}"


class Copies(Scene):
    """Readers `v1…`, `v2…` of two versions through one cache, and who clears it."""

    folder_entry = False
    limit: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(self.root, self.limit, 0)

    def actors(self) -> Mapping[str, Callable[[], object]]:
        work = {"clear": self.cache.clear, "adopt": self.adopt}
        return {name: work.get(name) or partial(self.read, name[:2]) for name in self.cast}

    def entry(self) -> CacheEntry:
        return self.cache.entry("", "bucket", "key", folder=self.folder_entry)

    def fetch(self, tag: str, path: Path, _: object = None) -> dict[str, dict[str, str]]:
        interleaving.step(f"fetch {tag}")
        names = ("a", "b") if self.folder_entry else ("",)
        for name in names:
            (path / name if name else path).write_text(tag)
        return {name: {"etag": tag} for name in names}

    def read(self, tag: str) -> None:
        with self.entry().open(tag, partial(self.fetch, tag), size=2, shared=True) as path:
            interleaving.step("the copy is in use")  # and nothing may replace it
            found = [file.read_text() for file in (sorted(path.iterdir()) if self.folder_entry else [path])]
            assert found == [tag] * (2 if self.folder_entry else 1), f"{tag} is {found}"

    def adopt(self) -> None:
        source = self.root / ".superluigi" / "new" / "key"
        source.parent.mkdir(parents=True)
        if self.folder_entry:
            source.mkdir()
        self.entry().insert(source, "v2", self.fetch("v2", source))

    def end(self, outcomes: Outcomes) -> None:
        for name, outcome in outcomes.items():
            assert outcome is None or isinstance(outcome, Died), f"{name}: {type(outcome).__name__}: {outcome}"
        self.read("v1")
        self.read("v3")
        self.cache.clear()
        left = [file for file in self.root.rglob("*") if file.is_file() and file.name not in ("cache-size", "key")]
        assert not left, f"left behind: {left}"


class Claims(Scene):
    """Workers `A`, `B` that claim and finish tasks of one queue, and who takes back those whose lease ran out."""

    calls_are_steps = False
    dead_unwind = True
    databases: ClassVar[dict[tuple[Path, str], Database]] = {}
    specs = (
        TaskSpec("Upper", "T", "m", "{}", resources={"gun": 1.0}),
        TaskSpec("Other", "T", "m", "{}", resources={"gun": 1.0}),
        TaskSpec("Lower", "T", "m", "{}", deps=("Upper",)),
    )

    def __init__(self) -> None:
        super().__init__()
        patches = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.file = self.place / "queue.sqlite"
        with self.database("nobody").write() as connection:
            for table in (tables.attempts, tables.edges, tables.tasks, tables.runs):
                connection.execute(table.delete())
            submit.add_run(connection, "run", 0.0, "{}")
            submit.add(connection, self.specs, "run")
        self.claimed: list[tuple[str, str]] = []
        self.held: dict[str, str] = {}
        self.finished: list[str] = []
        call, become = Statement.__call__, connections._become_the_writer
        patches.setattr(Statement, "__call__", lambda *args: (interleaving.step("statement"), call(*args))[1])
        patches.setattr(
            connections, "_become_the_writer",
            lambda cursor: (interleaving.wait_for("begin", self.is_free), become(cursor))[1],
        )  # fmt: skip
        for name in self.cast:
            self.database(name)

    def database(self, name: str) -> Database:
        key = (self.place, name)
        if key not in self.databases:
            made = self.databases[key] = Database(str(self.file))
            with made.write() as connection:
                registry.save_pools(connection, {"default": Pool()})
            assert made._engine is not None
            event.listen(made._engine, "commit", lambda _: interleaving.step("commit"))
        return self.databases[key]

    def is_free(self) -> bool:
        """Whether nobody is writing."""
        with contextlib.closing(sqlite3.connect(self.file, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    def actors(self) -> Mapping[str, Callable[[], object]]:
        return {name: self.sweep if name == "sweep" else partial(self.work, name) for name in self.cast}

    def work(self, name: str) -> None:
        held: Claim | None = None
        while True:
            with self.database(name).write(flush=False) as connection:
                counts = held is not None and claims.finish(connection, held, Result("succeeded"), 1.0)
                following = claims.claim(connection, name, "default", 1.0, 60.0)
            if held is not None and counts:
                assert self.held.pop(held.task_id) == name, (
                    f"{held.task_id} was finished by {name}, who did not hold it"
                )
                self.finished.append(held.task_id)
            if following is not None:
                assert following.task_id not in self.held, f"{following.task_id} was claimed twice"
                assert not ({"Upper", "Other"} & self.held.keys() and following.task_id != "Lower"), "there is one gun"
                assert following.task_id != "Lower" or "Upper" in self.finished
                self.held[following.task_id] = name
            held = following
            if held is None:
                return

    def sweep(self) -> None:
        with self.database("sweep").write() as connection:
            claims.sweep(connection, 100.0)
            held = set(
                connection.execute(select(tables.tasks.c.task_id).where(tables.tasks.c.state == "RUNNING")).scalars()
            )
        self.held = {task: worker for task, worker in self.held.items() if task in held}

    def end(self, outcomes: Outcomes) -> None:
        for name, outcome in outcomes.items():
            assert outcome is None or isinstance(outcome, Died), f"{name}: {type(outcome).__name__}: {outcome}"
        with self.database("nobody").write() as connection:
            claims.sweep(connection, 200.0)
        self.held.clear()
        self.work("nobody")
        with self.database("nobody").read() as connection:
            rows = {row.task_id: row.state for row in connection.execute(select(tables.tasks))}
            kept = [row.outcome for row in connection.execute(select(tables.attempts))]
        assert rows == dict.fromkeys(("Upper", "Other", "Lower"), "SUCCEEDED")
        assert kept.count("SUCCEEDED") == 3
        assert sorted(self.finished) == ["Lower", "Other", "Upper"]


def scene(base: type[Scene], *cast: str, **more: Any) -> type[Scene]:
    return type(base.__name__, (base,), {"cast": cast, **more})


FILE: dict[str, Any] = {"kind": LocalFileRig}
FOLDER: dict[str, Any] = {"kind": LocalFolderRig}
OBJECT: dict[str, Any] = {"kind": S3ObjectTarget}
PREFIX: dict[str, Any] = {"kind": S3PrefixTarget}
FIRST: dict[str, Any] = {"first": None}
ORDERS: dict[str, tuple[type[Scene], int, int]] = {  # with the preemptions and events of the normal mode
    "file: two writers": (scene(Local, "A", "B", **FILE), 2, 0),
    "file: two writers, death": (scene(Local, "A", "B", **FILE), 1, 1),
    "file: first of a new folder": (scene(Local, "A", "B", **FILE, **FIRST, inside_new=True), 2, 0),
    "file: reader": (scene(Local, "A", "read", **FILE), 2, 0),
    "file: remover": (scene(Local, "A", "remove", **FILE), 1, 1),
    "file: clean": (scene(Local, "A", "clean", **FILE), 1, 1),
    "file: power": (scene(Local, "A", "B", **FILE, cuts=True), 1, 1),
    "folder: two writers": (scene(Local, "A", "B", **FOLDER), 1, 0),
    "folder: two writers, death": (scene(Local, "A", "B", **FOLDER), 0, 1),
    "folder: reader": (scene(Local, "A", "read", **FOLDER), 2, 0),
    "folder: clean": (scene(Local, "A", "clean", **FOLDER), 0, 1),
    "folder: power": (scene(Local, "A", **FOLDER, cuts=True), 0, 1),
    "object: two writers": (scene(Remote, "A", "B", **OBJECT), 1, 1),
    "object: two first": (scene(Remote, "A", "B", **OBJECT, **FIRST), 1, 1),
    "object: three hosts": (scene(Remote, "A", "B", "read", **OBJECT, own_roots=True), 1, 0),
    "object: remover": (scene(Remote, "A", "remove", **OBJECT), 2, 0),
    "prefix: two writers": (scene(Remote, "A", "B", **PREFIX), 1, 0),
    "prefix: two first": (scene(Remote, "A", "B", **PREFIX, **FIRST, own_roots=True), 1, 0),
    "prefix: three hosts": (scene(Remote, "A", "B", "read", **PREFIX, own_roots=True), 1, 0),
    "prefix: remover": (scene(Remote, "A", "remove", **PREFIX), 0, 1),
    "prefix: long upload, reader": (
        scene(Remote, "A", "read", **PREFIX, **FIRST, own_roots=True, is_long=True, only=("leases lapse",)),
        1,
        1,
    ),
    "cache: file, two versions": (scene(Copies, "v1", "v2"), 2, 0),
    "cache: file, one version, clear": (scene(Copies, "v1", "v1 too", "clear"), 1, 0),
    "cache: file, bounded": (scene(Copies, "v1", "v2", limit=1), 0, 1),
    "cache: folder": (scene(Copies, "v1", "v2", folder_entry=True), 0, 1),
    "cache: adopt": (scene(Copies, "v1", "adopt"), 1, 1),
    "queue: two workers": (scene(Claims, "A", "B"), 2, 0),
    "queue: worker, sweep": (scene(Claims, "A", "sweep"), 1, 1),
    "queue: two workers, sweep": (scene(Claims, "A", "B", "sweep"), 1, 0),
}


@pytest.mark.parametrize("case", ORDERS)
def test_every_order_within_a_bound_keeps_the_promises(case: str) -> None:
    kind, preemptions, events = ORDERS[case]
    explored = explore(kind, preemptions=preemptions, events=events)
    assert explored.is_complete and explored.orders > 20


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("case", ORDERS)
def test_many_more_orders_keep_the_promises(case: str, seed: int) -> None:
    """Drawn by lot, with any number of preemptions and up to two events: a million of all cases together."""
    kind, preemptions, _ = ORDERS[case]
    sample(kind, MANY, seed=seed, preemptions=None if seed % 2 else preemptions + 1, events=min(2, seed))


#: 28 cases and 8 seeds: 10^6 orders.
MANY = 4500


@pytest.mark.parametrize(("first", "begun"), [("A", 4), ("A", 8), ("B", 6), ("B", 9)])
@pytest.mark.parametrize("taken", range(3, 8))
def test_who_dies_while_finishing_the_work_of_the_dead_leaves_nothing(first: str, begun: int, taken: int) -> None:
    """A lot found it: who took over had put something that no note and no claim told of, and died."""
    second = "B" if first == "A" else "A"
    orders = [(first, begun), (second, taken)]
    replay(
        ORDERS["prefix: two writers"][0],
        [choice for name, steps in orders for choice in [*[("step", name)] * steps, ("event", f"{name} dies")]],
    )


# ---------------------------------------------------------------- mutants: protocols with one thing wrong


def _no_condition(patches: pytest.MonkeyPatch) -> None:
    for module in (transfer, upload):
        patches.setattr(module, "headers_of", lambda _: {})


def _no_flush_of_the_file(patches: pytest.MonkeyPatch) -> None:
    patches.setattr(atomic, "flush_file", lambda _: None)


def _no_flush_of_the_record(patches: pytest.MonkeyPatch) -> None:
    write = atomic.write_new
    patches.setattr(atomic, "write_new", lambda path, content, *, flush: write(path, content, flush=False))


def _record_before_its_data(patches: pytest.MonkeyPatch) -> None:
    def publish_wrongly(self: LocalStaged, record: Record | None) -> None:
        assert record is not None
        self.location._put_record(record)
        self._swap()

    patches.setattr(LocalStaged, "_publish", publish_wrongly)


def _no_lock_while_publishing(patches: pytest.MonkeyPatch) -> None:
    def enter(self: atomic.locked) -> None:
        self.descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)

    patches.setattr(atomic.locked, "__enter__", enter)


def _no_lock_on_a_copy_in_use(patches: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def lock(file: Path, shared: bool = False, wait: bool = True) -> Iterator[bool]:
        if shared:
            yield True
            return
        with files.lock(file, shared, wait) as mine:
            yield mine

    patches.setattr(cache, "lock", lock)


def _no_lock_on_the_queue(patches: pytest.MonkeyPatch) -> None:
    patches.setattr(
        connections, "_become_the_writer", lambda cursor: cursor.executescript("PRAGMA busy_timeout=0; BEGIN")
    )


def _recovery_without_a_fence(patches: pytest.MonkeyPatch) -> None:
    patches.setattr(PrefixStore, "_fence", lambda _self, standing, _token, _commit: standing)


def _what_is_over_is_forgotten(patches: pytest.MonkeyPatch) -> None:
    def clear(self: Register, commit: str | None, _there: object, conditions: ConditionalWrites) -> None:
        self._drop(lambda commits: {one for one in commits if one is None or one == commit or is_over(one)}, conditions)

    patches.setattr(Register, "clear", clear)


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a dropped condition": (_no_condition, "object: two writers"),
    "a file that is not flushed": (_no_flush_of_the_file, "file: power"),
    "a record that is not flushed": (_no_flush_of_the_record, "file: power"),
    "a record written before its data": (_record_before_its_data, "file: two writers, death"),
    "a folder's record written before its data": (_record_before_its_data, "folder: two writers, death"),
    "a lock not taken": (_no_lock_while_publishing, "file: two writers"),
    "a copy that is not locked": (_no_lock_on_a_copy_in_use, "cache: file, two versions"),
    "a queue that is not locked": (_no_lock_on_the_queue, "queue: two workers"),
    "a recovery without a fence": (_recovery_without_a_fence, "prefix: long upload, reader"),
    "a remover that believes what it saw": (_what_is_over_is_forgotten, "object: remover"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_mutant_of_a_protocol_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, case = MUTANTS[mutant]
    kind, preemptions, events = ORDERS[case]
    mutate(monkeypatch)
    with pytest.raises(InterleavingError) as caught:
        explore(kind, preemptions=preemptions, events=events)
    with pytest.raises(InterleavingError):
        replay(kind, caught.value.choices)


# ---------------------------------------------------------------- the scheduler itself


class Counter(Interleaved):
    """Two actors that add to a number which they read before."""

    def __init__(self) -> None:
        self.number, self.seen = 0, list[str]()

    def actors(self) -> Mapping[str, Callable[[], object]]:
        return {"A": self.add, "B": self.add}

    def add(self) -> None:
        interleaving.step("read")
        number = self.number
        interleaving.step("write")
        self.number = number + 1

    def end(self, outcomes: Outcomes) -> None:
        living = sum(not isinstance(outcome, Died) for outcome in outcomes.values())
        assert self.number >= min(living, 1)


class StrictCounter(Counter):
    def end(self, outcomes: Outcomes) -> None:
        assert self.number == 2, self.number


def test_all_orders_of_two_actors_are_played_and_no_more() -> None:
    # three steps each (the beginning is one): 6! / 3! 3!
    assert explore(Counter, preemptions=None).orders == 20
    assert explore(Counter, preemptions=0).orders == 2
    assert explore(Counter, preemptions=1).orders == 6
    assert explore(Counter, preemptions=0, events=1).orders > 6
    assert 5 < sample(Counter, 20, seed=1, events=0).orders <= 20


def test_orders_that_differ_in_independent_steps_only_are_played_once() -> None:
    def independent(one: str, other: str) -> bool:
        return one == "begin" or other == "begin" or one == other == "read"

    explored = explore(Counter, preemptions=None, independent=independent)
    assert explored.is_complete and explored.orders < 10
    with pytest.raises(InterleavingError):
        explore(StrictCounter, preemptions=None, independent=independent)


def test_an_order_that_breaks_a_promise_is_told_and_can_be_played_again() -> None:
    explore(StrictCounter, preemptions=0)
    with pytest.raises(InterleavingError, match="replay") as caught:
        explore(StrictCounter, preemptions=1)
    assert {"A: write", "B: read"} < set(caught.value.story)
    with pytest.raises(InterleavingError) as again:
        replay(StrictCounter, caught.value.choices)
    assert again.value.story == caught.value.story


def test_what_is_not_the_same_each_time_is_said() -> None:
    numbers = itertools.count()

    class Random(Counter):
        def add(self) -> None:
            interleaving.step(f"step {next(numbers)}")

        def end(self, outcomes: Outcomes) -> None:
            pass

    with pytest.raises(interleaving.NotRepeatableError):
        explore(Random, preemptions=1)


def test_actors_that_wait_for_each_other_are_found() -> None:
    class Philosophers(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.forks = dict.fromkeys(("left", "right"), True)

        def actors(self) -> Mapping[str, Callable[[], object]]:
            return {"A": lambda: self.eat("left", "right"), "B": lambda: self.eat("right", "left")}

        def eat(self, *forks: str) -> None:
            for fork in forks:
                interleaving.wait_for(fork, lambda fork=fork: self.forks[fork])  # type: ignore[misc]
                self.forks[fork] = False
            self.forks = dict.fromkeys(("left", "right"), True)

        def end(self, outcomes: Outcomes) -> None:
            pass

    explore(Philosophers, preemptions=0)
    with pytest.raises(InterleavingError, match="all wait for each other"):
        explore(Philosophers, preemptions=1)

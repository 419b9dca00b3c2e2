"""Writers of one S3 prefix that cannot see each other, stepped request by request through every order.

The store is a dict with conditions; the writers are the real ones. A scheduler lets one of them make one request at a
time, stops one for longer than its lease, or for ever, and looks after each request whether the promises hold.
"""

# arguments have the names of boto3's
from __future__ import annotations

import contextlib
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from superluigi.errors import CommitConflictError
from superluigi.storage import owner_token
from superluigi.storage.base import Record
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.location import S3Address
from superluigi.storage.objects.prefix import prefix_changes, prefix_commit, prefix_recovery, prefix_steps
from superluigi.storage.objects.prefix.prefix_location import PrefixLocation
from superluigi.storage.objects.record import ABSENT
from superluigi.storage.objects.s3 import client, transfer, upload
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.s3.store import opened
from superluigi.testing.s3_in_memory import MemoryClient, MemoryStore

RECORD = "out.metadata.json"


class Stopped(BaseException):
    """An actor dies where it stands."""


@dataclass
class Store(MemoryStore):
    """One bucket, and what was published in it."""

    published: list[str] = field(default_factory=list)
    #: The commit in force before each that was published, and the one that its writer had seen.
    replaced: list[tuple[str | None, str | None]] = field(default_factory=list)
    in_force: str | None = None

    def __post_init__(self) -> None:
        self.changed = self.look

    def look(self, key: str) -> None:
        record = self.record() if key == RECORD and key in self.things else None
        if record is not None:
            self.published.append(record["who"])
            if record["output"]["commit"] != self.in_force:
                self.replaced.append((self.in_force, record["over"]))
        if key == RECORD:
            self.in_force = record["output"]["commit"] if record is not None else self.in_force
        self.check()

    def check(self) -> None:
        """P1 and P2 at this instant: where a record is, all that it names is there."""
        record = self.record()
        if record is None:
            return
        for item in record["output"]["contents"]:
            there = self.things.get(item["key"])
            assert there is not None, f"{record['output']['commit']} is committed without {item['key']}"
            assert there.etag == item["etag"], f"{record['output']['commit']} is committed with another {item['key']}"

    def record(self) -> Record | None:
        document = json.loads(self.things[RECORD].body) if RECORD in self.things else {ABSENT: 1}
        return None if ABSENT in document else document


class Actor:
    """One process, as far as the others can tell: its work waits before each request until it is told to go on."""

    def __init__(self, store: Store, name: str, work: Callable[[PrefixLocation], None], root: Path) -> None:
        self.name, self.work, self.outcome = name, work, ""
        self.go, self.waits = threading.Semaphore(0), threading.Semaphore(0)
        self.dies = self.ended = False
        self.error: BaseException | None = None
        self.bucket = MemoryClient(store, lambda step, **_: self._turn(step))
        self.location = PrefixLocation(S3Address("b", "out/", "b", RECORD, S3Options(), opened, local_root=root / name))
        self.thread = threading.Thread(target=self._live, name=name, daemon=True)
        self.steps: list[str] = []

    def _live(self) -> None:
        LOCAL.actor = self
        self.go.acquire()
        try:
            if not self.dies:
                self.work(self.location)
                self.outcome = "committed"
        except (CommitConflictError, Stopped) as error:
            self.outcome = type(error).__name__
        except BaseException as error:  # noqa: BLE001  # told by the scheduler
            self.outcome, self.error = type(error).__name__, error
        self.ended = True
        self.waits.release()

    def _turn(self, step: str) -> None:
        self.waits.release()
        self.go.acquire()
        self.steps.append(step)
        if self.dies:
            raise Stopped

    def step(self) -> bool:
        """Let it make one request more; False if it has ended."""
        if not self.thread.ident:
            self.thread.start()
        elif self.ended:
            return False
        self.go.release()
        self.waits.acquire()
        return not self.ended

    def finish(self) -> None:
        while self.step():
            pass

    def die(self) -> None:
        self.dies = True
        if self.thread.ident:
            self.finish()
        self.outcome = self.outcome or "Stopped"


LOCAL = threading.local()
#: Of the tokens: none comes twice in a process, for what is named by one may outlive its test (an inbox, say).
NUMBERS = itertools.count()
#: Same bytes under some keys, other ones under others, keys that only one has, in an order that is not the same.
FILES = {
    "old": {"a": "0", "b": "0", "o": "0"},
    "A": {"a": "1", "b": "A", "c": "A"},
    "B": {"a": "1", "b": "0", "c": "B"},
    "C": {"a": "C", "o": "0", "c": "A"},
    "D": {"a": "0", "b": "0", "d": "D"},  # over "old", nothing that is there changes
    "E": {"a": "0", "o": "0", "e": "E"},
}


def writer(name: str) -> Callable[[PrefixLocation], None]:
    def write(location: PrefixLocation) -> None:
        with location.stage() as staged:
            for key, text in FILES[name].items():
                (staged.path / key).write_text(text)
            staged.commit({"who": name, "over": staged.replaced})

    return write


def reader(location: PrefixLocation) -> None:
    location.exists()
    location.stored_record()


def remover(location: PrefixLocation) -> None:
    location.remove()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Actors whose processes nobody can look for, one request at a time, and nothing on disk but the stage."""
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", "boto3")
    monkeypatch.setattr(client, "client", lambda _options: LOCAL.actor.bucket.client)
    monkeypatch.setattr(owner_token, "token", lambda: f"h-{'0' * 12}.7-1-1-{next(NUMBERS):012x}")
    monkeypatch.setattr(intent_log, "clean", lambda *_: None)
    monkeypatch.setattr(PrefixLocation, "insert", lambda *_: None)
    naps = SimpleNamespace(sleep=lambda _seconds: LOCAL.actor._turn("sleep"), monotonic=client.time.monotonic)
    monkeypatch.setattr(prefix_commit, "time", naps)

    def one_by_one(work: Callable[[Any], Any], items: Sequence[Any], _at_once: int) -> list[Any]:
        return [work(item) for item in items]

    for module in (transfer, upload, prefix_steps, prefix_commit, prefix_changes):
        monkeypatch.setattr(module, "in_threads", one_by_one)
    yield tmp_path


@pytest.fixture(params=[False, True], ids=["", "long uploads"])
def early_claims(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the claim that an upload into an empty prefix makes when it lasts."""

    class EarlyHold(prefix_recovery.Hold):
        def __enter__(self) -> prefix_recovery.Hold:
            hold = super().__enter__()
            with contextlib.suppress(CommitConflictError):
                hold.change()
            return hold

    if request.param:
        monkeypatch.setattr(prefix_commit, "Hold", EarlyHold)


@dataclass(frozen=True)
class Schedule:
    """The first actor makes `first` requests and stops; the second makes `second`, and so on, in turns.

    `lapses`: each stop lasts longer than a lease. The last of the turns all go on to the end, in the order of `ends`.
    """

    turns: tuple[tuple[int, int], ...]  # (actor, requests)
    ends: tuple[int, ...]
    lapses: bool = True
    dead: int | None = None


def play(root: Path, before: str | None, works: dict[str, Callable[[PrefixLocation], None]], schedule: Schedule) -> str:
    """Run one schedule; what the actors came to."""
    store = Store()
    if before:
        first = Actor(store, before, writer(before), root)
        first.finish()
        assert first.outcome == "committed", first.error
        store.clock += timedelta(days=1)
    actors = [Actor(store, name, work, root) for name, work in works.items()]
    try:
        for number, requests in schedule.turns:
            for _ in range(requests):
                if not actors[number].step():
                    break
            if schedule.lapses:
                store.clock += 2 * prefix_recovery.LEASE
        if schedule.dead is not None:
            actors[schedule.dead].die()
        for number in schedule.ends:
            actors[number].finish()
        outcome = " ".join(f"{actor.name}:{actor.outcome}" for actor in actors)
        for actor in actors:
            assert actor.outcome in ("committed", "CommitConflictError", "Stopped"), actor.error
        store.clock += 2 * prefix_recovery.LEASE
        last = Actor(store, "reader", reader, root)
        last.finish()
        assert last.outcome == "committed", last.error
        judge(store, before, {actor.name: actor.outcome for actor in actors}, "remove" in works)
    except BaseException:
        story = "\n".join(f"{actor.name}: {actor.outcome} {actor.steps}" for actor in actors)
        print(f"{schedule}\n{store.published}\n{story}\n{sorted(store.things)}")
        raise
    finally:
        for actor in actors:
            actor.die()
    return outcome


def judge(store: Store, before: str | None, outcomes: dict[str, str], removed: bool) -> None:
    store.check()
    record = store.record()
    acknowledged = [name for name in store.published if outcomes.get(name) == "committed"]
    for name, outcome in outcomes.items():
        if outcome == "committed" and name in FILES:
            assert name in store.published, f"{name} was told that it committed, and was never to be seen"
    if removed:
        return
    for in_force, seen in store.replaced:
        assert in_force == seen, "a commit came over one that its writer had not seen"
    if record is None:
        assert not acknowledged and (before is None or "Stopped" in outcomes.values()), "what was committed is gone"
        return
    last = record["who"]
    files = {key.removeprefix("out/"): thing.body.decode() for key, thing in store.things.items() if key[:4] == "out/"}
    assert {key: files[key] for key in FILES[last]} == FILES[last]
    # What is there at the end is what was published last, by one who was told so, or could not be told.
    assert last == store.published[-1]
    assert last == before or outcomes[last] != "CommitConflictError" or not acknowledged, f"{last} was refused"


def schedules(actors: int, most: int, *, seed: int, count: int, turns: int) -> list[Schedule]:
    chosen = random.Random(seed)
    found = []
    for _ in range(count):
        order = [chosen.randrange(actors) for _ in range(turns)]
        steps = tuple((number, chosen.randrange(1, most)) for number in order)
        ends = chosen.sample(range(actors), actors)
        dead = chosen.randrange(actors) if chosen.random() < 0.25 else None
        found.append(Schedule(steps, tuple(ends), chosen.random() < 0.85, dead))
    return found


CASES = {
    "over": ("old", {"A": writer("A"), "B": writer("B")}),
    "first": (None, {"A": writer("A"), "B": writer("B")}),
    "same": ("A", {"B": writer("B"), "C": writer("C")}),
    "grown": ("old", {"D": writer("D"), "read": reader, "A": writer("A")}),
    "both grown": ("old", {"D": writer("D"), "E": writer("E")}),
    "three": ("old", {"A": writer("A"), "B": writer("B"), "C": writer("C")}),
    "three first": (None, {"A": writer("A"), "B": writer("B"), "C": writer("C")}),
    "removed": ("old", {"A": writer("A"), "remove": remover, "B": writer("B")}),
    "read": ("old", {"A": writer("A"), "read": reader, "B": writer("B")}),
}


@pytest.mark.parametrize("case", CASES)
def test_writers_that_take_each_other_for_dead_lose_nothing_that_was_acknowledged(world: Path, case: str) -> None:
    before, works = CASES[case]
    for schedule in schedules(len(works), 22, seed=1, count=100, turns=4):
        play(world, before, works, schedule)


@pytest.mark.parametrize("case", CASES)
def test_a_writer_stopped_before_any_of_its_requests_loses_nothing(world: Path, case: str, early_claims: None) -> None:
    before, works = CASES[case]
    for first, others in itertools.product(range(1, 24), itertools.permutations(range(1, len(works)))):
        play(world, before, works, Schedule(((0, first), *((other, 99) for other in others)), (0, *others)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", ["over", "first", "same", "grown"])
def test_two_writers_stopped_at_every_pair_of_requests_lose_nothing(world: Path, case: str) -> None:
    before, works = CASES[case]
    for first, second, third in itertools.product(range(1, 26), range(1, 34), (0, 1, 3, 6, 12)):
        for ends in ((0, 1), (1, 0)):
            play(world, before, works, Schedule(((0, first), (1, second), (0, third)), ends))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES)
def test_writers_in_many_more_orders_lose_nothing(world: Path, case: str) -> None:
    before, works = CASES[case]
    for schedule in schedules(len(works), 30, seed=random.randrange(10**9), count=20_000, turns=6):
        play(world, before, works, schedule)


def test_writers_that_are_not_stopped_come_one_after_the_other(world: Path) -> None:
    outcomes = {play(world, *CASES["over"], Schedule((), ends, lapses=False)) for ends in ((0, 1), (1, 0))}
    assert outcomes == {"A:committed B:committed"}

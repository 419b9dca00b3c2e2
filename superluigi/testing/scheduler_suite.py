"""A scheduler against Luigi's own as the oracle: random conversations and random graphs, the same answers.

    class TestMyScheduler(SchedulerSuite):
        def make(self, **config):
            return MyScheduler(**config)

Hypothesis invents the cases, so it must be installed.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import pickle
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import luigi
import luigi.scheduler
import luigi.worker
from hypothesis import strategies as st
from luigi.execution_summary import LuigiRunResult

RESOURCES = {"gpu": 2, "disk": 3}
WORKERS = ("ann", "bob", "helper")

# -- conversations: the protocol, call by call


@dataclass(frozen=True)
class Claim:
    """A task as a worker announces it."""

    name: str
    worker: str
    deps: tuple[str, ...]
    priority: int
    resources: tuple[tuple[str, int], ...]
    batchable: bool
    done: bool
    runnable: bool
    retry_count: int | None


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    """Tasks of a random graph, requirements first."""
    found: list[Claim] = []
    for i in range(draw(st.integers(1, 14))):
        deps = draw(st.lists(st.sampled_from([c.name for c in found]), max_size=3, unique=True)) if found else []
        resources = draw(st.dictionaries(st.sampled_from(list(RESOURCES)), st.integers(1, 3), max_size=2))
        # Batches of one worker only: Luigi lets a batch take in other workers' tasks, then fails those as
        # tasks of a dead worker.
        worker = draw(st.sampled_from(WORKERS[:2]))
        batchable = worker == "ann" and draw(st.booleans())
        found.append(
            Claim(
                name=f"{'B' if batchable else 'T'}{i}",
                worker=worker,
                deps=tuple(deps),
                priority=draw(st.integers(0, 3)),
                resources=tuple(sorted(resources.items())),
                batchable=batchable,
                done=draw(st.integers(0, 5)) == 0,
                runnable=draw(st.integers(0, 5)) > 0,
                retry_count=draw(st.sampled_from([None, 1, 2])),
            )
        )
    return found


#: (who asks, what becomes of one of its tasks, which of them, seconds that pass)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(WORKERS),
        st.sampled_from(["DONE", "FAILED", "PENDING", "nothing"]),
        st.integers(0, 5),
        st.sampled_from([0, 1, 7]),
    ),
    max_size=40,
)


class Clock:
    """Time that passes when it is told to, and by `tick` at each look."""

    def __init__(self, tick: float) -> None:
        self.now, self._tick = 1_000_000.0, tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


@contextlib.contextmanager
def _own_clock(modules: tuple[Any, ...], tick: float = 0.0) -> Iterator[Clock]:
    """A clock for Luigi's scheduler and `modules` (which read it as `time.time()`), and for nothing else."""
    clock = Clock(tick)
    with contextlib.ExitStack() as stack:
        for module in (luigi.scheduler, *modules):
            stack.enter_context(mock.patch.object(module, "time", mock.Mock(wraps=time, time=clock)))
        yield clock


class _InOrder(set[Any]):
    """A set whose items come in the order in which they were added."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._order = dict.fromkeys(items)
        super().__init__(self._order)

    def add(self, item: object) -> None:
        self.update((item,))

    def update(self, *several: Iterable[Any]) -> None:
        for new in map(dict.fromkeys, several):
            self._order.update(new)
            super().update(new)

    def __iter__(self) -> Iterator[Any]:
        return iter([item for item in self._order if item in self])


class Conversation:
    """Workers that talk to one scheduler; what it answered, in comparable form."""

    def __init__(self, scheduler: Any, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._running: dict[str, list[str]] = {worker: [] for worker in WORKERS}
        self._claims: dict[str, Claim] = {}
        self.answers: list[Any] = []

    def open(self, tasks: list[Claim]) -> None:
        for worker, slots in zip(WORKERS, (1, 2, 2), strict=True):
            self._scheduler.add_worker(worker, {"workers": slots})
        for worker in WORKERS:
            self._scheduler.add_task_batcher(worker=worker, task_family="B", batched_args=["n"], max_batch_size=3)
        for claim in tasks:
            self._clock.now += 1
            self._claims[claim.name] = claim
            self._announce(claim, claim.worker, "DONE" if claim.done else "PENDING", claim.runnable)

    def _announce(self, claim: Claim, worker: str, status: str, runnable: bool | None, **more: Any) -> None:
        self._scheduler.add_task(
            worker=worker,
            task_id=claim.name,
            status=status,
            runnable=runnable,
            deps=claim.deps if "new_deps" not in more else None,
            priority=claim.priority,
            resources=dict(claim.resources),
            family=claim.name[0],
            params={"n": claim.name[1:], "same": "x"},
            batchable=claim.batchable,
            retry_policy_dict={"retry_count": claim.retry_count},
            **more,
        )

    def travel(self) -> None:
        """Go on with a pickled copy: Luigi's worker takes its scheduler along to processes that it spawns."""
        self._scheduler = pickle.loads(pickle.dumps(self._scheduler))

    def step(self, worker: str, outcome: str, which: int, seconds: int) -> None:
        self._clock.now += seconds + 1
        self._end_one(worker, outcome, which)
        reply = self._scheduler.get_work(
            worker=worker, host="h", assistant=worker == "helper", current_tasks=list(self._running[worker])
        )
        batch = sorted(reply.get("batch_task_ids", ()))
        self.answers.append((reply["task_id"], batch, self._counts(worker)))
        if batch:
            self._take_batch(worker, reply)
        elif reply["task_id"] is not None and reply["task_id"] not in self._running[worker]:
            self._running[worker].append(reply["task_id"])

    def _counts(self, worker: str) -> tuple[int, ...]:
        counted = self._scheduler.count_pending(worker=worker)
        names = ("n_pending_tasks", "n_unique_pending", "n_pending_last_scheduled")
        return (*(counted[name] for name in names), len(counted["running_tasks"]))

    def _take_batch(self, worker: str, reply: dict[str, Any]) -> None:
        name = "B" + "+".join(sorted(task[1:] for task in reply["batch_task_ids"]))
        first = self._claims[reply["batch_task_ids"][0]]
        self._claims[name] = Claim(name, worker, (), first.priority, first.resources, False, False, True, None)
        self._scheduler.add_task(
            worker=worker,
            task_id=name,
            family="B",
            status="RUNNING",
            params={"n": name[1:], "same": "x"},
            batch_id=reply["batch_id"],
        )
        self._running[worker].append(name)

    def _end_one(self, worker: str, outcome: str, which: int) -> None:
        if not self._running[worker] or outcome == "nothing":
            return
        name = self._running[worker].pop(which % len(self._running[worker]))
        claim = self._claims[name]
        if "+" in name:
            outcome = "DONE"  # of a failed batch, Luigi goes on counting the task that it has removed
        if outcome == "PENDING":
            self._announce(claim, worker, "PENDING", None, new_deps=[self._discovered(worker, name)])
        else:
            self._announce(claim, worker, outcome, None, expl="{}", new_deps=[])

    def _discovered(self, worker: str, name: str) -> str:
        new = Claim(f"T-below-{name}-{len(self.answers)}", worker, (), 1, (), False, False, True, None)
        self._claims[new.name] = new
        self._announce(new, worker, "PENDING", True)
        return new.name

    def statuses(self) -> dict[str, str]:
        listed = self._scheduler.task_list("", "", limit=False)
        return {name: task["status"] for name, task in listed.items()}


# -- graphs: whole runs


@dataclass(frozen=True)
class Plan:
    """What one task of a random graph does."""

    deps: tuple[int, ...]
    priority: int
    gpu: int
    #: How often it fails before it succeeds.
    fails: int
    retry_count: int | None
    #: "task", "external there", "external missing", "complete"
    kind: str
    #: Requirements that it discovers while it runs.
    discovers: tuple[int, ...]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Plan, ...]:
    """A random graph; the last task is the root."""
    plans: list[Plan] = []
    for i in range(draw(st.integers(1, 12))):
        earlier = list(range(i))
        some = st.lists(st.sampled_from(earlier), max_size=3, unique=True) if earlier else st.just([])
        kinds = ["task"] * 6 + ["external there", "external missing", "complete"]
        plans.append(
            Plan(
                deps=tuple(draw(some)),
                priority=draw(st.integers(0, 2)),
                gpu=draw(st.integers(0, 2)),
                fails=draw(st.sampled_from([0, 0, 0, 1, 2])),
                retry_count=draw(st.sampled_from([1, 2, 3])),
                kind=draw(st.sampled_from(kinds)),
                discovers=tuple(draw(some)) if draw(st.integers(0, 3)) == 0 else (),
            )
        )
    return tuple(plans)


#: Case → what happened in it; tasks find their case by name, as instances are cached by Luigi.
_cases: dict[str, Case] = {}


class Case:
    """One run of one graph, in memory."""

    def __init__(self, plans: tuple[Plan, ...]) -> None:
        self.plans = plans
        self.name = uuid.uuid4().hex
        self.complete = {i for i, plan in enumerate(plans) if plan.kind in ("external there", "complete")}
        self.log: list[tuple[int, str]] = []
        _cases[self.name] = self

    @property
    def root(self) -> luigi.Task:
        return _make(self.name, len(self.plans) - 1)

    def check_order(self) -> None:
        """A task begins only when all it requires is complete."""
        complete = {i for i, plan in enumerate(self.plans) if plan.kind in ("external there", "complete")}
        for i, word in self.log:
            if word == "begin" and not complete.issuperset(self.plans[i].deps):
                raise AssertionError(f"task {i} began before {set(self.plans[i].deps) - complete}")
            if word == "done":
                complete.add(i)

    def tries(self) -> dict[int, list[str]]:
        """What became of each task's attempts, in order, but for restarts at discovered requirements."""
        found: dict[int, list[str]] = {}
        for i, word in self.log:
            if word in ("done", "failed"):
                found.setdefault(i, []).append(word)
        return found


class GraphTask(luigi.Task):
    case = luigi.Parameter(significant=True)
    number = luigi.IntParameter()

    @property
    def _case(self) -> Case:
        return _cases[self.case]

    @property
    def plan(self) -> Plan:
        return self._case.plans[self.number]

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.plan.priority

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]
        return {"gpu": self.plan.gpu} if self.plan.gpu else {}

    @property
    def retry_count(self) -> int | None:
        return self.plan.retry_count

    def requires(self) -> list[luigi.Task]:
        return [_make(self.case, i) for i in self.plan.deps]

    def complete(self) -> bool:
        return self.number in self._case.complete

    def run(self) -> Any:
        case = self._case
        case.log.append((self.number, "begin"))
        if self.plan.discovers:
            yield [_make(self.case, i) for i in self.plan.discovers]
        if sum(entry == (self.number, "failed") for entry in case.log) < self.plan.fails:
            case.log.append((self.number, "failed"))
            raise ValueError("planned")
        case.log.append((self.number, "done"))
        case.complete.add(self.number)


class GraphExternal(GraphTask):
    run = None  # type: ignore[assignment]


def _make(case: str, number: int) -> luigi.Task:
    external = _cases[case].plans[number].kind.startswith("external")
    return (GraphExternal if external else GraphTask)(case=case, number=number)


#: Luigi retries only while the worker is kept alive, and keeps it alive for what can never run, too:
#: an idle time ends that.
WORKER_OPTIONS = {
    "keep_alive": True,
    "max_keep_alive_idle_duration": datetime.timedelta(milliseconds=20),
    "wait_interval": 0.001,
    "wait_jitter": 0.0,
    "ping_interval": 60.0,
}


def run_with(worker_class: Any, scheduler: Any, plans: tuple[Plan, ...]) -> tuple[Case, str]:
    """Run a graph; what happened, and the summary without the case's name."""
    case = Case(plans)
    logger = logging.getLogger("luigi-interface")
    before, logger.disabled = logger.disabled, True
    try:
        with worker_class(scheduler=scheduler, worker_id="w", **WORKER_OPTIONS) as worker:
            worker.add(case.root)
            worker.run()
        summary = LuigiRunResult(worker).summary_text.replace(case.name, "case")
    finally:
        logger.disabled = before
        _cases.pop(case.name)
    return case, summary


class SchedulerSuite:
    """Derive, say how to `make` the scheduler under test, and call these from hypothesis tests."""

    #: The worker that is used with the scheduler under test in whole runs.
    worker_class: Any = luigi.worker.Worker
    #: Modules of the scheduler under test that call `time.time()`.
    clock_modules: tuple[Any, ...] = ()

    def make(self, **config: Any) -> Any:
        """A scheduler with Luigi's keyword arguments."""
        raise NotImplementedError

    def compare_conversation(self, tasks: list[Claim], steps: list[tuple[str, str, int, int]]) -> None:
        """The same calls get the same answers from both schedulers."""
        config = {"retry_delay": 5.0, "stable_done_cooldown_secs": 0, "prune_on_get_work": True, "resources": RESOURCES}
        with _own_clock(self.clock_modules) as clock:
            talks = []
            for scheduler in (luigi.scheduler.Scheduler(**config), self.make(**config)):
                clock.now = 1_000_000.0
                talk = Conversation(scheduler, clock)
                talk.open(tasks)
                for i, step in enumerate(steps):
                    if i == len(steps) // 2:
                        talk.travel()
                    talk.step(*step)
                talks.append(talk)
            oracle, ours = talks
            if oracle.answers != ours.answers:
                first = next(i for i, (a, b) in enumerate(zip(oracle.answers, ours.answers, strict=True)) if a != b)
                raise AssertionError(f"step {first}: Luigi says {oracle.answers[first]}, we {ours.answers[first]}")
            if oracle.statuses() != ours.statuses():
                raise AssertionError(f"Luigi ends with {oracle.statuses()}, we with {ours.statuses()}")

    def compare_run(self, plans: tuple[Plan, ...]) -> None:
        """The same graph ends the same way, in a permitted order, with the same summary."""
        config = {"retry_delay": 0.0, "stable_done_cooldown_secs": 0, "prune_on_get_work": True}
        totals = {"gpu": 2}
        # Of equal tasks the older runs first: the machine's clock, which may stand or be set back, must not decide.
        # Of requirements, Luigi's is the one that a set of their ids, which are new each time, happens to give first.
        ordered = mock.patch.object(luigi.scheduler, "set", _InOrder, create=True)
        with ordered, _own_clock(self.clock_modules, tick=0.001):
            oracle, said = run_with(luigi.worker.Worker, luigi.scheduler.Scheduler(resources=totals, **config), plans)
            ours, says = run_with(self.worker_class, self.make(resources=totals, **config), plans)
        ours.check_order()
        if oracle.tries() != ours.tries():
            raise AssertionError(f"under Luigi {oracle.tries()}, under ours {ours.tries()}")
        if said != says:
            raise AssertionError(f"Luigi's summary:\n{said}\nours:\n{says}")

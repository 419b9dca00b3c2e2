"""The queue against a model of its state machine: random operations, on SQLite and on PostgreSQL."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import postgres_support as postgres
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from superluigi.queue.models import Pool, Result, TaskSpec
from superluigi.queue.store import claims, finish_and_claim, registry, views
from superluigi.queue.store import submit as plan
from superluigi.queue.store.claims import Claim
from superluigi.queue.store.database import Database

LEASE = 60.0
#: Eight tasks; each may require earlier ones. Two need the only "gun" there is, three belong to a pool of two.
REQUIRES = {0: (), 1: (), 2: (0,), 3: (0, 1), 4: (2,), 5: (2, 3), 6: (), 7: (4, 5, 6)}
SPECS = {
    number: TaskSpec(
        task_id=f"T{number}", name="T", module="m", params="{}", deps=tuple(f"T{n}" for n in needed),
        priority=float(number % 3), resources={"gun": 1.0} if number in (0, 1) else {},
        max_failures=3 if number == 5 else 2 if number % 2 else 1, retry_delay=30.0 if number == 3 else 0.0,
        retry_window=60.0 if number == 1 else None, retry_deadline=60.0 if number == 5 else None,
        pool="small" if number in (2, 3, 6) else "default", external=number == 6,
    )
    for number, needed in REQUIRES.items()
}  # fmt: skip


@dataclass
class Row:
    """What the model knows of one task."""

    order: int
    state: str = "WAITING"
    deps: frozenset[str] = frozenset()
    yielded: frozenset[str] = frozenset()
    run: str = ""
    rerun: str | None = None
    due: float | None = None
    fence: int = 0
    attempts: int = 0
    failed: list[float] = field(default_factory=list)
    losses: int = 0
    kill: bool = False
    lease: float = 0.0
    priority: float = 0.0
    spec: TaskSpec = field(default_factory=lambda: SPECS[0])

    @property
    def spent(self) -> bool:
        """Whether the latest failure was one too many."""
        last, window, deadline = self.failed[-1], self.spec.retry_window, self.spec.retry_deadline
        counted = [moment for moment in self.failed if window is None or moment >= last - window]
        return len(counted) >= self.spec.max_failures or (deadline is not None and last - counted[0] >= deadline)

    @property
    def armed(self) -> bool:
        return bool(self.spec.resources)


class Model:
    """The state machine, written as plainly as possible: every rule looks at all rows."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.paused: set[str] = set()

    def settle(self) -> None:
        for row in self.rows.values():
            if row.state in ("WAITING", "PENDING"):
                row.state = "WAITING" if self.unmet(row) or row.due is not None else "PENDING"

    def unmet(self, row: Row) -> int:
        return sum(self.rows[dep].state != "SUCCEEDED" for dep in row.deps | row.yielded)

    def submit(self, specs: list[TaskSpec], run: str, retry_failed: bool) -> None:
        for spec in specs:
            row = self.rows.get(spec.task_id)
            if row is None:
                row = self.rows[spec.task_id] = Row(len(self.rows), run=run, priority=spec.priority, spec=spec)
                row.state = "SUCCEEDED" if spec.complete else "WAITING"
                row.deps = frozenset() if spec.complete else frozenset(spec.deps)
                continue
            if spec.complete:
                if row.state not in ("RUNNING", "SUCCEEDED"):
                    row.state, row.due = "SUCCEEDED", None
                continue
            waits = row.state in ("WAITING", "PENDING")
            if row.state != "RUNNING":
                row.priority = max(row.priority, spec.priority) if waits else spec.priority
                row.spec = spec
            row.deps = frozenset(spec.deps)
            row.yielded -= row.deps  # an edge that requires() names is one of its own
            if row.state == "SUCCEEDED" or (row.state == "FAILED" and retry_failed):
                row.state, row.run, row.failed, row.losses, row.due = "WAITING", run, [], 0, None
                row.yielded = frozenset()
            elif row.state == "RUNNING" and spec.forced and row.run != run:
                row.rerun = run
        self.settle()

    def claim(self, pool: str) -> str | None:
        running = [row for row in self.rows.values() if row.state == "RUNNING"]
        if pool in self.paused or (pool == "small" and sum(r.spec.pool == "small" for r in running) >= 2):
            return None
        armed = any(row.armed for row in running)
        ready = [
            (-row.priority, row.order, name)
            for name, row in self.rows.items()
            if row.state == "PENDING" and row.spec.pool == pool and not (armed and row.armed)
        ]
        return min(ready)[2] if ready else None

    def finish(self, name: str, kind: str, now: float) -> None:
        row = self.rows[name]
        failed = kind == "failed"
        row.failed += [now] if failed else []
        row.losses = 0
        rerun, row.rerun = row.rerun, None
        row.run = rerun or row.run
        if kind in ("complete", "waiting", "missing"):
            row.attempts -= 1
        done = kind in ("succeeded", "complete")
        row.due = None
        if kind == "killed" or (row.kill and not done):
            row.state = "KILLED"
        elif rerun:
            row.state = "WAITING"
        elif done:
            row.state = "SUCCEEDED"
        elif kind == "missing":
            row.state, row.due = "WAITING", now + LEASE
        elif failed and row.spent:
            row.state = "FAILED"
        else:
            row.state = "WAITING"
            row.due = now + row.spec.retry_delay if failed and row.spec.retry_delay else None
        row.kill = False

    def blocked(self) -> set[str]:
        found = {name for name, row in self.rows.items() if row.state in ("FAILED", "KILLED")}
        while True:
            more = {
                name for name, row in self.rows.items()
                if row.state == "WAITING" and name not in found and (row.deps | row.yielded) & found
            }  # fmt: skip
            if not more:
                return {name for name in found if self.rows[name].state == "WAITING"}
            found |= more


class Clocked(Database):
    """A database with a clock of the machine's."""

    moment = 1000.0

    def now(self) -> float:
        return self.moment


# Functions with names: of a lambda Hypothesis shows the source, for which older releases parse this file at each look.


def some_are_held(machine: QueueMachine) -> bool:
    return bool(machine.held)


def t7_is_held(machine: QueueMachine) -> bool:
    return "T7" in machine.held


def some_are_lost(machine: QueueMachine) -> bool:
    return bool(machine.lost)


def there_are_rows(machine: QueueMachine) -> bool:
    return bool(machine.model.rows)


class QueueMachine(RuleBasedStateMachine):
    """Does the same to the queue and to the model, and compares everything that can be seen."""

    database: Clocked

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now = 1000.0
        self.held: dict[str, Claim] = {}
        self.lost: list[Claim] = []
        self.runs = 0
        self.workers = 0
        with self.database.write(flush=False) as connection:
            for table in reversed(registry.tables.metadata.sorted_tables):
                if not table.name.endswith(("_meta", "_needs")):
                    connection.execute(table.delete())
            connection.execute(registry.tables.needs.delete().where(registry.tables.needs.c.id > 0))
            registry.save_pools(connection, {"default": Pool(), "small": Pool(2)})

    @initialize(complete=st.sets(st.integers(0, 6), max_size=1))
    def begin(self, complete: set[int]) -> None:
        self.submit(7, complete, False, False, False)

    @rule(
        root=st.sampled_from([7, 7, 5, 4, 6]),
        complete=st.sets(st.integers(0, 7), max_size=2),
        forced=st.booleans(),
        retry_failed=st.booleans(),
        urgent=st.booleans(),
    )
    def submit(self, root: int, complete: set[int], forced: bool, retry_failed: bool, urgent: bool) -> None:
        specs: dict[int, TaskSpec] = {}

        def walk(number: int) -> None:
            if number in specs:
                return
            if number not in complete:
                for needed in REQUIRES[number]:
                    walk(needed)
            done = number in complete
            spec = SPECS[number]
            specs[number] = replace(
                spec, complete=done, forced=forced and not done, deps=() if done else spec.deps,
                priority=spec.priority + 5 * urgent,
                resources={} if done else spec.resources,
            )  # fmt: skip

        walk(root)
        self.runs += 1
        run = f"run{self.runs}"
        with self.database.write(flush=False) as connection:
            plan.add_run(connection, run, self.now, "{}")
            plan.add(connection, list(specs.values()), run, retry_failed=retry_failed)
        self.model.submit(list(specs.values()), run, retry_failed)

    @rule(number=st.integers(1, 3))
    def claim(self, number: int) -> None:
        for _ in range(number):
            for pool in ("default", "small"):
                self._claim(pool)

    def _claim(self, pool: str) -> None:
        expected = self.model.claim(pool)
        with self.database.write(flush=False) as connection:
            self.workers += 1
            claim = claims.claim(connection, f"w{self.workers}", pool, self.now, LEASE)
        self._claimed(claim, expected)

    def _claimed(self, claim: Claim | None, expected: str | None) -> None:
        assert (claim.task_id if claim else None) == expected
        if claim is not None:
            row = self.model.rows[claim.task_id]
            row.state, row.fence, row.attempts = "RUNNING", row.fence + 1, row.attempts + 1
            row.lease, row.kill = self.now + LEASE, False
            assert (claim.fencing_token, claim.attempt) == (row.fence, row.attempts)
            self.held[claim.task_id] = claim

    @precondition(some_are_held)
    @rule(
        data=st.data(),
        kind=st.sampled_from(
            ["succeeded", "succeeded", "succeeded", "complete", "failed", "failed", "killed", "requeued", "missing"]
        ),
    )
    def finish(self, data: Any, kind: str) -> None:
        self._finish(data.draw(st.sampled_from(sorted(self.held))), kind)

    @precondition(some_are_held)
    @rule(data=st.data(), kind=st.sampled_from(["succeeded", "complete", "failed", "requeued", "missing"]))
    def somebody_kills_what_ends_by_itself(self, data: Any, kind: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        self._kill(name)
        self._finish(name, kind)

    def _finish(self, name: str, kind: str) -> None:
        with self.database.write(flush=False) as connection:
            assert claims.finish(connection, self.held.pop(name), Result(kind), self.now, LEASE)
        self.model.finish(name, kind, self.now)
        self.model.settle()

    @precondition(some_are_held)
    @rule(data=st.data(), kind=st.sampled_from(["succeeded", "complete", "failed", "requeued", "missing", "lost"]))
    def finish_and_claim_the_next_in_one_turn(self, data: Any, kind: str) -> None:
        if kind == "lost":
            if not self.lost:
                return
            claim, kind = data.draw(st.sampled_from(self.lost)), "succeeded"
        else:
            claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
            self.model.finish(claim.task_id, kind, self.now)
            self.model.settle()
        pool = data.draw(st.sampled_from(["default", "small"]))
        expected = self.model.claim(pool)
        self.database.moment = self.now
        self.workers += 1
        outcome = claim, Result(kind, error=kind, exit_code=3)
        counts, following = finish_and_claim.finish_and_claim(
            self.database, outcome, f"w{self.workers}", pool, LEASE, LEASE
        )
        assert counts == (claim not in self.lost)
        self._claimed(following, expected)

    @precondition(t7_is_held)
    @rule(wanted=st.sets(st.sampled_from([0, 1, 6]), min_size=1))
    def run_yields(self, wanted: set[int]) -> None:
        row = self.model.rows["T7"]
        run = row.run
        specs = [SPECS[number] for number in sorted(wanted)]
        ids = [spec.task_id for spec in specs]
        with self.database.write(flush=False) as connection:
            result = Result("waiting", specs=specs, requirements=ids)
            assert claims.finish(connection, self.held.pop("T7"), result, self.now)
        was_killed = row.kill
        self.model.finish("T7", "waiting", self.now)
        self.model.submit(specs, run, False)
        row.yielded |= frozenset(ids) - row.deps
        assert not was_killed or row.state == "KILLED"
        self.model.settle()

    @precondition(some_are_held)
    @rule(data=st.data())
    def a_power_cut_takes_back_a_claim_and_its_worker_lives_on(self, data: Any) -> None:
        """Claims are not flushed; the next one gets the same fencing number."""
        name = data.draw(st.sampled_from(sorted(self.held)))
        row = self.model.rows[name]
        if row.rerun is not None or row.kill:
            return
        with self.database.write(flush=False) as connection:
            connection.execute(
                registry.tables.tasks.update().where(registry.tables.tasks.c.task_id == name)
                .values(state="PENDING", fence=row.fence - 1, attempts=row.attempts - 1, lease=None)
            )  # fmt: skip
            plan.recount(connection, [self.held[name].row])
        row.state, row.fence, row.attempts = "WAITING", row.fence - 1, row.attempts - 1
        self.lost.append(self.held.pop(name))
        self.model.settle()

    @precondition(some_are_lost)
    @rule(data=st.data(), kind=st.sampled_from(["succeeded", "failed", "killed"]))
    def a_worker_that_lost_its_lease_changes_nothing(self, data: Any, kind: str) -> None:
        claim = data.draw(st.sampled_from(self.lost))
        with self.database.write(flush=False) as connection:
            assert claims.status(connection, claim) == "lost"
            assert claims.renew(connection, claim, self.now + LEASE) == "lost"
            assert not claims.finish(connection, claim, Result(kind), self.now)

    @precondition(some_are_held)
    @rule(data=st.data())
    def renew(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        row = self.model.rows[name]
        with self.database.write(flush=False) as connection:
            state = claims.renew(connection, self.held[name], self.now + LEASE)
        assert state == ("kill" if row.kill else "held")
        row.lease = self.now + LEASE

    @rule(seconds=st.sampled_from([1.0, 35.0, 70.0]))
    def time_passes_and_somebody_sweeps(self, seconds: float) -> None:
        self.now += seconds
        with self.database.write(flush=False) as connection:
            claims.sweep(connection, self.now)
        for name, row in self.model.rows.items():
            if row.state == "WAITING" and row.due is not None and row.due <= self.now:
                row.due = None
            if row.state == "RUNNING" and row.lease < self.now:
                self._lose(name, row)
        self.model.settle()

    def _lose(self, name: str, row: Row) -> None:
        self.lost.append(self.held.pop(name))
        row.losses += 1
        row.run, row.rerun, row.due = row.rerun or row.run, None, None
        row.state = "KILLED" if row.kill else "FAILED" if row.losses >= claims.MAX_LOSSES else "WAITING"
        row.kill = False

    @rule(data=st.data(), running=st.booleans())
    def kill(self, data: Any, running: bool) -> None:
        self._kill(data.draw(st.sampled_from(sorted(self.held if running and self.held else self.model.rows))))

    def _kill(self, name: str) -> None:
        with self.database.write(flush=False) as connection:
            rows = plan.select_rows(connection, ids=[name], state=None, name=None)
            plan.kill(connection, rows, self.now)
        row = self.model.rows[name]
        if row.state in ("WAITING", "PENDING"):
            row.state, row.due = "KILLED", None
        elif row.state == "RUNNING":
            row.kill = True
        self.model.settle()

    @precondition(there_are_rows)
    @rule(state=st.sampled_from(["FAILED", "KILLED", "WAITING", "SUCCEEDED"]))
    def retry(self, state: str) -> None:
        with self.database.write(flush=False) as connection:
            plan.retry(connection, plan.select_rows(connection, ids=None, state=state, name=None))
        for row in self.model.rows.values():
            if row.state == state:
                row.state, row.failed, row.losses, row.due, row.kill = "WAITING", [], 0, None, False
        self.model.settle()

    @rule(pool=st.sampled_from(["default", "small", None]))
    def pause_claim_resume(self, pool: str | None) -> None:
        self._pause(pool, True)
        self.queue_and_model_agree()
        self.claim(1)
        self._pause(pool, False)

    def _pause(self, pool: str | None, paused: bool) -> None:
        with self.database.write(flush=False) as connection:
            registry.set_paused(connection, pool, paused)
        names = {pool} if pool else {"default", "small"}
        self.model.paused = self.model.paused | names if paused else self.model.paused - names

    @invariant()
    def queue_and_model_agree(self) -> None:
        with self.database.read() as connection:
            assert views.check(connection) == []
            rows = {row.id: row for row in views.rows(connection)}
            activity = views.activity(connection)
        blocked = self.model.blocked()
        expected = {name: "BLOCKED" if name in blocked else row.state for name, row in self.model.rows.items()}
        assert {name: row.state for name, row in rows.items()} == expected
        for name, row in self.model.rows.items():
            seen = rows[name]
            assert (seen.attempts, seen.failures, seen.run) == (row.attempts, len(row.failed), row.run), name
            assert seen.priority == row.priority
            assert seen.blocked_by is None or self.model.rows[seen.blocked_by].state in ("FAILED", "KILLED")
        assert activity.running == sum(row.state == "RUNNING" for row in self.model.rows.values())


SETTINGS = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_random_operations_agree_with_the_model_on_sqlite(tmp_path: Path) -> None:
    database = Clocked(str(tmp_path / "model.sqlite"))
    machine = type("SqliteMachine", (QueueMachine,), {"database": database})
    run_state_machine_as_test(machine, settings=SETTINGS)
    database.close()


def test_random_operations_agree_with_the_model_on_postgresql(postgres_server: str) -> None:
    database = Clocked(postgres.database(postgres_server, f"model{secrets.token_hex(4)}"))
    machine = type("PostgresMachine", (QueueMachine,), {"database": database})
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=15))
    database.close()


@pytest.mark.long
def test_many_more_random_operations_agree_with_the_model(any_queue_name: str) -> None:
    database = Clocked(any_queue_name)
    machine = type("LongMachine", (QueueMachine,), {"database": database})
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=1000, stateful_step_count=60))
    database.close()

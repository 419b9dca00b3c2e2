# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments
"""Rare turns of the state machine, one test each: random histories (`test_queue_model`) seldom come by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from queue_support import any_queue_name, postgres_server  # noqa: F401

from superluigi.queue.database import Database
from superluigi.queue.states import Pool, TaskSpec
from superluigi.queue.store import claims, people, plan, views
from superluigi.queue.store.claims import Claim, Result
from superluigi.queue.tables import tasks

UPPER = TaskSpec("Upper", "Upper", "m", "{}")
LOWER = TaskSpec("Lower", "Lower", "m", "{}", deps=("Upper",), max_failures=2, retry_delay=30.0)


@pytest.fixture
def database(any_queue_name: str) -> Iterator[Database]:
    database = Database(any_queue_name)
    with database.write() as connection:
        people.save_pools(connection, {"default": Pool()})
    yield database
    database.close()


def _submit(database: Database, *specs: TaskSpec, run: str = "run") -> None:
    with database.write() as connection:
        plan.add_run(connection, run, 0.0, "{}")
        plan.add(connection, specs, run)


def _claim(database: Database, worker: str = "one", now: float = 0.0) -> Claim:
    with database.write(flush=False) as connection:
        claim = claims.claim(connection, worker, "default", now, 60.0)
    assert claim is not None
    return claim


def _finish(database: Database, claim: Claim, kind: str, now: float = 0.0) -> bool:
    with database.write(flush=False) as connection:
        return claims.finish(connection, claim, Result(kind), now)


def _states(database: Database) -> dict[str, str]:
    with database.read() as connection:
        assert views.check(connection) == []
        return {row.id: row.state for row in views.rows(connection)}


def test_a_delayed_task_stays_so_when_a_requirement_is_made_again(database: Database) -> None:
    _submit(database, UPPER, LOWER)
    _finish(database, _claim(database), "succeeded")
    _finish(database, _claim(database), "failed")
    assert _states(database) == {"Upper": "SUCCEEDED", "Lower": "WAITING"}
    _submit(database, UPPER, LOWER, run="again")  # its output has gone
    _finish(database, _claim(database, now=1.0), "succeeded", now=1.0)
    assert _states(database) == {"Upper": "SUCCEEDED", "Lower": "WAITING"}
    with database.write() as connection:
        claims.sweep(connection, 31.0)
    assert _states(database)["Lower"] == "PENDING"


@pytest.mark.parametrize(
    ("kind", "state"),
    [("failed", "KILLED"), ("requeued", "KILLED"), ("missing", "KILLED"), ("killed", "KILLED"),
     ("succeeded", "SUCCEEDED"), ("complete", "SUCCEEDED")],
)  # fmt: skip
def test_what_ends_by_itself_before_a_kill_reaches_it(database: Database, kind: str, state: str) -> None:
    _submit(database, UPPER, LOWER)
    claim = _claim(database)
    with database.write() as connection:
        plan.kill(connection, [(claim.row, "RUNNING")], 0.0)
    assert _finish(database, claim, kind)
    assert _states(database)["Upper"] == state


def test_a_task_that_was_forced_while_it_ran_runs_once_more(database: Database) -> None:
    _submit(database, UPPER)
    claim = _claim(database)
    _submit(database, replace(UPPER, forced=True), run="forced")
    _finish(database, claim, "succeeded")
    assert _states(database) == {"Upper": "PENDING"}
    again = _claim(database)
    assert again.run == "forced"
    _finish(database, again, "succeeded")
    assert _states(database) == {"Upper": "SUCCEEDED"}


def test_a_claim_that_a_power_cut_took_back_is_void_although_the_next_has_its_number(database: Database) -> None:
    _submit(database, UPPER)
    lost = _claim(database, "one")
    with database.write() as connection:
        connection.execute(tasks.update().values(state="PENDING", fence=0, attempts=0, lease=None, worker=None))
    held = _claim(database, "two")
    assert held.fence == lost.fence
    with database.write() as connection:
        assert claims.status(connection, lost) == claims.renew(connection, lost, 60.0) == "lost"
    assert not _finish(database, lost, "failed")
    assert _finish(database, held, "succeeded")


@pytest.mark.parametrize(("window", "state"), [(None, "FAILED"), (50.0, "WAITING")])
def test_failures_long_ago_do_not_count_where_a_window_says_so(
    database: Database, window: float | None, state: str
) -> None:  # fmt: skip
    _submit(database, replace(UPPER, max_failures=2, retry_delay=1.0, retry_window=window))
    _finish(database, _claim(database), "failed")
    with database.write() as connection:
        claims.sweep(connection, 100.0)
    _finish(database, _claim(database, now=100.0), "failed", now=100.0)
    assert _states(database) == {"Upper": state}


def test_a_failure_long_after_the_first_is_the_last_where_a_deadline_says_so(database: Database) -> None:
    _submit(database, replace(UPPER, max_failures=9, retry_deadline=50.0))
    for now, state in ((0.0, "PENDING"), (49.0, "PENDING"), (50.0, "FAILED")):
        _finish(database, _claim(database, now=now), "failed", now=now)
        assert _states(database) == {"Upper": state}

"""Rare turns of the state machine, one test each: random histories (`test_queue_model`) seldom come by them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace

import postgres_support as postgres
import pytest

from superluigi.queue.models import Pool, Result, TaskSpec
from superluigi.queue.store import claims, finish_and_claim, registry, submit, views
from superluigi.queue.store.claims import Claim
from superluigi.queue.store.database import Database
from superluigi.queue.store.tables import tasks

UPPER = TaskSpec("Upper", "Upper", "m", "{}")
LOWER = TaskSpec("Lower", "Lower", "m", "{}", deps=("Upper",), max_failures=2, retry_delay=30.0)


@pytest.fixture
def database(any_queue_name: str) -> Iterator[Database]:
    database = Database(any_queue_name)
    with database.write() as connection:
        registry.save_pools(connection, {"default": Pool()})
    yield database
    database.close()


def _submit(database: Database, *specs: TaskSpec, run: str = "run") -> None:
    with database.write() as connection:
        submit.add_run(connection, run, 0.0, "{}")
        submit.add(connection, specs, run)


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
        submit.kill(connection, [(claim.row, "RUNNING")], 0.0)
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
    assert held.fencing_token == lost.fencing_token
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


def _take(database: Database, outcome: tuple[Claim, Result] | None = None, pool: str | None = "default") -> str | None:
    """What a worker gets that tells of `outcome` and asks for the next task."""
    counts, claim = finish_and_claim.finish_and_claim(database, outcome, "one", pool, 60.0, 60.0)
    assert counts
    return claim.task_id if claim is not None else None


def _running(database: Database) -> Claim:
    with database.read() as connection:
        row = connection.execute(tasks.select().where(tasks.c.state == "RUNNING")).one()
    return Claim(row.id, row.task_id, "", "", "", None, "", row.fence, row.attempts, None, None, row.worker, 0.0, 0.0)


def _turn(database: Database, kind: str, pool: str = "default") -> str | None:
    """End the only running task, and take the next one."""
    return _take(database, (_running(database), Result(kind)), pool)


def test_a_pool_gives_as_many_tasks_as_it_may_run_and_none_while_paused(database: Database) -> None:
    with database.write() as connection:
        registry.save_pools(connection, {"two": Pool(2), "other": Pool()})
    _submit(database, *[TaskSpec(f"T{n}", "T", "m", "{}", pool="two") for n in range(4)])
    assert [_take(database, pool=pool) for pool in ("default", "other", "two", "two", "two")] == [
        None, None, "T0", "T1", None,
    ]  # fmt: skip
    with database.write() as connection:
        registry.set_paused(connection, "two", True)
        submit.kill(connection, submit.select_rows(connection, ids=["T3"], state=None, name=None), 0.0)
        connection.execute(tasks.update().where(tasks.c.task_id == "T1").values(state="SUCCEEDED", lease=None))
    assert _turn(database, "succeeded", "two") is None
    with database.write() as connection:
        registry.set_paused(connection, "two", False)
        submit.retry(connection, submit.select_rows(connection, ids=["T3"], state=None, name=None))
    assert [_take(database, pool="two"), _take(database, pool="two"), _take(database, pool="two")] == [
        "T2", "T3", None,
    ]  # fmt: skip


def test_the_most_urgent_is_next_whatever_it_needs_and_the_oldest_of_equals(database: Database) -> None:
    needs = [{}, {"gun": 1.0}, {"horse": 1.0}, {"gun": 1.0}, {}]
    _submit(database, *[
        TaskSpec(f"T{n}", "T", "m", "{}", resources=need, priority=priority)
        for n, (need, priority) in enumerate(zip(needs, (0.0, 1.0, 2.0, 3.0, 2.0), strict=True))
    ])  # fmt: skip
    assert _take(database) == "T3"
    # T1 needs the gun that T3 has
    assert [_take(database), _take(database), _take(database), _take(database)] == ["T2", "T4", "T0", None]
    with database.write() as connection:
        connection.execute(tasks.update().where(tasks.c.task_id != "T3").where(tasks.c.state == "RUNNING")
                           .values(state="SUCCEEDED", lease=None))  # fmt: skip
    assert _turn(database, "complete") == "T1"


def test_a_turn_releases_what_waited_for_the_task_that_it_ends_and_takes_it(database: Database) -> None:
    _submit(database, UPPER, LOWER)
    assert _take(database) == "Upper"
    assert _turn(database, "requeued") == "Upper"
    assert _turn(database, "succeeded") == "Lower"
    assert _turn(database, "failed") is None
    assert _states(database) == {"Upper": "SUCCEEDED", "Lower": "WAITING"}
    with database.read() as connection:
        told = [[row.outcome for row in views.attempts(connection, name)] for name in ("Upper", "Lower")]
    assert told == [["REQUEUED", "SUCCEEDED"], ["FAILED"]]


def test_what_was_complete_already_is_no_attempt_and_nothing_but_failures_counts_as_one(database: Database) -> None:
    _submit(database, UPPER, LOWER)
    assert _take(database) == "Upper"
    assert _turn(database, "complete") == "Lower"
    assert _turn(database, "succeeded") is None
    with database.read() as connection:
        rows = [(row.id, row.attempts, row.failures) for row in views.rows(connection)]
        kept = [[row.outcome for row in views.attempts(connection, name)] for name in ("Upper", "Lower")]
    assert rows == [("Upper", 0, 0), ("Lower", 1, 0)]
    assert kept == [[], ["SUCCEEDED"]]


def test_whoever_lost_the_lease_is_told_so_and_goes_on_with_the_next_task(database: Database) -> None:
    _submit(database, UPPER, replace(UPPER, task_id="Other"))
    lost = _claim(database)
    with database.write() as connection:
        claims.sweep(connection, 61.0)
    assert _claim(database, "two").task_id == "Upper"
    counts, claim = finish_and_claim.finish_and_claim(
        database, (lost, Result("succeeded")), "one", "default", 60.0, 60.0
    )
    assert not counts
    assert claim is not None and claim.task_id == "Other"
    assert _states(database) == {"Upper": "RUNNING", "Other": "RUNNING"}


def test_a_turn_waits_for_whoever_writes_and_sees_what_he_wrote(database: Database) -> None:
    _submit(database, UPPER, replace(UPPER, task_id="Other"))
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(_take(database)))
    with database.write() as connection:
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        submit.kill(connection, submit.select_rows(connection, ids=["Upper"], state=None, name=None), 0.0)
    thread.join()
    assert taken == ["Other"]


def test_a_running_task_that_is_to_be_killed_is_told_so_at_the_next_look(database: Database) -> None:
    _submit(database, UPPER)
    claim = _claim(database)
    with database.write() as connection:
        assert claims.status(connection, claim) == claims.renew(connection, claim, 60.0) == "held"
        submit.kill(connection, [(claim.row, "RUNNING")], 0.0)
        assert claims.status(connection, claim) == claims.renew(connection, claim, 60.0) == "kill"
    assert _states(database) == {"Upper": "RUNNING"}


def test_a_task_whose_lease_ran_out_is_given_to_another_but_not_for_ever(database: Database) -> None:
    _submit(database, UPPER)
    for loss in range(1, claims.MAX_LOSSES + 1):
        assert _states(database) == {"Upper": "PENDING"}
        now = 100.0 * loss
        lost = _claim(database, now=now)
        for later, taken_back in ((60.0, 0), (61.0, 1), (62.0, 0)):
            with database.write() as connection:
                assert claims.overdue(connection, now + later) == bool(taken_back)
                assert claims.sweep(connection, now + later) == taken_back
        assert not _finish(database, lost, "succeeded")
    assert _states(database) == {"Upper": "FAILED"}


def test_losses_count_anew_after_an_attempt_that_told_of_its_end(database: Database) -> None:
    _submit(database, replace(UPPER, max_failures=9))
    for kind in ("requeued", "failed", "requeued"):
        for _ in range(claims.MAX_LOSSES - 1):
            _claim(database)
            with database.write() as connection:
                claims.sweep(connection, 61.0)
        _finish(database, _claim(database), kind)
    assert _states(database) == {"Upper": "PENDING"}


def test_a_task_that_was_forced_while_its_worker_was_lost_runs_for_the_new_run(database: Database) -> None:
    _submit(database, UPPER)
    _claim(database)
    _submit(database, replace(UPPER, forced=True), run="forced")
    with database.write() as connection:
        claims.sweep(connection, 61.0)
    again = _claim(database)
    assert again.run == "forced"
    _finish(database, again, "succeeded")
    assert _states(database) == {"Upper": "SUCCEEDED"}


def test_retried_tasks_have_all_their_attempts_again(database: Database) -> None:
    _submit(database, replace(UPPER, max_failures=2))
    for state in ("PENDING", "FAILED"):
        _finish(database, _claim(database), "failed")
        assert _states(database) == {"Upper": state}
    with database.write() as connection:
        submit.retry(connection, submit.select_rows(connection, ids=None, state="FAILED", name=None))
    for state in ("PENDING", "FAILED"):
        _finish(database, _claim(database), "failed")
        assert _states(database) == {"Upper": state}


def test_at_every_moment_a_queue_with_work_says_so(database: Database) -> None:
    """A chain through two pools: something is pending or runs at every moment, whatever moves meanwhile."""
    with database.write() as connection:
        registry.save_pools(connection, {"other": Pool()})
    chain = [
        TaskSpec(f"T{n}", "T", "m", "{}", pool=("default", "other")[n % 2], deps=(f"T{n - 1}",) if n else ())
        for n in range(100)
    ]
    _submit(database, *chain)
    seen = []

    def work() -> None:
        for spec in chain[:-1]:  # the last one stays pending
            _take(database, pool=spec.pool)
            _take(database, (_running(database), Result("succeeded")), None)

    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        with database.read() as connection:
            seen.append(views.activity(connection))
    assert seen
    assert not [activity for activity in seen if activity.settled]


def test_a_role_that_may_not_have_functions_of_its_own_works_with_more_round_trips(postgres_server: str) -> None:
    import psycopg

    name = f"poor{secrets.token_hex(4)}"
    url = postgres.database(postgres_server, name)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE ROLE "{name}" LOGIN')
        server.execute(f'REVOKE TEMP ON DATABASE "{name}" FROM PUBLIC')
        server.execute(f'GRANT ALL ON SCHEMA public TO "{name}"')
    database = Database(url.replace("queue@", f"{name}@"))
    with database.write() as connection:
        registry.save_pools(connection, {"default": Pool()})
    _submit(database, UPPER, LOWER)
    assert [_take(database), _turn(database, "succeeded"), _turn(database, "succeeded")] == ["Upper", "Lower", None]
    assert set(_states(database).values()) == {"SUCCEEDED"}
    database.close()

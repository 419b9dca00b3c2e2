"""Who looks at a queue hears of each attempt that has failed, however many there were since the last look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from superluigi.queue.feed import FailureFeed
from superluigi.queue.models import Pool, Result, TaskSpec
from superluigi.queue.store import claims, registry, submit
from superluigi.queue.store.database import Database

TASK = TaskSpec("Load_7", "Load", "m", '{"n": "7"}', max_failures=3)
Said = Callable[[], list[str]]


@pytest.fixture
def database(any_queue_name: str) -> Iterator[Database]:
    database = Database(any_queue_name)
    with database.write() as connection:
        registry.save_pools(connection, {"default": Pool()})
        submit.add_run(connection, "run", 0.0, "{}")
        submit.add(connection, [TASK], "run")
    yield database
    database.close()


@pytest.fixture
def said(database: Database, caplog: pytest.LogCaptureFixture) -> Said:
    """First lines of what is new."""
    feed = FailureFeed(database)

    def look() -> list[str]:
        caplog.clear()
        feed.tell(at_once=True)
        return [message.splitlines()[0] for message in caplog.messages]

    return look


def _attempt(database: Database, error: str | None, now: float = 1.0) -> None:
    """One attempt, which ends with `error`, if any."""
    with database.write() as connection:
        claim = claims.claim(connection, "one", "default", now, 60.0)
        assert claim is not None
        claims.finish(connection, claim, Result("failed" if error else "succeeded", error), now)


def _lost(database: Database, now: float = 1.0) -> None:
    """One attempt, whose worker is lost."""
    with database.write() as connection:
        assert claims.claim(connection, "one", "default", now, 60.0) is not None
        assert claims.sweep(connection, now, ["one"]) == 1


def test_two_failures_between_two_looks_are_told_each_with_its_error(database: Database, said: Said) -> None:
    _attempt(database, "ValueError: first")
    _attempt(database, "KeyError: 'second'", now=0.5)  # the clock was put back
    again = "Load(n=7) failed, and will be tried again: "
    assert sorted(said()) == [f"{again}KeyError: 'second'", f"{again}ValueError: first"]
    _attempt(database, "OSError: third")
    assert said() == ["Load(n=7) failed: OSError: third"]
    assert said() == []


def test_a_failure_that_a_success_follows_at_once_is_told(database: Database, said: Said) -> None:
    _attempt(database, "ValueError: first")
    _attempt(database, None)
    assert said() == ["Load(n=7) failed, and will be tried again: ValueError: first"]


def test_a_task_that_is_given_up_since_its_workers_are_lost_is_told_after_its_own_failure(
    database: Database, said: Said
) -> None:
    _attempt(database, "ValueError: first")
    assert len(said()) == 1
    for _ in range(claims.MAX_LOSSES):
        _lost(database)
    told = said()
    assert len(told) == 1 and told[0].startswith("Load(n=7) failed: ") and "one was lost" in told[0]


def test_what_failed_before_the_first_look_or_before_a_retry_is_no_news(database: Database, said: Said) -> None:
    for number in range(TASK.max_failures):
        _attempt(database, f"ValueError: {number}")
    assert len(said()) == TASK.max_failures
    late = FailureFeed(database)
    with database.write() as connection:
        submit.retry(connection, [(1, "FAILED")])
    _attempt(database, "ValueError: after")
    assert said() == ["Load(n=7) failed, and will be tried again: ValueError: after"]
    assert [fence for _, fence in late._found()] == [TASK.max_failures + 1]


def test_failures_of_many_tasks_are_told_in_the_order_in_which_they_happened(database: Database, said: Said) -> None:
    specs = [replace(TASK, task_id=f"Load_{n}", params=f'{{"n": "{n}"}}', max_failures=1) for n in (1, 2, 3)]
    with database.write() as connection:
        submit.add(connection, specs, "run")
    for number in range(4):
        _attempt(database, f"ValueError: {number}", now=10.0 - number)
    assert [line.rpartition(" ")[2] for line in said()] == ["3", "2", "1", "0"]

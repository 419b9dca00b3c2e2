"""Numbers that limit, and texts that are kept, in a queue: what cannot be meant is refused, nothing ends a worker."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi import cli
from superluigi.arguments import Amount, Finite, Seconds, guarded
from superluigi.errors import (
    DefinitionError,
    OptionError,
    ParameterError,
    QueueError,
    QueueGoneError,
    QueueUnreachableError,
)
from superluigi.queue import Pool, Queue
from superluigi.queue.models import duration
from superluigi.queue.store import claims, views
from superluigi.queue.web import QueueScheduler
from superluigi.queue.workers.attempt_runner import QueueAttemptRunner
from superluigi.scheduler.limits import Limits

Project = Callable[[str], ModuleType]
NO_TIMES = [-1, -0.001, math.nan, np.float64("nan"), np.float32(-2), True, "5", timedelta(microseconds=-1)]


@guarded
def _measured(
    seconds: Seconds = 0.0, amount: Amount = 0.0, finite: Finite = 0.0, plain: float = 0.0
) -> dict[str, float]:
    return {"seconds": seconds, "amount": amount, "finite": finite, "plain": plain}


@given(st.sampled_from(["seconds", "amount", "finite", "plain"]), st.floats() | st.integers())
def test_no_number_of_an_argument_is_nan_and_each_kind_has_its_range(name: str, value: float) -> None:
    fits = {
        "seconds": value >= 0, "amount": 0 <= value < math.inf, "finite": -math.inf < value < math.inf,
        "plain": value == value,
    }[name]  # fmt: skip
    for given_ in (value, np.float64(value)) if isinstance(value, float) else (value,):
        if fits:
            assert _measured(**{name: given_})[name] == value
        else:
            with pytest.raises(OptionError, match=name):
                _measured(**{name: given_})


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
def test_a_time_of_a_queue_is_not_negative_and_a_number(queue_name: str, value: Any) -> None:
    with Queue(queue_name) as queue:
        with pytest.raises(OptionError, match="timeout"):
            queue.wait(timeout=value)
        for name in ("lease", "recheck"):
            with pytest.raises(OptionError, match=name):
                Queue(queue_name, **{name: value})
        with pytest.raises(OptionError, match="idle"):
            queue.work(idle=value)
        with pytest.raises(OptionError, match="older_than"):
            queue.prune(older_than=value)


def test_a_time_may_be_zero_of_any_kind_or_endless(queue_name: str) -> None:
    with Queue(queue_name, lease=timedelta.max, recheck=timedelta(0)) as queue:
        for timeout in (0, 0.0, np.int64(3), timedelta(0), math.inf, timedelta.max, None):
            assert sum(queue.wait(timeout=timeout).values()) == 0
        assert queue.work(idle=timedelta.max, max_tasks=0) == 0


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "3", None, True], ids=repr)
def test_resources_are_amounts(queue_name: str, value: Any) -> None:
    with pytest.raises(OptionError, match="resources"):
        Queue(queue_name, resources={"licences": value})
    Queue(queue_name, resources={"licences": np.float32(0.5), "seats": np.int64(2)}).close()


def test_a_pool_takes_what_it_can_pass_on(any_queue_name: str) -> None:
    for wrong in (
        {"environment": {"A=": "1"}}, {"environment": {"": "1"}}, {"environment": {"A": "b\0"}},
        {"environment": {"A": None}}, {"environment": {"A": "\ud800"}}, {"prefix": 'nice "'}, {"prefix": "a\0"},
        {"options": {"mem": object()}}, {"max_workers": 2**31}, {"walltime": "9" * 400 + "h"}, {"walltime": 90},
    ):  # fmt: skip
        with pytest.raises(OptionError):
            Pool(**wrong)  # type: ignore[arg-type]
    for name in ("", "-x", "../x", "a/b", "a\nb", "a\0", "\udc80", "x" * 101):
        with pytest.raises(OptionError, match="pools"):
            Queue(any_queue_name, {name: Pool()})
    pool = Pool(
        np.int64(3),
        environment={"A": 1, "B": Path("b")},
        options={"ntasks": np.int64(2), "chdir": Path("c")},  # type: ignore[arg-type]
    )
    with Queue(any_queue_name, {"big gpu": pool}) as queue:
        found = queue.pools["big gpu"]
    assert found == pool == Pool(3, environment={"A": "1", "B": "b"}, options={"ntasks": 2, "chdir": "c"})


def test_a_walltime_that_is_longer_than_any_time_is_refused() -> None:
    for text in ("9" * 400 + "h", "1" + "0" * 30 + "d", "9999999999-00:00"):
        with pytest.raises(OptionError, match="longer than any time"):
            duration(text)


@pytest.mark.parametrize("count", [np.int64(1), np.int8(0), np.uint64(3), 2, 0], ids=repr)
def test_a_rate_limit_is_any_whole_number(count: int) -> None:
    limits = Limits.parse({"x": count})
    assert limits.at_once == {"x": int(count)}
    assert type(limits.at_once["x"]) is int


@pytest.mark.parametrize("count", [np.int64(-1), -1, True, np.bool_(True), 1.0, np.float64(2), math.nan], ids=repr)
def test_a_rate_limit_that_is_no_count_is_refused(count: Any) -> None:
    with pytest.raises(OptionError, match="rate_limits"):
        Limits.parse({"x": count})


TERMS = """
    class Odd(luigi.Task):
        kind = luigi.Parameter()

        def complete(self):
            return self.kind.startswith("done")

    def _set(name, value):
        return type(f"Odd{name}", (Odd,), {name: value, "__module__": __name__})

    Kinds = {
        "priority": [float("nan"), "high"],
        "worker_timeout": [float("nan"), -1, "1h"],
        "retry_count": [float("nan"), -1, "3"],
        "retry_delay": [float("nan"), -0.5, "x"],
        "disable_window": [-1],
        "resources": [{"a": -1}, {"a": float("nan")}, {3: 1}, ["a"]],
    }
    Classes = [(name, _set(name, value)) for name, values in Kinds.items() for value in values]
    Endless = type("Endless", (Odd,), dict(
        priority=10**400, worker_timeout=float("inf"), retry_count=10**30, retry_delay=0, disable_window=float("inf"),
        __module__=__name__,
    ))
"""


def test_terms_that_a_task_cannot_mean_are_refused_at_submission_and_endless_ones_kept(
    any_queue_name: str, project: Project
) -> None:
    module = project(TERMS)
    with Queue(any_queue_name) as queue:
        for name, cls in module.Classes:
            with pytest.raises(DefinitionError, match=name):
                queue.submit(cls(kind="x"))
            queue.submit(cls(kind=f"done {cls} {id(cls)}"))  # nothing has to run: as any other run takes it
        assert queue.counts()["PENDING"] == 0
        queue.submit(module.Endless(kind="x"))
        (row,) = queue.tasks(state="PENDING")
        assert row.priority == math.inf
        assert queue.check() == []


@pytest.mark.parametrize(
    "words",
    [
        ["work", "--lease", "nan"], ["work", "--lease", "0"], ["spawn", "--lease", "0"], ["work", "--lease", "1e300"],
        ["work", "--idle", "-1"], ["work", "--max-tasks", "-1"], ["work", "--recheck", "inf"],
        ["spawn", "--workers", "0"], ["spawn", "--pool", "nosuch"], ["top", "--interval", "nan"],
        ["top", "--interval", "-1"], ["serve", "--port", "65536"], ["prune", "--older", "-1"],
        ["prune", "--older", "1e300"], ["prune", "--keep", "-1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_number_of_the_command_line_that_cannot_be_meant_is_no_command_line(
    queue_name: str, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Queue(queue_name).close()
    assert cli.main(["queue", words[0], queue_name, *words[1:]]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert words[-1] in said or "lease is 0:00:00" in said


@pytest.mark.parametrize(
    "words",
    [["clean", ".", "--older-than", "-5"], ["quarantine", "clear", "--older-than", "nan"],
     ["cache", "prune", "--unused-for", "-1"], ["ui", "--port", "-3"]],
    ids=" ".join,
)  # fmt: skip
def test_an_age_that_cannot_be_meant_removes_nothing(words: list[str]) -> None:
    assert cli.main(words) == 2


TELLS = r"""
    import math

    class Tells(luigi.Task):
        kind = luigi.Parameter()

        @property
        def resources(self):
            return {"a": 1}

        def complete(self):
            return os.path.exists(f"done {self.kind}")

        def run(self):
            {
                "large exit": lambda: sys.exit(10**30),
                "odd exit": lambda: sys.exit("bye \0 \udc80"),
                "nan": lambda: self.set_progress_percentage(math.nan),
                "text": lambda: self.set_progress_percentage("half"),
                "large": lambda: self.set_progress_percentage(10**400),
                "message": lambda: self.set_status_message("a\0b\udc80" + "x" * 3_000_000),
                "address": lambda: self.set_tracking_url("http://\0\ud800"),
                "less": lambda: self.decrease_running_resources({"a\0": 1, "b\udc80": 2, "a": "x"}),
                "error": lambda: int("\0 \udc80"),
                "plain": lambda: None,
            }[self.kind]()
            open(f"done {self.kind}", "w").close()

    class Name(luigi.Task):
        def complete(self):
            return os.path.exists(f"done {len(self.get_task_family())}")

        def run(self):
            open(f"done {len(self.get_task_family())}", "w").close()

    Long = type("L" * 300, (Name,), {"__module__": __name__})
"""


def test_nothing_that_a_task_tells_ends_its_worker(any_queue_name: str, project: Project) -> None:
    module = project(TELLS)
    failing = {"large exit", "odd exit", "error"}
    kinds = [*failing, "nan", "text", "large", "message", "address", "less", "plain"]
    with Queue(any_queue_name) as queue:
        queue.submit([*(module.Tells(kind=kind) for kind in kinds), module.Long()])
        assert queue.work() == len(kinds) + 1
        rows = {row.params.get("kind", "name"): row for row in queue.tasks()}
        assert {kind for kind, row in rows.items() if row.state == "FAILED"} == failing
        assert {row.state for row in rows.values()} == {"FAILED", "SUCCEEDED"}
        assert {rows[kind].progress for kind in ("nan", "text", "large")} == {None}
        assert (rows["message"].status_message or "").startswith("a\\x00b\\udc80xxx")
        assert "ValueError" in (rows["error"].error or "")
        assert all(os.path.exists(row.log) for row in rows.values() if row.log)
        assert queue.check() == []


def test_an_outcome_that_cannot_be_kept_is_told_and_the_worker_goes_on(
    any_queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = project(TELLS)
    real = claims.ended

    def ended(claim: claims.Claim, result: Any, *more: Any) -> dict[str, object]:
        kept = {} if "could not be recorded" in (result.error or "") else {"log": "\ud800"}
        return {**real(claim, result, *more), **kept}

    with Queue(any_queue_name) as queue:
        queue.submit([module.Tells(kind="plain"), module.Tells(kind="nan")])
        with monkeypatch.context() as patch:
            patch.setattr(claims, "ended", ended)
            assert queue.work() == 2
        rows = queue.tasks()
        assert [row.state for row in rows] == ["FAILED", "FAILED"]
        assert all("cannot keep that" in (row.error or "") for row in rows)
        queue.retry()
        queue.work()
        assert [row.state for row in queue.tasks()] == ["SUCCEEDED", "SUCCEEDED"]


@pytest.mark.parametrize(("kind", "state"), [(QueueUnreachableError, "SUCCEEDED"), (QueueError, "FAILED")])
def test_a_database_that_does_not_answer_during_an_attempt_ends_no_worker(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch, kind: type[QueueError], state: str
) -> None:
    module = project(TELLS)
    real, refused = QueueAttemptRunner.make, []

    def make(runner: QueueAttemptRunner, claim: claims.Claim) -> Any:
        if not refused:
            refused.append(claim)
            raise kind("not now")
        return real(runner, claim)

    monkeypatch.setattr(QueueAttemptRunner, "make", make)
    with Queue(queue_name) as queue:
        queue.submit(module.Tells(kind="plain"))
        queue.work()
        (row,) = queue.tasks()
        assert row.state == state
        assert queue.attempts(row.id)[0].outcome == ("REQUEUED" if state == "SUCCEEDED" else "FAILED")


@contextlib.contextmanager
def changed_by_hand(queue_name: str, module: ModuleType, statement: str) -> Iterator[Queue]:
    """A queue with one task, and a statement of SQL that changed it since."""
    with Queue(queue_name) as queue:
        queue.submit(module.Tells(kind="plain"))
        with contextlib.closing(sqlite3.connect(queue_name)) as connection, connection:
            connection.execute(statement)
        yield queue


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE superluigi_runs SET definition = 'odd'", "UPDATE superluigi_runs SET definition = '[]'",
        "DELETE FROM superluigi_runs", "UPDATE superluigi_tasks SET params = '[1]'",
        "UPDATE superluigi_tasks SET code = 'gone'", "UPDATE superluigi_tasks SET timeout = 'odd'",
        "UPDATE superluigi_tasks SET max_failures = 'odd', module = 'no.such'",
        "UPDATE superluigi_tasks SET name = x'ff00'", "UPDATE superluigi_tasks SET tags = '-1'",
    ],
)  # fmt: skip
def test_a_damaged_row_fails_its_task_and_no_worker(queue_name: str, project: Project, damage: str) -> None:
    with changed_by_hand(queue_name, project(TELLS), damage) as queue:
        assert queue.work() == 1
        assert queue.counts()["FAILED"] == 1
        with contextlib.suppress(QueueError):  # else it can be shown
            (row,) = queue.tasks()
            row.as_json()
            with contextlib.suppress(ParameterError):
                row.task()


@pytest.mark.parametrize("lease", ["NULL", "'odd'"])
def test_a_task_that_nobody_runs_any_more_is_taken_back_whatever_its_row_says(
    queue_name: str, project: Project, lease: str
) -> None:
    taken = f"UPDATE superluigi_tasks SET state = 'RUNNING', lease = {lease}"
    with changed_by_hand(queue_name, project(TELLS), taken) as queue:
        assert queue.work() == 1
        assert queue.counts()["SUCCEEDED"] == 1
        queue.delete()


@pytest.mark.parametrize(
    "damage", ["state = 'odd'", "task_id = x'ff00'", "tags = '[1]'", "ended = 'odd'", "params = '{\"kind\": 3}'"]
)
def test_a_row_of_another_shape_is_told_as_damaged_wherever_it_is_shown(
    queue_name: str, project: Project, damage: str
) -> None:
    with changed_by_hand(queue_name, project(TELLS), f"UPDATE superluigi_tasks SET {damage}") as queue:
        page = QueueScheduler(queue)
        for look in (queue.tasks, page.task_list, page.graph, lambda: queue.report(0.0)):
            with pytest.raises(QueueError, match="damaged"):
                look()


@pytest.mark.parametrize("days", ["1e300", "0", "1e-300"])
def test_a_manager_forgets_by_any_number_of_days(
    queue_name: str, project: Project, monkeypatch: pytest.MonkeyPatch, days: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUEUE_KEEP_DAYS", days)
    with Queue(queue_name) as queue:
        queue.spawn(1)


def test_the_error_of_a_task_is_told_whatever_its_parameters_are(queue_name: str, project: Project) -> None:
    module = project("""
        from typing import Any
        from superluigi.parameters import Param
        from superluigi.tasks import Task

        class Raises(Task):
            value: Param[Any] = None

            def run(self):
                raise ValueError("its own")
    """)
    values = ["\ud800", "\udc80", "\0", '"""', "\\", "\r\n", "x" * 100_000]
    with Queue(queue_name) as queue:
        queue.submit([module.Raises(value=value) for value in values])
        assert queue.work() == len(values)
        assert all("ValueError: its own" in (row.error or "") for row in queue.tasks())


def test_an_idle_worker_outlives_a_database_that_is_restarted(queue_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = views.activity, []

    def activity(connection: Any) -> views.Activity:
        asked.append(connection)
        if len(asked) < 3:
            raise QueueUnreachableError("restarted")
        return real(connection)

    with Queue(queue_name) as queue:
        monkeypatch.setattr(views, "activity", activity)
        assert queue.work() == 0
        assert len(asked) == 3


def test_who_looks_for_a_queue_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(QueueGoneError):
        Queue(str(tmp_path / "no" / "such" / "x.sqlite"), create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_that_may_not_be_looked_into_is_told_as_that(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    Queue(str(folder / "q.sqlite")).close()
    folder.chmod(mode)
    try:
        if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            with pytest.MonkeyPatch.context() as patch:  # root may look into any
                patch.setattr(Path, "exists", _refused)
                patch.setattr(os, "open", _refused)
                _expect_refusal(folder)
        else:
            _expect_refusal(folder)
    finally:
        folder.chmod(0o700)


def _refused(path: object, *_: object) -> Any:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def _expect_refusal(folder: Path) -> None:
    for name in ("q.sqlite", "other.sqlite"):
        with pytest.raises(QueueError) as raised:
            Queue(str(folder / name), create=False)
        assert "no queue" not in str(raised.value) or name == "other.sqlite"


def test_text_that_no_database_takes_is_refused_in_words(any_queue_name: str) -> None:
    with Queue(any_queue_name) as queue, pytest.raises(QueueError, match="cannot keep that"):
        queue.tasks("\ud800")


def test_a_damaged_row_that_a_page_gives_a_fresh_start_is_told_and_a_forgotten_one_is_nothing(
    queue_name: str, project: Project
) -> None:
    with changed_by_hand(queue_name, project(TELLS), "UPDATE superluigi_tasks SET tags = '[1]'") as queue:
        page = QueueScheduler(queue)
        with contextlib.closing(sqlite3.connect(queue_name)) as connection:
            ((task_id,),) = connection.execute("SELECT task_id FROM superluigi_tasks").fetchall()
        with pytest.raises(QueueError, match="damaged"):
            page.re_enable_task(task_id)
        assert page.re_enable_task("Forgotten_1") == {}

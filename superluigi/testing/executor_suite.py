"""What `run_graph` promises with every executor, as tests: derive, give the executor, and pytest does the rest.

class TestMyExecutor(ExecutorSuite):
    @pytest.fixture
    def executor(self):
        with MyExecutor() as executor:
            yield executor
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.engine.engine import make_scheduler, run_graph
from superluigi.errors import TaskTimeoutError, WorkerLostError
from superluigi.runs.context import RunContext
from superluigi.runs.report import Report
from superluigi.storage import owner_token
from superluigi.testing import executor_tasks as tasks
from superluigi.testing.executor_tasks import journal


class ExecutorSuite:
    """Fixture `executor` gives what users pass as `executor=`; attributes say what it can do."""

    num_workers = 2
    #: Whether tasks run in other processes than this one.
    other_processes = True
    #: Whether a task that ends its process fails alone.
    survives_death = True
    #: Whether a task can be ended when it takes too long.
    ends_late_tasks = True

    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        return str(tmp_path)

    @pytest.fixture
    def run_it(self, executor: Any) -> Callable[..., Report]:
        def run_it(*roots: luigi.Task, **options: Any) -> Report:
            options = {"num_workers": self.num_workers, "executor": executor, **options}
            options.setdefault("scheduler_config", {"limited_retry_delay": 0.01})
            return run_graph(list(roots), options.pop("run", None), **options)

        return run_it

    def test_runs_requirements_first_and_everything_once(self, run_it: Any, folder: str) -> None:
        report = run_it(tasks.Joins(folder=folder, name="root", width=10))
        assert report.success, report.describe()
        ended = [line[1] for line in journal(folder) if line[0] == "end"]
        assert ended[-1] == "root"
        assert sorted(ended) == sorted([*(f"leaf{i}" for i in range(10)), "root"])
        assert report.counts() == {"ran": 11}

    def test_a_second_run_runs_nothing(self, run_it: Any, folder: str) -> None:
        run_it(tasks.Joins(folder=folder, name="root", width=3))
        before = journal(folder)
        report = run_it(tasks.Joins(folder=folder, name="root", width=3))
        assert report.success
        assert report.counts() == {"complete": 1}
        assert journal(folder) == before

    def test_never_runs_more_than_num_workers_at_once(self, run_it: Any, folder: str) -> None:
        run_it(tasks.Joins(folder=folder, name="root", width=8, seconds=0.05))
        assert _most_at_once(folder) <= self.num_workers

    def test_tasks_run_where_they_should(self, run_it: Any, folder: str) -> None:
        run_it(tasks.LoggedTask(folder=folder, name="one"))
        assert (journal(folder)[0][3] != str(os.getpid())) == self.other_processes

    def test_tasks_know_the_run_they_are_part_of(self, run_it: Any, folder: str) -> None:
        run = RunContext()
        run_it(tasks.LoggedTask(folder=folder, name="one"), run=run)
        assert journal(folder)[0][4] == run.id

    def test_an_error_arrives_as_itself_and_the_rest_goes_on(self, run_it: Any, folder: str) -> None:
        root = tasks.NeedsFailing(folder=folder, name="root")
        report = run_it(root)
        (failure,) = report.failures
        assert not report.success
        assert type(failure.error) is ValueError
        assert str(failure.error) == "as asked"
        assert "in work" in failure.traceback
        assert report.blocked == {root.task_id: (failure.task_id,)}
        assert (Path(folder) / "good.txt").exists()
        assert "1 failed" in report.summary

    def test_an_error_whose_class_takes_other_arguments_than_it_keeps_arrives_whole(
        self, run_it: Any, folder: str
    ) -> None:
        (failure,) = run_it(tasks.Fails(folder=folder, name="odd", odd=True)).failures
        assert "this and that" in str(failure.error)
        assert isinstance(failure.error, tasks.OddError)

    def test_a_task_that_fails_and_then_succeeds_is_a_success(self, run_it: Any, folder: str) -> None:
        report = run_it(tasks.FailsTwice(folder=folder, name="third-time-lucky"))
        assert report.success, report.describe()
        assert report.failures == ()
        assert sum(line[0] == "begin" for line in journal(folder)) == 3

    def test_requirements_may_be_discovered_while_running(self, run_it: Any, folder: str) -> None:
        report = run_it(tasks.Discovers(folder=folder, name="root"))
        assert report.success, report.describe()
        assert (Path(folder) / "root.txt").read_text() == "1"
        assert (Path(folder) / "after-first.txt").exists()

    def test_events_come_back_to_this_process(self, run_it: Any, folder: str) -> None:
        seen: list[str] = []
        handler = luigi.Task.event_handler(luigi.Event.SUCCESS)(lambda task: seen.append(f"success {task.name}"))
        failed = luigi.Task.event_handler(luigi.Event.FAILURE)(lambda task, error: seen.append(f"failure {error}"))
        own = luigi.Task.event_handler("superluigi.testing.half")(lambda task, n: seen.append(f"{task.name} {n}"))
        try:
            run_it(tasks.Reports(folder=folder, name="one"), tasks.Fails(folder=folder, name="bad"))
        finally:
            for event, callback in (
                (luigi.Event.SUCCESS, handler),
                (luigi.Event.FAILURE, failed),
                ("superluigi.testing.half", own),
            ):
                luigi.Task.remove_event_handler(event, callback)
        assert sorted(seen) == ["failure as asked", "one 50", "success one"]

    def test_progress_and_status_reach_the_scheduler(self, run_it: Any, folder: str) -> None:
        scheduler = make_scheduler()
        task = tasks.Reports(folder=folder, name="one")
        assert run_it(task, scheduler=scheduler).success
        assert scheduler.get_task_status_message(task.task_id)["statusMessage"] == "half way"
        assert scheduler.get_task_progress_percentage(task.task_id)["progressPercentage"] == 50

    def test_messages_of_the_scheduler_reach_the_task_and_its_answer_comes_back(self, run_it: Any, folder: str) -> None:
        scheduler = make_scheduler()
        task = tasks.Listens(folder=folder, name="one")
        sent: list[str] = []

        def send() -> None:
            while not scheduler.task_list("RUNNING", ""):
                time.sleep(0.02)
            sent.append(scheduler.send_scheduler_message("teller", task.task_id, "hello")["message_id"])

        teller = threading.Thread(target=send, daemon=True)
        teller.start()
        report = run_it(task, scheduler=scheduler, worker_config={"worker_id": "teller", "ping_interval": 0.1})
        assert report.success, report.describe()
        teller.join()
        assert scheduler.get_scheduler_message_response(task.task_id, sent[0])["response"] == "heard hello"
        assert scheduler.task_list("DONE", "")[task.task_id]["tracking_url"] == "http://hello"

    def test_messages_that_come_before_an_attempt_can_hear_them_wait_for_it(self, run_it: Any, folder: str) -> None:
        task = tasks.ListensTwice(folder=folder, name="one")
        messages = iter(["when it is claimed", "while it waits for what it asked for", "when it is claimed again"])
        scheduler = make_scheduler()
        claim, ping = scheduler.get_work, scheduler.ping
        pings = threading.Condition()
        counted = [0]

        def counted_ping(**told: Any) -> Any:
            with pings:
                counted[0] += 1
                pings.notify_all()
            return ping(**told)

        def claim_and_tell(*args: Any, **options: Any) -> Any:
            claimed = claim(*args, **options)
            if claimed["task_id"] is not None:
                scheduler.send_scheduler_message("teller", task.task_id, next(messages))
                with pings:  # the second ping from now on begins when what the first one brought has been given out
                    last = counted[0] + 2
                    assert pings.wait_for(lambda: counted[0] >= last, 60)
            return claimed

        scheduler.get_work, scheduler.ping = claim_and_tell, counted_ping
        report = run_it(task, scheduler=scheduler, worker_config={"worker_id": "teller", "ping_interval": 0.01})
        assert report.success, report.describe()
        assert (Path(folder) / "one.txt").read_text() == "while it waits for what it asked for"

    def test_resources_bound_how_many_run_at_once(self, run_it: Any, folder: str) -> None:
        report = run_it(tasks.AllGreedy(folder=folder, name="root", width=4), resources={"gpu": 1})
        assert report.success
        assert _most_at_once(folder) == 1

    def test_rate_limits_bound_a_class(self, run_it: Any, folder: str) -> None:
        root = tasks.Joins(folder=folder, name="root", width=4, seconds=0.05)
        report = run_it(root, rate_limits={"Sleeps": 1})
        assert report.success
        assert _most_at_once(folder) == 1

    def test_on_error_stop_starts_nothing_new(self, run_it: Any, folder: str) -> None:
        bad = tasks.Fails(folder=folder, name="bad")
        others = [tasks.Sleeps(folder=folder, name=f"s{i}", seconds=0.1) for i in range(20)]
        report = run_it(bad, *others, on_error="stop")
        assert not report.success
        assert sum(line[0] == "begin" for line in journal(folder)) < 20
        begun, ended = ({line[1] for line in journal(folder) if line[0] == word} for word in ("begin", "end"))
        told = begun - ended - {"bad"}  # what had begun was told to end, or had ended by itself
        assert not [name for name in told if (Path(folder) / f"{name}.txt").exists()]
        assert {failure.task for failure in report.failures} == {str(bad)}

    def test_a_late_task_is_ended_with_its_children(self, run_it: Any, folder: str) -> None:
        if not self.ends_late_tasks:
            pytest.skip("this executor cannot end a call")
        report = run_it(tasks.Late(folder=folder, name="late"), tasks.LoggedTask(folder=folder, name="other"))
        (failure,) = report.failures
        assert isinstance(failure.error, TaskTimeoutError)
        assert failure.kind == "timeout"
        assert (Path(folder) / "other.txt").exists()
        (child,) = [line[1] for line in journal(folder) if line[0] == "child"]
        assert _gone(int(child))

    def test_processes_that_a_task_forks_can_be_ended_at_once(self, run_it: Any, folder: str) -> None:
        report = run_it(tasks.Forks(folder=folder, name="forks"))
        assert report.success, report.describe()

    def test_what_a_task_changes_of_its_process_is_not_there_for_the_next(self, run_it: Any, folder: str) -> None:
        here = tasks.state_of_process()
        report = run_it(tasks.LooksAfterwards(folder=folder, name="after"))
        assert report.success, report.describe()
        seen = [json.loads((Path(folder) / f"{name}.json").read_text()) for name in ("before", "after")]
        assert seen[0]["pid"] != seen[1]["pid"] or seen[0] == seen[1]
        assert tasks.state_of_process() == here

    def test_a_library_that_others_have_wrapped_stays_wrapped(
        self, run_it: Any, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = threading.Thread.start

        def wrapped(thread: threading.Thread) -> None:
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", wrapped)
        assert run_it(tasks.LoggedTask(folder=folder, name="one"), tasks.LoggedTask(folder=folder, name="two")).success
        assert threading.Thread.start is wrapped

    def test_programs_of_luigi_that_set_signal_handlers_run(self, run_it: Any, folder: str) -> None:
        report = run_it(*tasks.external_programs(folder))
        assert report.success, report.describe()

    def test_a_worker_that_imports_a_module_which_starts_a_run_refuses_that(
        self, run_it: Any, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not self.other_processes:
            pytest.skip("nothing is imported again")
        name = f"unguarded_{os.urandom(6).hex()}"
        (Path(folder) / f"{name}.py").write_text(tasks.UNGUARDED.format(name=name, main=os.getpid()))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setitem(sys.modules, name, module := importlib.import_module(name))
        report = run_it(getattr(module, name)(folder=folder, name="one"))
        assert "if __name__ == '__main__':" in report.describe()
        assert journal(folder) == []

    def test_a_task_that_ends_its_process_fails_alone(self, run_it: Any, folder: str) -> None:
        if not self.survives_death:
            pytest.skip("this executor does not survive the death of a process")
        report = run_it(tasks.SurvivesDying(folder=folder, name="root"))
        (failure,) = report.failures
        assert isinstance(failure.error, WorkerLostError)
        assert failure.kind == "lost"
        assert all((Path(folder) / f"s{i}.txt").exists() for i in range(6))


def _most_at_once(folder: str) -> int:
    """The largest number of tasks that ran at the same time, by the journal."""
    moments = sorted(
        (float(line[2]), 1 if line[0] == "begin" else -1) for line in journal(folder) if line[0] in ("begin", "end")
    )
    running = most = 0
    for _, step in moments:
        running += step
        most = max(most, running)
    return most


def _gone(pid: int) -> bool:
    """Whether a process ends within a few seconds (a zombie has ended)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not owner_token.start_time(pid):
            return True
        time.sleep(0.05)
    return False

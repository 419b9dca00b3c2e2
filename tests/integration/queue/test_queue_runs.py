"""Graphs through the durable queue, looked at from outside: rows, files, exit codes; no worker is killed here."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from queue_support import PI, ran

from superluigi import run_task
from superluigi.errors import TaskFailedError
from superluigi.queue import Pool, Queue
from superluigi.queue.run_task_adapter import run_graph
from superluigi.runs.context import RunContext

Project = Callable[[str], ModuleType]


def test_twenty_draws_on_four_workers_give_pi_and_one_more_seed_runs_three_tasks_more(
    project: Project, any_queue_name: str
) -> None:  # fmt: skip
    module = project(PI)
    queue = Queue(any_queue_name, pools={"draws": Pool(4), "default": Pool(1)})
    submitted = queue.submit(module.Echo())
    assert len(submitted.added) == 22
    assert queue.counts() == {"WAITING": 2, "PENDING": 20, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0, "KILLED": 0}
    assert not ran()

    queue.spawn(workers=4)

    assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}
    assert abs(float(Path("out/echo-20.txt").read_text()) - 3.14159) < 0.05
    (echo,) = queue.tasks(name="Echo")
    assert echo.log is not None and "pi is about" in Path(echo.log).read_text()
    assert echo.started is not None and echo.ended is not None and echo.ended >= echo.started
    assert (echo.attempts, echo.exit_code, echo.error) == (1, 0, None)
    assert all("drawing" in Path(row.log or "").read_text() for row in queue.tasks(name="Draw"))

    assert queue.submit(module.Echo()).added == ()
    queue.spawn(workers=4)
    assert len(ran()) == 22

    assert len(queue.submit(module.Echo(seeds=21)).added) == 3
    queue.spawn(workers=4)
    assert sorted(ran()[22:]) == ["average", "draw 20", "echo"]
    assert queue.check() == []
    queue.close()


def test_the_enqueueing_script_may_end_and_be_run_twice(project: Project, tmp_path: Path) -> None:
    module = project(PI)
    script = Path(f"submit_{module.__name__}.py")
    script.write_text(
        f"import {module.__name__} as pi\nfrom superluigi.queue import Pool, Queue\n"
        "queue = Queue('pi', pools={'draws': Pool(2)})\nprint(len(queue.submit(pi.Echo()).added))\n"
    )
    first, second = (
        subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert (first.stdout, second.stdout) == ("22\n", "0\n")
    os.chdir(tmp_path)  # managers start anywhere; the tasks work where they were submitted
    with Queue("pi") as queue:
        queue.spawn(workers=2)
        assert queue.counts()["SUCCEEDED"] == 22
    assert (tmp_path / "a project" / "out" / "echo-20.txt").exists()


def test_rows_are_frozen_and_give_the_task_back(project: Project, queue_name: str) -> None:
    module = project(PI)
    with Queue(queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Draw(seed=3))
        (row,) = queue.tasks()
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.state = "SUCCEEDED"  # type: ignore[misc]
        assert (row.name, row.params, row.state, row.module) == ("Draw", {"seed": "3"}, "PENDING", module.__name__)
        assert row.task() == module.Draw(seed=3)
        assert json.dumps(row.as_json())


def test_a_task_that_is_complete_meanwhile_is_not_run(project: Project, either_queue_name: str) -> None:
    module = project(PI)
    with Queue(either_queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Average(seeds=2))
        Path("out").mkdir()
        Path("out/draw-0.json").write_text("3")
        Path("out/draw-1.json").write_text("3")
        queue.work("draws")
        queue.work()
        assert ran() == ["average"]
        assert [row.attempts for row in queue.tasks()] == [0, 0, 1]


def test_an_output_that_went_away_is_made_again(project: Project, either_queue_name: str) -> None:
    module = project(PI)
    with Queue(either_queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Draw(seed=1))
        queue.work("draws")
        Path("out/draw-1.json").unlink()
        assert len(queue.submit(module.Draw(seed=1)).added) == 1
        queue.work("draws")
        assert ran() == ["draw 1", "draw 1"]


def test_forced_tasks_are_made_again_exactly_once(project: Project, either_queue_name: str) -> None:
    module = project(PI)
    with Queue(either_queue_name, pools={"draws": Pool()}) as queue:
        for options in ({}, {"force": True}, {"force_upstream": True}, {"force_upstream_to_task": module.Draw(seed=1)}):
            before = len(ran())
            queue.submit(module.Echo(seeds=2), **options)
            queue.spawn(workers=2)
            made = sorted(ran()[before:])
            expected = {
                "force": ["echo"],
                "force_upstream_to_task": ["average", "draw 1", "echo"],
            }.get(next(iter(options), ""), ["average", "draw 0", "draw 1", "echo"])
            assert made == expected, options
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}


YIELDS = """
    class Part(luigi.Task):
        name = luigi.Parameter()

        def output(self):
            return luigi.LocalTarget(f"part-{self.name}")

        def run(self):
            with self.output().open("w") as file:
                file.write(self.name)

    class Signed(Part):
        by = luigi.Parameter()

        def run(self):
            with self.output().open("w") as file:
                file.write(self.name + self.by)

    class Whole(luigi.Task):
        def output(self):
            return luigi.LocalTarget("whole")

        def run(self):
            parts = yield [Part(name="a"), Part(name="b")]
            more = yield Signed(name="c", by="d")
            with self.output().open("w") as file:
                file.write("".join(part.open().read() for part in [*parts, more]))

    class Round(luigi.Task):
        def output(self):
            return luigi.LocalTarget("round")

        def run(self):
            yield Back()

    class Back(luigi.Task):
        def requires(self):
            return Round()

        def output(self):
            return luigi.LocalTarget("back")
"""


def test_yielded_requirements_become_rows_and_a_circle_is_refused(project: Project, any_queue_name: str) -> None:
    module = project(YIELDS)
    with Queue(any_queue_name) as queue:
        queue.submit([module.Whole(), module.Back()])
        queue.spawn(workers=2)
        assert Path("whole").read_text() == "abcd"
        assert queue.tasks(name="Whole")[0].attempts == 1
        (round_,) = queue.tasks(name="Round")
        assert round_.state == "FAILED" and "cycle" in (round_.error or "")
        assert queue.check() == []


def test_missing_external_data_is_looked_for_again_later(project: Project, either_queue_name: str) -> None:
    module = project("""
        class Data(luigi.ExternalTask):
            def output(self):
                return luigi.LocalTarget("data.csv")

        class Uses(luigi.Task):
            def requires(self):
                return Data()

            def output(self):
                return luigi.LocalTarget("used")

            def run(self):
                self.output().open("w").close()
    """)
    with Queue(either_queue_name, recheck=timedelta(seconds=0)) as queue:
        queue.submit(module.Uses())
        queue.work(max_tasks=3)
        (data,) = queue.tasks(name="Data")
        assert data.state in ("WAITING", "PENDING") and "not there yet: data.csv" in (data.error or "")
        Path("data.csv").write_text("1,2")
        queue.work(idle=timedelta(seconds=2))
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}


def test_priorities_and_resources_count_over_all_workers(project: Project, either_queue_name: str) -> None:
    module = project("""
        class Tool(luigi.Task):
            number = luigi.IntParameter()
            resources = {"hammer": 1}

            @property
            def priority(self):
                return self.number

            def run(self):
                with open("log", "a") as log:
                    log.write(f"begin {self.number}\\n")
                time.sleep(0.02)
                with open("log", "a") as log:
                    log.write(f"end {self.number}\\n")
    """)
    with Queue(either_queue_name) as queue:
        queue.submit([module.Tool(number=number) for number in range(6)])
        queue.spawn(workers=3)
        lines = Path("log").read_text().splitlines()
        assert lines == [f"{word} {number}" for number in reversed(range(6)) for word in ("begin", "end")]


def test_pools_carry_environment_and_prefix(project: Project, tmp_path: Path) -> None:
    module = project("""
        class Where(luigi.Task):
            pool = luigi.Parameter()

            def output(self):
                return luigi.LocalTarget(f"where-{self.pool}")

            def run(self):
                with self.output().open("w") as file:
                    json.dump([os.environ.get("COLOUR"), os.environ.get("PREFIXED"), bool(os.environ["PATH"])], file)
    """)
    prefix = tmp_path / "a prefix"
    prefix.write_text('#!/bin/sh\nPREFIXED=yes exec "$@"\n')
    prefix.chmod(0o755)
    odd = "a=b\n'c\" d"
    pools = {
        "plain": Pool(),
        "odd": Pool(environment={"COLOUR": odd}, prefix=f"'{prefix}'"),
        "broken": Pool(prefix="/no/such/command"),
    }
    with Queue("surroundings", pools=pools) as queue:
        queue.submit([module.Where(pool=name) for name in pools])
        queue.spawn(workers=1)
        assert json.loads(Path("where-plain").read_text()) == [None, None, True]
        assert json.loads(Path("where-odd").read_text()) == [odd, "yes", True]
        (broken,) = queue.tasks(state="FAILED")
        assert broken.exit_code == 127 and "/no/such/command" in (broken.error or "")
        assert "COLOUR" not in os.environ


def test_a_run_through_a_queue_reports_like_a_run_without_one(project: Project, either_queue_name: str) -> None:
    module = project(PI)
    queue = Queue(either_queue_name, pools={"draws": Pool()})
    with queue:
        report = run_graph(module.Echo(seeds=3), RunContext(), queue, num_workers=2)
        assert report.success and len(report.made) == 5
        assert "5 ran successfully" in report.summary and ":)" in report.summary
        again = run_graph(module.Echo(seeds=3), RunContext(), queue, num_workers=2)
        assert again.success and again.made == () and "1 complete ones were encountered" in again.summary


def test_a_failed_run_through_a_queue_names_failures_and_missing_inputs(
    project: Project, either_queue_name: str
) -> None:
    module = project("""
        class Data(luigi.ExternalTask):
            def output(self):
                return luigi.LocalTarget("data.csv")

        class Bad(luigi.Task):
            def run(self):
                raise ValueError("boom")

        class Top(luigi.Task):
            def requires(self):
                return [Data(), Bad()]
    """)
    with Queue(either_queue_name) as queue:
        report = run_graph(module.Top(), RunContext(), queue, num_workers=1)
        assert not report.success
        assert {(failure.kind, failure.task_id) for failure in report.failures} == {
            ("failed", module.Bad().task_id),
            ("missing", module.Data().task_id),
        }
        assert "boom" in str(report.failures[0].error)
        assert module.Top().task_id in report.blocked
        assert "1 failed" in report.summary and "missing external" in report.summary


def test_two_thousand_tasks_leave_exactly_two_thousand_lines(project: Project) -> None:
    module = project(LINES)
    with Queue("lines") as queue:
        queue.submit(module.Lines(number=2000))
        queue.spawn(workers=6)
        lines = Path("lines.log").read_text().splitlines()
        assert len(lines) == 2000 and len(set(lines)) == 2000
        assert queue.counts()["SUCCEEDED"] == 2001


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_thousand_tasks_leave_two_thousand_lines_ten_times_over(project: Project) -> None:
    module = project(LINES)
    for repetition in range(10):
        Path("lines.log").unlink(missing_ok=True)
        with Queue(f"lines-{repetition}") as queue:
            queue.submit(module.Lines(number=2000))
            queue.spawn(workers=6)
            lines = Path("lines.log").read_text().splitlines()
            assert len(lines) == 2000 and len(set(lines)) == 2000


LINES = """
    class Line(luigi.Task):
        number = luigi.IntParameter()

        def run(self):
            with open("lines.log", "a") as log:
                log.write(f"{self.number}\\n")

    class Lines(luigi.Task):
        number = luigi.IntParameter()

        def requires(self):
            return [Line(number=n) for n in range(self.number)]

        def run(self):
            pass
"""


def test_luigi_events_fire_where_the_task_runs(project: Project, either_queue_name: str) -> None:
    module = project("""
        class Small(luigi.Task):
            def run(self):
                pass

        @Small.event_handler(luigi.Event.SUCCESS)
        def celebrate(task):
            pathlib.Path("celebrated").write_text(task.task_id)
    """)
    with Queue(either_queue_name) as queue:
        queue.submit(module.Small())
        queue.work()
        assert Path("celebrated").read_text() == module.Small().task_id


@pytest.mark.timeout(60)
def test_a_run_through_the_queue_within_a_task_that_asks_for_the_task_itself_says_so(
    queue_name: str, project: Project
) -> None:
    module = project("""
        from superluigi import run_task
        from superluigi.tasks import Task

        class Outer(Task):
            name = luigi.Parameter()
            def run(self):
                run_task(Between(name=self.name), queue=self.name)

        class Between(Task):
            name = luigi.Parameter()
            def requires(self):
                return Outer(name=self.name)
    """)
    with pytest.raises(TaskFailedError, match=r"Outer_\w+ is asked for by a run within its own run"):
        run_task(module.Outer(name=queue_name), queue=queue_name)

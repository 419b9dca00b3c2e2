"""What fails and what is refused through the durable queue, how it is told, and what people do about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from queue_support import PI, ran

from superluigi.errors import DefinitionError, OptionError, ParameterError, QueueTimeoutError
from superluigi.queue import Pool, Queue

Project = Callable[[str], ModuleType]

FAILURES = """
    class Fails(luigi.Task):
        retry_count = 2

        def run(self):
            print("out"); print("err", file=sys.stderr)
            raise ValueError("boom")

    class After(luigi.Task):
        def requires(self):
            return Fails()

        def run(self):
            pass

    class Exits(luigi.Task):
        def run(self):
            sys.exit(7)

    class Dies(luigi.Task):
        def run(self):
            print("last words", file=sys.stderr, flush=True)
            os._exit(9)

    class EndedByTheKernel(luigi.Task):
        def run(self):
            os.kill(os.getpid(), 9)  # as it does when memory runs out

    class NotWritten(luigi.Task):
        def output(self):
            return luigi.LocalTarget("never")

        def run(self):
            pass

    class NoCommand(luigi.Task):
        def run(self):
            import subprocess
            subprocess.run(["no-such-binary-anywhere"], check=True)

    class Disabled(luigi.Task):
        disabled, retry_count = True, 3

    class OutOfMemory(luigi.Task):
        def run(self):
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
            self.much = bytearray(2**31)

    class Unpicklable(luigi.Task):
        def run(self):
            error = RuntimeError("with a lock inside")
            import threading
            error.lock = threading.Lock()
            raise error

    class Odd(luigi.Task):
        def run(self):
            raise ValueError("nul \\0, no text \\udc80")

    class Slow(luigi.Task):
        worker_timeout = 1

        def run(self):
            time.sleep(60)

    @Slow.event_handler(luigi.Event.TIMEOUT)
    def note(task, error):
        pathlib.Path("timeout.txt").write_text(f"{task} {error}")

    ALL = [After, Exits, Dies, EndedByTheKernel, NotWritten, NoCommand, Disabled, OutOfMemory, Unpicklable, Odd, Slow]
"""


def test_every_kind_of_failure_is_told_in_its_row(project: Project, any_queue_name: str) -> None:
    module = project(FAILURES)
    with Queue(any_queue_name) as queue:
        queue.submit([cls() for cls in module.ALL])
        queue.spawn(workers=2)
        rows = {row.name: row for row in queue.tasks()}

        assert {name for name, row in rows.items() if row.state == "FAILED"} == set(rows) - {"After"}
        assert rows["After"].state == "BLOCKED" and rows["After"].blocked_by == rows["Fails"].id
        assert [row.name for row in queue.tasks(state="BLOCKED")] == ["After"]
        assert [row.name for row in queue.tasks(state="WAITING")] == ["After"]
        error = {name: row.error or "" for name, row in rows.items()}
        assert "ValueError: boom" in error["Fails"] and "Traceback" in error["Fails"]
        assert rows["Fails"].attempts == 2
        first, last = queue.attempts(rows["Fails"])
        assert (first.number, first.outcome, last.number, last.exit_code) == (1, "FAILED", 2, 1)
        assert first.host and first.worker and first.started and first.ended
        assert Path(first.stdout or "").read_text() == "out\n"
        assert "err" in Path(first.stderr or "").read_text()
        assert rows["Exits"].exit_code == 7
        assert rows["Dies"].exit_code == 9 and "last words" in error["Dies"]
        assert rows["EndedByTheKernel"].exit_code == -9
        assert "SIGKILL" in error["EndedByTheKernel"] and "memory" in error["EndedByTheKernel"]
        assert "complete() is still returning False" in error["NotWritten"]
        assert "no-such-binary-anywhere" in error["NoCommand"]
        assert "Disabled() is disabled" in error["Disabled"] and rows["Disabled"].attempts == 1
        assert "MemoryError" in error["OutOfMemory"]
        assert "with a lock inside" in error["Unpicklable"]
        assert "nul \\x00, no text \\udc80" in error["Odd"]  # what a database cannot hold is written out
        assert "timeout of 1 seconds" in error["Slow"]
        assert "Slow" in Path("timeout.txt").read_text()
        assert queue.check() == []


def test_a_module_that_cannot_be_imported_fails_its_tasks_and_nothing_else(
    project: Project, either_queue_name: str
) -> None:  # fmt: skip
    module = project(PI)
    with Queue(either_queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Average(seeds=1))
        Path(f"{module.__name__}.py").write_text("import nothing_of_that_name\n")
        queue.work("draws")
        (draw,) = queue.tasks(name="Draw")
        assert draw.state == "FAILED" and "No module named 'nothing_of_that_name'" in (draw.error or "")
        assert [row.state for row in queue.tasks(name="Average")] == ["BLOCKED"]


def test_a_chain_of_a_thousand_tasks_behind_a_failed_one_is_listed(project: Project, either_queue_name: str) -> None:
    module = project("""
        class Link(luigi.Task):
            number = luigi.IntParameter()

            def requires(self):
                return Link(number=self.number - 1) if self.number else []

            def output(self):
                return luigi.LocalTarget(f"link-{self.number}")

            def run(self):
                raise ValueError("the first link breaks")
    """)
    sys.setrecursionlimit(1000)
    with Queue(either_queue_name) as queue:
        queue.submit([module.Link(number=number) for number in range(1001)])
        queue.work()
        assert len(queue.tasks(state="BLOCKED")) == len(queue.tasks(state="WAITING")) == 1000
        first = queue.tasks(module.Link(number=0))[0]
        assert {row.blocked_by for row in queue.tasks(state="BLOCKED")} == {first.id}
        assert queue.retry(first) == 1
        assert queue.counts()["PENDING"] == 1


def test_retry_by_state_id_and_name_and_kill_that_stays(project: Project, any_queue_name: str) -> None:
    module = project("""
        class Bad(luigi.Task):
            number = luigi.IntParameter()

            def run(self):
                raise ValueError

        class Other(Bad):
            pass
    """)
    with Queue(any_queue_name) as queue:
        queue.submit([cls(number=n) for cls in (module.Bad, module.Other) for n in range(3)])
        assert queue.kill(module.Bad(number=0)) == 1
        queue.work()
        assert queue.counts() == {**dict.fromkeys(queue.counts(), 0), "FAILED": 5, "KILLED": 1}
        queue.submit([module.Bad(number=n) for n in range(3)])
        queue.work()
        assert queue.counts()["KILLED"] == 1 and queue.counts()["FAILED"] == 5
        assert queue.retry(name="Oth*") == 3
        assert queue.counts()["PENDING"] == 3
        assert queue.retry(queue.tasks(name="Bad", state="FAILED")[0].id) == 1
        assert queue.retry(state="KILLED") == 1
        assert queue.retry() == 1
        assert queue.counts()["PENDING"] == 6
        with pytest.raises(OptionError, match="kill which tasks"):
            queue.kill()
        assert queue.kill(name="*") == 6


def test_a_paused_queue_starts_nothing_and_goes_on_when_resumed(project: Project, either_queue_name: str) -> None:
    module = project(PI)
    with Queue(either_queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Average(seeds=2))
        queue.pause()
        queue.spawn(workers=1)
        assert not ran() and queue.counts()["PENDING"] == 2
        queue.resume("draws")
        queue.work("draws")
        assert sorted(ran()) == ["draw 0", "draw 1"]
        queue.resume()
        queue.spawn(workers=1)
        assert queue.wait()["SUCCEEDED"] == 3


def test_waiting_ends_with_the_timeout_that_was_given(project: Project, queue_name: str) -> None:
    module = project(PI)
    with Queue(queue_name, pools={"draws": Pool()}) as queue:
        queue.submit(module.Draw(seed=1))
        with pytest.raises(QueueTimeoutError, match="PENDING"):
            queue.wait(timeout=timedelta(milliseconds=50))


MAIN = """
import luigi, sys
from superluigi.errors import DefinitionError
from superluigi.queue import Queue

class InMain(luigi.Task):
    def output(self):
        return luigi.LocalTarget("made-in-main")

    def run(self):
        with self.output().open("w") as file:
            file.write(helper())

def helper():
    return "by value"

if __name__ == "__main__":
    queue = Queue("main")
    try:
        queue.submit(InMain())
    except DefinitionError as error:
        print(error)
    queue.submit(InMain(), by_value=True)
    queue.work()
    print(queue.tasks()[0].state)
"""


def test_tasks_of_main_are_refused_with_the_remedy_or_stored_by_value(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(MAIN)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=170
    )
    refusal, state = done.stdout.splitlines()
    assert "__main__" in refusal and "by_value=True" in refusal and "module of its own" in refusal
    assert state == "SUCCEEDED"
    assert (tmp_path / "made-in-main").read_text() == "by value"


def test_what_cannot_be_stored_is_refused_before_anything_is(project: Project, queue_name: str) -> None:
    module = project("""
        class Circle(luigi.Task):
            number = luigi.IntParameter(default=0)

            def requires(self):
                return Circle(number=1 - self.number)

        class Secret(luigi.Task):
            password = luigi.Parameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, default="")

        class Drifting(luigi.Parameter):
            def parse(self, text):
                return text + "!"

        class Loses(luigi.Task):
            value = Drifting()

        class Lost(luigi.Task):
            pool = "nowhere"
    """)
    with Queue(queue_name) as queue:
        with pytest.raises(DefinitionError, match="circle"):
            queue.submit(module.Circle())
        with pytest.raises(ParameterError, match=r"password.*private"):
            queue.submit(module.Secret(password="hunter2"))
        with pytest.raises(ParameterError, match="do not survive"):
            queue.submit(module.Loses(value=object()))
        with pytest.raises(OptionError, match="nowhere"):
            queue.submit(module.Lost())
        with pytest.raises(OptionError, match="Luigi tasks"):
            queue.submit(["Draw"])
        with pytest.raises(OptionError, match="SUCCEEDED"):
            queue.tasks(state="SUCCEDED")
        assert queue.tasks() == []

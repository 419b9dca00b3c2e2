"""Checkpoints, grace, cancellation, shared folders, seeds: looked at from other processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COUNTS = """
class Counts(Base):
    resumable = True
    until = IntParameter(default=5)
    def run(self, output_path, checkpoint_path):
        at = int(checkpoint_path.read_text()) if checkpoint_path.exists() else 0
        print("begins at", at, flush=True)
        while at < self.until:
            at += 1
            checkpoint_path.write_text(str(at))
            while at == 3 and not os.path.exists("go"):
                time.sleep(0.02)
        output_path.write_text(str(at))
"""


def test_a_killed_task_goes_on_from_its_check_point_which_success_removes(
    user: Any, eventually: Callable[..., None]
) -> None:
    user.write(COUNTS)
    run = user.start("-c", "from pipeline import *; run_task(Counts())")
    checkpoint = lambda: user.jobs("Counts") / "checkpoint"  # noqa: E731
    eventually(lambda: list((user.workspace / "jobs").glob("Counts/*/checkpoint")))
    eventually(lambda: checkpoint().read_text() == "3")
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert checkpoint().read_text() == "3"
    (user.folder / "go").touch()
    user.run("print(run_task(Counts()).read_text())")
    assert (user.jobs("Counts") / "stdout.log").read_text() == "begins at 3\n"
    assert not checkpoint().exists()


def test_a_check_point_may_be_a_folder_and_must_be_announced(user: Any) -> None:
    user.write("""
        class Folder(Base):
            resumable = True
            def run(self, output_path, checkpoint_path):
                if not checkpoint_path.exists():
                    (checkpoint_path / "part").write_text("1")
                    (checkpoint_path / "deep" ).mkdir()
                    raise ValueError("first time")
                output_path.write_text((checkpoint_path / "part").read_text())
        class Silent(Base):
            def run(self, output_path, checkpoint_path):
                output_path.write_text("x")
    """)
    user.run("run_task(Folder())", expect=1)
    assert sorted(os.listdir(user.jobs("Folder") / "checkpoint")) == ["deep", "part"]
    user.run("assert run_task(Folder()).read_text() == '1'")
    assert "does not say resumable = True" in user.run("run_task(Silent())", expect=1)


ASKS = """
class Asks(Base):
    resumable = True
    max_attempts = 4
    times = IntParameter()
    def run(self, output_path, checkpoint_path):
        at = int(checkpoint_path.read_text()) if checkpoint_path.exists() else 0
        with open(f"attempts-{self.times}", "a") as stream:
            stream.write(".")
        checkpoint_path.write_text(str(at + 1))
        if at < self.times:
            raise GracefulTimeout("one more, please")
        output_path.write_text(str(at))
"""


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_task_may_ask_for_another_attempt_but_not_for_ever(user: Any, executor: str | None) -> None:
    user.write(ASKS)
    out = user.run(f"""
        print(run_task(Asks(times=3), executor={executor!r}).read_text())
        try:
            run_task(Asks(times=6), executor={executor!r})
        except Exception as error:
            print(error)
        print(run_task(Asks(times=6), executor={executor!r}).read_text())
    """)
    assert "attempted 4 times" in out and "max_attempts is 4" in out
    assert (user.folder / "attempts-3").read_text() == "." * 4
    assert (user.folder / "attempts-6").read_text() == "." * 7  # the second run went on where the first had stopped


def test_each_attempt_has_its_whole_time_limit(user: Any) -> None:
    user.write("""
        class Slow(Base):
            resumable = True
            worker_timeout = 30
            def run(self, output_path, checkpoint_path):
                at = int(checkpoint_path.read_text()) if checkpoint_path.exists() else 0
                begin = self.remaining_time()
                assert at == 0 or 28 < begin <= 30, begin
                assert begin <= 30
                if at < 4:
                    time.sleep(1)
                    checkpoint_path.write_text(str(at + 1))
                    raise GracefulTimeout("three seconds later, and still thirty left")
                output_path.write_text(str(at))
        class Free(Base):
            def run(self, output_path):
                assert self.remaining_time() == float("inf")
                os.environ["SUPERLUIGI_DEADLINE"] = str(time.time() + 50)
                assert 40 < self.remaining_time() <= 50
                output_path.write_text("x")
    """)
    user.run("assert run_task(Slow()).read_text() == '4'; run_task(Free())")


@pytest.mark.parametrize("executor", [None, "processes"])
def test_sigterm_gives_a_resumable_task_time_to_save(
    user: Any, eventually: Callable[..., None], executor: str | None
) -> None:
    user.write("""
        class Saves(Base):
            resumable = True
            def run(self, output_path, checkpoint_path):
                Path("pid").write_text(str(os.getpid()))
                while self.remaining_time() > 100:
                    time.sleep(0.05)
                checkpoint_path.write_text(f"{self.remaining_time():.0f}")
                raise GracefulTimeout("saved")
    """)
    run = user.start(
        "-c", f"from pipeline import *; run_task(Saves(), executor={executor!r})", SUPERLUIGI_GRACE_SECONDS="60"
    )
    eventually(lambda: (user.folder / "pid").exists() and (user.folder / "pid").read_text())
    os.kill(int((user.folder / "pid").read_text()), signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert 30 < int((user.jobs("Saves") / "checkpoint").read_text()) <= 60
    assert not list((user.folder / "out").glob("*"))


def test_grace_has_an_end(user: Any, eventually: Callable[..., None]) -> None:
    user.write("""
        class Stubborn(Base):
            resumable = True
            def run(self, output_path):
                Path("pid").touch()
                try:
                    time.sleep(60)
                finally:
                    Path("cleaned").touch()
    """)
    run = user.start("-c", "from pipeline import *; run_task(Stubborn())", SUPERLUIGI_GRACE_SECONDS="0.3")
    eventually((user.folder / "pid").exists)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=30)
    assert (user.folder / "cleaned").exists()


CANCELLED = """
class Swallows(Base):
    def requires(self):
        return []
    def run(self, output_path):
        output_path.write_text("never published")
        Path("running").touch()
        try:
            while True:
                time.sleep(0.05)
        except BaseException:
            pass
        finally:
            Path("cleaned").touch()
class Stubborn(Base):
    def run(self, output_path):
        output_path.write_text("never published")
        Path("running").touch()
        while True:
            try:
                time.sleep(0.05)
            except BaseException:
                time.sleep(1)
                Path("cleaned").touch()
class After(Base):
    def requires(self):
        return Swallows()
    def run(self, output_path):
        output_path.write_text("never")
"""


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_cancelled_task_cleans_up_and_publishes_nothing_whatever_it_swallows(
    user: Any, eventually: Callable[..., None], executor: str | None
) -> None:
    user.write(CANCELLED)
    run = user.start(
        "-c",
        f"""from pipeline import *
from superluigi.engine.engine import run_graph
report = run_graph([After()], executor={executor!r}, scheduler_config=dict(retry_count=3, retry_delay=0))
print(report.outcomes[Swallows().task_id], report.outcomes[After().task_id], report.describe())""",
    )
    eventually((user.folder / "running").exists)
    user.cli("cancel", "pipeline", "Swallows", "--reason", "enough of it")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert out.startswith("cancelled blocked") and "was cancelled: enough of it" in out
    assert (user.folder / "cleaned").exists()
    assert not list(user.folder.glob("out/*"))
    assert len(list((user.workspace / "jobs" / "Swallows").glob("*/attempts/*"))) == 0, "it was not tried again"


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_task_that_swallows_its_cancellation_for_ever_gets_it_again_and_time_to_clean_up(
    user: Any, eventually: Callable[..., None], executor: str | None
) -> None:
    user.write(CANCELLED)
    run = user.start("-c", f"from pipeline import *; run_task(Stubborn(), executor={executor!r})")
    eventually((user.folder / "running").exists)
    user.cli("cancel", "pipeline", "Stubborn")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1 and "Stubborn() was cancelled" in err
    assert (user.folder / "cleaned").exists()
    assert not list(user.folder.glob("out/*"))


def test_a_cancellation_for_a_task_that_does_not_run_stops_nothing_later(user: Any) -> None:
    user.write("""
        class Later(Base):
            def run(self, output_path, task_dir):
                time.sleep(1)
                output_path.write_text("x")
    """)
    user.run("""
        Later().cancel()
        time.sleep(1.5)
        run_task(Later())
    """)


def test_one_process_at_a_time_writes_a_shared_folder(user: Any, eventually: Callable[..., None]) -> None:
    user.write("""
        class Train(Base):
            lr = IntParameter()
            max_iter = IntParameter()
            def run(self, output_path):
                folder = self.shared_path("ckpt", exclude=("max_iter",))
                assert folder == self.shared_path("ckpt", exclude="max_iter"), "one name may stand alone"
                with open(folder / "log", "a") as stream:
                    for i in range(20):
                        stream.write(f"{self.max_iter} "); stream.flush(); time.sleep(0.01)
                output_path.write_text(str(folder))
    """)
    code = "from pipeline import *; print(run_task(Train(lr={}, max_iter={})).read_text())"
    runs = [user.start("-c", code.format(lr, n)) for lr, n in ((1, 10), (1, 20), (2, 10))]
    folders = []
    for run in runs:
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
        folders.append(Path(out.strip().splitlines()[-1]))
    assert folders[0] == folders[1] != folders[2]
    written = (folders[0] / "log").read_text().split()
    assert written in (["10"] * 20 + ["20"] * 20, ["20"] * 20 + ["10"] * 20)
    out = user.run("""
        folder = Train(lr=1, max_iter=5).shared_path("ckpt", exclude=("max_iter",))
        print(folder)
        try:
            Train(lr=1, max_iter=5).shared_path("ckpt", exclude=("max_itre",))
        except ValueError as error:
            print(error)
    """)
    assert str(folders[0]) in out and "has no parameter 'max_itre'" in out


def test_a_shared_folder_is_waited_for_only_so_long_and_is_free_after_a_kill(
    user: Any, eventually: Callable[..., None]
) -> None:
    user.write("""
        class Holds(Base):
            x = IntParameter()
            def run(self, output_path):
                self.shared_path("it", exclude=("x",), timeout=0.3)
                Path("held").touch()
                while self.x == 1:
                    time.sleep(0.05)
                output_path.write_text("x")
    """)
    run = user.start("-c", "from pipeline import *; run_task(Holds(1))")
    eventually((user.folder / "held").exists)
    assert "which another task is using" in user.run("run_task(Holds(2))", expect=1)
    run.kill()
    run.wait()
    user.run("run_task(Holds(2))")


def test_random_numbers_are_the_same_each_time_and_differ_between_tasks(user: Any) -> None:
    user.write("""
        class Draws(Base):
            x = IntParameter()
            def run(self, output_path):
                import numpy
                output_path.write_text(repr([random.random(), float(numpy.random.rand())]))
    """)
    program = """
        texts = [run_task(Draws(x), force=True, executor={!r}).read_text() for x in (1, 2, 1)]
        run = Draws(1).output().read_metadata()["run"]
        print("DREW", __import__("json").dumps([texts, run.get("seed")]))
    """
    seen = [json.loads(user.run(program.format(executor)).split("DREW ")[1]) for executor in (None, "processes")]
    (first, seed), (second, _) = seen
    assert first == second and first[0] == first[2] != first[1]
    assert isinstance(seed, int)
    off = json.loads(user.run(program.format(None), SUPERLUIGI_SEED_RANDOM="false").split("DREW ")[1])
    assert off[1] is None and off[0][0] != off[0][2]


def test_a_task_in_threads_has_a_seed_for_generators_of_its_own_and_no_record_claims_more(user: Any) -> None:
    user.write("""
        import threading
        both = threading.Barrier(2)
        class Shares(Base):
            x = IntParameter()
            def run(self, output_path):
                random.random()
                both.wait(20)
                output_path.write_text("x")
                both.wait(20)
        class Owns(Shares):
            def run(self, output_path):
                own = random.Random(self.task_seed)
                both.wait(20)
                output_path.write_text(str(own.random()))
    """)
    program = """
        from superluigi import collect
        for cls in (Shares, Owns):
            tasks = [cls(1), cls(2)]
            run_task(collect(tasks), executor="threads", num_workers=2, force_upstream=True)
            runs = [task.output().read_metadata()["run"] for task in tasks]
            known = [run.get("seed") == task.task_seed for run, task in zip(runs, tasks)]
            print(known, "DREW", tasks[0].output().path.read_text())
    """
    first, second = ([line for line in user.run(program).splitlines() if "DREW" in line] for _ in range(2))
    assert first == second
    assert first[0].startswith("[False, False]") and first[1].startswith("[True, True]")


def test_the_callers_generators_go_on_as_if_nothing_had_been(user: Any) -> None:
    """In a process of its own: a thread that some other test gave up shares the generators of this one."""
    user.write("")
    user.run("""
        import numpy
        from superluigi.tasks.runtime import seeds

        def states():
            return random.getstate(), numpy.random.get_state()[1].tolist()
        before = states()
        with seeds.seeded(1, keep=True) as first:
            drawn = random.random(), float(numpy.random.rand())
            with seeds.seeded(2, keep=True) as second:  # another attempt in this process: they share the generators
                pass
        assert not first.so_far and not second.so_far, "neither can be repeated, also the one that was alone at first"
        assert states() == before
        with seeds.seeded(1, keep=True):
            assert (random.random(), float(numpy.random.rand())) == drawn
    """)

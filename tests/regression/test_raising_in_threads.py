"""Whatever ends a task in a thread leaves the interpreter fit for profilers, coverage and debuggers.

Python 3.11 calls no function in a thread that is traced or profiled while an exception waits for some other thread, and
for ever once one was taken back, or its thread has ended: these tests hung.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from superluigi.execution.process.raising import Interruptible, raise_in, take_back

PROGRAM = """
import os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata, Task
import luigi

class Long(AtomicTaskWithMetadata):
    name: Param[str]
    calls: Param[int]
    seconds: Param[float]
    def run(self, output_path):
        Path(f"begun-{self.name}").touch()
        for _ in range(self.calls):
            time.sleep(self.seconds)

class Fails(AtomicTaskWithMetadata):
    name: Param[str]
    def run(self, output_path):
        begun(self.name)
        raise ValueError("on purpose")

class Both(Task, luigi.WrapperTask):
    name: Param[str]
    def requires(self):
        return [Long(self.name, 2, 1.0), Fails(self.name)]

def begun(name):
    while not Path(f"begun-{name}").exists():
        time.sleep(0.01)

def ended(task, then=lambda: None, **options):
    name = task.name
    def wait():
        begun(name)
        then()
    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        run_task(task, num_workers=2, **options)
        raise AssertionError("it was to fail")
    except (Exception, KeyboardInterrupt) as error:
        print("ENDED", name, type(error).__name__, flush=True)
    waiting.join()

def cancelled(name, calls, seconds, **options):
    task = Long(name, calls, seconds)
    ended(task, task.cancel, **options)

def observe(frame, event, arg):
    return observe

def called(x):
    return x + 1

def observed(work):
    for put in (sys.setprofile, sys.settrace, threading.setprofile, threading.settrace):
        put(observe)
    try:
        work()
    finally:
        for put in (sys.setprofile, sys.settrace, threading.setprofile, threading.settrace):
            put(None)

def everything():
    cancelled("cancelled", 10_000, 0.01, executor="threads")
    cancelled("in-one-call", 1, 1.0, executor="threads")
    with ThreadPoolExecutor(2) as pool:
        cancelled("lent", 10_000, 0.01, executor=pool)
        ended(Both("stopped"), executor=pool, on_error="stop")
    ended(Both("stopped-too"), executor="threads", on_error="stop")
    stop = lambda: os.kill(os.getpid(), signal.SIGINT)
    ended(Long("interrupted", 10_000, 0.01), stop, executor="threads")
    ended(Long("given-up", 1, 200.0), stop, executor="threads")

if __name__ == "__main__":
    if sys.argv[1] == "while":
        observed(everything)
    else:
        everything()
        observed(lambda: called(1))
    print("all of it")
    os._exit(0)
"""

NAMES = ["cancelled", "in-one-call", "lent", "stopped", "stopped-too", "interrupted", "given-up"]


@pytest.mark.parametrize("when", ["while", "after"])
def test_tasks_that_are_ended_in_threads_can_be_traced_and_profiled(tmp_path: Path, when: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "program.py", when],
        cwd=tmp_path,
        env={**os.environ, "SUPERLUIGI_STORE": "store", "SUPERLUIGI_WORKSPACE": "workspace"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = ran.stdout.splitlines()
    assert said[-1:] == ["all of it"], ran.stdout + ran.stderr
    assert [line.split()[1] for line in said if line.startswith("ENDED")] == NAMES


class Told(BaseException):
    """Raised in threads by these tests."""


def called() -> None:
    """A Python function, which a profile of a hanging interpreter never enters."""


def profiled() -> int:
    """How often a call is seen; the caller's own process hangs here where the interpreter was left unfit."""
    seen: list[str] = []
    sys.setprofile(lambda frame, event, arg: seen.append(event))
    try:
        called()
    finally:
        sys.setprofile(None)
    return seen.count("call")


def test_nothing_arrives_after_it_was_taken_back() -> None:
    arrived: list[BaseException] = []
    ready, told = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            try:
                with Interruptible() as call:
                    calls.append(call)
                    ready.set()
                    told.wait()
            except KeyboardInterrupt as error:
                arrived.append(error)
            calls[0].interrupt()  # it is over
            take_back()
            for _ in range(10_000):
                pass

    lock, calls = threading.Lock(), list[Interruptible]()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    calls[0].interrupt()
    told.set()
    thread.join()
    assert len(arrived) == 1
    assert profiled() == 1


def test_an_exception_for_a_thread_that_has_ended_or_ends_before_it_arrives_leaves_nothing() -> None:
    def work(seconds: float) -> None:
        with contextlib.suppress(Told):
            time.sleep(seconds)

    for seconds in (0.0, 0.05):
        thread = threading.Thread(target=work, args=(seconds,))
        thread.start()
        assert thread.ident is not None
        if not seconds:
            thread.join()
        raise_in(thread.ident, Told)
        thread.join()
        assert profiled() == 1


def test_a_thread_that_raises_in_another_loses_nothing_that_was_on_its_way_to_it() -> None:
    """Both at once, many times: each gets its own."""
    for _ in range(50):
        got: list[str] = []
        both = threading.Barrier(3)

        def work(name: str, got: list[str] = got, both: threading.Barrier = both) -> None:
            try:
                both.wait()
                for _ in range(10**9):
                    pass
            except Told:
                got.append(name)

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        both.wait()
        for thread in threads:
            assert thread.ident is not None
            raise_in(thread.ident, Told)
        for thread in threads:
            thread.join(20)
        assert sorted(got) == ["a", "b"]

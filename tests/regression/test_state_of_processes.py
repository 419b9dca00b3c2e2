"""What a task changes of the process around it is not there for the next task, nor for the caller."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import decimal
import faulthandler
import gc
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.engine.engine import run_graph
from superluigi.execution.process import process_state
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.worker_process.pool import ProcessExecutor


def look() -> dict[str, Any]:
    return {kind.name: str(kind.look()) for kind in process_state.KINDS}


def loses(name: str) -> str:
    """Changes one thing of this process."""
    if name == "closes":
        sys.stdout.close()
        sys.stdin.close()
    elif name == "closes descriptors":
        os.close(0)
    elif name == "encodes":
        sys.stdout.reconfigure(encoding="latin-1", errors="ignore", line_buffering=False)  # type: ignore[union-attr]
        logging.raiseExceptions = False
        sys.dont_write_bytecode = not sys.dont_write_bytecode
    elif name == "replaces":
        sys.stdout = open(os.devnull, "w")
    elif name == "nice":
        os.nice(1)
    elif name == "removes its folder":
        os.makedirs("gone", exist_ok=True)
        os.chdir("gone")
        os.rmdir("../gone")
    elif name == "logs":
        logging.disable(logging.CRITICAL)
        logging.getLogger("some.library").setLevel(logging.DEBUG)
        logging.getLogger("another.library").addHandler(logging.StreamHandler())
    elif name == "numbers":
        decimal.getcontext().prec = 3
    elif name == "hooks":
        sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *_: None
        sys.breakpointhook = None  # type: ignore[assignment]
        warnings.showwarning = lambda *_, **__: None  # type: ignore[assignment]
        (faulthandler.disable if faulthandler.is_enabled() else faulthandler.enable)()
    elif name == "captures warnings":
        logging.captureWarnings(True)
    elif name == "tunes":
        gc.set_threshold(1)
        sys.setswitchinterval(5)
        threading.stack_size(1 << 20)
        sys.set_int_max_str_digits(0)
        multiprocessing.set_start_method("spawn", force=True)
    elif name == "limits":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    elif name == "logs elsewhere":
        logging.getLogger("some.library").propagate = logging.root.propagate = False
        logging.getLogger("another.library").addFilter(lambda record: False)
        for handler in logging.root.handlers:
            handler.setLevel(logging.CRITICAL)
            handler.setFormatter(logging.Formatter("%(name)s"))
    elif name == "reads large tables":
        csv.field_size_limit(1 << 30)
    elif name == "profiles":
        sys.setprofile(lambda *_: None)
    elif name == "has less stack and memory":
        for limit in (resource.RLIMIT_STACK, resource.RLIMIT_DATA):
            resource.setrlimit(limit, (1 << 30, resource.getrlimit(limit)[1]))
    elif name == "runs a loop":
        asyncio.run(asyncio.sleep(0))
    elif name == "blocks":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.environ["TZ"] = "Asia/Tokyo"
    return str(os.getpid())


def here() -> str:
    others = [sys.excepthook, threading.excepthook, sys.unraisablehook, sys.breakpointhook, warnings.showwarning]
    numbers = [gc.get_threshold(), sys.getswitchinterval(), threading.stack_size(), sys.get_int_max_str_digits()]
    beside = [*map(str, others), *numbers, faulthandler.is_enabled(), multiprocessing.get_start_method(True)]
    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 and later: there is none yet
        beside.append(asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, "a loop")))
    beside += [logging.getLogger("some.library").propagate, len(logging.getLogger("another.library").filters)]
    beside += [(handler.level, str(handler.formatter)) for handler in logging.root.handlers]
    beside += [sys.stdout.encoding, sys.stdout.errors, getattr(sys.stdout, "line_buffering", None)]
    beside += [logging.raiseExceptions, sys.dont_write_bytecode]
    beside += [csv.field_size_limit(), sys.getprofile(), resource.getrlimit(resource.RLIMIT_STACK)]
    return json.dumps([os.getpid(), look(), decimal.getcontext().prec, print("x"), beside])


CHANGES = ["closes", "closes descriptors", "replaces", "removes its folder", "logs", "numbers", "blocks"]
CHANGES += ["hooks", "captures warnings", "tunes", "logs elsewhere", "reads large tables", "profiles"]
CHANGES += ["encodes", "has less stack and memory", "runs a loop"]


def test_a_worker_process_is_as_before_after_each_change(tmp_path: Path) -> None:
    with ProcessExecutor(1) as executor:
        executor.submit(os.chdir, tmp_path).result()
        executor.submit(process_state.isolated, here).result()
        before = executor.submit(process_state.isolated, here).result()
        for change in CHANGES:
            executor.submit(process_state.isolated, loses, change).result()
            after = executor.submit(process_state.isolated, here).result()
            if change in ("closes", "replaces"):  # other objects, as good
                known, now = json.loads(before), json.loads(after)
                assert known[1].pop("standard streams") and ", True, " not in now[1].pop("standard streams")
                assert now == known, change
                before = after
            else:
                assert json.loads(after) == json.loads(before), change


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "nice"), reason="needs nice")
def test_a_process_in_which_something_cannot_be_put_back_gets_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessExecutor(1) as executor:
        first = executor.submit(spoils).result()
        others = {executor.submit(os.getpid).result() for _ in range(3)}
        assert first not in others and len(others) == 1
    with ProcessExecutor(2) as executor:
        futures = [executor.submit(spoils) for _ in range(6)]
        assert len({future.result() for future in futures}) == 6, "each in a process of its own"


def spoils() -> int:
    process_state.lasting.append("something")
    return os.getpid()


def test_what_cannot_be_put_back_is_said_and_the_rest_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(value: object) -> None:
        raise PermissionError("only root may")

    value = [0]
    odd = process_state.Kind("an odd thing", lambda: value[0], refuses)
    monkeypatch.setattr(process_state, "KINDS", (odd, *process_state.KINDS))
    monkeypatch.setattr(process_state, "lasting", [])

    def change() -> None:
        value[0] = 1
        os.environ["SUPERLUIGI_TEST_LEAK"] = "1"

    with pytest.warns(process_state.CannotRestoreWarning, match="an odd thing .* cannot be put back: only root may"):
        process_state.isolated(change)
    assert process_state.lasting == ["an odd thing"]
    assert "SUPERLUIGI_TEST_LEAK" not in os.environ


def test_nested_calls_put_back_each_their_own_and_so_does_a_failing_one() -> None:
    before = os.environ.get("DEPTH")

    def outer() -> None:
        os.environ["DEPTH"] = "1"
        with pytest.raises(KeyError):
            process_state.isolated(inner)
        assert os.environ["DEPTH"] == "1"

    def inner() -> None:
        os.environ["DEPTH"] = "2"
        raise KeyError

    process_state.isolated(outer)
    assert os.environ.get("DEPTH") == before


def test_threads_that_share_a_process_put_it_back_when_the_last_has_ended() -> None:
    begun, end, seen = threading.Barrier(3), [threading.Event(), threading.Event()], []

    def change(number: int) -> None:
        begun.wait(30)
        os.environ[f"LEAK{number}"] = "1"
        decimal.getcontext().prec = 3
        end[number].wait(30)
        seen.append(os.environ.get("LEAK0"))

    def thread(number: int) -> None:
        process_state.isolated(change, number)
        seen.append(decimal.getcontext().prec)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    begun.wait(30)
    for number, each in enumerate(threads):
        end[number].set()
        each.join()
    assert seen == ["1", 28, "1", 28], "what is the thread's own goes back at once, the rest not under the other's feet"
    assert not [name for name in os.environ if name.startswith("LEAK")]


class Wanders(AtomicTaskWithMetadata):
    """Goes to another folder in the middle, and has relative outputs and inputs all the same."""

    depth: int = luigi.IntParameter(default=0)
    folder: str = Parameter()

    def requires(self) -> list[Any]:
        return [Wanders(depth=self.depth - 1, folder=self.folder)] if self.depth else []

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"out/{self.depth}.txt")

    def run(self, output_path: Path, inputs: Any) -> Iterator[Any]:
        os.chdir(self.folder)
        assert len(list(inputs)) == min(self.depth, 1)
        if self.depth:
            path = yield Later(name=f"later{self.depth}", folder=self.folder)
            assert path.read_text() == "later"
            assert Path.cwd() == Path(self.folder), "it is still where it went"
        output_path.write_text("x")


class Later(AtomicTaskWithMetadata):
    name: str = Parameter()
    folder: str = Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"out/{self.name}.txt")

    def run(self, output_path: Path) -> None:
        os.chdir(self.folder)
        output_path.write_text("later")


class PlainWanders(luigi.Task):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget("out/plain.txt")

    def run(self) -> Iterator[Any]:
        output = os.path.abspath(self.output().path)
        os.chdir(self.folder)
        yield Later(name="of-plain", folder=self.folder)
        Path(output).write_text("x")


@pytest.mark.parametrize("executor", [None, "processes"])
def test_relative_outputs_mean_the_folder_in_which_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str | None
) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(work)
    run_task(Wanders(depth=2, folder=str(elsewhere)), executor=executor)
    report = run_graph([PlainWanders(folder=str(elsewhere))], executor=executor)
    assert report.success, report.describe()
    assert Path.cwd() == work
    names = sorted(path.name for path in (work / "out").glob("*.txt"))
    assert names == ["0.txt", "1.txt", "2.txt", "later1.txt", "later2.txt", "of-plain.txt", "plain.txt"]
    assert not list(elsewhere.iterdir())


def test_a_task_of_a_queue_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    from superluigi.testing import executor_tasks as tasks

    last = tasks.LooksAfterwards(folder=str(tmp_path), name="after")
    run_task(last, queue=f"sqlite:///{tmp_path}/queue.db")
    before, after = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after"))
    assert before["pid"] != after["pid"] or before == after


def test_handlers_of_signals_that_a_task_sets_in_this_process_go_back(tmp_path: Path) -> None:
    program = (
        "import signal\nfrom superluigi.execution.process import process_state\n"
        "mine = lambda *_: None\nsignal.signal(signal.SIGTERM, mine)\n"
        "process_state.isolated(lambda: [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGALRM)] "
        "and signal.alarm(5))\n"
        "assert signal.getsignal(signal.SIGTERM) is mine\n"
        "assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and not signal.alarm(0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


REDIRECTS = """
import os, sys
from superluigi.execution.process import process_state

how = sys.argv[1]
def changes():
    print("by the task")
    sys.stdout.flush()
    print("still by the task")
    other = os.open("other.txt", os.O_WRONLY | os.O_CREAT, 0o600)
    if how == "dup2":
        sys.stdout.flush()
        os.dup2(other, 1)
        os.dup2(other, 2)
        print("redirected")
    elif how == "close":
        sys.stdout.flush()
        os.close(1)
    elif how == "closes all":
        sys.stdout.flush()
        os.closerange(0, 64)
        for _ in range(64):
            os.open("other.txt", os.O_WRONLY | os.O_CREAT, 0o600)
    elif how == "nested":
        process_state.isolated(os.dup2, other, 1)
        print("in between")
        sys.stdout.flush()

def opened():
    return len(os.listdir("/proc/self/fd"))

before = opened()
process_state.isolated(changes)
if how != "closes all":
    assert opened() <= before + 1, "duplicates are closed"
else:
    assert os.fstat(5), "what the task opened is its own"
    os._exit(0)
print("afterwards")
print("an error", file=sys.stderr)
"""


@pytest.mark.parametrize("how", ["dup2", "close", "closes all", "nested"])
def test_descriptors_that_a_task_sends_elsewhere_or_closes_mean_the_same_file_again(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", REDIRECTS, how]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    by_the_task = ["by the task", "still by the task"]
    assert ran.stdout.splitlines() == {
        "closes all": by_the_task,
        "nested": [*by_the_task, "in between", "afterwards"],
    }.get(how, [*by_the_task, "afterwards"])
    assert ran.stderr == ("" if how == "closes all" else "an error\n")
    assert ("redirected" in (tmp_path / "other.txt").read_text()) == (how == "dup2")


LIBRARIES = """
import colorsys, json, sys
import luigi
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata

def seen():
    import numpy, pandas
    config = luigi.configuration.get_config()
    return [
        numpy.geterr(), numpy.get_printoptions()["precision"], pandas.get_option("display.max_rows"),
        pandas.get_option("display.float_format"), config.get("mine", "key", "none"),
        config.get("core", "given", "by the caller"), json.dumps.__module__, sys.modules.get("barred", "free"),
        sys.modules["colorsys"].__name__, sys.modules["json"] is json,
    ]

class Changes(AtomicTaskWithMetadata):
    step: Param[int]
    def requires(self):
        return Changes(self.step - 1) if self.step else []
    def run(self, output_path):
        known = "numpy" in sys.modules
        import numpy, pandas
        output_path.write_text(json.dumps(seen() if known else None))
        numpy.seterr(all="raise")
        numpy.set_printoptions(precision=1 + self.step)
        pandas.set_option("display.max_rows", 7 + self.step)
        pandas.set_option("display.float_format", str)
        config = luigi.configuration.get_config()
        config.set("mine", "key", f"set {self.step}")
        config.set("core", "given", "changed")
        sys.modules["barred"] = sys.modules["json"] = None
        del sys.modules["colorsys"]

def main():
    luigi.configuration.get_config().set("core", "given", "by the caller")
    where = dict(queue="here") if sys.argv[1] == "queue" else dict(executor=sys.argv[1])
    run_task(Changes(9), num_workers=1, **where)
    steps = [json.loads(Changes(step).output().path.read_text()) for step in range(10)]
    print(json.dumps([[one for one in steps if one is not None], seen()]))
"""


@pytest.mark.parametrize("where", ["processes", "queue", "dask"])
def test_what_a_task_sets_in_libraries_is_not_there_for_the_next_in_its_process(tmp_path: Path, where: str) -> None:
    """Also where the first task in a process is the one that imports them."""
    if where == "dask":
        pytest.importorskip("distributed")
    (tmp_path / "pipeline.py").write_text(LIBRARIES)
    env = {**os.environ, "SUPERLUIGI_STORE": str(tmp_path / "store"), "SUPERLUIGI_QUEUE_URL": f"sqlite:///{tmp_path}/q"}
    command = [sys.executable, "-c", "import pipeline; pipeline.main()", where]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stderr
    found, expected = json.loads(ran.stdout.splitlines()[-1])
    assert len(found) >= 6 and all(one == expected for one in found), (found, expected)

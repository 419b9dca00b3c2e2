"""What a task forks or starts has the signal handlers of an ordinary Python, so that pools can end it."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from superluigi import run_task
from superluigi.parameters import IntParameter, Parameter
from superluigi.tasks import AtomicTaskWithMetadata

NAMES = ("SIGTERM", "SIGINT", "SIGUSR2")
SHOW = f"import json, signal; print(json.dumps([repr(signal.getsignal(getattr(signal, name))) for name in {NAMES}]))"


def handlers(_: object = None) -> list[str]:
    return [repr(signal.getsignal(getattr(signal, name))) for name in NAMES]


def of_a_fork() -> list[str]:
    """What a plain os.fork finds."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, json.dumps(handlers()).encode())
        os._exit(0)
    os.close(write)
    with open(read) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return list(json.loads(text))


class Starts(AtomicTaskWithMetadata):
    """Starts processes in one way, and tells what they found."""

    way: str = Parameter()

    def run(self) -> list[str]:
        found: list[str]
        if self.way == "fork":
            found = of_a_fork()
        elif self.way == "subprocess":
            found = json.loads(subprocess.check_output([sys.executable, "-c", SHOW]))
        elif self.way == "futures":
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                found = list(pool.submit(handlers).result())
        elif self.way == "loky":
            joblib: Any = pytest.importorskip("joblib")
            (found,) = joblib.Parallel(n_jobs=2)([joblib.delayed(handlers)()])
        else:
            with multiprocessing.get_context(self.way.removeprefix("pool of ")).Pool(1) as pool:
                (found,) = pool.map(handlers, [0])
        return found


def plain(ways: Sequence[str]) -> dict[str, list[str]]:
    """The same outside of any task, in a Python of its own."""
    code = (
        "import json, sys; from test_forked_children import Starts\n"
        "if __name__ == '__main__':\n"
        "    print(json.dumps({way: Starts.run.__wrapped__(Starts(way=way)) for way in sys.argv[1:]}))"
    )
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run([sys.executable, "-c", code, *ways], env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "ways",
    [
        ["fork", "subprocess", "futures", "pool of fork"],
        pytest.param(["loky", "pool of spawn", "pool of forkserver"], marks=pytest.mark.long),
    ],
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_children_of_tasks_have_the_handlers_that_they_have_outside_of_tasks(tmp_path: Path, ways: list[str]) -> None:
    expected = plain(ways)
    assert "_interrupt" not in str(expected)
    for way in ways:
        path = run_task(Starts(way=way), executor="processes", store=tmp_path)
        assert json.loads(Path(path).read_text()) == expected[way], way


def test_children_of_tasks_of_a_queue_and_behind_a_command_have_them_too(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    ways = ["fork", "subprocess"]
    expected = plain(ways)
    for way in ways:
        path = run_task(Starts(way=way), queue=f"sqlite:///{tmp_path}/queue.db", store=tmp_path / "queue")
        assert json.loads(Path(path).read_text()) == expected[way], way
        path = run_task(Behind(way=way), store=tmp_path / "prefix")
        assert json.loads(Path(path).read_text()) == expected[way], way


class Behind(Starts):
    command_prefix = "env"


class EndsAtOnce(AtomicTaskWithMetadata):
    """Ends processes as soon as they are forked: some have not run a line yet."""

    rounds: int = IntParameter()

    def run(self) -> int:
        for _ in range(self.rounds):
            child = multiprocessing.get_context("fork").Process(target=signal.pause)
            child.start()
            child.terminate()
            child.join(30)
            assert child.exitcode == -signal.SIGTERM, child.exitcode
            child.close()
        return self.rounds


@pytest.mark.parametrize("executor", [None, "processes"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_process_that_was_forked_a_moment_ago_can_be_ended(tmp_path: Path, executor: str | None) -> None:
    run_task(EndsAtOnce(rounds=50), executor=executor, store=tmp_path)


def test_a_signal_between_the_fork_and_its_first_line_is_neither_lost_nor_ours(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal
        # stands before our hook: the signal comes while the child still has the handler of its parent
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
        from superluigi.execution.process import signals
        ran = []
        signals.take(signal.SIGTERM, lambda *_: ran.append(1))
        pid = os.fork()
        if pid == 0:
            os._exit(5 if ran else 6)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM, status
        os.kill(os.getpid(), signal.SIGTERM)
        assert ran == [1], "the parent keeps its own"
    """)
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_task_that_ends_its_own_handlers_and_nested_ones_go_back_in_any_order() -> None:
    from superluigi.execution.process import signals

    before = signal.getsignal(signal.SIGUSR1)
    outer, inner, users = (lambda *_: 1), (lambda *_: 2), (lambda *_: 3)
    signals.take(signal.SIGUSR1, outer)
    signals.take(signal.SIGUSR1, inner)
    assert of_user(signal.SIGUSR1) == repr(before)
    signals.give_back(signal.SIGUSR1, inner)
    assert signal.getsignal(signal.SIGUSR1) is outer
    signal.signal(signal.SIGUSR1, users)
    signals.give_back(signal.SIGUSR1, outer)
    assert signal.getsignal(signal.SIGUSR1) is users, "what others have set since stays"
    signal.signal(signal.SIGUSR1, before)


def of_user(signum: int) -> str:
    """The handler in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, repr(signal.getsignal(signum)).encode())
        os._exit(0)
    os.close(write)
    with open(read) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text


class Pools(AtomicTaskWithMetadata):
    rounds: int = IntParameter()

    def run(self) -> int:
        for _ in range(self.rounds):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(abs, range(-4, 0)) == [4, 3, 2, 1]
        return self.rounds


class Stubborn(Pools):
    """Its first attempt ends the process after its pools, so that the second one is in one that has replaced it."""

    retry_count = 2

    def run(self) -> int:
        rounds = super().run()
        mark = Path(self.output().path).with_suffix(".tried")
        if not mark.exists():
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            os._exit(1)
        return rounds


def test_tasks_on_a_dask_cluster_of_our_own_may_have_pools(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    dask: Any = pytest.importorskip("dask")
    before = dask.config.get("distributed.worker.daemon")
    run_task(Stubborn(rounds=1), store=tmp_path, executor="dask")
    assert dask.config.get("distributed.worker.daemon") == before


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("where", ["here", "threads", "processes", "queue"])
def test_a_thousand_pools_in_a_task_end(tmp_path: Path, where: str) -> None:
    options: dict[str, Any] = {"executor": None if where == "here" else where}
    if where == "queue":
        options = {"queue": f"sqlite:///{tmp_path}/queue.db"}
    run_task(Pools(rounds=1000), store=tmp_path, **options)


def test_a_child_forked_while_another_thread_takes_a_signal_has_the_ordinary_handler() -> None:
    """In a process of its own: handlers are taken and given back all the time, beside a thread that forks."""
    program = (
        "import os, signal, threading\n"
        "from superluigi.execution.process import signals\n"
        "def fork():\n"
        "    for _ in range(300):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            signal.alarm(20)\n"  # a signal that got lost ends the child by another one
        "            signal.pause()\n"
        "            os._exit(0)\n"
        "        os.kill(child, signal.SIGTERM)\n"
        "        status = os.waitpid(child, 0)[1]\n"
        "        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGTERM:\n"
        "            raise SystemExit(f'a child went on: {status}')\n"
        "threading.excepthook = lambda args: os._exit(1)\n"
        "thread = threading.Thread(target=fork)\n"
        "thread.start()\n"
        "def ours(signum, frame): pass\n"
        "while thread.is_alive():\n"
        "    signals.take(signal.SIGTERM, ours)\n"
        "    signals.give_back(signal.SIGTERM, ours)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Forks(AtomicTaskWithMetadata):
    """Forks a child that leaves `run`, instead of ending by os._exit."""

    how: str = Parameter()

    def run(self, output_path: Path) -> None:
        pid = os.fork()
        if pid == 0:
            if self.how == "exits":
                sys.exit(7)
            if self.how == "raises":
                raise ValueError("in the child")
            return
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output_path.write_text(f"{code}")


@pytest.mark.parametrize(("how", "code"), [("exits", "7"), ("raises", "1"), ("returns", "0")])
@pytest.mark.parametrize("options", [{}, {"num_workers": 2}])
def test_a_forked_child_that_leaves_run_ends_there(how: str, code: str, options: Any, tmp_path: Path) -> None:
    assert Path(run_task(Forks(how=how), store=tmp_path, **options)).read_text() == code

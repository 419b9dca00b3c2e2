"""One attempt at a time makes an output: who finds another process at work waits and takes the result."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import OptionError, TaskFailedError, TaskRunningElsewhereError
from superluigi.runs.context import RunContext
from superluigi.storage.base import Holder, Lease
from superluigi.storage.local import leases
from superluigi.storage.local.cleanup import clean
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, TaskWithMetadata
from superluigi.tasks.runtime import exclusive
from superluigi.testing.s3_server import S3Server

#: Tasks that write down when they begin and end, and that wait for a file where they are told to.
MODULE = '''
import os, pathlib, time
import luigi
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, TaskWithMetadata

ROOT = pathlib.Path(os.environ["ROOT"])

def note(what):
    with open(ROOT / "log", "a") as log:
        log.write(f"{what} {os.getpid()}\\n")

def wait_for(name):
    while not (ROOT / name).exists():
        time.sleep(0.01)

class Held(AtomicTaskWithMetadata):
    """Ends when the file `go` is there."""
    kind = luigi.Parameter("file")
    def output(self):
        return (LocalFolderTarget if self.kind == "folder" else LocalFileTarget)(ROOT / "out" / f"held-{self.kind}")
    def run(self, output_path):
        note("begin held")
        (ROOT / "begun").touch()
        wait_for("go")
        if (ROOT / "fail").exists():
            (ROOT / "fail").unlink()
            raise ValueError("as told")
        (output_path / "x" if self.kind == "folder" else output_path).write_text(str(os.getpid()))

class Self(TaskWithMetadata):
    """Writes its output itself."""
    def output(self): return LocalFileTarget(ROOT / "out" / "self")
    def run(self):
        note("begin self")
        (ROOT / "begun").touch()
        wait_for("go")
        with self.output().tmp_write_path() as path: path.write_text("x")

class Forks(AtomicTaskWithMetadata):
    """Leaves a child behind that lives on."""
    def output(self): return LocalFileTarget(ROOT / "out" / "forks")
    def run(self, output_path):
        note("begin forks")
        if not (ROOT / "go").exists():
            if os.fork() == 0:
                (ROOT / "child").write_text(str(os.getpid()))
                time.sleep(300)
                os._exit(0)
            wait_for("child")
            (ROOT / "begun").touch()
            time.sleep(300)
        output_path.write_text("x")

class Leaf(AtomicTaskWithMetadata):
    n = luigi.IntParameter()
    seconds = luigi.FloatParameter(0.0, significant=False)
    def output(self):
        if "BUCKET" in os.environ:
            return S3ObjectTarget(os.environ["BUCKET"], f"{self.n}.txt")
        return LocalFileTarget(ROOT / "out" / f"{self.n}.txt")
    def run(self, output_path):
        note(f"begin {self.n}")
        time.sleep(self.seconds)
        output_path.write_text(str(self.n))

class Beside(luigi.WrapperTask):
    """One that is held, and others."""
    def requires(self): return [Held(), *[Leaf(n=n) for n in range(5)]]

class Many(luigi.WrapperTask):
    count = luigi.IntParameter()
    seconds = luigi.FloatParameter(0.0)
    step = luigi.IntParameter(1)
    def requires(self): return [Leaf(n=n, seconds=self.seconds) for n in range(self.count)[::self.step]]

class Asks(AtomicTaskWithMetadata):
    """Yields the leaves in an order of its own, one by one."""
    name = luigi.Parameter()
    order = luigi.ListParameter()
    def output(self): return LocalFileTarget(ROOT / "out" / f"asks-{self.name}")
    def run(self, output_path):
        note(f"begin asks-{self.name}")
        for n in self.order:
            yield Leaf(n=n, seconds=0.1)
        output_path.write_text("x")

class Pair(luigi.WrapperTask):
    """Two that ask for leaves in opposite orders."""
    first = luigi.Parameter()
    def requires(self):
        asks = {"a": Asks(name="a", order=list(range(6))), "b": Asks(name="b", order=list(range(6))[::-1])}
        return [asks[self.first], asks["b" if self.first == "a" else "a"]]
'''

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one_runner_tasks.py").write_text(MODULE)
    monkeypatch.setenv("ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("one_runner_tasks", None)


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Begins a program that runs a task of the module; what is left of all is ended."""
    begun: list[subprocess.Popen[str]] = []

    def starting(task: str, options: str = "", call: str = "run_task") -> subprocess.Popen[str]:
        if call == "run_task":
            code = f"if __name__ == '__main__':\n    run_task({task}, {options})"
        else:
            code = f"import sys; sys.exit(not luigi.build([{task}], local_scheduler=True, {options}))"
        program = f"import luigi\nfrom superluigi import run_task\nfrom one_runner_tasks import *\n{code}\n"
        file = root / f"program{len(begun)}.py"
        file.write_text(program)
        begun.append(
            subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return begun[-1]

    yield starting
    for process in begun:
        process.kill()
        process.communicate()


def _wait_for(*paths: Path) -> None:
    while not all(path.exists() for path in paths):
        time.sleep(0.01)


def _begun(root: Path) -> list[str]:
    """What has begun, in order, without the processes."""
    return [line.rpartition(" ")[0].removeprefix("begin ") for line in (root / "log").read_text().splitlines()]


def _task(name: str, **parameters: Any) -> Any:
    import one_runner_tasks  # type: ignore[import-not-found]

    return getattr(one_runner_tasks, name)(**parameters)


def _until_it_waits(task: Any, process: subprocess.Popen[str], root: Path) -> None:
    """Until a second process has nothing to do but to wait; it says so in its output."""
    assert process.stdout is not None
    for line in process.stdout:
        if "is running on" in line or "waits: it is" in line:
            return
    raise AssertionError(f"{task} was not waited for")


@pytest.mark.parametrize(
    "task, call",
    [("Held()", "run_task"), ("Held()", "luigi.build"), ("Held(kind='folder')", "run_task"), ("Self()", "run_task")],
)
def test_who_finds_another_at_work_says_so_waits_and_takes_the_result(
    root: Path, start: Start, task: str, call: str
) -> None:
    (root / "out").mkdir()
    first = start(task, call=call)
    _wait_for(root / "begun")
    second = start(task, "progress=True" if call == "run_task" else "log_level='INFO'", call=call)
    _until_it_waits(task, second, root)
    (root / "go").touch()
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    assert len(_begun(root)) == 1
    assert [name for name in os.listdir(root / "out") if name.startswith(".")] == []


@pytest.mark.parametrize("options", ["", "num_workers=2, executor='processes'", "num_workers=2, executor='threads'"])
def test_who_waits_has_its_hands_free_for_other_tasks(root: Path, start: Start, options: str) -> None:
    first = start("Held()")
    _wait_for(root / "begun")
    second = start("Beside()", options)
    _wait_for(*[root / "out" / f"{n}.txt" for n in range(5)])
    assert second.poll() is None
    (root / "go").touch()
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    assert sorted(_begun(root)) == ["0", "1", "2", "3", "4", "held"]


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_what_its_maker_has_not_made_is_made_by_who_waits(root: Path, start: Start, how: str) -> None:
    first = start("Held()")
    _wait_for(root / "begun")
    second = start("Held()", "progress=True")
    _until_it_waits("Held()", second, root)
    if how == "killed":
        first.kill()
        assert first.wait(60) == -signal.SIGKILL
        (root / "go").touch()
    else:
        (root / "fail").touch()
        (root / "go").touch()
        assert first.wait(60) == 1
    assert second.wait(60) == 0
    assert _begun(root) == ["held", "held"]
    assert (root / "out" / "held-file").read_text() == str(second.pid)


def test_a_child_that_a_task_left_behind_keeps_nobody_waiting(root: Path, start: Start) -> None:
    first = start("Forks()")
    _wait_for(root / "begun")
    first.kill()
    first.wait(60)
    try:
        (root / "go").touch()
        assert start("Forks()").wait(60) == 0
    finally:
        os.kill(int((root / "child").read_text()), signal.SIGKILL)
    assert _begun(root) == ["forks", "forks"]


def test_status_says_who_is_at_work(root: Path, start: Start) -> None:
    first = start("Held()")
    _wait_for(root / "begun")
    command = [sys.executable, "-m", "superluigi", "status", "one_runner_tasks", "Beside"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (root / "go").touch()
    assert re.search(rf"▶ running +Held\(kind=file\)  running on .* since .* \(process {first.pid}\)", said), said
    assert said.endswith("6 missing, 1 running\n")


def test_fail_names_who_is_at_work_and_runs_nothing(root: Path, start: Start) -> None:
    first = start("Held()")
    _wait_for(root / "begun")
    with pytest.raises(TaskFailedError, match=f"running on .* since .* UTC \\(process {first.pid}\\)") as failed:
        run_task(_task("Held"), exclusive="fail")
    assert isinstance(failed.value.__cause__, TaskRunningElsewhereError)
    (root / "go").touch()
    assert first.wait(60) == 0
    assert _begun(root) == ["held"]


def test_off_runs_all_the_same(root: Path, start: Start) -> None:
    first = start("Held()")
    _wait_for(root / "begun")
    second = start("Held()", "exclusive='off'")
    while _begun(root) != ["held", "held"]:
        time.sleep(0.01)
    (root / "go").touch()
    assert {first.wait(60), second.wait(60)} == {0}


def test_the_runs_word_comes_before_the_classs_and_that_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(AtomicTaskWithMetadata): ...

    class Says(Plain):
        exclusive = "fail"

    class Takes(Plain):
        exclusive = luigi.Parameter("a value of the user's")

    def modes(**options: Any) -> list[str]:
        return [exclusive.mode_of(cls(), RunContext(**options)) for cls in (Plain, Says, Takes)]

    assert modes() == ["auto", "fail", "auto"]
    monkeypatch.setenv("SUPERLUIGI_EXCLUSIVE", "off")
    assert modes() == ["off", "fail", "off"]
    assert modes(exclusive="wait") == ["wait", "wait", "wait"]
    with pytest.raises(OptionError, match=r"exclusive is 'yes'.*'wait', 'fail' or 'off'"):
        run_task(Plain(), exclusive="yes")


def test_two_forced_runs_make_it_one_after_the_other_unless_one_began_later(root: Path, start: Start) -> None:
    first, second = start("Held()", "force=True"), start("Held()", "force=True")
    _wait_for(root / "begun")
    (root / "go").touch()
    assert {first.wait(60), second.wait(60)} == {0}
    # what began after the other run had is as good to it as its own
    assert len(_begun(root)) in (1, 2)
    record = json.loads((root / "out" / "held-file.metadata.json").read_text())
    assert record["run"]["forced"] is True


def test_graphs_that_ask_for_tasks_in_opposite_orders_never_wait_for_each_other(root: Path, start: Start) -> None:
    runs = [start("Pair(first='a')"), start("Pair(first='b')"), start("Pair(first='a')", "num_workers=3")]
    assert [process.wait(120) for process in runs] == [0, 0, 0]
    assert sorted(set(_begun(root))) == ["0", "1", "2", "3", "4", "5", "asks-a", "asks-b"]
    assert sorted(name for name in _begun(root) if not name.startswith("asks")) == ["0", "1", "2", "3", "4", "5"]


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    begun: list[int] = []
    meanwhile: list[int] = []

    class Once(AtomicTaskWithMetadata):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "out" / "once")

        def run(self, output_path: Path) -> None:
            begun.append(threading.get_ident())
            meanwhile.append(len(begun))
            time.sleep(0.2)
            output_path.write_text("x")

    threads = [threading.Thread(target=lambda: run_task(Once())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "executor": "threads"}])
def test_a_run_within_a_task_that_asks_for_the_task_itself_says_so_and_does_not_wait(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    class Outer(AtomicTaskWithMetadata):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "outer.txt")

        def run(self) -> str:
            return Path(run_task(Between(), **options)).read_text()

    class Between(Outer):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "between.txt")

        def run(self) -> str:
            return Path(run_task([Inner(), Outer()][bool(asking)], **options)).read_text()

    class Inner(Outer):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "inner.txt")

        def run(self) -> str:
            return "made"

    asking = [Outer]
    with pytest.raises(TaskFailedError, match=r"Outer_\w+ is asked for by a run within its own run"):
        run_task(Outer())
    assert not os.listdir(tmp_path)
    asking.clear()
    assert Path(run_task(Outer())).read_text() == "made"


def test_run_that_is_called_by_hand_runs(tmp_path: Path) -> None:
    begun: list[int] = []

    class Again(AtomicTaskWithMetadata):
        def output(self) -> LocalFolderTarget:
            return LocalFolderTarget(tmp_path / "again")

        def run(self, output_path: Path) -> None:
            begun.append(1)
            (output_path / "x").touch()

    Again().run()
    Again().run()
    assert len(begun) == 2
    assert sorted(os.listdir(tmp_path)) == ["again", "again.metadata.json"]


def test_a_task_that_makes_the_folder_of_its_output_itself_still_can(tmp_path: Path) -> None:
    class Makes(TaskWithMetadata):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "new" / "x")

        def run(self) -> None:
            os.mkdir(tmp_path / "new")
            (tmp_path / "new" / "x").write_text("x")

    run_task(Makes())
    assert sorted(os.listdir(tmp_path / "new")) == ["x", "x.metadata.json"]


def test_a_lease_is_one_of_a_name_and_goes_with_it(tmp_path: Path) -> None:
    with leases.kept():
        one, other = leases.take(str(tmp_path), "one", make=True), leases.take(str(tmp_path), "two", make=True)
        assert isinstance(one, Lease) and isinstance(other, Lease)
        again = leases.take(str(tmp_path), "one", make=True)
        assert isinstance(again, Holder) and str(os.getpid()) in str(again)
        one.release()
        assert leases.holder(str(tmp_path), "one") is None
        assert leases.holder(str(tmp_path), "two") is not None
        assert os.listdir(tmp_path) == [leases.NAME]
        other.release()
    assert os.listdir(tmp_path) == []


def test_leases_of_a_folder_that_was_removed_are_found_in_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with leases.kept():
        old = leases.take(str(folder), "one", make=True)
        (folder / leases.NAME).unlink()
        folder.rmdir()
        new = leases.take(str(folder), "two", make=True)
        assert isinstance(old, Lease) and isinstance(new, Lease)
        code = f"from superluigi.storage.local import leases; print(leases.holder({str(folder)!r}, 'two'))"
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert f"(process {os.getpid()})" in seen
        old.release()
        new.release()
    assert os.listdir(folder) == []


def test_what_a_dead_process_left_of_its_leases_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        f"import os, time; from superluigi.storage.local import leases\nleases.take({str(tmp_path)!r}, 'x', make=True)"
    )
    subprocess.run([sys.executable, "-c", f"{code}\nos.kill(os.getpid(), 9)"], check=False)
    assert os.listdir(tmp_path) == [leases.NAME]
    assert leases.holder(str(tmp_path), "x") is None
    assert [left.what for left in clean(tmp_path, dry_run=True)] == ["list of running tasks"]
    with leases.kept():
        lease = leases.take(str(tmp_path), "y", make=True)
        assert isinstance(lease, Lease) and clean(tmp_path) == []
        lease.release()
    (tmp_path / leases.NAME).touch()
    assert len(clean(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def _each_once(root: Path, start: Start, processes: int, tasks: int, kills: int) -> None:
    """Run one graph by several processes, killing some; each task is begun once by those that live, or was made."""
    graphs = [f"Many(count={tasks}, seconds=0.005, step={1 if n % 2 else -1})" for n in range(processes)]
    running = [start(graph, "exclusive='wait'") for graph in graphs]
    killed: set[int] = set()
    for victim in random.sample(running[1:], kills):
        _wait_for(root / "log")
        so_far = len(_begun(root))
        while len(_begun(root)) < min(so_far + tasks // (2 * kills + 2), tasks - 1) and victim.poll() is None:
            time.sleep(0.005)
        if victim.poll() is None:
            killed.add(victim.pid)
            victim.kill()
    assert [process.wait(3000) for process in running if process.pid not in killed] == [0] * (processes - len(killed))
    lines = [line.split() for line in (root / "log").read_text().splitlines()]
    by_living = sorted(int(n) for _, n, pid in lines if int(pid) not in killed)
    made_by_dead = set()
    for n in range(tasks):
        record = _task("Leaf", n=n).output().read_metadata()
        assert record is not None
        commit = record["output"]["commit"]
        if int(commit.split("-")[-3]) in killed:
            made_by_dead.add(n)
    assert by_living == [n for n in range(tasks) if n not in made_by_dead]
    if (root / "out").exists():
        assert [name for name in os.listdir(root / "out") if name.startswith(".superluigi.")] == []
    print(
        f"{tasks} made once each by {processes} processes, {len(killed)} killed, {len(made_by_dead)} made by the dead"
    )


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the leaves are made."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.client_options["endpoint_url"])
        monkeypatch.setenv("BUCKET", request.getfixturevalue("s3_bucket"))
    return str(request.param)


def test_of_several_processes_one_makes_each_task_though_some_are_killed(root: Path, start: Start, store: str) -> None:
    _each_once(root, start, processes=4, tasks=60 if store == "local" else 24, kills=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("round", range(10))
def test_eight_processes_make_five_hundred_tasks_once_each_though_some_are_killed(
    root: Path, start: Start, store: str, round: int
) -> None:
    _each_once(root, start, processes=8, tasks=500, kills=3)

"""Task folders and logs, looked at by another process while and after the task runs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TALKATIVE = """
class Talk(Base):
    def run(self, output_path):
        print("python", flush=False)
        sys.stderr.write("no newline yet")
        thread = threading.Thread(target=print, args=("thread",))
        thread.start(); thread.join()
        if os.environ.get("DEEP"):
            subprocess.run("echo child; echo child error >&2", shell=True)
            ctypes.CDLL(None).printf(b"c library\\n")
        while not os.path.exists("go"):
            time.sleep(0.02)
        print("end")
        output_path.write_text("x")
"""


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("executor", "deep"), [(None, ""), ("threads", ""), ("processes", "1")], ids=["here", "threads", "processes"]
)
def test_what_a_task_prints_is_in_its_folder_while_it_runs(
    user: Any, eventually: Callable[..., None], executor: str | None, deep: str
) -> None:
    user.write(TALKATIVE)
    run = user.start("-c", f"from pipeline import *; run_task(Talk(), executor={executor!r})", DEEP=deep)
    jobs = user.workspace / "jobs" / "Talk"
    eventually(lambda: jobs.exists() and list(jobs.iterdir()))
    folder = user.jobs("Talk")
    wanted = ["python", "thread", *(["child", "c library"] if deep else [])]
    eventually(lambda: sorted(_text(folder / "stdout.log").split("\n")) == sorted([*wanted, ""]))
    eventually(lambda: "no newline yet" in _text(folder / "stderr.log"))
    assert not deep or "child error" in _text(folder / "stderr.log")
    assert run.poll() is None  # all this while it ran
    (user.folder / "go").touch()
    assert run.wait(30) == 0
    assert _text(folder / "stdout.log").endswith("end\n")


def test_threads_keep_their_logs_apart(user: Any) -> None:
    user.write("""
        class Talk(Base):
            x = IntParameter()
            def run(self, output_path):
                for i in range(50):
                    print(self.x, flush=True)
                output_path.write_text("x")
        class All(Base):
            def requires(self):
                return [Talk(x) for x in range(20)]
            def run(self, output_path):
                output_path.write_text("x")
    """)
    printed = user.run("run_task(All(), executor='threads', num_workers=8)")
    assert printed.count("\n7\n") > 10, "what is printed still reaches the terminal"
    for folder in (user.workspace / "jobs" / "Talk").iterdir():
        x = json.loads((folder / "params.json").read_text())["x"]
        assert (folder / "stdout.log").read_text() == f"{x}\n" * 50


def test_the_folder_tells_the_parameters_and_is_named_in_the_record(user: Any) -> None:
    user.write("""
        class Secretive(Base):
            name = Parameter()
            password = Parameter(default="hidden", visibility=__import__("luigi").parameter.ParameterVisibility.PRIVATE)
            def run(self, output_path, task_dir, metadata):
                assert task_dir == self.task_dir
                (task_dir / "scratch.bin").write_text("mine")
                output_path.write_text("x")
    """)
    out = user.run("""
        task = Secretive(name="a", password="pa55word")
        run_task(task)
        print(task.output().read_metadata()["run"]["task_dir"])
    """)
    folder = user.jobs("Secretive")
    assert str(folder) in out
    assert json.loads((folder / "params.json").read_text()) == {"name": "a"}
    assert (folder / "scratch.bin").read_text() == "mine"
    assert not any("pa55word" in file.read_text() for file in folder.iterdir() if file.is_file())


def test_the_folder_is_outside_of_a_committed_folder(user: Any) -> None:
    user.write("""
        class Folder(AtomicTaskWithMetadata):
            def output(self):
                return LocalFolderTarget("out")
            def run(self, output_path, task_dir):
                (output_path / "a").write_text("a")
                (task_dir / "b").write_text("b")
    """)
    user.run("run_task(Folder())")
    assert [path.name for path in (user.folder / "out").iterdir()] == ["a"]


def test_a_silent_task_that_asked_for_nothing_leaves_no_folder(user: Any) -> None:
    user.write("""
        class Silent(Base):
            def run(self, output_path):
                output_path.write_text("x")
    """)
    user.run("for executor in (None, 'processes'): run_task(Silent(), executor=executor, force=True)")
    assert not list((user.workspace / "jobs").glob("Silent/*"))


def test_a_killed_attempt_leaves_its_folder_and_the_next_one_puts_it_aside(
    user: Any, eventually: Callable[..., None]
) -> None:
    user.write("""
        class Victim(Base):
            def run(self, output_path, task_dir):
                print("attempt", os.getpid(), flush=True)
                (task_dir / "notes").write_text("n")
                while not os.path.exists("go"):
                    time.sleep(0.02)
                output_path.write_text("x")
    """)
    run = user.start("-c", "from pipeline import *; run_task(Victim())")
    eventually(lambda: list((user.workspace / "jobs").glob("Victim/*/notes")))
    folder = user.jobs("Victim")
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert f"attempt {run.pid}" in (folder / "stdout.log").read_text()
    (user.folder / "go").touch()
    user.run("run_task(Victim())")
    assert f"attempt {run.pid}" in (folder / "attempts" / "1" / "stdout.log").read_text()
    assert (folder / "attempts" / "1" / "notes").exists()
    assert str(run.pid) not in (folder / "stdout.log").read_text()
    assert f"attempt {run.pid}" in user.cli("logs", "pipeline", "Victim", "--attempt", "1")


def test_an_attempt_that_kills_its_process_at_once_leaves_its_folder_too(user: Any) -> None:
    user.write("""
        class Bang(Base):
            def run(self, output_path):
                print("the last words", flush=True)
                os.kill(os.getpid(), 9)
        class Mute(Base):
            def run(self, output_path):
                os._exit(3)
    """)
    user.run("""
        for task in Bang(), Mute():
            try:
                run_task(task, executor="processes")
            except RuntimeError as error:
                print(error)
    """)
    assert user.cli("logs", "pipeline", "Bang") == "the last words\n"
    folder, mute = user.jobs("Bang"), user.jobs("Mute")
    assert {"params.json", "rerun.py", "stdout.log", "stderr.log"} <= set(os.listdir(folder))
    assert (mute / "rerun.py").exists()
    assert not os.listdir(user.workspace / "spare")


def test_attempts_that_print_nothing_leave_no_files_even_while_they_run(user: Any) -> None:
    user.write("""
        class Quick(Base):
            def run(self, output_path):
                jobs = os.path.join(os.environ["SUPERLUIGI_WORKSPACE"], "jobs", "Quick")
                output_path.write_text(str(os.path.exists(jobs)))
        class Chatty(Base):
            number = IntParameter()
            def requires(self):
                return Quick() if self.number == 0 else Chatty(self.number - 1)
            def run(self, output_path):
                print("number", self.number)
                output_path.write_text("x")
    """)
    user.run("run_task(Chatty(2), executor='processes')")
    assert "False" in [path.read_text() for path in user.folder.rglob("*.txt")]
    logs = [path.read_text() for path in (user.workspace / "jobs").glob("Chatty/*/stdout.log")]
    assert sorted(logs) == ["number 0\n", "number 1\n", "number 2\n"]
    assert not os.listdir(user.workspace / "spare")


def test_attempts_beyond_the_limit_are_dropped_and_a_kept_folder_stays(user: Any) -> None:
    user.write("""
        class Fresh(Base):
            def run(self, output_path, task_dir):
                print(len([p for p in task_dir.iterdir() if p.suffix == ".mine"]))
                (task_dir / f"{time.time_ns()}.mine").touch()
                output_path.write_text("x")
        class Kept(Fresh):
            keep_task_dir = True
    """)
    program = "for _ in range(4): run_task(Fresh(), force=True); run_task(Kept(), force=True)"
    user.run(program, SUPERLUIGI_KEEP_ATTEMPTS="2")
    fresh, kept = user.jobs("Fresh"), user.jobs("Kept")
    assert sorted(os.listdir(fresh / "attempts")) == ["2", "3"]
    assert (fresh / "stdout.log").read_text() == "0\n"
    assert (kept / "stdout.log").read_text() == "3\n"
    assert (kept / "attempts" / "3" / "stdout.log").read_text() == "2\n"


def test_old_folders_are_pruned_but_not_those_of_running_or_unfinished_tasks(tmp_path: Path) -> None:
    import fcntl

    from superluigi.tasks.runtime import supervisor

    folders = {}
    for name in ("old", "young", "running", "unfinished"):
        folder = folders[name] = tmp_path / "jobs" / "Family" / name
        folder.mkdir(parents=True)
        (folder / "rerun.py").touch()
        (folder / ".lock").touch()
        os.utime(folder / "rerun.py", (0, 0) if name != "young" else None)
    (folders["unfinished"] / "checkpoint").touch()
    with (folders["running"] / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert supervisor.prune(tmp_path, keep_days=30) == [folders["old"]]
    assert sorted(path.name for path in folders["young"].parent.iterdir()) == ["running", "unfinished", "young"]


def test_rerun_runs_the_task_again_by_hand_and_shows_what_it_raises(user: Any) -> None:
    user.write("""
        class Again(Base):
            command_prefix = "env -u NOTHING"
            day = __import__("superluigi.parameters", fromlist=["x"]).DateParameter()
            def run(self, output_path):
                print("ran on", self.day)
                print("in process", os.getpid())
                if os.path.exists("broken"):
                    raise ValueError("this is why")
                output_path.write_text("x")
    """)
    user.run("import datetime; run_task(Again(day=datetime.date(2013, 12, 15)))")
    script = str(user.jobs("Again") / "rerun.py")
    process = user.start(script)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "ran on 2013-12-15" in out, out + err
    assert f"in process {process.pid}" in out, "a debugger must find it here, not behind the prefix"
    (user.folder / "broken").touch()
    process = user.start(script)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "this is why" in err
    assert "this is why" in (user.jobs("Again") / "stderr.log").read_text()
    debugged = user.start("-m", "pdb", "-c", "continue", script)
    out, err = debugged.communicate("w\nq\n", timeout=60) if debugged.stdin else debugged.communicate(timeout=60)
    assert "this is why" in out + err


def test_logs_shows_both_streams_and_follows_to_the_end(user: Any, eventually: Callable[..., None]) -> None:
    user.write(TALKATIVE)
    assert "has not run" in user.cli("logs", "pipeline", "Talk", expect=1)
    user.start("-c", "from pipeline import *; run_task(Talk(), executor='processes')", DEEP="1")
    eventually(lambda: list((user.workspace / "jobs").glob("Talk/*/stdout.log")))
    follower = user.start("-m", "superluigi", "logs", "pipeline", "Talk", "--follow")
    assert follower.stdout is not None
    seen = {follower.stdout.readline().strip() for _ in range(3)}
    assert "python" in seen and follower.poll() is None
    (user.folder / "go").touch()
    out, err = follower.communicate(timeout=30)
    assert out.endswith("end\n") and "no newline yet" in err
    assert follower.returncode == 0
    assert user.cli("logs", "pipeline", "Talk", "--path").strip() == str(user.jobs("Talk"))


def test_a_failure_leaves_its_traceback_in_the_folder(user: Any) -> None:
    user.write("""
        class Fails(Base):
            def run(self, output_path):
                raise ValueError("deep down")
        class Plain(Task):
            def run(self):
                print("plain")
                raise ValueError("deep down")
    """)
    user.run("""
        for task in (Fails(), Plain()):
            for executor in (None, "threads", "processes"):
                try:
                    run_task(task, executor=executor)
                except RuntimeError:
                    pass
    """)
    for family in ("Fails", "Plain"):
        folder = user.jobs(family)
        assert sorted(os.listdir(folder / "attempts")) == ["1", "2"]
        for attempt in (folder, folder / "attempts" / "1", folder / "attempts" / "2"):
            assert "ValueError: deep down" in (attempt / "stderr.log").read_text()


def test_capturing_can_be_switched_off(user: Any) -> None:
    user.write("""
        class Talk(Base):
            def run(self, output_path):
                print("hello")
                output_path.write_text("x")
    """)
    out = user.run("run_task(Talk(), executor='processes')", SUPERLUIGI_CAPTURE_LOGS="false")
    assert "hello" in out
    assert not (user.workspace / "jobs").exists()


def test_a_workspace_that_is_removed_under_a_run_costs_no_task(user: Any) -> None:
    user.write("""
        import shutil
        class First(Base):
            def run(self, output_path):
                output_path.write_text("x")
        class Second(Base):
            def requires(self):
                return First()
            def run(self, output_path):
                shutil.rmtree(os.environ["SUPERLUIGI_WORKSPACE"])
                print("said into a file that is gone")
                output_path.write_text("x")
        class Third(Base):
            def requires(self):
                return Second()
            def run(self, output_path):
                print("kept again")
                output_path.write_text("x")
    """)
    user.run("run_task(Third(), executor='processes')")
    assert (user.jobs("Third") / "stdout.log").read_text() == "kept again\n"


def test_logs_reach_their_folder_although_who_was_putting_them_there_was_killed(user: Any) -> None:
    from superluigi.storage import owner_token

    user.write("""
        class Bang(Base):
            def run(self, output_path):
                print("the last words", flush=True)
                os.kill(os.getpid(), 9)
    """)
    user.run("""
        from superluigi.tasks.runtime.workspace import log_pool
        log_pool.recover_orphans = lambda *_: None
        try:
            run_task(Bang(), executor="processes")
        except RuntimeError:
            pass
    """)
    [left] = (user.workspace / "spare").iterdir()
    left.rename(left.with_name(f"{left.name}+{owner_token.host()}-{owner_token.world()}-1-99999999-{'0' * 12}"))
    assert user.cli("logs", "pipeline", "Bang") == "the last words\n"
    assert not os.listdir(user.workspace / "spare")

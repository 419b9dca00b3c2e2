"""Every call of the system that a local commit makes fails once, or from then on: what is told is what is there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.testing import fault_injection

SOURCE = Path(__file__).parent.parent / "data/faults.c"
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EROFS": errno.EROFS, "short": 0}
KINDS = ["file", "folder", "folder without exchange", "folder with its record inside"]

IN_PROCESS = """
import ctypes, json, logging, sys
from pathlib import Path
from superluigi.storage.local import atomic
from superluigi.storage.base import SCHEMA
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, look, publish

kind, root, error, how, every = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
lasting = how == "lasting"
logging.disable(logging.CRITICAL)
if kind == "folder without exchange":
    atomic._exchange_function = lambda: None
library = ctypes.CDLL(None)
library.faults_failed.restype = ctypes.c_char_p

for old in ("old", None):
    n = total = 0
    while n <= total:
        folder = root / f"{kind}-{error}-{lasting}-{old}-{n}"
        folder.mkdir()
        rig = LocalFileRig(folder) if kind == "file" else LocalFolderRig(
            folder, **({"metadata_inside_folder": True} if "inside" in kind else {})
        )
        if old:
            publish(rig, old)
        told, message = "committed", ""
        library.faults_arm(str(folder).encode(), n or 1 << 30, 1 << 29 if lasting else n, error)
        try:
            with rig.target().stage() as staged:
                library.faults_pause(1)
                rig.write(staged.path, "new")
                library.faults_pause(0)
                staged.commit({"schema": SCHEMA, "run": {"id": "run-new"}, "text": "new"})
        except BaseException as raised:
            told, message = type(raised).__name__, str(raised)
        calls, failed = library.faults_calls(), library.faults_failed().decode()
        library.faults_pause(1)
        state = look(rig)
        publish(rig, "last")
        print(json.dumps({
            "n": n, "failed": failed, "told": told, "message": message, "state": state, "old": old,
            "last": look(rig), "left": rig.leftovers(),
        }))
        total = total if n else calls
        n += every
"""


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls of the system fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("a C compiler (gcc) and Linux are needed to let calls of the system fail")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def check(faults: Path, place: Path, kind: str, error: str, how: str, every: int) -> None:
    command = [sys.executable, "-c", IN_PROCESS, kind, str(place), str(ERRORS[error]), how, str(every)]
    done = subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": str(faults)}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) > 3
    for answer in answers:
        old, state = answer["old"], tuple(answer["state"])
        if answer["told"] == "committed":
            assert state == ("new", "new"), answer
        elif "finishes the swap" in answer["message"]:  # neither there nor back, and the message says so
            assert state in ((old, old), ("new", "new")), answer
        else:
            assert answer["told"] in ("CommitError", "StorageAccessError"), answer
            assert state == (old, old), answer
        assert answer["last"] == ["last", "last"], answer
        assert answer["left"] == [], answer
    assert {answer["told"] for answer in answers} > {"committed"} or error == "short"


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_failing_calls_leaves_old_or_new_and_the_truth_is_told(
    faults: Path, tmp_path: Path, kind: str
) -> None:
    check(faults, tmp_path, kind, "EIO", "once", 3)
    check(faults, tmp_path, kind, "ENOSPC", "lasting", 7)


@pytest.mark.long
@pytest.mark.parametrize("how", ["once", "lasting"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_failing_call_leaves_old_or_new_and_the_truth_is_told(
    faults: Path, tmp_path: Path, kind: str, error: str, how: str
) -> None:
    check(faults, tmp_path, kind, error, how, 1)


WHOLE_TASK = """
import contextlib, ctypes, io, json, logging, sys
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

root, error, how, where, every = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
logging.disable(logging.CRITICAL)
library = ctypes.CDLL(None)
library.faults_failed.restype = ctypes.c_char_p

class Task(AtomicTaskWithMetadata):
    n: Param[int]
    def output(self):
        return LocalFileTarget(root / "out" / f"{self.n}.txt")
    def run(self, output_path, metadata):
        print("a line for the log")
        library.faults_pause(1)
        output_path.write_text("new")
        library.faults_pause(0)

def run(task):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run_task(task, force=True)

library.faults_pause(1)
run(Task(n=-1))
n = total = 0
while n <= total:
    task, told = Task(n=n), "made"
    with task.output().stage() as staged:
        staged.path.write_text("old")
        staged.commit({"run": {"id": "before"}, "text": "old"})
    library.faults_arm(str(root / where).encode(), n or 1 << 30, 1 << 29 if how == "lasting" else n, error)
    try:
        run(task)
    except Exception as raised:
        told = type(raised).__name__
    calls, failed = library.faults_calls(), library.faults_failed().decode()
    library.faults_pause(1)
    record = task.output().read_metadata()
    state = [task.output().path.read_text(), "old" if record["run"]["id"] == "before" else "new"]
    print(json.dumps({"n": n, "failed": failed, "told": told, "state": state}))
    total = total if n else calls
    n += every
"""


def check_task(faults: Path, root: Path, error: str, how: str, where: str, every: int) -> None:
    places = {"SUPERLUIGI_WORKSPACE": str(root / "workspace"), "SUPERLUIGI_LOCAL_DATA_DIR": str(root / "copies")}
    command = [sys.executable, "-c", WHOLE_TASK, str(root), str(ERRORS[error]), how, where, str(every)]
    done = subprocess.run(
        command, env={**os.environ, **places, "LD_PRELOAD": str(faults)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) > 3 or where == "copies"  # hardly used by tasks without inputs
    for answer in answers:
        expected = ["new", "new"] if answer["told"] == "made" else ["old", "old"]
        assert answer["told"] in ("made", "TaskFailedError") and answer["state"] == expected, answer


@pytest.mark.parametrize("where", ["out", "workspace"])
def test_a_task_says_it_failed_only_if_its_output_is_the_old_one(faults: Path, tmp_path: Path, where: str) -> None:
    check_task(faults, tmp_path, "ENOSPC", "once", where, 4)


@pytest.mark.long
@pytest.mark.parametrize("where", ["out", "workspace", "copies"])
@pytest.mark.parametrize("how", ["once", "lasting"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS"])
def test_a_task_says_it_failed_only_if_its_output_is_the_old_one_at_each_call(
    faults: Path, tmp_path: Path, where: str, how: str, error: str
) -> None:
    check_task(faults, tmp_path, error, how, where, 1)


@pytest.mark.parametrize("left", range(4))
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_a_process_without_descriptors_leaves_nothing_behind(tmp_path: Path, kind: Any, left: int) -> None:
    """To see what is in a stage, so that it can be removed, takes some."""
    fault_injection.in_child(write_without_descriptors, kind, tmp_path, left)
    there = {"out", "out.metadata.json"} if kind(tmp_path / "out").exists() else set()
    assert {one.name for one in tmp_path.iterdir()} <= there


def write_without_descriptors(kind: Any, folder: Path, left: int) -> None:
    """In a process of its own: what another one keeps in reserve may have numbers beyond such a limit."""
    target, held = kind(folder / "out"), [os.open(os.devnull, os.O_RDONLY)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 40, before[1]))
    try:
        with contextlib.suppress(OSError), target.tmp_write_path() as path:
            if kind is LocalFolderTarget:
                (path / "deep/er").mkdir(parents=True)
                path /= "deep/er/file"
            path.write_text("new")
            with contextlib.suppress(OSError):
                held.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(100))
            for descriptor in held[len(held) - left :]:
                os.close(descriptor)
            del held[len(held) - left :]
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

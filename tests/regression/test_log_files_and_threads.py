"""Log files of attempts are closed, moved and used again while other threads still write to them or look after them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from superluigi.tasks.runtime import logs

PIPELINE = """
import os, sys, threading
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.runtime import cancel, supervisor
from superluigi.tasks.runtime.workspace import log_pool

def look_after(wait):
    # what the supervisor does now and then, as if this very moment were its time
    def look():
        for scope in SCOPES:
            supervisor.logs.keep_if_spare(scope)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join(wait)

SCOPES = []

class Prints(AtomicTaskWithMetadata):
    name: Param[str]
    def requires(self):
        return Prints(self.name[:-1]) if len(self.name) > 1 else []
    def run(self, output_path):
        os.write(1, b"by descriptor\\n")
        SCOPES[:] = [*SCOPES[-1:], *cancel.running()]
        output_path.write_text("x")

class Pool(log_pool.PooledLogs):
    def begin(self, about):
        super().begin(about)
        SCOPES.extend(cancel.running())
        look_after(0.2)  # while the attempt is being set up; and those that have ended

log_pool.PooledLogs = Pool
"""


def test_the_supervisor_takes_no_files_that_are_not_in_use_or_another_attempts(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    program = "from pipeline import *\nrun_task(Prints('abc'), executor='processes', num_workers=1)"
    env = {**os.environ, "SUPERLUIGI_STORE": str(tmp_path / "store"), "SUPERLUIGI_WORKSPACE": str(tmp_path / "w")}
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    kept = [path.read_text() for path in (tmp_path / "w" / "jobs" / "Prints").glob("*/stdout.log")]
    assert kept == ["by descriptor\n"] * 3


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open_log(self, name: str) -> int:
        return os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Scope:
    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)


def test_what_is_written_while_the_log_is_closed_lands_in_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope: Any = Scope(tmp_path)
    writer = logs.LogWriter(scope)
    writer.write(0, b"first\n")
    write = os.write
    others: list[int] = []
    closing = threading.Thread(target=writer.close)

    def closed_meanwhile(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        closing.start()
        closing.join(0.2)  # it waits for this one
        others.extend(os.open(tmp_path / f"other-{n}", os.O_WRONLY | os.O_CREAT) for n in range(4))
        done = write(descriptor, data)
        return done

    monkeypatch.setattr(os, "write", closed_meanwhile)
    writer.write(0, b"second\n")
    closing.join()
    writer.write(0, b"too late\n")
    for descriptor in others:
        os.close(descriptor)
    assert [(tmp_path / f"other-{n}").read_text() for n in range(4)] == [""] * 4
    assert (tmp_path / "stdout.log").read_text() == "first\nsecond\n"


def test_a_forked_child_may_print_while_a_thread_of_its_parent_was_printing(tmp_path: Path) -> None:
    scope: Any = Scope(tmp_path)
    writer = logs.LogWriter(scope)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with writer._guard:
            held.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        writer.write(0, b"from the child\n")
        os._exit(0)
    go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    writer.close()
    assert (tmp_path / "stdout.log").read_text() == "from the child\n"

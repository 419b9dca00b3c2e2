"""A user's module in a fresh folder, run by other processes, looked at from this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HEAD = """
import ctypes, os, random, subprocess, sys, threading, time
from pathlib import Path
from superluigi import run_task
from superluigi.errors import GracefulTimeout
from superluigi.parameters import IntParameter, Parameter
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata

class Base(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget(f"out/{self.task_family}-{self.task_hash[:8]}.txt")
"""


class User:
    """Somebody with a folder, a workspace, and programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self._started: list[subprocess.Popen[str]] = []

    def write(self, code: str, name: str = "pipeline") -> None:
        (self.folder / f"{name}.py").write_text(HEAD + textwrap.dedent(code))

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "SUPERLUIGI_WORKSPACE": str(self.workspace), **more}

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, code: str, expect: int = 0, **more: str) -> str:
        """Run a line of Python after `from pipeline import *`; what it printed."""
        process = self.start("-c", f"from pipeline import *\n{textwrap.dedent(code)}", **more)
        out, err = process.communicate(timeout=90)
        assert process.returncode == expect, out + err
        return out + err

    def cli(self, *words: str, expect: int = 0) -> str:
        process = self.start("-m", "superluigi", *words)
        out, err = process.communicate(timeout=60)
        assert process.returncode == expect, out + err
        return out + err

    def jobs(self, family: str) -> Path:
        """The only task folder of a family."""
        (found,) = (self.workspace / "jobs" / family).iterdir()
        return found

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    folder = tmp_path / "user's folder"
    folder.mkdir()
    user = User(folder)
    yield user
    user.end()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until something is so; gives up after many times what it should take."""

    def wait(condition: Callable[[], object], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.02)

    return wait

"""A process may be called anything: Linux cuts names after 15 bytes, within a character if need be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from superluigi.execution.process import process_tree
from superluigi.targets import LocalFileTarget

PR_SET_NAME = 15
WRITES = f"""
import ctypes, sys
from superluigi.targets import LocalFileTarget

ctypes.CDLL(None).prctl({PR_SET_NAME}, b"m) Z 1 nchen-\\xc3")
with LocalFileTarget("out.txt").tmp_write_path() as path:
    print("writing", flush=True)
    sys.stdin.readline()
    path.write_text("by the first")
"""


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing `out.txt`, whose name is no text."""
    monkeypatch.chdir(tmp_path)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WRITES], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def test_what_it_writes_stays_when_others_commit_beside_it(writer: subprocess.Popen[str]) -> None:
    with LocalFileTarget("other.txt").tmp_write_path() as path:
        path.write_text("by another")
    writer.communicate("go on\n")
    assert writer.returncode == 0
    assert Path("out.txt").read_text() == "by the first"


def test_it_is_ended_with_what_its_parent_has_started(writer: subprocess.Popen[str]) -> None:
    assert writer.pid in process_tree.descendants(os.getpid())

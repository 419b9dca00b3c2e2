"""Nothing of the standard library is patched, and what others patch stays; what threads cannot share leaves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import luigi
import pytest

from superluigi.engine.engine import run_graph

PROGRAM = """
import _thread, asyncio, builtins, concurrent.futures, functools, io, logging, multiprocessing, os, pickle, random
import shutil, signal, socket, subprocess, sys, tempfile, threading, time, warnings, contextlib, multiprocessing.pool

MODULES = [_thread, asyncio, builtins, concurrent.futures, functools, io, logging, multiprocessing, os, pickle, random,
           shutil, signal, socket, subprocess, tempfile, threading, time, contextlib, multiprocessing.pool]

def shape():
    found = {("os.environ", "class"): type(os.environ)}
    for module in MODULES:
        for name, value in vars(module).items():
            if callable(value):
                found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__.split(".")[0] == module.__name__.split(".")[0]:
                for attribute, inner in vars(value).items():
                    if callable(inner):
                        found[f"{module.__name__}.{name}", attribute] = inner
    return found

def changed(before):
    now = shape()
    return sorted(key for key in before if now.get(key) is not before[key])

import luigi, luigi.worker, luigi.contrib.external_program  # what Luigi does is Luigi's
BEFORE = shape()

start, popen = threading.Thread.start, subprocess.Popen.__init__
seen = []
def wrapped_start(self): seen.append("start"); return start(self)
def wrapped_popen(self, *args, **kwargs): seen.append("popen"); return popen(self, *args, **kwargs)

from superluigi import compute, run_task
from superluigi.parameters import Parameter
from superluigi.tasks import AtomicTaskWithMetadata
import superluigi.queue, superluigi.cli.run, superluigi.visuals
assert not changed(BEFORE), changed(BEFORE)

class Looks(AtomicTaskWithMetadata):
    n = Parameter()
    def run(self) -> list:
        print("one line")
        threading.Thread(target=print, args=("from a thread",)).start()
        subprocess.run(["true"])
        return [list(key) for key in changed(BEFORE)]

class WithEnvironment(AtomicTaskWithMetadata):
    n = Parameter()
    environment = {"A": "1"}
    def run(self) -> list:
        return [os.environ["A"], os.getpid() == int(self.n)]

if __name__ == "__main__":
    for executor in (None, "threads"):
        assert compute([Looks(n="1"), Looks(n="2")], executor=executor, num_workers=2 if executor else 1, force=True,
                       store=f"store-{executor}") == [[], []]
    assert not changed(BEFORE), changed(BEFORE)
    threading.Thread.start, subprocess.Popen.__init__ = wrapped_start, wrapped_popen
    mine = [["subprocess.Popen", "__init__"], ["threading.Thread", "start"]]
    for executor in (None, "threads"):
        seen.clear()
        assert compute(Looks(n="3"), executor=executor, force=True, store=f"store-{executor}") == mine
        assert {"start", "popen"} <= set(seen), seen
        me = str(os.getpid())
        told = compute([WithEnvironment(n=me), Looks(n="4")], executor=executor, force=True, store=f"store-{executor}")
        assert told == [["1", executor is None], mine], told
        assert threading.Thread.start is wrapped_start and subprocess.Popen.__init__ is wrapped_popen
        assert "A" not in os.environ
    print("ALL WELL")
"""


def test_nothing_is_patched_before_while_or_after_tasks_run_and_wrappers_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(tmp_path / "workspace")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert "ALL WELL" in done.stdout, done.stdout


def external(folder: Path) -> list[luigi.Task]:
    from superluigi.testing.executor_tasks import external_programs

    return external_programs(str(folder))


@pytest.mark.parametrize("executor", ["threads", "processes", None])
def test_luigis_external_programs_run_everywhere(tmp_path: Path, executor: str | None) -> None:
    report = run_graph(external(tmp_path), executor=executor, num_workers=2)
    assert report.success, report.describe()
    made = sorted(path.name for path in tmp_path.glob("program-*") if path.suffix != ".json")
    assert made == ["program-0", "program-1", "program-2"]

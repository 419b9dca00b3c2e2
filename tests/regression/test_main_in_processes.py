"""What a script defines works in its worker processes as in its own: pickles, pools, values, exceptions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import collections, dataclasses, enum, multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
from superluigi import compute
from superluigi.parameters import Parameter
from superluigi.tasks import AtomicTaskWithMetadata

def square(x):
    return x * factor(x)

def factor(x):
    return x

@dataclasses.dataclass
class Point:
    x: int
    def twice(self):
        return square(self.x) * 2

class Colour(enum.Enum):
    RED = 1

class Outer:
    @dataclasses.dataclass
    class Inner:
        x: int
    class Wrong(Exception):
        pass

Pair = collections.namedtuple("Pair", "left right")

class OwnError(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code

class Pool(AtomicTaskWithMetadata):
    way = Parameter()
    def run(self) -> list:
        if self.way == "pickle":
            return [pickle.loads(pickle.dumps(square))(n) for n in (1, 2)]
        with ProcessPoolExecutor(2, multiprocessing.get_context(self.way)) as pool:
            return list(pool.map(square, [1, 2]))

class Value(AtomicTaskWithMetadata):
    def run(self) -> object:
        return {"point": Point(3), "colour": Colour.RED, "pair": Pair(1, 2), "inner": Outer.Inner(4)}

class Reads(AtomicTaskWithMetadata):
    def requires(self):
        return Value()
    def run(self, inputs) -> str:  # names none of the classes
        value = inputs
        return f"{value['point'].twice()} {value['colour'].name} {value['pair'].left}"

class Fails(AtomicTaskWithMetadata):
    def run(self) -> int:
        raise OwnError(7)

class FailsInside(AtomicTaskWithMetadata):
    def run(self) -> int:
        raise Outer.Wrong(8)

class Behind(Value):
    command_prefix = "env"

def main(how):
    for way in sys.argv[2:]:
        assert compute(Pool(way=way), force=True, **how) == [1, 4], way
    assert compute(Reads(), force=True, **how) == "18 RED 1"
    made = {"point": Point(3), "colour": Colour.RED, "pair": Pair(1, 2), "inner": Outer.Inner(4)}
    assert compute(Value(), **how) == made
    assert compute(Behind(), force=True)["point"] == Point(3)
    try:
        compute(Fails(), **how)
    except Exception as error:
        assert type(error.__cause__) is OwnError and error.__cause__.code == 7, repr(error.__cause__)
    try:
        compute(FailsInside(), **how)
    except Exception as error:
        assert type(error.__cause__) is Outer.Wrong and error.__cause__.args == (8,), repr(error.__cause__)
    print("ALL WELL")

if __name__ == "__main__":
    context = lambda: multiprocessing.get_context(sys.argv[1].removeprefix("pool of "))
    main({"processes": dict(num_workers=2), "here": {}, "threads": dict(executor="threads")}.get(sys.argv[1])
         or dict(executor=ProcessPoolExecutor(1, context())) if sys.argv[1] != "here" else {})
"""


def run(folder: Path, *words: str) -> str:
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(folder / "workspace")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0 and "ALL WELL" in done.stdout, done.stdout
    return done.stdout


def test_a_script_works_in_its_worker_processes_as_in_its_own_and_reads_what_those_wrote(tmp_path: Path) -> None:
    run(tmp_path, "script.py", "processes", "pickle", "fork", "spawn")
    run(tmp_path, "script.py", "here")


@pytest.mark.parametrize(
    "pool",
    ["pool of fork", *(pytest.param(f"pool of {kind}", marks=pytest.mark.long) for kind in ("spawn", "forkserver"))],
)
def test_so_it_does_in_pools_of_the_standard_library(tmp_path: Path, pool: str) -> None:
    run(tmp_path, "script.py", pool, "pickle", "fork")


@pytest.mark.long
def test_so_it_does_started_as_a_module(tmp_path: Path) -> None:
    run(tmp_path, "-m", "script", "processes", "pickle", "fork", "spawn")


def test_a_class_that_drags_much_along_or_cannot_travel_is_left_behind(tmp_path: Path) -> None:
    program = """
import threading
from superluigi import compute
from superluigi.execution import main_names
from superluigi.tasks import AtomicTaskWithMetadata
import luigi
TABLE = bytes(2_000_000)
class Large:
    def look(self):
        return TABLE
class Locked:
    lock = threading.Lock()
class Small:
    pass
class Task(AtomicTaskWithMetadata):
    def run(self) -> int:
        return 5
found = main_names.collected(luigi.Task).classes
assert sorted(found) == ["Small"], sorted(found)
assert compute(Task(), executor="processes") == 5
print("ALL WELL")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "ALL WELL" in done.stdout, done.stdout

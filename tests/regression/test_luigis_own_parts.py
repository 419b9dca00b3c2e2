"""Our ranges of versions leave Luigi's own parts working: SQLAlchemy on both sides of 2."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

PIPELINE = """
import luigi
from luigi.contrib import sqla
from sqlalchemy import String
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata

class Table(sqla.CopyToTable):
    columns = [(["a", String(9)], {})]
    table = "t"
    connection_string = "sqlite:///table.sqlite"

    def rows(self):
        yield ("x",)

class Square(AtomicTaskWithMetadata):
    n: Param[int]

    def run(self) -> int:
        return self.n ** 2

class Fails(AtomicTaskWithMetadata):
    def run(self) -> int:
        raise ValueError("as it should")
"""

USE = """
import sqlalchemy, luigi, pipeline
from superluigi import run_task, compute
from superluigi.queue import Queue
print("SQLAlchemy", sqlalchemy.__version__)
if sqlalchemy.__version__ < "2":  # Luigi's newest release says of itself that it wants no newer one
    assert luigi.build([pipeline.Table()], local_scheduler=True, log_level="CRITICAL")
    run_task(pipeline.Table())
queue = Queue("range")
queue.submit([pipeline.Square(n=n) for n in range(4)] + [pipeline.Fails()])
queue.spawn(2)
assert sorted(row.state for row in queue.tasks()) == ["FAILED"] + 4 * ["SUCCEEDED"], queue.tasks()
assert [compute(pipeline.Square(n=n)) for n in range(4)] == [0, 1, 4, 9]
try:
    Queue("postgresql://127.0.0.1:1/nowhere").tasks()
except Exception as error:
    print("POSTGRES", type(error).__name__, error)
"""


def requirement(name: str, section: str = "options", option: str = "install_requires") -> Requirement:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = [line for line in parser[section][option].splitlines() if line]
    return next(found for found in map(Requirement, lines) if found.name.lower() == name)


def test_ranges_allow_what_luigis_own_parts_need_and_end_below_what_nobody_has_tried() -> None:
    sqlalchemy = requirement("sqlalchemy").specifier
    assert "1.4.54" in sqlalchemy
    assert "2.1.9" in sqlalchemy
    assert "3.0" not in sqlalchemy
    luigi = requirement("luigi").specifier
    assert "3.8.1" in luigi
    assert "3.9.0" not in luigi
    assert "1.4.54" not in requirement("sqlalchemy", "options.extras_require", "postgres").specifier


def used(folder: Path, *first: Path) -> str:
    (folder / "pipeline.py").write_text(PIPELINE)
    path = os.pathsep.join(map(str, (*first, folder, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "SUPERLUIGI_STORE": str(folder / "store")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_queue_works_on_the_sqlalchemy_that_is_installed(tmp_path: Path) -> None:
    assert "SQLAlchemy" in used(tmp_path)


@pytest.mark.long
def test_a_queue_and_luigis_tables_work_on_sqlalchemy_1_4(tmp_path: Path) -> None:
    old = tmp_path / "old"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(old), "sqlalchemy<2"]
    subprocess.run(command, check=True, capture_output=True)
    said = used(tmp_path, old)
    assert "SQLAlchemy 1.4" in said
    assert "POSTGRES MissingDependencyError" in said
    assert "SQLAlchemy 2" in said

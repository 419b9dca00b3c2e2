"""Public pipelines in our own words: many tasks under a wrapper, nested yields, outputs found from inputs."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.mock import MockFileSystem, MockTarget
from luigi.util import inherits, requires

from superluigi import run_task
from superluigi.errors import TaskFailedError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, TaskWithMetadata

WAYS = [{}, {"num_workers": 4, "executor": "threads"}, {"num_workers": 2, "executor": "processes"}]
DAY = datetime.date(2024, 2, 28)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    MockFileSystem().clear()
    return tmp_path


# ---- a wrapper over thirty tasks: ten stations, three steps each; one station's data is not there


class Measured(luigi.ExternalTask):
    station = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"measured/{self.station}.json")


@requires(Measured)
class Cleaned(luigi.Task):
    def output(self) -> Any:
        return luigi.LocalTarget(f"cleaned/{self.station}.json")

    def run(self) -> None:
        with self.input().open() as source, self.output().open("w") as out:
            json.dump([value for value in json.load(source) if value >= 0], out)


@requires(Cleaned)
class Averaged(AtomicTaskWithMetadata):
    retry_count = 2

    def output(self) -> Any:
        return LocalFileTarget(f"averaged/{self.station}.json")

    def run(self, input_path: Path, output_path: Path) -> None:
        values = json.loads(input_path.read_text())
        tried = Path(f"tried-{self.station}")
        if self.station == 3 and not tried.exists():
            tried.touch()
            raise ConnectionError("try again")
        output_path.write_text(json.dumps(sum(values) / len(values)))


@inherits(Averaged)
class Published(luigi.Task):
    title = luigi.Parameter(default="Station", significant=False)

    def requires(self) -> Any:
        return {"average": self.clone(Averaged), "cleaned": self.clone(Cleaned)}

    def output(self) -> Any:
        return luigi.LocalTarget(f"published/{self.station}.txt")

    def run(self) -> None:
        average = json.loads(Path(str(self.input()["average"].path)).read_text())
        with self.input()["cleaned"].open() as source, self.output().open("w") as out:
            out.write(f"{self.title} {self.station}: {average} of {len(json.load(source))}")


class Stations(luigi.WrapperTask):
    count = luigi.IntParameter(default=10)

    def requires(self) -> Any:
        yield from (Published(station=station) for station in range(self.count))


def measure(count: int) -> None:
    Path("measured").mkdir()
    for station in range(count):
        Path(f"measured/{station}.json").write_text(json.dumps([station, station + 1, -1]))


@pytest.mark.parametrize("options", WAYS)
def test_a_wrapper_over_thirty_tasks_makes_all_that_can_be_made(options: dict[str, Any], here: Path) -> None:
    measure(9)
    with pytest.raises(TaskFailedError) as caught:
        run_task(Stations(), **options)
    assert [task for task, _ in caught.value.failures] == ["Measured(station=9)"]
    assert len(list(here.glob("published/*"))) == 9
    Path("measured/9.json").write_text("[9]")
    run_task(Stations(), **options)
    assert Path("published/3.txt").read_text() == "Station 3: 3.5 of 2"
    assert Path("published/9.txt").read_text() == "Station 9: 9.0 of 1"
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*.txt")}
    run_task(Stations(), **options)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*.txt")} == before


# ---- yields in yields, their results in mock targets


class Leaf(luigi.Task):
    path = luigi.Parameter()

    def output(self) -> Any:
        return MockTarget(f"leaf/{self.path}")

    def run(self) -> None:
        with self.output().open("w") as out:
            out.write(self.path[-1:])


class Folder(luigi.Task):
    """Finds out only while it runs what is below it."""

    path = luigi.Parameter()
    depth = luigi.IntParameter()

    def output(self) -> Any:
        return MockTarget(f"folder/{self.path}-{self.depth}")

    def run(self) -> Any:
        names = yield Leaf(f"{self.path}/names")
        with names.open() as source:
            assert source.read() == "s"
        if self.depth:
            below = yield {name: Folder(f"{self.path}/{name}", self.depth - 1) for name in "ab"}
        else:
            below = yield {name: Leaf(f"{self.path}/{name}") for name in "ab"}
        found = []
        for name in sorted(below):
            with below[name].open() as source:
                found.append(source.read())
        with self.output().open("w") as out:
            out.write(f"({''.join(found)})")


@pytest.mark.parametrize("options", WAYS[:2])
def test_nested_yields_with_mock_targets(options: dict[str, Any]) -> None:
    root = Folder("top", 2)
    run_task(root, **options)
    with root.output().open() as source:
        assert source.read() == "(((ab)(ab))((ab)(ab)))"


# ---- a set of outputs that the inputs name


class Listing(AtomicTaskWithMetadata):
    day = luigi.DateParameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.day}/listing.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("".join(f"{name}\n" for name in ("north", "south", "west")))


@requires(Listing)
class Regions(TaskWithMetadata):
    """A file for each line of the listing, given as a set."""

    def output(self) -> Any:
        listing = self.input()
        names = listing.path.read_text().split() if listing.exists() else []
        return {LocalFileTarget(f"{self.day}/{name}.txt") for name in names}

    def run(self) -> None:
        for target in self.output():
            with target.open("w") as out:
                out.write(target.path.stem.upper())


@requires(Regions)
class Map(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget(f"{self.day}/map.txt")

    def run(self, input_path: Any, output_path: Path) -> None:
        output_path.write_text(" ".join(sorted(path.read_text() for path in input_path)))


@pytest.mark.parametrize("options", WAYS)
def test_a_set_of_outputs_that_the_inputs_name(options: dict[str, Any], here: Path) -> None:
    run_task(Map(day=DAY), **options)
    assert (here / str(DAY) / "map.txt").read_text() == "NORTH SOUTH WEST"
    assert Regions(day=DAY).complete()
    assert len(Regions(day=DAY).output()) == 3
    (here / str(DAY) / "south.txt").unlink()
    assert not Regions(day=DAY).complete()
    (here / str(DAY) / "map.txt").unlink()
    run_task(Map(day=DAY), **options)
    assert (here / str(DAY) / "south.txt").read_text() == "SOUTH"

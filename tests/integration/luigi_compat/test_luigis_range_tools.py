"""Luigi's range tools over our task classes: they find the gaps that they find in Luigi's."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.mock import MockFileSystem, MockTarget
from luigi.tools.range import RangeDaily, RangeHourly

from superluigi import run_task
from superluigi.errors import DefinitionError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task

pytestmark = pytest.mark.filterwarnings('ignore:Parameter "param_name"')
START, STOP = datetime.date(2013, 12, 1), datetime.date(2013, 12, 4)
NOW = 1386500000


class Daily(AtomicTaskWithMetadata):
    """The day is not its first parameter, and not the only one with a default."""

    folder = luigi.Parameter(default="")
    version = luigi.DateParameter(default=datetime.date(2000, 1, 1))
    date = luigi.DateParameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.date}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


def test_gaps_are_filled_whatever_the_place_of_the_parameter(tmp_path: Path) -> None:
    (tmp_path / "2013-12-02.txt").write_text("there")
    span = RangeDaily(
        of=Daily,
        of_params={"folder": str(tmp_path)},
        param_name="date",
        start=START,
        stop=STOP,
        days_back=36500,
        now=NOW,
    )
    assert sorted(str(task.date) for task in span.requires()) == ["2013-12-01", "2013-12-03"]
    run_task(span)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == [f"2013-12-0{day}.txt" for day in (1, 2, 3)]


class Listed(Task):
    """In a file system of Luigi's that lists: nobody asks for each file."""

    date = luigi.DateParameter()

    def output(self) -> Any:
        return Counted(self.date.strftime("/data/%Y_%m_%d/out"))


class Counted(MockTarget):
    asked = 0

    def exists(self) -> bool:
        type(self).asked += 1
        return super().exists()


def test_outputs_of_luigis_file_systems_are_listed_as_in_luigi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockFileSystem, "exists", lambda self, path: True)
    monkeypatch.setattr(MockFileSystem, "listdir", lambda self, path: ["/data/2013_12_02/out"])
    span = RangeDaily(of=Listed, start=START, stop=STOP, days_back=36500, now=NOW)
    assert [str(task.date) for task in span.requires()] == ["2013-12-01", "2013-12-03"]
    assert not Counted.asked


class Ambiguous(Task):
    name = luigi.Parameter(default="")
    first = luigi.DateParameter(default=datetime.date(2000, 1, 1))
    second = luigi.DateParameter(default=datetime.date(2000, 1, 1))
    asked: list[Any] = []

    def complete(self) -> bool:
        self.asked.append((self.first, self.second))
        return False


def test_no_other_day_is_asked_when_nobody_can_tell_which_parameter_is_meant() -> None:
    span = RangeDaily(of=Ambiguous, param_name="second", start=START, stop=STOP, days_back=36500, now=NOW)
    with pytest.raises(DefinitionError, match=r"\(first, second\).*no default"):
        span.requires()
    assert not Ambiguous.asked


class Hourly(AtomicTaskWithMetadata):
    hour = luigi.DateHourParameter()
    folder = luigi.Parameter()
    day = luigi.DateParameter(default=datetime.date(2013, 12, 1))

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.hour:%H}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


def test_hours_are_told_from_days(tmp_path: Path) -> None:
    span = RangeHourly(
        of=Hourly,
        of_params={"folder": str(tmp_path)},
        start=datetime.datetime(2013, 12, 1, 22),
        stop=datetime.datetime(2013, 12, 2, 1),
        hours_back=24 * 365,
        now=NOW,
    )
    run_task(span)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["00.txt", "22.txt", "23.txt"]

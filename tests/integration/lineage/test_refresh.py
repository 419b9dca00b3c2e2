"""What is stale runs again and nothing else: inputs, code, packages, parameters; early stop; `why`; dry runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import lineage, run_task
from superluigi.errors import OptionError
from superluigi.lineage.staleness import reasons as staleness
from superluigi.lineage.staleness.reasons import Facts, Reason
from superluigi.targets import LocalFileTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server

RAN: list[str] = []


class FreshSource(ExternalTask):
    root = luigi.Parameter()
    number = luigi.IntParameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/source-{self.number}.txt")


class FreshFirstLine(AtomicTaskWithMetadata):
    """Keeps the first line: a change further down gives the same bytes."""

    root = luigi.Parameter()
    number = luigi.IntParameter()

    def requires(self) -> Any:
        return FreshSource(self.root, self.number)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/first-{self.number}.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        note(self.root, f"first-{self.number}")
        output_path.write_text(input_path.read_text().splitlines()[0])


class FreshDouble(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    number = luigi.IntParameter()

    def requires(self) -> Any:
        return FreshFirstLine(self.root, self.number)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/double-{self.number}.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        note(self.root, f"double-{self.number}")
        output_path.write_text(input_path.read_text() * 2)


class FreshSum(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    count = luigi.IntParameter()

    def requires(self) -> Any:
        return [FreshDouble(self.root, number) for number in range(self.count)]

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/sum.txt")

    def run(self, input_path: list[Path], output_path: Path) -> None:
        note(self.root, "sum")
        output_path.write_text("+".join(path.read_text() for path in input_path))


def note(root: str, what: str) -> None:
    """Tell that something ran, also from another process."""
    with open(f"{root}/ran", "a") as file:
        file.write(what + "\n")


def ran(root: Path) -> set[str]:
    """What ran since the last look; nothing twice."""
    file = root / "ran"
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    assert len(set(lines)) == len(lines), "something ran twice"
    return set(lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        (tmp_path / f"source-{number}.txt").write_text(f"line {number}\nmore\n")
    return tmp_path


@pytest.fixture
def made(root: Path) -> Path:
    """A graph of 4 sources, all made."""
    run_task(FreshSum(str(root), 4))
    assert len(ran(root)) == 9
    return root


@pytest.mark.parametrize("workers", [1, 3])
def test_one_changed_source_makes_exactly_its_descendants_again(made: Path, workers: int) -> None:
    task = FreshSum(str(made), 4)
    run_task(task, refresh="inputs")
    assert ran(made) == set()
    (made / "source-2.txt").write_text("another line\n")
    run_task(task)
    assert ran(made) == set(), "without refresh, what is complete stays"
    run_task(task, refresh="inputs", num_workers=workers)
    assert ran(made) == {"first-2", "double-2", "sum"}
    assert "another line" in (made / "sum.txt").read_text()
    run_task(task, refresh="inputs", num_workers=workers)
    assert ran(made) == set()
    reason = LocalFileTarget(made / "double-2.txt").read_metadata()["run"]  # type: ignore[index]
    assert (reason["reason"], reason["forced"]) == ("input changed", False)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_remade_input_with_the_same_bytes_stops_the_refresh(
    made: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "source-1.txt").write_text("line 1\nother text below\n")
    capsys.readouterr()
    run_task(FreshSum(str(made), 4), refresh="inputs", num_workers=workers)
    assert ran(made) == {"first-1"}
    summary = capsys.readouterr().out
    assert "* 1 ran successfully:" in summary
    assert "1 FreshSum" in summary.split("ran successfully")[0], "what was up to date after all counts as complete"


def test_a_missing_output_in_the_middle_is_made_and_goes_no_further(made: Path) -> None:
    LocalFileTarget(made / "double-3.txt").remove()
    run_task(FreshSum(str(made), 4), refresh="inputs")
    assert ran(made) == {"double-3"}


def test_a_touched_source_is_not_a_changed_one(made: Path) -> None:
    os.utime(made / "source-0.txt")
    run_task(FreshSum(str(made), 4), refresh="all")
    assert ran(made) == set()


def test_a_lost_record_makes_the_task_stale(made: Path) -> None:
    (made / "first-0.txt.metadata.json").unlink()
    assert words(FreshSum(str(made), 4))["FreshFirstLine_0"] == staleness.RECORD_MISSING
    run_task(FreshSum(str(made), 4), refresh="inputs")
    assert ran(made) == {"first-0"}


def test_an_output_that_was_written_over_is_stale(made: Path) -> None:
    (made / "first-0.txt").write_text("by hand")
    run_task(FreshSum(str(made), 4), refresh="inputs")
    assert ran(made) == {"first-0"}, "its readers have what it gives again"


def words(task: luigi.Task, **options: Any) -> dict[str, str]:
    return {
        f"{one.task.get_task_family()}_{getattr(one.task, 'number', '')}": one.reason
        for one in lineage.why(task, **options)
    }


def test_why_gives_every_task_its_reason(made: Path) -> None:
    task = FreshSum(str(made), 4)
    assert set(words(task).values()) == {"up to date"}
    (made / "source-2.txt").write_text("another line\n")
    told = {one.task_id: one for one in lineage.why(task, refresh="inputs")}
    first = told[FreshFirstLine(str(made), 2).task_id]
    assert (first.reason, first.runs, first.state) == ("input changed", True, "stale")
    assert str(made / "source-2.txt") in first.detail
    assert told[task.task_id].reason == "input changed"
    assert "FreshDouble" in told[task.task_id].detail
    assert sum(one.runs for one in told.values()) == 3
    assert [one.runs for one in lineage.why(task)].count(True) == 0, "a run without refresh makes nothing"


def test_a_changed_parameter_that_shares_its_output_is_told(made: Path) -> None:
    reasons = {one.task_id: one for one in lineage.why(FreshSum(str(made), 3))}
    assert (reasons[FreshSum(str(made), 3).task_id].reason) == "parameter changed"
    run_task(FreshSum(str(made), 3), refresh="inputs")
    assert ran(made) == {"sum"}


def test_a_requirement_that_came_or_went_is_a_changed_input() -> None:
    old, new = {"type": "t", "path": "/a", "digest": {"sha256": "1"}}, {"digest": {"sha256": "1"}}
    record = {"params": {}, "schema": "x"}
    facts = Facts(record=record, recorded_inputs={"/a": old}, inputs={"/a": new}, required=frozenset({"/a", "/b"}))
    assert staleness.judge(facts) == Reason("input changed", "/b is newly required")
    facts = Facts(record=record, recorded_inputs={"/a": old}, inputs={"/a": new}, required=frozenset())
    assert staleness.judge(facts) == Reason("input changed", "/a is not required any more")
    facts = Facts(record=record, recorded_inputs={"/a": old}, inputs={"/a": None}, required=frozenset({"/a"}))
    assert staleness.judge(facts) == Reason("input changed", "/a is missing")


def test_each_mode_counts_what_it_says() -> None:
    code = {"digest": {"sha256": "1"}, "parts": {"run": "1"}}
    packages = {"environment": {"packages": {"pandas": "1", "luigi": "1"}}}
    changed_code = Facts(
        record={"code": code, **packages},
        code={"digest": {"sha256": "2"}, "parts": {"run": "2"}},
        packages={"pandas": "1", "luigi": "2"},
    )
    assert staleness.judge(changed_code, "inputs").word == "up to date"
    assert staleness.judge(changed_code, "code") == Reason("code changed", "run changed")
    changed_package = Facts(record={"code": code, **packages}, code=code, packages={"pandas": "2", "luigi": "1"})
    assert staleness.judge(changed_package, "code").word == "up to date"
    assert staleness.judge(changed_package, "all") == Reason("package changed", "pandas 1 -> 2")
    assert staleness.judge(Facts(missing=("/x",)), "inputs") == Reason("output missing", "/x")


def test_an_unknown_mode_and_a_mix_with_force_are_errors(root: Path) -> None:
    with pytest.raises(OptionError, match="inputs"):
        run_task(FreshSum(str(root), 1), refresh="everything")
    with pytest.raises(OptionError, match="refresh"):
        run_task(FreshSum(str(root), 1), refresh="all", force=True)
    assert ran(root) == set()


def test_a_dry_run_tells_and_touches_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    (explained, forced) = (
        run_task(FreshSum(str(made), 4), refresh="all", dry_run=True),
        run_task(FreshSum(str(made), 4), force=True, dry_run=True),
    )
    assert not any(one.runs for one in explained)
    assert [one.reason for one in forced if one.runs] == ["forced"]
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before
    assert "FreshSum" in capsys.readouterr().out


# ---- requirements that a `yield` brings in


class FreshYielded(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return FreshFirstLine(self.root, 0)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/yielded.txt")

    def run(self, input_path: Path) -> Iterator[Any]:
        names = yield [FreshDouble(self.root, number) for number in (1, 2)]
        note(self.root, "yielded")
        return "".join(path.read_text() for path in names)


def test_what_a_yield_brought_in_is_refreshed_too(root: Path) -> None:
    task = FreshYielded(str(root))
    run_task(task)
    assert ran(root) == {"first-0", "first-1", "first-2", "double-1", "double-2", "yielded"}
    run_task(task, refresh="all")
    assert ran(root) == set()
    (root / "source-2.txt").write_text("another line\n")
    assert words(task, refresh="inputs")["FreshDouble_2"] == "input changed"
    run_task(task, refresh="inputs")
    assert ran(root) == {"first-2", "double-2", "yielded"}
    assert "another line" in (root / "yielded.txt").read_text()
    (root / "source-1.txt").write_text("line 1\nsomething else\n")
    run_task(task, refresh="inputs")
    assert ran(root) == {"first-1"}


# ---- code and packages, in processes of their own


MODULE = """
from pathlib import Path
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget
from helpers_of_test import clean

class First(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget("out/first.txt")
    def run(self, output_path):
        output_path.write_text(clean("first"))

class Second(AtomicTaskWithMetadata):
    def requires(self):
        return First()
    def output(self):
        return LocalFileTarget("out/second.txt")
    def run(self, input_path, output_path):
        output_path.write_text(input_path.read_text())
"""


def call(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "superluigi", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_changed_function_makes_its_task_again_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "pipeline_of_code.py").write_text(MODULE)
    helper = tmp_path / "helpers_of_test.py"
    helper.write_text("def clean(text):\n    return text.title()\n")
    call(tmp_path, "run", "pipeline_of_code", "Second")
    helper.write_text("def clean(text):\n    '''Tidy up.'''\n    return (text\n            .title())  # nicer\n")
    assert "0 of 2 tasks would run" in call(tmp_path, "why", "pipeline_of_code", "Second", "--refresh", "code")
    helper.write_text("def clean(text):\n    return text.upper()\n")
    told = json.loads(call(tmp_path, "why", "pipeline_of_code", "Second", "--refresh", "code", "--json"))
    assert [(one["task_family"], one["reason"], one["detail"]) for one in told] == [
        ("First", "code changed", "helpers_of_test.clean changed"),
        ("Second", "input changed", "if First gives other bytes"),
    ]
    assert "0 of 2 tasks would run" in call(tmp_path, "why", "pipeline_of_code", "Second", "--refresh", "inputs")
    said = call(tmp_path, "run", "pipeline_of_code", "Second", "--refresh", "code")
    assert "* 2 ran successfully" in said
    assert (tmp_path / "out" / "second.txt").read_text() == "FIRST"
    helper.write_text("def clean(text):\n    return text.upper() + ''\n")
    said = call(tmp_path, "run", "pipeline_of_code", "Second", "--refresh", "code")
    assert "* 1 ran successfully" in said, "the same bytes stop it"


# ---- S3


class FreshOnS3(AtomicTaskWithMetadata):
    bucket = luigi.Parameter()
    root = luigi.Parameter()
    options = luigi.DictParameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False)

    def requires(self) -> Any:
        return FreshS3Source(self.bucket, self.options)

    def output(self) -> Any:
        return S3ObjectTarget(self.bucket, "out.txt", **self.options)

    def run(self, input_path: Path, output_path: Path) -> None:
        note(self.root, "s3")
        output_path.write_text(input_path.read_text())


class FreshS3Source(ExternalTask):
    bucket = luigi.Parameter()
    options = luigi.DictParameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False)

    def output(self) -> Any:
        return S3ObjectTarget(self.bucket, "in.txt", **self.options)


def test_a_replaced_object_makes_its_reader_stale(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="in.txt", Body=b"one")
    task = FreshOnS3(s3_bucket, str(tmp_path), s3_server.client_options)
    run_task(task)
    assert ran(tmp_path) == {"s3"}
    run_task(task, refresh="all")
    assert ran(tmp_path) == set()
    client.put_object(Bucket=s3_bucket, Key="in.txt", Body=b"two")
    run_task(task, refresh="inputs")
    assert ran(tmp_path) == {"s3"}


# ---- plain Luigi tasks among ours


class FreshNest(luigi.WrapperTask):
    """Wrappers in wrappers: Luigi asks their leaves exponentially often."""

    root = luigi.Parameter()
    depth = luigi.IntParameter()

    def requires(self) -> Any:
        if self.depth == 0:
            return FreshCounted(self.root)
        return [FreshNest(self.root, self.depth - 1), FreshOther(self.root, self.depth - 1)]


class FreshOther(FreshNest):
    pass


class FreshCounted(luigi.Task):
    root = luigi.Parameter()
    asked = 0

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.root}/leaf.txt")

    def complete(self) -> bool:
        type(self).asked += 1
        return super().complete()

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("leaf")


class FreshWithoutOutput(luigi.Task):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return FreshNest(self.root, 6)

    def run(self) -> None:
        note(self.root, "no-output")


def test_wrappers_are_as_complete_as_what_they_gather_and_asked_once(tmp_path: Path) -> None:
    told = {one.task_id: one for one in lineage.why(FreshWithoutOutput(str(tmp_path)))}
    assert len(told) == 15
    assert {one.state for one in told.values()} == {"missing"}
    run_task(FreshNest(str(tmp_path), 6))
    FreshCounted.asked = 0
    told = {one.task_id: one for one in lineage.why(FreshWithoutOutput(str(tmp_path)))}
    assert [one.task_id.split("_")[0] for one in told.values() if one.state == "missing"] == ["FreshWithoutOutput"]
    assert FreshCounted.asked < 10
    run_task(FreshWithoutOutput(str(tmp_path)), refresh="all")
    assert ran(tmp_path) == {"no-output"}

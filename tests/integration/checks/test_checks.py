"""Checks: what does not pass is never seen, what is rejected is kept, and what was found is in the record."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import luigi
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
from luigi.parameter import ParameterVisibility

from superluigi import check, run_task, task
from superluigi.checks import quarantine
from superluigi.errors import CheckFailedError, DefinitionError, RecordKeyError, TaskFailedError
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata

pa: Any = pytest.importorskip("pandera.pandas")
pap: Any = pytest.importorskip("pandera.polars")
PRICES = pa.DataFrameSchema({"price": pa.Column(float, pa.Check.gt(0), nullable=False)}, name="prices")


class Row(pydantic.BaseModel):
    price: float


class Made(AtomicTaskWithMetadata):
    """Its table is told by a file, so that one task makes one after the other."""

    place = luigi.Parameter()
    suffix = ".csv"

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / f"out{self.suffix}")

    def run(self) -> Any:
        return pd.DataFrame({"price": json.loads((Path(self.place) / "prices").read_text())})


def make(cls: Any, place: Path, prices: list[Any], **options: Any) -> Any:
    (place / "prices").write_text(json.dumps(prices))
    made = cls(str(place))
    run_task(made, force=True, raise_exception=True, **options)
    return made


def findings(made: Any) -> dict[str, tuple[str, str, str]]:
    record = made.output().read_metadata()
    return {one["name"]: (one["status"], one["severity"], one["detail"]) for one in record["checks"]}


def refused(cls: Any, place: Path, prices: list[Any], **options: Any) -> CheckFailedError:
    with pytest.raises(CheckFailedError) as caught:
        make(cls, place, prices, **options)
    return caught.value


class WithSchema(Made):
    checks: ClassVar = [PRICES]

    @check
    def enough_rows(self, value: Any, previous: Any, metadata: dict[str, Any]) -> Any:
        metadata["rows"] = len(value)
        return len(value) > 0.8 * previous.metadata["rows"] if previous else True

    @check(severity="warn")
    def cheap(self, value: Any) -> Any:
        return value["price"] < 100


def test_what_passes_is_published_with_its_findings_and_measures(tmp_path: Path) -> None:
    made = make(WithSchema, tmp_path, [1.0, 200.0])
    record = made.output().read_metadata()
    assert findings(made) == {
        "prices": ("passed", "error", ""),
        "enough_rows": ("passed", "error", ""),
        "cheap": ("failed", "warn", "1 of 2 rows are false\nrow 1: {'price': 200.0}"),
    }
    assert all(set(one) == {"name", "status", "severity", "seconds", "detail"} for one in record["checks"])
    assert record["rows"] == 2
    assert not quarantine.entries()


def test_what_fails_leaves_the_old_output_and_its_record_and_is_kept_elsewhere(tmp_path: Path) -> None:
    made = make(WithSchema, tmp_path, [1.0, 2.0, 3.0])
    before = (tmp_path / "out.csv").read_bytes(), made.output().read_metadata()
    error = refused(WithSchema, tmp_path, [1.0])
    assert ((tmp_path / "out.csv").read_bytes(), made.output().read_metadata()) == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.csv", "out.csv.metadata.json", "prices"]
    assert "check 'enough_rows' failed: the check gave False" in str(error)
    [entry] = quarantine.entries()
    assert str(entry.path) == error.quarantine
    assert entry.path.parent == quarantine.root() / "WithSchema" / made.task_hash
    assert (entry.path / "output/0/out.csv").read_text() == "price\n1.0\n"
    would_be = json.loads((entry.path / "record.json").read_text())
    assert would_be["rows"] == 1 and would_be["checks"] == list(error.findings)
    assert [one["status"] for one in entry.about["checks"]] == ["passed", "failed", "passed"]


def test_the_first_output_that_fails_is_not_there_at_all(tmp_path: Path) -> None:
    error = refused(WithSchema, tmp_path, [1.0, -5.0, None])
    assert [one.name for one in tmp_path.iterdir()] == ["prices"]
    assert "price: greater_than(0): 1 (row 1: -5.0)" in str(error)
    assert "price: not_nullable: 1 (row 2: nan)" in str(error)


def test_the_error_has_a_builtin_twin_and_crosses_processes(tmp_path: Path) -> None:
    error = refused(WithSchema, tmp_path, [-1.0])
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.findings, again.quarantine) == (str(error), error.findings, error.quarantine)


ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "true": (lambda value: True, "passed"),
    "none": (lambda value: None, "passed"),
    "numpy true": (lambda value: np.bool_(True), "passed"),
    "false": (lambda value: False, "failed"),
    "numpy false": (lambda value: np.bool_(False), "failed"),
    "text": (lambda value: "too few", "failed"),
    "empty text": (lambda value: "", "failed"),
    "series": (lambda value: value["price"] > 1, "failed"),
    "good series": (lambda value: value["price"] > 0, "passed"),
    "series with gaps": (lambda value: pd.Series([True, pd.NA, None], dtype=object), "failed"),
    "nullable series": (lambda value: pd.Series([True, None], dtype="boolean"), "failed"),
    "empty series": (lambda value: pd.Series([], dtype=object), "passed"),
    "frame": (lambda value: value > 1, "failed"),
    "array": (lambda value: value["price"].to_numpy() > 1, "failed"),
    "two dimensions": (lambda value: value.to_numpy() > 0, "passed"),
    "polars series": (lambda value: pl.Series([True, False]), "failed"),
    "polars frame": (lambda value: pl.DataFrame({"a": [True, None]}), "failed"),
    "number": (lambda value: 1, "error"),
    "zero": (lambda value: 0, "error"),
    "numbers": (lambda value: value["price"], "error"),
    "list": (lambda value: [True], "error"),
    "object": (lambda value: object(), "error"),
    "ellipsis": (lambda value: ..., "error"),
    "frame with a column of texts": (lambda value: pd.DataFrame({"a": [True], "b": ["x"]}), "error"),
}


class Answered(Made):
    answer: ClassVar[Any] = None

    @check(severity="warn")
    def answers(self, value: Any) -> Any:
        return type(self).answer(value)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_means_one_thing(tmp_path: Path, name: str) -> None:
    answer, expected = ANSWERS[name]
    kind = type("Answered", (Answered,), {"answer": staticmethod(answer)})
    status, _, detail = findings(make(kind, tmp_path, [1.0, 2.0]))["answers"]
    assert status == expected
    assert (detail == "") == (status == "passed")


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Base(BaseException):
    pass


def raising(error: BaseException) -> Callable[[Any], Any]:
    def answer(value: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    "error", [ValueError("x"), OddError(), Base("b"), SystemExit(0), GeneratorExit(), RecursionError(), StopIteration()]
)
def test_whatever_a_check_raises_rejects_what_it_looked_at(tmp_path: Path, error: BaseException) -> None:
    kind = type("Strict", (Made,), {"checks": [raising(error)]})
    found = refused(kind, tmp_path, [1.0])
    assert type(error).__name__ in str(found)
    assert not (tmp_path / "out.csv").exists()


def test_a_check_that_needs_what_is_not_installed_says_so(tmp_path: Path) -> None:
    def needs(value: Any) -> None:
        import not_installed_anywhere  # type: ignore[import-not-found]  # noqa: F401

    error = refused(type("Needy", (Made,), {"checks": [needs]}), tmp_path, [1.0])
    assert error.findings[0]["status"] == "error"
    assert "pip install not_installed_anywhere" in str(error)


def test_what_could_never_be_called_is_refused_when_it_is_written() -> None:
    def body(**names: Any) -> Any:
        return type("Wrong", (AtomicTaskWithMetadata,), names)

    async def later(value: Any) -> bool:
        return True

    def yields(value: Any) -> Any:
        yield True

    for wrong in (
        {"checks": [5]},
        {"checks": ["value > 0"]},
        {"checks": PRICES},
        {"checks": [later]},
        {"checks": [yields]},
        {"checks": [lambda valeu: True]},
        {"checks": [lambda one, other: True]},
        {"checks": [int]},
        {"right": check(lambda self, vlaue: True)},
        {"right": check(lambda self, value, /: True)},
        {"right": check(later)},
        {"checks": luigi.Parameter()},
        {"retry_on_failed_check": "never"},
    ):
        with pytest.raises(DefinitionError):
            body(**wrong)
    with pytest.raises(DefinitionError, match="severity"):
        check(severity="fatal")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError):
        check(5)
    for base in (Task, TaskWithMetadata):
        with pytest.raises(DefinitionError, match="AtomicTaskWithMetadata"):
            type("TooLate", (base,), {"checks": [len]})
    type("Fine", (ExternalTask,), {"checks": [lambda value: True]})


def test_methods_are_inherited_overridden_and_taken_away(tmp_path: Path) -> None:
    class Parent(Made):
        @check(severity="warn")
        def one(self, value: Any) -> Any:
            return "of the parent"

        @check
        def two(self, value: Any) -> Any:
            return False

        @staticmethod
        @check(severity="warn")
        def three(value: Any) -> Any:
            return f"{len(value)} rows"

        @check(severity="warn")
        @classmethod
        def four(cls, value: Any) -> Any:
            return cls.__name__

    class Child(Parent):
        two = None  # type: ignore[assignment]

        def one(self, value: Any) -> Any:
            return "of the child"

    assert findings(make(Child, tmp_path, [1.0])) == {
        "one": ("failed", "warn", "of the child"),
        "three": ("failed", "warn", "1 rows"),
        "four": ("failed", "warn", "Child"),
    }


def test_a_severity_goes_around_anything_and_names_are_told_apart(tmp_path: Path) -> None:
    class Several(Made):
        checks: ClassVar = [
            check(PRICES, severity="warn"),
            check(Row, severity="warn"),
            check(severity="warn")(lambda value: False),
            lambda value: True,
        ]

    found = findings(make(Several, tmp_path, [-1.0]))
    assert [(name, status) for name, (status, _, _) in found.items()] == [
        ("prices", "failed"), ("Row", "passed"), ("<lambda>", "failed"), ("<lambda>-2", "passed"),
    ]  # fmt: skip


def test_models_of_pydantic_are_for_each_row_and_for_whole_values(tmp_path: Path) -> None:
    class Rows(Made):
        checks: ClassVar = [Row]

    error = refused(Rows, tmp_path, [1.0, None, 3.0])
    assert "1 of 3 rows are no Row\nrow 1: price: Input should be a valid number (None)" in str(error)
    make(Rows, tmp_path, [1.0])

    class Whole(Made):
        suffix = ".json"
        checks: ClassVar = [Row, pydantic.TypeAdapter(dict[str, float])]

        def run(self) -> Any:
            return {"price": json.loads((Path(self.place) / "prices").read_text())[0]}

    make(Whole, tmp_path, [1.0])
    assert "price: Input should be a valid number" in str(refused(Whole, tmp_path, ["much"]))


def test_schemas_of_polars_get_frames_of_polars_and_values_are_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superluigi import formats

    loaded: list[Any] = []
    plain = formats.load
    monkeypatch.setattr(formats, "load", lambda path, **more: loaded.append(more["as_type"]) or plain(path, **more))

    class InPolars(Made):
        checks: ClassVar = [pap.DataFrameSchema({"price": pap.Column(pl.Float64, pap.Check.gt(0))})]

        @check
        def method(self, value: pl.DataFrame) -> Any:
            return value["price"] > 0

    make(InPolars, tmp_path, [1.0])
    assert len(loaded) == 1
    assert "greater_than(0): 1" in str(refused(InPolars, tmp_path, [1.0, -1.0]))

    class InPandas(Made):
        checks: ClassVar = [PRICES, Row, lambda value: len(value) > 0]

        @check
        def first(self, value: pd.DataFrame) -> Any:
            return value["price"] > 0

        @check
        def second(self, values: Any, output_path: Path) -> Any:
            return len(values) == output_path.read_text().count("\n") - 1

    loaded.clear()
    make(InPandas, tmp_path, [1.0])
    assert len(loaded) == 1

    class Unasked(Made):
        checks: ClassVar = [lambda metadata: None]

    loaded.clear()
    make(Unasked, tmp_path, [1.0])
    assert not loaded


@pytest.mark.parametrize("how", ["append", "same size", "replace", "remove"])
def test_a_check_that_changes_what_would_be_published_is_an_error(tmp_path: Path, how: str) -> None:
    class Changing(Made):
        @check(severity="warn")
        def changes(self, output_path: Path) -> Any:
            status = output_path.stat()
            text = output_path.read_text()
            if how == "append":
                output_path.write_text(text + "9.0\n")
            elif how == "same size":
                output_path.write_text(text.replace("1", "2"))
                os.utime(output_path, ns=(status.st_atime_ns, status.st_mtime_ns))
            elif how == "replace":
                output_path.with_name("other").write_text(text)
                output_path.with_name("other").rename(output_path)
            else:
                output_path.unlink()

    error = refused(Changing, tmp_path, [1.0])
    assert error.findings[0]["status"] == "error" and "changed output_path" in str(error)
    assert not (tmp_path / "out.csv").exists()


def test_a_large_output_that_is_changed_within_a_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    class Large(Made):
        def output(self) -> Any:
            return LocalFileTarget(Path(self.place) / "large.bin")

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            output_path.write_bytes(bytes(3 << 20))

        @check
        def changes(self, output_path: Path) -> None:
            with output_path.open("r+b") as file:
                file.seek(1 << 20)
                file.write(b"x")

    assert "changed output_path" in str(refused(Large, tmp_path, []))


class Both(AtomicTaskWithMetadata):
    place = luigi.Parameter()

    def output(self) -> Any:
        return {"a": LocalFileTarget(Path(self.place) / "a.json"), "b": LocalFolderTarget(Path(self.place) / "b")}

    def run(self, output_path: Mapping[str, Path]) -> None:
        text = (Path(self.place) / "prices").read_text()
        output_path["a"].write_text(text)
        (output_path["b"] / "part.json").write_text(text)

    @check
    def same(self, values: Any, previous: Any) -> Any:
        if previous is not None and previous.values["a"] == values["a"]:
            return "nothing new"
        return values["a"] == values["b"]["part"] and sum(values["a"]) < 10


def test_of_several_outputs_all_are_published_or_none(tmp_path: Path) -> None:
    make(Both, tmp_path, [1])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "prices"}
    assert "nothing new" in str(refused(Both, tmp_path, [1]))
    error = refused(Both, tmp_path, [100])
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "prices"}
    assert before == after
    kept = Path(error.quarantine or "")
    assert (kept / "output/0/a.json").read_text() == (kept / "output/1/b/part.json").read_text() == "[100]"

    class OneOfTwo(Both):
        checks: ClassVar = [Row]

    assert "ask for `values`" in str(refused(OneOfTwo, tmp_path, [2]))


def test_a_folder_of_parts_is_one_table_for_a_schema(tmp_path: Path) -> None:
    class Parts(Made):
        checks: ClassVar = [PRICES]

        def output(self) -> Any:
            return LocalFolderTarget(Path(self.place) / "parts")

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            for position, price in enumerate(json.loads((Path(self.place) / "prices").read_text())):
                (output_path / f"{position}.csv").write_text(f"price\n{price}\n")

        @check
        def named(self, value: Any) -> Any:
            return set(value) <= {"0", "1"}

    make(Parts, tmp_path, [1.0, 2.0])
    assert "1 failures in 2 rows" in str(refused(Parts, tmp_path, [1.0, -2.0]))
    assert sorted(one.name for one in (tmp_path / "parts").iterdir()) == ["0.csv", "1.csv"]


@task(checks=[lambda value: value > 0])
def number(place: str, start: int) -> int:
    return start


def test_function_tasks_have_checks(tmp_path: Path) -> None:
    run_task(number(str(tmp_path), start=1), store=tmp_path)
    assert number(str(tmp_path), start=1).run is not None
    with pytest.raises(TaskFailedError, match="the check gave False"):
        run_task(number(str(tmp_path), start=0), store=tmp_path)


class Secret(Made):
    token = luigi.Parameter(default="hunter2", visibility=ParameterVisibility.PRIVATE)

    @check
    def tells(self, value: Any) -> Any:
        raise ValueError(f"cannot log in with {self.token}")


def test_private_parameters_are_in_no_finding(tmp_path: Path) -> None:
    error = refused(Secret, tmp_path, [1.0])
    assert "hunter2" not in str(error) and "(private)" in str(error)
    assert not any(b"hunter2" in path.read_bytes() for path in quarantine.root().rglob("*") if path.is_file())


def test_details_are_bounded(tmp_path: Path) -> None:
    class Long(Made):
        checks: ClassVar = [lambda value: "x" * 10**6]

        @check(severity="warn")
        def rows(self, value: Any) -> Any:
            return value["price"] > 10**9

    error = refused(Long, tmp_path, [1.0] * 5000)
    assert all(len(one["detail"]) <= 2000 for one in error.findings)
    assert "5000 of 5000 rows are false" in error.findings[1]["detail"]
    assert error.findings[1]["detail"].count("row ") == 5


def test_the_key_of_findings_is_ours(tmp_path: Path) -> None:
    class Taking(Made):
        @check
        def takes(self, metadata: dict[str, Any]) -> None:
            metadata["checks"] = "mine"

    with pytest.raises(RecordKeyError, match="checks"):
        make(Taking, tmp_path, [1.0])


def test_checks_may_print_go_elsewhere_and_look_at_inputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Source(Made):
        suffix = ".json"

        def run(self) -> Any:
            return 7

    class Reader(Made):
        def requires(self) -> Any:
            return Source(self.place)

        @check
        def goes(self, value: Any, inputs: Any) -> Any:
            print("looking")
            os.chdir("/")
            return inputs == 7

        @check
        def stays(self, value: Any) -> Any:
            return os.getcwd() != "/"

    made = make(Reader, tmp_path, [1.0])
    assert {status for status, _, _ in findings(made).values()} == {"passed"}
    logs = list(Path(os.environ["SUPERLUIGI_WORKSPACE"]).rglob("stdout.log"))
    assert any("looking" in log.read_text() for log in logs)


def test_a_broken_file_is_rejected_where_its_value_is_wanted(tmp_path: Path) -> None:
    class Broken(Made):
        suffix = ".parquet"
        checks: ClassVar = [PRICES, lambda value: True]

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            output_path.write_bytes(b"PAR1 and no more")

    error = refused(Broken, tmp_path, [])
    assert [one["detail"].partition(":")[0] for one in error.findings] == ["its value cannot be loaded"] * 2


def test_quarantine_is_bounded_by_size_and_age_and_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Made):
        checks: ClassVar = [lambda value: False]

    monkeypatch.setenv("SUPERLUIGI_QUARANTINE_LIMIT_BYTES", "10000")
    for _ in range(4):
        error = refused(Never, tmp_path, [1.0])
    assert len(quarantine.entries()) == 2
    assert any(str(one.path) == error.quarantine for one in quarantine.entries())
    error = refused(Never, tmp_path, [1.0] * 5000)
    assert error.quarantine is not None and not (Path(error.quarantine) / "output").exists()
    for one in quarantine.entries():
        os.utime(one.path, (time.time() - 40 * 86400,) * 2)
    error = refused(Never, tmp_path, [1.0])
    assert [str(one.path) for one in quarantine.entries()] == [error.quarantine]
    monkeypatch.setenv("SUPERLUIGI_QUARANTINE", "false")
    error = refused(Never, tmp_path, [2.0])
    assert error.quarantine is None and "was not kept" in str(error)
    quarantine.remove(quarantine.entries())
    assert list(quarantine.root().iterdir()) == []


def test_a_quarantine_that_takes_no_files_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Made):
        checks: ClassVar = [lambda value: "no"]

    quarantine.root().parent.mkdir(parents=True, exist_ok=True)
    quarantine.root().write_text("in the way")
    error = refused(Never, tmp_path, [1.0])
    assert "failed: no" in str(error) and "could not be kept" in str(error)
    assert not (tmp_path / "out.csv").exists()

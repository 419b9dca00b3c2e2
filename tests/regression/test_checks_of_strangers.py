"""Checks as people write them whom nobody has asked: none is left out unsaid, none is fooled, none is told too much."""

from __future__ import annotations

import abc
import errno
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import luigi
import numpy as np
import pandas as pd
import polars as pl
import pyarrow
import pydantic
import pydantic.dataclasses
import pytest
from luigi.parameter import ParameterVisibility

from superluigi import check, run_task
from superluigi.checks import quarantine
from superluigi.checks.verdicts import of_answer
from superluigi.errors import CheckFailedError, DefinitionError, RecordValueError
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask

pa: Any = pytest.importorskip("pandera.pandas")
pap: Any = pytest.importorskip("pandera.polars")

GAP = pd.DataFrame({"a": [1, 2, 3], "p": [1.0, None, 3.0]})


class Made(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    made: ClassVar[Any] = GAP
    suffix = ".parquet"

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / f"out{self.suffix}")

    def run(self) -> Any:
        return self.made


def made(place: Path, made: Any = GAP, suffix: str = ".parquet", bases: Any = (Made,), **body: Any) -> dict[str, str]:
    """Name -> detail of the checks of a class with this body, when what it made was published."""
    kind: Any = type("Kind", bases, {"made": made, "suffix": suffix, **body})
    task = kind(str(place))
    run_task(task, force=True, raise_exception=True)
    return {one["name"]: one["detail"] for one in task.output().read_metadata().get("checks", ())}


def refused(place: Path, *args: Any, **body: Any) -> CheckFailedError:
    with pytest.raises(CheckFailedError) as caught:
        made(place, *args, **body)
    assert not any(one.name.startswith("out") for one in place.iterdir())
    return caught.value


# ---------------------------------------------------------------- what is a check, and none is lost


def passed_on(function: Any) -> Any:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def told_apart(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


class Gaps:
    def __call__(self, value: Any) -> Any:
        return value["p"].notna()

    def method(self, value: Any) -> Any:
        return value["p"].notna()

    async def later(self, value: Any) -> bool:
        return True


class Later:
    async def __call__(self, value: Any) -> bool:
        return True


class Yields:
    def __call__(self, value: Any) -> Any:
        yield True


@pydantic.dataclasses.dataclass
class Row:
    a: int
    p: float


def no_gaps(self: Any, value: Any) -> Any:
    return value["p"].notna()


SCHEMA = pa.DataFrameSchema({"p": pa.Column(float, nullable=False)})
ATTRIBUTES: dict[str, Any] = {
    "a schema": check(SCHEMA),
    "a callable": check(Gaps()),
    "a partial": check(functools.partial(lambda column, value: value[column].notna(), "p")),
    "a static one of another name": staticmethod(check(lambda value: value["p"].notna())),
    "with another decorator below": check(told_apart(no_gaps)),
    "with another decorator above": told_apart(check(told_apart(no_gaps))),
    "kept": functools.lru_cache(check(lambda self, value: False)),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_whatever_is_marked_in_a_class_is_asked_under_its_name_and_inherited(tmp_path: Path, name: str) -> None:
    base = type("Base", (Made,), {"marked": ATTRIBUTES[name]})
    for error in (refused(tmp_path, marked=ATTRIBUTES[name]), refused(tmp_path, bases=(base,))):
        assert [(one["name"], one["status"]) for one in error.findings] == [("marked", "failed")]
    assert made(tmp_path, bases=(base,), marked=None) == {}


@pytest.mark.parametrize(
    "item", [Gaps(), Gaps().method, functools.partial(Gaps().method), Row, SCHEMA, lambda value: np.array(False)]
)
def test_whatever_is_in_the_list_is_asked(tmp_path: Path, item: Any) -> None:
    assert [one["status"] for one in refused(tmp_path, checks=[item]).findings] == ["failed"]


def test_checks_that_an_instance_has_are_asked(tmp_path: Path) -> None:
    def init(self: Any, *args: Any) -> None:
        super(Made, self).__init__(*args)
        self.checks = [Gaps()]

    refused(tmp_path, __init__=init)


def test_checks_that_a_class_gets_or_loses_later_are_asked_or_not_of_derived_ones_too(tmp_path: Path) -> None:
    base: Any = type("Base", (Made,), {})
    derived: Any = type("Derived", (base,), {})
    base.later = check(no_gaps)  # as a decorator of classes does
    for cls in (base, derived):
        with pytest.raises(CheckFailedError, match="'later' failed: 1 of 3"):
            run_task(cls(str(tmp_path)), raise_exception=True)
    del base.later
    run_task(derived(str(tmp_path)), raise_exception=True)
    assert "checks" not in derived(str(tmp_path)).output().read_metadata()


def test_a_list_that_cannot_be_told_publishes_nothing(tmp_path: Path) -> None:
    def told(self: Any) -> Any:
        return self.not_there

    with pytest.raises(AttributeError):
        made(tmp_path, checks=property(told))
    assert list(tmp_path.iterdir()) == []


def test_a_mark_that_another_decorator_hides_is_refused_when_it_is_written() -> None:
    with pytest.raises(DefinitionError, match=r"hidden has @check below another decorator"):

        class Hides(Made):
            @passed_on
            @check
            def hidden(self, value: Any) -> Any:
                return False

    class Fine(Made):
        @told_apart
        @check
        def hidden(self, value: Any) -> Any:
            return False


@pytest.mark.parametrize(
    "item", [Later(), Yields(), Gaps().later, lambda *args: True, lambda **kwargs: True, pa.Check.gt(0)]
)
def test_what_could_tell_nothing_is_refused_when_it_is_written(item: Any) -> None:
    with pytest.raises(DefinitionError):
        type("Wrong", (Made,), {"checks": [item]})
    with pytest.raises(DefinitionError):
        type("Wrong", (Made,), {"wrong": check(item)})


def test_an_abstract_check_that_nobody_has_written_passes_nothing(tmp_path: Path) -> None:
    class Must:
        @check
        @abc.abstractmethod
        def must(self, value: Any) -> Any: ...

    with pytest.raises(DefinitionError, match="abstract"):
        made(tmp_path, bases=(Must, Made))
    refused(tmp_path, bases=(Must, Made), must=lambda self, value: False)
    assert made(tmp_path, bases=(Must, Made), must=lambda self, value: True) == {"must": ""}


def test_a_severity_given_in_one_task_is_that_of_no_other(tmp_path: Path) -> None:
    def no_gap(value: Any) -> Any:
        return value["p"].notna()

    warned, refusing = tmp_path / "warned", tmp_path / "refusing"
    for form in (no_gap, staticmethod(no_gap)):
        assert "1 of 3" in made(warned, checks=[check(form, severity="warn")])["no_gap"]
        (finding,) = refused(refusing, checks=[form]).findings
        assert finding["severity"] == "error"


def test_names_are_told_apart_whatever_they_are(tmp_path: Path) -> None:
    def named(name: str) -> Any:
        def one(value: Any) -> bool:
            return True

        one.__name__ = name
        return one

    names = ["a", "a-2", "a", "a-3", "a"]
    assert list(made(tmp_path, checks=[named(name) for name in names])) == ["a", "a-2", "a-4", "a-3", "a-5"]


# ---------------------------------------------------------------- what schemas mend is not mended in what is published


class Model(pa.DataFrameModel):
    p: float = pa.Field(gt=0, nullable=False)


class Drops(Model):
    class Config:
        drop_invalid_rows = True


class Coerces(Model):
    class Config:
        coerce = True


class Fills(pa.DataFrameModel):
    p: float = pa.Field(default=0.0, nullable=False)


class Adds(pa.DataFrameModel):
    z: float = pa.Field(default=0.0)

    class Config:
        add_missing_columns = True


class InPolars(pap.DataFrameModel):
    p: float = pap.Field(gt=0, nullable=False)


class DropsInPolars(InPolars):
    class Config:
        drop_invalid_rows = True


PARSES = pa.DataFrameSchema({"p": pa.Column(float, parsers=pa.Parser(lambda values: values.fillna(1.0)))})


def test_a_schema_that_leaves_columns_out_of_its_copy_leaves_none_in_what_is_published(tmp_path: Path) -> None:
    schema = pa.DataFrameSchema({"p": pa.Column(float, nullable=True)}, strict="filter")
    assert "column 'a' is none of its own" in str(refused(tmp_path, checks=[schema]))
    assert made(tmp_path, GAP[["p"]], checks=[schema]) == {"schema": ""}


@pytest.mark.parametrize("schema", [Model, Drops, Coerces, Fills, Adds, PARSES, InPolars, DropsInPolars])
def test_a_schema_is_asked_of_what_would_be_published_not_of_what_it_makes_of_it(tmp_path: Path, schema: Any) -> None:
    refused(tmp_path, checks=[schema])
    good = GAP.dropna().assign(z=1.0)
    assert list(made(tmp_path, good, checks=[schema]).values()) == [""]


# ---------------------------------------------------------------- what one check does, no other sees


def changing(how: Callable[[Any], Any]) -> Any:
    def changes(value: Any) -> None:
        how(value)

    return changes


def without_gap(value: pd.DataFrame) -> None:
    value.drop(index=1, inplace=True)


def with_one(value: pd.DataFrame) -> None:
    value.loc[1, "p"] = 2.0


CHANGES: dict[str, tuple[Any, str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "rows are dropped": (GAP, ".parquet", without_gap, lambda value: value["p"].notna()),
    "a cell is set": (GAP, ".parquet", with_one, lambda value: value["p"].notna()),
    "a list is sorted out": ([1, None], ".json", lambda value: value.remove(None), lambda value: None not in value),
    "an item deep inside": (
        {"a": [{"b": None}]},
        ".json",
        lambda value: value["a"][0].update(b=1),
        lambda value: value["a"][0]["b"] is not None,
    ),
    "tables in a dict": (
        {"one": GAP},
        ".pickle",
        lambda value: without_gap(value["one"]),
        lambda value: value["one"]["p"].notna(),
    ),
    "an array": (np.array([-1, 1]), ".npy", lambda value: value.__setitem__(0, 1), lambda value: value > 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_check_that_changes_its_value_fools_no_other(tmp_path: Path, name: str) -> None:
    value, suffix, change, good = CHANGES[name]
    error = refused(tmp_path, value, suffix, checks=[changing(change), good])
    assert error.findings[-1]["status"] == "failed"


def test_a_check_that_knows_the_path_without_asking_may_not_write_there_either(tmp_path: Path) -> None:
    def run(self: Any, output_path: Path) -> None:
        self.known = output_path
        output_path.write_text("[1]")

    def writes(self: Any) -> None:
        self.known.write_text("[2, 3]")

    error = refused(tmp_path, suffix=".json", run=run, writes=check(writes), later=check(lambda self: True))
    assert "changed output_path" in str(error)


def test_what_a_check_puts_beside_the_output_or_takes_away_is_an_error(tmp_path: Path) -> None:
    def reports(output_path: Path) -> bool:
        output_path.with_suffix(".report").write_text("all is well")
        return True

    def takes(output_path: Path) -> bool:
        output_path.unlink()
        return True

    error = refused(tmp_path, checks=[reports])
    assert "put something beside it" in str(error) and not list(tmp_path.glob("**/out*.report"))
    error = refused(tmp_path, checks=[takes])
    assert "changed output_path" in str(error) and "is there no more" in str(error)


def test_an_exception_that_is_returned_is_what_it_would_be_if_raised(tmp_path: Path) -> None:
    (finding,) = refused(tmp_path, checks=[lambda value: ValueError("three rows are too few")]).findings
    assert (finding["status"], finding["detail"]) == ("failed", "ValueError: three rows are too few")


def test_lazy_tables_are_given_and_taken(tmp_path: Path) -> None:
    def lazy(self: Any, value: pl.LazyFrame) -> Any:
        assert isinstance(value, pl.LazyFrame)
        return value.select(pl.col("p").is_not_null())

    lazy.__annotations__["value"] = pl.LazyFrame
    assert "1 of 3 rows are false" in str(refused(tmp_path, lazy=check(lazy)))


class Subclass(pd.Series):  # type: ignore[type-arg]
    pass


ANSWERS: list[tuple[Any, str]] = [
    (np.array(True), "passed"),
    (np.array(False), "failed"),
    (np.ma.array([True, True], mask=[False, True]), "failed"),
    (np.ma.array([True, True]), "passed"),
    (pd.array([True, None]), "failed"),
    (pd.array([True, True]), "passed"),
    (Subclass([True, False]), "failed"),
    (pl.LazyFrame({"a": [True, False]}), "failed"),
    (pd.Series([True, None], dtype="bool[pyarrow]"), "failed"),
    (pyarrow.scalar(True), "passed"),
    (pyarrow.scalar(False), "failed"),
    (pyarrow.scalar(None, pyarrow.bool_()), "error"),
    (pyarrow.scalar(1), "error"),
    (pd.NA, "error"),
    (pl.col("a") > 0, "error"),
    ((one for one in [True]), "error"),
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_an_answer_of_another_kind_means_what_it_says(number: int) -> None:
    answer, expected = ANSWERS[number]
    assert of_answer(answer, lambda: None)[0] == expected


def test_a_coroutine_is_no_answer_and_is_not_left_waiting() -> None:
    async def later() -> bool:
        return True

    assert of_answer(later(), lambda: None)[0] == "error"


# ---------------------------------------------------------------- what findings say


class Secret(Made):
    token = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
    number = luigi.IntParameter(default=987654, visibility=ParameterVisibility.PRIVATE)
    suffix = ".json"
    made = 1


@pytest.mark.parametrize(
    "token", ["hunter2-hunter2", "two  spaces\nand lines", 'quo"te\\', 'it\'s\n"both"', "ünï\tcode"]
)
@pytest.mark.parametrize("before", [0, 290, 1190, 1994])
def test_private_texts_are_in_no_finding_cut_or_quoted(tmp_path: Path, token: str, before: int) -> None:
    filling = "x" * before

    def raises(self: Any, value: Any) -> None:
        raise ValueError(filling + self.token)

    def quotes(self: Any, value: Any) -> str:
        return filling + repr({"token": self.token}) + json.dumps(self.token) + str(self.number)

    kind: Any = type("Told", (Secret,), {"raises": check(raises), "quotes": check(quotes)})
    with pytest.raises(CheckFailedError) as caught:
        run_task(kind(place=str(tmp_path), token=token), raise_exception=True)
    kept = "".join(one.read_text() for one in quarantine.root().rglob("*.json"))
    for told in (str(caught.value), kept):
        assert token not in told and token[:6] not in told and "987654" not in told


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_of_a_group_of_exceptions_each_is_told(tmp_path: Path) -> None:
    def group(value: Any) -> None:
        raise ExceptionGroup("several", [ValueError("this"), TypeError("that")])  # noqa: F821

    said = str(refused(tmp_path, checks=[group]))
    assert "ValueError: this" in said and "TypeError: that" in said


def test_measures_that_no_record_can_hold_publish_nothing_and_are_named(tmp_path: Path) -> None:
    def measures(metadata: Any) -> None:
        metadata["odd"] = object()

    with pytest.raises(RecordValueError, match="odd"):
        made(tmp_path, checks=[measures])
    assert list(tmp_path.iterdir()) == []


def test_an_old_value_that_cannot_be_read_is_an_error_of_its_own_kind(tmp_path: Path) -> None:
    def run(self: Any, output_path: Path) -> None:
        output_path.write_bytes(b"no table")

    made(tmp_path, run=run)
    seen: list[Any] = []

    def looks(self: Any, previous: Any) -> None:
        try:
            previous.value
        except ValueError as error:
            seen.append(str(error))

    assert made(tmp_path, looks=check(looks)) == {"looks": ""}
    assert "out.parquet cannot be read" in seen[0]


# ---------------------------------------------------------------- external data, by any way


class Given(ExternalTask):
    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "given.json")

    @check
    def good(self, value: Any) -> Any:
        return value == "good"


class Gathers(luigi.WrapperTask):
    place = luigi.Parameter()

    def requires(self) -> Any:
        return [Given(self.place)]

    def output(self) -> Any:
        return self.input()


class Nearly(Made):
    suffix = ".json"
    checks: ClassVar = [lambda value: value == "good"]

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "given.json")


class PlainYields(luigi.Task):
    place = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.place}/taken.json")

    def run(self) -> Any:
        yield Given(self.place)
        Path(self.output().path).write_text("taken")


class Plain(PlainYields):
    def requires(self) -> Any:
        return Gathers(self.place)

    def run(self) -> None:
        Path(self.output().path).write_text("taken")


def taker(requirement: Callable[[str], Any]) -> Any:
    class Takes(Made):
        suffix = ".json"
        made = 1

        def requires(self) -> Any:
            return requirement(self.place)

    return Takes


WAYS: dict[str, Any] = {
    "a wrapper with outputs": taker(Gathers),
    "a class made external": taker(lambda place: luigi.task.externalize(Nearly)(place)),
    "a task made external": taker(lambda place: luigi.task.externalize(Nearly(place))),
    "a plain task over a wrapper": Plain,
    "a plain task that yields": PlainYields,
}


@pytest.mark.parametrize("way", WAYS)
def test_external_data_that_does_not_pass_reaches_nobody_by_any_way(tmp_path: Path, way: str) -> None:
    (tmp_path / "given.json").write_text('"bad"')
    task = WAYS[way](str(tmp_path))
    with pytest.raises(CheckFailedError, match="external data"):
        run_task(task, raise_exception=True)
    assert not task.complete()
    (tmp_path / "given.json").write_text('"good"')
    run_task(task, raise_exception=True)
    assert task.complete()


# ---------------------------------------------------------------- quarantine in bad places


class Folder(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    checks: ClassVar = [lambda output_path: "never"]

    def output(self) -> Any:
        return LocalFolderTarget(Path(self.place) / "folder")

    def run(self, output_path: Path) -> None:
        (output_path / "deep").mkdir()
        (output_path / "deep" / "x").write_text("what was made")
        (output_path / "link").symlink_to("deep/x")


def rejected(place: Path) -> CheckFailedError:
    with pytest.raises(CheckFailedError, match="never") as caught:
        run_task(Folder(str(place)), force=True, raise_exception=True)
    assert not (place / "folder").exists()
    return caught.value


def test_a_quarantine_on_another_disk_gets_a_whole_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(source: Path, destination: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    monkeypatch.setattr(quarantine.atomic, "move_folder", elsewhere)
    kept = Path(rejected(tmp_path).quarantine or "") / "output/0/folder"
    assert (kept / "deep/x").read_text() == (kept / "link").read_text() == "what was made"


@pytest.mark.parametrize("step", ["copytree", "_write"])
def test_a_full_disk_leaves_no_half_entry_and_hides_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(source: Any, destination: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination))

    def elsewhere(source: Path, destination: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    monkeypatch.setattr(quarantine.atomic, "move_folder", elsewhere)
    monkeypatch.setattr(*((shutil, step) if step == "copytree" else (quarantine, step)), full)
    assert "could not be kept" in str(rejected(tmp_path))
    assert not quarantine.entries() and not list(quarantine.root().rglob(".superluigi*"))


def test_what_is_larger_than_the_limit_is_described_and_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_QUARANTINE_LIMIT_BYTES", "5")
    error = rejected(tmp_path)
    assert "larger than quarantine_limit_bytes" in str(error)
    assert [one["kept"] for one in quarantine.entries()[0].about["outputs"]] == [None]


def test_what_is_cleared_while_it_is_read_stays_whole_for_its_reader(tmp_path: Path) -> None:
    kept = Path(rejected(tmp_path).quarantine or "")
    with (kept / "output/0/folder/deep/x").open() as reading:
        entries = quarantine.entries()
        assert len(quarantine.remove(entries)) == len(quarantine.remove(entries)) == 1
        assert reading.read() == "what was made"
    assert not quarantine.entries() and not list(quarantine.root().rglob("*"))


@pytest.mark.parametrize("namespace", ["team/project", "../..", "a/../../../b", "/", ".."])
def test_a_namespace_with_slashes_is_one_folder_of_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "ws" / "deep" / "er"))

    class Rejected(AtomicTaskWithMetadata):
        task_namespace = namespace
        checks: ClassVar = [lambda value: False]

        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "out.json")

        def run(self) -> dict[str, int]:
            return {"n": 1}

    with pytest.raises(CheckFailedError):
        run_task(Rejected(), raise_exception=True)
    (found,) = quarantine.entries()
    assert found.path.parent.parent.parent == quarantine.root() and found.about["checks"]
    assert found.family == f"{namespace}.Rejected" and found.task_hash == Rejected().task_hash
    assert quarantine.remove([found]) == [found] and list(quarantine.root().iterdir()) == []

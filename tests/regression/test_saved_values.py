"""Rule: what a format saves is read back equal, of the same types, or it is refused and the old output stands."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import math
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import yaml
from hypothesis import strategies as st

from superluigi import config, formats
from superluigi.errors import FormatError
from superluigi.formats.compare import frame_difference, same

UTC = datetime.timezone.utc
CITIES = pd.DataFrame({"city": pd.Categorical(["A", "B"]), "kind": pd.Categorical(["x", "y"]), "n": [1, 2]})
BINARY = [".parquet", ".feather", ".pickle", ".joblib", ".parquet.gz", ".feather.zst"]
TEXTUAL = [".csv", ".tsv", ".xlsx", ".csv.gz"]


def comes_back_or_is_refused(value: Any, suffix: str, equal: Callable[[Any, Any], bool]) -> bool:
    """Save over an old output; whether the value was taken. In both cases nothing else lies beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"value{suffix}"
        path.write_bytes(b"old")
        try:
            formats.save(value, path)
        except FormatError as error:
            assert path.read_bytes() == b"old" and "use ." in str(error) + "use ." and len(str(error)) > 60
            taken = False
        else:
            taken = True
            again = formats.load(path, as_type=type(value) if isinstance(value, (pl.DataFrame, pa.Table)) else None)
            assert equal(value, again), (value, again)
        assert [one.name for one in Path(folder).iterdir()] == [path.name]
        return taken


def without_kinds_of_nothing(frame: pd.DataFrame) -> pd.DataFrame:
    """None for all that is missing among objects, where files know one kind of nothing only; no level without rows."""
    columns = [frame.iloc[:, at] for at in range(frame.shape[1])]
    plain = [one.where(one.notna(), None) if one.dtype == "O" else one for one in columns]
    found = pd.concat(plain, axis=1) if plain else frame
    index = frame.index.remove_unused_levels() if isinstance(frame.index, pd.MultiIndex) else frame.index
    found.columns, found.index, found.attrs = frame.columns, index, frame.attrs
    return found.set_flags(allows_duplicate_labels=frame.flags.allows_duplicate_labels)


def same_frame(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """By pandas' own comparison, by ours, and by item."""
    pd.testing.assert_frame_equal(without_kinds_of_nothing(before), without_kinds_of_nothing(after), check_exact=True)
    for one, other in ((before.index, after.index), (before.columns, after.columns)):
        assert list(map(type, one)) == list(map(type, other))
    return frame_difference(before, after) is None and before.attrs == after.attrs


def same_text_frame(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """As values; text files keep no widths of numbers."""
    assert list(map(type, before.columns)) == list(map(type, after.columns)) and before.shape == after.shape
    for at, name in enumerate(before):
        assert after.columns[at] == name
        for one, other in zip(before.iloc[:, at].to_list(), after.iloc[:, at].to_list(), strict=True):
            if not (pd.isna(one) and pd.isna(other)):
                assert one == other and isinstance(one, str) == isinstance(other, str)
                assert isinstance(one, (bool, np.bool_)) == isinstance(other, (bool, np.bool_))
    return not before.attrs


CELLS: dict[str, Any] = {
    "int8": st.integers(-128, 127), "int64": st.integers(-(2**63), 2**63 - 1), "float64": st.floats(),
    "float32": st.floats(width=32), "bool": st.booleans(), "uint64": st.integers(0, 2**64 - 1),
    "Int64": st.integers(-(2**63), 2**63 - 1) | st.just(pd.NA), "boolean": st.booleans() | st.just(pd.NA),
    "string": st.text(max_size=4) | st.just(pd.NA), "Float64": st.floats(allow_nan=False) | st.just(pd.NA),
    "datetime64[ns]": st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
    "datetime64[s]": st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9000, 1, 1)),
    "datetime64[us, UTC]": st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
    "datetime64[ns, Europe/Berlin]": st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)),
    "timedelta64[us]": st.timedeltas(datetime.timedelta(-999), datetime.timedelta(999)),
    "category": st.sampled_from(["a", "b", None]), "period[M]": st.dates(datetime.date(1700, 1, 1)),
}  # fmt: skip
THINGS = st.one_of(
    st.none(), st.just(math.nan), st.booleans(), st.integers(), st.floats(), st.binary(max_size=3), st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)), st.decimals(allow_nan=False, places=2),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["", "1", "01", "1.0", "NA", "nan", "None", "null", "true", " x", "a\nb", 'q"', "a,b", "a\tb",
                     "\r\n",
                     "2020-01-01", "=1+1", "1e5", "#N/A", "\u00e4", "inf", "-", "'"]),
    st.text(max_size=3), st.tuples(st.integers()), st.just({"k": 1}), st.times(), st.timedeltas(), st.uuids(),
    st.sets(st.integers(), max_size=2), st.just(pd.Timestamp("2020-01-01 00:00:00.123456789")), st.just(2**53 + 1),
    st.just(2**70), st.just(-0.0), st.just(math.inf), st.just(pd.NaT), st.just(pd.NA), st.just(np.int8(3)),
    st.just(np.str_("n")),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["a", "b", "", "1", "index", "__index_level_0__", "a\nb", "Unnamed: 0", "a.1"]), st.integers(0, 3),
    st.tuples(st.just("a"), st.integers(0, 1)), st.none(), st.just(np.str_("n")), st.dates(), st.booleans(),
)  # fmt: skip


@st.composite
def columns(draw: Any, rows: int) -> Any:
    if draw(st.booleans()):
        kind = draw(st.sampled_from([st.text(max_size=3), st.integers(), THINGS, st.none() | st.text(), st.booleans()]))
        return pd.Series(draw(st.lists(kind, min_size=rows, max_size=rows)), dtype=object)
    dtype = draw(st.sampled_from(sorted(CELLS)))
    values = draw(st.lists(CELLS[dtype], min_size=rows, max_size=rows))
    try:
        return pd.Series(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError):
        hypothesis.reject()


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    rows, width = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    frame = pd.DataFrame({number: draw(columns(rows)) for number in range(width)}, index=range(rows))
    names = draw(st.lists(NAMES, min_size=width, max_size=width)) if draw(st.booleans()) else list("xyz"[:width])
    frame.columns = pd.Index(names) if names else frame.columns
    if draw(st.integers(0, 4)) == 0:
        labels = draw(st.sampled_from([
            pd.Index(list("abc")), pd.Index([3, 1, 2], name="x"),
            pd.date_range("2020", periods=3, freq="D", name="day"),
            pd.date_range("2020", periods=3, tz="Europe/Berlin"),
            pd.MultiIndex.from_tuples([(1, "a"), (2, "b"), (2, "a")]),
            pd.CategoricalIndex(list("aba")), pd.RangeIndex(5, 8), pd.RangeIndex(3, name="row"),
            pd.Index([0.5, math.nan, 1]),
            pd.Index(["a", None, "b"]), pd.period_range("2020", periods=3, freq="M"), pd.interval_range(0, 3),
            pd.Index([1, "a", None], dtype=object),
        ]))  # fmt: skip
        frame.index = labels[:rows]
    if draw(st.integers(0, 6)) == 0:
        frame.columns.name = draw(st.sampled_from(["kind", 5]))
    if draw(st.integers(0, 6)) == 0:
        frame.attrs = draw(st.sampled_from([{"unit": "m"}, {"when": datetime.date(2020, 1, 1)}, {1: 2}]))
    if draw(st.integers(0, 9)) == 0 and frame.columns.is_unique and frame.index.is_unique:
        frame = frame.set_flags(allows_duplicate_labels=False)
    return frame


QUICK = hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))


@QUICK
@hypothesis.given(frame=frames(), suffix=st.sampled_from([".parquet", ".feather"]))
def test_any_frame_comes_back_or_is_refused(frame: pd.DataFrame, suffix: str) -> None:
    comes_back_or_is_refused(frame, suffix, same_frame)


@QUICK
@hypothesis.given(frame=frames(), suffix=st.sampled_from([".csv", ".tsv"]))
def test_any_frame_comes_back_from_text_or_is_refused(frame: pd.DataFrame, suffix: str) -> None:
    comes_back_or_is_refused(frame, suffix, same_text_frame)


@hypothesis.settings(QUICK, max_examples=15)
@hypothesis.given(frame=frames())
def test_any_frame_comes_back_from_a_workbook_or_is_refused(frame: pd.DataFrame) -> None:
    comes_back_or_is_refused(frame, ".xlsx", same_text_frame)


@pytest.mark.long
@hypothesis.settings(QUICK, max_examples=3000)
@hypothesis.given(frame=frames(), suffix=st.sampled_from([".parquet", ".feather", ".csv"]))
def test_any_of_thousands_of_frames_comes_back_or_is_refused(frame: pd.DataFrame, suffix: str) -> None:
    comes_back_or_is_refused(frame, suffix, same_text_frame if suffix == ".csv" else same_frame)


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    A = "a"


class Unreadable:
    """No exception: libraries (tblib, once Dask has imported it) teach pickle how those are read again."""

    def __init__(self, one: int, two: int) -> None:
        self.one, self.two = one, two

    def __reduce__(self) -> Any:
        return Unreadable, (self.one,)


def arrays_of_no_items() -> pl.DataFrame | None:
    """Nothing where polars knows no such arrays, as at first."""
    with contextlib.suppress(pl.exceptions.ComputeError):
        return pl.DataFrame({"a": [[]]}, schema={"a": pl.Array(pl.Int8, 0)})
    return None


ARRAYS_OF_NO_ITEMS = arrays_of_no_items()
TROUBLE: list[tuple[str, Any, str]] = [
    ("crosstab", pd.crosstab(CITIES.city, CITIES.kind), ".parquet"),
    ("pivot", CITIES.pivot_table("n", "city", "kind", observed=False), ".feather"),
    ("cut", pd.DataFrame({"b": pd.cut([1, 5], [0, 3, 6])}), ".feather"),
    ("time in a zone", pd.DataFrame({"a": [datetime.time(1, tzinfo=UTC)]}), ".parquet"),
    ("bytes and text", pd.DataFrame({"a": [b"x", "y"]}), ".parquet"),
    ("rows without columns", CITIES[[]], ".parquet"),
    ("objects far below", pd.DataFrame({"a": pd.Series([b"x"] * 500 + ["y"], dtype=object)}), ".parquet"),
    ("numbers and text far below", pd.DataFrame({"a": pd.Series(["x"] * 500 + [1], dtype=object)}), ".feather"),
    ("attrs", pd.DataFrame({"a": [1]}).pipe(lambda frame: frame.attrs.update(unit="m") or frame), ".csv"),
    ("truth as numbers", pd.DataFrame({"a": pd.Series([1, True], dtype=object)}), ".csv"),
    ("enum", [Level.LOW], ".json"), ("text enum", {"a": Word.A}, ".json"), ("text enum", Word.A, ".txt"),
    ("tuple in a list", [(1, 2)], ".yaml"), ("zones", {"t": datetime.datetime(2020, 1, 1, tzinfo=UTC)}, ".json"),
    ("masked", np.ma.masked_array([1, 2], [0, 1]), ".npy"), ("objects", np.array([1, "a"], dtype=object), ".npy"),
    ("notes on a type", np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"})), ".npy"),
    ("memoryview of numbers", memoryview(np.arange(3)).cast("B").cast("i"), ".bin"),
    ("unreadable pickle", Unreadable(1, 2), ".pickle"), ("unreadable joblib", [Unreadable(1, 2)], ".joblib"),
    ("unreadable in a frame", pd.DataFrame({"a": [Unreadable(1, 2)]}), ".pickle"),
    ("unreadable in an array", np.array([Unreadable(1, 2)], dtype=object), ".joblib"),
    ("unreadable in an index", pd.Series([1], index=[Unreadable(1, 2)]), ".joblib"),
    ("unreadable in a record", np.array([(Unreadable(1, 2),)], dtype=[("a", "O")]), ".pickle"),
    *([("arrays of no items", ARRAYS_OF_NO_ITEMS, ".pickle")] if ARRAYS_OF_NO_ITEMS is not None else ()),
    ("names of numpy's text", pd.DataFrame([[1]], columns=pd.Index([np.str_("n")], dtype=object)), ".csv"),
    ("names of numpy's text", pd.DataFrame([[1]], columns=pd.Index([np.str_("n")], dtype=object)), ".parquet"),
    ("text enum as a name", pd.DataFrame([[1]], columns=pd.Index([Word.A], dtype=object)), ".xlsx"),
    ("text enum in a column", pd.DataFrame({"a": pd.Series(["x", None, Word.A], dtype=object)}), ".parquet"),
    ("numpy's text in a column", pd.DataFrame({"a": pd.Series(["x", np.str_("y")], dtype=object)}), ".feather"),
    ("polars objects", pl.DataFrame({"a": [object()]}, schema={"a": pl.Object}), ".parquet"),
    ("text of an own class", pd.DataFrame({"a": pd.Series(["x"] * 200 + [Word.A], dtype=object)}), ".parquet"),
    ("a frame of an own class", type("Own", (pl.DataFrame,), {})({"a": [1]}), ".parquet"),
    ("a frame of an own class", type("Own", (pl.DataFrame,), {})({"a": [1]}), ".csv"),
    ("two halves of a letter", {"\ud83d\ude00": ["\ud83d\ude00", math.nan]}, ".json"),
    ("big decimals", pd.DataFrame({"a": [decimal.Decimal("1.10"), decimal.Decimal("1e50")]}), ".parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "suffix"), [row[1:] for row in TROUBLE], ids=[row[0] for row in TROUBLE])
def test_known_trouble_is_refused_with_what_to_use_instead(tmp_path: Path, value: Any, suffix: str) -> None:
    path = tmp_path / f"value{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(FormatError, match=r"(?s)cannot be saved.*Others:"):
        formats.save(value, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


KEPT: list[tuple[str, Any, str]] = [
    ("zone", pd.DataFrame({"a": pd.date_range("2020", periods=2, tz="Europe/Berlin")}), ".parquet"),
    ("frequency", pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")), ".parquet"),
    ("attrs", pd.DataFrame({"a": [1]}).pipe(lambda frame: frame.attrs.update(unit="m") or frame), ".feather"),
    ("gaps in text", pd.DataFrame({"a": pd.Series(["x", math.nan, None], dtype=object)}), ".parquet"),
    ("whole numbers and nothing", pd.DataFrame({"a": pd.Series([1, None, 2**53 + 1], dtype=object)}), ".parquet"),
    ("two levels", pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"])),
     ".parquet"),
    ("text", pd.DataFrame({"a": ["x", "y"]}), ".feather"),
    ("empty", pd.DataFrame({"a": pd.Series([], dtype=float)}), ".parquet"),
    ("gaps", pd.DataFrame({"a": pd.Series(["x", math.nan], dtype=object)}), ".feather"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "suffix"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT])
def test_what_frames_usually_hold_is_taken(value: Any, suffix: str) -> None:
    assert comes_back_or_is_refused(value, suffix, lambda one, other: frame_difference(one, other) is None)


def test_a_table_of_known_types_is_not_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    for name in ("parquet", "feather"):
        implementation = formats.registry.by_name(name).resolve()
        original = implementation.load

        def counted(path: Path, as_type: Any, original: Any = original) -> Any:
            table = original(path, as_type)
            read.append(len(table))
            return table

        monkeypatch.setattr(implementation, "load", counted)
    plain = pd.DataFrame({"n": range(1000), "x": 0.5, "t": pd.Series(["a"] * 1000, dtype=object)})
    for suffix in (".parquet", ".feather"):
        formats.save(plain, tmp_path / f"plain{suffix}")
    assert not read
    formats.save(plain.assign(c=plain.t.astype("category")), tmp_path / "types.parquet")
    assert read == [100], "the first rows tell whether types come back"
    formats.save(plain.assign(c=pd.Series([b"x"] * 1000, dtype=object)), tmp_path / "objects.parquet")
    assert read == [100, 1000]
    with config.applied({"superluigi": {"check_saved": "false"}}):
        formats.save(pd.DataFrame({"a": [b"x", "y"]}), tmp_path / "unchecked.parquet")
    assert read == [100, 1000]


def of_polars(dtype: str) -> Any:
    """A frame whose numbers are of this type; a later polars has it."""
    number = getattr(pl, dtype, None)
    return number and pl.DataFrame({"a": [2**100, 1]}, schema={"a": number})


WITHOUT_PANDAS: list[tuple[Any, str, str]] = [
    (of_polars("Int128"), ".parquet", "polars.DataFrame"),
    (of_polars("UInt128"), ".feather", "polars.DataFrame"),
    (pa.table({"a": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}), ".feather",
     "pyarrow.Table"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "suffix", "kind"), WITHOUT_PANDAS, ids=["int128", "uint128", "union"])
def test_what_pandas_has_no_type_for_says_how_to_read_it(tmp_path: Path, value: Any, suffix: str, kind: str) -> None:
    if value is None:
        pytest.skip("this polars has no such type")
    path = tmp_path / f"value{suffix}"
    formats.save(value, path)
    with pytest.raises(FormatError, match=rf"has not .*as_type=.*{kind}.*annotation"):
        formats.load(path)
    assert formats.load(path, as_type=type(value)).equals(value)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([Level.LOW, Word.A, -0.0])
    | st.dates() | st.datetimes(timezones=st.none() | st.just(UTC)) | st.binary() | st.decimals(),
    lambda items: st.lists(items) | st.tuples(items) | st.dictionaries(st.text() | st.integers() | st.none(), items)
    | st.sets(st.integers()) | st.builds(OrderedDict, st.dictionaries(st.text(), st.integers())),
    max_leaves=5,
)  # fmt: skip


def plainly_same(before: Any, after: Any) -> bool:
    """As `same`; classes derived from dict come back as dicts."""
    if isinstance(before, dict):
        return isinstance(after, dict) and same(list(before), list(after)) and all(
            map(plainly_same, before.values(), after.values())
        )  # fmt: skip
    if type(before) is list:
        return isinstance(after, list) and len(before) == len(after) and all(map(plainly_same, before, after))
    return same(before, after)


@hypothesis.settings(QUICK, max_examples=200)
@hypothesis.given(value=JSONS, suffix=st.sampled_from([".json", ".yaml", ".json.gz", ".txt", ".bin", ".pickle"]))
def test_any_plain_value_comes_back_or_is_refused(value: Any, suffix: str) -> None:
    comes_back_or_is_refused(value, suffix, same if suffix == ".pickle" else plainly_same)


DTYPES = ["i1", ">i4", "f2", "f8", "c16", "U3", "S2", "M8[s]", "m8[25us]", "?", "O", "V3", "i4,f8", "g",
          np.dtype([("a", "i2"), ("b", "f4", (2,))], align=True), np.dtype([(("title", "a"), "i2")]),
          np.dtype({"names": ["x"], "formats": ["i4"], "offsets": [4], "itemsize": 16})]  # fmt: skip


@hypothesis.settings(QUICK, max_examples=100)
@hypothesis.given(
    dtype=st.sampled_from(DTYPES), shape=st.sampled_from([(), (0,), (3,), (2, 3), (0, 2)]), order=st.sampled_from("CF"),
    suffix=st.sampled_from([".npy", ".npz", ".npy.zst"]), masked=st.booleans(),
)  # fmt: skip
def test_any_array_comes_back_or_is_refused(dtype: Any, shape: Any, order: Any, suffix: str, masked: bool) -> None:
    array: Any = np.zeros(shape, dtype=dtype, order=order)
    value = np.ma.masked_array(array) if masked else array

    def equal(one: Any, other: Any) -> bool:
        one, other = (one["a"], other["a"]) if suffix == ".npz" else (one, other)
        return bool(
            type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
            and one.flags.f_contiguous == other.flags.f_contiguous and repr(one) == repr(other)
            and one.dtype.fields == other.dtype.fields
        )  # fmt: skip

    taken = comes_back_or_is_refused({"a": value} if suffix == ".npz" else value, suffix, equal)
    assert taken or masked or array.dtype.kind in "OV"


@hypothesis.settings(QUICK, max_examples=60)
@hypothesis.given(
    value=st.dictionaries(
        st.sampled_from(
            ["a", "b.json", "b", "_metadata", "_SUCCESS", ".x", "c.txt", "c.csv.gz", "A", "year=1", "d.gz"]
        ),
        st.integers() | st.text(max_size=3) | st.binary(max_size=3) | st.lists(st.integers(), max_size=2),
        max_size=3,
    )
)
def test_any_dict_comes_back_from_a_folder_or_is_refused(value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            formats.save(value, Path(folder))
        except FormatError:
            assert not list(Path(folder).iterdir())
            return
        again = formats.load(Path(folder))
        assert len(again) == len(value) and all(same(again[name], item) for name, item in value.items())


def test_a_name_that_no_file_can_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("\ud800", "a\udd00.json"):
        with pytest.raises(FormatError, match="cannot be a file name"):
            formats.save({"before": 1, name: 2}, tmp_path)
    assert not list(tmp_path.iterdir())


class PanicException(BaseException):
    """What libraries in Rust raise, polars among them: no Exception."""


@pytest.mark.parametrize(("raised", "told"), [(PanicException, FormatError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_library_that_panics_while_it_reads_is_told_with_advice(
    tmp_path: Path, raised: type[BaseException], told: type[BaseException]
) -> None:
    @formats.register("panics", ".panics")
    class Panics:
        def save(self, value: Any, path: Path) -> None:
            path.write_text("x")

        def load(self, path: Path, as_type: Any) -> Any:
            raise raised("not yet implemented")

    try:
        formats.save(1, tmp_path / "value.panics")
        with pytest.raises(told, match="not yet implemented"):
            formats.load(tmp_path / "value.panics")
    finally:
        formats.unregister("panics")


def test_what_is_written_as_yaml_is_plain_yaml(tmp_path: Path) -> None:
    formats.save({"t": datetime.datetime(2020, 1, 1, tzinfo=UTC), "n": -0.0}, tmp_path / "x.yaml")
    assert same(yaml.safe_load((tmp_path / "x.yaml").read_text())["n"], -0.0)


OTHERS: list[Any] = [
    pl.DataFrame({"a": pl.Series(["x", None], dtype=pl.Categorical),
                  "b": pl.Series(["u", "v"], dtype=pl.Enum(["u", "v"]))}),
    pl.DataFrame({"a": [[1, None], []], "b": [{"x": 1}, None], "c": [None, None], "d": [math.nan, -0.0]}),
    pl.DataFrame({"a": [decimal.Decimal("1.10"), None], "b": [b"x", b""], "c": [datetime.time(1), None]}),
    pl.DataFrame({"a": [datetime.datetime(2020, 1, 1, tzinfo=UTC)], "b": [datetime.timedelta(1)]}),
    pl.DataFrame({"a": pl.Series([[1, 2]], dtype=pl.Array(pl.Int8, 2))}),
    *([pl.DataFrame({"b": pl.Series([2**100], dtype=pl.Int128)})] if hasattr(pl, "Int128") else ()),
    pl.DataFrame(), pl.DataFrame({"a": []}), pl.DataFrame({"": ["1"], "x\ny": ["01"]}),
    pa.table({"a": pa.array(["x", None]).dictionary_encode(), "b": pa.array([[1], None]), "c": pa.nulls(2)}),
    pa.table({"a": pa.array([1, 2], pa.timestamp("s", "Europe/Berlin")), "b": pa.array([1, 2], pa.time32("s"))}),
    pa.table({"a": pa.array([math.nan, None]), "b": pa.array([{"x": math.nan}, None])}),
    pa.table({"a": pa.array([decimal.Decimal("1.1")], pa.decimal256(50, 1)), "b": pa.array([b"x"], pa.binary(1))}),
    pa.table({"a": pa.array([1], pa.duration("s")), "b": pa.array([1], pa.date64()),
              "c": pa.array([np.float16(1.5)], pa.float16())}),
    pa.table({}), pa.table({"a": pa.array([], pa.map_(pa.string(), pa.int8()))}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(OTHERS)))
@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv", ".xlsx", ".parquet.zst"])
def test_tables_of_other_libraries_come_back_or_are_refused(number: int, suffix: str) -> None:
    value = OTHERS[number]

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, pa.Table):
            plain = same(one.to_pylist(), other.to_pylist()) and one.num_rows == other.num_rows
            return bool(plain and (suffix in TEXTUAL or one.schema.equals(other.schema)))
        return bool(one.equals(other) and (suffix in TEXTUAL or one.schema == other.schema))

    comes_back_or_is_refused(value, suffix, equal)

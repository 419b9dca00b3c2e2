"""A value comes back from its file as it was, or saving it is refused before anything is written."""

from __future__ import annotations

import datetime
import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superluigi import formats
from superluigi.errors import FormatError, MissingDependencyError, OptionError
from superluigi.targets import LocalFileTarget

has = {name: importlib.util.find_spec(name) is not None for name in ("polars", "openpyxl", "zstandard", "joblib")}
SUFFIX_EXTRAS = [""] + [".gz"] + ([".zst"] if has["zstandard"] else [])
property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

text = st.text(alphabet=st.characters(), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
anything = st.recursive(
    scalars | st.binary(max_size=8) | st.dates() | st.datetimes() | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(text | st.integers() | st.dates() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)
arrays = st.one_of(
    st.lists(st.integers(-(2**60), 2**60), max_size=6).map(lambda items: np.array(items, dtype="int64")),
    st.lists(st.floats(), max_size=6).map(lambda items: np.array(items).reshape(-1, 1)),
    st.lists(st.text(max_size=4), max_size=6).map(lambda items: np.array(items, dtype="U4")),
    st.just(np.array([object()], dtype=object)),
    st.just(np.array(3.5)),
    st.just(np.zeros((2, 3), dtype=[("a", "i4"), ("b", "f8")])),
)
clean = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)  # pandas itself refuses half pairs
columns = st.one_of(
    st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=3),
    st.lists(st.floats(), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(clean | st.none(), min_size=3, max_size=3),
    st.lists(st.sampled_from(["1", "001", "NA", "", " x", "True", "a,b", 'q"q', "é\n"]), min_size=3, max_size=3),
    st.lists(st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2100, 1, 1)), min_size=3, max_size=3),
    st.lists(st.dates(datetime.date(1980, 1, 1), datetime.date(2100, 1, 1)), min_size=3, max_size=3),
    st.lists(st.binary(max_size=3), min_size=3, max_size=3),
    st.just([[1], [2], [3]]),
    st.just([1, "x", None]),
)
tables = st.dictionaries(clean, columns, min_size=1, max_size=4).map(pd.DataFrame)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, pd.DataFrame):
        return same_table(one, other)
    return type(one) is type(other) and (one == other or pickle.dumps(one) == pickle.dumps(other))


def same_table(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return False
    for name in one.columns:
        for before, after in zip(one[name].tolist(), other[name].tolist(), strict=True):
            if pd.isna(before) and pd.isna(after):
                continue
            if before != after or isinstance(before, str) != isinstance(after, str):
                return False
    return True


def round_trip_or_refusal(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    for old in folder.iterdir():
        old.unlink()  # of the example before
    path.write_bytes(b"what was there before")
    try:
        written = formats.save(value, path)
    except FormatError:
        assert path.read_bytes() == b"what was there before"
    else:
        assert same(value, formats.load(path)), (value, formats.load(path))
        assert same(value, formats.load(path, format=written))
    assert list(folder.iterdir()) == [path], "nothing else is left behind"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@property_test
@given(
    value=anything,
    suffix=st.sampled_from([".json", ".yaml", ".txt", ".bin", ".pickle"]),
    extra=st.sampled_from(SUFFIX_EXTRAS),
)
def test_any_plain_value_round_trips_or_is_refused(folder: Path, value: Any, suffix: str, extra: str) -> None:
    round_trip_or_refusal(folder, f"value{suffix}{extra}", value)


@property_test
@given(value=plain)
def test_what_json_supports_is_never_refused(folder: Path, value: Any) -> None:
    formats.save(value, folder / "value.json")
    assert same(value, formats.load(folder / "value.json"))


@property_test
@given(value=arrays, suffix=st.sampled_from([".npy", ".npz", ".json", ".pickle"]))
def test_any_array_round_trips_or_is_refused(folder: Path, value: Any, suffix: str) -> None:
    if suffix == ".npz":
        value = {"file": value, "b.npy": np.arange(2)}
    if suffix == ".pickle":
        value = np.asarray(value, dtype=None if value.dtype != object else "U3")
    round_trip_or_refusal(folder, f"value{suffix}", value)


@property_test
@given(value=tables, suffix=st.sampled_from([".csv", ".tsv", ".parquet", ".feather", ".csv.gz"]))
def test_any_table_round_trips_or_is_refused(folder: Path, value: pd.DataFrame, suffix: str) -> None:
    round_trip_or_refusal(folder, f"value{suffix}", value)


@pytest.mark.skipif(not has["openpyxl"], reason="needs openpyxl")
@settings(property_test, max_examples=15)
@given(value=tables)
def test_any_table_round_trips_through_excel_or_is_refused(folder: Path, value: pd.DataFrame) -> None:
    round_trip_or_refusal(folder, "value.xlsx", value)


@pytest.mark.skipif(not has["joblib"], reason="needs joblib")
def test_joblib_keeps_objects_and_arrays(folder: Path) -> None:
    value = {"a": np.arange(1000), "b": {1, 2}}
    formats.save(value, folder / "value.joblib")
    loaded = formats.load(folder / "value.joblib")
    assert loaded["b"] == {1, 2} and (loaded["a"] == value["a"]).all()


def test_a_table_of_plain_columns_passes_through_csv() -> None:
    # the refusals must not be so broad that nothing passes
    frame = pd.DataFrame({"n": [1, 2], "x": [0.1, 1e300], "t": ["a", "é, b"], "b": [True, False], "gap": [1.5, None]})
    assert formats.registry.by_name("csv").resolve() is not None
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        formats.save(frame, Path(folder) / "t.csv")
        pd.testing.assert_frame_equal(formats.load(Path(folder) / "t.csv"), frame)


@pytest.mark.parametrize(
    ("value", "name", "reason"),
    [
        ((1, 2), "x.json", "tuple would come back as a list"),
        ({1: "a"}, "x.json", "no text"),
        (pd.DataFrame({"day": pd.to_datetime(["2013-01-01"])}), "x.csv", "'day' holds datetime64"),
        (pd.DataFrame({"zip": ["00123", "00456"]}), "x.csv", "'zip' would come back changed"),
        (pd.DataFrame({"a": [1]}, index=["k"]), "x.csv", "index would be lost"),
        (3, "x.txt", "no text"),
        (lambda: 3, "x.pickle", "lambda"),
        ([1], "x.npy", "numpy.asarray"),
        ([1], "x.parquet", "no table"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_lists_what_would_work(
    tmp_path: Path, value: Any, name: str, reason: str
) -> None:
    with pytest.raises(FormatError, match=r"(?s)cannot be saved.*keeps.*Others:") as caught:
        formats.save(value, tmp_path / name)
    assert reason in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_lists_the_known_ones_and_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"(?s)'\.jsno'.*Did you mean '\.json'.*\.parquet.*\.zst"):
        formats.save(1, tmp_path / "x.jsno")
    with pytest.raises(FormatError, match="no suffix"):
        formats.save(1, tmp_path / "x")
    (tmp_path / "y.abc").write_text("1")
    with pytest.raises(FormatError, match="Known suffixes"):
        formats.load(tmp_path / "y.abc")


@pytest.mark.parametrize("name", ["json", ".json", "no.suffix.at.all", "x.tar.gz"])
def test_a_target_without_a_known_suffix_takes_no_value(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"suffix.*Known suffixes"):
        LocalFileTarget(tmp_path / name).dump(b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["x.json", "x.json.gz", "x.json.zst", "x.csv.gz", "x.parquet", "x.npy", "x.xlsx", "x.pickle"]
)
def test_a_file_that_is_none_of_its_suffix_is_said_to_be_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{\xff")
    with pytest.raises(FormatError, match=f"{name} cannot be (read|decompressed)"):
        LocalFileTarget(tmp_path / name).load()


def test_pickles_can_be_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.save({1}, tmp_path / "x.pickle")
    with pytest.raises(FormatError, match="run code"):
        formats.load(tmp_path / "x.pickle", allow_pickle=False)
    monkeypatch.setenv("SUPERLUIGI_ALLOW_PICKLE", "false")
    with pytest.raises(FormatError, match="run code"):
        formats.load(tmp_path / "x.pickle")
    assert formats.load(tmp_path / "x.pickle", allow_pickle=True) == {1}


def test_a_hostile_npy_file_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="cannot be read"):
        formats.load(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.pickle", "x.json", "x.parquet", "x.pickle.gz"])
def test_what_is_no_file_of_its_suffix_is_told_so_with_the_remedy(tmp_path: Path, name: str) -> None:
    formats.save("text", tmp_path / "x.txt.gz")
    (tmp_path / name).write_bytes((tmp_path / "x.txt.gz").read_bytes() if name.endswith(".gz") else b"text")
    with pytest.raises(FormatError, match="taken for its suffix") as caught:
        formats.load(tmp_path / name)
    assert ".." not in str(caught.value).replace(str(tmp_path), "")


def test_compressed_bytes_are_the_same_for_the_same_value(tmp_path: Path) -> None:
    formats.save([1] * 100, tmp_path / "a.json.gz")
    formats.save([1] * 100, tmp_path / "b.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_the_recorded_format_wins_over_the_suffix(tmp_path: Path) -> None:
    name = formats.save({"a": 1}, tmp_path / "x.json.gz")
    (tmp_path / "x.json.gz").rename(tmp_path / "x.dat")
    assert formats.load(tmp_path / "x.dat", format=name) == {"a": 1}


@pytest.mark.skipif(not has["polars"], reason="needs polars")
@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
def test_the_readers_annotation_picks_the_table_library(tmp_path: Path, suffix: str) -> None:
    import polars
    import pyarrow

    written = {
        pd.DataFrame: pd.DataFrame({"a": [1, 2]}),
        polars.DataFrame: polars.DataFrame({"a": [1, 2]}),
        pyarrow.Table: pyarrow.table({"a": [1, 2]}),
    }
    for table in written.values():
        formats.save(table, tmp_path / f"x{suffix}")
        for kind in written:
            loaded = formats.load(tmp_path / f"x{suffix}", as_type=kind)
            assert isinstance(loaded, kind)
        assert isinstance(formats.load(tmp_path / f"x{suffix}"), pd.DataFrame)
        assert isinstance(formats.load(tmp_path / f"x{suffix}", as_type=polars.DataFrame | None), polars.DataFrame)


def test_a_folder_keeps_a_dict_of_names_to_values(folder: Path) -> None:
    value = {"table": pd.DataFrame({"a": [1]}), "notes": "text", "numbers": [1, 2], "raw.bin": b"x", "a": np.arange(2)}
    assert formats.save(value, folder) == "folder"
    loaded = formats.load(folder)
    assert set(loaded) == {"table", "notes", "numbers", "raw", "a"}
    assert loaded["notes"] == "text" and loaded["numbers"] == [1, 2] and loaded["raw"] == b"x"
    assert loaded["notes.txt"] == "text", "a name with its suffix finds the value too"
    with pytest.raises(KeyError, match="the folder holds"):
        loaded["other"]


def test_a_folder_refuses_bad_names_and_leaves_nothing(folder: Path) -> None:
    for value in ({"a/b": 1}, {"": 1}, {"..": 1}, {1: 1}, {"A": 1, "a": 1}, {"ok": 1, "bad.json": {1, 2}}):
        with pytest.raises(FormatError):
            formats.save(value, folder)
        assert not list(folder.iterdir())


def test_a_partitioned_dataset_loads_as_one_table(folder: Path) -> None:
    for year in (2013, 2014):
        part = folder / f"year={year}"
        part.mkdir()
        pd.DataFrame({"n": [year % 100]}).to_parquet(part / "part-0.parquet")
    loaded = formats.load(folder)
    assert loaded.to_dict("list") == {"n": [13, 14], "year": [2013, 2014]}
    assert formats.load(folder, as_type=pd.DataFrame).equals(loaded)


def test_a_table_saved_to_a_folder_is_a_table_again(folder: Path) -> None:
    name = formats.save(pd.DataFrame({"a": [1, 2]}), folder)
    assert formats.load(folder, format=name).a.tolist() == [1, 2]


class Points(list[Any]):
    pass


def test_ones_own_suffix_and_type_are_registered_by_decorator(tmp_path: Path) -> None:
    @formats.register("points", ".points", types=[Points])
    class PointsFormat:
        def save(self, value: Any, path: Path) -> None:
            path.write_text(";".join(map(str, value)))

        def load(self, path: Path, as_type: Any) -> Points:
            return Points(int(word) for word in path.read_text().split(";"))

    try:
        assert formats.suffix_for(Points) == ".points"
        assert formats.save(Points([1, 2]), tmp_path / "x.points.gz") == "points+gz"
        assert formats.load(tmp_path / "x.points.gz") == Points([1, 2])
        assert ".points" in formats.known_suffixes()
    finally:
        formats.unregister("points")
    with pytest.raises(FormatError, match="import the module that registers it"):
        formats.load(tmp_path / "x.points.gz", format="points")


def test_ones_own_type_shares_a_suffix_with_the_built_in_format(tmp_path: Path) -> None:
    @formats.register("points", ".json", types=[Points])
    class PointsFormat:
        def save(self, value: Any, path: Path) -> None:
            path.write_text("points")

        def load(self, path: Path, as_type: Any) -> Points:
            return Points()

    try:
        assert formats.save(Points([1]), tmp_path / "x.json") == "points"
        assert formats.save([1], tmp_path / "y.json") == "json"
        assert formats.load(tmp_path / "y.json") == [1]
        assert isinstance(formats.load(tmp_path / "x.json", as_type=Points), Points)
    finally:
        formats.unregister("points")


@pytest.mark.parametrize("suffixes", [("points",), (".gz",), (".a/b",), ()])
def test_a_format_needs_a_sensible_suffix(suffixes: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        formats.register("points", *suffixes)


class Row(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("annotation", "suffix"),
    [
        (pd.DataFrame, ".parquet"),
        (int, ".json"),
        (float, ".json"),
        (bool, ".json"),
        (dict, ".json"),
        (list, ".json"),
        (dict[str, Any], ".json"),
        (list[float], ".json"),
        (list[dict[str, int | None]], ".json"),
        (Row, ".json"),
        (dict[int, str], ".pickle"),
        (list[tuple[int, int]], ".pickle"),
        (str, ".pickle"),
        (None, ".pickle"),
        (set, ".pickle"),
        (Any, ".pickle"),
        (object, ".pickle"),
    ],
)
def test_the_suffix_follows_the_annotation(annotation: Any, suffix: str) -> None:
    assert formats.suffix_for(annotation) == suffix


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"superluigi\[formats\]"):
        formats.save(pd.DataFrame({"a": [1]}), tmp_path / "x.parquet")

"""Tables come back with the values and types they had, whichever library wrote and reads them, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from superluigi import formats
from superluigi.errors import FormatError


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".parquet.gz"])
@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 2**53 + 1], dtype=object),
        pd.Series([1, 2], dtype=object),
        pd.Series(["a", None], dtype=object),
        pd.Series(np.array(["2020", "1500"], "datetime64[s]")),
        pd.Series(pd.to_datetime(["2020"], utc=True).astype("datetime64[s, UTC]")),
        pd.Series(pd.Categorical(["b", None], categories=["c", "b"], ordered=True)),
    ],
    ids=["whole numbers and None", "objects", "text and None", "seconds", "seconds in a zone", "unused categories"],
)
def test_a_column_has_its_type_again(tmp_path: Path, column: pd.Series[Any], suffix: str) -> None:
    frame = pd.DataFrame({"x": column})
    formats.save(frame, tmp_path / f"t{suffix}")
    pd.testing.assert_frame_equal(formats.load(tmp_path / f"t{suffix}"), frame)


@pytest.mark.parametrize(
    ("value", "suffix", "said"),
    [
        (pd.DataFrame({"x": pd.Categorical([3, 1, 3])}), ".parquet", "use .feather"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), ".parquet", "names must differ"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), ".feather", "names must differ"),
        (type("Roads", (pd.DataFrame,), {})({"x": [1]}), ".parquet", "a Roads would come back as a plain DataFrame"),
        (pd.DataFrame({"x": [1]}).rename_axis("row"), ".csv", r"rename_axis\(index=None\)"),
        (pd.DataFrame({"x": [1]}).rename_axis(columns="kind"), ".xlsx", r"rename_axis\(columns=None\)"),
        (pl.DataFrame({"x": [2**53 + 1, None]}), ".csv", "'x' would come back changed"),
        (pl.DataFrame({"x": [2**53 + 1, None]}), ".xlsx", "would come back changed"),
    ],
)
def test_what_would_change_is_refused(tmp_path: Path, value: Any, suffix: str, said: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(FormatError, match=said):
        formats.save(value, path)
    assert path.read_bytes() == b"old"


def test_whole_numbers_and_truth_values_may_be_missing_in_csv(tmp_path: Path) -> None:
    table = pl.DataFrame({"n": [1, None], "yes": [True, None], "text": ["a", "b"]})
    formats.save(table, tmp_path / "t.csv")
    assert formats.load(tmp_path / "t.csv", as_type=pl.DataFrame).equals(table)
    assert formats.load(tmp_path / "t.csv", as_type=pa.Table).to_pydict() == table.to_dict(as_series=False)


def test_a_single_column_with_a_gap_is_no_text_for_polars(tmp_path: Path) -> None:
    table = pl.DataFrame({"n": [1, None]})
    formats.save(table, tmp_path / "t.csv")
    assert formats.load(tmp_path / "t.csv", as_type=pl.DataFrame).equals(table)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.Table])
def test_a_partition_is_text_in_all_files_unless_all_are_whole_numbers(tmp_path: Path, kind: Any) -> None:
    for month in ("09", "10"):
        folder = tmp_path / "year=2013" / f"month={month}"
        folder.mkdir(parents=True)
        pd.DataFrame({"n": [1]}).to_parquet(folder / "part.parquet")
    loaded = formats.load(tmp_path, as_type=kind)
    columns = (
        loaded.to_pydict()
        if kind is pa.Table
        else loaded.to_dict(**{"as_series": False} if kind is pl.DataFrame else {"orient": "list"})
    )
    assert columns == {"n": [1, 1], "year": [2013, 2013], "month": ["09", "10"]}
    if kind is pl.DataFrame:
        assert loaded.schema["year"] == pl.Int64


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="longer than 240 bytes"):
        formats.save({"x" * 300: 1}, tmp_path)

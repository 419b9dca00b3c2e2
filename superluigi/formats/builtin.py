"""The formats that come with the package, by name: nothing is imported before it is used."""

from __future__ import annotations

from superluigi.formats.registry import FormatSpec, add

_ROOM = "superluigi.formats"
PANDAS, POLARS, ARROW = "pandas.DataFrame", "polars.DataFrame", "pyarrow.Table"
TABLES = (PANDAS, POLARS, ARROW)

_BUILTIN = (
    FormatSpec("pickle", (".pickle", ".pkl"), f"{_ROOM}.plain:Pickle", "any object that pickle can hold",
               unpickles=True),
    FormatSpec("joblib", (".joblib",), f"{_ROOM}.plain:Joblib", "any object, large arrays fast",
               unpickles=True, extra="formats"),
    FormatSpec("json", (".json",), f"{_ROOM}.plain:Json",
               "None, bool, int, float, str, lists and dicts with text keys"),
    FormatSpec("yaml", (".yaml", ".yml"), f"{_ROOM}.plain:Yaml",
               "what JSON keeps, and dates, bytes and keys that are no text"),
    FormatSpec("text", (".txt", ".md", ".html", ".log"), f"{_ROOM}.plain:Text", "str"),
    FormatSpec("bytes", (".bin", ".bytes"), f"{_ROOM}.plain:Bytes", "bytes"),
    FormatSpec("npy", (".npy",), f"{_ROOM}.arrays:Npy", "a numpy.ndarray", ("numpy.ndarray",)),
    FormatSpec("npz", (".npz",), f"{_ROOM}.arrays:Npz", "a dict of names to numpy.ndarray"),
    FormatSpec("feather", (".feather",), f"{_ROOM}.tables:Feather", "tables", TABLES),
    FormatSpec("excel", (".xlsx",), f"{_ROOM}.tables:Excel", "tables, or a dict of sheet names to tables", TABLES),
    FormatSpec("tsv", (".tsv",), f"{_ROOM}.tables:Tsv", "tables of numbers, truth values and text", TABLES),
    FormatSpec("csv", (".csv",), f"{_ROOM}.tables:Csv", "tables of numbers, truth values and text", TABLES),
    FormatSpec("parquet", (".parquet",), f"{_ROOM}.tables:Parquet", "tables", TABLES),
)  # fmt: skip

for _entry in _BUILTIN:
    add(_entry)

"""Tables in files: pandas, polars and Arrow in; what the reader's annotation asks for out.

Which library wrote a file does not matter to who reads it. Text formats (CSV, TSV, Excel) keep no types:
a table is written only if every column would be read back equal, else saving is refused with the column's name.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from superluigi.errors import FormatError, MissingDependencyError
from superluigi.formats import builtin
from superluigi.formats.compare import frame_difference, same
from superluigi.formats.registry import kind_names
from superluigi.formats.suffix_inference import table_kind


class Parquet:
    """Columns with their types; a pandas index is kept."""

    def save(self, value: Any, path: Path) -> None:
        kind = _kind(value)
        if kind == builtin.POLARS:
            value.write_parquet(path)
            return
        table = value if kind == builtin.ARROW else _arrow_from_pandas(value)
        _differing_names(table.column_names)
        _refuse_numbers_as_categories(table)
        _arrow("parquet").write_table(table, path)

    def check(self, value: object, path: Path) -> None:
        """Look whether the table comes back, as a whole or by its first rows."""
        _refuse_otherwise(self, value, path)

    def load(self, path: Path, as_type: object) -> Any:
        kind = table_kind(as_type)
        if kind == builtin.POLARS:
            return _polars().read_parquet(path, hive_partitioning=False)
        parquet = _arrow("parquet")
        with _other_kinds_named():
            table = parquet.read_table(path, partitioning=None)
            table = _with_its_types(table, parquet.read_metadata(path).metadata or {})
            return table if kind == builtin.ARROW else _pandas_from_arrow(table)


class Feather:
    """Arrow's file format; a pandas index is kept in its metadata."""

    def save(self, value: Any, path: Path) -> None:
        kind = _kind(value)
        if kind == builtin.POLARS:
            value.write_ipc(path, compression="lz4")
            return
        table = value if kind == builtin.ARROW else _arrow_from_pandas(value)
        _differing_names(table.column_names)
        _arrow("feather").write_feather(table, str(path))

    def check(self, value: object, path: Path) -> None:
        """Look whether the table comes back, as a whole or by its first rows."""
        _refuse_otherwise(self, value, path)

    def load(self, path: Path, as_type: object) -> Any:
        kind = table_kind(as_type)
        if kind == builtin.POLARS:
            return _polars().read_ipc(path)
        with _other_kinds_named():
            table = _arrow("feather").read_table(path, memory_map=False)
            return table if kind == builtin.ARROW else _pandas_from_arrow(table)


class Csv:
    """Comma-separated text, UTF-8, a line of names first; numbers, truth values and text only."""

    separator = ","

    def save(self, value: object, path: Path) -> None:
        frame = _pandas_to_compare(value)
        _plain_columns(frame)
        text = frame.to_csv(index=False, sep=self.separator, lineterminator="\n")
        _refuse_changed(frame, self._read(io.BytesIO(text.encode())))
        path.write_bytes(text.encode())

    def load(self, path: Path, as_type: object) -> Any:
        kind = table_kind(as_type)
        if kind not in (builtin.POLARS, builtin.ARROW):
            return self._read(path)
        # one reader for all, so that all see the same values; with Arrow's types whole numbers may be missing
        table = _arrow().Table.from_pandas(self._read(path, dtype_backend="pyarrow"), preserve_index=False)
        table = table.replace_schema_metadata(None)
        return table if kind == builtin.ARROW else _polars().from_arrow(table)

    def _read(self, source: Any, **options: Any) -> object:
        import pandas

        # up to pandas 3.0 the default reader may miss the last bit of a float
        version = tuple(map(int, pandas.__version__.split(".")[:2]))
        exact: Any = {} if version >= (3, 1) else {"float_precision": "round_trip"}
        return pandas.read_csv(source, sep=self.separator, low_memory=False, **exact, **options)


class Tsv(Csv):
    """The same with tabs."""

    separator = "\t"


class Excel:
    """A sheet, or one sheet a name for a dict of tables; numbers, truth values, text and dates."""

    def save(self, value: object, path: Path) -> None:
        import pandas

        sheets = value if isinstance(value, Mapping) else {"Sheet1": value}
        frames = {_sheet(name): _pandas_to_compare(table) for name, table in sheets.items()}
        if not frames:
            raise FormatError("a workbook needs at least one sheet, but the dict is empty")
        for frame in frames.values():
            _plain_columns(frame, dates=True)
        buffer = io.BytesIO()
        try:
            with pandas.ExcelWriter(buffer, engine="openpyxl") as writer:
                for name, frame in frames.items():
                    frame.to_excel(writer, sheet_name=name, index=False)
        except ImportError as error:
            _missing("openpyxl", error)
        read = pandas.read_excel(io.BytesIO(buffer.getvalue()), sheet_name=None, engine="openpyxl")
        for name, frame in frames.items():
            _refuse_changed(frame, read[name])
        path.write_bytes(buffer.getvalue())

    def load(self, path: Path, as_type: object) -> Any:
        import pandas

        try:
            sheets = pandas.read_excel(path, sheet_name=None, engine="openpyxl")
        except ImportError as error:
            _missing("openpyxl", error)
        wants_one = table_kind(as_type) is not None
        if wants_one and len(sheets) > 1:
            raise FormatError(f"the workbook has {len(sheets)} sheets ({', '.join(sheets)}), one table was asked for")
        if wants_one or list(sheets) == ["Sheet1"]:
            return convert(next(iter(sheets.values())), as_type)
        return sheets


@contextlib.contextmanager
def _other_kinds_named() -> Iterator[None]:
    """Say which library reads what another one has no type for: each saves its own, and the reader names the kind."""
    try:
        yield
    except NotImplementedError as error:
        raise FormatError(
            f"it holds a type that this kind of table has not ({error}); read it as the kind that it was saved as: "
            "as_type=polars.DataFrame or pyarrow.Table, of a task the annotation of what its run() returns"
        ) from error


def convert(table: Any, as_type: object) -> object:
    """A table of any of the three libraries as the one that `as_type` asks for (pandas if none)."""
    wanted = table_kind(as_type) or builtin.PANDAS
    kind = _kind(table)
    if kind == wanted:
        return table
    if wanted == builtin.PANDAS:
        return table.to_pandas()
    if wanted == builtin.ARROW:
        return table.to_arrow() if kind == builtin.POLARS else _arrow_from_pandas(table)
    return _polars().from_pandas(table) if kind == builtin.PANDAS else _polars().from_arrow(table)


def is_table(value: object) -> bool:
    """Whether a value is a table of one of the three libraries; imports none of them."""
    return bool(set(kind_names(type(value))) & set(builtin.TABLES))


def concatenated(tables: list[Any], as_type: object) -> object:
    """One table of many with the same columns, in order."""
    kind = table_kind(as_type) or builtin.PANDAS
    if kind == builtin.POLARS:
        return _polars().concat(tables, how="vertical_relaxed")
    if kind == builtin.ARROW:
        return _arrow().concat_tables(tables, promote_options="default")
    import pandas

    return pandas.concat(tables, ignore_index=True)


def _kind(value: object) -> str:
    name = type(value).__name__
    own, *bases = kind_names(type(value))
    if own in builtin.TABLES:
        return own
    for base in bases:
        if base in builtin.TABLES:
            plain = base.partition(".")[2]
            raise FormatError(f"a {name} would come back as a plain {plain}; use .pickle, or make it one")
    raise FormatError(f"a value of type {name} is no table: make it a pandas or polars DataFrame or a pyarrow Table")


def _pandas_to_compare(value: Any) -> Any:
    """What text is written from: pandas, in which whole numbers stay whole though some are missing."""
    kind = _kind(value)
    if kind == builtin.PANDAS:
        return value
    import pandas

    return (value.to_arrow() if kind == builtin.POLARS else value).to_pandas(types_mapper=pandas.ArrowDtype)


def _differing_names(names: Any) -> None:
    if len(set(names)) != len(names):
        raise FormatError(f"column names must differ, but they are {list(names)}")


def _same_columns(frame: Any) -> None:
    _differing_names(frame.columns)
    for name in frame.columns:
        if type(name) is not str:
            raise FormatError(f"column names must be text, but {name!r} is of type {type(name).__name__}")


def _plain_columns(frame: Any, *, dates: bool = False) -> None:
    """Refuse what text cannot carry: other indexes than 0, 1, 2…, types beyond numbers, truth values, text."""
    import pandas

    _same_columns(frame)
    if frame.attrs or not frame.flags.allows_duplicate_labels:
        raise FormatError("its attrs or flags would be lost; use .pickle, or clear them (frame.attrs.clear())")
    index = frame.index
    if not (isinstance(index, pandas.RangeIndex) and index.start == 0 and index.step == 1):
        raise FormatError("its index would be lost; use .parquet, or reset_index() first")
    for axis, name in (("index", index.name), ("columns", frame.columns.name)):
        if name is not None:
            raise FormatError(
                f"the name {name!r} of its {axis} would be lost; use .parquet, or rename_axis({axis}=None) first"
            )
    for name in frame.columns:
        kinds = pandas.api.types.infer_dtype(frame[name], skipna=True)
        known = {"integer", "floating", "mixed-integer-float", "boolean", "string", "empty"}
        if dates:
            known |= {"datetime64", "datetime"}
        if kinds not in known or isinstance(frame[name].dtype, pandas.CategoricalDtype):
            raise FormatError(
                f"column {name!r} holds {kinds} ({frame[name].dtype}), which would come back as something else; "
                "use .parquet, or turn it into text first"
            )


def _refuse_changed(frame: Any, read: Any) -> None:
    """Compare with what would be read back; types of the same values may widen (int32 to int64)."""
    if list(read.columns) != list(frame.columns) or len(read) != len(frame):
        raise FormatError("its column names or rows would come back changed; use .parquet")
    for name in frame.columns:
        before, after = frame[name], read[name]
        absent = before.isna()
        if bool((absent != after.isna()).any()) or not _equal(before[~absent], after[~absent]):
            raise FormatError(
                f"column {name!r} would come back changed (text that looks like a number or like nothing, "
                "or an empty column); use .parquet"
            )


def _equal(before: Any, after: Any) -> bool:
    if len(before) == 0:
        return True
    left, right = before.to_list(), after.to_list()
    return list(map(_sort, left)) == list(map(_sort, right)) and left == right


def _sort(value: object) -> str:
    """Which sort of thing a cell holds: a truth value, a number, text, or its class; whole numbers with a gap widen."""
    return next((name for name, kinds in _SORTS if isinstance(value, kinds)), type(value).__name__)


_SORTS: tuple[tuple[str, Any], ...] = (("flag", bool), ("number", (int, float)), ("text", str))


def _arrow_from_pandas(frame: object) -> Any:
    _same_columns(frame)
    table = _with_notes(_arrow().Table.from_pandas(frame), frame)
    types = _arrow().types
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if types.is_nested(kind):
            raise FormatError(f"column {name!r} holds lists or dicts, which would come back as arrays; use .pickle")
    return table


def _refuse_numbers_as_categories(table: Any) -> None:
    """Parquet keeps categories of text only; others would come back as plain columns."""
    types = _arrow().types
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if types.is_dictionary(kind) and not (
            types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
        ):
            raise FormatError(f"column {name!r} has categories of {kind.value_type}, which would be lost; use .feather")


def _with_its_types(table: Any, metadata: Mapping[bytes, bytes]) -> object:
    """The table with the types that it was written with: Parquet has no seconds, and Arrow notes what it had."""
    noted = metadata.get(b"ARROW:schema")
    if noted is None:
        return table
    schema = _arrow("ipc").read_schema(_arrow().py_buffer(base64.b64decode(noted)))
    wanted = schema.with_metadata(table.schema.metadata)
    return table if table.schema.equals(wanted) else table.cast(wanted)


def _pandas_from_arrow(table: Any) -> object:
    """A frame whose columns of objects are such again: whole numbers with None among them would become floats."""
    import pandas

    frame = table.to_pandas()
    noted = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    for column in noted.get("columns", ()):
        name = column["name"]
        if column["numpy_type"] == "object" and name in frame and frame[name].dtype != object:
            frame[name] = pandas.Series(table.column(name).to_pylist(), index=frame.index, dtype=object)
    notes = json.loads((table.schema.metadata or {}).get(_NOTES, b"{}"))
    frame.attrs.update(notes.get("attrs", {}))
    for name in notes.get("nan", ()):
        frame[name] = frame[name].where(frame[name].notna(), math.nan)
    if "freq" in notes:
        frame.index.freq = notes["freq"]
    return frame


#: The key of what Arrow does not note of a frame: its attrs, the frequency of its index.
_NOTES = b"superluigi"


def _with_notes(table: Any, frame: Any) -> Any:
    notes: dict[str, object] = {}
    if frame.attrs:
        try:
            text = json.dumps(frame.attrs)
        except (TypeError, ValueError):
            text = "null"
        if not same(json.loads(text), dict(frame.attrs)):
            raise FormatError("its attrs hold more than JSON can; use .pickle, or clear them (frame.attrs.clear())")
        notes["attrs"] = frame.attrs
    without = [name for name in frame.columns if _lacks_with_nan(frame[name])]
    if without:
        notes["nan"] = without
    freq = getattr(frame.index, "freqstr", None)
    if freq is not None and type(frame.index).__name__ != "PeriodIndex":
        notes["freq"] = freq
    if not notes:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _NOTES: json.dumps(notes).encode()})


def _lacks_with_nan(column: Any) -> bool:
    """Whether what is missing in a column of objects is NaN, which Arrow would give back as None."""
    if str(column.dtype) != "object":
        return False
    gaps = column[column.isna()].to_list()
    return bool(gaps) and all(type(gap) is float for gap in gaps)


#: So many rows tell whether the types of columns come back; values of known types are copied bit by bit.
_PROBE_ROWS = 100


def _refuse_otherwise(format: Any, value: Any, path: Path) -> None:
    """Read back what was saved, and compare; where only types can change, do so with the first rows."""
    kind = _kind(value)
    if kind == builtin.PANDAS:
        if _is_sure(value):
            return
        levels = [value.index] if value.index.nlevels == 1 else value.index.levels
        rows = len(value) if any(map(_may_hold_anything, [*_columns(value), *levels])) else _PROBE_ROWS
        probe = value if rows >= len(value) else value.iloc[:rows]
    elif kind == builtin.POLARS:
        probe = value if value.height <= _PROBE_ROWS else value.head(_PROBE_ROWS)
    else:
        probe = value if value.num_rows <= _PROBE_ROWS else value.slice(0, _PROBE_ROWS)
    try:
        if probe is value:
            again = format.load(path, type(value))
        else:
            with tempfile.TemporaryDirectory(prefix="superluigi-probe-") as folder:
                format.save(probe, Path(folder) / path.name)
                again = format.load(Path(folder) / path.name, type(value))
    except Exception as error:  # libraries raise what they like
        raise FormatError(f"the table was written, but cannot be read again ({error}); {_REMEDY}") from error
    found = _table_difference(kind, probe, again)
    if found:
        raise FormatError(f"{found}; {_REMEDY}")


_REMEDY = "use .pickle, or turn it into plain columns first"


def _table_difference(kind: str, probe: Any, again: Any) -> str | None:
    if kind == builtin.PANDAS:
        return frame_difference(probe, again)
    if kind == builtin.POLARS:
        if probe.schema != again.schema:
            return f"its schema would come back as {dict(again.schema)}"
        return None if probe.equals(again) else "its values would come back changed"
    if not probe.schema.equals(again.schema):
        return f"its schema would come back as {again.schema}"
    return None if same(probe.to_pylist(), again.to_pylist()) else "its values would come back changed"


def _is_sure(frame: Any) -> bool:
    """Whether a frame comes back by construction: numbers, truth values, text and naive moments in plain columns."""
    import pandas

    columns = frame.columns
    if frame.attrs or not frame.flags.allows_duplicate_labels or type(columns) is not pandas.Index:
        return False
    if columns.name is not None or not len(columns) or not _is_plain(columns):
        return False
    index = frame.index
    if type(index) is not pandas.RangeIndex or index.name is not None:
        return False
    return all(map(_is_plain, _columns(frame)))


def _is_plain(column: Any) -> bool:
    import numpy
    import pandas

    dtype = column.dtype
    if isinstance(dtype, numpy.dtype) and dtype.kind != "O":
        return dtype.kind in "biuM" or (dtype.kind == "f" and dtype.itemsize in (4, 8))
    if isinstance(dtype, pandas.StringDtype):
        return str(dtype) == "str"  # what pandas makes of text since 3.0
    return isinstance(dtype, numpy.dtype) and not _may_hold_anything(column)


def _may_hold_anything(column: Any) -> bool:
    """Whether there is more than text (and nothing) in a column of objects; it is then compared item by item."""
    return column.dtype == object and not {str}.issuperset(map(type, column.dropna()))


def _columns(frame: Any) -> list[object]:
    return [frame.iloc[:, at] for at in range(frame.shape[1])]


def _sheet(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 31 or set(name) & set("[]:*?/\\'\0"):
        raise FormatError(f"{name!r} cannot be the name of a sheet: use up to 31 letters, none of []:*?/\\'")
    return name


def _arrow(part: str = "") -> Any:
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        _missing("pyarrow", error)


def _polars() -> Any:
    try:
        import polars
    except ImportError as error:
        _missing("polars", error)
    return polars


def _missing(package: str, error: ImportError) -> NoReturn:
    raise MissingDependencyError(
        f"This format needs {package}: pip install 'superluigi[formats]' (or pip install {package})."
    ) from error

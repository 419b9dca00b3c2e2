"""Folders as values: a dict of names to values, or one table kept in many files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from superluigi.errors import FormatError
from superluigi.formats import builtin, tables
from superluigi.formats.registry import COMPRESSIONS, known_suffixes
from superluigi.formats.suffix_inference import suffix_for, table_kind

#: Format names of a folder that holds a dict, and of one that holds a table.
FOLDER, TABLE = "folder", "table-folder"


class NamedValues(dict[str, Any]):
    """A dict of names to values; a name is a file's path in the folder without its suffix, or with it."""

    def __init__(self, values: Mapping[str, object], full_names: Mapping[str, str]) -> None:
        super().__init__(values)
        self._full_names = dict(full_names)

    def __missing__(self, name: str) -> object:
        if name in self._full_names:
            return self[self._full_names[name]]
        raise KeyError(f"{name!r}; the folder holds {', '.join(map(repr, self)) or 'nothing'}")

    def __reduce__(self) -> Any:
        return NamedValues, (dict(self), self._full_names)


def save(value: object, folder: Path, save_file: Callable[[Any, Path], str]) -> str:
    """A dict as one file a name, in the format of each value's type; a table as one parquet file.

    Names that are no file names, and values that no format keeps, are refused before anything is written
    into the folder under a final name.
    """
    if tables.is_table(value):
        save_file(value, folder / "part-00000.parquet")
        return TABLE
    if not isinstance(value, Mapping):
        raise FormatError(
            f"A value of type {type(value).__name__} cannot be saved to the folder {folder.name}: return a dict of "
            "names to values or a table, or write the files to output_path yourself."
        )
    files = {_file_name(name, item): item for name, item in value.items()}
    hidden = [name for name in files if _hidden(Path(name))]
    if hidden:
        raise FormatError(f"{hidden[0]!r} would not be read again: names of this kind are those of other tools' notes.")
    if len({name.casefold() for name in files}) < len(value):
        raise FormatError(f"Names in {folder.name} must differ, without regard to case: {', '.join(map(str, value))}.")
    keys = _keys(list(files))
    for name, file in zip(value, files, strict=True):
        if name not in (keys[file], file):
            raise FormatError(f"Names in {folder.name} must differ without their suffixes, too: {name!r}, {file!r}.")
    written: list[Path] = []
    try:
        for name, item in files.items():
            save_file(item, folder / name)
            written.append(folder / name)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return FOLDER


def load(folder: Path, as_type: object, load_file: Callable[[Path, Any], object], *, one_table: bool = False) -> object:
    """A table if `as_type` asks for one or the folder is partitioned (`year=2013/…`), else a dict by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    wanted = table_kind(as_type)
    if wanted or one_table or (as_type is None and files and all(_partitions(file, folder) for file in files)):
        return _one_table(folder, files, as_type, load_file)
    names = {file: file.relative_to(folder).as_posix() for file in files}
    keys = _keys(list(names.values()))
    return NamedValues({keys[name]: load_file(file, None) for file, name in names.items()}, keys)


def _keys(names: list[str]) -> dict[str, str]:
    """By file: the name of its value, without the suffix where that leaves them different."""
    short = {name: _without_suffix(name) for name in names}
    often = Counter(short.values())
    return {name: name if often[short[name]] > 1 else short[name] for name in names}


def _one_table(folder: Path, files: list[Path], as_type: object, load_file: Callable[[Path, Any], object]) -> object:
    if not files:
        raise FormatError(f"{folder} holds no files, so there is no table in it.")
    parts = []
    partitions = [_partitions(file, folder) for file in files]
    whole_numbers = _whole_numbers(partitions)
    for file, texts in zip(files, partitions, strict=True):
        part = load_file(file, as_type or builtin.PANDAS)
        if not tables.is_table(part):
            raise FormatError(f"{file} holds a {type(part).__name__}, but {folder} was asked for as one table.")
        columns = {name: _partition_value(text, name in whole_numbers) for name, text in texts.items()}
        parts.append(_with_columns(part, columns))
    return parts[0] if len(parts) == 1 else tables.concatenated(parts, as_type)


def _with_columns(part: Any, columns: Mapping[str, object]) -> object:
    """The table with the partition's columns, unless the file already has them."""
    have = set(part.column_names if hasattr(part, "column_names") else part.columns)
    for name, value in columns.items():
        if name in have:
            continue
        if hasattr(part, "append_column"):
            import pyarrow  # type: ignore[import-untyped]

            part = part.append_column(name, pyarrow.array([value] * part.num_rows))
        elif hasattr(part, "with_columns"):
            import polars

            part = part.with_columns(polars.lit(value, polars.Int64 if isinstance(value, int) else None).alias(name))
        else:
            part = part.assign(**{name: value})
    return part


def _partitions(file: Path, folder: Path) -> dict[str, str]:
    """`{"year": "2013"}` for `year=2013/part.parquet`; empty if some folder above the file is no partition."""
    columns: dict[str, str] = {}
    for part in file.relative_to(folder).parts[:-1]:
        name, equals, text = part.partition("=")
        if not equals or not name:
            return {}
        columns[unquote(name)] = unquote(text)
    return columns


_MISSING = "__HIVE_DEFAULT_PARTITION__"


def _whole_numbers(partitions: Iterable[Mapping[str, str]]) -> set[str]:
    """The columns that hold whole numbers in every file: `month=01` beside `month=10` is text in both."""
    texts: dict[str, set[str]] = {}
    for columns in partitions:
        for name, text in columns.items():
            texts.setdefault(name, set()).add(text)
    return {name for name, found in texts.items() if all(map(_is_whole, found - {_MISSING}))}


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdecimal() and str(int(text)) == text


def _partition_value(text: str, whole: bool) -> object:
    if text == _MISSING:
        return None
    return int(text) if whole else text


def _hidden(relative: Path) -> bool:
    return any(part.startswith((".", "_SUCCESS", "_metadata")) for part in relative.parts)


def _without_suffix(name: str) -> str:
    stem = name
    for compression in COMPRESSIONS:
        stem = stem.removesuffix(compression)
    for suffix in known_suffixes():
        if stem.lower().endswith(suffix):
            return stem[: -len(suffix)]
    return name


#: Half a surrogate pair is in no name, but for those that stand for bytes of a name that is no UTF-8.
_IN_NO_NAME = re.compile("[/\\\\\0=\ud800-\udc7f\udd00-\udfff]")


def _file_name(name: object, value: object) -> str:
    """The file for one item: the name itself if it has a suffix we know, else with the suffix of its type."""
    if not isinstance(name, str) or not name or name[0] == "." or _IN_NO_NAME.search(name):
        raise FormatError(f"{name!r} cannot be a file name in a folder: use text without slashes or leading dots.")
    if len(name.encode("utf-8", "surrogateescape")) > 240:
        raise FormatError(f"{name[:40]!r}... cannot be a file name in a folder: it is longer than 240 bytes.")
    return name if _without_suffix(name) != name else name + _suffix_of(value)


def _suffix_of(value: object) -> str:
    if isinstance(value, str):
        return ".txt"
    if isinstance(value, bytes):
        return ".bin"
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        return ".npy"
    return suffix_for(type(value))

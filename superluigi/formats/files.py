"""Save a value to a path and load it again: suffix, compression and folders are dealt with here."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from superluigi import config
from superluigi.arguments import guarded
from superluigi.errors import FormatError, MissingDependencyError, SuperLuigiError, repeated
from superluigi.formats import folders
from superluigi.formats.registry import COMPRESSIONS, FormatSpec, by_name, candidates, entries

#: In a record's `output.format`: the task's own `save_output` wrote the bytes, so its `load_output` must read them.
BY_TASK = "task"


@guarded
def save(value: object, path: Path | str, *, format: str | None = None, shown: object = None) -> str:
    """Write `value` to `path` as its suffix (or `format`) says; return the name of the format that did.

    If `path` is an existing folder, a dict becomes one file for each name and a table one file. The returned
    name (`csv`, `json+gz`, `folder`) given to `load` makes reading independent of the suffix. `shown` is what an
    error calls the place where `path` is only on the way to another.

    Raises:
        FormatError: unknown suffix, or a value that would not come back as it was. Nothing was written:
            what was at `path` before is still there.
    """
    path = Path(path)
    plain_form = getattr(type(value), "_superluigi_plain", None)
    if plain_form is not None:  # the list of a parameter, say, which has a hash
        value = plain_form(value)
    if path.is_dir():
        return folders.save(value, path, save)
    shown = shown or path
    entry, compression = _to_write(value, format, str(shown))
    with _new_file(path) as temporary:
        what = f"A value of type {_name(value)} cannot be saved as {shown}"
        if not compression:
            with _explained(what, entry, value):
                _save_checked(entry, value, temporary)
            return entry.name
        with _folder_beside(path) as folder:
            plain = folder / path.stem
            if plain.suffix.lower() not in entry.suffixes:  # libraries look at it
                plain = folder / f"{path.stem}{_suffix(entry)}"
            with _explained(what, entry, value):
                _save_checked(entry, value, plain)
            with plain.open("rb") as source, _writer(compression, temporary) as file:
                shutil.copyfileobj(source, file, 1 << 20)
    return f"{entry.name}+{compression[1:]}"


@guarded
def load(
    path: Path | str, *, as_type: object = None, allow_pickle: bool | None = None, format: str | None = None
) -> Any:
    """The value in the file or folder at `path`.

    `format` is what `save` returned; without it the suffix decides. `as_type` is the annotation under
    which the value is wanted: it picks pandas (the default), polars or Arrow for tables. Reading a pickle runs what the
    file says, so it means trusting the store; `allow_pickle=False` (or the setting `allow_pickle`) refuses.

    Raises:
        FormatError: unknown suffix or format, a pickle that is not allowed, a file that cannot be read.
    """
    path = Path(path)
    if format == BY_TASK:
        raise FormatError(
            f"{path} was written by a task's own save_output(value, path), so only that task can read it: "
            "use task.result(), define load_output(self, path) on the task, or ask for input_path."
        )
    allowed = bool(config.get("allow_pickle")) if allow_pickle is None else allow_pickle
    if path.is_dir() and format in (None, folders.FOLDER, folders.TABLE):

        def load_file(file: Path, kind: object) -> object:
            return load(file, as_type=kind, allow_pickle=allowed)

        return folders.load(path, as_type, load_file, one_table=format == folders.TABLE)
    entry, compression = _to_read(path, as_type, format)
    if entry.unpickles and format is not None and allow_pickle is not True and _split(path)[0] not in entry.suffixes:
        raise FormatError(
            f"{path} is not called like a pickle, but its record says that it is one ({format}). A record is not "
            f"trusted with that: call the file {' or '.join(f'…{one}' for one in entry.suffixes) or 'otherwise'}, or "
            "allow it where you load it (allow_pickle=True)."
        )
    if entry.unpickles and not allowed:
        raise FormatError(
            f"{path} is a pickle: reading it would run code from the store. Allow it (allow_pickle=True, or the "
            "setting allow_pickle) if you trust who writes there, or save to another format such as .json or .parquet."
        )
    with _decompressed(path, compression, entry) as plain, _explained(f"{path} cannot be read", entry):
        return entry.resolve().load(plain, as_type)


def _save_checked(entry: FormatSpec, value: object, path: Path) -> None:
    """Save, and look whether the value comes back, where the format cannot know it beforehand."""
    implementation = entry.resolve()
    implementation.save(value, path)
    check = getattr(implementation, "check", None)
    if check is not None and config.get("check_saved"):
        check(value, path)


def _to_write(value: object, format: str | None, shown: str) -> tuple[FormatSpec, str]:
    if format is not None:
        return _named(format)
    suffix, compression = _split(PurePath(shown))  # a stage is called so that a name without a suffix has one
    found = candidates(suffix, path=shown)
    fitting = [entry for entry in found if entry.types and entry.made_for(type(value))]
    open_ = [entry for entry in found if not entry.types]
    return (fitting or open_ or found)[0], compression


def _to_read(path: Path, as_type: object, format: str | None) -> tuple[FormatSpec, str]:
    if format is not None:
        return _named(format)
    suffix, compression = _split(path)
    found = candidates(suffix, path=str(path))
    fitting = [entry for entry in found if entry.types and entry.made_for(as_type)]
    return (fitting or found[-1:])[0], compression  # the first that came with this suffix is its plain meaning


def _named(format: str) -> tuple[FormatSpec, str]:
    name, _, compression = format.partition("+")
    if compression and f".{compression}" not in COMPRESSIONS:
        raise FormatError(f"Unknown compression in format {format!r}; known: {', '.join(COMPRESSIONS)}.")
    return by_name(name), f".{compression}" if compression else ""


def _split(path: PurePath) -> tuple[str, str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes else ""), compression


def _suffix(entry: FormatSpec) -> str:
    return entry.suffixes[0] if entry.suffixes else ""


def _name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """`path` itself if nothing is there, else one beside it that replaces it; nothing stays if the block fails."""
    # a stage is empty: no second name, whose inode would be made in vain, which costs milliseconds on ext4
    if os.path.lexists(path):
        with _folder_beside(path) as folder:
            yield folder / path.name
            (folder / path.name).replace(path)
        return
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A private folder, in which a file may have its final name: some formats write the name into the file."""
    folder = path.with_name(f".superluigi-save-{secrets.token_hex(4)}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _explained(what: str, entry: FormatSpec, *value: object) -> Iterator[None]:
    """Turn whatever a library raises into a `FormatError` that says what would work instead."""
    try:
        yield
    except (MissingDependencyError, MemoryError):
        raise
    except BaseException as error:  # libraries raise what they like; the cause is chained
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # which polars raises
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's or the file system's, and not a library's word for a file that is none of its own
        reason = str(error) or type(error).__name__
        if isinstance(error, SuperLuigiError) and reason.startswith(what):
            raise
        raise FormatError(f"{what}: {reason.rstrip('.')}. {_advice(entry, *value)}") from repeated(error)


def _advice(entry: FormatSpec, *value: object) -> str:
    advice = f"The format {entry.name!r} keeps {entry.keeps}."
    if value:
        others = [f"{_suffix(other)} ({other.keeps})" for other in entries() if other is not entry and other.suffixes]
        return f"{advice} Others: {'; '.join(others)}."
    return (
        f"{advice} It was taken for its suffix: for other bytes, give a path whose suffix names them (of a "
        "task: in output(), or suffix = '.txt' in its class), or names the format where it is loaded."
    )


@contextlib.contextmanager
def _decompressed(path: Path, compression: str, entry: FormatSpec) -> Iterator[Path]:
    if not compression:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="superluigi-load-") as folder:
        plain = Path(folder) / f"value{_suffix(entry)}"
        explained = _explained(f"{path} cannot be decompressed", entry)
        with explained, _reader(compression, path) as source, plain.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        yield plain


@contextlib.contextmanager
def _writer(compression: str, path: Path) -> Iterator[Any]:
    with path.open("wb") as raw:
        if compression == ".gz":
            import gzip

            # no name and no time in the header: the same value gives the same bytes
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as file:
                yield file
        else:
            with _zstandard().ZstdCompressor().stream_writer(raw, closefd=False) as file:
                yield file


@contextlib.contextmanager
def _reader(compression: str, path: Path) -> Iterator[BinaryIO]:
    if compression == ".gz":
        import gzip

        with gzip.open(path, "rb") as file:
            yield file  # type: ignore[misc]  # a BinaryIO in all but name
    else:
        decompressor = _zstandard().ZstdDecompressor()
        with path.open("rb") as raw, decompressor.stream_reader(raw, read_across_frames=True) as file:
            yield file


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError("`.zst` needs zstandard: pip install 'superluigi[formats]'.") from error
    return zstandard

"""The one template of all targets: everything is told to a `Location`; subclasses hold names and arguments."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn

import luigi
from luigi.format import Format, get_default_format
from luigi.target import AtomicLocalFile

from superluigi import formats
from superluigi.arguments import Takes, guarded
from superluigi.errors import OptionError
from superluigi.jsonable import jsonable
from superluigi.renamed import TARGET_MEMBERS
from superluigi.runs import context
from superluigi.storage.base import Location, Record, StagedWrite
from superluigi.targets import joining


def contents_limit(given: int | None) -> int:
    """The argument `metadata_contents_limit` as a number; None is no limit."""
    return sys.maxsize if given is None else given


#: Of Luigi's targets: how `open` reads and writes.
LuigiFormat = Annotated[
    Any,
    Takes(
        "a format of luigi.format, such as luigi.format.UTF8 or luigi.format.Nop",
        lambda given: given is None or (hasattr(given, "pipe_reader") and hasattr(given, "pipe_writer")),
    ),
]


@guarded
class AtomicTarget(luigi.Target):
    """An output that is there whole or not at all, with its lineage record beside it.

    `path` and `metadata_path` say where; everything else is the promise P1-P7 of docs/promises.md, kept by
    `location`.
    """

    #: Whether the output is a folder or prefix: `output_path` is then an existing empty folder.
    is_folder: ClassVar[bool] = False
    path: Any
    metadata_path: Any
    location: Location

    def exists(self) -> bool:
        """Whether the whole output is there; a refusal or fault of the store is an error, never False."""
        return (joining.any_at_work and joining.has_written(self.location) is not None) or self.location.exists()

    @contextlib.contextmanager
    def tmp_read_path(self, force_local_download: bool = False, *, shared: bool = False) -> Iterator[Path]:
        """A temporary local path with the content, yours to change or delete; gone after the block.

        With `shared` it may be the stored file itself, read-only by agreement: for large inputs. With
        `force_local_download` remote data is fetched again although a valid local copy exists.

        Raises:
            TargetMissingError: the target does not exist.
        """
        refresh = force_local_download or context.current().force_local_download
        with self.location.local_copy(shared=shared, refresh=refresh) as path:
            yield path

    @contextlib.contextmanager
    def tmp_write_path(self) -> Iterator[Path]:
        """A temporary local path to write; committed whole when the block ends, dropped if it raises.

        For a folder or prefix it is an existing empty folder. Replaced data takes its record with it.

        Raises:
            OutputNotWrittenError: the block ended without writing to the path.
        """
        with self.stage() as staged:
            yield staged.path
            staged.commit(None)

    def load(self, as_type: object = None, *, allow_pickle: bool | None = None) -> Any:
        """The value that is stored here, in the format that wrote it, else by suffix.

        Tables come as `as_type` says (pandas by default); a folder or prefix as a dict of names to values, or as
        one table. `allow_pickle=False` refuses pickles, which can run code: reading one means trusting the store.

        Raises:
            TargetMissingError: the target does not exist.
            FormatError: unknown suffix, or content that cannot be read.
        """
        record = self.read_metadata()
        format = ((record or {}).get("output") or {}).get("format")
        with self.tmp_read_path(shared=True) as path:
            return formats.load(path, as_type=as_type, allow_pickle=allow_pickle, format=format)

    def dump(self, value: object) -> None:
        """Store `value` in the format that the suffix names; committed whole, without a task's record.

        Raises:
            FormatError: unknown suffix, or a value that would not come back equal; the old output stands.
        """
        with self.stage() as staged:
            staged.notes = {"format": formats.save(value, staged.path, shown=self.path)}
            staged.commit(None)

    def read_metadata(self) -> Record | None:
        """The lineage record of exactly the bytes that are there, or None for data that we did not make."""
        return self.location.read_record()

    def write_metadata(self, metadata: Mapping[str, object]) -> None:
        """Replace the record of the data that is there; `schema` and `output` are filled in.

        Raises:
            TargetMissingError: there is no data to describe.
            RecordValueError: a value that JSON cannot hold; names the key.
        """
        self.location.write_record(jsonable(metadata))

    def stage(self) -> StagedWrite:
        """Begin to replace the output; where a task's attempt does that already, what is written becomes part of it."""
        attempts = joining.stage_of(self.location)
        return self.location.stage() if attempts is None else joining.Joining(attempts)

    def remove(self) -> None:
        """Remove the output and its record; nothing happens when there is none."""
        self.location.remove()

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class _Gone:
    """A member that targets had once: whoever asks for it hears what to write.

    No `__getattr__`, which makes every look at any member of a target slower.
    """

    def __init__(self, name: str, advice: str) -> None:
        self._name, self._advice = name, advice

    def __get__(self, target: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r} any more. {self._advice}")


for _name, _advice in TARGET_MEMBERS.items():
    setattr(AtomicTarget, _name, _Gone(_name, _advice))


@guarded
class StreamTarget(AtomicTarget):
    """What one file or object adds: Luigi's `open`, `format` and `temporary_path`, atomic."""

    format: Format

    def _set_format(self, format: Format | None) -> None:
        self.format = get_default_format() if format is None else format

    def open(self, mode: str = "r") -> Any:
        """A stream through `format`. Writing commits at `close()`, or at the end of a `with` block without error."""
        kind = mode.replace("b", "").replace("t", "")
        if kind == "w":
            return self.format.pipe_writer(_CommittedFile(self.stage()))
        if kind == "r":
            return self.format.pipe_reader(_CopiedFile(self))
        raise OptionError(f"open({mode!r}) is not possible for {self.path}: use 'r' or 'w'.")

    @contextlib.contextmanager
    def temporary_path(self) -> Iterator[str]:
        """Luigi's name for `tmp_write_path`; gives text, and may replace an existing output."""
        with self.tmp_write_path() as path:
            yield str(path)


class _CommittedFile(AtomicLocalFile):
    """A stream into a stage: committed when closed, dropped when its `with` block raises or it is never closed."""

    def __init__(self, staged: StagedWrite) -> None:
        self._staged: StagedWrite | None = staged
        super().__init__(str(staged.path))

    def generate_tmp_path(self, path: str) -> str:
        return path

    def move_to_final_destination(self) -> None:
        if self._staged is not None:
            staged, self._staged = self._staged, None
            with staged:
                staged.commit(None)

    def abort(self) -> None:
        """Drop what was written."""
        staged, self._staged = self._staged, None
        self.close()
        if staged is not None:
            staged.discard()

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if getattr(self, "_staged", None) is not None:
            self.abort()


class _CopiedFile(io.BufferedReader):
    """A stream over a temporary copy, which goes when the stream is closed."""

    def __init__(self, target: AtomicTarget) -> None:
        self._stack = contextlib.ExitStack()
        written = joining.has_written(target.location)
        path = self._stack.enter_context(target.tmp_read_path(shared=True)) if written is None else written
        try:
            super().__init__(io.FileIO(path, "r"))
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        super().close()
        self._stack.close()

"""The contract of a place that can hold one output: read it, or replace it whole.

`Location` is one output place (a file, a folder, an S3 object, an S3 prefix) together with the place
of its record. `StagedWrite` is one attempt to replace what is there. Nothing here knows tasks or targets;
a record is an opaque JSON dict of which storage reads and writes only `record["output"]` and
`record["run"]["id"]`.
"""

from __future__ import annotations

import abc
import functools
import json
import os
import re
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from superluigi.errors import CommitConflictError, OutputNotWrittenError, TargetKindError, message_of
from superluigi.jsonable import Shared, encoding
from superluigi.storage import owner_token

Record = dict[str, Any]
SCHEMA = "superluigi.lineage/1"
RECORD_SUFFIX = ".metadata.json"
#: Follows the name of a record whose commit is under way.
PENDING_SUFFIX = ".pending"
#: How records are encoded: bytes of a file name that are no UTF-8 become what JSON writes for them, `\\udcff`.
SURROGATES = "backslashreplace"


#: A JSON value as records have it.
encoded = encoding(json.JSONEncoder(ensure_ascii=False, allow_nan=False))
_encoded_key = functools.lru_cache(maxsize=1024)(encoded)  # nearly always the same


def record_text(record: Mapping[str, object]) -> str:
    """A record as it is stored: JSON with a line for each top-level key, so that it can be read and compared by eye."""
    lines = [f"{_encoded_key(key)}: {_text(value)}" for key, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _text(value: object) -> str:
    if type(value) is not Shared:
        return encoded(value)
    if value.text is None:
        value.text = encoded(value)
    return value.text


_ABOUT_LINES = re.compile(rb'\n("(?:task_id|task_hash|run|output)": .*)')
_decode = json.JSONDecoder().raw_decode


def record_about(text: bytes) -> object:
    """`output`, `task_id`, `task_hash` and `run` of a record, without parsing the rest where `record_text` wrote it.

    Raises:
        ValueError: the text is no JSON.
    """
    if text.startswith(b'{\n"') and text.endswith(b"\n}\n"):
        lines = _ABOUT_LINES.findall(text)
        try:
            chosen = (b"{" + b"".join(lines).rstrip(b",") + b"}").decode()
            about, end = _decode(chosen)
        except (ValueError, RecursionError):  # another program has put it into another shape
            return json.loads(text)
        if end == len(chosen) and len(about) == len(lines) and "output" in about:
            return about
    return json.loads(text)


def parsed(text: bytes, parse: Callable[[bytes], object] = json.loads) -> Any:
    """What JSON that others may have written says.

    Raises:
        ValueError: it is none, or nested so deeply that it cannot be read.
    """
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def record_in(text: bytes, parse: Callable[[bytes], object] = json.loads) -> Any:
    """As `parsed`, for a record: parts that have another shape than ours are left out, so they describe nothing.

    Raises:
        ValueError: it is no JSON.
    """
    return well_formed(parsed(text, parse))


def well_formed(record: object) -> Any:
    """A record without those parts that this package reads and that have another shape than it writes."""
    if isinstance(record, dict):
        if not isinstance(record.get("run", {}), dict):
            del record["run"]
        if "output" in record and not (isinstance(record["output"], dict) and _is_output(record["output"])):
            del record["output"]
    return record


_SHAPES: Mapping[str, type] = {
    "type": str, "path": str, "key": str, "size": int, "count": int, "digest": dict, "etag": str, "commit": str,
    "contents": list,
}  # fmt: skip


def _is_output(output: Mapping[str, object]) -> bool:
    contents = output.get("contents")
    items = contents if isinstance(contents, list) else []
    return _fits(output) and all(isinstance(item, dict) and _fits(item) for item in items)


def _fits(part: Mapping[str, object]) -> bool:
    for key, value in part.items():
        kind = _SHAPES.get(key)
        if kind is not None and value is not None and not isinstance(value, kind):
            return False
        if kind is str and isinstance(value, str) and not _can_be_a_name(value):
            return False
    return True


def _can_be_a_name(text: str) -> bool:
    """Whether the system, or a server, can be asked about what is called so."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def check_name(uri: str) -> None:
    """Refuse an output that has the name of another one's record: a commit there would replace it.

    Raises:
        TargetKindError: with the name that is free.
    """
    name = uri.rstrip("/").removesuffix(PENDING_SUFFIX)
    if name.endswith(RECORD_SUFFIX):
        plain = name.removesuffix(RECORD_SUFFIX)
        raise TargetKindError(
            f"An output cannot be {uri}: that is where the record of {plain or uri} goes. Choose another name, such as "
            f"{plain}.json."
        )


def maker_in(record: Mapping[str, Any] | None) -> str | None:
    """The id of the run that made what a record describes; None if none is known, as of what was adopted."""
    run = (record or {}).get("run")
    made = run.get("id") if isinstance(run, Mapping) and not run.get("adopted") else None
    return made if isinstance(made, str) else None


def refuse_unexpected(
    uri: str, known: Mapping[str, object] | None, output: Mapping[str, object], expected: Mapping[str, Any] | None
) -> None:
    """Leave alone what is not `expected` any more: `known` is its record, `output` what is there.

    Raises:
        CommitConflictError: says so.
    """
    if expected is None:
        return
    if expected.keys() == {"output"}:
        seen = expected["output"]
        facts = [key for key in ("size", "digest", "etag", "version", "count") if key in seen and key in output]
        same = known is None and bool(facts) and all(seen[key] == output[key] for key in facts)
    else:
        same = known is not None and _but_output(known) == _but_output(expected)
    if not same:
        raise CommitConflictError(f"{uri} or its record has changed since it was looked at; nothing was written.")


def _but_output(record: Mapping[str, Any]) -> dict[str, object]:
    commit = (record.get("output") or {}).get("commit")
    return {**{key: value for key, value in record.items() if key not in ("output", "schema")}, "commit": commit}


class StagedWrite(abc.ABC):
    """New content for one location, being written; it cannot be seen before `commit`.

    Life: write to `path`; `prepare()`; then `commit(...)` once, or `discard()` at any time.
    `discard` after `commit` does nothing, so that it can stand in a `finally`.
    """

    #: Where the writer puts the new content: a path that does not exist yet (file, object),
    #: or an existing empty folder (folder, prefix). Its name ends like the final one, suffix included.
    path: Path
    #: Further keys for the record's `output`, set by the writer: the format of the bytes.
    notes: Record = {}
    #: Unique id of this commit; stored with the data where the store can, and in `output["commit"]`.
    commit_id: str

    @abc.abstractmethod
    def prepare(self) -> Record:
        """Check, flush and digest what was written; return the `output` part of a record.

        Keys: `type`, `path`, `size`, `digest`, `commit`, and what the kind adds (`contents`, `count`…).

        Raises:
            OutputNotWrittenError: nothing was written, or an empty folder.
            TargetKindError: a folder was written where a file is expected, or the reverse.
        """

    @abc.abstractmethod
    def commit(self, record: Record | None) -> Record | None:
        """Publish data and record, all or nothing (P1, P2, P4); calls `prepare` if that was not done.

        `record["output"]` is replaced by what `prepare` returned plus what only the store knows
        (`etag`, `version`). Without a record, the kind's minimal one is written where it needs one,
        and the record of the replaced data is removed. Returns the record as published.

        Raises:
            CommitConflictError: another writer won; its output and record stand.
        """

    def replaces(self, record: Record) -> bool:
        """Whether `record` is that of what was in force when this began; False where the kind does not remember it."""
        del record
        return False

    @abc.abstractmethod
    def discard(self) -> None:
        """Remove everything staged; the old output stays as it is. Never raises for what is gone."""

    def __enter__(self) -> StagedWrite:
        return self

    def __exit__(self, kind: object = None, error: BaseException | None = None, traceback: object = None) -> None:
        why = None
        if isinstance(error, Exception) and not isinstance(error, OutputNotWrittenError):
            told = f"{message_of(error)} {getattr(error, 'filename', '')}"  # some libraries tell it in words only
            why = lost_stage(self.path, self.path.name) if str(self.path.parent) in told else None
        self.discard()
        if why is not None:
            raise OutputNotWrittenError(why) from error


def lost_stage(path: Path, uri: str) -> str | None:
    """Why nothing can be written to a stage's `path` any more, and what to do; None while its folder is there."""
    if os.path.isdir(folder := os.path.dirname(path)):
        return None
    return (
        f"The folder in which {uri} was being written, {folder}, is gone: a folder above it was moved or removed, "
        "or is a link that leads elsewhere by now. Leave them in their place until it is made, and run again."
    )


@dataclass(frozen=True)
class Holder:
    """Who makes an output just now, as far as that is known."""

    #: Names the process; empty where that cannot be known.
    token: str = ""
    #: Seconds since the epoch; 0 where that cannot be known.
    since: float = 0.0
    #: To ask again costs a request.
    far: bool = False

    def __str__(self) -> str:
        where = f" on {owner_token.host_of(self.token)}" if self.token else " elsewhere"
        when = f" since {datetime.fromtimestamp(self.since, timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        pid = owner_token.pid_of(self.token)
        return f"running{where}{when}{f' (process {pid})' if pid else ''}"


class Lease(abc.ABC):
    """The right to make one output, for one attempt."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let others make it; nothing happens when that was done."""

    @abc.abstractmethod
    def confirm(self) -> None:
        """Asked just before the commit: whether the lease is still ours.

        Raises:
            CommitConflictError: another process has taken it.
        """


class Ground(NamedTuple):
    """What an output takes up for itself, so that no two tasks have it: a file, a folder, a key, all below a prefix."""

    #: Which store: None for the files of this machine, else anything that is equal exactly for the same store.
    store: Hashable
    #: An absolute path, or a key; that of a prefix ends with its slash.
    path: str
    #: Whether all below it is replaced and removed with it.
    whole: bool = False


class Location(abc.ABC):
    """One place for one output and its record."""

    #: What messages and records call it: an absolute local path or an `s3://` address.
    uri: str
    #: The same for its record.
    record_uri: str
    #: The data is made by others (`ExternalTask`): it needs no record to be whole.
    external: bool = False

    #: Whether a commit is refused when another one came here after it had begun; elsewhere the last one stays.
    refuses_latecomers: ClassVar[bool] = False

    #: Whether a lease costs no request.
    leases_are_near: ClassVar[bool] = False

    def lease(self, *, make: bool = True) -> Lease | Holder | None:
        """A lease beside the record, or who has it; None where there can be none.

        A folder that is missing is made for it, if `make` says so.
        """
        del make
        return None

    def holder(self) -> Holder | None:
        """Who has the lease, if it is taken."""
        return None

    @abc.abstractmethod
    def exists(self) -> bool:
        """Whether a whole output is there. Absence is False; a refusal or a fault is raised."""

    def has_data(self) -> bool:
        """Whether there is data that a record could describe, whole or not."""
        return self.exists()

    @abc.abstractmethod
    def describe(self) -> Record | None:
        """The cheap identity of what is there now, as an `input` reference wants it; None if absent.

        Keys: `type`, `path`, `size`, and `digest` or `etag` (`version`); no deep read for data
        with a record, a full digest for local data without one.
        """

    @abc.abstractmethod
    def read_record(self) -> Record | None:
        """The record of exactly the data that is there, or None; repairs a half-done commit (P2)."""

    def read_record_summary(self) -> Record | None:
        """As `read_record`, but only `output`, `task_id`, `task_hash` and `run` need be in it."""
        return self.read_record()

    def run_id_of_data(self) -> str | None:
        """The id of the run that made what is there, or None; as cheap as the store allows."""
        return maker_in(self.read_record_summary())

    def being_written(self) -> bool:
        """Whether another writer is committing here just now, as far as the store tells."""
        return False

    @abc.abstractmethod
    def write_record(self, record: Mapping[str, object], expected: Mapping[str, Any] | None = None) -> None:
        """Replace the record of the data that is there; `schema` and `output` are filled in.

        With `expected`, only if that is its record now; or, if that says no more than `output`, if it has none and is
        what that describes.

        Raises:
            TargetMissingError: there is no data to describe.
            CommitConflictError: there is something else than what is `expected`.
        """

    def forget_looks(self) -> None:  # noqa: B027  (most kinds remember nothing)
        """What earlier looks found is nothing to the next `stage`, which looks for itself."""

    @abc.abstractmethod
    def stage(self) -> StagedWrite:
        """Begin to replace what is there now; first removes orphans, which dead processes of this host left here."""

    @abc.abstractmethod
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> AbstractContextManager[Path]:
        """A local path holding the content, under its own name, for the time of the `with` block.

        It is the reader's to change or delete (P7); with `shared` it may be the real file, read-only
        by agreement. `refresh` fetches remote data again although a valid local copy exists.

        Raises:
            TargetMissingError: there is nothing to read.
        """

    @abc.abstractmethod
    def remove(self) -> None:
        """Remove data and record; nothing happens when there is none.

        Raises:
            OutputClashError: another task's record is inside; nothing was removed.
        """

    def grounds(self) -> list[Ground]:
        """What the output takes up, data first; a record beside its data need not be named."""
        return [Ground("", self.uri), Ground("", self.record_uri)]

"""What a task reads: temporary paths of its inputs, and how its record refers to them."""

from __future__ import annotations

import codecs
import contextlib
import copy as copying
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi
from luigi.format import Format, Nop

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.lineage.records import builder as records
from superluigi.storage.base import Record
from superluigi.storage.local.scratch import scratch
from superluigi.storage.local_names import safe_component
from superluigi.targets.base import AtomicTarget
from superluigi.targets.local import LocalFileTarget, LocalFolderTarget

_BLOCK = 1 << 20


@contextlib.contextmanager
def open_input(target: luigi.Target, shared: bool) -> Iterator[Path]:
    """A local path holding what `target` holds, ours or Luigi's; a copy unless `shared`.

    Raises:
        DefinitionError: a kind of target that has no content to read as a file.
    """
    ours = to_target(target)
    if ours is not None:
        with ours.tmp_read_path(shared=shared) as path:
            yield path
        return
    name = os.path.basename(str(getattr(target, "path", "")).rstrip("/"))
    with scratch() as folder:
        copy = folder / safe_component(name or "input")
        _fetch(target, copy)
        yield copy


# ---------------------------------------------------------------- targets of others


def _fetch(target: object, copy: Path) -> None:
    """Bring the stored bytes of a target that is not ours to `copy`: no format decodes them, memory is bounded.

    Its file system brings them, where it has a `get(path, local path)`, as Luigi's for S3, FTP, SSH and HDFS have.
    Else they are read from `open("r")`: without the target's format, and below what makes text of them.
    """
    if _got(target, copy):
        return
    stream = _opened(target)
    with contextlib.closing(stream) if hasattr(stream, "close") else contextlib.nullcontext(), open(copy, "wb") as file:
        for block in _blocks(_raw(stream)):
            file.write(block.encode(getattr(stream, "encoding", None) or "utf-8") if isinstance(block, str) else block)


def _got(target: Any, copy: Path) -> bool:
    try:
        get, path = target.fs.get, target.path
        inspect.signature(get).bind(path, str(copy))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    get(path, str(copy))
    return copy.exists()  # else it is another kind of `get`, as a dict has


def _opened(target: object) -> Any:
    with contextlib.suppress(NotImplementedError):  # as Luigi's targets of tables say
        if hasattr(target, "open"):
            return _without_format(target).open("r")
    raise DefinitionError(
        f"The input {target!r} ({type(target).__name__}) has no file that input_path could name. "
        "Leave input_path out of run() and use self.input(): targets of files have tmp_read_path() or open()."
    )


def _without_format(target: Any) -> Any:
    if not isinstance(getattr(target, "format", None), Format):
        return target
    plain = copying.copy(target)
    plain.format = Nop
    return plain


def _raw(stream: object) -> object:
    """What a stream of text decodes, where it says so: it may translate line ends, and its encoding is its own."""
    if isinstance(stream, codecs.StreamReaderWriter):
        return stream.stream
    return getattr(stream, "buffer", stream)


def _blocks(stream: Any) -> Iterator[str | bytes]:
    """All of a stream, a piece at a time."""
    if not hasattr(stream, "read"):
        yield from stream
        return
    try:
        block = stream.read(_BLOCK)
    except TypeError:  # some read all or nothing
        yield stream.read()
        return
    while block:
        yield block
        block = stream.read(_BLOCK)


def reference(target: luigi.Target) -> Record:
    """How a record refers to `target`: where, which bytes, and the link to its own record."""
    ours = to_target(target)
    if ours is None:
        return {"type": type(target).__name__, "path": graph.path_text(target)}
    location = ours.location
    made = location.read_record_summary()
    if made is not None:
        return records.reference(made["output"], made, location.record_uri)
    described = location.describe() or {"type": type(target).__name__, "path": location.uri}
    return records.reference({**described, "type": type(target).__name__}, None, None)


def dynamic_references(required: Any) -> object:
    """References to the outputs of tasks that were yielded, in their shape, whatever the answer to `run` is.

    Forcing finds its way by them, so that each names its task, also one that keeps no records.
    """
    if required is None:
        return None
    if isinstance(required, luigi.Task):
        made = {"task_id": required.task_id, "task_family": required.get_task_family()}
        return graph.map_structure(lambda target: _named(reference(target), made), required.output())
    if isinstance(required, Mapping):
        return {key: dynamic_references(one) for key, one in required.items()}
    return [dynamic_references(one) for one in required]


def _named(found: Record, made: Record) -> Record:
    return found if found.get("task_id") else {**found, **made}


def to_target(target: luigi.Target) -> AtomicTarget | None:
    """`target` itself if it is ours, ours for the same place if it is Luigi's local one, else None."""
    if isinstance(target, AtomicTarget):
        return target
    if isinstance(target, luigi.LocalTarget):
        kind = LocalFolderTarget if os.path.isdir(target.path) else LocalFileTarget
        local = kind(target.path)
        local.location.external = True
        return local
    return None

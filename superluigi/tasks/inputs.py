"""What a task reads: temporary paths of its inputs, and how its record refers to them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.lineage import record as records
from superluigi.storage.base import Record
from superluigi.targets.base import AtomicTarget
from superluigi.targets.local import LocalFileTarget, LocalFolderTarget


@contextlib.contextmanager
def opened(target: luigi.Target, shared: bool) -> Iterator[Path]:
    """A local path holding what `target` holds, ours or Luigi's; a copy unless `shared`.

    Raises:
        DefinitionError: a kind of target that has no content to read as a file.
    """
    ours = as_atomic(target)
    if ours is not None:
        with ours.tmp_read_path(shared=shared) as path:
            yield path
        return
    if not hasattr(target, "open"):
        raise DefinitionError(
            f"The input {target!r} ({type(target).__name__}) has no file that input_path could name. "
            "Leave input_path out of run() and use self.input()."
        )
    with tempfile.TemporaryDirectory(prefix="superluigi-") as folder:
        copy = Path(folder) / (os.path.basename(str(getattr(target, "path", "")).rstrip("/")) or "input")
        with target.open("r") as stream:
            content = stream.read()
        copy.write_bytes(content if isinstance(content, bytes) else content.encode())
        yield copy


def reference(target: luigi.Target) -> Record:
    """How a record refers to `target`: where, which bytes, and the link to its own record."""
    ours = as_atomic(target)
    if ours is None:
        return {"type": type(target).__name__, "path": str(getattr(target, "path", target))}
    location = ours.location
    made = location.read_about()
    if made is not None:
        return records.reference(made["output"], made, location.record_uri)
    described = location.describe() or {"type": type(target).__name__, "path": location.uri}
    return records.reference({**described, "type": type(target).__name__}, None, None)


def discovered(required: Any, targets: Any) -> Any:
    """References to `targets`, the outputs of tasks that were yielded, in their shape.

    Forcing finds its way by them, so that each names its task, also one that keeps no records.
    """
    if required is None:
        return None
    if isinstance(required, luigi.Task):
        made = {"task_id": required.task_id, "task_family": required.get_task_family()}
        return graph.map_structure(lambda target: _named(reference(target), made), targets)
    if isinstance(required, Mapping):
        return {key: discovered(one, targets[key]) for key, one in required.items()}
    return [discovered(one, target) for one, target in zip(required, targets, strict=True)]


def _named(found: Record, made: Record) -> Record:
    return found if found.get("task_id") else {**found, **made}


def as_atomic(target: luigi.Target) -> AtomicTarget | None:
    """`target` itself if it is ours, ours for the same place if it is Luigi's local one, else None."""
    if isinstance(target, AtomicTarget):
        return target
    if isinstance(target, luigi.LocalTarget):
        kind = LocalFolderTarget if os.path.isdir(target.path) else LocalFileTarget
        local = kind(target.path)
        local.location.external = True
        return local
    return None

"""Fake inputs: a task whose requirements are stand-ins with given values or files."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from superluigi import formats, graph
from superluigi.errors import DefinitionError, FormatError
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks.base import ExternalTask


class GivenFile(ExternalTask):
    """Stands for a required task; its output is a local file or folder."""

    name = Parameter()

    def output(self) -> Any:
        return self.__dict__["_superluigi_given_target"]


class GivenValue(GivenFile):
    """The same, for a value: that is what `inputs` hands to `run`."""

    def _superluigi_value(self, reader: object, as_type: object = None) -> object:
        """The value as it was given."""
        del reader, as_type
        return copy.deepcopy(self.__dict__["_superluigi_given_value"])


def given(task: luigi.Task, inputs: object, folder: Path) -> luigi.Task:
    """A copy of `task`, of the same identity, that requires stand-ins for `inputs`; files go to `folder`.

    Raises:
        DefinitionError: `inputs` has another shape than `requires()`.
    """
    required = task.requires()
    identity = getattr(task, "task_hash", None)
    stand_ins = _paired(required, inputs, folder, f"inputs of {task.task_family}")
    other = copy.copy(task)
    if identity is not None:
        other.__dict__["task_hash"] = identity
    other.__dict__["requires"] = lambda: stand_ins
    return other


def _paired(required: Any, value: object, folder: Path, where: str) -> object:
    if required is None or (isinstance(required, (list, tuple)) and not required and value is None):
        return required
    if isinstance(required, luigi.Task):
        return _stand_in(required, value, folder)
    if isinstance(required, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(required):
            raise DefinitionError(f"{where} must be a dict with the keys {', '.join(map(repr, required))}: {value!r}")
        return {key: _paired(item, value[key], folder, f"{where}[{key!r}]") for key, item in required.items()}
    items = list(required)
    if not isinstance(value, (list, tuple)) or len(value) != len(items):
        raise DefinitionError(f"{where} must be a list of {len(items)}: {value!r}")
    return [_paired(item, value[at], folder, f"{where}[{at}]") for at, item in enumerate(items)]


def _stand_in(required: luigi.Task, value: object, folder: Path) -> luigi.Task:
    if isinstance(value, Path):
        stand_in: Any = GivenFile(name=f"{required.task_id}-{secrets.token_hex(4)}")  # type: ignore[call-arg]
        stand_in.__dict__["_superluigi_given_target"] = _target_of(value)
        return stand_in  # type: ignore[no-any-return]
    stand_in = GivenValue(name=f"{required.task_id}-{secrets.token_hex(4)}")  # type: ignore[call-arg]
    stand_in.__dict__["_superluigi_given_value"] = value
    outputs = required.output()
    if isinstance(outputs, luigi.Target):
        stand_in.__dict__["_superluigi_given_target"] = _saved(outputs, value, folder)
        return stand_in  # type: ignore[no-any-return]
    flat, values = graph.flatten(outputs), graph.flatten(value)
    if len(flat) != len(values):
        raise DefinitionError(f"{required} has {len(flat)} outputs, but {len(values)} values are given: {value!r}")
    saved = iter([_saved(target, item, folder) for target, item in zip(flat, values, strict=True)])
    stand_in.__dict__["_superluigi_given_target"] = graph.map_structure(lambda _: next(saved), outputs)
    return stand_in  # type: ignore[no-any-return]


def _saved(target: object, value: object, folder: Path) -> luigi.Target:
    """A local target of the real one's name that holds `value`."""
    if isinstance(value, Path):
        return _target_of(value)
    place = folder / secrets.token_hex(4)
    place.mkdir()
    path = place / (str(getattr(target, "path", "")).rstrip("/").rpartition("/")[2] or "input")
    if getattr(target, "is_folder", False):
        path.mkdir()
    try:
        formats.save(value, path, shown=getattr(target, "path", path))
    except FormatError:  # the content of the file, as it is
        if not isinstance(value, (str, bytes)):
            raise
        path.write_bytes(value.encode() if isinstance(value, str) else value)
    return _target_of(path)


def _target_of(path: Path) -> luigi.Target:
    if not path.exists():
        raise DefinitionError(f"The given input {path} does not exist.")
    kind = LocalFolderTarget if path.is_dir() else LocalFileTarget
    target = kind(path.absolute())
    target.location.external = True
    return target

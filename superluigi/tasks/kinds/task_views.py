"""Tasks that stand for a part of another, or for its path: accepted wherever a task is, they make nothing.

A stand-in is complete when what it stands for is; its output is the place of the part where the part has one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi

from superluigi import graph
from superluigi.arguments import guarded
from superluigi.errors import DefinitionError, TargetMissingError
from superluigi.parameters.checked import any_value, task_reference
from superluigi.parameters.luigi_task import AnyTask
from superluigi.storage.base import Ground, Location, Record, StagedWrite
from superluigi.targets.base import AtomicTarget
from superluigi.tasks.base import Task
from superluigi.tasks.task_api import Conveniences
from superluigi.tasks.values import Reader


class ProxyTask(Task):
    """Base of tasks that only point at another one, `of`."""

    task_namespace = "superluigi"
    #: Accepted where a task of a certain class is required.
    _superluigi_stand_in = True
    of: Any = task_reference(luigi.Task)

    def requires(self) -> Any:
        return self.of

    def complete(self) -> bool:
        return bool(self.of.complete())

    def run(self) -> None:
        """Nothing: what it stands for has just been made."""

    def clear(self) -> list[Any]:
        """A stand-in owns nothing, so that nothing is removed."""
        return []


class Part(ProxyTask):
    """`task[key]`: one output of several, one file of a folder or prefix, or one item of the value."""

    key: Any = any_value()

    def output(self) -> Any:
        """The place of the part; for an item of a value, the place of the whole."""
        outputs = self.of.output()
        if not isinstance(outputs, luigi.Target):
            return self._chosen(outputs)
        if getattr(outputs, "is_folder", False) and isinstance(self.key, str):
            return PartTarget(outputs, self.key)
        return outputs

    def _superluigi_value(self, reader: Reader, as_type: object) -> object:
        """The part of the value; of several outputs and of folders, only that part is read."""
        outputs = self.of.output()
        ours = getattr(self.of, "load_output", None)
        if not isinstance(outputs, luigi.Target) and not callable(ours):
            return graph.map_structure(lambda target: reader.content(target, as_type), self._chosen(outputs))
        if isinstance(self.output(), PartTarget) and not callable(ours):
            return reader.content(self.output(), as_type)
        return self._chosen(reader.value(self.of))

    def _chosen(self, whole: Any) -> object:
        try:
            return whole[self.key]
        except (KeyError, IndexError, TypeError) as error:
            known = f" It has {', '.join(map(repr, list(whole)[:20]))}." if isinstance(whole, Mapping) else ""
            raise DefinitionError(f"{self.of} has no part {self.key!r}.{known}") from error


Conveniences.make_part = Part


class AsPath(ProxyTask):
    """`as_path(task)`: where a value would be loaded, its path is handed over."""

    def output(self) -> Any:
        return self.of.output()

    def _superluigi_value(self, reader: Reader, as_type: object) -> object:
        """A temporary path holding the output, or paths in the shape of several outputs; yours to change."""
        del as_type
        return reader.copy(self.of)


@guarded
def as_path(task: AnyTask) -> Any:
    """`task`, but a function or `inputs` gets the path of its output instead of the loaded value."""
    return AsPath(task)


class PartTarget(AtomicTarget):
    """One file inside a folder or prefix; its record is that of the whole."""

    def __init__(self, whole: Any, name: str) -> None:
        self.whole, self.name = whole, name
        self.location = _PartLocation(whole.location, name)
        self.path = whole.path / name if isinstance(whole.path, Path) else f"{str(whole.path).rstrip('/')}/{name}"
        self.metadata_path = whole.metadata_path


class _PartLocation(Location):
    """Reads one file of a folder-like location; writes nothing."""

    def __init__(self, whole: Location, name: str) -> None:
        self._whole, self._name = whole, name
        self.uri = f"{whole.uri.rstrip('/')}/{name}"
        self.record_uri = whole.record_uri

    def exists(self) -> bool:
        return self._whole.exists()

    def describe(self) -> Record | None:
        described = self._whole.describe()
        return None if described is None else {**described, "path": self.uri, "part": self._name}

    def read_record(self) -> Record | None:
        record = self._whole.read_record()
        if record is None:
            return None
        output = {key: value for key, value in record["output"].items() if key not in ("format", "contents")}
        return {**record, "output": {**output, "path": self.uri}}

    def write_record(self, record: Mapping[str, object], expected: Mapping[str, object] | None = None) -> None:
        raise DefinitionError(f"{self.uri} is part of {self._whole.uri}, whose record is written with the whole.")

    def stage(self) -> StagedWrite:
        raise DefinitionError(f"{self.uri} is part of {self._whole.uri}; only the whole can be written.")

    def remove(self) -> None:
        raise DefinitionError(f"{self.uri} is part of {self._whole.uri}; only the whole can be removed.")

    def grounds(self) -> list[Ground]:
        return []

    @contextlib.contextmanager
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        with self._whole.local_copy(shared=shared, refresh=refresh) as folder:
            yield self._found(folder)

    def _found(self, folder: Path) -> Path:
        """The file called so, or the only one that is so called but for its suffix."""
        path = folder / self._name
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            return path
        similar = sorted(path.parent.glob(f"{path.name}.*")) if path.parent.is_dir() else []
        if len(similar) == 1:
            return similar[0]
        names = sorted(item.name for item in folder.iterdir())
        raise TargetMissingError(
            f"{self._whole.uri} has no {self._name!r}. It holds {', '.join(names[:20]) or 'nothing'}."
        )


class Outputs(Mapping[str, Any]):
    """What `outputs_of` gives: parts by name, as items and as attributes; knows which task makes which."""

    def __init__(self, parts: Mapping[str, object]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __getattr__(self, name: str) -> Any:
        parts = self.__dict__.get("_parts", {})
        if name in parts:
            return parts[name]
        raise AttributeError(f"There is no part {name!r}; there are {', '.join(parts)}.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"Outputs({', '.join(f'{name}={part!r}' for name, part in self._parts.items())})"


@guarded
def outputs_of(task: AnyTask, **parts: object) -> Outputs:
    """Name the parts of what `task` makes, so that a consumer requires exactly the tasks whose parts it uses.

        sample = outputs_of(SampleTopics(size=10), topics="topics.tsv", documents=corpus.documents)
        Evaluate(topics=sample.topics)         # requires SampleTopics
        Index(documents=sample.documents)      # requires only what made the corpus

    Text names a part of `task`: a file of its folder, one of its outputs, or an item of its value. Anything else
    (a part of another task, a task, a value) is handed through as it is: `task` does not change it.
    Passing the whole object requires all tasks behind it.
    """
    if not isinstance(task, luigi.Task):
        raise DefinitionError(f"outputs_of needs a task, not {task!r}.")
    return Outputs({name: Part(task, part) if isinstance(part, str) else part for name, part in parts.items()})


def unwrap(task: luigi.Task) -> luigi.Task:
    """The task that a stand-in stands for in the end; other tasks themselves."""
    while isinstance(task, ProxyTask):
        task = task.of
    return task

"""`metadata["input"]` as `run` sees it: references that know the records behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from typing import Any

from superluigi.lineage.records import resolve
from superluigi.storage.base import Location, Record
from superluigi.storage.input_lists import InputList, is_reference


class InputReference(dict[str, Any]):
    """A reference to one input, whose own record is read when a key is asked for that the reference has not.

    `metadata["input"]["features"]["row_count"]` gives what the run of the input noted; `params`, `output`, `input`
    (references of the same kind) and all other keys of its record as well. `keys()`, `len()`, `in` and iteration
    cover both; `items()`, and so JSON and pickles, hold the reference alone: the stored record stays small.
    """

    def __init__(
        self, reference: Mapping[str, object], load: Callable[[], Mapping[str, Any]], below: Callable[[object], object]
    ) -> None:
        """`below` gives the references in a record that `load` has read their own records."""
        super().__init__(reference)
        self._load, self._below = load, below
        self._record: Mapping[str, Any] | None = None

    @property
    def record(self) -> Mapping[str, Any]:
        """The input's own record, read once; empty where it has been replaced since the reference was made."""
        if self._record is None:
            found = self._load()
            run = found.get("run")
            same = (run.get("id") if isinstance(run, Mapping) else None) == super().get("run")
            self._record = found if same else {}
        return self._record

    def __missing__(self, key: str) -> Any:
        value = self.record[key]
        if isinstance(value, InputList) and isinstance(self._record, dict):
            value = self._record[key] = self._below(value.structure())
        return value

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.record

    def get(self, key: str, default: object = None) -> Any:
        """The value of the reference, else of the record, else `default`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(super().__iter__()), **self.record})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # a dict's own view would not know of the record
        """The keys of the reference, then those that only the record has."""
        return KeysView(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.items()),)


def with_records(references: object, targets: object) -> Any:
    """`references` (JSON, in the shape of `targets`) with each that names a record able to give it."""
    if isinstance(references, dict):
        location = getattr(targets, "location", None)
        if isinstance(location, Location):
            return _opened(references, location)
        if isinstance(targets, Mapping):
            pairs = zip(references.items(), targets.values(), strict=True)
            return {key: with_records(below, target) for (key, below), target in pairs}
    if isinstance(references, list) and isinstance(targets, (list, tuple)):
        return [with_records(below, target) for below, target in zip(references, targets, strict=True)]
    return references


def _opened(reference: Record, location: Location) -> Record:
    if not reference.get("metadata_path"):
        return reference

    def load() -> Record:
        found = location.read_record() or {}
        return {**found, "input": below(found["input"])} if "input" in found else found

    def below(structure: object) -> object:
        return _below(structure, location)

    return InputReference(reference, load, below)


def _below(structure: Any, like: Location) -> object:
    """The references in a record that was read, each able to give its own record in turn."""
    if is_reference(structure):
        kind, path = structure["type"], structure["path"]
        linked = structure.get("metadata_path")
        return (
            _opened(structure, resolve.location_at(path, kind, linked, like)) if isinstance(linked, str) else structure
        )
    if isinstance(structure, Mapping) and not isinstance(structure, InputList):  # that one when it is asked for
        return {key: _below(value, like) for key, value in structure.items()}
    return [_below(value, like) for value in structure] if isinstance(structure, list) else structure

"""A constant where a task is expected."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import luigi

from superluigi import formats
from superluigi.errors import DefinitionError, FormatError, ParameterError
from superluigi.parameters import annotations as declared
from superluigi.parameters.adapters.basic import canonical
from superluigi.parameters.adapters.factory import Anything
from superluigi.parameters.checked import Frozen, Structured
from superluigi.storage.base import Ground, Location, Record, StagedWrite
from superluigi.targets.base import AtomicTarget

#: Longer texts are replaced by their digest, so that a table of a gigabyte makes no id of a gigabyte.
_LONGEST_TEXT = 200


class ConstantValue(Structured):
    """Any value: written as JSON if that is short, else as a digest of its JSON or pickle; kept as `Frozen`."""

    adapter = Anything()
    by_text = False

    def __get__(self, instance: object, owner: object = None) -> Any:
        # the value with its text: Luigi puts what it finds here into sets, and a table has no hash
        return self if instance is None else instance.__dict__[self.attribute]

    def checked(self, x: object) -> Frozen:
        return x if isinstance(x, Frozen) else Frozen(x, self.write(x))

    def write(self, value: object) -> str:
        try:
            text = canonical(self.adapter.encode(value))
            content = text.encode()
        except (TypeError, ValueError, RecursionError):
            text, content = "", _pickled(value)
        if text and len(text) <= _LONGEST_TEXT:
            return text
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def parse(self, x: object) -> Any:
        if isinstance(x, str) and x.startswith("sha256:"):
            raise ParameterError(f"The constant {x} cannot be made from its digest; pass the value.")
        return self.adapter.decode(json.loads(x)) if isinstance(x, str) else x


class ConstantTask(luigi.Task):
    """A task that is complete and whose value is given: `Score(model=Const(0.5))`.

    Its identity is the value. As an input file it is JSON, or a pickle for what JSON cannot hold.
    """

    task_namespace = "superluigi"
    #: Accepted where a task of a certain class is required.
    _superluigi_stand_in = True
    value: Any = ConstantValue()

    def _superluigi_value(self, reader: object, as_type: object) -> object:
        """The value, without a file."""
        del reader, as_type
        return self.value.value

    def __class_getitem__(cls, item: object) -> Any:
        return declared.Param.__class_getitem__((item, Const))  # type: ignore[attr-defined]  # see annotations

    def output(self) -> ConstantTarget:
        return ConstantTarget(self.value.value, self.value.text)

    def complete(self) -> bool:
        return True

    @property
    def must_pickle(self) -> bool:
        """Whether the value is too long for the text, which is then its digest."""
        return bool(self.value.text.startswith("sha256:"))

    def result(self) -> object:
        """The value."""
        return self.value.value


class ConstantTarget(AtomicTarget):
    """What `Const(value)` looks like in records and messages."""

    def __init__(self, value: object, text: str) -> None:
        self.location = _ConstantLocation(value, text)
        self.path = self.metadata_path = self.location.uri


class _ConstantLocation(Location):
    """A place in memory: always there, never written."""

    def __init__(self, value: object, text: str) -> None:
        self._value = value
        self._digest = hashlib.sha256(text.encode()).hexdigest()
        self.uri = self.record_uri = f"const:{self._digest[:16]}"

    def exists(self) -> bool:
        return True

    def describe(self) -> Record | None:
        return {"type": "Const", "path": self.uri, "digest": {"sha256": self._digest}}

    def read_record(self) -> Record | None:
        return None

    def write_record(self, record: Mapping[str, object], expected: Mapping[str, object] | None = None) -> None:
        self._refuse()

    def stage(self) -> StagedWrite:
        self._refuse()

    def remove(self) -> None:
        """A constant has no file; nothing happens."""

    def grounds(self) -> list[Ground]:
        return []

    @contextlib.contextmanager
    def local_copy(self, *, shared: bool = False, refresh: bool = False) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="superluigi-const-") as folder:
            path = Path(folder) / "const.json"
            try:
                formats.save(self._value, path)
            except FormatError:
                path = path.with_suffix(".pickle")
                formats.save(self._value, path)
            yield path

    def _refuse(self) -> NoReturn:
        raise DefinitionError(f"{self.uri} is a constant; nothing can be written to it.")


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # pickling runs the value's own code, which may raise anything
        raise TypeError(f"a value that can be pickled ({error})") from error


if TYPE_CHECKING:

    class Const:
        """A constant where a task is expected; in `Param[int, Const] = 2`, a value that cannot be changed."""

        def __new__(cls, value: object) -> Any: ...
else:
    Const = ConstantTask
    Const.__name__ = Const.__qualname__ = "Const"

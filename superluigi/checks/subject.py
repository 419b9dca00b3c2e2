"""What checks are given by name: staged paths, values that are loaded once and only when asked for, the old output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.formats.suffix_inference import table_kind
from superluigi.storage.base import Record


class Unreadable(Exception):  # noqa: N818 - it carries the error
    """The value cannot be loaded: asked for again, it is not tried again."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


#: Nothing in them can be changed, and most of what plain values hold.
_FIXED = frozenset({bool, int, float, complex, str, bytes, type(None)})


def own(value: Any) -> object:
    """`value` for one check alone, so that what this changes fools no other: tables, arrays, and lists, dicts of these.

    Tables share their data until one is written to, arrays may only be read; other objects are the same for all.
    """
    kind = type(value)
    if kind in _FIXED:
        return value
    if kind is list or kind is tuple or kind is set:
        return kind([one if type(one) in _FIXED else own(one) for one in value])
    if kind is dict:
        return {key: one if type(one) in _FIXED else own(one) for key, one in value.items()}
    if kind is bytearray:
        return bytearray(value)
    tops = {one.__module__.partition(".")[0] for one in kind.__mro__}
    if "pandas" in tops and hasattr(value, "iloc"):
        return value.copy(deep=not _writes_to_copies())
    if "polars" in tops and hasattr(value, "clone"):
        return value.clone()
    if "numpy" in tops and hasattr(value, "setflags") and hasattr(value, "view"):
        seen = value.view()
        seen.setflags(write=False)
        return seen
    return value


def _writes_to_copies() -> bool:
    """Whether pandas copies data when it is written to, so that a shallow copy is one of its own."""
    import pandas as pd  # who has such a table has it already

    return int(pd.__version__.partition(".")[0]) >= 3 or pd.options.mode.copy_on_write is True


class Values:
    """The value of outputs in their shape, loaded once for each kind of table that is asked for."""

    def __init__(self, load: Callable[[Any], object], usual: object = None, *, is_file: bool = True) -> None:
        self._load = load
        #: The annotation that decides where no check asks for a kind of table.
        self._usual = usual
        self._is_file = is_file
        self._loaded: dict[str | None, object] = {}

    def get(self, wants: object = None) -> object:
        """The value; tables as `wants` says.

        Raises:
            Unreadable: with the error.
        """
        kind = self._kind(wants)
        if kind not in self._loaded:
            try:
                self._loaded[kind] = self._load(self._usual if kind is None else wants)
            except (ImportError, DefinitionError, KeyboardInterrupt):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a format says of broken bytes
                self._loaded[kind] = Unreadable(error)
        found = self._loaded[kind]
        if isinstance(found, Unreadable):
            raise found
        return found

    def loaded(self, wants: object = None) -> object:
        """The value if it has been loaded, else None."""
        found = self._loaded.get(self._kind(wants))
        return None if isinstance(found, Unreadable) else found

    def _kind(self, wants: object) -> str | None:
        if wants is None:
            return None
        kind = table_kind(wants)
        return None if kind == self._plain else kind

    @cached_property
    def _plain(self) -> str | None:
        """The kind of table that is loaded where no kind is asked for."""
        return table_kind(self._usual) or ("pandas.DataFrame" if self._is_file else None)


class Previous:
    """The output in force: its record, and its value when it is asked for."""

    def __init__(self, metadata: Record, values: Values) -> None:
        #: Its record, as `read_metadata()` gives it.
        self.metadata = metadata
        self._values = values

    @property
    def value(self) -> Any:
        """What it holds, loaded by format when it is first looked at.

        Raises:
            Exception: what its format says of bytes that it cannot read.
        """
        try:
            return own(self._values.get())
        except Unreadable as unreadable:
            raise unreadable.error from None

    @property
    def values(self) -> Any:
        """The same where there are several outputs, in the shape of `output()`."""
        return self.value

    def __repr__(self) -> str:
        return f"<previous output of {self.metadata.get('task_id')}>"


class Subject:
    """One set of outputs to be checked; `offers` gives what is asked for by name, each once."""

    def __init__(
        self, values: Values, several: bool, offers: Mapping[str, Callable[[], object]], staged: Sequence[Path] = ()
    ) -> None:
        self._values = values
        self._staged = staged
        self._several = several
        self._offers = offers
        self._given: dict[str, object] = {}

    @property
    def is_staged(self) -> bool:
        """Whether it is looked at before it is published."""
        return bool(self._staged)

    def paths(self, given: bool) -> Iterable[Path]:
        """The files and folders that may not be changed: what would be published, and what checks are `given`."""
        if self._staged or not given:
            return self._staged
        found: list[Path] = graph.flatten(self.get("output_path"))
        return found

    def get(self, name: str, wants: object = None, *, shared: bool = False) -> object:
        """What a check asks for; where the value is `shared` with other checks, one for it alone."""
        if name == "value" and self._several:
            raise DefinitionError(
                "The task has several outputs: let the check ask for `values`, which has the shape of output(). A "
                "schema or model is for one: check each in a method, as in `schema.validate(values['name'])`."
            )
        if name in ("value", "values"):
            found = self._values.get(wants)
            return own(found) if shared else found
        if name not in self._given:
            self._given[name] = self._offers[name]()
        return self._given[name]

    def loaded(self, wants: object = None) -> object:
        """The value if a check has had it loaded."""
        return self._values.loaded(wants)

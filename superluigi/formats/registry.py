"""Which format a suffix, a type or a name means. Built-in formats enter by the same door as one's own.

A format writes one value to one path and reads it back. `implementation` may be a dotted path
(`package.module:Name`), imported on first use, so that a registry of fifteen formats imports none of them.
"""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar

from superluigi.arguments import guarded
from superluigi.config import suggestion
from superluigi.errors import FormatError, MissingDependencyError, OptionError

#: Compressions that may stand after any suffix: `.csv.gz`, `.json.zst`.
COMPRESSIONS = (".gz", ".zst")
#: Entry points of other packages, which name classes of formats: `netcdf = package:NetCDF [nc,nc4]`, its suffixes last.
ENTRY_POINT_GROUP = "superluigi.formats"


class Format(Protocol):
    """One way to turn a value into the bytes of a file, and back.

    `save` raises `FormatError` (or `TypeError`, `ValueError`) for a value that would not come back as it
    was; `load` gets the type that the reader wants, or `None`. A format may have `check(value, path)` as well: it is
    called with what was just saved, and raises when that would not come back.
    """

    def save(self, value: Any, path: Path) -> None:
        """Write `value` to `path`, a file that does not exist yet."""

    def load(self, path: Path, as_type: Any) -> Any:
        """The value in the file at `path`."""


@dataclass(frozen=True)
class FormatSpec:
    """A format as the registry knows it."""

    name: str
    suffixes: tuple[str, ...]
    implementation: Format | str
    #: What it keeps, in words, for error messages.
    keeps: str
    #: Types whose values this format is picked for: classes, or dotted names of classes not to import yet.
    types: tuple[type | str, ...] = ()
    #: Reading it may run code that the file holds.
    unpickles: bool = False
    #: Extra of this package that brings what the format needs.
    extra: str | None = None

    def resolve(self) -> Format:
        """The implementation, imported now if it was given by name."""
        if not isinstance(self.implementation, str):
            return self.implementation
        return _imported(self.implementation, self.name, self.extra)

    def made_for(self, kind: object) -> bool:
        """Whether this format names `kind`, or one of its bases, among its types."""
        names = {*kind_names(kind)}
        return any(
            wanted in names if isinstance(wanted, str) else is_class(kind) and issubclass(kind, wanted)
            for wanted in self.types
        )


_entries: dict[str, FormatSpec] = {}
FormatClass = TypeVar("FormatClass", bound=Callable[[], Any])


@guarded
def register(
    name: str,
    *suffixes: str,
    types: Iterable[type | str] = (),
    keeps: str = "",
    unpickles: bool = False,
) -> Callable[[FormatClass], FormatClass]:
    """Class decorator: make a class with `save(value, path)` and `load(path, as_type)` a format.

        @formats.register("points", ".points", types=[Points])
        class PointsFormat:
            def save(self, value, path): ...
            def load(self, path, as_type): ...

    The last registered format wins for its suffixes and types, unless several share a suffix and only one
    of them names the type of the value. The module that registers it must be imported wherever it is used;
    a package can declare it as an entry point of the group `superluigi.formats` instead.

    Raises:
        OptionError: a suffix that does not start with a dot, or nothing to register it for.
    """
    wanted = tuple(types)
    if not suffixes and not wanted:
        raise OptionError(f"Format {name!r} needs a suffix (such as '.{name}') or a type.")
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix in COMPRESSIONS or "/" in suffix:
            raise OptionError(f"{suffix!r} is no suffix for format {name!r}: write '.{name}', without a compression.")

    def decorate(implementation: FormatClass) -> FormatClass:
        described = keeps or ", ".join(str(getattr(kind, "__name__", kind)) for kind in wanted) or "its own values"
        add(FormatSpec(name, suffixes, implementation(), described, wanted, unpickles))
        return implementation

    return decorate


def add(entry: FormatSpec) -> None:
    """Put an entry into the registry; one of the same name is replaced."""
    _entries.pop(entry.name, None)
    _entries[entry.name] = entry


@guarded
def unregister(name: str) -> None:
    """Take a format out of the registry, for tests; nothing happens when it is not there."""
    _entries.pop(name, None)


def entries() -> list[FormatSpec]:
    """All formats, the last registered first."""
    _load_plugins()
    return list(reversed(_entries.values()))


def by_name(name: str) -> FormatSpec:
    """The format called `name`.

    Raises:
        FormatError: there is none; the known ones are listed.
    """
    _load_plugins()
    if name in _entries:
        return _entries[name]
    raise FormatError(
        f"There is no format {name!r}.{suggestion(name, _entries)} Known formats: {', '.join(sorted(_entries))}. "
        "If it is one of your own, import the module that registers it."
    )


def candidates(suffix: str, *, path: str) -> list[FormatSpec]:
    """The formats for a suffix (`.csv`), the last registered first.

    Raises:
        FormatError: no format has this suffix; the known suffixes are listed.
    """
    found = [entry for entry in entries() if suffix in entry.suffixes]
    if not found:
        named = f"The suffix {suffix!r} of" if suffix else "There is no suffix on"
        raise FormatError(
            f"{named} {path}{' is unknown' if suffix else ''}, so that no format can be picked."
            f"{suggestion(suffix, known_suffixes()) if suffix else ''} Known suffixes: "
            f"{', '.join(known_suffixes())} (each also with {' or '.join(COMPRESSIONS)}). Use one of these, "
            "write to output_path yourself, or register a format with superluigi.formats.register."
        )
    return found


def known_suffixes() -> list[str]:
    """Every suffix that has a format, sorted."""
    return sorted({suffix for entry in entries() for suffix in entry.suffixes})


def kind_names(kind: object) -> list[str]:
    """The dotted names of a class (also given by that) and its bases; empty for what is no class."""
    if isinstance(kind, str):
        return [kind]
    if not is_class(kind):
        return []
    return [f"{base.__module__.split('.')[0]}.{base.__qualname__}" for base in kind.__mro__]


def is_class(kind: object) -> TypeGuard[type]:
    """Whether `kind` is a class, and not something like `list[int]`, which Python 3.10 takes for one."""
    return isinstance(kind, type) and typing.get_origin(kind) is None


@functools.cache
def _imported(dotted: str, name: str, extra: str | None) -> Format:
    module, _, attribute = dotted.partition(":")
    try:
        found: Format = getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        remedy = f"pip install 'superluigi[{extra}]'" if extra else f"pip install {error.name}"
        raise MissingDependencyError(f"The format {name!r} needs {error.name}: {remedy}.") from error
    return found


@functools.lru_cache(maxsize=1)
def _load_plugins() -> None:
    """Read the entry points once; a broken one is reported by name when its format is asked for."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in _entries:
            suffixes = tuple(f".{word}" for word in (point.extras or (point.name,)))
            add(FormatSpec(point.name, suffixes, point.value.split(" ")[0], f"what {point.value} keeps"))

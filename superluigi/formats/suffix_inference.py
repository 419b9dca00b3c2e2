"""From annotations to suffixes: pure functions over types."""

from __future__ import annotations

import types
import typing
from typing import Any, get_args, get_origin

from superluigi.arguments import guarded
from superluigi.formats import builtin
from superluigi.formats.registry import entries, is_class, kind_names

_PLAIN = (bool, int, float, str, type(None))


@guarded
def suffix_for(annotation: object) -> str:
    """The suffix that a value of this annotation is saved with when none is named.

    A type that a format was registered for has that format's suffix; tables `.parquet`; dicts, lists and
    numbers `.json` (if all that is known of their items fits into JSON); everything else `.pickle`.
    """
    kind = bare(annotation)
    origin = get_origin(kind) or kind
    if not isinstance(origin, type):
        return ".pickle"
    for entry in entries():
        if entry.types and entry.suffixes and entry.name not in _BUILTIN_TABLES and entry.made_for(origin):
            return entry.suffixes[0]
    if set(kind_names(origin)) & set(builtin.TABLES):
        return ".parquet"
    is_container = origin in (list, dict) or (issubclass(origin, dict) and hasattr(origin, "__annotations__"))
    if origin in (bool, int, float) or (is_container and _json_holds(kind)):
        return ".json"
    return ".pickle"


_BUILTIN_TABLES = {"feather", "excel", "tsv", "csv", "parquet", "npy"}


def bare(annotation: object) -> object:
    """The annotation without `Annotated[…]` and `Required[…]` around it."""
    while get_origin(annotation) is typing.Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def table_kind(as_type: object) -> str | None:
    """Which table library an annotation asks for: one of `builtin.TABLES`, or None for no table."""
    options = get_args(as_type) if _is_union(bare(as_type)) else (bare(as_type),)
    for option in options:
        if isinstance(option, str):
            names = {option, f"{option.split('.')[0]}.{option.rsplit('.', 1)[-1]}"}
        else:
            names = set(kind_names(bare(option)))
        for table in builtin.TABLES:
            if table in names:
                return table
    return None


def _is_union(annotation: object) -> bool:
    return get_origin(annotation) in (typing.Union, types.UnionType)


def _json_holds(annotation: object) -> bool:
    """Whether values of this annotation may come back from JSON as they were; unknown is yes."""
    kind = bare(annotation)
    if kind in (Any, list, dict, object) or kind in _PLAIN or kind is None:
        return True
    if _is_union(kind):
        return all(_json_holds(option) for option in get_args(kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return all(_json_holds(item) for item in arguments)
    if origin is dict:
        return bare(arguments[0]) in (str, Any) and _json_holds(arguments[1])
    if is_class(kind) and issubclass(kind, dict) and hasattr(kind, "__annotations__"):
        return True  # a TypedDict
    return origin is typing.Literal

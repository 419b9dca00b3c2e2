"""Turn what a task puts into metadata into what JSON can hold, or say which key cannot be."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import json.encoder
import math
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Set, ValuesView
from pathlib import PurePath
from typing import Any

from superluigi.errors import RecordValueError


def jsonable(value: object, where: str = "metadata") -> Any:
    """A JSON value that equals `value` for its reader.

    Dates and times become ISO 8601 text, timedeltas seconds, `Path`, `UUID` and `Decimal` text, numpy and
    pandas scalars numbers, arrays, series, tuples and sets lists, tables lists of rows, enums their value,
    dataclasses dicts, bytes base64 text; NaN and infinities become their names, since JSON has no numbers for them.

    Raises:
        RecordValueError: names the key (`where`) and the type that cannot be converted, or a cycle.
    """
    return value if type(value) in _PLAIN else _convert(value, where, ())


def document(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """A JSON text for readers of any kind: what JSON has not is named, and it can be written as UTF-8.

    Records made by others, and parameters, may hold NaN, which browsers and `jq` refuse, and halves of characters.
    """
    options: dict[str, Any] = {"indent": indent, "separators": separators, "ensure_ascii": False, "default": str}
    try:
        text = json.dumps(value, allow_nan=False, **options)
    except ValueError:
        text = json.dumps(_named(value), **options)
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_HALVES = re.compile("[\ud800-\udfff]")


def _named(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, dict):
        return {_named(key): _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, (list, tuple)) else value


class Jsonable(dict[str, Any]):
    """A dict that holds nothing but JSON, so that it need not be looked through again."""


class Shared(Jsonable):
    """One that many records hold: it is never changed, so that its text is made once (by `storage.base`)."""

    text: str | None = None


_PLAIN = (str, int, bool, type(None), Jsonable, Shared)


def encoding(encoder: json.JSONEncoder) -> Callable[[Any], str]:
    """`encoder.encode` for what has no cycles, without what that sets up anew for each value."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    text_of = json.encoder.encode_basestring_ascii if encoder.ensure_ascii else json.encoder.encode_basestring
    separators, checks = (encoder.key_separator, encoder.item_separator), (encoder.skipkeys, encoder.allow_nan)
    parts = make(None, encoder.default, text_of, None, *separators, encoder.sort_keys, *checks)

    def encode(value: object) -> str:
        return text_of(value) if type(value) is str else "".join(parts(value, 0))

    return encode


def _convert(value: object, where: str, above: tuple[int, ...]) -> object:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is not dict and kind is not list:  # these are most
        if isinstance(value, enum.Enum):
            return _convert(value.value, where, above)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, str):
            return str(value)
    if id(value) in above:
        raise RecordValueError(f"The value of {where} contains itself; JSON cannot hold a cycle.")
    inside = (*above, id(value))
    if kind is not list and isinstance(value, Mapping):
        return {  # what needs no conversion needs no name for its error either: records of many inputs are large
            key if type(key) is str else _key(key, where): item
            if type(item) in _PLAIN
            else _convert(item, f"{where}[{key!r}]", inside)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, range, deque, Set, ValuesView)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [_convert(item, f"{where}[{index}]", inside) for index, item in enumerate(items)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _convert(getattr(value, f.name), f"{where}.{f.name}", inside) for f in dataclasses.fields(value)
        }
    plain = _scalar(value)
    if plain is not value:
        return _convert(plain, where, inside)
    raise RecordValueError(
        f"The value of {where} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot hold. "
        "Store a number, text, list or dict that describes it, or write it to the output."
    )


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, (bool, int, float)):
        return str(key)
    if isinstance(key, enum.Enum):
        return _key(key.value, where)
    if isinstance(key, tuple):
        return ", ".join(_key(part, where) for part in key)
    plain = _scalar(key)
    if isinstance(plain, (str, int, float)):
        return str(plain)
    raise RecordValueError(
        f"{where} has the key {key!r} of type {type(key).__name__}; "
        "keys must be text, numbers, dates or tuples of these."
    )


def _scalar(value: object) -> object:
    """One step towards plain Python; `value` itself if no step is known."""
    if type(value).__name__ in ("NaTType", "NAType"):  # pandas' missing values; NaT claims to be a datetime
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (PurePath, uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and hasattr(value, "tolist"):
        return value.isoformat() if hasattr(value, "isoformat") else _numpy(value)
    if module in ("pandas", "polars"):
        return _table(value)
    return value


def _numpy(value: Any) -> object:
    dtype = getattr(value, "dtype", None)
    if dtype is not None and dtype.kind in "mM":
        has_seconds = dtype.kind == "m" and not dtype.str.endswith(("[Y]", "[M]"))
        return (value / dtype.type(1, "s")).tolist() if has_seconds else value.astype(str).tolist()
    if dtype is not None and dtype.char in "gG":  # more digits than Python's floats have
        value = value.astype("f8" if dtype.char == "g" else "c16")
    return value.tolist()


def is_numpys_scalar(value: object) -> bool:
    """Whether a value is a number, text or time of NumPy's, or an array around one of these."""
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()


def pythons_own(scalar: Any) -> object:
    """Python's value of a scalar of NumPy's; the scalar itself where none says the same.

    `item()` makes whole numbers of times that Python's cannot hold, None of those that are missing, and 0 of what a
    mask hides; and it leaves longer floats as they are.
    """
    plain = scalar.item()
    if getattr(scalar, "mask", False) or (scalar.dtype.kind in "mM" and (plain is None or isinstance(plain, int))):
        return scalar
    if type(plain).__module__ == "numpy" and scalar.dtype.kind in "fc":
        shorter = scalar.astype("f8" if scalar.dtype.kind == "f" else "c16").item()
        return shorter if shorter == plain or plain != plain else scalar
    return scalar if type(plain).__module__ == "numpy" else plain


def _table(value: object) -> object:
    for name, arguments in (("isoformat", ()), ("to_dicts", ()), ("to_dict", ("records",)), ("to_list", ())):
        method = getattr(value, name, None)
        if method is None:
            continue
        if name == "to_dict" and not hasattr(value, "columns"):
            return method()  # a series: label -> value
        return method(*arguments)
    return value

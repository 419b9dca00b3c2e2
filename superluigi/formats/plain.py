"""Formats for plain Python values: pickle, joblib, JSON, YAML, text, bytes."""

from __future__ import annotations

import enum
import json
import marshal
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from superluigi.errors import FormatError
from superluigi.formats.compare import same
from superluigi.jsonable import is_numpys_scalar, pythons_own

_HINTS = {"tuple": "; a tuple would come back as a list", "set": "; make it a sorted list"}


class Pickle:
    """Any object that pickle can hold, in protocol 5 or newer. Reading one runs what it says."""

    def save(self, value: object, path: Path) -> None:
        with path.open("wb") as file:
            pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path, as_type: object) -> Any:
        with path.open("rb") as file:
            return pickle.load(file)

    def check(self, value: object, path: Path) -> None:
        """Read it back, if that is no great cost: some objects can be pickled, but not read again."""
        _refuse_unreadable(value, path, lambda: self.load(path, None))


class Joblib(Pickle):
    """Any object; large NumPy arrays go to disk without a copy. Reading one runs what it says."""

    def __init__(self) -> None:
        import joblib  # type: ignore[import-untyped]

        self._joblib = joblib

    def save(self, value: object, path: Path) -> None:
        self._joblib.dump(value, path)

    def load(self, path: Path, as_type: object) -> Any:
        return self._joblib.load(path)


class Json:
    """`None`, bool, int, float (NaN and infinity in JavaScript's spelling), str, lists, dicts with text keys.

    NumPy's numbers become Python's. What would come back as something else (tuples, sets, dates, keys that
    are no text) is refused.
    """

    def save(self, value: object, path: Path) -> None:
        text = _json_if_equal(value)
        if text is None:  # NaN, NumPy's numbers, or something to refuse by name: look at every item
            value = _plain(value, "value", _json_scalar)
            text = json.dumps(value, ensure_ascii=False)
        path.write_bytes(_encoded(text, value))

    def load(self, path: Path, as_type: object) -> Any:
        return json.loads(path.read_bytes())


class Yaml:
    """What JSON keeps, and dates, times, bytes, and keys that are no text; written as plain, safe YAML."""

    def save(self, value: object, path: Path) -> None:
        import yaml

        content = _plain(value, "value", _yaml_scalar, any_key=True)
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        if not same(yaml.safe_load(text), content):  # in the very types, time zones included
            raise FormatError("this value would come back from YAML changed; use .json or .pickle")
        path.write_bytes(text.encode())

    def load(self, path: Path, as_type: object) -> Any:
        import yaml

        return yaml.safe_load(path.read_bytes())


class Text:
    """A `str`, as UTF-8, line ends as they are."""

    def save(self, value: object, path: Path) -> None:
        if not isinstance(value, str) or isinstance(value, enum.Enum):
            raise FormatError(f"a value of type {type(value).__name__} is no text")
        path.write_bytes(value.encode())

    def load(self, path: Path, as_type: object) -> str:
        try:
            return path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise FormatError(
                f"it is no text in UTF-8 ({error}). Give an output of other bytes the suffix .bin"
            ) from error


class Bytes:
    """Bytes, as they are."""

    def save(self, value: object, path: Path) -> None:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise FormatError(f"a value of type {type(value).__name__} is no bytes")
        if isinstance(value, memoryview) and value != bytes(value):
            raise FormatError("a memoryview of other items than bytes would come back as bytes")
        path.write_bytes(value)

    def load(self, path: Path, as_type: object) -> bytes:
        return path.read_bytes()


#: Pickles above this are not read back: that would take the memory and the time twice.
CHECKED_PICKLE_BYTES = 16 << 20


#: Types without parts, which pickle itself knows.
_OWN = (bool, int, float, str, bytes, type(None))


def _refuse_unreadable(value: object, path: Path, load: Callable[[], object]) -> None:
    kind = type(value)
    if kind in _OWN or _is_numbers(value) or path.stat().st_size > CHECKED_PICKLE_BYTES:
        return
    try:
        again = load()
    except Exception as error:  # the value's own code
        raise FormatError(
            f"a {kind.__name__} can be pickled, but not read again ({type(error).__name__}: {error}); look at its "
            "__reduce__, __getstate__ or __init__"
        ) from error
    if type(again) is not kind:
        raise FormatError(f"a {kind.__name__} would come back as a {type(again).__name__}")


def _is_numbers(value: Any) -> bool:
    """Whether it is a plain array of NumPy's without objects in it, whose own code then decides how they come back."""
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not value.dtype.hasobject


def _plain(value: object, where: str, scalar: Any, *, any_key: bool = False) -> object:
    """`value` of lists, dicts and what `scalar` lets pass; FormatError names the place that does not fit."""
    if type(value) is dict or isinstance(value, Mapping):
        return {
            _key(key, where, scalar if any_key else None): _plain(item, f"{where}[{key!r}]", scalar, any_key=any_key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plain(item, f"{where}[{at}]", scalar, any_key=any_key) for at, item in enumerate(value)]
    return scalar(value, where)


def _key(key: object, where: str, scalar: Any) -> object:
    if type(key) is str:
        return key
    if scalar is None:
        raise FormatError(f"the key {key!r} in {where} is no text: it would come back as one")
    return scalar(key, where)


def _json_scalar(value: object, where: str) -> object:
    if value is None or type(value) in (bool, int, float, str):
        return value
    plain = pythons_own(value) if is_numpys_scalar(value) and type(value).__name__ != "ndarray" else value
    if plain is not value:
        return _json_scalar(plain, where)
    hint = _HINTS.get(type(value).__name__, "")
    raise FormatError(f"{where} is of type {type(value).__name__}, which it cannot hold{hint}")


def _yaml_scalar(value: object, where: str) -> object:
    import datetime

    if type(value) in (bytes, datetime.date, datetime.datetime):
        return value
    return _json_scalar(value, where)


def _json_if_equal(value: Any) -> str | None:
    """The JSON of a value that reads back equal; None if it does not, or has none. Faster than a walk in Python."""
    try:
        marshal.dumps(value)  # takes Python's own types only, and finds that out in no time: an IntEnum equals an int
        text = json.dumps(value, ensure_ascii=False)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError):
        return None


def _encoded(text: str, value: object) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can hold it
        escaped = json.dumps(value)
    if not same(json.loads(escaped), value):
        raise FormatError("a surrogate pair in it would come back as one letter; use .pickle")
    return escaped.encode()

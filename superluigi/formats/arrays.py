"""NumPy's own formats. Arrays of objects are pickles inside: they need `allow_pickle`."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import numpy.lib.format

from superluigi.errors import FormatError


class Npy:
    """One array, its dtype and order included; arrays of objects are refused."""

    def save(self, value: object, path: Path) -> None:
        array = _checked(value, "value")
        with path.open("wb") as file:
            numpy.lib.format.write_array(file, array, allow_pickle=False)

    def load(self, path: Path, as_type: object) -> Any:
        with path.open("rb") as file:
            return numpy.load(file, allow_pickle=False)


class Npz:
    """A dict of names to arrays, uncompressed; any text without a slash may be a name."""

    def save(self, value: object, path: Path) -> None:
        if not isinstance(value, Mapping):
            raise FormatError(f"a value of type {type(value).__name__} is no dict of arrays")
        arrays = {_name(key): _checked(item, f"value[{key!r}]") for key, item in value.items()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    numpy.lib.format.write_array(file, array, allow_pickle=False)

    def load(self, path: Path, as_type: object) -> dict[str, Any]:
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    arrays[name.removesuffix(".npy")] = numpy.lib.format.read_array(file, allow_pickle=False)
        return arrays


def _checked(value: object, where: str) -> Any:
    if type(value) is not numpy.ndarray:
        raise FormatError(f"{where} is of type {type(value).__name__}, no numpy.ndarray; use numpy.asarray")
    if not value.dtype.hasobject and not _comes_back(value.dtype):
        raise FormatError(f"{where} has the dtype {value.dtype!r}, which would come back otherwise; use .pickle")
    if value.dtype.hasobject:
        raise FormatError(f"{where} is an array of objects, which only a pickle can hold; use .pickle or .joblib")
    return value


def _comes_back(dtype: Any) -> bool:
    """Whether the header of a file, which is all that could change, keeps a dtype; numbers are written bit by bit."""
    if dtype.metadata:
        return False
    if dtype.kind in "biufcSUmM":
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            described = numpy.lib.format.dtype_to_descr(dtype)
        again = numpy.lib.format.descr_to_dtype(described)
    except (TypeError, ValueError, UserWarning):
        return False
    return bool(again == dtype and again.isalignedstruct == dtype.isalignedstruct)


def _name(key: object) -> str:
    if not isinstance(key, str) or not key or _IN_NO_NAME.search(key):
        raise FormatError(f"{key!r} cannot be the name of an array: use text without slashes")
    return key


_IN_NO_NAME = re.compile("[/\\\\\0\ud800-\udfff]")

"""A scalar of NumPy's becomes Python's where that says the same, in files, records and parameters; else no."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superluigi import formats
from superluigi.errors import FormatError, ParameterError
from superluigi.jsonable import jsonable
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata

#: What `item()` makes another value of, or nothing of Python's.
OTHERS: list[Any] = [
    *(np.datetime64("2020-01-01", "ns"), np.timedelta64(5, "ns"), np.timedelta64(5, "Y"), np.datetime64("NaT", "s")),
    *(np.timedelta64("NaT", "s"), np.longdouble(1) / np.longdouble(10), np.ma.masked, np.array([[1]]).view(np.matrix)),
]
FINE: list[tuple[Any, object]] = [
    *((np.float16(1.5), 1.5), (np.longdouble(0.5), 0.5), (np.int8(-3), -3), (np.uint64(2**63), 2**63)),
    *((np.bool_(True), True), (np.str_("x"), "x"), (np.float32(0.5), 0.5)),
]


class Numeric(AtomicTaskWithMetadata):
    whole: Param[int] = 0
    real: Param[float] = 0.0
    anything: Param[Any] = 0


@pytest.mark.parametrize("value", OTHERS, ids=repr)
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_of_plain_values_refuses_what_comes_back_as_another(value: Any, suffix: str, tmp_path: Path) -> None:
    for nested in (value, [value], {"a": {"b": value}}):
        with pytest.raises(FormatError, match=type(value).__name__):
            formats.save(nested, tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_a_parameter_refuses_what_is_another_value_in_python(value: Any) -> None:
    for name in ("whole", "real", "anything"):
        with pytest.raises(ParameterError, match=name):
            Numeric(**{name: value})


@pytest.mark.parametrize(("value", "plain"), FINE)
def test_what_python_has_too_is_saved_and_taken_as_pythons(value: Any, plain: object, tmp_path: Path) -> None:
    formats.save([value], tmp_path / "x.json")
    assert formats.load(tmp_path / "x.json") == [plain]
    assert Numeric(anything=value) is Numeric(anything=plain)
    assert jsonable({"a": value}) == {"a": plain}


@pytest.mark.parametrize("value", [one for one in OTHERS if one is not np.ma.masked], ids=repr)
def test_a_record_holds_each_of_them_in_a_form_that_json_has(value: Any) -> None:
    json.dumps(jsonable({"a": value, "b": [np.array([value])]}), allow_nan=False)


def test_times_that_python_has_are_values_of_parameters() -> None:
    assert Numeric(anything=np.datetime64("2020-01-02")).anything == datetime.date(2020, 1, 2)
    assert Numeric(anything=np.timedelta64(5, "s")).anything == datetime.timedelta(seconds=5)

"""What a task puts into metadata becomes JSON that says the same, or is refused with the key's name."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi.errors import RecordValueError
from superluigi.jsonable import jsonable

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
odd = (
    st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.binary()
    | st.floats()
    | st.sets(st.integers())
    | st.tuples(st.integers(), st.text())
)


@given(plain)
def test_json_values_stay_as_they_are(value: Any) -> None:
    assert jsonable(value) == value


@given(st.lists(odd) | st.dictionaries(st.text() | st.integers() | st.dates() | st.tuples(st.dates()), odd, max_size=4))
def test_everything_that_is_converted_survives_a_file(value: Any) -> None:
    converted = jsonable(value)
    assert json.loads(json.dumps(converted, allow_nan=False)) == converted
    assert jsonable(converted) == converted


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


@dataclasses.dataclass
class Point:
    x: int
    where: Path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Name("n"), "n"),
        ({Colour.RED: 1, None: 2, True: 3}, {"red": 1, "None": 2, "True": 3}),
        (Point(1, Path("/a")), {"x": 1, "where": "/a"}),
        (np.float64("nan"), "nan"),
        (float("-inf"), "-inf"),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array(["2013-12-15"], dtype="datetime64[D]"), ["2013-12-15"]),
        (np.timedelta64(5, "m"), 300.0),
        (np.array([1500], dtype="timedelta64[ms]"), [1.5]),
        (datetime.timedelta(minutes=5), 300.0),
        (deque([1]), [1]),
        ({"a": 1}.keys(), ["a"]),
        (np.str_("text"), "text"),
        (pd.Series({"a": 1.5}), {"a": 1.5}),
        (pd.Timestamp("2013-12-15", tz="UTC"), "2013-12-15T00:00:00+00:00"),
        (pd.NaT, None),
        (pd.DataFrame({"t": [pd.Timestamp("2013-12-15")]}), [{"t": "2013-12-15T00:00:00"}]),
        (pd.Index([1, 2]), [1, 2]),
        (datetime.time(10, 30), "10:30:00"),
        (decimal.Decimal("0.10"), "0.10"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (b"\x00\xff", "AP8="),
        (range(3), [0, 1, 2]),
    ],
    ids=str,
)
def test_common_values_become_what_their_reader_expects(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected


@pytest.mark.parametrize("value", [object(), lambda: 1, open, type, iter([])])
def test_what_cannot_be_converted_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(RecordValueError, match=r"metadata\['a'\]\[1\]\['b'\]"):
        jsonable({"a": [0, {"b": value}]})


def test_what_contains_itself_is_refused_and_what_occurs_twice_is_not() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(RecordValueError, match="cycle"):
        jsonable(loop)
    shared = [1]
    assert jsonable([shared, shared]) == [[1], [1]]

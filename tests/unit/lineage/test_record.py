"""The draft of a record: what the user may do to it, and what comes out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi.errors import RecordKeyError
from superluigi.lineage.records.builder import AFTER, BEFORE, OURS, RecordBuilder, iso, reference

START = datetime(2013, 12, 15, 10, tzinfo=timezone.utc)


def draft() -> RecordBuilder:
    known: dict[str, Any] = {key: {"of": key} for key in BEFORE if key not in ("schema", "start_time")}
    return RecordBuilder(START, {**known, "params": {"when": START.date(), "n": 1}})


def test_a_finished_record_has_our_keys_first_and_in_order() -> None:
    one = draft()
    one.metadata["rows"] = 3
    record = one.finish(START + timedelta(seconds=1.5))
    assert list(record) == [*(key for key in OURS if key not in ("output", "dynamic_input", "checks")), "rows"]
    assert record["schema"] == "superluigi.lineage/1" and record["duration"] == 1.5
    assert record["start_time"] == "2013-12-15T10:00:00.000000+00:00"
    assert record["params"] == {"when": "2013-12-15", "n": 1}


@given(st.sampled_from(BEFORE), st.sampled_from(["change", "delete", "replace"]))
def test_no_key_of_ours_can_be_changed_or_deleted(key: str, how: str) -> None:
    one = draft()
    if how == "delete":
        del one.metadata[key]
    elif how == "change" and isinstance(one.metadata[key], dict):
        one.metadata[key]["more"] = object()
    else:
        one.metadata[key] = "mine"
    with pytest.raises(RecordKeyError, match=key):
        one.finish(START)


@given(st.sampled_from(AFTER))
def test_no_key_that_we_set_later_can_be_taken(key: str) -> None:
    one = draft()
    one.metadata[key] = None
    with pytest.raises(RecordKeyError, match=key):
        one.finish(START)


def test_putting_the_same_value_back_is_no_change() -> None:
    one = draft()
    one.metadata["params"] = {"n": 1, "when": "2013-12-15"}
    one.metadata = dict(reversed(one.metadata.items()))
    assert one.finish(START)["params"] == {"when": "2013-12-15", "n": 1}


def test_what_the_user_does_to_the_dict_later_does_not_reach_the_record() -> None:
    one = draft()
    one.metadata["list"] = mine = [1]
    record = one.finish(START)
    mine.append(2)
    assert record["list"] == [1]


def test_a_reference_is_never_a_copy() -> None:
    made = {"task_id": "T_1", "task_hash": "ff", "run": {"id": "r"}, "input": {"deep": "copy"}, "output": {"size": 1}}
    description = {"type": "LocalFileTarget", "path": "/a", "size": 1, "digest": {"sha256": "0"}, "mtime_ns": 5}
    told = reference(description, made, "/a.metadata.json")
    assert told == {
        "type": "LocalFileTarget",
        "path": "/a",
        "size": 1,
        "digest": {"sha256": "0"},
        "task_id": "T_1",
        "task_hash": "ff",
        "run": "r",
        "metadata_path": "/a.metadata.json",
    }
    assert reference(description, None, None)["mtime_ns"] == 5


def test_moments_are_told_in_utc() -> None:
    there = datetime(2013, 12, 15, 12, tzinfo=timezone(timedelta(hours=2)))
    assert iso(there) == "2013-12-15T10:00:00.000000+00:00"

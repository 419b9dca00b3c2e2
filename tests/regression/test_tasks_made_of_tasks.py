"""Rule: a task is required wherever it stands in a value; what cannot become one is refused when it is written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superluigi import apply, cached, collect, compute, grid, task
from superluigi.errors import DefinitionError


@task
def number(n: int) -> int:
    return n


@task
def total(of: set[int], more: Any = None) -> int:
    return sum(of) + sum(sum(part) for part in more or ())


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_tasks_in_sets_are_required_and_give_their_values(tmp_path: Path, executor: str) -> None:
    made = total({number(1), number(2)}, more=[frozenset({number(3), 4})])
    assert {str(one) for one in made.deps()} == {str(number(n)) for n in (1, 2, 3)}
    assert compute(made, store=tmp_path, executor=executor) == 10
    assert compute({number(5)}, store=tmp_path) == {5}
    assert compute(collect({"a": {number(6)}}), store=tmp_path) == {"a": {6}}


def counting_down(step: int) -> Callable[[int], int]:
    def down(n: int) -> int:
        return n if n <= 0 else down(n - step)

    return down


def in_turns(step: int) -> Callable[[int], str]:
    def one(n: int) -> str:
        return other(n - step) if n > 0 else "one"

    def other(n: int) -> str:
        return one(n - step) if n > 0 else "other"

    return one


def test_a_function_that_closes_over_itself_is_applied_and_known_by_its_code(tmp_path: Path) -> None:
    assert compute(apply(counting_down(2), number(3)), store=tmp_path) == -1
    assert compute(apply(in_turns(1), number(3)), store=tmp_path) == "other"
    for make in (counting_down, in_turns):
        ids = [apply(make(step), number(3)).task_id for step in (1, 1, 2)]
        assert ids[0] == ids[1] != ids[2]


def test_rows_of_an_array_are_points_of_an_axis_as_they_are() -> None:
    seen = grid(lambda row: row, row=np.eye(2))
    assert [row.tolist() for row in seen] == [[1.0, 0.0], [0.0, 1.0]]
    assert grid(number, n=np.arange(2)) == [number(0), number(1)]


def with_more(self: object, more: int) -> int:
    return more


async def awaited(self: object) -> int:
    return 1


@pytest.mark.parametrize("method", [with_more, awaited, property(with_more), functools.partial(with_more), 1])
def test_what_is_no_method_of_one_value_is_not_cached(method: Any) -> None:
    with pytest.raises(DefinitionError, match=r"@cached\('value.json'\) keeps one value"):
        cached("value.json")(method)


def test_a_method_with_arguments_that_need_not_be_given_is_cached() -> None:
    def value(self: object, path: Path, more: int = 1) -> None: ...

    assert cached("value.json")(value).name == "value.json"


def test_an_argument_has_no_name_that_every_function_has() -> None:
    def applied(function: int) -> int:
        return function

    with pytest.raises(DefinitionError, match="'function' has a meaning"):
        task(applied)

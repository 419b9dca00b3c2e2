"""Rule: a value is refused or it is itself, also when a task whose value has the same text is there already."""

from __future__ import annotations

import enum
import pathlib
from typing import Any, Literal, NamedTuple

import pydantic
import pytest

from superluigi.errors import DefinitionError, ParameterError
from superluigi.parameters import Param
from superluigi.tasks import Task


class Rights(enum.IntFlag, boundary=enum.KEEP):
    READ = 1
    WRITE = 2


class Bits(enum.Flag):
    ALL = 7


class Nameless(enum.Enum):
    pass


class Chain(NamedTuple):
    value: int
    rest: Chain | None = None


class Pair(NamedTuple):
    rights: Rights
    more: int = 0


class Model(pydantic.BaseModel):
    rights: Any = None


class Few(NamedTuple):
    chain: Chain
    others: list[Chain] = []


def task_class(annotation: Any) -> Any:
    return type(Task)("Made", (Task,), {"__annotations__": {"x": Param[annotation]}, "__module__": __name__})


@pytest.mark.parametrize(
    ("annotation", "first", "other"),
    [
        (Rights, Rights.READ, Rights(9)),
        (Bits, Bits(0), Bits(2)),
        (list[Rights], [Rights.WRITE], [Rights(10)]),
        (dict[str, Rights], {"a": Rights(0)}, {"a": Rights(8)}),
        (Pair, Pair(Rights.READ), Pair(Rights(9))),
        (Rights | int, Rights.READ, Rights(9)),
        (Any, (Rights.READ,), (Rights(9),)),
        (Model, Model(rights=Rights.READ), Model(rights=Rights(9))),
    ],
    ids=lambda given: f"{given}"[:40],
)
def test_a_value_is_refused_whether_or_not_another_has_its_text(annotation: Any, first: Any, other: Any) -> None:
    made = task_class(annotation)
    try:
        alone = made(x=other).x
    except ParameterError as error:
        alone, said = None, str(error)
    task = task_class(annotation)(x=first)
    if alone is None:
        with pytest.raises(ParameterError) as refused:
            type(task)(x=other)
        assert "its text gives back" in said and str(refused.value) == said
    else:
        assert type(task)(x=other).x == alone == other
    assert type(task)(x=first) is task and task.x == first


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Nameless, "Nameless has no members"),
        (enum.Enum, "Enum has no members"),
        (list[enum.Flag], "Flag has no members"),
        (Literal[b"x"], r"bytes among its choices"),
        (Literal["x", b"x"] | None, r"bytes among its choices"),
    ],
    ids=str,
)
def test_an_annotation_that_has_no_texts_is_refused_when_it_is_written(annotation: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        task_class(annotation)


@pytest.mark.parametrize("annotation", [Chain, list[Chain], dict[str, Chain], Few, Any, Chain | int], ids=str)
def test_a_named_tuple_may_hold_others_of_its_kind(annotation: Any) -> None:
    chain = Chain(1, Chain(2))
    given: Any = {list[Chain]: [chain], dict[str, Chain]: {"a": chain}, Few: Few(chain, [chain])}.get(annotation, chain)
    made = task_class(annotation)(x=given)
    again = type(made).from_str_params(made.to_str_params())
    assert made.x == again.x == given and again.task_id == made.task_id
    assert type(made.x) is type(again.x)


@pytest.mark.parametrize("annotation", [pathlib.Path, pathlib.PurePath, Any, list[pathlib.Path]], ids=str)
def test_a_path_of_another_system_is_refused(annotation: Any) -> None:
    path = pathlib.PureWindowsPath("c:\\a")
    with pytest.raises(ParameterError, match="a path of this system, which a PureWindowsPath is not"):
        task_class(annotation)(x=[path] if annotation == list[pathlib.Path] else path)

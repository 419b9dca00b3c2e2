"""Rule: identity is the text, and the text is the value; equal values that read differently are different tasks."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import subprocess
import sys
import textwrap
import uuid
import zoneinfo
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Optional, TypedDict

import annotated_types
import hypothesis
import luigi
import numpy
import pandas
import pydantic
import pytest
from hypothesis import strategies as st
from luigi.task_register import Register
from typing_extensions import NotRequired

from superluigi import compute, run_task, task
from superluigi.errors import DefinitionError, ParameterError
from superluigi.parameters import IgnoreDefault, Meta, Param, Parameter
from superluigi.parameters.adapters.content import same
from superluigi.parameters.checked import Frozen
from superluigi.tasks import AtomicTaskWithMetadata, Task

UTC = datetime.timezone.utc
EAST = datetime.timezone(datetime.timedelta(hours=1))
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = 1


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    ALL = 3


class Point(NamedTuple):
    x: int
    y: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plain:
    lr: float = 0.1
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Tree:
    value: int
    left: Tree | None = None
    below: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Odd:
    given: int
    hidden: int = dataclasses.field(default=0, repr=False, compare=False)
    made: int = dataclasses.field(default=0, init=False)
    factor: dataclasses.InitVar[int] = 1

    def __post_init__(self, factor: int) -> None:
        object.__setattr__(self, "made", self.given * factor)


class Opt(pydantic.BaseModel):
    name: str = ""


class Adam(Opt):
    beta: float = 0.9


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    optimizer: Opt = Opt()
    limit: float = 1.0
    alias: int = pydantic.Field(0, alias="aka")
    left_out: int = pydantic.Field(0, exclude=True)
    tags: set[str] = set()
    twice: int = 0
    _private: int = 0

    @pydantic.field_validator("twice")
    @classmethod
    def doubled(cls, value: int) -> int:
        return 2 * value


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


ZONES = st.sampled_from([None, UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=30)), BERLIN])
DECIMALS = st.decimals().filter(lambda value: not value.is_snan())
TIMES = st.times(timezones=ZONES).map(lambda value: value.replace(fold=0))
MOMENTS = st.datetimes(timezones=ZONES).map(lambda value: value.replace(fold=0)) | st.builds(
    datetime.datetime, st.just(2024), st.just(10), st.just(27), st.just(2), st.just(30), tzinfo=st.just(BERLIN),
    fold=st.sampled_from([0, 1]),
)  # fmt: skip
TEXT = st.text(max_size=8) | st.sampled_from(["1", "None", "null", "true", '"', "$task", "", " ", "1e5", "(1,)", "NaN"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.dates(), MOMENTS, st.timedeltas(),
    TIMES, DECIMALS, st.uuids(), st.binary(max_size=6), st.sampled_from(Colour),
    st.sampled_from(Level), st.builds(Path, st.sampled_from(["a", "../a", "/a b", "", "ä"])), st.just(BERLIN),
    st.builds(Point, st.integers(), st.floats()), st.builds(Plain, st.floats(), st.tuples(TEXT)),
    st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0), int, os.path.join]),
)  # fmt: skip
KEYS = st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.dates(), st.sampled_from(Colour))
ANYTHING = st.recursive(
    SCALARS,
    lambda items: st.one_of(
        st.lists(items, max_size=3), st.dictionaries(KEYS, items, max_size=3), st.tuples(items, items),
        st.dictionaries(TEXT, items, max_size=3),
        st.sets(st.integers() | TEXT, max_size=3), st.frozensets(st.dates() | st.uuids(), max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
MODELS = st.builds(
    Settings,
    optimizer=st.builds(Opt, name=TEXT) | st.builds(Adam, name=TEXT, beta=st.floats()),
    limit=st.floats(), aka=st.integers(), left_out=st.integers(), tags=st.sets(TEXT, max_size=3),
    twice=st.integers(-5, 5), more=st.integers() | TEXT,
)  # fmt: skip
TREES = st.recursive(
    st.builds(Tree, st.integers()),
    lambda trees: st.builds(Tree, st.integers(), st.none() | trees, st.lists(trees, max_size=2)),
    max_leaves=4,
)

TYPES: dict[str, tuple[Any, Any]] = {
    "any": (Any, ANYTHING),
    "bool": (bool, st.booleans()),
    "int": (int, st.integers()),
    "float": (float, st.floats()),
    "str": (str, TEXT),
    "date": (datetime.date, st.dates()),
    "datetime": (datetime.datetime, MOMENTS),
    "time": (datetime.time, TIMES),
    "timedelta": (datetime.timedelta, st.timedeltas()),
    "decimal": (decimal.Decimal, DECIMALS),
    "uuid": (uuid.UUID, st.uuids()),
    "bytes": (bytes, st.binary(max_size=5)),
    "path": (Path, st.builds(Path, st.sampled_from(["a", "../a", "/a b", "", "~"]))),
    "zone": (zoneinfo.ZoneInfo, st.just(BERLIN)),
    "enum": (Colour, st.sampled_from(Colour)),
    "flag": (Right, st.sampled_from([Right.READ, Right.ALL, Right(0)])),
    "literal": (Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    "optional str": (str | None, st.none() | TEXT),
    "optional date": (datetime.date | None, st.none() | st.dates()),
    "union": (int | float | str | list[int], st.integers() | st.floats() | TEXT | st.lists(st.integers())),
    "alike": (datetime.date | str | Path, st.dates() | TEXT | st.just(Path("2020-01-01")) | st.just("2020-01-01")),
    "list": (list[float], st.lists(st.floats(), max_size=4)),
    "tuple": (tuple[int, str], st.tuples(st.integers(), TEXT)),
    "tuples": (tuple[bytes, ...], st.tuples(st.binary())),
    "set": (set[str], st.sets(TEXT, max_size=4)),
    "frozenset": (frozenset[datetime.date], st.frozensets(st.dates(), max_size=3)),
    "dict": (dict[str, Any], st.dictionaries(TEXT, ANYTHING, max_size=3)),
    "dict of any": (dict[Any, int], st.dictionaries(KEYS, st.integers(), max_size=3)),
    "dict of enum": (dict[Colour, str], st.dictionaries(st.sampled_from(Colour), TEXT)),
    "dict of int": (dict[int, float], st.dictionaries(st.integers(), st.floats(), max_size=3)),
    "named tuple": (Point, st.builds(Point, st.integers(), st.floats())),
    "dataclass": (Plain, st.builds(Plain, st.floats(), st.tuples(TEXT, TEXT))),
    "tree": (Tree, TREES),
    "odd dataclass": (Odd, st.builds(Odd, st.integers(), st.integers(), factor=st.integers(0, 3))),
    "model": (Settings, MODELS),
    "models": (list[Settings], st.lists(MODELS, max_size=2)),
}  # fmt: skip


def task_class(annotation: Any, flavour: Any = Param) -> Any:
    """A class with one parameter `x` of this annotation."""
    return type(Task)("Made", (Task,), {"__annotations__": {"x": flavour[annotation]}, "__module__": __name__})


def held_by(made: Any) -> Any:
    """The value of `x`, as the task holds it."""
    held = made.param_kwargs["x"]
    return held.value if isinstance(held, Frozen) else held


CLASSES = {name: task_class(annotation) for name, (annotation, _) in TYPES.items()}


@pytest.mark.parametrize("name", TYPES)
@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_any_value_comes_back_from_its_text(name: str, data: st.DataObject) -> None:
    value = data.draw(TYPES[name][1])
    cls = CLASSES[name]
    made = cls(x=value)
    again = cls.from_str_params(made.to_str_params())
    assert again.task_id == made.task_id
    held, back = held_by(made), held_by(again)
    assert same(held, back) and same(held, value), (value, held, back)
    assert cls(x=made.x).task_id == made.task_id, "what a task gives may be given to another"


@pytest.mark.parametrize("name", TYPES)
@hypothesis.settings(max_examples=20, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_a_default_goes_through_the_same_door_as_a_given_value(name: str, data: st.DataObject) -> None:
    annotation, values = TYPES[name]
    value = data.draw(values)
    body = {"__annotations__": {"x": Param[annotation]}, "x": value, "__module__": __name__}
    cls: Any = type(Task)("Made", (Task,), body)
    assert cls().task_id == CLASSES[name](x=value).task_id
    assert same(held_by(cls()), value)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(one=ANYTHING, other=ANYTHING)
def test_two_values_are_one_task_just_when_they_are_the_same(one: Any, other: Any) -> None:
    first, second = CLASSES["any"](x=one), CLASSES["any"](x=other)
    assert (first.task_id == second.task_id) is same(one, other)


EQUAL: list[tuple[Any, list[Any]]] = [
    (Any, [1, 1.0, True, decimal.Decimal(1), Level.LOW]),
    (Any, [0, 0.0, -0.0, False]),
    (Any, [(1, 2), (1, 2.0), (True, 2), [1, 2], Point(1, 2.0)]),
    (float, [0.0, -0.0]),
    (decimal.Decimal, [decimal.Decimal(text) for text in ("1", "1.0", "1.00")]),
    (datetime.datetime, [
        datetime.datetime(2020, 1, 1, 23, 30, tzinfo=UTC),
        datetime.datetime(2020, 1, 2, 0, 30, tzinfo=EAST),
        datetime.datetime(2020, 1, 2, 0, 30, tzinfo=BERLIN),
    ]),
    (datetime.datetime, [datetime.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=fold) for fold in (0, 1)]),
    (datetime.time, [datetime.time(1, tzinfo=UTC), datetime.time(2, tzinfo=EAST)]),
    (dict[str, Any], [{"a": 1}, {"a": 1.0}, {"a": True}]),
    (tuple[decimal.Decimal, ...], [(decimal.Decimal("1.0"),), (decimal.Decimal("1.00"),)]),
    (Odd, [Odd(1, 0), Odd(1, 5)]),
    (int | float | bool, [1, 1.0, True]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(EQUAL)))
@pytest.mark.parametrize("backwards", [False, True])
def test_equal_values_that_read_differently_are_different_tasks(number: int, backwards: bool) -> None:
    annotation, values = EQUAL[number]
    cls = task_class(annotation)
    tasks = [cls(x=value) for value in (reversed(values) if backwards else values)]
    assert len({one.task_id for one in tasks}) == len(values)
    for one, value in zip(reversed(tasks) if backwards else tasks, values, strict=True):
        assert same(held_by(one), value)


def test_luigis_own_parameters_give_the_value_that_was_given() -> None:
    class Loose(Task):
        x = luigi.ListParameter()
        y = luigi.FloatParameter(default=0.0)

    for value in ([1], [1.0], [True], [0.0], [-0.0]):
        assert json.dumps(Loose(x=value).x) == json.dumps(value)
    assert math.copysign(1, Loose(x=[], y=-0.0).y) == -1 and math.copysign(1, Loose(x=[]).y) == 1
    Register.disable_instance_cache()
    try:
        assert Loose(x=[]) is not Loose(x=[]) and Loose(x=[]) == Loose(x=[])
    finally:
        Register.clear_instance_cache()
    assert Loose(x=[1]) is Loose(x=(1,))


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Login, Login(password=pydantic.SecretStr("one")), "secret password"),
        (datetime.datetime, datetime.datetime(2020, 1, 1, fold=1), "fold"),
        (datetime.datetime, pandas.Timestamp("2020-01-01 00:00:00.000000001"), "nanoseconds"),
        (datetime.timedelta, pandas.Timedelta(1, "ns"), "nanoseconds"),
        (Any, lambda: 1, "imported"),
        (Any, object(), "written as text"),
        (dict[Path, int], {"a": 1, Path("a"): 2}, "keys differ"),
        (float, "1", "float"),
        (list[float], [10**400], "too large"),
        (int, Level.LOW, "int"),
    ],
)
def test_what_no_text_can_hold_is_refused_with_the_parameter_named(annotation: Any, value: Any, words: str) -> None:
    for flavour in (Param, Meta):
        with pytest.raises(ParameterError, match=rf"'x'[\s\S]*{words}"):
            task_class(annotation, flavour)(x=value)
    with pytest.raises(ParameterError, match=words):
        body = {"__annotations__": {"x": Param[annotation]}, "x": value, "__module__": __name__}
        type(Task)("Made", (Task,), body)()


@pytest.mark.parametrize("text", ['"', '"a" b', '"\\'])
def test_a_text_that_begins_like_a_quoted_one_is_itself(text: str) -> None:
    assert task_class(str | None).from_str_params({"x": text}).x == text


@pytest.mark.parametrize("text", ["hello world", "YQ", "Y!Q=="])
def test_a_text_that_is_no_code_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        task_class(bytes).from_str_params({"x": text})


def test_a_value_that_reads_back_as_another_is_refused_when_the_task_is_made() -> None:
    class Base(NamedTuple):
        x: int

    class Shifting(Base):
        def __new__(cls, x: int) -> Shifting:
            return super().__new__(cls, x + 1)

    with pytest.raises(ParameterError, match=r"'x'[\s\S]*its text gives back"):
        task_class(Shifting)(x=Shifting(1))


class Row(TypedDict):
    day: datetime.date
    below: NotRequired[list[Row]]


class Bare(NamedTuple):
    of: Any
    n: int = 0


def test_the_keys_of_a_typed_dict_are_of_their_kinds_whoever_writes_them() -> None:
    cls = task_class(Row)
    day = datetime.date(2020, 1, 1)
    made = cls(x={"day": day, "below": [{"day": day}]})
    by_hand = cls.from_str_params({"x": '{"below": [{"day": "2020-01-01"}], "day": "2020-01-01"}'})
    assert by_hand.x == made.x and by_hand.task_id == made.task_id
    for wrong in ({}, {"day": day, "other": 1}, {"day": "2020-01-01"}, {"day": day, "below": [{}]}):
        with pytest.raises(ParameterError, match="Row with the keys day, below"):
            cls(x=wrong)


POSITIVE = Annotated[int, pydantic.Field(gt=0)]
LIMITS: list[tuple[Any, Any, Any, str]] = [
    (POSITIVE, 1, 0, "0"),
    (list[POSITIVE], [1], [1, 0], "[1, 0]"),
    (dict[str, POSITIVE] | None, {"a": 1}, {"a": -1}, '{"a": -1}'),
    (Annotated[str, pydantic.StringConstraints(pattern="^a")], "a", "b", "b"),
    (Annotated[str, pydantic.StringConstraints(strip_whitespace=True)], "a", " a", " a"),
    (Annotated[Colour, annotated_types.Predicate(lambda it: it is Colour.RED)], Colour.RED, Colour.GREEN, "GREEN"),
]


@pytest.mark.parametrize(("annotation", "within", "beyond", "text"), LIMITS)
def test_the_limits_of_an_annotation_are_those_of_the_parameter(
    annotation: Any, within: Any, beyond: Any, text: str
) -> None:
    cls = task_class(annotation)
    assert cls(x=within).x == within
    for made in (lambda: cls(x=beyond), lambda: cls.from_str_params({"x": text})):
        with pytest.raises(ParameterError, match="'x'"):
            made()


def test_a_note_on_a_type_that_pydantic_does_not_know_limits_nothing() -> None:
    month = luigi.date_interval.Month(2020, 1)
    assert task_class(Annotated[luigi.date_interval.DateInterval, pydantic.Field(description="x")])(x=month).x == month


@pytest.mark.parametrize(
    ("annotation", "value"), [(tuple[int, ...] | list[int], [1]), (frozenset[int] | set[int], {1}), (Bare, Bare([1]))]
)
def test_what_a_task_gives_is_taken_as_what_it_is(annotation: Any, value: Any) -> None:
    made = task_class(annotation)(x=value)
    assert made.clone().task_id == made.task_id and same(held_by(type(made)(x=made.x)), value)
    assert len({made.x}) == 1, "Luigi's summary puts values into sets"


NESTED = ("Param[int] | None", "None | Param[int]", "Optional[Param[int]]", "list[Meta[int]]", "ClassVar[Param[int]]")


SAME_AND_OTHER: list[tuple[Any, Any, Any, Any]] = [
    (decimal.Decimal, decimal.Decimal("1.0"), decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    (float, 0.0, 0, -0.0),
    (float, math.nan, math.nan, 0.0),
    (datetime.datetime, datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 1, tzinfo=UTC),
     datetime.datetime(2020, 1, 1, 1, tzinfo=EAST)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "default", "equal", "other"), SAME_AND_OTHER)
def test_only_the_very_default_is_no_part_of_the_identity(
    annotation: Any, default: Any, equal: Any, other: Any
) -> None:
    body = {"__annotations__": {"x": Param[annotation, IgnoreDefault]}, "x": default, "__module__": __name__}
    cls: Any = type(Task)("Made", (Task,), body)
    bare: Any = type(Task)("Made", (Task,), {"__module__": __name__})
    assert cls().task_id == cls(x=equal).task_id == bare().task_id
    assert cls(x=other).task_id != bare().task_id


def made_with(annotation: str, default: str) -> Any:
    """A class with a parameter of this annotation, written in a module whose annotations are objects."""
    names = {"Param": Param, "Meta": Meta, "Optional": Optional, "ClassVar": ClassVar, "Task": Task}
    scope: dict[str, Any] = {**names, "__name__": __name__}
    source = f"class Made(Task):\n    x: {annotation} = {default}"
    exec(compile(source, "made", "exec", dont_inherit=True), scope)
    return scope["Made"]


@pytest.mark.parametrize("written", NESTED)
@pytest.mark.parametrize("quoted", [0, 1, 2])
def test_what_makes_a_parameter_is_not_inside_of_another_type(written: str, quoted: int) -> None:
    for _ in range(quoted):
        written = repr(written)
    with pytest.raises(DefinitionError, match="stand outside of all else"):
        made_with(written, "None")


@pytest.mark.parametrize("written", ["Param[int]", "'Param[int]'", repr("'Param[int]'")])
def test_an_annotation_in_quotes_makes_a_parameter_too(written: str) -> None:
    assert made_with(written, "1")(x=2).x == 2


def test_choices_of_one_text_are_refused_when_they_are_written() -> None:
    with pytest.raises(DefinitionError, match="same text"):
        task_class(Literal["RED", Colour.RED])


def test_fields_are_of_the_kinds_that_were_declared() -> None:
    assert same(task_class(Plain)(x=Plain(1)).x, Plain(1.0)), "what the text says"
    given: Any = [1]
    made = task_class(Any)(x={"a": given})
    given.append(2)
    assert made.x == {"a": [1]}
    tree = Tree(1, below=[Tree(2)])
    other = task_class(Tree)(x=tree)
    tree.below.append(Tree(3))
    other.x.below.append(Tree(4))
    assert other.x == Tree(1, below=[Tree(2)])


def test_derived_classes_of_plain_types_become_these() -> None:
    class Words(str):
        __slots__ = ()

    cls = task_class(Any)
    assert type(task_class(str)(x=Words("a")).x) is str
    held = [held_by(cls(x=value)) for value in (OrderedDict(a=1), numpy.int64(3), [numpy.float32(0.5)])]
    assert same(held, [{"a": 1}, 3, [0.5]])
    assert same(task_class(datetime.datetime)(x=pandas.Timestamp("2020-01-01", tz="Europe/Berlin")).x,
                datetime.datetime(2020, 1, 1, tzinfo=BERLIN))  # fmt: skip
    assert same(task_class(datetime.date)(x=datetime.datetime(2020, 1, 1)).x, datetime.date(2020, 1, 1))


class Steps(NamedTuple):
    by_name: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Plan:
    steps: dict[int, dict[str, int]]


class Pipeline(pydantic.BaseModel):
    steps: dict[str, Any] = {"b": 1, "a": 2}


def orders(value: Any) -> list[list[object]]:
    """The keys of every dict in `value`, in the order in which the dict gives them."""
    found: list[list[object]] = []
    inside: list[Any] = []
    if isinstance(value, dict):
        found, inside = [list(value)], list(value.values())
    elif isinstance(value, (list, tuple)):
        inside = list(value)
    elif isinstance(value, (Plan, Pipeline)):
        inside = [value.steps]
    return found + [keys for part in inside for keys in orders(part)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[str, int], {"b": 1, "a": 2, "é": 3, "Z": 4}),
        (dict[int, float], {10: 0.1, 2: 0.2, 1: 0.3}),
        (dict[str, Any], {"b": {"y": 1, "x": [{"q": 1, "p": ({"d": 1, "c": 2},)}]}, "a": 0}),
        (dict[int | str | None, int], {"b": 1, None: 2, 3: 3, "a": 4}),
        (list[dict[Colour, int]], [{Colour.RED: 1, Colour.GREEN: 2}]),
        (Steps, Steps({"b": 1, "a": 2})),
        (Plan, Plan({10: {"b": 1, "a": 2}, 9: {}})),
        (Pipeline, Pipeline(steps={"b": {"y": 1, "x": 2}, "a": 0})),
        (Pipeline, Pipeline()),
        (Any, [{"b": Plan({2: {}, 1: {}}), "a": 0}]),
    ],
    ids=repr,
)
def test_a_dict_has_one_order_whoever_made_it(kind: Any, value: Any) -> None:
    cls = task_class(kind)
    made = cls(x=value)
    text = made.to_str_params()
    Register.clear_instance_cache()
    again = cls.from_str_params(text)
    assert again.task_id == made.task_id
    assert orders(again.x) == orders(made.x) and same(made.x, again.x)


def test_whole_numbers_as_keys_are_in_their_order() -> None:
    assert list(task_class(dict[int, str])(x={10: "c", 2: "b", 1: "a"}).x) == [1, 2, 10]


class GivesItsParameter(AtomicTaskWithMetadata):
    x: Param[Any]

    def run(self) -> Any:
        return self.x


class GivesItsColumns(AtomicTaskWithMetadata):
    x: Param[list[str]]

    def run(self) -> list[str]:
        return self.x


@pytest.mark.parametrize("value", [[], [1, [2]], {"a": [1]}, {2: {"b": 1}}, {1, 2}, ([1], {}), (1, 2), "a"], ids=repr)
def test_the_value_of_a_parameter_can_be_returned(value: Any, tmp_path: Path) -> None:
    assert same(compute(GivesItsParameter(x=value), store=str(tmp_path)), value)


def test_the_value_of_a_parameter_can_be_returned_as_json(tmp_path: Path) -> None:
    assert same(compute(GivesItsColumns(x=["b", "a"]), store=str(tmp_path)), ["b", "a"])


def test_a_deep_tree_costs_its_size_not_two_to_its_depth() -> None:
    tree = Tree(0)
    for number in range(40):
        tree = Tree(number, tree)
    made = task_class(Tree)(x=tree)
    assert same(type(made).from_str_params(made.to_str_params()).x, tree)


def test_the_same_text_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "ids.py"
    script.write_text(
        textwrap.dedent("""
            import dataclasses, enum, typing
            import pydantic
            from superluigi.parameters import Param
            from superluigi.parameters.functions import FunctionParameter
            from superluigi.tasks import AtomicTaskWithMetadata, Task

            class Right(enum.Flag):
                READ = 1
                WRITE = 2
                ALL = 3

            class Settings(pydantic.BaseModel):
                tags: set[str]
                more: dict[str, frozenset[str]]

            @dataclasses.dataclass(frozen=True)
            class Plain:
                names: frozenset[str]
                settings: Settings

            class Made(Task):
                any: Param[typing.Any]
                words: Param[set[str]]
                settings: Param[Settings]
                plain: Param[Plain]
                function = FunctionParameter()

            words = {"a", "b", "c", "d", "e", "f"}
            settings = Settings(tags=words, more={"k": words})
            made = Made(any=[words, frozenset(words), {"k": words}, Right.ALL], words=words, settings=settings,
                        plain=Plain(words, settings), function=lambda x: x in {"a", "b", "c", "d", "e", "f"})
            print(made.task_id, made.to_str_params())
        """)
    )
    said = {
        subprocess.run(
            [sys.executable, script], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1 and said.pop()


TWO = {
    "sales": "from superluigi import task\n@task\ndef load(n: int = 1) -> list: return ['sales']\n",
    "weather": "from superluigi import task\n@task\ndef load(n: int = 1) -> list: return ['weather']\n",
}


@pytest.fixture
def two_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    for name, text in TWO.items():
        (tmp_path / f"{tmp_path.name}_{name}.py".replace("-", "_")).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    import importlib

    first, second = (importlib.import_module(f"{tmp_path.name}_{name}".replace("-", "_")) for name in TWO)
    return first, second


@task
def both(a: list[Any], b: list[Any]) -> list[Any]:
    return [a, b]


class Once(Task):
    done: ClassVar[set[str]] = set()

    def complete(self) -> bool:
        return self.task_id in self.done

    def run(self) -> None:
        self.done.add(self.task_id)


def test_two_classes_of_one_id_are_refused_in_one_graph(two_modules: Any) -> None:
    first, second = two_modules
    with pytest.raises(DefinitionError, match=r"sales\.load[\s\S]*weather\.load[\s\S]*task_namespace"):
        both(first.load(), second.load())

    class Plain1(luigi.WrapperTask):
        def requires(self) -> Any:
            return [first.load(), second.load()]

    with pytest.raises(DefinitionError, match=r"sales\.load[\s\S]*weather\.load"):
        run_task(Plain1())


def test_two_classes_of_one_id_are_refused_in_two_runs(two_modules: Any) -> None:
    first, second = two_modules
    assert compute(first.load()) == ["sales"]
    assert compute(second.load(n=2)) == ["weather"], "another task, another id"
    with pytest.raises(Exception, match=r"sales\.load[\s\S]*weather\.load"):
        compute(second.load())
    assert compute(first.load()) == ["sales"]


def test_classes_that_functions_make_are_refused_in_one_graph_only(tmp_path: Path) -> None:
    def family() -> Any:
        class Local(Once):
            pass

        return Local()

    def other() -> Any:
        class Local(Once):
            pass

        return Local()

    class Top(luigi.WrapperTask):
        tasks: Any = None
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return self.tasks

    Top.tasks = [family(), family()]
    run_task(Top(n=1))
    Once.done.clear()
    Top.tasks = [family(), other()]
    with pytest.raises(DefinitionError, match=r"family\.<locals>\.Local and [\s\S]*other\.<locals>\.Local"):
        run_task(Top(n=2))


def test_a_yielded_task_of_another_class_with_a_known_id_is_refused(two_modules: Any) -> None:
    first, second = two_modules

    class Yields(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return first.load()

        def run(self) -> Any:
            yield second.load()
            return 1

    with pytest.raises(Exception, match=r"sales\.load[\s\S]*weather\.load"):
        run_task(Yields())


def test_a_module_that_is_loaded_again_has_the_same_tasks(two_modules: Any) -> None:
    import importlib

    first, _ = two_modules
    assert compute(first.load()) == ["sales"]
    importlib.reload(first)
    assert compute(first.load()) == ["sales"]
    exec(TWO["sales"], vars(sys.modules["__main__"]))
    try:
        sys.modules["__main__"].load.__module__ = first.__name__
        assert compute(first.load()) == ["sales"]
    finally:
        del sys.modules["__main__"].load


def test_a_text_parameter_takes_a_name_as_it_is() -> None:
    class Named(Task):
        x = Parameter(default="b")

    assert Named(x="1") is Named("1") and Named().x == "b"

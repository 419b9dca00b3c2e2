"""Annotations become the Luigi parameters that a careful user would have chosen; mistakes are named at once."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NewType, TypeVar

import luigi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superluigi.errors import DefinitionError, ParameterError
from superluigi.parameters import (
    Const,
    DateParameter,
    IgnoreDefault,
    IntParameter,
    Meta,
    Param,
    Requires,
    references,
    resolving,
)
from superluigi.parameters.checked import parameter_for
from superluigi.tasks import AtomicTaskWithMetadata, Task


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


UserId = NewType("UserId", int)


@dataclasses.dataclass(frozen=True)
class Optim:
    rate: float = 0.1
    layers: tuple[int, ...] = (8, 8)
    when: datetime.date | None = None


class Pair(NamedTuple):
    a: int
    b: str


class Train(AtomicTaskWithMetadata):
    epochs: Param[int] = 100
    device: Meta[str] = "cpu"
    kind: Param[Literal["a", "b"]] = "a"
    optim: Param[Optim] = Optim()


EVERY_KIND: list[tuple[Any, Any, type]] = [
    (int, 3, luigi.IntParameter),
    (float, 0.1, luigi.FloatParameter),
    (bool, True, luigi.BoolParameter),
    (str, "x y", luigi.StrParameter),
    (datetime.date, datetime.date(2013, 1, 2), luigi.DateParameter),
    (datetime.datetime, datetime.datetime(2013, 1, 2, 3, 4, 5, 6), luigi.DateSecondParameter),
    (datetime.datetime, datetime.datetime(2013, 1, 2, tzinfo=datetime.timezone.utc), luigi.DateSecondParameter),
    (datetime.timedelta, datetime.timedelta(days=-3, microseconds=5), luigi.TimeDeltaParameter),
    (datetime.timedelta, datetime.timedelta(weeks=3, seconds=5), luigi.TimeDeltaParameter),
    (Path, Path("a b/ü"), luigi.PathParameter),
    (Color, Color.BLUE, luigi.EnumParameter),
    (Literal["a", "b"], "b", luigi.ChoiceParameter),
    (Literal[1, 2], 2, luigi.ChoiceParameter),
    (Literal["a", 1, None], 1, luigi.Parameter),
    (list[int], [1, 2], luigi.ListParameter),
    (list[Color], [Color.RED], luigi.ListParameter),
    (list[list[datetime.date]], [[datetime.date(2013, 1, 2)], []], luigi.ListParameter),
    (tuple[int, ...], (1, 2), luigi.TupleParameter),
    (tuple[int, str], (1, "a"), luigi.TupleParameter),
    (Pair, Pair(1, "a"), luigi.TupleParameter),
    (set[str], {"b", "a"}, luigi.ListParameter),
    (frozenset[int], frozenset({1}), luigi.ListParameter),
    (dict[str, float], {"b": 1.0, "a": 2.0}, luigi.DictParameter),
    (dict[int, Path], {3: Path("x")}, luigi.DictParameter),
    (dict[str, Any], {"a": [1, {"b": None}]}, luigi.DictParameter),
    (int | None, None, luigi.IntParameter),
    (int | None, 0, luigi.IntParameter),
    (str | None, None, luigi.StrParameter),
    (str | None, "", luigi.StrParameter),
    (str | None, '"', luigi.StrParameter),
    (list[int] | None, None, luigi.Parameter),
    (int | str, "5", luigi.Parameter),
    (int | str, 5, luigi.Parameter),
    (Optim, Optim(0.5, (), datetime.date(2013, 1, 2)), luigi.Parameter),
    (decimal.Decimal, decimal.Decimal("1.10"), luigi.Parameter),
    (uuid.UUID, uuid.UUID(int=5), luigi.Parameter),
    (bytes, b"\x00\xff", luigi.Parameter),
    (type[Train], Train, luigi.Parameter),
    (type, int, luigi.Parameter),
    (UserId, 3, luigi.IntParameter),
    (list[UserId], [3], luigi.ListParameter),
    (Access, Access.READ, luigi.Parameter),
    (Access, Access.READ | Access.WRITE, luigi.Parameter),
    (Access | None, Access(0), luigi.Parameter),
    (Any, (1, {"x": datetime.date(2013, 1, 2)}, Color.RED, Optim(), {1}, b"b", 1.0), luigi.Parameter),
]


@pytest.mark.parametrize(
    ("annotation", "value", "classic"), EVERY_KIND, ids=[str(number) for number in range(len(EVERY_KIND))]
)
def test_every_kind_of_annotation_is_a_luigi_parameter_and_round_trips_as_text(
    annotation: Any, value: Any, classic: type
) -> None:
    class T(luigi.Task):
        x = parameter_for(annotation)

    task = T(x=value)
    assert isinstance(dict(T.get_params())["x"], classic)
    assert task.x == value and isinstance(task.x, type(value))
    again = T.from_str_params(task.to_str_params())
    assert again == task and again.x == value and isinstance(again.x, type(value))
    assert pickle.loads(pickle.dumps(parameter_for(annotation).checked(value))) == parameter_for(annotation).checked(
        value
    )
    assert len({task.x, again.x}) == 1, "Luigi puts values into sets"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=plain)
def test_any_value_that_is_taken_comes_back_from_its_text_with_its_types(value: Any) -> None:
    parameter = parameter_for(Any)
    again = parameter.parse(parameter.serialize(parameter.normalize(value)))
    assert repr(again) == repr(value) or again == value


@settings(max_examples=60, deadline=None)
@given(one=plain, other=plain)
def test_two_values_have_the_same_text_only_if_they_are_the_same(one: Any, other: Any) -> None:
    parameter = parameter_for(Any)
    if parameter.serialize(parameter.normalize(one)) == parameter.serialize(parameter.normalize(other)):
        assert one == other


def test_truth_numbers_and_floats_are_three_tasks_not_one() -> None:
    class T(luigi.Task):
        x = parameter_for(Any)

    assert [T(x=x).x for x in (1, True, 1.0)] == [1, True, 1.0]
    assert len({T(x=x).task_id for x in (1, True, 1.0)}) == 3
    assert [type(T(x=x).x) for x in (1, True, 1.0)] == [int, bool, float]


def test_annotated_and_classic_parameters_mix_in_one_class() -> None:
    class Mixed(Task):
        day = DateParameter()
        n: Param[int]
        m = IntParameter(default=2)

    task = Mixed(day=datetime.date(2013, 1, 1), n=1)
    assert (task.day, task.n, task.m) == (datetime.date(2013, 1, 1), 1, 2)
    assert set(task.to_str_params()) == {"day", "n", "m"}


def test_a_classic_parameter_may_be_the_default_of_an_annotation() -> None:
    class T(Task):
        n: Meta[int] = IntParameter(default=4, description="how many")

    assert T().n == 4 and T(n=5).task_id == T().task_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epochs": "5"}, ["Train", "'epochs'", "'5'", "str", "int"]),
        ({"epochs": True}, ["Train", "'epochs'", "True", "bool"]),
        ({"kind": "c"}, ["Train", "'kind'", "'c'", "'a', 'b'"]),
        ({"optim": Optim(rate="fast")}, ["Train", "'optim'", "rate", "float", "fast"]),  # type: ignore[arg-type]
        ({"optim": 3}, ["Train", "'optim'", "3", "Optim"]),
        ({"epoch": 5}, ["Train", "epoch=5", "Did you mean 'epochs'", "device"]),
    ],
)
def test_a_wrong_value_or_name_is_an_error_that_names_class_parameter_and_value(
    arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ParameterError) as caught:
        Train(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_parameter_is_named_also_in_luigis_own_words() -> None:
    class T(Task):
        n: Param[int]
        flag: Param[bool]

    with pytest.raises(ParameterError, match=r"T: the parameter 'n' was not given"):
        T(flag=True)
    with pytest.raises(luigi.parameter.MissingParameterException):
        T(n=1)  # Luigi would have invented False
    with pytest.raises(luigi.parameter.UnknownParameterException):
        T(n=1, flag=True, other=3)
    with pytest.raises(ParameterError, match="was given 3 values"):
        T(1, True, 3)
    with pytest.raises(ParameterError, match="twice"):
        T(1, n=1, flag=True)


def test_a_default_that_its_own_annotation_refuses_is_an_error_at_once() -> None:
    with pytest.raises(ParameterError, match=r"T\.n = 'x'.*int"):

        class T(Task):
            n: Param[int] = "x"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        (Color, "GREEN", r"a member of Color \(RED, BLUE\)"),
        (Color | None, "GREEN", r"a member of Color \(RED, BLUE\)"),
        (Access, "READ|RUN", r"a member of Access \(READ, WRITE\)"),
        (datetime.timedelta, "1x", "such as '2 h 30 m'"),
        (list[int], "1,2", r"list\[int\], written as JSON"),
        (Optim, '{"lrr": 1}', "Optim with some of the fields rate, layers, when, written as JSON"),
    ],
)
def test_a_text_that_cannot_be_read_says_what_can(annotation: Any, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parameter_for(annotation).parse(text)


@dataclasses.dataclass
class Mutable:
    a: int = 1


@pytest.mark.parametrize("annotation", ["Param[Iterator[int]]", "Param[Mutable]", "Param[Unknown]", "Param[int, 3]"])
def test_an_annotation_that_is_no_parameter_is_an_error_at_once(annotation: str) -> None:
    with pytest.raises(DefinitionError):
        type(Task)("T", (Task,), {"__module__": __name__, "__annotations__": {"x": annotation}})
    assert Iterator is not None


def test_other_annotations_are_left_alone() -> None:
    class T(Task):
        x: Param[int] = 1
        y: Unknown = 3  # type: ignore[name-defined]  # noqa: F821
        z: int = 4

    assert [name for name, _ in T.get_params()] == ["x"]


def test_names_of_the_function_around_the_class_can_be_used() -> None:
    class Local(enum.Enum):
        A = 1

    class T(Task):
        x: Param[Local] = Local.A

    assert T().x is Local.A


def test_meta_parameters_are_no_part_of_the_identity() -> None:
    assert Train(device="gpu").task_id == Train().task_id
    assert Train(device="gpu").task_hash == Train().task_hash
    assert Train(device="gpu").device == "gpu"


def test_a_parameter_added_with_ignore_default_leaves_the_identity_as_it_was() -> None:
    def versions() -> Iterator[Any]:
        class Learn(Task):
            rate: Param[float] = 0.1

        yield Learn

        class Learn(Task):  # type: ignore[no-redef]
            rate: Param[float] = 0.1
            dropout: Param[float, IgnoreDefault] = 0.0

        yield Learn

    before, after = versions()
    assert after().task_id == before().task_id and after().task_hash == before().task_hash
    assert after(dropout=0.5).task_id != before().task_id
    with pytest.raises(DefinitionError, match="needs a default"):

        class Wrong(Task):
            x: Param[int, IgnoreDefault]


def test_a_constant_refuses_another_value_and_is_part_of_the_identity() -> None:
    def version(value: int) -> Any:
        class Clean(Task):
            version: Param[int, Const] = value

        return Clean

    assert version(1)().task_id != version(2)().task_id
    assert version(1)(version=1).task_id == version(1)().task_id
    with pytest.raises(ParameterError, match=r"'version' is 3 .*constant 1"):
        version(1)(version=3)

    class Other(Task):
        version: Const[int] = 4  # type: ignore[valid-type]

    assert Other().version == 4
    with pytest.raises(ParameterError):
        Other(version=5)


def test_lists_and_dicts_come_as_fresh_copies() -> None:
    class T(Task):
        xs: Param[list[int]] = [1]
        options: Param[dict[str, list[int]]] = {"a": [1]}

    task = T()
    task.xs.append(2)
    task.options["a"].append(2)
    assert task.xs == [1] and task.options == {"a": [1]}
    assert isinstance(task.xs, list) and isinstance(task.options, dict)
    assert T(options={"a": [1], "b": []}) == T(options={"b": [], "a": [1]}), "a dict's order is no identity"


def test_pydantic_models_are_parameters_and_private_copies() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Settings(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        rate: float = 0.1
        day: datetime.date = datetime.date(2013, 1, 1)

    class T(luigi.Task):
        x = parameter_for(Settings)

    given = Settings()
    task = T(x=given)
    given.rate = 5
    assert task.x.rate == 0.1
    again = T.from_str_params(task.to_str_params())
    assert again == task and again.x == Settings()
    with pytest.raises(ValueError, match="Settings"):
        T(x={"rate": 1})


class Rates:
    rate: Param[float] = 0.1
    steps: Param[int]


class Mixed(Rates, Task):
    size: Param[int] = 1


class MixedAgain(Mixed):
    rate = 0.5


def test_a_mix_in_that_is_no_task_brings_its_parameters() -> None:
    assert (Mixed(steps=3).rate, Mixed(steps=3).steps) == (0.1, 3)
    assert MixedAgain(steps=3).rate == 0.5
    with pytest.raises(ParameterError, match="'steps' is '3'"):
        Mixed(steps="3")


Item = TypeVar("Item")


class Holds(Task, Generic[Item]):
    one: Param[Item]
    many: Param[list[Item]] = []
    fixed: Param[int] = 1


class HoldsDates(Holds[datetime.date]):
    pass


def test_a_subclass_of_a_generic_class_has_parameters_of_its_type() -> None:
    day = datetime.date(2013, 1, 2)
    task = HoldsDates(one=day, many=[day], fixed=2)
    assert HoldsDates.from_str_params(task.to_str_params()) == task
    assert isinstance(dict(HoldsDates.get_params())["one"], luigi.DateParameter)
    with pytest.raises(ParameterError, match="'one' is 'x'"):
        HoldsDates(one="x")
    assert Holds(one="x").one == "x"


@pytest.mark.parametrize(
    ("name", "annotation", "said"),
    [
        ("x", "Param", r"write Param\[…\] with a type"),
        ("x", "Requires", "write Requires"),
        ("output", "Param[int]", "every task has"),
    ],
)
def test_an_annotation_that_would_be_ignored_or_break_the_task_is_an_error(
    name: str, annotation: str, said: str
) -> None:
    with pytest.raises(DefinitionError, match=said):
        type(Task)("T", (Task,), {"__module__": __name__, "__annotations__": {name: annotation}})


def test_validate_sees_all_parameters_before_anything_runs() -> None:
    class Span(Task):
        first: Param[int]
        last: Param[int]

        def validate(self) -> None:
            if self.first > self.last:
                raise ValueError(f"first ({self.first}) is after last ({self.last})")

    assert Span(1, 2).last == 2
    with pytest.raises(ParameterError, match=r"Span\(first=3, last=2\): first \(3\) is after last \(2\)"):
        Span(3, 2)


def test_a_subclass_overrides_a_default_and_keeps_the_place_of_the_parameter() -> None:
    class Base(Task):
        a: Param[int] = 1
        b: Param[int] = 2

    class Sub(Base):
        a = 5

    assert (Sub().a, Sub().b, Sub(7).a, Sub(7, 8).b) == (5, 2, 7, 8)
    with pytest.raises(ParameterError, match="Wrong"):

        class Wrong(Base):
            a = "x"  # type: ignore[assignment]


def test_configuration_fills_arguments_explicit_beats_config_beats_default() -> None:
    class FromConfig(Task):
        n: Param[int] = 1
        xs: Param[list[datetime.date]] = []
        flag: Param[bool] = False
        name: Param[str | None] = None
        optim: Param[Optim] = Optim()

    values = {"n": "2", "xs": '["2013-01-02"]', "flag": "true", "name": "x", "optim": '{"rate": 2, "layers": [1]}'}
    config = luigi.configuration.get_config()
    for key, value in values.items():
        config.set("FromConfig", key, value)
    try:
        task = FromConfig(n=3)
        assert (task.n, task.xs, task.flag, task.name) == (3, [datetime.date(2013, 1, 2)], True, "x")
        assert task.optim == Optim(2.0, (1,)) and FromConfig().n == 2
        config.set("FromConfig", "n", "many")
        with pytest.raises(ParameterError, match=r"FromConfig.*'n': .*'many'. Correct section \[FromConfig\]"):
            FromConfig()
    finally:
        config.remove_section("FromConfig")


class Source(Task):
    n: Param[int] = 1


class Other(Task):
    n: Param[int] = 1


class Consumer(Task):
    source: Requires[Source]
    many: Requires[list[Source]] = []
    named: Requires[dict[str, float]] = {}
    maybe: Requires[Source | None] = None


def test_required_tasks_are_parameters_written_as_ids() -> None:
    task = Consumer(source=Source(), many=[Source(2), Source(3)], named={"x": Other(5)})
    assert task.requires() == {
        "source": Source(),
        "many": [Source(2), Source(3)],
        "named": {"x": Other(5)},
        "maybe": None,
    }
    assert set(task.deps()) == {Source(), Source(2), Source(3), Other(5)}
    texts = task.to_str_params()
    assert texts["source"] == Source().task_id
    assert Consumer.from_str_params(texts) == task
    assert task.source is Source() and task.many[1].n == 3


class Layer(Task):
    left: Requires[Task]
    right: Requires[Task]


class Link(Task):
    before: Requires[Task]


@pytest.mark.parametrize("wrong", [3, None, Other(), Source, [Source()]])
def test_what_is_no_task_of_the_class_is_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match=r"Consumer.*'source'.*Source"):
        Consumer(source=wrong)


def test_a_class_in_place_of_a_task_is_told_to_be_called() -> None:
    with pytest.raises(ParameterError, match=r"Call the class: Source\(…\)"):
        Consumer(source=Source)  # type: ignore[arg-type]


def test_stand_ins_are_accepted_where_a_task_of_a_class_is_expected() -> None:
    assert Consumer(source=Const(3)).requires()["source"].result() == 3
    assert Consumer(source=Other()["key"]).deps()[0].requires() == Other()
    assert Consumer(source=Source(), many=Const([1, 2])).requires()["many"].complete()


def test_who_rebuilds_tasks_elsewhere_says_where_to_look() -> None:
    texts = {"source": "Source_unknown_here"}
    with pytest.raises(ParameterError, match="not known in this process"):
        Consumer.from_str_params(texts)
    with resolving({"Source_unknown_here": Source(7)}.get):
        assert Consumer.from_str_params(texts).source == Source(7)


def test_the_command_line_can_name_a_required_task() -> None:
    assert Consumer.from_str_params({"source": "Source"}).source == Source()
    called = Consumer.from_str_params({"source": '{"task": "Source", "params": {"n": "8"}}'})
    assert called.source == Source(8)


def test_a_deep_diamond_has_ids_parameters_and_messages_of_constant_size() -> None:
    bottom: Any = Source()
    sizes = []
    for _ in range(30):
        bottom = Layer(left=bottom, right=bottom)
        sizes.append(len(bottom.task_id) + len(str(bottom.to_str_params())) + len(repr(bottom)))
    assert max(sizes) < 4096 and sizes[-1] <= sizes[1] + 4
    assert len(pickle.dumps(bottom)) < 40_000
    assert pickle.loads(pickle.dumps(bottom)) == bottom


def test_a_chain_of_5000_tasks_is_no_recursion_error() -> None:
    task: Any = Source()
    for _ in range(5000):
        task = Link(before=task)
    assert len(task.task_hash) == 32
    again = pickle.loads(pickle.dumps(task))
    assert again == task and again.before.before == task.before.before
    assert references.refer(task) == task.task_id

"""Parameters on command lines and in configurations, tasks inside of them, cached methods, limits, hooks."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import luigi
import numpy as np
import pydantic
import pytest
from luigi.task_register import Register

from superluigi import cached, cli, collect, compute, config, run_task, task
from superluigi.errors import ConfigError, DefinitionError, OptionError, ParameterError, TaskFailedError
from superluigi.parameters import Param, Requires
from superluigi.tasks import AtomicTaskWithMetadata, SubmitHook, TaskWithMetadata

MODULE = """
import datetime, enum
from typing import Any, Literal
from superluigi import task
from superluigi.parameters import Param, Requires
from superluigi.tasks import AtomicTaskWithMetadata

class Colour(enum.Enum):
    RED = 1

class Given(AtomicTaskWithMetadata):
    plain: Param[dict] = {}
    anything: Param[dict[Any, int]] = {}
    choice: Param[dict[Literal["a", 1], int]] = {}
    colours: Param[dict[Colour, int]] = {}
    days: Param[dict[datetime.date, float]] = {}
    counts: Param[dict[int, dict[str, int]]] = {}
    x: Param[float] = 0.0
    n: Param[int] = 0
    word: Param[str] = ""

    def run(self) -> Any:
        return {name: getattr(self, name) for name, _ in self.get_params()}

class Doubled(AtomicTaskWithMetadata):
    given: Requires[Given]

    def run(self, inputs) -> int:
        return 2 * inputs["given"]["n"]

@task
def worker(n: int = 1) -> int:
    return n

@task
def core(n: int = 1) -> int:
    return n

@task
def email(sender: str = "") -> str:
    return sender

class ByClass(AtomicTaskWithMetadata):
    x: Param[float] = 0.0
    n: Param[int] = 0
    flag: Param[bool] = False
    maybe: Param[float | None] = None
    span: Param[datetime.timedelta] = datetime.timedelta(0)
    colour: Param[Colour] = Colour.RED
    day: Param[datetime.date] = datetime.date(2020, 1, 1)

    def run(self) -> Any:
        return [self.x, self.n, self.flag, self.maybe, self.span, self.colour, self.day]

@task
def by_function(
    x: float = 0.0, n: int = 0, flag: bool = False, maybe: float | None = None,
    span: datetime.timedelta = datetime.timedelta(0), colour: Colour = Colour.RED,
    day: datetime.date = datetime.date(2020, 1, 1),
) -> Any:
    return [x, n, flag, maybe, span, colour, day]
"""


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    yield
    for section in ("Given", "worker", "core"):  # a command line configures its own process for good
        luigi.configuration.get_config().remove_section(section)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    name = f"given_{os.getpid()}_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return name


def value_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What the task gave that a command line ran."""
    capsys.readouterr()
    assert cli.main(["run", *words]) == 0, capsys.readouterr().err
    path = Path(capsys.readouterr().out.strip().rpartition(" ")[2])
    return pickle.loads(path.read_bytes()) if path.suffix == ".pickle" else path.read_text()


def test_dicts_are_written_as_json(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = value_of(
        capsys, module, "Given", "--plain", '{"a": [1, {"b": null}]}', "--anything", '{"k": 1}', "--choice",
        '{"a": 1, "1": 2}', "--colours", '{"RED": 3}', "--days", '{"2020-01-01": 0.5}', "--counts", '{"7": {"x": 1}}',
    )  # fmt: skip
    red = next(iter(found["colours"]))
    assert found["plain"] == {"a": [1, {"b": None}]} and found["anything"] == {"k": 1} and red.name == "RED"
    assert found["choice"] == {"a": 1, 1: 2} and found["days"] == {datetime.date(2020, 1, 1): 0.5}
    assert found["counts"] == {7: {"x": 1}}


def test_a_task_is_written_as_the_name_of_its_class_or_as_json(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert value_of(capsys, module, "Doubled", "--given", "Given") == "0"
    assert value_of(capsys, module, "Doubled", "--given", '{"task": "Given", "params": {"n": "4"}}') == "8"
    assert cli.main(["run", module, "Doubled", "--given", "Given_gone_1"]) == 2
    assert capsys.readouterr().err.rstrip().endswith('"text"}}.'), "and one full stop"


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("x", "-1e3", -1000.0), ("x", "-.5", -0.5), ("x", "-inf", -np.inf), ("x", "-Infinity", -np.inf),
        ("x", "-1E-5", -1e-5), ("n", "-1_000", -1000), ("n", "-3", -3), ("word", "-xyz", "-xyz"),
        ("word", "-a b", "-a b"),
    ],
)  # fmt: skip
def test_what_begins_with_a_dash_may_be_a_value(
    module: Any, capsys: pytest.CaptureFixture[str], flag: str, text: str, value: Any
) -> None:
    assert value_of(capsys, module, "Given", f"--{flag}", text)[flag] == value
    assert value_of(capsys, module, "Given", "--force", f"--{flag}={text}")[flag] == value


@pytest.mark.parametrize(
    "word",
    [
        "--x=-.5", "--x=.5", "--x=inf", "--x=1e3", "--x=abc", "--n=+5", "--n=1_0", "--n=1.0", "--n= 7 ", "--flag",
        "--flag=true", "--flag=False", "--flag=yes", "--maybe=.5", "--maybe=x", "--span=2 h 30 m", "--span=x",
        "--colour=RED", "--colour=GREEN", "--day=2024-02-29", "--day=2024-02-30",
    ],
)  # fmt: skip
def test_an_argument_of_a_function_is_written_as_a_parameter_of_a_class(
    module: Any, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    def found(name: str) -> Any:
        capsys.readouterr()
        if cli.main(["run", module, name, word]):
            return capsys.readouterr().err.replace(name, "NAME")
        return pickle.loads(Path(capsys.readouterr().out.strip().rpartition(" ")[2]).read_bytes())

    assert found("ByClass") == found("by_function")


def test_a_value_that_is_missing_is_missed(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", module, "Given", "--x", "--n", "3"]) != 0
    assert "--x" in capsys.readouterr().err
    assert cli.main(["run", module, "Given", "--colours", '{"BLUE": 1}']) != 0
    assert "BLUE" in capsys.readouterr().err


def test_a_config_file_may_refer_to_its_own_keys(
    module: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZE", "7")
    Path("c.cfg").write_text(
        '[Given]\nbase = data\nword = %(base)s/x at 100%\nplain = {"a": ${SIZE}}\ncolours = {"RED": 1}\nx = -1e3\n'
    )
    with pytest.warns(luigi.parameter.UnconsumedParameterWarning, match="base"):
        found = value_of(capsys, module, "Given", "--config", "c.cfg")
    assert found["plain"] == {"a": 7} and found["x"] == -1000
    Path("d.cfg").write_text("[Given]\nbase = data\nword = %(base)s/x\n")
    assert config.read_file("d.cfg")["Given"]["word"] == "data/x"
    Path("d.cfg").write_text("[Given]\nword = %Y-%m-%d\n")
    assert config.read_file("d.cfg")["Given"]["word"] == "%Y-%m-%d", "a % that refers to nothing stands for itself"
    Path("d.cfg").write_text("[Given]\nword = %(nothing)s\n")
    with pytest.raises(ConfigError, match="nothing"):
        config.read_file("d.cfg")


@pytest.mark.filterwarnings("ignore::luigi.parameter.UnconsumedParameterWarning")  # Luigi's own class of the name
@pytest.mark.parametrize("name", ["worker", "core"])
def test_families_may_be_called_like_luigis_sections(
    module: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert value_of(capsys, module, name, "--n", "5") == "5"
    Path("c.cfg").write_text(f"[{name}]\nn = 8\n")
    assert value_of(capsys, module, name, "--config", "c.cfg") == "8"


class Score(AtomicTaskWithMetadata):
    i: Param[int]

    def run(self) -> float:
        return float(self.i)


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = 0


def seen(value: Any) -> Any:
    """The values of lazy lists and dicts as plain ones."""
    if isinstance(value, (str, bytes)):
        return value
    if hasattr(value, "keys"):
        return {key: seen(value[key]) for key in value}
    return [seen(item) for item in value] if hasattr(value, "__getitem__") and not isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (dict, {"a": Score(3), "b": [Score(4), 1], "n": 2}, {"a": 3.0, "b": [4.0, 1], "n": 2}),
        (dict[str, Any], {"a": {"b": [[Score(1)], "x"]}}, {"a": {"b": [[1.0], "x"]}}),
        (list, [Score(1), Score(1), 5, None], [1.0, 1.0, 5, None]),
        (Any, (Score(1), "t"), (1.0, "t")),
        (Any, Score(2), 2.0),
        (Pair, Pair(Score(1), 7), Pair(1.0, 7)),
    ],
)
def test_inputs_have_the_shape_of_the_parameter(annotation: Any, given: Any, expected: Any) -> None:
    class Made(AtomicTaskWithMetadata):
        p: Param[annotation]

        def run(self, inputs: Any) -> Any:
            return {"seen": seen(inputs["p"])}

    assert compute(Made(p=given)) == {"seen": expected}

    @task
    def by_function(p: Any) -> Any:
        return {"seen": p}

    assert compute(by_function(given)) == {"seen": expected}


def test_only_the_inputs_that_are_looked_at_are_loaded() -> None:
    class Made(AtomicTaskWithMetadata):
        p: Param[dict]

        def run(self, inputs: Any) -> Any:
            Score(i=2).output().path.unlink()
            return inputs["p"]["a"]

    assert compute(Made(p={"a": Score(i=1), "b": Score(i=2)})) == 1.0


def test_optional_requirements_that_are_not_given_are_none() -> None:
    class Made(AtomicTaskWithMetadata):
        p: Requires[Score | None] = None

        def run(self, inputs: Any) -> Any:
            return inputs["p"]

    assert compute(Made()) is None and compute(Made(p=Score(1))) == 1.0


CALLS: list[int] = []


@dataclasses.dataclass(frozen=True)
class Corpus:
    size: int
    where: Path = Path("x")

    @cached("terms.npy")
    def terms(self, path: Path) -> Any:
        CALLS.append(self.size)
        np.save(path, np.arange(self.size))

    @cached("load.json")
    def load(self) -> Any:
        CALLS.append(-self.size)
        return {"size": self.size}


def test_cached_methods_of_parameter_objects_are_computed_once_for_each_content() -> None:
    CALLS.clear()
    assert Corpus(3).terms().tolist() == [0, 1, 2] and Corpus(3).terms().tolist() == [0, 1, 2]
    assert Corpus(2).terms().tolist() == [0, 1] and Corpus(3).load() == {"size": 3} == Corpus(3).load()
    assert CALLS == [3, 2, -3] and Corpus(3).terms.path() != Corpus(3, Path("y")).terms.target.path

    class Uses(AtomicTaskWithMetadata):
        corpus: Param[Corpus]

        @cached("load.json")
        def load(self) -> Any:
            return [self.corpus.size]

        def run(self) -> Any:
            return [int(self.corpus.terms().sum()), self.load()]

    assert compute(Uses(corpus=Corpus(3))) == [3, [3]] and CALLS == [3, 2, -3]

    class Nothing:
        @cached("x.json")
        def x(self) -> int:
            return 1

    with pytest.raises(DefinitionError, match="no task"):
        Nothing().x()


class Call(AtomicTaskWithMetadata):
    i: Param[int]
    channel: Any = ["gpu", "memory"]
    most = 0
    now = 0

    def run(self) -> int:
        return self.i


@pytest.mark.parametrize("name", ["gpu", "memory", "Call", "AtomicTaskWithMetadata"])
def test_each_of_several_channels_can_be_limited(name: str) -> None:
    from superluigi.scheduler.limits import Limits

    assert Limits.parse({name: 1, "other": 2}).resources_of(Call(i=1)) == {name: 1}
    run_task(collect([Call(i=1), Call(i=2)]), rate_limits={name: 1})


@pytest.mark.parametrize("of", [list, set, dict.fromkeys, lambda names: dict.fromkeys(names).keys(), iter])
def test_channels_that_a_property_gives_limit_whatever_holds_them_or_are_refused(of: Any) -> None:
    from superluigi.scheduler.limits import Limits

    class Computed(AtomicTaskWithMetadata):
        channel = property(lambda self: of(["gpu"]))

    if of is not iter:
        assert Limits.parse({"gpu": 1}).resources_of(Computed()) == {"gpu": 1}
        return
    with pytest.raises(DefinitionError, match=r"can be read once only\. Give a list"):
        Limits.parse({"gpu": 1}).resources_of(Computed())
    with pytest.raises(TaskFailedError, match=r"Computed.* could not be scheduled: DefinitionError"):
        run_task(Computed(), rate_limits={"gpu": 1})


def test_a_limit_that_limits_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Register, "_reg", [Call])  # classes that compute what they need may mean any name
    with pytest.raises(OptionError, match=r"'gpus'.*Did you mean 'gpu'"):
        run_task(Call(i=1), rate_limits={"gpus": 1})
    run_task(Call(i=1), rate_limits={"tape": 1}, resources={"tape": 2})
    assert not Path("store/typo").exists()


class Needs(SubmitHook):
    def __init__(self, name: str) -> None:
        self.spec = name

    def process(self, job: Any) -> None:
        job.environment[f"NEEDS_{self.spec}"] = "1"


@Needs("dataclass")
@dataclasses.dataclass(frozen=True)
class Settings:
    n: int = 1


@Needs("model")
class Model(pydantic.BaseModel):
    n: int = 1


class Outer(pydantic.BaseModel):
    inner: Model = Model()


@dataclasses.dataclass(frozen=True)
class Holder:
    inside: Settings = Settings()


def test_hooks_on_what_is_in_a_parameter_are_found() -> None:
    class ByParameter(AtomicTaskWithMetadata):
        given: Param[Settings | Holder | list[Settings] | Outer]

        def run(self) -> list[str]:
            return sorted(name for name in os.environ if name.startswith("NEEDS_"))

    assert compute(ByParameter(given=Settings(2))) == ["NEEDS_dataclass"]
    assert compute(ByParameter(given=Holder())) == ["NEEDS_dataclass"]
    assert compute(ByParameter(given=[Settings(1)])) == ["NEEDS_dataclass"]
    assert compute(ByParameter(given=Outer())) == ["NEEDS_model"]


@pytest.mark.parametrize("base", [TaskWithMetadata, AtomicTaskWithMetadata])
@pytest.mark.parametrize("nothing", [None, [], {}])
@pytest.mark.filterwarnings("ignore:.*without outputs has no custom complete")
def test_a_task_without_an_output_runs(base: Any, nothing: Any) -> None:
    ran: list[int] = []

    class Effect(base):  # type: ignore[misc]
        value = None

        def output(self) -> Any:
            return nothing

        def run(self) -> Any:
            ran.append(1)
            return self.value

    run_task(Effect())
    assert ran == [1]
    if base is AtomicTaskWithMetadata:
        Effect.value = 5
        with pytest.raises(Exception, match="no place"):
            run_task(Effect())


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize("key", [Any, Literal["RED"], Colour, str, int, datetime.date, bool, float])
def test_keys_of_json_that_do_not_fit_are_refused_by_name(key: Any) -> None:
    class Made(AtomicTaskWithMetadata):
        p: Param[dict[key, int]] = {}

    if key in (Any, str):
        assert Made.from_str_params({"p": '{"no": 1}'}).p == {"no": 1}
    else:
        with pytest.raises((ParameterError, ValueError), match="no"):
            Made.from_str_params({"p": '{"no": 1}'})


class NoText:
    def __repr__(self) -> str:
        raise LookupError("asked for its text")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 10**5000),
        (int, -(10**4400)),
        (list[int], [1, 10**5000]),
        (dict[str, int], {"a": 10**5000}),
        (int | None, 10**5000),
        (list, [NoText()]),
        (Any, NoText()),
        (str, NoText()),
    ],
    ids=["large", "negative", "in a list", "in a dict", "optional", "in any list", "anything", "for a text"],
)
def test_a_value_that_has_no_text_is_refused_by_name(kind: Any, value: Any) -> None:
    takes = type(
        "Takes", (AtomicTaskWithMetadata,), {"__annotations__": {"value": Param[kind]}, "__module__": __name__}
    )
    with pytest.raises(ParameterError, match=r"Takes: the parameter 'value' .* has no text: .* identity; "):
        takes(value)
    with pytest.raises(ParameterError, match="Takes: the parameter 'value' "):
        takes(value=value)


def test_what_a_task_raises_while_it_is_made_is_its_own() -> None:
    class Refuses(AtomicTaskWithMetadata):
        n: Param[int] = 1

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        Refuses(3)


def test_what_a_parameter_of_luigis_own_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    class Reads(AtomicTaskWithMetadata):
        place = luigi.PathParameter(exists=True)
        colour = luigi.ChoiceParameter(choices=["red", "blue"], default="red")

    with pytest.raises(ValueError, match=r"'place' is '.*gone'.* does not exist"):
        Reads(str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"'colour' is 'green'.*(red|blue)"):
        Reads(str(tmp_path), colour="green")

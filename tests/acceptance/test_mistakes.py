"""What users write by mistake, and the advice that they get: task, parameter or method, what came, what to write."""

from __future__ import annotations

import concurrent.futures
import datetime
import enum
import functools
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import cli, collect, compute, plan, run_task
from superluigi.errors import (
    DefinitionError,
    FormatError,
    OptionError,
    ParameterError,
    RunSignatureError,
    StorageAccessError,
    SuperLuigiError,
    TargetKindError,
    TaskFailedError,
)
from superluigi.parameters import BoolParameter, DateParameter, FloatParameter, IntParameter, Param
from superluigi.parameters import Requires as Requires
from superluigi.queue import Pool, Queue
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task, TaskWithMetadata


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Load(AtomicTaskWithMetadata):
    n: Param[int] = 1

    def run(self) -> int:
        return self.n


class Dated(AtomicTaskWithMetadata):
    day = DateParameter()


class Annotated(AtomicTaskWithMetadata):
    day: Param[datetime.date]
    count: Param[int] = 3


class Numbers(AtomicTaskWithMetadata):
    n = IntParameter(default=1)
    rate = FloatParameter(default=0.5)
    names = luigi.ListParameter(default=())
    wait = luigi.TimeDeltaParameter(default=datetime.timedelta(1))


class Colour(enum.Enum):
    RED = 1


class Kinds(AtomicTaskWithMetadata):
    """A parameter of each of Luigi's kinds."""

    i = luigi.IntParameter(default=1)
    flag = luigi.BoolParameter(default=False)
    day = luigi.DateParameter(default=datetime.date(2020, 1, 1))
    second = luigi.DateSecondParameter(default=datetime.datetime(2020, 1, 1))
    month = luigi.MonthParameter(default=datetime.date(2020, 1, 1))
    year = luigi.YearParameter(default=datetime.date(2020, 1, 1))
    interval = luigi.DateIntervalParameter(default=luigi.date_interval.Year(2020))
    wait = luigi.TimeDeltaParameter(default=datetime.timedelta(1))
    many = luigi.ListParameter(default=())
    pair = luigi.TupleParameter(default=())
    table = luigi.DictParameter(default={})
    colour = luigi.EnumParameter(enum=Colour, default=Colour.RED)
    colours = luigi.EnumListParameter(enum=Colour, default=())
    size = luigi.NumericalParameter(var_type=int, min_value=0, max_value=5, default=1)
    kind = luigi.TaskParameter(default=Load)
    path = luigi.PathParameter(default="x")
    maybe = luigi.OptionalIntParameter(default=None)
    text = luigi.Parameter(default="x")

    def run(self) -> None: ...


#: Parameter, what came, what the answer says to write.
WRONG_KINDS: list[tuple[str, Any, str]] = [
    ("i", 3.5, "expected is int"), ("i", 3.0, "Write i=3."), ("i", True, "Write i=1."), ("i", "3", "Write i=3:"),
    ("flag", "maybe", "expected is bool"), ("flag", "yes", "expected is bool"), ("flag", 1, "Write flag=True."),
    ("day", 20200101, "expected is date"), ("day", "2020-01-01", "Write day=datetime.date(2020, 1, 1):"),
    ("second", 5, "expected is datesecond"), ("month", "2020-01", "Write month=datetime.date(2020, 1, 1):"),
    ("year", 2020, "expected is year"), ("year", "2020", "Write year=datetime.date(2020, 1, 1):"),
    ("interval", "2020", "Write interval=luigi.date_interval.Year.parse('2020')."),
    ("interval", datetime.date(2020, 1, 1), "expected is dateinterval"),
    ("wait", "1 day", "Write wait=datetime.timedelta(days=1):"), ("wait", 5, "expected is timedelta"),
    ("wait", None, "expected is timedelta"), ("wait", datetime.timedelta(microseconds=1), "one of whole seconds"),
    ("table", {1: 2}, "with texts for keys"), ("table", {"a": [{None: 2}]}, "with texts for keys"),
    ("many", [[{True: 2}]], "with texts for keys"),
    ("many", "[1, 2]", "Write many=[1, 2]:"), ("many", 5, "expected is list"),
    ("many", {"a": 1}, "expected is list"), ("many", [Load()], "expected is list"),
    ("pair", "(1, 2)", "Write pair=(1, 2):"), ("pair", 5, "expected is tuple"), ("table", "{}", "Write table={}:"),
    ("table", [1], "expected is dict"), ("colour", "RED", "expected is enum"), ("colour", 1, "expected is enum"),
    ("colours", "RED", "expected is enumlist"), ("colours", ["RED"], "expected is enumlist"),
    ("size", 9, "expected is numerical"), ("size", "3", "Write size=3:"),
    ("kind", "Load", "Write kind=Load, the class"),
    ("kind", Load(), "Write kind=Load, the class."), ("kind", int, "expected is task"),
    ("path", 5, "expected is path"), ("maybe", "3", "Write maybe=3:"), ("maybe", 2.5, "expected is int"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*Parameter")  # Luigi's own, of some of these
@pytest.mark.parametrize("number", range(len(WRONG_KINDS)))
def test_a_value_of_another_kind_is_refused_by_every_parameter_of_luigis(number: int) -> None:
    name, value, said = WRONG_KINDS[number]
    with pytest.raises(ParameterError) as caught:
        Kinds(**{name: value})
    assert f"Kinds: the parameter {name!r} is" in str(caught.value), str(caught.value)
    assert f"({type(value).__name__})" in str(caught.value) and said in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "fine",
    [
        {"i": None}, {"i": 10**30}, {"flag": "true"}, {"flag": False}, {"day": datetime.datetime(2020, 1, 1, 5)},
        {"second": datetime.date(2020, 1, 1)}, {"month": datetime.date(2020, 1, 7)}, {"many": {1, 2}},
        {"many": [[1], {"a": 2}]}, {"pair": [1, (2, 3)]}, {"table": {"a": [1]}}, {"colours": [Colour.RED]}, {"size": 4},
        {"interval": luigi.date_interval.Week(2020, 5)}, {"path": Path("y")}, {"maybe": None}, {"maybe": 0},
        {"text": 5}, {"text": None}, {"kind": Kinds}, {"day": None},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Parameter")
def test_what_luigis_parameters_take_is_taken(fine: dict[str, Any]) -> None:
    Kinds(**fine)


class DefaultAsText(AtomicTaskWithMetadata):
    n = IntParameter(default="4")  # type: ignore[arg-type]


class PlainAttribute(AtomicTaskWithMetadata):
    n: int = 3


class OwnInit(AtomicTaskWithMetadata):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n


class LosingInit(AtomicTaskWithMetadata):
    n: Param[int] = 3

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class SilentInit(AtomicTaskWithMetadata):
    def __init__(self) -> None:
        self.x = 1


def written(*lines: str) -> Callable[[], object]:
    """A class `Wrong` with this body."""
    body = "\n".join(f"    {line}" for line in lines)
    code = f"class Wrong(AtomicTaskWithMetadata):\n{body}\n"
    return lambda: exec(compile(code, "wrong.py", "exec", dont_inherit=True), dict(globals()))


WHEN_WRITTEN_OR_MADE: list[tuple[Callable[[], object], type[SuperLuigiError], list[str]]] = [
    (lambda: Dated(day="2013-12-15"), ParameterError, ["Dated", "'day'", "(str)", "day=datetime.date(2013, 12, 15)"]),
    (lambda: Dated("2013-12-15"), ParameterError, ["Dated", "'day'", "day=datetime.date(2013, 12, 15)"]),
    (lambda: Dated(day="15.12.2013"), ParameterError, ["Dated", "'day'", "'15.12.2013' (str)", "date"]),
    (lambda: Annotated(day="2013-12-15"), ParameterError, ["Annotated", "'day'", "day=datetime.date(2013, 12, 15)"]),
    (lambda: Annotated(day=datetime.date(2013, 12, 15), count="7"), ParameterError, ["'count'", "Write count=7"]),
    (lambda: Numbers(n="3"), ParameterError, ["Numbers", "'n'", "'3' (str)", "expected is int", "Write n=3"]),
    (lambda: Numbers(n="three"), ParameterError, ["Numbers", "'n'", "'three' (str)", "expected is int"]),
    (lambda: Numbers(rate="0.5"), ParameterError, ["Numbers", "'rate'", "expected is float", "Write rate=0.5"]),
    (DefaultAsText, ParameterError, ["DefaultAsText", "'n'", "'4' (str)", "Write n=4"]),
    (lambda: PlainAttribute(n=4), ParameterError, ["PlainAttribute", "n=4", "`n: Param[int] = 3`"]),
    (lambda: OwnInit(3), ParameterError, ["OwnInit", "OwnInit.__init__", "n: Param[int]"]),
    (lambda: OwnInit(n=3), ParameterError, ["OwnInit", "n=3", "OwnInit.__init__", "n: Param[int]"]),
    (lambda: LosingInit(n=4), DefinitionError, ["LosingInit.__init__", "n=4", "super().__init__(*args, **kwargs)"]),
    (lambda: LosingInit(4), DefinitionError, ["LosingInit.__init__", "n=4", "super().__init__(*args, **kwargs)"]),
    (SilentInit, DefinitionError, ["SilentInit.__init__", "super().__init__(*args, **kwargs)"]),
    (written("n: IntParameter = 4"), DefinitionError, ["Wrong.n", "IntParameter = 4", "n: Param[int] = 4"]),
    (written("n: 'luigi.FloatParameter'"), DefinitionError, ["Wrong.n", "n: Param[float]", "n = FloatParameter()"]),
    (written("n: BoolParameter = False"), DefinitionError, ["Wrong.n", "n: Param[bool] = False"]),
    (written("n = IntParameter"), DefinitionError, ["Wrong.n", "n = IntParameter()"]),
    (written("n = Param[int]"), DefinitionError, ["Wrong.n", "n: Param[int]"]),
    (written("load = Requires[Load]"), DefinitionError, ["Wrong.load", "load: Requires[Load]"]),
    (written("output = LocalFileTarget('a')"), DefinitionError, ["Wrong.output", "def output(self): return Local"]),
    (written("requires = Load()"), DefinitionError, ["Wrong.requires", "def requires(self): return Load(n=1)"]),
    (written("requires = [Load()]"), DefinitionError, ["Wrong.requires", "def requires(self): return [Load(n=1)]"]),
    (written("def requires(self, x): return []"), DefinitionError, ["`def requires(self, x)`", "def requires(self)`"]),
    (written("def requires(): return []"), DefinitionError, ["`def requires()`", "write `def requires(self)`"]),
    (written("requires = [Load]"), DefinitionError, ["Wrong.requires", "def requires(self)", "as in Load(…)"]),
    (written("requires = 'Load'"), DefinitionError, ["Wrong.requires is 'Load'", "as in Load(…)"]),
    (written("output = 'x.json'"), DefinitionError, ["Wrong.output", "return LocalFileTarget('x.json')"]),
    (written("output = Path('x.json')"), DefinitionError, ["Wrong.output", "return LocalFileTarget('x.json')"]),
    (written("def output(self, path): return path"), DefinitionError, ["`def output(self, path)`", "output(self)`"]),
    (written("@property", "def output(self): return None"), DefinitionError, ["Wrong.output", "take @property away"]),
    (written("def run(self, out): pass"), RunSignatureError, ["Wrong.run", "'out'", "Did you mean output_path?"]),
    (written("def run(self, output): pass"), RunSignatureError, ["'output'", "Did you mean output_path?"]),
    (written("def run(self, input_paths): pass"), RunSignatureError, ["'input_paths'", "Did you mean input_path?"]),
    (written("n: Param[int] = 1", "def run(self, n): pass"), RunSignatureError, ["'n'", "self.n"]),
    (written("def run(): return 1"), RunSignatureError, ["Wrong.run does not take self", "def run(self)"]),
    (written("def run(output_path): pass"), RunSignatureError, ["does not take self", "def run(self, output_path)"]),
    (written("@staticmethod", "def run(): return 1"), RunSignatureError, ["@staticmethod", "def run(self)"]),
    (written("@classmethod", "def run(cls): return 1"), DefinitionError, ["Wrong.run", "@classmethod away"]),
    (written("n: Param() = 1"), DefinitionError, ["Param()", "n: Param[int]"]),
    (written("n: Param(int) = 1"), DefinitionError, ["Param(", "n: Param[int]"]),
    (written("n = Param(int)"), DefinitionError, ["n: Param[int]"]),
    (written("n: Requires(Load)"), DefinitionError, ["Requires(", "n: Requires[Load]"]),
    (written("n: Param[int] = '3'"), ParameterError, ["Wrong.n", "'3'", "expected int"]),
    (lambda: exec("class Sub(Load):\n    def n(self): return 5", dict(globals())), DefinitionError,
     ["Sub.n is a method", "parameter of its base class"]),
    (lambda: LocalFileTarget(None), OptionError, ["None (NoneType)", "a text or a Path"]),  # type: ignore[arg-type]
    (lambda: LocalFolderTarget(Load(5)), OptionError, ["Load(n=5)", "input_path", "output().path"]),  # type: ignore[arg-type]
    (lambda: LocalFileTarget(LocalFileTarget("x")), OptionError, ["target.path"]),  # type: ignore[arg-type]
    (lambda: LocalFileTarget("s3:/b/k"), OptionError, ["'s3:/b/k'", "S3ObjectTarget('b', 'k')"]),
    (lambda: LocalFolderTarget("arn:aws:s3:::b/k/"), OptionError, ["S3PrefixTarget('b', 'k/')"]),
    (lambda: S3ObjectTarget("s3://b/k"), OptionError, ["'s3://b/k'", "bucket 'b', object_key 'k'"]),
    (lambda: S3ObjectTarget("s3:/b/k"), OptionError, ["bucket 'b', object_key 'k'"]),
    (lambda: S3ObjectTarget("b/k", "x"), OptionError, ["'b/k' is no bucket name", "bucket 'b', object_key 'k/x'"]),
    (lambda: S3PrefixTarget("s3://"), OptionError, ["'s3://'"]),
    (lambda: S3PrefixTarget("b"), OptionError, ["The prefix", "'b'"]),
    (lambda: S3PrefixTarget("b", None), OptionError, ["prefix is None (NoneType)"]),  # type: ignore[arg-type]
    (lambda: S3ObjectTarget("https://b.s3.eu-west-1.amazonaws.com/a/k.csv"), OptionError, ["object_key 'a/k.csv'"]),
    (lambda: S3ObjectTarget("https://s3.eu-west-1.amazonaws.com/b/k"), OptionError, ["bucket 'b', object_key 'k'"]),
    (lambda: S3PrefixTarget("https://eu-west-1.console.aws.amazon.com/s3/buckets/b?region=x&prefix=a/b/"), OptionError,
     ["bucket 'b', prefix 'a/b/'"]),
    (lambda: S3ObjectTarget("arn:aws:s3:::b", "k"), OptionError, ["bucket 'b', object_key 'k'"]),
    (lambda: run_task(Load(1), Load(2)), OptionError, ["config is Load(n=2) (Load)", "collect([…])"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), config="luigi.cfg"), OptionError, ["'luigi.cfg' (str)", "config_file='luigi.cfg'"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), config={"n": 3}), OptionError, ["config['n']"]),  # type: ignore[dict-item]
    (lambda: run_task(Load(1), config_file={"a": {}}), OptionError, ["config_file", "config="]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), force="yes"), OptionError, ["force is 'yes' (str)", "Write force=True"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), dry_run="no"), OptionError, ["Write dry_run=False"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), force_upstream=Load), OptionError, ["force_upstream_to_task_cls=Load"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), force_upstream_to_task_cls="Laod"), OptionError, ["Did you mean 'Load'?"]),
    (lambda: run_task(Load(1), store=5), OptionError, ["store is 5 (int)", "s3://bucket/prefix"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), store=""), OptionError, ["store is ''"]),
    (lambda: run_task(Load(1), queue=5), OptionError, ["queue is 5 (int)"]),
    (lambda: run_task(Load(1), executor=4), OptionError, ["executor=4", "'processes'"]),
    (lambda: run_task(Load(1), num_workers="4"), OptionError, ["num_workers is '4' (str)", "Write num_workers=4"]),  # type: ignore[arg-type]
    (lambda: run_task(Load(1), force_upstrem=True), OptionError, ["force_upstrem", "'force_upstream'"]),  # type: ignore[call-arg]
    (lambda: run_task(Load(1), workers=4), OptionError, ["run_task has no option 'workers'", "'num_workers'"]),  # type: ignore[call-arg]
    (lambda: run_task(Load(1), local_scheduler=True), OptionError, ["Leave it out"]),  # type: ignore[call-arg]
    (lambda: run_task(Load(1), n=4), OptionError, ["no option 'n'", "Parameters go to the task"]),  # type: ignore[call-arg]
    (lambda: compute(Load(1), workers=4), OptionError, ["'num_workers'"]),
    (lambda: compute("Load"), OptionError, ["compute takes a task", "'Load' (str)"]),
    (lambda: compute([Load]), OptionError, ["compute takes tasks", "Load is a class", "Load(…)"]),
    (lambda: collect({"a": [Load]}), OptionError, ["collect takes tasks", "Load(…)"]),
    (lambda: collect(5), OptionError, ["collect takes a task", "5 (int)"]),
    (lambda: run_task([Load(1), Load(2)]), OptionError, ["Load(n=1)", "(list)", "run_task(collect([…]))"]),  # type: ignore[arg-type]
    (lambda: run_task({"a": Load}), OptionError, ["(dict)", "run_task(collect([…]))"]),  # type: ignore[arg-type]
    (lambda: run_task("Load"), OptionError, ["'Load' (str)", "superluigi run"]),  # type: ignore[arg-type]
    (lambda: run_task(written), OptionError, ["(function)", "@task", "run_task(written(…))"]),  # type: ignore[arg-type]
]  # fmt: skip


class Typed(AtomicTaskWithMetadata):
    many: Param[list[int]] = [1]
    deep: Param[dict[str, list[int]]] = {}
    pair: Param[tuple[int, str]] = (1, "a")
    maybe: Param[list[int] | None] = None
    wait: Param[datetime.timedelta] = datetime.timedelta(1)
    colour: Param[Colour] = Colour.RED
    letters = luigi.ChoiceListParameter(choices=["a", "b"], default=("a",))


PARAMETERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"many": [1, "2"]}, ["'many' is [1, '2'] (list)", "list[int], in which '2' (str) should be int"]),
    ({"many": [1, Load()]}, ["list[int], in which one (Load) should be int"]),
    ({"deep": {"a": [1, None]}}, ["list[int], in which None (NoneType) should be int"]),
    ({"deep": {3: [1]}}, ["dict[str, list[int]], in which 3 (int) should be str"]),
    ({"pair": (1, 2)}, ["tuple[int, str], in which 2 (int) should be str"]),
    ({"maybe": ["1"]}, ["list[int], in which '1' (str) should be int"]),
    ({"wait": 3600}, ["'wait' is 3600 (int)", "Write wait=datetime.timedelta(hours=1), say."]),
    ({"colour": "RED"}, ["'colour' is 'RED' (str)", "Write colour=Colour.RED."]),
    ({"letters": "ab"}, ["'letters' is 'ab' (str)", "expected is choicelist"]),
    ({"letters": "a"}, ["Write letters=('a',)"]),
]  # fmt: skip
WHEN_WRITTEN_OR_MADE += [
    *((functools.partial(Typed, **given), ParameterError, ["Typed", *words]) for given, words in PARAMETERS),
    (written("checks = 'not null'"), DefinitionError, ["Wrong.checks is", "write `checks = [schema, function]`"]),
    (written("def checks(self): return []"), DefinitionError, ["`def checks(self)`", "`checks = [schema, function]`"]),
    (written("retry_count = '3'"), DefinitionError, ["Wrong.retry_count is '3'", "write `retry_count = 3`"]),
    (written("resources = ['gpu']"), DefinitionError, ["write `resources = {'gpu': 1}`"]),
    (lambda: run_task(Load(1), executor="slurm"), OptionError, ["executor='slurm'", "Pool(4, provider='slurm')"]),
    (written("n: Param[list[int]] = [1, 'x']"), ParameterError, ["Wrong.n", "in which 'x' (str) should be int"]),
    (lambda: Queue("q", pools={"a": {"max_workers": 3}}), OptionError, ["pools['a'] is {'max_workers': 3}", "Pool(2)"]),
    (lambda: Queue("q", pools=Pool()), OptionError, ["pools is Pool(", "pools={'gpu': Pool(2)}"]),
    (lambda: Queue("q", lease=60), OptionError, ["lease is 60 (int)", "timedelta(seconds=60)"]),
    (lambda: Queue("q", recheck="1m"), OptionError, ["recheck is '1m' (str)"]),
    (lambda: Queue("q", resources={"gpu": "2"}), OptionError, ["resources['gpu'] is '2' (str)"]),
    (lambda: Pool("3"), OptionError, ["max_workers is '3'", "at least 1"]),
    (lambda: Pool(walltime=30, environment="A=1"), OptionError,
     ["walltime is 30 (int)", "'2h'", "environment is 'A=1' (str)"]),
    (lambda: Pool(options=["--mem=8G"], prefix=["nice"]), OptionError, ["options is ['--mem=8G'] (list)", "prefix is"]),
    (lambda: Queue("q").submit(Load), OptionError, ["the class Load", "Load(…)"]),
    (lambda: Queue("q").submit(None), OptionError, ["submit needs Luigi tasks, not None"]),
    (lambda: Queue("q").spawn("2"), OptionError, ["workers is '2' (str)", "Write workers=2"]),
    (lambda: plan("Load"), OptionError, ["plan takes a task, not 'Load' (str)"]),
    (lambda: plan(Load), OptionError, ["Load(…)"]),
    (lambda: run_task(Load(1), central_scheduler="http://here:8082"), OptionError,
     ["central_scheduler=True", "'scheduler_url': 'http://here:8082'"]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WHEN_WRITTEN_OR_MADE)))
def test_a_mistake_is_refused_when_it_is_written_or_made(number: int) -> None:
    mistake, kind, words = WHEN_WRITTEN_OR_MADE[number]
    with pytest.raises(kind) as caught:
        mistake()
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_what_looks_like_these_mistakes_and_is_none_works() -> None:
    class Fine(AtomicTaskWithMetadata):
        class OwnParameter(luigi.Parameter):
            """Written here."""

        typed: luigi.IntParameter = luigi.IntParameter(default=4)
        own = OwnParameter(default="x")
        flag = BoolParameter(default=False)
        note: str = "an attribute"
        requires = Load

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.twice = 2 * self.typed

        def run(self, inputs: int) -> list[Any]:
            return [self.twice, self.own, self.note, self.flag, inputs]

    assert compute(Fine(typed=5, flag="true")) == [10, "x", "an attribute", True, 1]
    assert Numbers(n=3, rate=1).rate == 1


def in_run(source: str, **more: Any) -> type[AtomicTaskWithMetadata]:
    """A task class `Wrong` with this body of `run`, in a file, as users have it."""
    file = Path("wrong_run.py")
    file.write_text(
        "from pathlib import Path\n"
        "from superluigi.targets import *\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\n"
        "from superluigi.parameters import Param\n"
        "class Load(AtomicTaskWithMetadata):\n"
        "    n: Param[int] = 1\n"
        "    def run(self): return self.n\n"
        f"class Wrong(AtomicTaskWithMetadata):\n{source}\n"
    )
    space: dict[str, Any] = {"__name__": "wrong_run"}
    exec(compile(file.read_text(), str(file.absolute()), "exec", dont_inherit=True), space)
    return space["Wrong"]  # type: ignore[no-any-return]


REQUIRES = "    def requires(self): {}\n    def run(self): return 1"
OUTPUT = "    def output(self): {}\n    def run(self): return 1"
RUN = "    def run(self):\n        {}"
PLACED = "    def output(self): return {}\n    def run(self, output_path):\n        {}"
NOPE = {"region_name": "eu-west-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}

WHEN_RUN: list[tuple[str, type[SuperLuigiError], list[str]]] = [
    (REQUIRES.format("return 'Load'"), DefinitionError, ["requires() of Wrong()", "'Load' is a str", "Return a task"]),
    (REQUIRES.format("return Load"), DefinitionError, ["requires() of Wrong()", "is a class", "Load(…)"]),
    (REQUIRES.format("return {'a': [Load]}"), DefinitionError, ["requires() of Wrong()", "is a class", "Load(…)"]),
    (REQUIRES.format("Load(n=2)"), DefinitionError, ["Wrong.requires", "Load", "`return Load(…)`", "wrong_run.py:9"]),
    (RUN.format("yield 'Load'"), DefinitionError, ["yield in run() of Wrong()", "'Load' is a str"]),
    (RUN.format("yield Load"), DefinitionError, ["yield in run() of Wrong()", "is a class", "Load(…)"]),
    (RUN.format("yield None"), DefinitionError, ["yield in run() of Wrong()", "None", "[] asks for nothing"]),
    (RUN.format("yield"), DefinitionError, ["yield in run() of Wrong()", "None"]),
    (REQUIRES.format("yield Load(), Load"), DefinitionError, ["requires() of Wrong()", "is a class", "Load(…)"]),
    (REQUIRES.format("return (x for x in ['a'])"), DefinitionError, ["requires() of Wrong()", "'a' is a str"]),
    (REQUIRES.format("return LocalFileTarget('x')"), DefinitionError, ["requires() of Wrong()", "ExternalTask"]),
    (REQUIRES.format("return Load().output"), DefinitionError, ["requires() of Wrong()", "is a method"]),
    (OUTPUT.format("return 'x.json'"), DefinitionError, ["Wrong.output()", "'x.json' (str)", "LocalFileTarget"]),
    (OUTPUT.format("return Path('x.json')"), DefinitionError, ["(PosixPath)", "LocalFileTarget('x.json')"]),
    (OUTPUT.format("return {'a': 'x.json'}"), DefinitionError, ["Wrong.output()", "'x.json' (str)"]),
    (OUTPUT.format("return LocalFileTarget"), DefinitionError, ["Call the class: LocalFileTarget(…)"]),
    (OUTPUT.format("return 's3://b/k/x.csv'"), DefinitionError, ["Wrong.output()", "S3ObjectTarget('b', 'k/x.csv')"]),
    (OUTPUT.format("LocalFileTarget('x.json')"), FormatError, ["Wrong()", "output() returns None"]),
    ("    resources = {'gpu': '1'}\n" + RUN.format("return 1"), DefinitionError,
     ["resources of Wrong() must be a dict", "as in {'gpu': 1}", "{'gpu': '1'}"]),
    (RUN.format("yield Load(), Load"), DefinitionError, ["yield in run() of Wrong()", "is a class", "Load(…)"]),
    (RUN.format("yield {'a': 'Load'}"), DefinitionError, ["yield in run() of Wrong()", "'Load' is a str"]),
    (RUN.format("return [Load(n=3)]"), DefinitionError, ["returned the task Load(n=3)", "yield Load(…)"]),
    (RUN.format("return {'a': Load(n=3)}"), DefinitionError, ["returned the task Load(n=3)"]),
    (RUN.format("return self.output()"), DefinitionError, ["run() of Wrong() returned LocalFileTarget", "output_path"]),
    ("    def run(self, output_path): return output_path", DefinitionError, ["returned output_path", "Write to it"]),
    (RUN.format("return 1 if self.output().exists else 2"), DefinitionError,
     ["Wrong.run", "self.output().exists()", "wrong_run.py:10"]),
    (RUN.format("return not self.input()[0].exists"), DefinitionError, ["self.input()[0].exists()"]),
    (RUN.format("return open(self.input)"), DefinitionError, ["run() of Wrong()", "self.input, a method", "input()"]),
    (RUN.format("return self.output.path"), DefinitionError, ["run() of Wrong()", "Write self.output()"]),
    (RUN.format("return open(self.output())"), DefinitionError, ["run() of Wrong()", "uses a target", "output_path"]),
    (PLACED.format("S3ObjectTarget('b', 'k', endpoint_url='htp://127.0.0.1:9', **" + str(NOPE) + ")", "pass"),
     StorageAccessError, ["htp://127.0.0.1:9", "http://127.0.0.1:9000"]),
    (RUN.format("Load(n=5)"), DefinitionError, ["Wrong.run", "`path = yield Load(…)`", "wrong_run.py:10"]),
    (RUN.format("data = Load(n=5); return open(data).read()"), DefinitionError,
     ["run() of Wrong()", "data, the task Load(n=5)", "yield Load(…)", "requires()"]),
    (RUN.format("return Load(n=5) + 1"), DefinitionError, ["run() of Wrong()", "a task Load", "yield Load(…)"]),
    (RUN.format("x = Load(n=5); return x.shape"), DefinitionError, ["run() of Wrong()", "x, the task Load(n=5)"]),
    (RUN.format("return Load(n=5)"), DefinitionError,
     ["run() of Wrong() returned the task Load(n=5)", "yield Load(…)"]),
    (PLACED.format("LocalFolderTarget('f')", "open(output_path, 'w').write('x')"), TargetKindError,
     ["run() of Wrong()", "folder (f)", "output_path / 'part.csv'"]),
    (PLACED.format("LocalFileTarget('f')", "(output_path / 'a.txt').write_text('x')"), TargetKindError,
     ["run() of Wrong()", "a.txt into its output f", "LocalFolderTarget"]),
    (PLACED.format("S3ObjectTarget('b', 'k', profile_name='nope', region_name='eu-west-1')", "pass"),
     StorageAccessError, ["nope", "AWS_PROFILE", "list-profiles"]),
    (PLACED.format(f"S3ObjectTarget('b', 'k', endpoint_url='localhost:9000', **{NOPE})", "pass"),
     StorageAccessError, ["endpoint_url=localhost:9000", "http://127.0.0.1:9000"]),
]  # fmt: skip


ASKS = "    def requires(self): return {}\n    def run(self, {}):\n        {}"
MANY = "    def output(self): return [LocalFileTarget('a.txt'), LocalFileTarget('b.txt')]\n"
FOLDER = "class Folder(AtomicTaskWithMetadata):\n    def output(self): return LocalFolderTarget('made')\n"
WHEN_RUN += [
    (ASKS.format("[Load(), Load(n=2)]", "input_path", "return input_path.read_text()"), DefinitionError,
     ["run() of Wrong() uses input_path", "a list of 2, as requires() gives it", "input_path[0]"]),
    (ASKS.format("[Load(), Load(n=2)]", "input_path", "import pandas; pandas.read_csv(input_path)"), DefinitionError,
     ["run() of Wrong() uses input_path", "input_path[0]"]),
    (ASKS.format("{'a': Load()}", "input_path", "return open(input_path).read()"), DefinitionError,
     ["run() of Wrong() uses input_path", "a dict with 'a', as requires() gives it", "input_path['a']"]),
    (ASKS.format("{'a': Load()}", "inputs", "return inputs.a"), DefinitionError,
     ["run() of Wrong() uses inputs", "a dict with 'a'", "inputs['a']"]),
    (ASKS.format("[Load()]", "inputs", "return inputs + 1"), DefinitionError, ["a list of 1", "inputs[0]"]),
    (ASKS.format("[]", "input_path", "return input_path.read_text()"), DefinitionError,
     ["run() of Wrong() uses input_path", "empty, since requires() gives nothing"]),
    (ASKS.format("Load()", "input_path", "return open(input_path + '/x')"), DefinitionError,
     ["run() of Wrong() uses input_path", "a path: write open(input_path)", "`inputs`"]),
    (ASKS.format("Load()", "input_path", "import json; return json.load(input_path)"), DefinitionError,
     ["run() of Wrong() uses input_path", "a path: write open(input_path)"]),
    (ASKS.format("Load()", "input_path", "return (input_path / 'part.csv').read_text()"), TargetKindError,
     ["run() of Wrong() looks for part.csv in its input", "one file"]),
    (ASKS.format("Load()", "metadata", "metadata.rows = 3"), DefinitionError, ["Wrong()", "metadata['rows'] ="]),
    (MANY + "    def run(self, output_path):\n        output_path.write_text('x')", DefinitionError,
     ["run() of Wrong() uses output_path", "a list of 2, as output() gives it", "output_path[0]"]),
    (MANY + "    def run(self, output_path):\n        open(output_path, 'w')", DefinitionError, ["output_path[0]"]),
    (PLACED.format("LocalFileTarget('f')", "output_path.write('x')"), DefinitionError, ["write open(output_path)"]),
    (PLACED.format("None", "open(output_path, 'w')"), DefinitionError,
     ["run() of Wrong() uses output_path, which is None", "output() of Wrong() gave None", "`return`"]),
    (ASKS.format("Load()", "", "return self.input().read()").replace("self, ", "self"), DefinitionError,
     ["run() of Wrong() uses a target", "`inputs`"]),
    (ASKS.format("Load()", "", "return self.requires() + 1").replace("self, ", "self"), DefinitionError,
     ["run() of Wrong() uses self.requires(), the task Load(n=1)", "inputs"]),
    (ASKS.format("Folder()", "input_path", "return open(input_path).read()") + "\n" + FOLDER
     + "    def run(self, output_path): (output_path / 'a.csv').write_text('1')", TargetKindError,
     ["run() of Wrong() reads its input made as a file", "a folder", "input_path / 'part.csv'"]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WHEN_RUN)))
def test_a_mistake_is_explained_when_it_runs(number: int, caplog: pytest.LogCaptureFixture) -> None:
    source, kind, words = WHEN_RUN[number]
    with pytest.raises(TaskFailedError) as caught:
        run_task(in_run(source)(), quiet=True)
    assert isinstance(caught.value.__cause__, kind), repr(caught.value.__cause__)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert "Wrong()" in str(caught.value)


def test_errors_of_users_that_only_look_alike_stay_theirs() -> None:
    for source, kind in (
        ("load = Load(n=5); return 1 + 'a'", TypeError),
        ("return open('nowhere.txt').read()", FileNotFoundError),
        ("return self.nothing", AttributeError),
        ("x = None; return x.read()", AttributeError),
        ("return int('<class list>')", ValueError),
    ):
        with pytest.raises(TaskFailedError) as caught:
            run_task(in_run(RUN.format(source))(), quiet=True)
        assert type(caught.value.__cause__) is kind
    for source, kind in (
        ("return ([1] + [str(one) for one in input_path]).nothing", AttributeError),
        ("return int(input_path[0].name)", ValueError),
        ("return open(input_path[0].parent / 'nowhere')", FileNotFoundError),
        ("metadata['x'] = {} + 1", TypeError),
        ("metadata['a'] + metadata['b']", KeyError),
    ):
        with pytest.raises(TaskFailedError) as caught:
            run_task(in_run(ASKS.format("[Load()]", "input_path, metadata", source))(), quiet=True)
        assert type(caught.value.__cause__) is kind


def test_the_executor_that_was_shut_down_is_named() -> None:
    for kind in (concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor):
        with kind(1) as executor:
            pass
        with pytest.raises((OptionError, TaskFailedError), match=r"shut down.*`with` block"):
            run_task(Load(n=7), executor=executor, quiet=True)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("outputs", "output"), ("require", "requires"), ("complet", "complete"), ("on_sucess", "on_success"),
     ("runs", "run"), ("Run", "run"), ("load_outputs", "load_output"), ("total", "")],
)  # fmt: skip
def test_a_method_that_is_called_almost_as_a_hook_is_asked_about(wrong: str, meant: str) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        written(f"def {wrong}(self): return []")()
        written(f"def {wrong}(self): return []", f"def run(self): return self.{wrong}()")()
        written(f"def {wrong}(self): return []", f"def {meant or 'run'}(self, *_): return []")()
    told = [str(one.message) for one in found]
    if meant:
        assert len(told) == 1 and f"Wrong.{wrong}" in told[0] and f"def {meant}" in told[0]
    else:
        assert told == []


def test_a_section_that_is_called_almost_as_a_task_is_asked_about() -> None:
    with pytest.warns(UserWarning, match=r"section \[Laod\].*\[Load\]"):
        run_task(Load(n=8), config={"Laod": {"n": "3"}}, quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_task(Load(n=9), config={"Load": {"n": "3"}, "my_settings": {"a": "b"}, "load": {"a": "b"}}, quiet=True)


def test_a_variable_that_is_called_almost_as_a_setting_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPCE", "x")
    with pytest.warns(UserWarning, match="SUPERLUIGI_WORKSPCE, .* Did you mean SUPERLUIGI_WORKSPACE?"):
        run_task(Load(n=8), quiet=True)
    monkeypatch.delenv("SUPERLUIGI_WORKSPCE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("SUPERLUIGI_PYTHON", "SUPERLUIGI_QUEUE_URL", "SUPERLUIGI_TEST_S3", "SUPERLUIGI_HOME"):
            monkeypatch.setenv(name, "x")
        run_task(Load(n=9), quiet=True)


class Itself:
    """Writes half of its output to the final place, and fails."""

    target = LocalFileTarget

    def output(self) -> Any:
        return self.target(Path("half.txt").absolute())

    def run(self) -> None:
        place = self.output().path
        if self.target is LocalFolderTarget:
            place.mkdir()
            place = place / "part"
        place.write_text("half")
        raise ValueError("the disk is full")


@pytest.mark.parametrize("base", [Task, TaskWithMetadata, AtomicTaskWithMetadata])
@pytest.mark.parametrize("target", [LocalFileTarget, LocalFolderTarget])
def test_half_an_output_that_run_wrote_itself_does_not_count_as_complete_without_a_word(
    base: Any, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cls = type(f"Half{base.__name__}{target.__name__}", (Itself, base), {"target": target, "run": Itself.run})
    with pytest.raises(TaskFailedError):
        run_task(cls())
    capsys.readouterr()
    try:
        run_task(cls())
    except TaskFailedError:
        return  # it was not complete
    said = capsys.readouterr().out
    assert "counts as complete, but its last attempt failed" in said and "half.txt" in said and "force=True" in said


def test_an_output_made_well_after_a_failure_is_complete_without_a_word(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mended(Task):
        def output(self) -> Any:
            return LocalFileTarget("mended.txt")

        def run(self) -> None:
            if not Path("go").exists():
                raise ValueError("not yet")
            self.output().path.write_text("x")

    with pytest.raises(TaskFailedError):
        run_task(Mended())
    Path("go").touch()
    run_task(Mended())
    capsys.readouterr()
    run_task(Mended())
    assert "last attempt failed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "wrong_run", "Laod"], "did you mean Load?"),
        (["run", "wrong_rum", "Load"], "did you mean wrong_run?"),
        (["run", "wrong_run", "Load", "--n", "three"], "--n of Load: 'three' cannot be read as INT: write a whole"),
        (["run", "wrong_run", "Load", "n=3"], "'n=3' is no option: write --n 3."),
        (["run", "wrong_run", "Load", "--m", "3"], "there is no option --m"),
        (["run", "wrong_run.Load"], "Write the module and the task apart: wrong_run Load."),
        (["run", "inner/relative.py", "Load"], "as in PACKAGE.relative"),
        (["run", "missing_of_it", "Load"], "Install what provides no_such_package_of_theirs"),
        (["run", "missing_pydantic", "Load"], "pip install 'superluigi[checks]', or run in the folder that holds it"),
        (["run", "missing_sklearn", "Load"], "pip install 'superluigi[tutorial]', or"),
        (["run", "missing_polars", "Load"], "pip install 'superluigi[formats]', or"),
    ],
)
def test_a_mistake_on_the_command_line_names_what_was_meant(here: Path, words: list[str], said: str) -> None:
    in_run(RUN.format("return 1"))
    (here / "inner").mkdir()
    (here / "inner" / "relative.py").write_text("from .other import Load\n")
    (here / "missing_of_it.py").write_text("import no_such_package_of_theirs\n")
    for module in ("pydantic", "sklearn.base", "polars"):  # of our extras
        program = f"raise ModuleNotFoundError('No module named {module}', name={module!r})"
        (here / f"missing_{module.partition('.')[0]}.py").write_text(program)
    done = subprocess.run([sys.executable, "-m", "superluigi", *words], capture_output=True, text=True, check=False)
    unreadable = words[3:] != []
    assert done.returncode == (2 if unreadable else 1) and said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--many", '[1, "x"]', "cannot be read as LIST: expected is list[int], in which 'x' (str) should be int"),
        ("--many", "1,2", "write it as JSON, such as '[1, 2]'"),
        ("--deep", '{"a": ["x"]}', "list[int], in which 'x' (str) should be int"),
        ("--deep", "[1]", "expected is dict[str, list[int]]"),
        ("--day", "01.02.2020", "cannot be read as DATE: write 2013-12-15."),
        ("--flag", "maybe", "cannot be read as BOOL: write true or false."),
        ("--wait", "soon", "cannot be read as TIMEDELTA: "),
        ("--luigis", "soon", "write '2 h 30 m', '1 d'"),
        ("--minute", "noon", "write 2013-12-15T0830."),
        ("--colour", "GREEN", "it is one of RED, BLUE"),
    ],
)
def test_a_value_on_the_command_line_that_cannot_be_read_is_answered_with_how_it_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str, text: str, said: str
) -> None:
    (here / "typed_for_cli.py").write_text(
        "import datetime, enum, luigi\n"
        "from superluigi.parameters import Param\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\n"
        "class Colour(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
        "class TypedForCli(AtomicTaskWithMetadata):\n"
        "    many: Param[list[int]] = [1]\n"
        "    deep: Param[dict[str, list[int]]] = {}\n"
        "    day: Param[datetime.date] = datetime.date(2020, 1, 1)\n"
        "    flag: Param[bool] = False\n"
        "    wait: Param[datetime.timedelta] = datetime.timedelta(1)\n"
        "    luigis = luigi.TimeDeltaParameter(default=datetime.timedelta(1))\n"
        "    minute = luigi.DateMinuteParameter(default=datetime.datetime(2020, 1, 1))\n"
        "    colour: Param[Colour] = Colour.RED\n"
    )
    monkeypatch.syspath_prepend(str(here))
    assert cli.main(["status", "typed_for_cli", "TypedForCli", option, text]) == 2
    answer = capsys.readouterr().err
    assert f"{option} of TypedForCli: {text!r} cannot be read as" in answer and said in answer

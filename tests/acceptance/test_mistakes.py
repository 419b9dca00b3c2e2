"""What users write by mistake, and the advice that they get: task, parameter or method, what came, what to write."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import compute, run_task
from superluigi.errors import (
    DefinitionError,
    OptionError,
    ParameterError,
    StorageAccessError,
    SuperLuigiError,
    TargetKindError,
    TaskFailedError,
)
from superluigi.parameters import BoolParameter, DateParameter, FloatParameter, IntParameter, Param
from superluigi.parameters import Requires as Requires
from superluigi.targets import LocalFileTarget, LocalFolderTarget
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


class DefaultAsText(AtomicTaskWithMetadata):
    n = IntParameter(default="4")  # type: ignore[arg-type]


class PlainAttribute(AtomicTaskWithMetadata):
    n: int = 3


class OwnInit(AtomicTaskWithMetadata):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n


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
    (lambda: run_task([Load(1), Load(2)]), OptionError, ["Load(n=1)", "(list)", "run_task(collect([…]))"]),  # type: ignore[arg-type]
    (lambda: run_task({"a": Load}), OptionError, ["(dict)", "run_task(collect([…]))"]),  # type: ignore[arg-type]
    (lambda: run_task("Load"), OptionError, ["'Load' (str)", "superluigi run"]),  # type: ignore[arg-type]
    (lambda: run_task(written), OptionError, ["(function)", "@task", "run_task(written(…))"]),  # type: ignore[arg-type]
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
    ):
        with pytest.raises(TaskFailedError) as caught:
            run_task(in_run(RUN.format(source))(), quiet=True)
        assert type(caught.value.__cause__) is kind


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
        (["run", "wrong_run", "Load", "--n", "three"], "--n of Load: 'three' cannot be read as INT"),
        (["run", "wrong_run", "Load", "--m", "3"], "there is no option --m"),
    ],
)
def test_a_mistake_on_the_command_line_names_what_was_meant(here: Path, words: list[str], said: str) -> None:
    in_run(RUN.format("return 1"))
    done = subprocess.run([sys.executable, "-m", "superluigi", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2

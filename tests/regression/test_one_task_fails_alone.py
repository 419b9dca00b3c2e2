"""Whatever a task raises, or is asked and answers with nonsense: it fails by name, and the others run."""

from __future__ import annotations

import gc
import logging
import traceback
from pathlib import Path
from smtplib import SMTPRecipientsRefused
from typing import Any

import luigi
import numpy
import pytest
from luigi.batch_notifier import BatchNotifier

from superluigi import run_task
from superluigi.errors import MESSAGE_LIMIT, DefinitionError, ExecutorLostError, TaskFailedError, message_of
from superluigi.lineage.staleness.why import why
from superluigi.parameters import Param
from superluigi.runs.force import graph_of
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task
from superluigi.tasks.preview import plan, storage_report
from superluigi.visuals import dependency_graph, plot_dependency_graph

WAYS = [{}, {"num_workers": 2, "executor": "threads"}, {"num_workers": 2, "executor": "processes"}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Good(luigi.Task):
    n = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"good-{self.n}.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("x")


def good() -> list[Good]:
    return [Good(n) for n in range(2)]


class Both(luigi.WrapperTask):
    """The good ones, and one that is bad in the way that is asked for."""

    kind = luigi.Parameter()

    def requires(self) -> Any:
        return [*good(), BAD[self.kind]()]


def assert_fails_alone(root: luigi.Task, *words: str, **options: Any) -> TaskFailedError:
    error = _raised(root, **options)
    if not isinstance(error, TaskFailedError):  # as text: pytest itself cannot show what these are chained to
        pytest.fail(f"{type(error)}: {message_of(error)}\n{''.join(traceback.format_tb(error.__traceback__))}")
    assert all(task.complete() for task in good())
    for word in words:
        assert word in str(error)
    assert "external" not in str(error)
    return error


def _raised(root: luigi.Task, **options: Any) -> BaseException:
    try:
        run_task(root, **options)
    except BaseException as error:  # noqa: BLE001  # looked at by the caller
        return error
    return AssertionError("nothing was raised")


# ---- errors of the strangest kinds


class TextFails(Exception):  # noqa: N818
    def __str__(self) -> str:
        return 404  # type: ignore[return-value]


class TextExits(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise SystemExit(1)


class ReprFails:
    def __repr__(self) -> str:
        raise LookupError("no name")


class NeedsTwo(Exception):  # noqa: N818
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class ReduceFails(Exception):  # noqa: N818
    def __reduce__(self) -> Any:
        raise RuntimeError("not a traveller")


class ReduceExits(Exception):  # noqa: N818
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class AttributesFail(Exception):  # noqa: N818
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class NoException(BaseException):
    pass


def _lambda_inside() -> Exception:
    error = ValueError("holds a function")
    error.function = lambda: None  # type: ignore[attr-defined]
    return error


ERRORS: dict[str, Any] = {
    "text fails": lambda: TextFails(404),
    "text exits": TextExits,
    "arguments without repr": lambda: ValueError(ReprFails(), 1),
    "cannot be rebuilt": lambda: NeedsTwo(1, 2),
    "reduce fails": ReduceFails,
    "reduce exits": ReduceExits,
    "holds a function": _lambda_inside,
    "attributes fail": AttributesFail,
    "huge": lambda: ValueError("long " * MESSAGE_LIMIT),
    "no Exception": lambda: NoException("base"),
    "SystemExit(0)": lambda: SystemExit(0),
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "KeyError of nothing": KeyError,
    "of a run within": lambda: ExecutorLostError("its own scheduler does not answer"),
}


class Raises(luigi.Task):
    kind = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget("never.txt")

    def run(self) -> None:
        raise ERRORS[self.kind]()


class RaisesWithRecords(AtomicTaskWithMetadata):
    kind: Param[str]

    def run(self, output_path: Path) -> None:
        output_path.write_text("half")
        raise ERRORS[self.kind]()


class AllErrors(luigi.WrapperTask):
    def requires(self) -> Any:
        return [*good(), *(cls(kind=kind) for kind in ERRORS for cls in (Raises, RaisesWithRecords))]


@pytest.mark.parametrize("options", WAYS)
def test_whatever_a_task_raises_it_fails_by_name_and_the_others_run(
    options: dict[str, Any], here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "superluigi")  # where tracebacks are logged, too
    error = assert_fails_alone(AllErrors(), **options)
    failed = {task for task, _ in error.failures}
    assert failed == {str(cls(kind=kind)) for kind in ERRORS for cls in (Raises, RaisesWithRecords)}
    assert all(len(told) < 2 * MESSAGE_LIMIT for _, told in error.failures)
    assert not (here / "never.txt").exists()
    assert not RaisesWithRecords(kind="huge").complete()


class Interrupts(AtomicTaskWithMetadata):
    behind: Param[str] = ""

    @property
    def command_prefix(self) -> Any:  # type: ignore[override]
        return self.behind

    def run(self) -> None:
        raise KeyboardInterrupt("its own")


class AnInterruption(luigi.WrapperTask):
    behind = luigi.Parameter(default="")

    def requires(self) -> Any:
        return [*good(), Interrupts(self.behind)]


ASKED = ["output", "requires", "complete", "resources", "priority", "process_resources", "input", "on_failure"]


class _Odd(AtomicTaskWithMetadata):
    kind: Param[str]

    def run(self, output_path: Path) -> None:
        raise ValueError("what on_failure is called for")


def _raises(self: Any, *_: Any) -> Any:
    raise ERRORS[self.kind]()


ODD: dict[str, Any] = {
    name: type(f"Odd_{name}", (_Odd,), {name: property(_raises) if name in ("resources", "priority") else _raises})
    for name in ASKED
}


class AskedOddly(luigi.WrapperTask):
    kind = luigi.Parameter()

    def requires(self) -> Any:
        return [*good(), *(cls(kind=self.kind) for cls in ODD.values())]


@pytest.mark.parametrize("kind", ["no Exception", "SystemExit(0)", "GeneratorExit", "attributes fail", "reduce exits"])
def test_whatever_a_task_raises_when_it_is_asked_is_its_own_failure(
    kind: str, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = assert_fails_alone(AskedOddly(kind), num_workers=2, executor="threads")
    assert "on_failure() failed too:" in caplog.text
    assert {task for task, _ in error.failures} == {str(cls(kind=kind)) for cls in ODD.values()}


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "threads", "num_workers": 2},
        {"executor": "processes", "num_workers": 2},
        {"executor": "processes", "num_workers": 2, "task": AnInterruption("env")},
        {"task": AnInterruption("env")},
        {"queue": "interrupted", "num_workers": 2},
        {"queue": "interrupted", "num_workers": 1, "task": AnInterruption("env")},
    ],
    ids=str,
)
def test_an_interruption_that_a_task_raises_itself_ends_that_task_only(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    """Where a process of ours makes it, or a thread; in the caller's own it cannot be told from Ctrl-C."""
    monkeypatch.setenv("SUPERLUIGI_QUEUE_URL", f"sqlite:///{here}/queue.db")
    task = options.get("task", AnInterruption())
    error = assert_fails_alone(task, "Interrupts(", "its own", **{k: v for k, v in options.items() if k != "task"})
    assert "lost its process" not in str(error)


def test_a_raised_group_names_what_is_in_it() -> None:
    group = pytest.importorskip("builtins").__dict__.get("ExceptionGroup")
    if group is None:
        pytest.skip("Python 3.10 has no groups")

    class Grouped(AtomicTaskWithMetadata):
        def run(self) -> None:
            raise group("two", [ValueError("one"), KeyError("other")])

    with pytest.raises(TaskFailedError, match="two"):
        run_task(Grouped())


def test_a_log_line_that_cannot_be_written_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of the test framework raise on purpose

    class Logs(AtomicTaskWithMetadata):
        def run(self) -> int:
            logging.getLogger("mine").warning("this: %s", ReprFails())
            return 1

    run_task(Logs())
    assert Logs().complete()


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_the_message_of_any_error_is_text_of_a_sane_length(kind: str) -> None:
    assert len(message_of(ERRORS[kind]())) < MESSAGE_LIMIT + 100


# ---- attributes that raise, or are nothing that they could be


def raising(name: str) -> Any:
    def fail(self: Any, *args: Any) -> Any:
        raise LookupError(f"no {name} here")

    return fail


ATTRIBUTES = ["resources", "priority", "retry_count", "worker_timeout", "disable_window", "disable_hard_timeout"]
ATTRIBUTES += ["disabled", "accepts_messages", "batchable", "task_family", "task_module"]
METHODS = ["process_resources", "output", "requires", "complete", "deps", "__str__", "__repr__"]
NONSENSE = {
    "resources": ["gpu", 3, {"gpu": "many"}, {"gpu": -1}, {1: 1}],
    "priority": ["high", None, float("nan"), [1]],
    "retry_count": ["two", -1, float("nan")],
    "worker_timeout": ["10s", -5, {}],
    "disable_window": ["a day", b"1"],
    "disable_hard_timeout": [()],
    "executor": ["procceses", 5],
}


def _bad(name: str, value: Any) -> type[luigi.Task]:
    class Bad(luigi.Task):
        def output(self) -> Any:
            return luigi.LocalTarget("bad.txt")

        def run(self) -> None:
            with self.output().open("w") as file:
                file.write("x")

    return type("Bad", (Bad,), {name: value, "__module__": __name__})


BAD: dict[str, Any] = {
    **{name: _bad(name, property(raising(name))) for name in ATTRIBUTES},
    **{name: _bad(name, raising(name)) for name in [*METHODS, "run"]},
    "nothing": _bad("note", None),
    **{f"{name}={value!r}": _bad(name, value) for name, values in NONSENSE.items() for value in values},
}


@pytest.mark.parametrize("kind", sorted(BAD.keys() - {"run", "nothing"}))
def test_an_attribute_that_raises_or_is_nonsense_fails_that_task_by_name(kind: str, here: Path) -> None:
    named = {"__str__": ["text"], "__repr__": ["text"], "output": [], "requires": [], "complete": [], "deps": []}
    words = named.get(kind, [kind.partition("=")[0]])
    assert_fails_alone(Both(kind), "Bad", *words)
    assert not (here / "bad.txt").exists()


@pytest.mark.parametrize("options", WAYS[1:])
def test_so_it_is_with_other_executors(options: dict[str, Any]) -> None:
    class Several(luigi.WrapperTask):
        def requires(self) -> Any:
            names = [
                "resources",
                "worker_timeout",
                "priority='high'",
                "complete",
                "executor=5",
                "task_family",
                "__str__",
            ]
            return [*good(), *(BAD[name]() for name in names)]

    assert_fails_alone(Several(), "Bad", **options)


def test_an_attribute_that_raises_only_when_the_task_starts_fails_it_then(here: Path) -> None:
    class Moody(luigi.Task):
        @property
        def resources(self) -> Any:
            if (here / "good-0.txt").exists():
                raise LookupError("gone meanwhile")
            return {}

        def requires(self) -> Any:
            return good()

        def output(self) -> Any:
            return luigi.LocalTarget("moody.txt")

        def run(self) -> None:
            raise AssertionError("it has no resources")

    assert_fails_alone(Moody(), "resources", "gone meanwhile")


@pytest.mark.parametrize("name", ["task_family", "task_module", "run", "__str__"])
def test_what_a_complete_task_is_called_need_not_be_known(name: str, here: Path) -> None:
    class Called(luigi.WrapperTask):
        def requires(self) -> Any:
            value = raising(name)
            return [*good(), type("Made", (BAD["nothing"],), {name: value if name == "__str__" else property(value)})()]

    (here / "bad.txt").write_text("x")
    run_task(Called())
    assert all(task.complete() for task in good())


GATHERED = {"scheduler": {"batch_emails": "true"}, "batch_email": {"email_interval": "0"}}
GATHERED["email"] = {"receiver": "owner@example.com"}


@pytest.mark.parametrize("options", [{}, {"executor": "threads"}, {"config": GATHERED}])
def test_a_mail_that_cannot_be_sent_is_no_failure_of_the_others(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise SMTPRecipientsRefused({})

    monkeypatch.setattr("luigi.notifications.send_email", refused)
    monkeypatch.setattr("luigi.batch_notifier.send_email", refused)
    for kind in ("requires", "complete", "run"):
        assert_fails_alone(Both(kind), "Bad", **options)
    assert "could not be sent" in caplog.text


def test_what_others_put_in_the_place_of_luigis_notifier_is_told_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    class Notifier(BatchNotifier):
        def add_failure(self, task_name: object, *_: object) -> None:
            told.append(task_name)

    monkeypatch.setattr("luigi.scheduler.BatchNotifier", Notifier)
    assert_fails_alone(Both("run"), "Bad", config=GATHERED)
    assert told


def test_what_a_complete_task_says_of_itself_does_not_matter(here: Path) -> None:
    (here / "bad.txt").write_text("there")
    run_task(BAD["resources"]())


def test_requirements_that_are_no_tasks_fail_the_one_that_names_them() -> None:
    class Wrong(luigi.WrapperTask):
        what = luigi.Parameter()

        def requires(self) -> Any:
            return {"text": "Good", "class": Good, "target": luigi.LocalTarget("x"), "number": [7]}[self.what]

    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [*good(), *(Wrong(what) for what in ("text", "class", "target", "number"))]

    assert_fails_alone(All(), "4 tasks: Wrong(what=text)", "Task objects")


def test_so_it_is_where_the_requirements_are_asked_for_the_place_of_the_output() -> None:
    class Homed(AtomicTaskWithMetadata):
        what: Param[str]

        def requires(self) -> Any:
            return {"text": "Good", "class": Good, "target": luigi.LocalTarget("x"), "number": [7]}[self.what]

        def run(self) -> int:
            return 1

    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [*good(), *(Homed(what=what) for what in ("text", "class", "target", "number"))]

    error = assert_fails_alone(All(), "4 tasks: Homed(what=text)")
    assert all("must give Task objects" in reason for _, reason in error.failures)


# ---- complete() that raises, below wrappers of all kinds


class Broken(luigi.Task):
    def complete(self) -> bool:
        raise ConnectionError("the database does not answer")


class Wraps(luigi.WrapperTask):
    def requires(self) -> Any:
        return [Broken(), *good()]


class WrapsWraps(luigi.WrapperTask):
    def requires(self) -> Any:
        return {"inner": Wraps(), "own": Broken()}


class OurWrapper(Task, luigi.WrapperTask):
    def requires(self) -> Any:
        return [Wraps(), *good()]


class BrokenExit(luigi.Task):
    def complete(self) -> bool:
        raise SystemExit(0)


class WrapsExit(luigi.WrapperTask):
    def requires(self) -> Any:
        return [BrokenExit(), *good()]


@pytest.mark.parametrize("root", [Wraps, WrapsWraps, OurWrapper, WrapsExit])
@pytest.mark.parametrize("options", WAYS)
def test_a_complete_that_raises_under_a_wrapper_stops_nothing_else(root: Any, options: dict[str, Any]) -> None:
    error = assert_fails_alone(root(), "blocks", **options)
    assert [task for task, _ in error.failures] in (["Broken()"], ["BrokenExit()"])


def test_such_a_complete_is_asked_once(here: Path) -> None:
    asked: list[int] = []

    class Counted(luigi.Task):
        def complete(self) -> bool:
            asked.append(1)
            raise ConnectionError("no")

    class Top(luigi.WrapperTask):
        def requires(self) -> Any:
            return [Counted(), *good()]

    assert_fails_alone(Top(), "Counted()")
    assert len(asked) == 1


# ---- requirements that a running task asks for


class Fails(AtomicTaskWithMetadata):
    def run(self) -> int:
        raise ValueError("boom")


class NotThere(ExternalTask):
    def output(self) -> Any:
        return LocalFileTarget("nothing.txt")


class Asks(AtomicTaskWithMetadata):
    def run(self) -> Any:
        yield [*good(), Fails()]
        return 1


class PlainAsks(luigi.Task):
    def output(self) -> Any:
        return luigi.LocalTarget("plain.txt")

    def run(self) -> Any:
        yield {"a": Fails(), "b": good()}


class AsksDeeper(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return Asks()

    def run(self) -> int:
        return 2


class AsksForBroken(AtomicTaskWithMetadata):
    def run(self) -> Any:
        yield [Broken(), *good()]


@pytest.mark.parametrize("root", [Asks, PlainAsks, AsksDeeper])
@pytest.mark.parametrize("options", WAYS)
def test_a_failed_dynamic_requirement_is_the_cause_and_nothing_is_external(root: Any, options: dict[str, Any]) -> None:
    error = assert_fails_alone(
        root(),
        "Fails() failed: ValueError: boom",
        f"blocks {'Asks' if root is not PlainAsks else 'PlainAsks'}()",
        **options,
    )
    assert [task for task, _ in error.failures] == ["Fails()"]
    assert f"blocks {'PlainAsks' if root is PlainAsks else 'Asks'}()" in str(error)


def test_an_external_dynamic_requirement_that_is_missing_is_named_alone() -> None:
    class Waits(AtomicTaskWithMetadata):
        def run(self) -> Any:
            yield [*good(), NotThere()]

    with pytest.raises(TaskFailedError) as caught:
        run_task(Waits())
    assert [task for task, _ in caught.value.failures] == ["NotThere()"]
    assert "blocks Waits()" in str(caught.value)
    assert all(task.complete() for task in good())


def test_a_dynamic_requirement_whose_complete_raises_is_named_after_the_others_ran() -> None:
    assert_fails_alone(AsksForBroken(), "the database does not answer")


def test_a_dynamic_requirement_made_on_the_second_try_is_a_success(here: Path) -> None:
    class Second(luigi.Task):
        retry_count = 3

        def output(self) -> Any:
            return luigi.LocalTarget("second.txt")

        def run(self) -> None:
            if not (here / "first").exists():
                (here / "first").touch()
                raise ValueError("not yet")
            Path("second.txt").write_text("x")

    class Top(luigi.Task):
        def output(self) -> Any:
            return luigi.LocalTarget("top.txt")

        def run(self) -> Any:
            yield Second()
            Path("top.txt").write_text("x")

    run_task(Top())
    assert (here / "top.txt").exists()


# ---- objects that do not travel, in parameters, attributes and values


class _Word:
    def __init__(self, text: str) -> None:
        vars(self)["text"] = text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(vars(self)["text"])


class HasNoAttribute(_Word):
    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class DoesNotReduce(_Word):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class HasNoState(_Word):
    def __getstate__(self) -> Any:
        raise LookupError("no state")


class TakesNoState(_Word):
    def __setstate__(self, state: object) -> None:
        raise LookupError("no state is taken")


STUCK: dict[str, Any] = {kind.__name__: kind for kind in (HasNoAttribute, DoesNotReduce, HasNoState, TakesNoState)}


class StuckParameter(luigi.Parameter):
    def parse(self, x: str) -> Any:
        kind, _, text = x.partition(":")
        return STUCK[kind](text)

    def serialize(self, x: Any) -> str:
        return f"{type(x).__name__}:{vars(x)['text']}"


class HasParameter(luigi.Task):
    word = StuckParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"has-{type(self.word).__name__}.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(vars(self.word)["text"])


class HoldsAndReturns(AtomicTaskWithMetadata):
    kind: Param[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.held = STUCK[self.kind]("held")

    def run(self) -> Any:
        return self.held


class AllStuck(luigi.WrapperTask):
    def requires(self) -> Any:
        return [*good(), *(HasParameter(kind("x")) for kind in STUCK.values()), *map(HoldsAndReturns, STUCK)]


@pytest.mark.parametrize("options", [*WAYS, {"queue": "sqlite:///queue.db"}], ids=str)
def test_objects_that_do_not_travel_fail_their_task_at_most(options: dict[str, Any], here: Path) -> None:
    error = assert_fails_alone(AllStuck(), **options)
    failed = {task for task, _ in error.failures}
    assert failed <= {str(task) for task in AllStuck().requires()} and failed >= {"HoldsAndReturns(kind=DoesNotReduce)"}
    if options in WAYS[:2]:
        assert all(HasParameter(kind("x")).complete() for kind in STUCK.values())


# ---- tasks that cannot be in a set, and events that cannot be told


class Unhashable(Good):
    def __eq__(self, other: object) -> bool:
        raise LookupError("not to be compared")


class AllEqual(Good):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class HasEveryName(Good):
    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class HasNoOtherName(Good):
    def __getattr__(self, name: str) -> None:
        raise AttributeError(name) if name.startswith("__") else LookupError(name)


class ReadsIt(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return HasNoOtherName(10)

    def run(self, inputs: str) -> str:
        return inputs


class SaysItInNumbers(Good):
    def complete(self) -> Any:
        return numpy.bool_(int(super().complete()))


class TellsNothing(Good):
    fails = luigi.BoolParameter()

    def trigger_event(self, *_: Any) -> None:
        raise ERRORS["no Exception"]()

    def run(self) -> None:
        super().run()
        if self.fails:
            raise ValueError("boom")


class OurTellsNothing(AtomicTaskWithMetadata):
    def trigger_event(self, *_: Any) -> None:
        raise ValueError("nothing is told")

    def run(self) -> int:
        return 1


class Around(luigi.WrapperTask):
    def requires(self) -> Any:
        alike = [Unhashable(3), AllEqual(6), AllEqual(7), HasEveryName(8), SaysItInNumbers(9), TellsNothing(4)]
        return [*good(), *alike, ReadsIt(), OurTellsNothing(), TellsNothing(5, fails=True)]


@pytest.mark.parametrize("options", [*WAYS, {"queue": "sqlite:///queue.db"}], ids=str)
def test_tasks_that_cannot_be_in_a_set_and_events_that_cannot_be_told_fail_nothing(options: dict[str, Any]) -> None:
    error = assert_fails_alone(Around(), "TellsNothing(n=5, fails=True) failed", **options)
    made = [
        TellsNothing(4),
        OurTellsNothing(),
        ReadsIt(),
        AllEqual(6),
        AllEqual(7),
        HasEveryName(8),
        SaysItInNumbers(9),
    ]
    assert len(error.failures) == 1 and all(task.complete() for task in made)


def test_such_tasks_are_told_apart_by_all_that_only_looks_at_them(here: Path) -> None:
    around, count = Around(), len(Around().requires()) + 2
    explained = run_task(around, dry_run=True)
    assert len(explained) == len(why(around)) == len(plan(around).to_run) == count
    assert sum(one.tasks for one in storage_report(around).values()) == dependency_graph(around).order() == count
    assert len(graph_of([around]).tasks) == count
    plot_dependency_graph(around, "graph.html")
    run_task(AllEqual(6), refresh="all")
    assert AllEqual(6).complete() and not AllEqual(7).complete()


# ---- targets that answer one question only


class OnlyExists(luigi.Target):
    """Refuses all but what Luigi asks of a target."""

    def __init__(self, name: str) -> None:
        vars(self)["name"] = name

    def exists(self) -> bool:
        return Path(vars(self)["name"]).exists()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else LookupError(name)

    def __repr__(self) -> str:
        raise LookupError("no text")

    def __getitem__(self, key: object) -> object:
        raise LookupError("no members")


class ManyLines(OnlyExists):
    def __iter__(self) -> Any:
        return iter(["a line"])

    def __len__(self) -> int:
        raise LookupError("no length")


class MakesOdd(Task):
    def output(self) -> Any:
        return {"one": OnlyExists("odd.txt"), "more": [ManyLines("lines.txt")]}

    def run(self) -> None:
        for name in ("odd.txt", "lines.txt"):
            Path(name).touch()


class ReadsOdd(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return MakesOdd()

    def run(self) -> int:
        return len(self.input())


@pytest.mark.parametrize("options", [*WAYS, {"queue": "sqlite:///queue.db"}], ids=str)
def test_targets_that_refuse_all_but_whether_they_exist_are_made_and_read(options: dict[str, Any], here: Path) -> None:
    assert set(run_task(MakesOdd(), **options)) == {"one", "more"}
    run_task(ReadsOdd(), **options)
    assert ReadsOdd().complete()
    (here / "odd.txt").unlink()
    assert "MakesOdd()" in str(_raised(MakesOddNot(), **options))


class MakesOddNot(MakesOdd):
    def run(self) -> None:
        raise ValueError("MakesOdd() and its like")


# ---- tasks that change what they are


def _becomes_another(task: Any) -> None:
    task.__class__ = Good


HARM: dict[str, Any] = {
    "task_id, param_kwargs": lambda task: vars(task).clear(),
    "task_id": lambda task: vars(task).update(task_id="Good_1"),
    "harm": lambda task: vars(task).pop("harm"),
    "param_kwargs": lambda task: vars(task).update(param_kwargs={}),
    "__class__": _becomes_another,
}


class Harms(luigi.Task):
    harm = luigi.Parameter()
    later = luigi.Parameter(default="")

    def output(self) -> Any:
        return luigi.LocalTarget(f"never-{self.harm[:9]}.txt")

    def run(self) -> None:
        later = self.later
        HARM[self.harm](self)
        if later:
            raise ValueError(later)

    def on_failure(self, exception: BaseException) -> None:
        HARM[self.harm](self)


class HarmsWithRecords(AtomicTaskWithMetadata):
    harm: Param[str]

    def run(self) -> int:
        HARM[self.harm](self)
        return 1


class AllHarm(luigi.WrapperTask):
    def requires(self) -> Any:
        plain = [Harms(harm=harm, later=later) for harm in HARM for later in ("", "its own")]
        return [*good(), *plain, *(HarmsWithRecords(harm=harm) for harm in HARM)]


@pytest.mark.parametrize("options", WAYS)
def test_a_task_that_is_another_after_its_run_fails_by_the_name_that_it_had(
    options: dict[str, Any],
) -> None:
    harmful = [task for task in AllHarm().requires() if not isinstance(task, Good)]
    error = assert_fails_alone(AllHarm(), **options)
    assert {task for task, _ in error.failures} == {str(task) for task in harmful}
    for task, told in error.failures:
        assert f"{task} has replaced or removed its own " in told
    assert not [task for task in harmful if task.complete()]
    assert sum("(It then failed with ValueError: its own)" in told for _, told in error.failures) == len(HARM)


def test_a_task_that_gives_its_class_another_parameter_does_not_end_the_run() -> None:
    class Adds(Good):
        def run(self) -> None:
            setattr(Adds, "added", luigi.IntParameter(default=1))  # noqa: B010
            raise ValueError("its own")

    error = _raised(Adds(5))
    assert isinstance(error, TaskFailedError) and "its own" in str(error)


class BreaksOff(Good):
    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("half")
            raise ValueError("boom")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Luigi leaves the file open
@pytest.mark.parametrize("options", [*WAYS, {"queue": "sqlite:///queue.db"}], ids=str)
def test_what_luigi_removes_once_nobody_has_it_is_removed_after_a_failure(options: dict[str, Any], here: Path) -> None:
    assert "boom" in str(_raised(BreaksOff(5), **options))
    gc.collect()
    assert not [path for path in here.iterdir() if "good-5" in path.name]


def test_a_class_of_ours_without_a_hash_is_refused_when_it_is_written() -> None:
    class Compares:
        def __eq__(self, other: object) -> bool:
            return self is other

    for bases in [(AtomicTaskWithMetadata,), (Compares, AtomicTaskWithMetadata)]:
        with pytest.raises(DefinitionError, match="and no __hash__, but"):
            type(AtomicTaskWithMetadata)("Eq", bases, {"__eq__": Compares.__eq__} if len(bases) == 1 else {})
    hashed = {"__eq__": Compares.__eq__, "__hash__": luigi.Task.__hash__, "__module__": __name__}
    type(AtomicTaskWithMetadata)("Eq", (AtomicTaskWithMetadata,), hashed)


def test_a_root_without_a_text_or_that_was_not_made_as_a_task_is_told_with_the_reason() -> None:
    class Nameless(Good):
        def __str__(self) -> str:
            raise LookupError("no words")

    class Unmade(luigi.Task):
        def __init__(self) -> None:
            pass

    with pytest.raises(TaskFailedError, match=r"text of Nameless_.* cannot be told: .*no words"):
        run_task(Nameless(1))
    with pytest.raises(DefinitionError, match=r"Unmade was not made as a task.*call super\(\)"):
        run_task(Unmade())

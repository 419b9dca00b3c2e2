"""Submit hooks, callbacks, tags: what is known and told about a task."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import DefinitionError, ParameterError, TaskFailedError
from superluigi.parameters import FloatParameter, IntParameter, Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Job, SubmitHook
from superluigi.tasks.runtime import tags


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Base(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget(f"out/{self.task_family}-{self.task_hash[:8]}.txt")


class Needs(SubmitHook):
    """Counts in a file how often it was asked."""

    def __init__(self, what: str) -> None:
        self.spec = what

    def process(self, job: Job) -> None:
        with open("asked", "a") as stream:
            stream.write(f"{self.spec}\n")
        job.environment[f"HOME_OF_{self.spec}"] = "/opt/" + self.spec
        job.environment["SEEN"] = job.environment.get("SEEN", "") + self.spec
        job.prefix = ["nice", "-n", "2"] if self.spec == "java" else "nice -n 2"  # type: ignore[assignment]
        job.resources[self.spec] = 1


@Needs("corpus")
class Corpus:
    def __repr__(self) -> str:
        return "Corpus()"


@Needs("java")
@Needs("model")
class Model(Base):
    def run(self, output_path: Path) -> None:
        output_path.write_text("model")


@Needs("java")
class Hooked(Base):
    environment = {"SEEN": "own,", "MINE": "1"}
    things = luigi.ListParameter(default=())
    model = luigi.Parameter(default=Model(), significant=False)
    objects = luigi.Parameter(default=(("deep", (Corpus(),)),), significant=False)

    def run(self, output_path: Path) -> None:
        names = ("HOME_OF_java", "HOME_OF_model", "HOME_OF_corpus", "SEEN", "MINE", "HOME", "PATH")
        output_path.write_text("|".join(os.environ[name] for name in names) + f"|{os.nice(0)}")


@pytest.mark.filterwarnings("ignore:Parameter")
@pytest.mark.parametrize("executor", [None, "processes"])
def test_hooks_of_class_and_parameters_run_once_per_spec(executor: str | None) -> None:
    task = Hooked()
    task.__dict__.pop("_superluigi_job", None)
    path = run_task(task, executor=executor)
    java, model, corpus, seen, mine, home, _path, nice = path.read_text().split("|")
    assert (java, model, corpus) == ("/opt/java", "/opt/model", "/opt/corpus")
    assert mine == "1" and home == os.environ["HOME"]
    assert int(nice) == os.nice(0) + 2
    assert sorted(Path("asked").read_text().split()) == ["corpus", "java", "model"]
    assert seen.startswith("own,") and len(seen) == len("own,javamodelcorpus")
    assert task.process_resources() == {"java": 1, "model": 1, "corpus": 1}
    assert "HOME_OF_java" not in os.environ


class Broken(SubmitHook):
    def process(self, job: Job) -> None:
        raise RuntimeError("the hook is broken")


@Broken()
class WithBroken(Base):
    def run(self, output_path: Path) -> None:
        output_path.write_text("never")


class Fine(Base):
    def run(self, output_path: Path) -> None:
        output_path.write_text("fine")


class Both(Base):
    def requires(self) -> Any:
        return [WithBroken(), Fine()]

    def run(self, output_path: Path) -> None:
        output_path.write_text("never")


def test_what_cannot_be_called_is_no_callback() -> None:
    for register in (Model().on_completed, Model().on_failed):
        with pytest.raises(DefinitionError, match="5 is no callback"):
            register(5)  # type: ignore[operator]


def test_a_broken_hook_fails_its_task_only() -> None:
    with pytest.raises(TaskFailedError, match=r"WithBroken.*the hook is broken"):
        run_task(Both())
    assert Fine().complete() and not WithBroken().complete()


def test_a_hook_stands_before_a_class() -> None:
    with pytest.raises(DefinitionError, match="stands before a class"):
        Needs("x")(print)  # type: ignore[type-var]


class Flaky(Base):
    x = IntParameter()
    succeeds_at = IntParameter(default=1)
    retry_count = 3

    def run(self, output_path: Path) -> None:
        with open(f"tries-{self.x}", "a") as stream:
            stream.write(".")
        if len(Path(f"tries-{self.x}").read_text()) < self.succeeds_at:
            raise ValueError("not yet")
        output_path.write_text("x")


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_callbacks_are_called_here_once_and_harm_nothing(executor: str | None, caplog: Any) -> None:
    told: list[Any] = []

    def broken(task: Any) -> None:
        raise RuntimeError("callback is broken")

    task = Flaky(x=1, succeeds_at=2)
    task.on_completed(broken).on_completed(lambda t: told.append(("done", t, os.getpid())))
    task.on_failed(lambda t, error: told.append(("failed", t)))
    run_task(task, executor=executor, config={"scheduler": {"retry_delay": 0}})
    run_task(task, executor=executor, force=True)
    assert told == [("done", task, os.getpid())]
    assert "callback is broken" in caplog.text
    task.on_completed(lambda t: told.append("at once"))
    assert told[-1] == "at once"


def test_a_failure_is_told_once_when_the_task_is_given_up() -> None:
    told: list[Any] = []
    task = Flaky(x=2, succeeds_at=99)
    task.on_completed(lambda t: told.append("done"))
    task.on_failed(lambda t, error: told.append((t, str(error))))
    with pytest.raises(TaskFailedError):
        run_task(task, config={"scheduler": {"retry_delay": 0}})
    assert len(Path("tries-2").read_text()) == 3
    assert told == [(task, "not yet")]


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_luigis_class_level_events_fire_here(executor: str | None) -> None:
    seen: list[str] = []

    class Eventful(Fine):
        salt = Parameter()

    Eventful.event_handler(luigi.Event.START)(lambda t: seen.append("start"))
    Eventful.event_handler(luigi.Event.SUCCESS)(lambda t: seen.append("success"))
    run_task(Eventful(salt=str(executor)), executor=executor)
    assert seen == ["start", "success"]


class Learn(Base):
    lr = FloatParameter()
    steps = IntParameter(default=1)

    def run(self, output_path: Path) -> None:
        output_path.write_text(str(self.tags))


@pytest.mark.parametrize("executor", [None, "processes"])
def test_tags_are_in_the_record_and_not_in_the_identity(executor: str | None) -> None:
    task: Any = Learn(0.5, tags={"note": "a/b", "n": 3})
    plain = Learn(0.5)
    assert (task.task_id, task.task_hash) == (plain.task_id, plain.task_hash) and task == plain
    assert plain.tags == {}, "the instance in Luigi's cache stays without"
    run_task(task, executor=executor)
    record = plain.output().read_metadata()
    assert record["run"]["tags"] == {"note": "a/b", "n": 3}
    assert record["params"] == {"lr": 0.5, "steps": 1}
    assert str(task.tagspath) == "note=a_b/n=3"
    assert pickle.loads(pickle.dumps(task)).tags == task.tags


def test_a_marked_value_is_parameter_and_tag() -> None:
    task: Any = Learn(tags.tag(0.1), steps=tags.tag(5))
    assert (task.lr, task.steps, task.tags) == (0.1, 5, {"lr": 0.1, "steps": 5})
    assert task.tag("baseline", kind="first").tags == {"lr": 0.1, "steps": 5, "baseline": True, "kind": "first"}


def test_a_parameter_called_tags_is_refused_when_it_is_written() -> None:
    with pytest.raises(DefinitionError, match="Choose another name"):

        class Tagged(Base):
            tags = luigi.ListParameter()


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (["lr=.1"], True), (["lr=0.10"], True), (["lr"], True), (["lr=.1", "kind=x=y"], True), (["on=true"], True),
        (["lr=.2"], False), (["other"], False), (["lr=.1", "kind=x"], False), (["on=1.0"], True),
    ],
)  # fmt: skip
def test_tags_are_filtered_by_value_not_by_spelling(wanted: list[str], matches: bool) -> None:
    assert tags.match({"lr": 0.1, "kind": "x=y", "on": True}, tags.parse(wanted)) is matches


def test_tags_that_are_none_are_refused() -> None:
    with pytest.raises(ParameterError, match="dict of names"):
        Learn(0.1, tags=["a"])  # type: ignore[call-arg]
    with pytest.raises(ParameterError, match="needs a name"):
        tags.parse(["=1"])


def test_ls_lists_what_was_made_with_a_tag(tmp_path: Path) -> None:
    import subprocess
    import sys

    for lr in (0.1, 0.2):
        run_task(Learn(lr, tags={"lr": lr, "kind": "a b"}))
    run_task(Learn(0.3))

    def listed(*words: str) -> list[str]:
        command = [sys.executable, "-m", "superluigi", "ls", "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [one["path"] for one in json.loads(done.stdout)]

    paths = [str(Path(Learn(lr).output().path).absolute()) for lr in (0.1, 0.2, 0.3)]
    assert listed("--in", "out", "--tag", "lr=.1") == paths[:1]
    assert listed("--store", "out", "--tag", "kind=a b", "--tag", "lr=0.20") == paths[1:2]
    Path("mine.py").write_text(Path(__file__).read_text())
    assert listed("mine", "Learn", "--lr", "0.3", "--tag", "kind") == []

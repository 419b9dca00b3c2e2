"""Our tasks and targets are Luigi's: its commands, events, mix-ins and targets work with them unchanged."""

from __future__ import annotations

import datetime
import gzip
import os
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import luigi
import luigi.util
import pytest
from luigi.mock import MockTarget
from luigi.parameter import ParameterVisibility
from luigi.task import externalize
from luigi.tools.range import RangeDaily

from superluigi import targets
from superluigi.errors import TaskFailedError
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata


class StaysWrites(AtomicTaskWithMetadata):
    """Writes its name and number into a folder."""

    folder = luigi.Parameter()
    n = luigi.IntParameter(default=0)

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.task_family}-{self.n}")

    def run(self, output_path: Path) -> None:
        output_path.write_text(f"{self.task_family}{self.n}")


def build(*tasks: luigi.Task, **options: Any) -> bool:
    return bool(luigi.build(list(tasks), local_scheduler=True, log_level="WARNING", **options))


# ---------------------------------------------------------------- commands

MODULE = """
import luigi
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Features(AtomicTaskWithMetadata):
    task_namespace = "flow"
    date = luigi.DateParameter()

    def output(self):
        return LocalFileTarget(f"features-{self.date}.txt")

    def run(self, output_path):
        output_path.write_text("f")

class Root(AtomicTaskWithMetadata):
    date = luigi.DateParameter()
    other = luigi.TaskParameter(default=Features)

    def requires(self):
        return [Features(self.date), self.other(self.date)]

    def output(self):
        return LocalFileTarget("root.txt")

    def run(self, input_path, output_path, metadata):
        extra = yield Features(self.date.replace(day=1))
        output_path.write_text(input_path[0].read_text() + extra.read_text())
        metadata["rows"] = 2
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_luigi_command_runs_our_tasks(tmp_path: Path, workers: str) -> None:
    (tmp_path / "flow_module.py").write_text(MODULE)
    words = ["--module", "flow_module", "Root", "--date", "2013-12-15", "--local-scheduler", "--workers", workers]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "luigi", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "This progress looks :)" in done.stderr
    assert (tmp_path / "root.txt").read_text() == "ff"
    assert (tmp_path / "root.txt.metadata.json").exists() and (tmp_path / "features-2013-12-01.txt").exists()
    assert not (tmp_path / ".superluigi").exists()


def test_luigi_build_runs_our_tasks_and_says_whether_all_went_well(tmp_path: Path) -> None:
    class Fails(StaysWrites):
        def run(self) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    assert build(StaysWrites(str(tmp_path), 1), StaysWrites(str(tmp_path), 2))
    assert build(StaysWrites(str(tmp_path), 3), StaysWrites(str(tmp_path), 4), workers=2)
    assert not build(Fails(str(tmp_path)))
    assert StaysWrites(str(tmp_path), 1).output().read_metadata()["run"]["forced"] is False
    assert not (tmp_path / ".superluigi").exists()


def test_dynamic_requirements_work_in_luigi_build(tmp_path: Path) -> None:
    class Asks(StaysWrites):
        def run(self, output_path: Path) -> Any:  # type: ignore[override]
            first = yield StaysWrites(self.folder, 1)
            more = yield [StaysWrites(self.folder, 2), {"three": StaysWrites(self.folder, 3)}]
            output_path.write_text(first.read_text() + more[0].read_text() + more[1]["three"].read_text())

    assert build(Asks(str(tmp_path)))
    assert (tmp_path / "Asks-0").read_text() == "StaysWrites1StaysWrites2StaysWrites3"
    assert len(Asks(str(tmp_path)).output().read_metadata()["dynamic_input"]) == 2
    assert not (tmp_path / ".superluigi").exists()


# ---------------------------------------------------------------- events, priority, resources, retries


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "executor": "threads"}])
def test_events_fire_in_the_callers_process(tmp_path: Path, options: dict[str, Any]) -> None:
    seen: list[str] = []

    class Watched(StaysWrites):
        def run(self, output_path: Path) -> None:  # type: ignore[override]
            if self.n == 2:
                raise ZeroDivisionError
            output_path.write_text("x")

    for event in (luigi.Event.START, luigi.Event.SUCCESS, luigi.Event.FAILURE, luigi.Event.PROCESSING_TIME):

        @Watched.event_handler(event)
        def note(*arguments: Any, event: str = event) -> None:
            seen.append(event.rpartition(".")[2])

    run_task(Watched(str(tmp_path), 1), **options)
    assert seen == ["start", "processing_time", "success"] or sorted(seen) == ["processing_time", "start", "success"]
    seen.clear()
    with pytest.raises(TaskFailedError):
        run_task(Watched(str(tmp_path), 2), **options)
    assert sorted(seen) == ["failure", "start"]


ORDER: list[int] = []


class Ranked(StaysWrites):
    @property
    def priority(self) -> int:  # type: ignore[override]
        return int(self.n)

    def run(self, output_path: Path) -> None:  # type: ignore[override]
        ORDER.append(self.n)
        output_path.write_text("x")


class All(luigi.WrapperTask):
    folder = luigi.Parameter()

    def requires(self) -> Any:
        return [Ranked(self.folder, n) for n in (3, 1, 4, 2)]


def test_priority_decides_the_order(tmp_path: Path) -> None:
    ORDER.clear()
    run_task(All(str(tmp_path)))
    assert ORDER == [4, 3, 2, 1]


def test_resources_limit_what_runs_at_the_same_time(tmp_path: Path) -> None:
    running: list[int] = []
    most: list[int] = []
    guard = threading.Lock()

    class Greedy(StaysWrites):
        resources = {"gpu": 1}

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            with guard:
                running.append(self.n)
                most.append(len(running))
            threading.Event().wait(0.05)
            with guard:
                running.remove(self.n)
            output_path.write_text("x")

    class Both(Task, luigi.WrapperTask):
        def requires(self) -> Any:
            return [Greedy(str(tmp_path), n) for n in range(4)]

    run_task(Both(), num_workers=4, executor="threads", resources={"gpu": 1})
    assert max(most) == 1 and len(most) == 4


def test_a_task_that_fails_and_then_succeeds_on_retry_is_a_success(tmp_path: Path) -> None:
    class Flaky(StaysWrites):
        retry_count = 3

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:  # type: ignore[override]
            tries = tmp_path / "tries"
            tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
            if len(tries.read_text()) < 3:
                raise ZeroDivisionError
            output_path.write_text("x")

    run_task(Flaky(str(tmp_path)), config={"scheduler": {"retry_delay": "0"}, "worker": {"keep_alive": "true"}})
    assert (tmp_path / "tries").read_text() == "xxx"


# ---------------------------------------------------------------- mix-ins


@luigi.util.requires(StaysWrites)
class NeedsWrites(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "needs")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text(input_path.read_text())


@luigi.util.inherits(StaysWrites)
class InheritsParameters(AtomicTaskWithMetadata):
    extra = luigi.IntParameter(default=7)

    def requires(self) -> Any:
        return {"cloned": self.clone(StaysWrites)}

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "inherits")

    def run(self, input_path: Any, output_path: Path) -> None:
        output_path.write_text(input_path["cloned"].read_text() + str(self.extra))


@luigi.util.copies(StaysWrites)
class CopiesWrites(TaskWithMetadata):
    """Luigi's `copies` brings its own `run`, which writes to `output()` by itself."""

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "copies")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_luigis_decorators_work_on_our_classes(tmp_path: Path) -> None:
    assert run_task(NeedsWrites(folder=str(tmp_path), n=2)).read_text() == "StaysWrites2"
    assert run_task(InheritsParameters(folder=str(tmp_path), n=3)).read_text() == "StaysWrites37"
    assert run_task(CopiesWrites(folder=str(tmp_path), n=4)).read_text() == "StaysWrites4"


def test_wrappers_of_ours_have_no_output_and_no_run(tmp_path: Path) -> None:
    class Wrapper(Task, luigi.WrapperTask):
        def requires(self) -> Any:
            yield StaysWrites(str(tmp_path), 1)
            yield StaysWrites(str(tmp_path), 2)

    class AtomicWrapper(AtomicTaskWithMetadata, luigi.WrapperTask):
        def requires(self) -> Any:
            return [Wrapper()]

        def output(self) -> Any:
            return []

    run_task(AtomicWrapper())
    assert AtomicWrapper().complete() and Wrapper().complete()
    run_task(AtomicWrapper(), force_upstream=True)


def test_externalized_tasks_are_not_run(tmp_path: Path) -> None:
    class Needs(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return [externalize(StaysWrites(str(tmp_path), 1)), externalize(StaysWrites)(str(tmp_path), 2)]

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "out")

        def run(self, input_path: Any, output_path: Path) -> None:
            output_path.write_text("".join(path.read_text() for path in input_path))

    with pytest.raises(TaskFailedError, match="StaysWrites"):
        run_task(Needs())
    (tmp_path / "StaysWrites-1").write_text("1")
    (tmp_path / "StaysWrites-2").write_text("2")
    run_task(Needs())
    assert (tmp_path / "out").read_text() == "12"
    run_task(Needs(), force_upstream=True)
    assert (tmp_path / "StaysWrites-1").read_text() == "1"
    assert StaysWrites(str(tmp_path), 1).run is not None and StaysWrites.run is not None


class Daily(AtomicTaskWithMetadata):
    date = luigi.DateParameter()
    folder = luigi.Parameter(default="")

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.date}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


@pytest.mark.filterwarnings('ignore:Parameter "param_name"')
def test_range_tools_fill_gaps_with_our_tasks(tmp_path: Path) -> None:
    (tmp_path / "2013-12-02.txt").write_text("there")
    span = RangeDaily(
        of=Daily,
        of_params={"folder": str(tmp_path)},
        start=datetime.date(2013, 12, 1),
        stop=datetime.date(2013, 12, 4),
        days_back=36500,
        now=1386500000,
    )
    run_task(span)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == [f"2013-12-0{day}.txt" for day in (1, 2, 3)]


def test_namespaces_and_task_parameters() -> None:
    class Spaced(Task):
        task_namespace = "some.space"

    class Chooses(Task):
        which = luigi.TaskParameter()

    assert Spaced.task_family == "some.space.Spaced" and Spaced().task_id.startswith("some.space.Spaced_")
    assert Chooses("some.space.Spaced" and Spaced).which is Spaced
    assert Chooses.from_str_params({"which": "some.space.Spaced"}).which is Spaced


def test_positional_parameters_mean_what_they_say() -> None:
    class MyTask(AtomicTaskWithMetadata):
        n = luigi.IntParameter()
        name = luigi.Parameter(default="x")

        def output(self) -> Any:
            return LocalFileTarget("never")

        def run(self, output_path: Path) -> None:
            output_path.write_text("never")

    class Plain(Task):
        n = Parameter()

    class Meta(TaskWithMetadata):
        n = luigi.IntParameter()

    class Outside(ExternalTask):
        n = luigi.IntParameter()

    assert (MyTask(5).n, MyTask(5).name, MyTask(5, "y").name) == (5, "x", "y")
    assert (Plain("5").n, Meta(5).n, Outside(5).n) == ("5", 5, 5)
    assert MyTask(5) is MyTask(n=5)
    assert [name for name, _ in MyTask.get_params()] == ["n", "name"]
    with pytest.raises((luigi.parameter.ParameterException, ValueError, TypeError)):
        MyTask(5, "y", "too many")


# ---------------------------------------------------------------- targets


def test_our_targets_are_inputs_of_plain_luigi_tasks(tmp_path: Path) -> None:
    class PlainLuigi(luigi.Task):
        def requires(self) -> Any:
            return {"ours": StaysWrites(str(tmp_path), 1)}

        def output(self) -> Any:
            return luigi.LocalTarget(str(tmp_path / "plain"))

        def run(self) -> None:
            with self.input()["ours"].open() as read, self.output().open("w") as write:
                write.write(read.read())

    class OursAgain(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return PlainLuigi()

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "again")

        def run(self, input_path: Path, output_path: Path) -> None:
            output_path.write_text(input_path.read_text())
            input_path.unlink()

    assert build(OursAgain())
    assert (tmp_path / "plain").read_text() == (tmp_path / "again").read_text() == "StaysWrites1"
    run_task(OursAgain(), force=True)
    assert OursAgain().output().read_metadata()["input"]["path"] == str(tmp_path / "plain")


def test_luigis_targets_are_inputs_of_ours(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")

    class Mocked(luigi.Task):
        def output(self) -> Any:
            return MockTarget("mocked.txt")

        def run(self) -> None:
            with self.output().open("w") as stream:
                stream.write("mocked ünï")

    class Local(luigi.ExternalTask):
        def output(self) -> Any:
            return luigi.LocalTarget(str(tmp_path / "folder"))

    class Ours(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return (Mocked(), Local())

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "ours")

        def run(self, input_path: Any, output_path: Path) -> None:
            mocked, folder = input_path
            assert mocked.name == "mocked.txt"
            output_path.write_text(mocked.read_text(encoding="utf-8") + (folder / "x").read_text(), encoding="utf-8")
            (folder / "x").unlink()

    run_task(Ours())
    assert (tmp_path / "ours").read_text(encoding="utf-8") == "mocked ünïx"
    assert (tmp_path / "folder" / "x").exists()


def test_a_local_file_target_is_luigis_local_target(tmp_path: Path) -> None:
    target = LocalFileTarget(tmp_path / "new folder" / "a.txt")
    assert isinstance(target, luigi.LocalTarget) and isinstance(target.path, Path)
    with target.open("w") as stream:
        stream.write("one\n")
        assert not target.exists()
    with target.open() as stream:
        assert list(stream) == ["one\n"]
    with pytest.raises(ZeroDivisionError), target.open("w") as stream:
        stream.write("two")
        raise ZeroDivisionError
    assert target.path.read_text() == "one\n"
    stream = target.open("w")
    stream.write("three")
    stream.close()
    assert target.path.read_text() == "three"
    stream = target.open("w")
    stream.write("never closed")
    del stream
    assert target.path.read_text() == "three"
    with target.temporary_path() as path:
        assert isinstance(path, str)
        Path(path).write_text("four")
    assert target.path.read_text() == "four"
    assert [path.name for path in target.path.parent.iterdir()] == ["a.txt"]

    assert target.fs.exists(target.path) and target.fs.exists(str(target.path))
    target.copy(tmp_path / "copy.txt")
    target.copy(str(tmp_path / "copy2.txt"))
    assert (tmp_path / "copy.txt").read_text() == (tmp_path / "copy2.txt").read_text() == "four"
    target.move(tmp_path / "moved" / "b.txt")
    assert (tmp_path / "moved" / "b.txt").read_text() == "four" and not target.exists()
    moved = LocalFileTarget(tmp_path / "moved" / "b.txt")
    moved.remove()
    assert not moved.exists()
    moved.remove()
    target.makedirs()
    assert target.path.parent.is_dir()
    with pytest.raises(Exception, match="'r' or 'w'"):
        target.open("a")


def test_formats_of_luigi_work_on_our_targets(tmp_path: Path) -> None:
    zipped = LocalFileTarget(tmp_path / "a.gz", format=luigi.format.Gzip)
    with zipped.open("w") as stream:
        stream.write(b"zipped")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"zipped"
    with zipped.open() as stream:
        assert stream.read() == b"zipped"
    plain = LocalFileTarget(tmp_path / "b.bin", format=luigi.format.Nop)
    with plain.open("w") as stream:
        stream.write(b"\x00\xff")
    with plain.open("r") as stream:
        assert stream.read() == b"\x00\xff"
    text = LocalFileTarget(tmp_path / "c.txt", format=luigi.format.UTF8)
    with text.open("w") as stream:
        stream.write("ünï")
    assert (tmp_path / "c.txt").read_bytes() == "ünï".encode()


def test_an_s3_object_target_is_luigis_file_system_target(s3_server: Any, s3_bucket: str) -> None:
    target = targets.S3ObjectTarget(s3_bucket, "a/b.txt", **s3_server.client_options)
    assert isinstance(target, luigi.target.FileSystemTarget)
    assert target.path == f"s3://{s3_bucket}/a/b.txt"
    with target.open("w") as stream:
        stream.write("one")
        assert not target.exists()
    with target.open() as stream:
        assert stream.read() == "one"
    with pytest.raises(ZeroDivisionError), target.open("w") as stream:
        stream.write("two")
        raise ZeroDivisionError
    assert target.fs.exists(target.path)
    with target.temporary_path() as path:
        Path(path).write_text("three")
    with target.open() as stream:
        assert stream.read() == "three"
    zipped = targets.S3ObjectTarget(s3_bucket, "a/b.gz", format=luigi.format.Gzip, **s3_server.client_options)
    with zipped.open("w") as stream:
        stream.write(b"zipped")
    with zipped.open() as stream:
        assert stream.read() == b"zipped"
    target.remove()
    assert not target.exists()
    assert target.fs.exists(zipped.path) and not target.fs.exists(target.path)


# ---------------------------------------------------------------- shapes

Pair = namedtuple("Pair", ["left", "right"])


class Shaped(AtomicTaskWithMetadata):
    """Requires and puts out tasks and targets in one shape; writes what it reads."""

    folder = luigi.Parameter()
    shape = luigi.Parameter()

    def structure(self, make: Any) -> Any:
        return {
            "nothing": lambda: None,
            "one": lambda: make(1),
            "list": lambda: [make(1), make(2)],
            "tuple": lambda: (make(1), make(2)),
            "dict": lambda: {"a": make(1), "b": make(2)},
            "nested": lambda: {"a": [make(1), (make(2), {"c": make(3)})], 5: make(4)},
            "generator": lambda: (make(n) for n in (1, 2)),
            "set": lambda: {make(1), make(2)},
            "named": lambda: Pair(make(1), right=[make(2)]),
            "view": lambda: {"a": make(1), "b": make(2)}.values(),
        }[self.shape]()

    def requires(self) -> Any:
        return self.structure(lambda n: StaysWrites(self.folder, n))

    def output(self) -> Any:
        if self.shape == "nothing":
            return LocalFileTarget(Path(self.folder) / "out")
        return self.structure(lambda n: LocalFileTarget(Path(self.folder) / f"out-{n}"))

    def run(self, input_path: Any, output_path: Any) -> None:
        def copy(source: Any, destination: Any) -> None:
            if isinstance(source, Path):
                destination.write_text(source.read_text())
                return
            if isinstance(source, dict):
                assert source.keys() == destination.keys()
                source, destination = list(source.values()), list(destination.values())
            for one, other in zip(source, destination, strict=True):
                copy(one, other)

        if self.shape == "nothing":
            assert not input_path
            output_path.write_text("nothing")
            return
        assert type(input_path) is type(output_path)
        expected = {"tuple": tuple, "dict": dict, "nested": dict, "named": Pair}
        kind = list if self.shape in ("list", "generator", "set", "view") else expected.get(self.shape)
        assert kind is None or type(input_path) is kind
        copy(input_path, output_path)


SHAPES = ["nothing", "one", "list", "tuple", "dict", "nested", "generator", "set", "named", "view"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("runner", ["run_task", "build"])
def test_paths_come_in_the_shape_of_requires_and_output(tmp_path: Path, shape: str, runner: str) -> None:
    task = Shaped(str(tmp_path), shape)
    if runner == "build":
        assert build(task)
    else:
        paths = run_task(task)
        if shape == "dict":
            assert paths == {"a": tmp_path / "out-1", "b": tmp_path / "out-2"}
    assert task.complete()
    made = sorted(path.name for path in tmp_path.glob("out*") if not path.name.endswith(".json"))
    count = {"nothing": 0, "one": 1, "nested": 4}.get(shape, 2)
    assert made == ([f"out-{n}" for n in range(1, count + 1)] if count else ["out"])
    if shape == "set":
        assert {(tmp_path / f"out-{n}").read_text() for n in (1, 2)} == {"StaysWrites1", "StaysWrites2"}
    elif count:
        assert [(tmp_path / f"out-{n}").read_text() for n in range(1, count + 1)] == [
            f"StaysWrites{n}" for n in range(1, count + 1)
        ]
    for path in made:
        assert LocalFileTarget(tmp_path / path).read_metadata()["task_id"] == task.task_id


def test_annotated_visibility_of_luigi_still_counts() -> None:
    class Quiet(Task):
        token = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
        hidden = luigi.Parameter(visibility=ParameterVisibility.HIDDEN)

    one, other = Quiet("a", "h"), Quiet("b", "h")
    assert one.to_str_params(only_public=True) == {}
    assert one.task_id == other.task_id  # as in Luigi


def test_a_folder_made_by_others_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "x").write_text("x")

    class Given(ExternalTask):
        def output(self) -> Any:
            return LocalFolderTarget(tmp_path / "given")

    assert Given().complete() and run_task(Given()) == tmp_path / "given"


def test_code_that_puts_our_base_in_place_of_luigis_works(tmp_path: Path) -> None:
    program = """
        import luigi, luigi.task
        import superluigi.tasks
        luigi.Task = luigi.task.Task = superluigi.tasks.Task

        class Leaf(luigi.Task):
            name = luigi.Parameter()
            def output(self):
                return luigi.LocalTarget(self.name)
            def run(self):
                with self.output().open("w") as file:
                    file.write(self.task_hash)

        class Root(luigi.WrapperTask):
            def requires(self):
                return [Leaf("a"), Leaf("b")]

        assert luigi.build([Root()], local_scheduler=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "b").read_text()) == 32


def test_a_task_that_says_itself_when_it_is_complete_may_put_out_anything() -> None:
    class Says(luigi.Task):
        done = False

        def run(self) -> None:
            Says.done = True

        def complete(self) -> bool:
            return Says.done

        def output(self) -> str:
            return "no target"

    class Hears(luigi.Task):
        heard: Any = None

        def requires(self) -> luigi.Task:
            return Says()

        def run(self) -> None:
            Hears.heard = self.input()

        def complete(self) -> bool:
            return Hears.heard is not None

    run_task(Hears())
    assert Hears.heard == "no target"


class Mocked(luigi.Task):
    n = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [Mocked(n=self.n - 1)] if self.n else []

    def output(self) -> MockTarget:
        return MockTarget(f"/mocked/{self.n}")

    def run(self) -> None:
        above = "".join(target.open().read() for target in self.input())
        with self.output().open("w") as stream:
            stream.write(f"{above}{self.n}")


@pytest.mark.parametrize("workers", [1, 2])
def test_luigis_mock_files_are_seen_by_all_workers(workers: int) -> None:
    MockTarget.fs.clear()
    run_task(Mocked(n=2), num_workers=workers)
    assert MockTarget("/mocked/2").open().read() == "012"

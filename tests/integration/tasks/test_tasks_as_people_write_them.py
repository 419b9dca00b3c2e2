"""Inheritance, mix-ins, generators, threads, processes: what people do with classes works, or is refused in words."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.errors import RunSignatureError, TaskFailedError
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata


class PeopleWrites(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    n = luigi.IntParameter(default=0)

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.task_family}-{self.n}")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text(f"n={self.n}")
        metadata["base"] = True


def text(task: Any) -> str:
    return str(task.output().path.read_text())


# ---------------------------------------------------------------- super().run


class Extends(PeopleWrites):
    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        super().run(output_path=output_path, metadata=metadata)
        output_path.write_text(output_path.read_text() + " extended")
        metadata["extended"] = metadata["base"]


class ExtendsWithoutArguments(PeopleWrites):
    def run(self, output_path: Path) -> None:  # type: ignore[override]
        super().run()
        output_path.write_text(output_path.read_text() + " extended")


class ExtendsElsewhere(PeopleWrites):
    """Gives its parent another path than its own."""

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        other = output_path.parent / "other"
        super().run(other, {})
        output_path.write_text(other.read_text().upper())
        other.unlink()


class ExtendsTwice(Extends):
    def run(self, output_path: Path, metadata: dict[str, Any], times: int = 2) -> None:
        for _ in range(times):
            super().run(output_path, metadata)


class ExtendsAGenerator(PeopleWrites):
    def run(self, output_path: Path, metadata: dict[str, Any]) -> Any:
        first = yield PeopleWrites(self.folder, 7)
        metadata["first"] = first.read_text()
        output_path.write_text(first.read_text())


class DelegatesToAGenerator(ExtendsAGenerator):
    def run(self, output_path: Path, metadata: dict[str, Any]) -> Any:
        yield from super().run(output_path=output_path, metadata=metadata)
        second = yield PeopleWrites(self.folder, 8)
        output_path.write_text(output_path.read_text() + second.read_text())


class ReturnsAGenerator(ExtendsAGenerator):
    def run(self, output_path: Path, metadata: dict[str, Any]) -> Any:
        return super().run(output_path=output_path, metadata=metadata)


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Extends, "n=0 extended"),
        (ExtendsWithoutArguments, "n=0 extended"),
        (ExtendsElsewhere, "N=0"),
        (ExtendsTwice, "n=0 extended"),
        (ExtendsAGenerator, "n=7"),
        (DelegatesToAGenerator, "n=7n=8"),
        (ReturnsAGenerator, "n=7"),
    ],
)
@pytest.mark.parametrize("runner", ["run_task", "build"])
def test_super_run_is_ordinary_python(tmp_path: Path, cls: type[PeopleWrites], expected: str, runner: str) -> None:
    task = cls(folder=str(tmp_path))
    if runner == "build":
        assert luigi.build([task], local_scheduler=True, log_level="WARNING")
    else:
        run_task(task)
    assert text(task) == expected
    record = task.output().read_metadata()
    assert record["task_family"] == cls.__name__
    assert ("base" in record) == (cls not in (ExtendsElsewhere, *ExtendsAGenerator.__subclasses__(), ExtendsAGenerator))
    assert not (tmp_path / ".superluigi").exists()


# ---------------------------------------------------------------- where run comes from


class RunMixin:
    def run(self, output_path: Path) -> None:
        output_path.write_text("from a mix-in")


class Mixed(RunMixin, PeopleWrites):
    pass


class MixedBehind(AtomicTaskWithMetadata, RunMixin):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "behind")


class InheritsMixed(Mixed):
    pass


class PlainRun(Task):
    def run(self) -> None:
        raise AssertionError("needs no path")


class PlainAndAtomic(PlainRun, AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "plain")


class AnythingGoes(PeopleWrites):
    def run(self, **offered: Any) -> None:  # type: ignore[override]
        assert {"input_path", "output_path", "metadata"} <= offered.keys()
        offered["output_path"].write_text("anything")


class KeywordOnly(PeopleWrites):
    def run(self, *, output_path: Path) -> None:  # type: ignore[override]
        output_path.write_text("keyword")


@pytest.mark.parametrize("cls", [Mixed, MixedBehind, InheritsMixed])
def test_run_may_come_from_a_mixin(tmp_path: Path, cls: Any) -> None:
    task = cls(folder=str(tmp_path))
    run_task(task)
    assert text(task) == "from a mix-in" and task.output().read_metadata()["task_id"] == task.task_id


def test_run_may_take_anything_or_keywords_only(tmp_path: Path) -> None:
    for cls, expected in ((AnythingGoes, "anything"), (KeywordOnly, "keyword")):
        run_task(cls(folder=str(tmp_path)))
        assert text(cls(folder=str(tmp_path))) == expected


def test_run_may_be_assigned_to_a_class_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "later")

    def later(self: Any, output_path: Path) -> None:
        output_path.write_text("later")

    Empty.run = later  # type: ignore[method-assign]
    run_task(Empty())
    assert text(Empty()) == "later"
    original = PeopleWrites.run
    with monkeypatch.context() as patch:
        patch.setattr(PeopleWrites, "run", lambda self, output_path: output_path.write_text("patched"))
        run_task(PeopleWrites(str(tmp_path), 5))
    assert text(PeopleWrites(str(tmp_path), 5)) == "patched" and PeopleWrites.run is original
    with pytest.raises(RunSignatureError, match="nonsense"):
        Empty.run = lambda self, nonsense: None  # type: ignore[method-assign]


def test_an_unknown_name_in_a_mixins_run_is_an_error_at_class_creation() -> None:
    class Wrong:
        def run(self, outputs: Any) -> None:
            pass

    with pytest.raises(RunSignatureError, match="outputs"):

        class Uses(Wrong, AtomicTaskWithMetadata):
            pass

    with pytest.raises(RunSignatureError, match="output_path"):

        class Plain(Task):
            def run(self, output_path: Path) -> None:
                pass

    with pytest.raises(RunSignatureError, match="'/'"):

        class Positional(AtomicTaskWithMetadata):
            def run(self, output_path: Path, /) -> None:
                pass


def test_a_plain_run_in_an_atomic_class_is_an_attempt_too(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match="needs no path"):
        run_task(PlainAndAtomic(folder=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_an_external_mixin_makes_any_task_external(tmp_path: Path) -> None:
    class Given(ExternalTask, PeopleWrites):
        pass

    class GivenToo(AtomicTaskWithMetadata, luigi.ExternalTask):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "given")

    assert Given.run is None and GivenToo.run is None
    with pytest.raises(TaskFailedError, match="missing"):
        run_task(GivenToo())
    (tmp_path / "given").write_text("x")
    run_task(GivenToo(), force=True)


def test_abstract_parents_need_no_run_and_cooperate_with_other_metaclass_features(tmp_path: Path) -> None:
    class Abstract(AtomicTaskWithMetadata):
        folder = luigi.Parameter()

        @property
        def place(self) -> Path:
            return Path(self.folder) / self.task_family

        def output(self) -> Any:
            return LocalFileTarget(self.place)

    class Concrete(Abstract):
        def run(self, output_path: Path) -> None:
            output_path.write_text("concrete")

    run_task(Concrete(str(tmp_path)))
    assert text(Concrete(str(tmp_path))) == "concrete"
    assert Concrete.run.__name__ == "run" and "output_path" in str(Concrete.run.__wrapped__.__code__.co_varnames)


# ---------------------------------------------------------------- generators


class Careful(PeopleWrites):
    """Notes when its `finally` runs, and whether an error of the commit reaches it."""

    def run(self, output_path: Path) -> Any:  # type: ignore[override]
        log = Path(self.folder) / "log"
        try:
            with open(log, "a") as stream:
                stream.write("begin ")
            yield PeopleWrites(self.folder, 1)
            yield []
            yield PeopleWrites(self.folder, 2)
            output_path.write_text("done")
        finally:
            with open(log, "a") as stream:
                stream.write("end ")


@pytest.mark.parametrize("runner", ["run_task", "build"])
def test_each_entry_of_a_generator_is_left_in_order_and_leaves_nothing(tmp_path: Path, runner: str) -> None:
    task = Careful(folder=str(tmp_path))
    if runner == "build":
        assert luigi.build([task], local_scheduler=True, log_level="WARNING")
    else:
        run_task(task)
    words = (tmp_path / "log").read_text().split()
    assert words == ["begin", "end"] * (len(words) // 2) and text(task) == "done"
    assert not (tmp_path / ".superluigi").exists()


def test_a_generator_that_is_dropped_half_way_leaves_nothing(tmp_path: Path) -> None:
    PeopleWrites(str(tmp_path), 1).output().path.write_text("x")
    steps = Careful(folder=str(tmp_path)).run()
    requirement = next(steps)
    assert requirement == PeopleWrites(str(tmp_path), 1)
    del steps
    gc.collect()
    assert not (tmp_path / ".superluigi").exists()
    assert (tmp_path / "log").read_text() == "begin end "


def test_a_dynamic_requirement_that_fails_fails_the_task_and_names_both(tmp_path: Path) -> None:
    class Fails(PeopleWrites):
        def run(self) -> None:  # type: ignore[override]
            raise ZeroDivisionError("inner")

    class Asks(PeopleWrites):
        def run(self, output_path: Path) -> Any:  # type: ignore[override]
            output_path.write_text("half")
            yield Fails(self.folder)

    with pytest.raises(TaskFailedError, match=r"(?s)Fails.*inner.*Asks"):
        run_task(Asks(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- instances, threads, processes


def test_two_runs_of_one_task_in_two_threads_do_not_mix(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=30)
    errors: list[BaseException] = []

    class Slow(PeopleWrites):
        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            barrier.wait()  # both are inside at the same time
            output_path.write_text(metadata["run"]["id"])
            barrier.wait()

    def go() -> None:
        try:
            run_task(Slow(str(tmp_path)), force=True, exclusive="off")
        except BaseException as error:  # noqa: BLE001  (shown by the assertion)
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    record = Slow(str(tmp_path)).output().read_metadata()
    assert record is not None and text(Slow(str(tmp_path))) == record["run"]["id"]
    assert not (tmp_path / ".superluigi").exists()


def test_tasks_survive_pickling_copying_and_a_second_process(tmp_path: Path) -> None:
    task = PeopleWrites(str(tmp_path), 3)
    task.task_hash
    for again in (pickle.loads(pickle.dumps(task)), copy.copy(task), copy.deepcopy(task)):
        assert again == task and again.task_hash == task.task_hash and again.n == 3
    seeded = PeopleWrites(str(tmp_path), 3, hash_seed="s")
    again = pickle.loads(pickle.dumps(seeded))
    assert again == seeded != task and again.task_hash == seeded.task_hash
    target = pickle.loads(pickle.dumps(task.output()))
    assert target.path == task.output().path


def test_a_task_object_keeps_no_trace_of_its_runs(tmp_path: Path) -> None:
    task = PeopleWrites(str(tmp_path))
    before = set(vars(task))
    run_task(task)
    run_task(task, force=True)
    left = {name for name in set(vars(task)) - before if vars(task)[name] not in (None, {})}
    assert left <= {"task_hash"}
    assert PeopleWrites(str(tmp_path)) is task


def test_running_a_task_by_hand_commits_too(tmp_path: Path) -> None:
    PeopleWrites(str(tmp_path), 4).run()
    assert text(PeopleWrites(str(tmp_path), 4)) == "n=4" and PeopleWrites(str(tmp_path), 4).complete()


def test_run_may_be_tested_with_paths_of_ones_own(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {}
    PeopleWrites("nowhere", 4).run(output_path=tmp_path / "mine", metadata=metadata)
    assert (tmp_path / "mine").read_text() == "n=4" and metadata == {"base": True}
    assert not Path("nowhere").exists()


# ---------------------------------------------------------------- files


def test_read_only_inputs_can_be_changed_in_their_copy(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for name in ("a", "sub/b"):
        (tmp_path / "given" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "given" / name).write_text("given")
        (tmp_path / "given" / name).chmod(0o444)
    (tmp_path / "given" / "sub").chmod(0o555)
    (tmp_path / "file").write_text("given")
    (tmp_path / "file").chmod(0o400)

    class Given(ExternalTask):
        def output(self) -> Any:
            return [LocalFolderTarget(tmp_path / "given"), LocalFileTarget(tmp_path / "file")]

    class Spoils(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Given()

        def output(self) -> Any:
            return LocalFolderTarget(tmp_path / "out")

        def run(self, input_path: Any, output_path: Path) -> None:
            (input_path[0] / "a").write_text("spoilt")
            (input_path[0] / "sub" / "b").unlink()
            input_path[1].write_text("spoilt")
            (output_path / "x").write_text("x")
            (output_path / "x").chmod(0o444)

    run_task(Spoils())
    run_task(Spoils(), force=True)
    assert (tmp_path / "given" / "a").read_text() == (tmp_path / "file").read_text() == "given"
    assert (tmp_path / "given" / "sub" / "b").read_text() == "given"
    assert stat.S_IMODE((tmp_path / "out" / "x").stat().st_mode) == 0o444
    (tmp_path / "given" / "sub").chmod(0o755)


def test_relative_paths_stay_where_they_were_when_run_changes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    class Wanders(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [LocalFileTarget("relative.txt"), LocalFolderTarget("folder")]

        def run(self, output_path: Any) -> None:
            os.chdir("elsewhere")
            output_path[0].write_text("x")
            (output_path[1] / "x").write_text("x")

    run_task(Wanders())
    assert (tmp_path / "relative.txt").exists() and (tmp_path / "folder" / "x").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_of_many_files_is_committed_and_described_whole(tmp_path: Path) -> None:
    class Many(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFolderTarget(tmp_path / "many")

        def run(self, output_path: Path) -> None:
            for n in range(3000):
                sub = output_path / f"{n % 30}"
                sub.mkdir(exist_ok=True)
                (sub / f"{n}").write_text(str(n))

    run_task(Many())
    output = Many().output().read_metadata()["output"]
    assert output["count"] == 3000 and len(output["contents"]) == 10
    assert (tmp_path / "many.metadata.json").stat().st_size < 10_000


def test_two_tasks_may_write_into_one_folder_at_once(tmp_path: Path) -> None:
    class All(Task, luigi.WrapperTask):
        def requires(self) -> Iterator[Any]:
            for n in range(12):
                yield PeopleWrites(str(tmp_path / "deep" / "er"), n)

    run_task(All(), num_workers=4, executor="threads")
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 24


def test_metadata_of_a_task_that_keeps_its_old_output_is_told(tmp_path: Path) -> None:
    class Keeps(TaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "kept")

        def run(self, metadata: dict[str, Any]) -> None:
            if not self.output().exists():
                with self.output().open("w") as stream:
                    stream.write("kept")
            metadata["looked"] = True

    run_task(Keeps())
    run_task(Keeps(), force=True)
    assert Keeps().output().read_metadata()["run"]["forced"] is True


def test_errors_while_inputs_are_opened_leave_nothing(tmp_path: Path) -> None:
    class Vanishes(PeopleWrites):
        def complete(self) -> bool:
            return True

    class Needs(PeopleWrites):
        def requires(self) -> Any:
            return [PeopleWrites(self.folder, 1), Vanishes(self.folder, 2)]

        def run(self, input_path: Any, output_path: Path) -> None:  # type: ignore[override]
            output_path.write_text("x")

    with pytest.raises(TaskFailedError, match="Vanishes-2"):
        run_task(Needs(str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PeopleWrites-1", "PeopleWrites-1.metadata.json"]


def test_ctrl_c_in_a_task_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(PeopleWrites):
        def run(self, output_path: Path) -> None:  # type: ignore[override]
            output_path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(Interrupted(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []

"""Luigi's ways to write an output, inside of tasks with records; outputs that are None, or known only later."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pandas as pd
import pytest
from luigi.contrib.external_program import ExternalProgramTask

from superluigi import compute, lineage, run_task
from superluigi.errors import TaskFailedError
from superluigi.lineage.staleness.why import why
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task, TaskWithMetadata, plan
from superluigi.testing.s3_server import S3Server

WAYS = [{}, {"num_workers": 2, "executor": "threads"}, {"num_workers": 2, "executor": "processes"}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nothing_else(folder: Path, *names: str) -> bool:
    return {path.name for path in folder.iterdir()} == {*names, *(f"{name}.metadata.json" for name in names)}


# ---- ways to write one file; each gets the target and writes "x"


def _with_open(target: Any) -> None:
    with target.open("w") as file:
        file.write("x")


def _open_and_close(target: Any) -> None:
    file = target.open("w")
    file.write("x")
    file.close()


def _temporary_path(target: Any) -> None:
    with target.temporary_path() as path:
        Path(path).write_text("x")


def _tmp_write_path(target: Any) -> None:
    with target.tmp_write_path() as path:
        path.write_text("x")


def _twice(target: Any) -> None:
    with target.open("w") as file:
        file.write("first")
    _with_open(target)


def _another_object(target: Any) -> None:
    _with_open(type(target)(target.path))


def _in_a_thread(target: Any) -> None:
    thread = threading.Thread(target=_with_open, args=(target,))
    thread.start()
    thread.join()


def _read_back(target: Any) -> None:
    with target.open("w") as file:
        file.write("x")
    assert target.exists()
    with target.open("r") as file:
        assert file.read() == "x"


def _plain_open(target: Any) -> None:
    with open(target.path, "w") as file:
        file.write("x")


def _makedirs(target: Any) -> None:
    target.makedirs()
    _plain_open(target)


def _rename(target: Any) -> None:
    Path("elsewhere").write_text("x")
    os.rename("elsewhere", target.path)


def _shell(target: Any) -> None:
    subprocess.run(f"printf x > '{target.path}'", shell=True, check=True)


def _luigis_target(target: Any) -> None:
    with luigi.LocalTarget(str(target.path)).open("w") as file:
        file.write("x")


def _copy(target: Any) -> None:
    Path("elsewhere").write_text("x")
    shutil.copy("elsewhere", target.path)


def _copy_with_record(target: Any) -> None:
    source = LocalFileTarget("source.txt")
    with source.tmp_write_path() as path:
        path.write_text("x")
    source.write_metadata({"task_id": "another", "task_hash": "another", "run": {"id": "another"}})
    source.copy(target.path)


def _remove_first(target: Any) -> None:
    if target.exists():
        target.remove()
    _plain_open(target)


THROUGH_TARGETS: list[Callable[[Any], None]] = [_with_open, _open_and_close, _temporary_path, _tmp_write_path]
THROUGH_TARGETS += [_twice, _another_object, _in_a_thread, _read_back]
PAST_TARGETS: list[Callable[[Any], None]] = [_plain_open, _makedirs, _rename, _shell, _luigis_target, _copy]
PAST_TARGETS += [_remove_first, _copy_with_record]
FILE_WAYS = {way.__name__: way for way in THROUGH_TARGETS + PAST_TARGETS}


class Writes(AtomicTaskWithMetadata):
    way: Param[str]
    fails: Param[bool] = False

    def output(self) -> Any:
        return LocalFileTarget(f"out/{self.way}.txt")

    def run(self) -> None:
        FILE_WAYS[self.way](self.output())
        if self.fails:
            raise ValueError("after it has written")


@pytest.mark.parametrize("way", sorted(FILE_WAYS))
def test_every_old_way_to_write_a_file_is_committed_with_its_record(way: str, here: Path) -> None:
    task = Writes(way=way)
    run_task(task)
    assert task.output().path.read_text() == "x"
    record = task.output().read_metadata()
    assert record is not None
    assert record["task_id"] == task.task_id
    assert nothing_else(here / "out", f"{way}.txt")
    assert run_task(task, dry_run=True)[0].state == "complete"


@pytest.mark.parametrize("way", sorted(FILE_WAYS))
def test_every_old_way_may_write_the_same_bytes_again(way: str, here: Path) -> None:
    task = Writes(way=way)
    ids = set()
    for _ in range(2):
        run_task(task, force=True)
        assert task.output().path.read_text() == "x"
        ids.add((task.output().read_metadata() or {})["run"]["id"])
        assert nothing_else(here / "out", f"{way}.txt")
    assert len(ids) == 2


def test_a_program_may_write_the_same_bytes_again_where_complete_says_that_it_must() -> None:
    class Daily(AtomicTaskWithMetadata, ExternalProgramTask):
        def output(self) -> Any:
            return LocalFileTarget("program.txt")

        def complete(self) -> bool:
            return False

        def program_args(self) -> list[str]:
            return ["sh", "-c", f"echo x > {self.output().path}"]

    run_task(Daily())
    first = Daily().output().read_metadata()
    run_task(Daily())
    second = Daily().output().read_metadata()
    assert first is not None
    assert second is not None
    assert first["run"]["id"] != second["run"]["id"]


@pytest.mark.parametrize("way", sorted(FILE_WAYS))
def test_after_a_failure_nothing_is_complete_and_nothing_is_left(way: str, here: Path) -> None:
    task = Writes(way=way, fails=True)
    for _ in range(2):
        with pytest.raises(TaskFailedError, match="after it has written"):
            run_task(task)
        assert not task.complete()
        assert not (here / "out").exists() or list((here / "out").iterdir()) == []


@pytest.mark.parametrize("options", WAYS[1:])
def test_so_it_is_with_other_executors(options: dict[str, Any], here: Path) -> None:
    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [Writes(way=way) for way in FILE_WAYS]

    run_task(All(), **options)
    assert all(Writes(way=way).output().read_metadata() for way in FILE_WAYS)


@pytest.mark.parametrize("way", [w.__name__ for w in THROUGH_TARGETS])
def test_a_failing_forced_run_keeps_the_old_output_with_its_record(way: str, here: Path) -> None:
    class Second(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("second.txt")

        def run(self) -> None:
            if (here / "again").exists():
                with self.output().open("r") as old:
                    assert old.read() == "x"
                FILE_WAYS[way](self.output())
                raise ValueError("again")
            FILE_WAYS[way](self.output())

    run_task(Second())
    before = Second().output().read_metadata()
    (here / "again").touch()
    with pytest.raises(TaskFailedError, match="again"):
        run_task(Second(), force=True)
    assert Second().output().read_metadata() == before
    assert Path("second.txt").read_text() == "x"


def test_a_write_that_is_broken_off_is_none() -> None:
    class Breaks(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("broken.txt")

        def run(self) -> None:
            try:
                with self.output().open("w") as file:
                    file.write("half")
                    raise LookupError
            except LookupError:
                pass

    with pytest.raises(TaskFailedError, match="Nothing was written"):
        run_task(Breaks())
    assert not Breaks().complete()


def test_a_run_that_writes_nothing_does_not_take_what_another_has_committed_meanwhile(here: Path) -> None:
    class Lazy(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("shared.txt")

        def run(self) -> None:
            staged = LocalFileTarget("shared.txt").location.stage()  # as another process would
            staged.path.write_text("theirs")
            hashed = {"task_id": self.task_id, "task_hash": self.task_hash}
            staged.commit({"schema": "superluigi.lineage/1", **hashed, "run": {"id": "theirs"}})

    with pytest.raises(TaskFailedError, match="Nothing was written"):
        run_task(Lazy())
    assert (here / "shared.txt").read_text() == "theirs"
    assert LocalFileTarget("shared.txt").read_metadata()["run"] == {"id": "theirs"}  # type: ignore[index]


def test_what_was_there_before_is_not_taken_for_the_work_of_this_run(here: Path) -> None:
    (here / "two-a.txt").write_text("a stranger's")

    class Two(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [LocalFileTarget("two-a.txt"), LocalFileTarget("two-b.txt")]

        def run(self) -> None:
            Path("two-b.txt").write_text("mine")

    with pytest.raises(TaskFailedError, match=r"Nothing was written to output_path for .*two-a"):
        run_task(Two())
    assert (here / "two-a.txt").read_text() == "a stranger's"
    assert not (here / "two-b.txt").exists()


def test_a_plain_write_through_a_link_is_committed_too(here: Path) -> None:
    (here / "disk").mkdir()
    (here / "disk" / "real.txt").write_text("old")
    (here / "link.txt").symlink_to(here / "disk" / "real.txt")

    class Linked(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("link.txt")

        def run(self) -> None:
            _plain_open(self.output())

    run_task(Linked(), force=True)
    assert (here / "link.txt").read_text() == "x"
    assert Linked().output().read_metadata() is not None


def test_values_helpers_and_several_outputs_go_together(here: Path) -> None:
    class Helper:
        def __init__(self, target: Any) -> None:
            self.target = target

        def save(self) -> None:
            pd.DataFrame({"a": [1]}).to_csv(self.target.path, index=False)

    class Several(AtomicTaskWithMetadata):
        def output(self) -> Any:
            names = ("opened", "helped", "given", "dumped")
            return {name: LocalFileTarget(f"{name}.csv") for name in names}

        def run(self, output_path: Any) -> None:
            with self.output()["opened"].open("w") as file:
                file.write("a\n1\n")
            Helper(self.output()["helped"]).save()
            output_path["given"].write_text("a\n1\n")
            self.output()["dumped"].dump(pd.DataFrame({"a": [1]}))

    run_task(Several())
    for target in Several().output().values():
        assert target.read_metadata() is not None
        assert list(target.load()["a"]) == [1]


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_folders_are_written_in_the_old_ways(past: bool, fails: bool, here: Path) -> None:
    class Folder(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFolderTarget("tree")

        def run(self) -> None:
            if past:
                os.makedirs(self.output().path)
                (self.output().path / "leaf").write_text("x")
            else:
                with self.output().tmp_write_path() as path:
                    (path / "leaf").write_text("x")
            if fails:
                raise ValueError("late")

    if fails:
        with pytest.raises(TaskFailedError, match="late"):
            run_task(Folder())
        assert not Folder().complete()
        assert list(here.glob("tree*")) == []
    else:
        run_task(Folder())
        assert (here / "tree" / "leaf").read_text() == "x"
        assert Folder().output().read_metadata() is not None


def test_objects_and_prefixes_are_written_in_the_old_ways(s3_server: S3Server, s3_bucket: str, here: Path) -> None:
    options = s3_server.client_options
    client = s3_server.client()

    class Objects(AtomicTaskWithMetadata):
        past: Param[bool]

        def output(self) -> Any:
            return S3ObjectTarget(s3_bucket, f"object-{self.past}", **options)

        def run(self) -> None:
            if self.past:
                client.put_object(Bucket=s3_bucket, Key=f"object-{self.past}", Body=b"x")
            else:
                _read_back(self.output())

    class Prefixes(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return S3PrefixTarget(s3_bucket, "prefix", **options)

        def run(self) -> None:
            with self.output().tmp_write_path() as path:
                (path / "leaf").write_text("x")

    for task in (Objects(past=False), Objects(past=True), Prefixes()):
        run_task(task)
        record = task.output().read_metadata()
        assert record is not None, task
        assert record["task_id"] == task.task_id


def test_two_attempts_at_one_output_in_one_process_do_not_mix(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_CAPTURE_LOGS", "false")  # about files, not about what two runs print
    both = threading.Barrier(2, timeout=60)

    class Slow(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("slow.txt")

        def run(self) -> None:
            with self.output().open("w") as file:
                file.write("x")
                both.wait()

    ended: list[str] = []

    def one() -> None:
        run_task(Slow(), executor="threads", exclusive="off")
        ended.append("well")

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["well", "well"]
    assert Slow().output().read_metadata() is not None


# ---- no output, and outputs that are known only later


class Nothing(AtomicTaskWithMetadata):
    what: Param[str]

    def output(self) -> Any:
        return {"None": None, "list": [], "dict": {}, "tuple": ()}[self.what]

    def run(self, output_path: Any, metadata: Any) -> None:
        assert output_path == self.output()
        with open("ran", "a") as file:
            file.write(f"{self.what}\n")


class NothingPlain(TaskWithMetadata):
    def output(self) -> Any:
        return None

    def run(self) -> None:
        with open("ran", "a") as file:
            file.write("plain\n")


class After(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return [*(Nothing(what=what) for what in ("None", "list", "dict", "tuple")), NothingPlain()]

    def run(self, input_path: Any) -> int:
        assert input_path == [None, [], {}, (), None]
        return len(input_path)


@pytest.mark.parametrize("options", WAYS)
def test_tasks_without_outputs_run_once_in_a_run_and_others_may_require_them(
    options: dict[str, Any], here: Path
) -> None:
    run_task(After(), **options)
    assert sorted((here / "ran").read_text().split()) == ["None", "dict", "list", "plain", "tuple"]
    assert compute(After()) == 5


def test_a_task_without_output_runs_again_in_the_next_run_and_its_paths_are_none(here: Path) -> None:
    for _ in range(2):
        assert run_task(Nothing(what="None")) is None
    assert (here / "ran").read_text().split() == ["None", "None"]
    assert run_task(Nothing(what="None"), dry_run=True)[0].state != "complete"
    assert why(Nothing(what="None"))
    assert plan(Nothing(what="None")) is not None


class ForgetsToReturn(AtomicTaskWithMetadata):
    def output(self) -> Any:
        LocalFileTarget("forgotten.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


def test_an_output_that_is_not_returned_is_named_where_run_fails_on_it(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TaskFailedError):
        run_task(ForgetsToReturn())
    assert "output() of ForgetsToReturn() gave None" in caplog.text
    caplog.clear()
    assert run_task(Nothing(what="None")) is None  # which is no mistake
    assert "gave None" not in caplog.text


def test_a_value_without_a_place_is_refused() -> None:
    class Returns(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return None

        def run(self) -> int:
            return 5

    with pytest.raises(TaskFailedError, match="so that it has no place"):
        run_task(Returns())


class Raw(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget("raw.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("a b c")


class _Splits:
    """Its outputs are what its input names."""

    def requires(self) -> Any:
        return Raw()

    def output(self) -> Any:
        raw = self.input()  # type: ignore[attr-defined]
        if not raw.exists():
            return []
        return [LocalFileTarget(f"{type(self).__name__}/{word}.txt") for word in raw.path.read_text().split()]


class SplitsPlain(_Splits, Task):
    def run(self) -> None:
        for target in self.output():
            _with_open(target)


class SplitsItself(_Splits, TaskWithMetadata):
    def run(self) -> None:
        for target in self.output():
            _with_open(target)


class SplitsAtomic(_Splits, AtomicTaskWithMetadata):
    def run(self, output_path: Any) -> None:
        for path in output_path:
            path.write_text("x")


class SplitsOldWay(_Splits, AtomicTaskWithMetadata):
    def run(self) -> None:
        for target in self.output():
            _with_open(target)


class SplitsYields(_Splits, AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return []

    def input(self) -> Any:
        return Raw().output()

    def run(self) -> Any:
        yield Raw()
        for target in self.output():
            _with_open(target)


class Gathers(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return [kind() for kind in (SplitsPlain, SplitsItself, SplitsAtomic, SplitsOldWay, SplitsYields)]

    def run(self, input_path: Any) -> list[int]:
        return [len(paths) for paths in input_path]


@pytest.mark.filterwarnings("ignore:Task SplitsPlain.*has no custom complete:UserWarning")
@pytest.mark.parametrize("options", WAYS)
def test_outputs_known_only_once_the_inputs_exist_are_made_and_checked_then(
    options: dict[str, Any], here: Path
) -> None:
    assert why(Gathers())
    run_task(Gathers(), dry_run=True)
    run_task(Gathers(), **options)
    assert compute(Gathers()) == [3] * 5
    for kind in (SplitsItself, SplitsAtomic, SplitsOldWay, SplitsYields):
        assert kind().complete()
        assert all(target.read_metadata()["task_id"] == kind().task_id for target in kind().output())
    assert lineage.trace(Gathers().output())
    assert run_task(Gathers(), dry_run=True)[0].state == "complete"


def test_outputs_that_become_known_between_the_beginning_and_a_yield_are_made_all_the_same(here: Path) -> None:
    class Overtaken(AtomicTaskWithMetadata):
        def output(self) -> Any:
            raw = Raw().output()
            return [LocalFileTarget(f"{word}.txt") for word in raw.path.read_text().split()] if raw.exists() else []

        def run(self, output_path: Any) -> Any:
            run_task(Raw())  # as another worker would
            yield Raw()
            for path in output_path:
                path.write_text("x")

    run_task(Overtaken())
    assert [target.read_metadata()["task_id"] for target in Overtaken().output()] == [Overtaken().task_id] * 3


def test_outputs_that_appear_only_because_of_run_are_refused_where_nobody_could_watch_them(here: Path) -> None:
    class Late(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [LocalFileTarget(path) for path in sorted(here.glob("late-*.txt"))]

        def run(self) -> None:
            (here / "late-1.txt").write_text("x")

    with pytest.raises(TaskFailedError, match="had no output when it began"):
        run_task(Late())

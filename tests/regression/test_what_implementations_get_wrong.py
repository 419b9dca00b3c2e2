"""What implementations of this idea got wrong, each told so that it would fail on the fault."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import targets
from superluigi.errors import OutputNotWrittenError, TaskFailedError
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing import fault_injection


class Base(AtomicTaskWithMetadata):
    folder = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.task_family}.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text("base")
        metadata["calls"] = metadata.get("calls", 0) + 1


class Inherits(Base):
    pass


class InheritsTwice(Inherits):
    extra = luigi.IntParameter(default=1)


class InheritsAndFails(Base):
    def run(self, output_path: Path) -> None:  # type: ignore[override]
        output_path.write_text("half")
        raise ZeroDivisionError


class InheritsTheFailure(InheritsAndFails):
    pass


@pytest.mark.parametrize("cls", [Inherits, InheritsTwice])
def test_a_subclass_that_does_not_redefine_run_runs_once_and_commits_once(tmp_path: Path, cls: type[Base]) -> None:
    run_task(cls(folder=str(tmp_path)))
    assert (tmp_path / f"{cls.__name__}.txt").read_text() == "base"
    record = cls(folder=str(tmp_path)).output().read_metadata()
    assert record["calls"] == 1 and record["task_family"] == cls.__name__
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{cls.__name__}.txt",
        f"{cls.__name__}.txt.metadata.json",
    ]


def test_a_subclass_that_inherits_a_failing_run_leaves_nothing_to_call_complete(tmp_path: Path) -> None:
    task = InheritsTheFailure(folder=str(tmp_path))
    for _ in range(2):
        with pytest.raises(TaskFailedError):
            run_task(task)
        assert not task.complete()
        assert list(tmp_path.iterdir()) == []


def test_a_half_uploaded_prefix_does_not_exist(s3_server: Any, s3_bucket: str) -> None:
    target = targets.S3PrefixTarget(s3_bucket, "half", **s3_server.client_options)
    s3_server.client().put_object(Bucket=s3_bucket, Key="half/part-0", Body=b"x")
    assert not target.exists()
    assert target.read_metadata() is None


def test_an_upload_that_breaks_off_leaves_no_prefix_that_exists(s3_server: Any, s3_bucket: str) -> None:
    target = targets.S3PrefixTarget(s3_bucket, "half", **s3_server.client_options)

    def publish() -> None:
        with target.tmp_write_path() as path:
            for n in range(4):
                (path / f"part-{n}").write_text("x")

    with fault_injection.stopping_at(0, "error") as steps:
        publish()
    total = len(steps)
    assert target.exists()
    for n in range(1, total + 1):
        target.remove()
        with contextlib.suppress(OSError), fault_injection.stopping_at(n, "error"):
            publish()
        if target.exists():
            with target.tmp_read_path() as path:
                assert sorted(part.name for part in path.iterdir()) == [f"part-{n}" for n in range(4)]


def test_an_object_that_changed_while_its_size_did_not_is_fetched_again(s3_server: Any, s3_bucket: str) -> None:
    client = s3_server.client()
    target = targets.S3ObjectTarget(s3_bucket, "data.txt", **s3_server.client_options)
    for body in (b"first", b"other", b"third"):
        client.put_object(Bucket=s3_bucket, Key="data.txt", Body=body)
        with target.tmp_read_path() as path:
            assert path.read_bytes() == body
        assert target.download().read_bytes() == body


class Layer(AtomicTaskWithMetadata):
    """A diamond: each of two tasks of a layer requires both of the layer below."""

    folder = luigi.Parameter()
    depth = luigi.IntParameter()
    side = luigi.IntParameter(default=0)

    def requires(self) -> Any:
        return [Layer(self.folder, self.depth - 1, side) for side in (0, 1)] if self.depth else []

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.depth}-{self.side}")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


def test_the_record_at_the_end_of_a_twelve_layer_diamond_is_as_small_as_one_in_the_middle(tmp_path: Path) -> None:
    run_task(Layer(str(tmp_path), 12))
    sizes = {depth: (tmp_path / f"{depth}-0.metadata.json").stat().st_size for depth in (2, 6, 12)}
    assert len(list(tmp_path.glob("*.metadata.json"))) == 25
    assert max(sizes.values()) - min(sizes.values()) < 100
    packages = json.loads((tmp_path / "12-0.metadata.json").read_text())["environment"]["packages"]
    assert sizes[12] - len(json.dumps(packages)) < 3500


class Asks(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    count = luigi.IntParameter(default=3)

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "sum.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> Any:
        texts = []
        for n in range(self.count):
            path = yield Layer(self.folder, 0, n)
            texts.append(path.read_text())
            path.write_text("spoilt")  # a copy of its own (P7)
        several = yield {"a": Layer(self.folder, 0, 0), "b": [Layer(self.folder, 0, 1)]}
        texts += [several["a"].read_text(), several["b"][0].read_text()]
        output_path.write_text("".join(texts))
        metadata["texts"] = len(texts)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_body_of_a_run_that_yields_is_executed_to_its_end(tmp_path: Path, workers: int) -> None:
    run_task(Asks(str(tmp_path)), num_workers=workers)
    assert (tmp_path / "sum.txt").read_text() == "xxxxx"
    record = Asks(str(tmp_path)).output().read_metadata()
    assert record["texts"] == 5
    assert [item["path"] for item in record["dynamic_input"][:3]] == [str(tmp_path / f"0-{n}") for n in range(3)]


def make_version(folder: str, kind: str, text: str) -> None:
    """One forced run of a task whose output says `text`, as a record does."""
    target = LocalFolderTarget(Path(folder) / "out") if kind == "folder" else LocalFileTarget(Path(folder) / "out")

    class Version(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return target

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            if kind == "folder":
                for name in "abc":
                    (output_path / name).write_text(text * 100)
            else:
                output_path.write_text(text * 100)
            metadata["text"] = text

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_task(Version(), force=True, raise_exception=True)


def seen_version(folder: str, kind: str) -> tuple[str, str | None]:
    """What a reader finds: the text of the data and that of the record."""
    target: Any = LocalFolderTarget(Path(folder) / "out") if kind == "folder" else LocalFileTarget(Path(folder) / "out")
    if not target.exists():
        return "absent", None
    record = target.read_metadata()
    with target.tmp_read_path() as path:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        texts = {file.read_text() for file in files}
        assert len(files) == (3 if kind == "folder" else 1) and len(texts) == 1
    text = texts.pop()
    assert len(text) == 100 * len(set(text))
    return text[0], None if record is None else record["text"]


@pytest.mark.parametrize("kind", ["file", pytest.param("folder", marks=pytest.mark.long)])
def test_a_kill_at_any_step_of_a_task_leaves_old_or_new_with_its_own_record(tmp_path: Path, kind: str) -> None:
    folder = str(tmp_path / "store")
    with fault_injection.stopping_at(0, "error") as steps:
        make_version(folder, kind, "a")
    with fault_injection.stopping_at(0, "error") as steps:
        make_version(folder, kind, "a")
    assert len(steps) >= 5
    for n in range(1, len(steps) + 1):
        make_version(folder, kind, "a")
        assert fault_injection.stopped_in_child(n, "death", make_version, folder, kind, "b") == fault_injection.DEATH, (
            steps
        )
        assert seen_version(folder, kind) in {("a", "a"), ("b", "b")}, f"killed before step {n} of {steps}"
    make_version(folder, kind, "c")
    assert seen_version(folder, kind) == ("c", "c")
    assert sorted(path.name for path in Path(folder).iterdir()) == ["out", "out.metadata.json"]


class Grid(AtomicTaskWithMetadata):
    """Two tasks a layer, each requires both below; the middle layer's first can be told to fail."""

    folder = luigi.Parameter()
    layer = luigi.IntParameter()
    side = luigi.IntParameter(default=0)

    def requires(self) -> Any:
        return [Grid(self.folder, self.layer - 1, side) for side in (0, 1)] if self.layer else []

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / "out" / f"{self.layer}-{self.side}")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> Any:
        with open(Path(self.folder) / "log", "a") as log:
            log.write(f"{self.layer}-{self.side}\n")
        if self.layer == 2 and (Path(self.folder) / "fail").exists():
            raise ZeroDivisionError
        if self.layer == 3:
            yield Grid(self.folder, 0, 7)  # found at run time
        output_path.write_text(metadata["run"]["id"])


ALL = {"3-0", "2-0", "2-1", "1-0", "1-1", "0-0", "0-1", "0-7"}


def made(folder: Path) -> Counter[str]:
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return Counter(lines)


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2}, {"num_workers": 4, "executor": "threads"}])
def test_forcing_makes_each_task_exactly_once_whatever_the_workers(tmp_path: Path, options: dict[str, Any]) -> None:
    root = Grid(str(tmp_path), 3)
    run_task(root, **options)
    started = made(tmp_path)
    assert set(started) == ALL
    run_task(root, force_upstream=True, **options)
    again = made(tmp_path)
    assert set(again) == ALL
    assert {name: count for name, count in again.items() if count > 1}.keys() <= {"3-0"}  # re-entered by its yield
    run_task(root, **options)
    assert made(tmp_path) == {}
    assert "force" not in vars(root) and root.complete()
    assert len({path.read_text() for path in (tmp_path / "out").glob("?-?")}) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_forced_run_leaves_every_old_output_and_is_resumed_where_it_broke(
    tmp_path: Path, workers: int
) -> None:
    root = Grid(str(tmp_path), 3)
    run_task(root, num_workers=workers)
    before = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    made(tmp_path)
    (tmp_path / "fail").touch()
    with pytest.raises(TaskFailedError):
        run_task(root, force_upstream=True, num_workers=workers)
    assert set(made(tmp_path)) == {"0-0", "0-1", "1-0", "1-1", "2-0", "2-1"}
    after = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert after.keys() == before.keys()
    for name in ("2-0", "2-1", "3-0", "0-7"):
        assert after[name] == before[name] and after[f"{name}.metadata.json"] == before[f"{name}.metadata.json"]
    (tmp_path / "fail").unlink()
    run_task(root, force_upstream=True, resume=True, num_workers=workers)
    assert set(made(tmp_path)) == {"2-0", "2-1", "3-0", "0-7"}
    assert len({path.read_text() for path in (tmp_path / "out").glob("?-?")}) == 1


def test_making_targets_makes_no_client_and_asks_nobody(s3_server: Any, s3_bucket: str) -> None:
    script = (
        "import sys, json\n"
        "from superluigi.targets import S3ObjectTarget, S3PrefixTarget\n"
        "options = json.loads(sys.argv[1])\n"
        "for n in range(100):\n"
        "    S3ObjectTarget('bucket', f'k{n}', **options)\n"
        "    S3PrefixTarget('bucket', f'p{n}', role_arn='arn:aws:iam::123456789012:role/r', **options)\n"
        "assert 'boto3' not in sys.modules and 'botocore.client' not in sys.modules, 'a client library was loaded'\n"
    )
    with s3_server.counted() as requests:
        subprocess.run([sys.executable, "-c", script, json.dumps(s3_server.client_options)], check=True, timeout=60)
    assert requests == []


def test_a_missing_key_takes_one_request_and_a_missing_prefix_too(s3_server: Any, s3_bucket: str) -> None:
    options = s3_server.client_options
    for target in (
        targets.S3ObjectTarget(s3_bucket, "a", **options),
        targets.S3PrefixTarget(s3_bucket, "b", **options),
    ):
        target.exists()  # connections, the bucket's region
        with s3_server.counted() as requests:
            assert not target.exists()
        assert len(requests) == 1, list(map(str, requests))


def test_targets_with_the_same_options_share_one_client(s3_server: Any, s3_bucket: str, mocker: Any) -> None:
    import boto3.session

    options = s3_server.client_options
    targets.S3ObjectTarget(s3_bucket, "first", **options).exists()
    made = mocker.spy(boto3.session.Session, "client")
    for n in range(20):
        targets.S3ObjectTarget(s3_bucket, f"shared-{n}", **options).exists()
        targets.S3PrefixTarget(s3_bucket, f"shared-{n}", **options).exists()
    assert made.call_count == 0


FLOW = """
import luigi
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Adds(AtomicTaskWithMetadata):
    first = luigi.IntParameter()
    second = luigi.IntParameter()

    def output(self):
        return LocalFileTarget(f"{self.first}-{self.second}.txt")

    def run(self, output_path):
        output_path.write_text(str(self.first - self.second))
"""


def test_the_command_line_hands_arguments_to_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "flow9.py").write_text(FLOW)
    words = ["run", "flow9", "Adds", "--second", "3", "--first", "10", "--workers", "2", "--force"]
    done = subprocess.run(
        [sys.executable, "-m", "superluigi", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "10-3.txt").read_text() == "7"


def test_pytest_collects_these_tests() -> None:
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(here.parent)],
        cwd=here.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and here.name in done.stdout


def test_writing_nothing_on_a_second_run_is_an_error_although_an_output_is_there(tmp_path: Path) -> None:
    class Once(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "once")

        def run(self, output_path: Path) -> None:
            if not (tmp_path / "once").exists():
                output_path.write_text("x")

    run_task(Once())
    with pytest.raises(TaskFailedError) as caught:
        run_task(Once(), force=True)
    assert isinstance(caught.value.__cause__, OutputNotWrittenError)

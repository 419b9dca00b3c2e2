"""Checks and turns hold wherever a task runs: threads, processes, Dask and queues, for every kind of output."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import postgres_support as postgres
import pytest
from dask_support import DaskCluster

from superluigi import check, run_task
from superluigi.checks import quarantine
from superluigi.errors import CommitConflictError, TaskFailedError
from superluigi.queue import Queue
from superluigi.storage.base import Lease
from superluigi.storage.local import leases
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.s3_server import S3Server

EXECUTORS = ["threads", "processes", "sqlite", pytest.param("postgresql", marks=pytest.mark.long),
             pytest.param("dask", marks=pytest.mark.long)]  # fmt: skip


@pytest.fixture(params=EXECUTORS)
def where(
    request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The options of a run that say where its tasks run."""
    kind = request.param
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.client_options["endpoint_url"])
    if kind == "dask":
        folder = tmp_path / "dask"
        folder.mkdir()
        with DaskCluster(folder, workers=2) as address:
            yield {"executor": address, "num_workers": 2}
    elif kind in ("sqlite", "postgresql"):
        name = f"sqlite:///{tmp_path}/queue.db"
        if kind == "postgresql":
            name = postgres.database(request.getfixturevalue("postgres_server"), f"q{secrets.token_hex(4)}")
        yield {"queue": Queue(name), "num_workers": 2}
    else:
        yield {"executor": kind, "num_workers": 2}


class Several(AtomicTaskWithMetadata):
    """A file, a folder and in a bucket an object and a prefix; one check of all says whether it is good."""

    place = luigi.Parameter()
    bucket = luigi.Parameter()
    text = luigi.Parameter()

    def output(self) -> Any:
        name = self.text
        return {
            "file": LocalFileTarget(Path(self.place) / f"{name}.json"),
            "folder": LocalFolderTarget(Path(self.place) / name),
            "object": S3ObjectTarget(self.bucket, f"{name}.json"),
            "prefix": S3PrefixTarget(self.bucket, name),
        }

    def run(self, output_path: dict[str, Path]) -> None:
        for path in output_path.values():
            (path / "part.json" if path.is_dir() else path).write_text(f'"{self.text}"')

    @check
    def is_good(self, values: Any, metadata: dict[str, Any]) -> Any:
        metadata["looked"] = os.getpid()
        return {values["file"], values["folder"]["part"], values["object"], values["prefix"]["part"]} == {"good"}

    @check(severity="warn")
    def is_long(self, values: Any) -> Any:
        return "too short"


class All(luigi.WrapperTask):
    place = luigi.Parameter()
    bucket = luigi.Parameter()

    def requires(self) -> Any:
        return [Several(self.place, self.bucket, text) for text in ("good", "bad")]


def test_of_several_outputs_of_all_kinds_only_the_good_are_published_wherever_they_are_made(
    tmp_path: Path, where: dict[str, Any], s3_bucket: str
) -> None:
    (tmp_path / "store").mkdir()
    root = All(str(tmp_path / "store"), s3_bucket)
    with pytest.raises(TaskFailedError, match="check 'is_good' failed: the check gave False"):
        run_task(root, **where)
    good, bad = (list(task.output().values()) for task in root.requires())
    for target in good:
        record = target.read_metadata()
        assert [(one["name"], one["status"]) for one in record["checks"]] == [
            ("is_good", "passed"), ("is_long", "failed"),
        ]  # fmt: skip
        assert record["looked"]
    assert not any(target.exists() or target.read_metadata() for target in bad)
    [entry] = quarantine.entries()
    assert len(list(entry.path.glob("output/*/*"))) == 4


class Held(AtomicTaskWithMetadata):
    """Notes that it ran."""

    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "out" / "held.json")

    def run(self) -> Any:
        with open(f"{self.place}/ran", "a") as log:
            log.write("x")
        return 1


class FailsAtOnce(Held):
    exclusive = "fail"


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Another process holds the lease of the tasks above; the call ends it."""
    program = (
        "import sys\nfrom superluigi.storage.local import leases\n"
        f"lease = leases.take({str(tmp_path / 'out')!r}, 'held.json', make=True)\n"
        "print(type(lease).__name__, flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "LocalLease\n"

    def end() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    yield end
    end()
    process.communicate()


def test_a_class_that_says_fail_fails_wherever_it_runs(
    tmp_path: Path, where: dict[str, Any], taken: Callable[[], None]
) -> None:
    with pytest.raises(TaskFailedError, match="is running on"):
        run_task(FailsAtOnce(str(tmp_path)), **where)
    assert not (tmp_path / "ran").exists()
    taken()
    run_task(FailsAtOnce(str(tmp_path)), **where)
    assert (tmp_path / "ran").read_text() == "x"


@pytest.mark.parametrize("how", ["a setting", "an argument"])
def test_a_setting_and_an_argument_are_heard_wherever_it_runs(
    tmp_path: Path, where: dict[str, Any], taken: Callable[[], None], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}
    if how == "a setting" and "://" in str(where.get("executor")):
        pytest.skip("the workers of a cluster have settings of their own")
    if how == "a setting":
        monkeypatch.setenv("SUPERLUIGI_EXCLUSIVE", "off")
    else:
        options["exclusive"] = "off"
    run_task(Held(str(tmp_path)), **where, **options)
    assert (tmp_path / "ran").read_text() == "x"
    taken()


def test_under_luigis_build_a_class_says_fail_too(tmp_path: Path, taken: Callable[[], None]) -> None:
    assert not luigi.build([FailsAtOnce(str(tmp_path))], local_scheduler=True, log_level="ERROR")
    taken()
    assert luigi.build([FailsAtOnce(str(tmp_path))], local_scheduler=True, log_level="ERROR")
    assert (tmp_path / "ran").read_text() == "x"


def test_a_lease_that_a_file_server_has_given_to_another_publishes_nothing(tmp_path: Path) -> None:
    with leases.kept():
        lease = leases.take(str(tmp_path), "one", make=True)
        assert isinstance(lease, Lease)
        lease.confirm()
        file: Any = lease._file  # type: ignore[attr-defined]
        file.unlock(lease._start)  # type: ignore[attr-defined]  # as a server does that has not heard of us
        program = (
            "import sys\nfrom superluigi.storage.local import leases\n"
            f"print(type(leases.take({str(tmp_path)!r}, 'one', make=True)).__name__, flush=True)\nsys.stdin.read()\n"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert other.stdout is not None and other.stdout.readline() == "LocalLease\n"
            with pytest.raises(CommitConflictError, match="taken over"):
                lease.confirm()
        finally:
            other.communicate("")
        lease.release()


SLEEPER = """
import os, pathlib, sys, time
from datetime import timedelta
import luigi
from superluigi import run_task
from superluigi.storage.objects import leases
from superluigi.targets import S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata

leases.LEASE = timedelta(seconds=2)

class Sleeps(AtomicTaskWithMetadata):
    def output(self): return S3ObjectTarget(os.environ["BUCKET"], "sleeps.txt")
    def run(self, output_path):
        output_path.write_text(sys.argv[1])
        pathlib.Path(sys.argv[1]).touch()
        while sys.argv[1] == "first" and not os.path.exists("go"):
            time.sleep(0.01)

run_task(Sleeps(), exclusive="wait")
"""


def test_a_holder_that_was_stopped_until_another_took_over_publishes_nothing(
    tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    environment = {**os.environ, "AWS_ENDPOINT_URL_S3": s3_server.client_options["endpoint_url"], "BUCKET": s3_bucket}

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "sleeper.py", name], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    first = start("first")
    while not (tmp_path / "first").exists() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    try:
        second = start("second")
        said, _ = second.communicate()
        assert second.returncode == 0, said
        target = S3ObjectTarget(s3_bucket, "sleeps.txt", **s3_server.client_options)
        made = target.read_metadata()
    finally:
        (tmp_path / "go").touch()
        first.send_signal(signal.SIGCONT)
    first.communicate()
    with target.tmp_read_path() as path:
        assert path.read_text() == "second"
    assert target.read_metadata() == made

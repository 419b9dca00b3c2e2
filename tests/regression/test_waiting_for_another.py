"""Who waits for another's attempt is reached as one that runs: by a cancellation, a time limit, Ctrl-C, an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import TaskCancelledError, TaskFailedError, TaskTimeoutError
from superluigi.queue import Queue
from superluigi.storage.base import Lease
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.runtime import cancel
from superluigi.testing.s3_server import S3Server


class Held(AtomicTaskWithMetadata):
    """Another process makes it, as its lease says."""

    place = luigi.Parameter()
    kind = luigi.Parameter(default="file")

    def output(self) -> Any:
        if self.kind == "object":
            return S3ObjectTarget(self.place, "held/x")
        if self.kind == "prefix":
            return S3PrefixTarget(self.place, "held/x")
        return (LocalFolderTarget if self.kind == "folder" else LocalFileTarget)(Path(self.place) / "held")

    def run(self, output_path: Path) -> None:
        (output_path / "x" if output_path.is_dir() else output_path).write_text("made")


class Limited(Held):
    worker_timeout = 1


class Fails(AtomicTaskWithMetadata):
    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "fails")

    def run(self) -> None:
        until(lambda: under_way("Held"))
        raise ValueError("boom")


class Both(luigi.WrapperTask):
    place = luigi.Parameter()

    def requires(self) -> Any:
        return [Held(self.place), Fails(self.place)]


def under_way(*families: str) -> list[str]:
    """The attempts that run or wait here, of these tasks: other tests may have left threads behind."""
    return [scope.task.task_id for scope in cancel.running() if scope.task.task_family in families]


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.01)


@pytest.fixture(params=["file", "folder", "object", "prefix"])
def held(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The parameters of a task whose lease another has."""
    place = str(tmp_path)
    if request.param in ("object", "prefix"):
        server: S3Server = request.getfixturevalue("s3_server")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.client_options["endpoint_url"])
        place = request.getfixturevalue("s3_bucket")
    monkeypatch.setenv("SUPERLUIGI_EXCLUSIVE", "wait")
    given = {"place": place, "kind": request.param}
    lease = Held(**given).output().location.lease(make=True)
    assert isinstance(lease, Lease)
    yield given
    lease.confirm()  # nothing has taken it away
    lease.release()


@pytest.mark.parametrize(
    ("held", "executor"),
    [("file", None), ("folder", "threads"), ("object", "processes"), ("prefix", None)],
    indirect=["held"],
)
def test_a_cancellation_ends_the_wait(held: dict[str, str], executor: Any) -> None:
    task = Held(**held)
    asking = threading.Thread(target=until, args=(lambda: task.cancel("it is enough"),))
    asking.start()
    with pytest.raises(TaskFailedError, match="it is enough") as failed:
        run_task(task, num_workers=2, executor=executor)
    asking.join()
    assert isinstance(failed.value.__cause__, TaskCancelledError)
    assert not under_way("Held") and not task.output().exists()


@pytest.mark.parametrize(
    ("held", "executor"), [("file", "threads"), ("folder", "processes"), ("object", None)], indirect=["held"]
)
def test_a_time_limit_ends_the_wait(held: dict[str, str], executor: Any) -> None:
    late: list[str] = []
    Limited.event_handler(luigi.Event.TIMEOUT)(lambda task, said: late.append(said))
    with pytest.raises(TaskFailedError, match="took too long") as failed:
        run_task(Limited(**held), num_workers=2, executor=executor)
    assert isinstance(failed.value.__cause__, TaskTimeoutError) and len(late) == 1
    assert not under_way("Limited")


@pytest.mark.parametrize(("held", "how"), [("object", "killed"), ("file", "timeout")], indirect=["held"])
def test_a_queue_ends_the_wait(held: dict[str, str], tmp_path: Path, how: str) -> None:
    queue = Queue(f"sqlite:///{tmp_path}/queue.db")
    task: Any = (Held if how == "killed" else Limited)(**held)
    queue.submit(task)

    def kill() -> None:
        until(lambda: [row for row in queue.tasks(state="RUNNING") if row.status_message])
        queue.kill(task)

    asking = threading.Thread(target=kill if how == "killed" else lambda: None)
    asking.start()
    queue.spawn(1)
    asking.join()
    (row,) = queue.tasks()
    assert row.state == ("KILLED" if how == "killed" else "FAILED"), row


@pytest.mark.parametrize("held", ["file"], indirect=True)
@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
@pytest.mark.parametrize("call", ["run_task(task, progress=True)", "luigi.build([task], local_scheduler=True)"])
def test_other_processes_end_the_wait(held: dict[str, str], tmp_path: Path, how: str, call: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import luigi, sys\nfrom superluigi import run_task\n"
        "from tests.regression.test_waiting_for_another import Held\n"
        f"task = Held(**{held!r})\nif __name__ == '__main__':\n    sys.exit({call} is not True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as waits:
        assert waits.stdout is not None
        said = ""
        for line in waits.stdout:
            said += line
            if "is running on" in line or "waits: it is" in line:
                break
        if how == "cancelled":
            until(lambda: Held(**held).cancel("it is enough"))
        else:
            waits.send_signal(signal.SIGINT)
        said += waits.stdout.read()
    assert waits.returncode != 0, said
    assert "it is enough" in said or "KeyboardInterrupt" in said or waits.returncode in (130, -2), said
    assert not Held(**held).output().exists()


@pytest.mark.parametrize("held", ["file"], indirect=True)
def test_an_error_elsewhere_ends_the_wait_where_the_run_stops_on_errors(held: dict[str, str]) -> None:
    with pytest.raises(TaskFailedError, match="boom"):
        run_task(Both(held["place"]), num_workers=2, executor="threads", on_error="stop")
    assert not under_way("Held", "Fails")

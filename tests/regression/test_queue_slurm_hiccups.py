"""A batch system that is busy, silent or short of time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from superluigi.errors import MissingDependencyError, OptionError, QueueError
from superluigi.queue import Pool, Queue
from superluigi.queue.providers import WorkerOrder, slurm
from superluigi.queue.workers import spawner
from superluigi.storage.base import Lease

Project = Callable[[str], ModuleType]

#: `sbatch` refuses as often as `refusals` says, then starts jobs; `squeue` answers what `listed` says, or fails.
SBATCH = """#!/bin/sh
n=$(cat "{home}/refusals"); echo x >> "{home}/calls"
if [ "$n" -gt 0 ]; then
    echo $((n - 1)) > "{home}/refusals"
    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1
fi
cat > "{home}/job"; sh "{home}/job" > "{home}/out" 2>&1 &
echo 1
"""
SQUEUE = """#!/bin/sh
cat "{home}/listed" 2>/dev/null || {{ echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }}
"""


@pytest.fixture
def busy_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "slurm"
    home.mkdir()
    for name, script in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", "#!/bin/sh\n")):
        (home / name).write_text(script.format(home=home))
        (home / name).chmod(0o755)
    (home / "refusals").write_text("0")
    (home / "listed").write_text("")
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    return home


TASKS = """
    class Job(luigi.Task):
        def output(self):
            return luigi.LocalTarget("made")
        def run(self):
            pathlib.Path("made").touch()
"""


@pytest.mark.parametrize("silent", [False, True])
def test_a_refused_submission_is_tried_again_and_not_made_twice(
    project: Project, queue_name: str, busy_slurm: Path, caplog: pytest.LogCaptureFixture, silent: bool
) -> None:
    module = project(TASKS)
    (busy_slurm / "refusals").write_text("1")
    if silent:
        (busy_slurm / "listed").unlink()  # not a single answer while the job starts
    with Queue(queue_name, pools={"default": Pool(1, provider="slurm")}) as queue:
        queue.submit(module.Job())
        queue.spawn()
        assert queue.counts()["SUCCEEDED"] == 1
    assert len((busy_slurm / "calls").read_text().split()) == 2
    assert "trying again" in caplog.text and "Socket timed out" in caplog.text


def test_a_batch_system_that_refuses_for_good_ends_the_manager_with_its_words(
    project: Project, queue_name: str, busy_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawner, "MAX_REFUSALS", 1)
    (busy_slurm / "refusals").write_text("99")
    module = project(TASKS)
    with Queue(queue_name, pools={"default": Pool(1, provider="slurm")}) as queue:
        queue.submit(module.Job())
        with pytest.raises(QueueError, match="Socket timed out"):
            queue.spawn()


def test_submissions_count_until_they_are_seen_or_a_minute_has_gone(
    busy_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now[0])
    provider = slurm.SlurmProvider()
    for _ in range(2):
        provider.start(WorkerOrder("superluigi-q-a", ("true",), str(busy_slurm), Pool()))
    for listed, expected in (("", 2), (None, 2), ("superluigi-q-a", 2), ("superluigi-q-a\nsuperluigi-q-a", 2)):
        if listed is None:
            (busy_slurm / "listed").unlink()
        else:
            (busy_slurm / "listed").write_text(listed)
        assert provider.alive("superluigi-q-") == {"superluigi-q-a": expected}
    (busy_slurm / "listed").write_text("superluigi-q-a")  # one has ended
    assert provider.alive("superluigi-q-") == {"superluigi-q-a": 1}
    provider.start(WorkerOrder("superluigi-q-a", ("true",), str(busy_slurm), Pool()))
    assert provider.alive("superluigi-q-") == {"superluigi-q-a": 2}
    now[0] += slurm.UNSEEN_SECONDS + 1
    assert provider.alive("superluigi-q-") == {"superluigi-q-a": 1}


def test_a_walltime_in_which_nothing_can_run_is_refused() -> None:
    for provider, seconds in (("local", 0), ("local", 5), ("slurm", 30), ("slurm", 59)):
        with pytest.raises(OptionError, match=r"at least .*time to start"):
            Pool(provider=provider, walltime=timedelta(seconds=seconds))
    Pool(walltime=timedelta(seconds=6))
    Pool(provider="slurm", walltime=timedelta(minutes=1))


def test_a_task_longer_than_its_walltime_fails_after_its_attempts(project: Project, queue_name: str) -> None:
    module = project("""
        class Long(luigi.Task):
            retry_count = 2
            def run(self):
                with open("began", "a") as file:
                    file.write("x")
                time.sleep(60)
    """)
    with Queue(queue_name, pools={"default": Pool(1, walltime=timedelta(seconds=6.5))}) as queue:
        queue.submit(module.Long())
        queue.spawn()
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "whole walltime" in str(row.error) and row.failures == 2


def test_a_task_that_asks_for_another_attempt_before_its_walltime_ends_does_not_fail(
    project: Project, queue_name: str
) -> None:
    module = project("""
        from superluigi.errors import GracefulTimeout
        from superluigi.targets import LocalFileTarget
        from superluigi.tasks import AtomicTaskWithMetadata

        class Saves(AtomicTaskWithMetadata):
            def output(self):
                return LocalFileTarget("saved")
            def run(self, output_path, task_dir):
                mark = pathlib.Path("began")
                if mark.exists():
                    output_path.write_text("done")
                    return
                mark.touch()
                while self.remaining_time() > 2:
                    time.sleep(0.05)
                raise GracefulTimeout("saved so far")
    """)
    with Queue(queue_name, pools={"default": Pool(1, walltime=timedelta(seconds=12))}) as queue:
        queue.submit(module.Saves())
        queue.spawn()
        (row,) = queue.tasks()
        assert (row.state, row.failures) == ("SUCCEEDED", 0), row.error


def test_a_task_that_waits_for_another_process_until_its_walltime_ends_does_not_fail(
    project: Project, queue_name: str
) -> None:
    module = project("""
        from superluigi.targets import LocalFileTarget
        from superluigi.tasks import AtomicTaskWithMetadata

        class Waits(AtomicTaskWithMetadata):
            def output(self):
                return LocalFileTarget("made")
            def run(self, output_path):
                output_path.write_text("by the queue")
    """)
    task = module.Waits()
    lease = task.output().location.lease()
    assert isinstance(lease, Lease)
    with Queue(queue_name, pools={"default": Pool(1, walltime=timedelta(seconds=6.5))}) as queue:
        queue.submit(task)

        def let_go() -> None:
            while not over.wait(0.1) and not queue.attempts(task.task_id):  # until the first worker has left
                pass
            lease.release()

        over, thread = threading.Event(), threading.Thread(target=let_go)
        thread.start()
        queue.spawn()
        over.set()
        thread.join()
        (row,) = queue.tasks()
        assert (row.state, row.failures) == ("SUCCEEDED", 0), row.error
        assert queue.attempts(task.task_id)[0].outcome == "REQUEUED"


def test_jobs_that_vanish_one_after_the_other_are_not_submitted_for_ever(
    project: Project, queue_name: str, busy_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (busy_slurm / "sbatch").write_text(f"#!/bin/sh\necho x >> {busy_slurm}/calls\necho 1\n")  # always the same id
    monkeypatch.setattr(slurm, "UNSEEN_SECONDS", -1.0)
    module = project(TASKS)
    with Queue(queue_name, pools={"default": Pool(2, provider="slurm")}) as queue:
        queue.submit(module.Job())
        with pytest.raises(QueueError, match="none has come to work") as raised:
            queue.spawn()
        assert str(queue.logs / "workers") in str(raised.value)
        assert len((busy_slurm / "calls").read_text().split()) == 2 + spawner.MAX_FRUITLESS


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("squeue", "#!/bin/sh\nprintf 'superluigi-q-a\\n\\377\\376 \\000garbage\\n\\n'\n", None),
        ("squeue", "#!/bin/sh\nyes 'slurm_load_jobs error' | head -c 100000 >&2; exit 1\n", None),
        ("sbatch", "#!/bin/sh\nprintf '\\377\\376' >&2; exit 1\n", "failed"),
        ("sbatch", "#!/no/such/shell\n", "sbatch"),
        ("sbatch", None, "cannot be run"),
    ],
)
def test_what_slurm_answers_may_be_anything(busy_slurm: Path, name: str, script: str | None, says: str | None) -> None:
    file = busy_slurm / name
    if script is None:
        file.unlink()
        file.mkdir()  # there, and nothing that can be run
    else:
        file.write_text(script)
    provider = slurm.SlurmProvider()
    order = WorkerOrder("superluigi-q-a", ("true",), str(busy_slurm), Pool())
    if says is None:
        provider.start(order)
        assert provider.alive("superluigi-q-") == {"superluigi-q-a": 1}
        return
    with pytest.raises((QueueError, MissingDependencyError), match=says) as raised:
        provider.start(order)
    assert len(str(raised.value)) < 5000


def test_jobs_of_a_queue_with_spaces_in_its_name_are_found_again(busy_slurm: Path) -> None:
    (busy_slurm / "listed").write_text("superluigi-my queue-big gpu  \nsuperluigi-my\n")
    assert slurm.SlurmProvider().alive("superluigi-my queue-") == {"superluigi-my queue-big gpu": 1}


def test_a_user_without_a_name_is_asked_for_by_number(busy_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(slurm.getpass, "getuser", nameless)
    (busy_slurm / "squeue").write_text(f'#!/bin/sh\necho "$@" > {busy_slurm}/asked\n')
    slurm.SlurmProvider().alive("x")
    assert f"--user={os.getuid()}" in (busy_slurm / "asked").read_text()

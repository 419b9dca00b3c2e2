"""One attempt at a time makes an output on S3, where it is asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import CommitConflictError, TaskFailedError
from superluigi.storage import owner_token
from superluigi.storage.base import Holder, Lease
from superluigi.storage.objects import leases
from superluigi.storage.objects.cleanup import clean
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.s3_server import S3Server

#: A holder on another machine, of which only its signs of life are known.
ELSEWHERE = "elsewhere-0123456789ab.7-41-5-0123456789ab"


def target(server: S3Server, bucket: str, kind: str) -> Any:
    if kind == "object":
        return S3ObjectTarget(bucket, "out/x.txt", **server.client_options)
    inside = kind == "prefix with its record inside"
    return S3PrefixTarget(bucket, "out", metadata_inside_prefix=inside, **server.client_options)


KINDS = ["object", "prefix", "prefix with its record inside"]


@contextlib.contextmanager
def leased(one: Any) -> Iterator[Lease]:
    lease = one.location.lease()
    assert isinstance(lease, Lease), lease
    try:
        yield lease
    finally:
        lease.release()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lease_is_had_by_one_and_leaves_nothing(s3_server: S3Server, s3_bucket: str, kind: str) -> None:
    one, other = target(s3_server, s3_bucket, kind), target(s3_server, s3_bucket, kind)
    with leased(one) as lease:
        taken = other.location.lease()
        assert isinstance(taken, Holder) and owner_token.is_own(taken.token) and taken.far
        assert str(other.location.holder()).startswith("running on ")
        assert not one.exists()
        lease.confirm()
        with one.tmp_write_path() as path:
            (path if kind == "object" else path / "a").write_text("x")
        assert one.exists()
    assert other.location.holder() is None
    left = s3_server.client().list_objects_v2(Bucket=s3_bucket)["Contents"]
    assert not [item["Key"] for item in left if item["Key"].endswith(".running")]
    with leased(other):
        pass


def test_a_dead_holder_of_this_machine_is_replaced_at_once(s3_server: S3Server, s3_bucket: str) -> None:
    one = target(s3_server, s3_bucket, "object")
    program = (
        "import os, sys\nfrom superluigi.targets import S3ObjectTarget\n"
        f"t = S3ObjectTarget({s3_bucket!r}, 'out/x.txt', **{dict(s3_server.client_options)!r})\n"
        "t.location.lease(); print('have it', flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "have it\n"), done.stderr
    (found,) = clean(f"s3://{s3_bucket}", options=s3_server.client_options, dry_run=True)
    assert found.what == "lease of one that is gone"
    assert one.location.holder() is None
    with leased(one):
        assert clean(f"s3://{s3_bucket}", options=s3_server.client_options) == []


def test_a_holder_elsewhere_is_replaced_after_its_lease_and_then_publishes_nothing(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = target(s3_server, s3_bucket, "object")
    file = one.location._lease_file
    etag = file.write(ELSEWHERE, time.time(), None)
    sleeper = leases.StoreLease(file, ELSEWHERE, time.time(), etag)
    assert isinstance(one.location.lease(), Holder), "it gave a sign of life just now"
    sleeper._ended.set()  # it sleeps from here on
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=-5))
    with leased(one):
        with pytest.raises(CommitConflictError, match="taken over"):
            sleeper.confirm()
        sleeper.release()
        assert file.read() is not None, "it leaves alone what is another's"


def test_a_renewal_whose_reply_was_lost_loses_no_lease(s3_server: S3Server, s3_bucket: str) -> None:
    one = target(s3_server, s3_bucket, "object")
    with leased(one) as lease:
        held = cast("leases.StoreLease", lease)
        held.file.write(held.token, held.since, held.etag)  # it arrived; that it did was not heard
        held.confirm()
        assert one.location.holder() is not None
    assert one.location.holder() is None, "and what it gives back is what is there"


def test_a_holder_that_works_renews_its_lease(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.3))
    with leased(target(s3_server, s3_bucket, "object")) as lease:
        first = lease.etag  # type: ignore[attr-defined]
        while lease.etag == first:  # type: ignore[attr-defined]
            time.sleep(0.02)
        lease.confirm()


class Slow(AtomicTaskWithMetadata):
    """Notes each run; ends when it or its process may."""

    bucket = luigi.Parameter()
    options = luigi.DictParameter()
    folder = luigi.Parameter()

    def output(self) -> Any:
        return S3ObjectTarget(self.bucket, "slow.txt", **self.options)

    def run(self, output_path: Path) -> None:
        with open(f"{self.folder}/ran", "a") as log:
            log.write("x")
        while not any(os.path.exists(f"{self.folder}/go{whose}") for whose in ("", f"-{os.getpid()}")):
            time.sleep(0.01)
        output_path.write_text("made")


def slow(server: S3Server, bucket: str, folder: Path) -> Slow:
    return Slow(bucket=bucket, options=dict(server.client_options), folder=str(folder))


@pytest.mark.parametrize("mode", ["wait", "fail"])
def test_of_two_runs_one_makes_it(s3_server: S3Server, s3_bucket: str, tmp_path: Path, mode: str) -> None:
    task = slow(s3_server, s3_bucket, tmp_path)
    first = threading.Thread(target=run_task, args=(task,), kwargs={"exclusive": "wait"})
    first.start()
    while not (tmp_path / "ran").exists():
        time.sleep(0.01)
    if mode == "fail":
        with pytest.raises(TaskFailedError, match="exclusive='fail'"):
            run_task(task, exclusive="fail")
        (tmp_path / "go").touch()
    else:
        let_go = threading.Timer(1.0, (tmp_path / "go").touch)
        let_go.start()
        run_task(task, exclusive="wait")
    first.join()
    assert (tmp_path / "ran").read_text() == "x" and task.output().exists()


def test_without_a_word_it_costs_no_request(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with s3_server.counted() as requests:
        run_task(slow(s3_server, s3_bucket, tmp_path))
    assert not [one for one in requests if ".running" in str(one)]


@pytest.mark.parametrize("is_made", [True, False], ids=["it is made", "it is being made"])
def test_a_holder_that_was_stopped_takes_what_another_makes_in_its_place(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    task = slow(s3_server, s3_bucket, tmp_path)
    program = (
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from {__name__} import Slow, run_task\n"
        f"run_task(Slow(bucket={s3_bucket!r}, options={dict(s3_server.client_options)!r}, folder={str(tmp_path)!r}), "
        "exclusive='wait')\n"
    )
    stopped = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "ran").exists():
        time.sleep(0.01)
    os.kill(stopped.pid, signal.SIGSTOP)
    with monkeypatch.context() as lapsed:
        lapsed.setattr(leases, "LEASE", timedelta(seconds=-5))
        other = threading.Thread(target=run_task, args=(task,), kwargs={"exclusive": "wait"})
        other.start()
        while (tmp_path / "ran").read_text() != "xx":
            time.sleep(0.01)
    if is_made:
        (tmp_path / f"go-{os.getpid()}").touch()
        other.join()
    before = len(s3_server.requests)
    (tmp_path / f"go-{stopped.pid}").touch()
    os.kill(stopped.pid, signal.SIGCONT)
    while not any(one.path.endswith(".running") and one.status in (404, 412) for one in s3_server.requests[before:]):
        time.sleep(0.01)  # until it has learned that it has its turn no more
    (tmp_path / "go").touch()
    other.join()
    errors = stopped.communicate()[1]
    assert stopped.returncode == 0, errors
    record = task.output().read_metadata()
    assert record is not None and str(os.getpid()) in record["output"]["commit"], "nothing of what was stopped"

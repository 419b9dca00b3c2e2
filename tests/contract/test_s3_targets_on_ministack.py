"""The promises of a commit on a second, independent implementation of S3.

MiniStack pins botocore, so it needs an environment of its own:

    python -m venv /some/where && /some/where/bin/pip install ministack==1.5.33
    SUPERLUIGI_TEST_MINISTACK=/some/where python -m pytest tests/contract/test_s3_targets_on_ministack.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from superluigi.errors import CommitConflictError
from superluigi.targets import S3ObjectTarget
from superluigi.testing.target_suite import S3ObjectRig, S3PrefixRig, TargetRig, TargetSuite

VARIABLE = "SUPERLUIGI_TEST_MINISTACK"
OPTIONS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Keywords for targets and boto3 of a running MiniStack."""
    place = os.environ.get(VARIABLE)
    if not place:
        pytest.skip(f"{VARIABLE} names no environment with MiniStack; see the top of this file")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3,sts",
        "MINISTACK_HOST": "127.0.0.1",
    }
    folder = tmp_path_factory.mktemp("ministack")
    with open(folder / "log", "wb") as log:
        command = [str(Path(place) / "bin" / "ministack")]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **settings}, cwd=folder)
    try:
        _wait(f"http://127.0.0.1:{port}/_ministack/health", process)
        yield {**OPTIONS, "endpoint_url": f"http://127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"MiniStack does not answer at {url}.")


@pytest.fixture
def bucket(ministack: dict[str, str], request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.nodeid)) % 10**12}"
    client = boto3.client("s3", **ministack)
    client.create_bucket(Bucket=name)
    client.close()
    return name


class TestS3ObjectTargetOnMiniStack(TargetSuite):
    @pytest.fixture
    def rig(self, ministack: dict[str, str], bucket: str) -> TargetRig:
        return S3ObjectRig(bucket, ministack)


class TestS3PrefixTargetOnMiniStack(TargetSuite):
    test_dying_at_every_step_leaves_old_or_new_and_the_next_commit_cleans_up = None  # half a minute

    @pytest.fixture
    def rig(self, ministack: dict[str, str], bucket: str) -> TargetRig:
        return S3PrefixRig(bucket, ministack)


def test_exactly_one_of_many_writers_wins(ministack: dict[str, str], bucket: str) -> None:
    outcome, together = Counter[str](), threading.Barrier(8)

    def commit(number: int) -> None:
        with S3ObjectTarget(bucket, "race", **ministack).stage() as staged:
            staged.path.write_text(str(number))
            together.wait()
            try:
                staged.commit({"run": {"id": str(number)}})
                outcome["won"] += 1
            except CommitConflictError:
                outcome["lost"] += 1

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == {"won": 1, "lost": 7}

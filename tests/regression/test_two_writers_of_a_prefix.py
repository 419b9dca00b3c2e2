"""Two processes that cannot see each other write one S3 prefix.

`tests/contract/test_s3_prefix_interleavings.py` goes through the orders of their requests; here the routes by which one
could take the other for dead are real: another data folder, a host of the same name, a clock, a sleep, another user.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from superluigi.targets import S3PrefixTarget
from superluigi.testing.s3_server import S3Server

PROGRAM = """
import datetime, json, os, pathlib, re, sys, time
from superluigi.errors import CommitConflictError
from superluigi.storage import failpoints
from superluigi.storage.objects.prefix import prefix_recovery
from superluigi.targets import S3PrefixTarget

who, stop, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
if os.environ.get("LEASE"):
    prefix_recovery.LEASE = datetime.timedelta(seconds=float(os.environ["LEASE"]))
if os.environ.get("SKEW"):
    now = time.time
    time.time = lambda: now() + float(os.environ["SKEW"])

def hook(name):
    if stop and re.search(stop, name) and not (root / f"{who}.stopped").exists():
        (root / f"{who}.stopped").touch()
        while not (root / f"{who}.go").exists():
            time.sleep(0.01)

target = S3PrefixTarget(os.environ["BUCKET"], "out", **json.loads(os.environ["S3"]))
try:
    with target.tmp_write_path() as path:
        for key in ("same", "other", who):
            (path / key).write_text("x" if key == "same" else who)
        failpoints.hook = hook
    print("committed")
except CommitConflictError:
    print("refused")
"""
#: A world of processes of its own, on a host of the same name.
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount", "--mount-proc")
PUBLISHES, EXCHANGES, CLEANS = r"put_object /out.metadata.json$", "copy_object /out/other", "copy_object /out/old$"


@dataclass
class Writers:
    root: Path
    server: S3Server
    bucket: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, who: str, stop: str = "", prefix: tuple[str, ...] = (), **more: str) -> subprocess.Popen[str]:
        home = self.root / f"home-{who}"
        home.mkdir(mode=0o700, exist_ok=True)
        environment = {
            **os.environ, "S3": json.dumps(self.server.client_options), "BUCKET": self.bucket, "HOME": str(home),
            "SUPERLUIGI_LOCAL_DATA_DIR": str(home / "data"), "PYTHONDONTWRITEBYTECODE": "1", **more,
        }  # fmt: skip
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PROGRAM, who, stop, str(self.root)],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def wait(self, who: str, process: subprocess.Popen[str]) -> None:
        while not (self.root / f"{who}.stopped").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def go(self, who: str) -> None:
        (self.root / f"{who}.go").touch()

    def there(self) -> str:
        """Who made what is there, which is whole."""
        target = S3PrefixTarget(self.bucket, "out", local_root=self.root / "judge", **self.server.client_options)
        assert target.exists() and target.read_metadata() is not None
        with target.tmp_read_path() as path:
            files = {file.name: file.read_text() for file in path.iterdir()}
        who = files["other"]
        assert files == {"same": "x", "other": who, who: who}
        return who


@pytest.fixture
def writers(tmp_path: Path, s3_server: S3Server, s3_bucket: str) -> Writers:
    return Writers(tmp_path, s3_server, s3_bucket)


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate()[0].strip()


def may(*command: str) -> bool:
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


ROUTES = [
    ("", "another root"),
    ("old", "same host name"),
    ("old", "fast clock"),
    *(pytest.param("", route, marks=pytest.mark.long) for route in ("same host name", "fast clock")),
    pytest.param("old", "another root", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("before", "route"), ROUTES)
def test_a_living_writer_is_not_taken_for_dead(writers: Writers, before: str, route: str) -> None:
    prefix = () if route == "another root" else ELSEWHERE
    if prefix and not may(*prefix):
        pytest.skip("namespaces need root")
    more = {"SKEW": str(2 * 3600)} if route == "fast clock" else {}
    if before:
        assert said(writers.start(before)) == "committed"
    a = writers.start("a", EXCHANGES if before else PUBLISHES)
    writers.wait("a", a)
    assert said(writers.start("b", prefix=prefix, **more)) == "refused"
    writers.go("a")
    assert said(a) == "committed" and writers.there() == "a"


@pytest.mark.parametrize(("before", "stop"), [("old", EXCHANGES), ("old", CLEANS), ("", PUBLISHES)])
def test_a_writer_that_slept_longer_than_its_lease_touches_nothing(writers: Writers, before: str, stop: str) -> None:
    if not may(*ELSEWHERE):
        pytest.skip("namespaces need root")
    if before:
        assert said(writers.start(before)) == "committed"
    a = writers.start("a", stop, LEASE="1")
    writers.wait("a", a)
    os.kill(a.pid, signal.SIGSTOP)
    try:
        time.sleep(2.5)  # S3 counts in whole seconds
        b = writers.start("b", "", ELSEWHERE, LEASE="1")
        assert said(b) == "committed" and writers.there() == "b"
        writers.go("a")
    finally:
        os.kill(a.pid, signal.SIGCONT)
    # The one that took the claim over has finished a's clean-up, if a had published; else a is refused.
    assert said(a) == ("committed" if stop == CLEANS else "refused") and writers.there() == "b"


def test_another_user_on_this_host_is_seen_to_live(writers: Writers) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    from superluigi.storage import owner_token

    child = subprocess.Popen(["sleep", "60"], user=4001, group=4001, extra_groups=[])
    try:
        token = f"{owner_token.host()}-{owner_token.world()}-{child.pid}-{owner_token.start_time(child.pid)}-{'0' * 12}"
        program = f"from superluigi.storage import owner_token; print(owner_token.owner_is_gone({token!r}))"
        asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert asked.stdout.strip() == "False"
    finally:
        child.kill()
        child.wait()
    assert owner_token.owner_is_gone(token)

"""Around an attempt in a queue: what it may tell, what it leaves, and who hears of its failure."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from superluigi.execution.process import process_tree
from superluigi.queue import Queue
from superluigi.queue.web import QueueScheduler
from superluigi.storage import owner_token
from superluigi.testing import run_alone

Project = Callable[[str], ModuleType]

TELLS = """
    from superluigi.targets import LocalFileTarget
    from superluigi.tasks import AtomicTaskWithMetadata

    class Tells(luigi.Task):
        resources = {"disk": 2, "gpu": 1}

        def run(self):
            self.set_progress_percentage(50)
            self.set_status_message("half \\ud800\\0 way")
            self.set_tracking_url("http://example.org/1")
            self.decrease_running_resources({"disk": 1, "gpu": 1})
            assert self.scheduler_messages.empty()
            until("seen")

        def output(self):
            return luigi.LocalTarget("told.txt")

    class Also(AtomicTaskWithMetadata):
        resources = {"gpu": 1}

        def output(self):
            return LocalFileTarget("also.txt")

        def run(self, output_path):
            self.set_progress_percentage(100)
            self.set_status_message("done")
            output_path.write_text("x")

    def until(name):
        deadline = time.monotonic() + 30
        while not os.path.exists(name) and time.monotonic() < deadline:
            time.sleep(0.02)
        with luigi.LocalTarget("told.txt").open("w") as file:
            file.write("x")
"""


def test_what_a_task_tells_while_it_runs_is_in_its_row_and_what_it_gives_back_is_free(
    project: Project, queue_name: str
) -> None:
    module = project(TELLS)
    tells, also = module.Tells(), module.Also()
    with Queue(queue_name, resources={"disk": 2, "gpu": 1}) as queue:
        queue.submit([tells, also])
        workers = [threading.Thread(target=queue.work) for _ in range(2)]
        for worker in workers:
            worker.start()
        queue.wait(also, timeout=timedelta(seconds=30))  # needs what the other one gave back
        (row,) = queue.tasks(tells)
        assert (row.state, row.progress, row.tracking_url) == ("RUNNING", 50.0, "http://example.org/1")
        assert str(row.status_message).startswith("half ")
        shown = QueueScheduler(queue).task_list(status="RUNNING")[tells.task_id]
        assert shown["progress_percentage"] == 50.0 and shown["tracking_url"] == "http://example.org/1"
        Path("seen").touch()
        for worker in workers:
            worker.join(30)
        assert {row.error for row in queue.tasks()} == {None}
        assert queue.check() == []


def test_a_task_may_tell_how_it_goes_wherever_it_runs(project: Project, tmp_path: Path) -> None:
    module = project(TELLS)
    Path("seen").touch()
    run_alone(module.Tells())
    run_alone(module.Also())
    assert Path("told.txt").exists() and Path("also.txt").exists()


LEAVES = """
    import multiprocessing, signal, subprocess

    kept = []

    def note(kind, pid):
        from superluigi.storage import owner_token
        with open("left", "a") as file:
            file.write(f"{kind} {pid} {owner_token.start_time(pid)}\\n")

    def sleeper(**options):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], **options).pid

    def daemon():
        # forked twice, in a session of its own, and its parent gone: init's, or whoever adopts it
        code = (
            "import os, subprocess, sys; os.setsid();"
            "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'],"
            "start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
        )
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    class Leaves(luigi.Task):
        kind = luigi.Parameter()

        def run(self):
            note("child", os.getpid())
            if self.kind == "plain":
                note("plain", sleeper())
            if self.kind == "session":
                note("session", sleeper(start_new_session=True))
            if self.kind == "daemon":
                note("daemon", daemon())
            if self.kind == "manager":
                kept.append(multiprocessing.Manager())
                note("manager", kept[-1]._process.pid)
            if self.kind == "fails":
                note("fails", daemon())
                raise ValueError("no")
            if self.kind == "dies":
                note("dies", daemon())
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "stays":
                environment = {**os.environ, "SUPERLUIGI_STAY": "1"}
                note("stays", sleeper(start_new_session=True, env=environment))
            while self.kind == "waits" and not os.path.exists("seen"):
                time.sleep(0.02)
            if self.kind == "zombie":
                # ended, so that nothing is left to end, and not waited for
                kept.append(subprocess.Popen(["true"]))
                os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)
"""


def _left() -> dict[str, tuple[int, bool]]:
    """By kind: pid, and whether that process still runs."""
    lines = [line.split() for line in Path("left").read_text().splitlines()]
    return {kind: (int(pid), owner_token.start_time(int(pid)) == int(start)) for kind, pid, start in lines}


@pytest.mark.filterwarnings("ignore:subprocess .* is still running")
@pytest.mark.parametrize("kind", ["plain", "session", "daemon", "manager", "fails", "dies"])
def test_nothing_of_an_attempt_runs_on_after_it(project: Project, queue_name: str, kind: str) -> None:
    module = project(LEAVES)
    leaves = module.Leaves(kind=kind)
    with Queue(queue_name) as queue:
        # The worker has more to do, so that it is the end of the attempt that counts, not that of the worker.
        queue.submit([leaves, module.Leaves(kind="waits")])
        worker = threading.Thread(target=queue.work)
        worker.start()
        queue.wait(leaves, timeout=timedelta(seconds=60))
        assert _left()[kind][1] is False
        Path("seen").touch()
        worker.join(60)
        assert queue.tasks(leaves)[0].state == ("FAILED" if kind in ("fails", "dies") else "SUCCEEDED")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running")
def test_a_child_whose_task_left_something_is_replaced_and_others_are_not(project: Project, queue_name: str) -> None:
    module = project(LEAVES)
    with Queue(queue_name) as queue:
        queue.submit([module.Leaves(kind=kind) for kind in ("nothing", "zombie", "plain", "none", "stays")])
        queue.work()
        assert queue.counts()["SUCCEEDED"] == 5
    children = [line.split()[1] for line in Path("left").read_text().splitlines() if line.startswith("child")]
    first, second, third, fourth, fifth = children
    assert first == second == third != fourth == fifth
    pid, runs = _left()["stays"]
    assert runs  # on purpose: in a session of its own, and said so
    os.kill(pid, 9)


def test_a_program_whose_environment_is_not_there_yet_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps = [sys.executable, "-c", "import time; time.sleep(300)"]
    looks = iter([b"", b"", b""])
    read = process_tree._environment
    for environment, stays in (({"SUPERLUIGI_STAY": "1"}, True), ({"OTHER": "1"}, False), ({}, False)):
        with subprocess.Popen(sleeps, env=environment) as program:
            try:
                monkeypatch.setattr(process_tree, "_environment", lambda pid: next(looks, None) or read(pid))
                assert process_tree.stays(program.pid) is stays
            finally:
                program.kill()
            os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
            assert not process_tree.stays(program.pid)  # a zombie
        assert not process_tree.stays(program.pid)


CHANGES = """
    import multiprocessing, resource, signal

    class Changes(luigi.Task):
        def run(self):
            os.chdir("/")
            os.environ["CHANGED"] = "1"
            os.umask(0o777)
            sys.path.insert(0, "/changed")
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            os.close(1)

    class Limits(luigi.Task):
        def run(self):
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    class Looks(luigi.Task):
        number = luigi.IntParameter()
        def run(self):
            mask = os.umask(0o022)
            os.umask(mask)
            found = [os.getcwd(), os.environ.get("CHANGED"), mask, "/changed" in sys.path,
                     str(signal.getsignal(signal.SIGUSR1)), resource.getrlimit(resource.RLIMIT_NOFILE)[0]]
            print("said")
            with open("looks", "a") as file:
                file.write(json.dumps(found) + "\\n")

    class Pools(luigi.Task):
        def run(self):
            for _ in range(20):
                with multiprocessing.Pool(2) as pool:
                    assert pool.map(abs, [-1, -2]) == [1, 2]
"""


def test_what_an_attempt_changes_is_not_there_for_the_next(project: Project, queue_name: str) -> None:
    module = project(CHANGES)
    with Queue(queue_name) as queue:
        for number, changes in enumerate((None, module.Changes(), module.Limits())):
            if changes is not None:
                queue.submit(changes)
            queue.submit(module.Looks(number=number))
        queue.work()
        assert {row.error for row in queue.tasks()} == {None}
        assert Path(str(queue.tasks(module.Looks(number=2))[0].log)).read_text() == "said\n"
    first, *others = Path("looks").read_text().splitlines()
    assert others == [first, first]


def test_pools_in_tasks_end(project: Project, queue_name: str) -> None:
    module = project(CHANGES)
    with Queue(queue_name) as queue:
        queue.submit(module.Pools())
        queue.work()
        assert queue.tasks()[0].state == "SUCCEEDED"


class _Mailbox(socketserver.ThreadingTCPServer):
    """An SMTP server that takes everything; `refuses`: one that takes nothing."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *, refuses: bool = False) -> None:
        self.mails: list[str] = []
        self.refuses = refuses
        super().__init__(("127.0.0.1", 0), _Session)


class _Session(socketserver.StreamRequestHandler):
    server: _Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                texts = [part.get_content() for part in mail.walk() if part.get_content_type() == "text/plain"]
                self.server.mails.append("\n".join([f"To: {mail['To']}", str(mail["Subject"]), *texts]))
            if word.startswith(b"MAIL") and self.server.refuses:
                self.wfile.write(b"550 not from you\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


@contextlib.contextmanager
def _mailbox(settings: str, *, refuses: bool = False) -> Iterator[list[str]]:
    with _Mailbox(refuses=refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Path("luigi.cfg").write_text(
            f"[email]\nreceiver = team@example.org\n[smtp]\nhost = 127.0.0.1\nport = {server.server_address[1]}\n"
            f"no_tls = true\n{settings}"
        )
        yield server.mails
        server.shutdown()


FAILS = """
    class Fails(luigi.Task):
        way = luigi.Parameter()
        owner_email = "owner@example.org"
        worker_timeout = 1

        def run(self):
            if self.way == "raises":
                raise ValueError("the words of the error")
            if self.way == "dies":
                os._exit(7)
            time.sleep(60 if self.way == "sleeps" else 0)
"""


@pytest.mark.parametrize(
    ("way", "words"), [("raises", "the words of the error"), ("dies", "exit code 7"), ("sleeps", "timeout of 1 sec")]
)
def test_a_failed_attempt_is_mailed_to_whom_luigi_would_mail(
    project: Project, queue_name: str, way: str, words: str
) -> None:
    module = project(FAILS)
    with _mailbox("") as mails, Queue(queue_name) as queue:
        queue.submit([module.Fails(way=way), module.Fails(way="succeeds")])
        queue.work()
        (mail,) = mails
    assert words in mail and f"Fails(way={way})" in mail
    assert "FAILED" in mail and "team@example.org" in mail and "owner@example.org" in mail


def test_failures_are_gathered_when_luigi_is_told_to_batch(project: Project, queue_name: str) -> None:
    module = project(FAILS.replace("way = ", "n = luigi.IntParameter()\n        way = "))
    settings = "[worker]\nsend_failure_email = false\n[scheduler]\nbatch_emails = true\n"
    with _mailbox(settings) as mails, Queue(queue_name) as queue:
        queue.submit([module.Fails(n=number, way="raises") for number in range(3)])
        queue.work()
        to_team = [mail for mail in mails if "To: team@example.org" in mail]
    assert len(to_team) == 1 and len(mails) == 2
    assert all(f"Fails(n={number}" in to_team[0] for number in range(3))


def test_a_mail_server_that_refuses_changes_nothing_for_the_task(project: Project, queue_name: str) -> None:
    module = project(FAILS)
    with _mailbox("", refuses=True), Queue(queue_name) as queue:
        queue.submit(module.Fails(way="raises"))
        queue.work()
        (row,) = queue.tasks()
        assert row.state == "FAILED" and str(row.error).endswith("ValueError: the words of the error")
        assert "smtp server" in Path(str(row.log).replace("stdout", "stderr")).read_text()


def test_a_task_that_is_run_again_by_hand_may_tell_how_it_goes(project: Project) -> None:
    module = project(TELLS)
    name = module.__name__
    code = (
        "from superluigi.tasks.runtime.own_process import by_hand; "
        f"by_hand(module={name!r}, file=None, task='Also', params={{}}, folder='.', path=['.'], store=None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert Path("also.txt").exists()


DIES = """
    import signal

    class Dies(luigi.Task):
        retry_count = 1

        def output(self):
            return luigi.LocalTarget("never.txt")

        def run(self):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_child_that_died_is_a_failure_and_not_lost_however_short_the_lease(project: Project, queue_name: str) -> None:
    """Its worker waits for two seconds, whether it was told to end as well: longer than the lease."""
    module = project(DIES)
    with Queue(queue_name, lease=timedelta(seconds=1)) as queue:
        queue.submit(module.Dies())
        workers = [threading.Thread(target=queue.work) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [attempt.outcome for attempt in queue.attempts(module.Dies())] == ["FAILED"]

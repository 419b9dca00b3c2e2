"""The tasks of the executor suite: importable in any process, and watched through a journal on disk."""

from __future__ import annotations

import contextlib
import io
import json
import locale
import logging
import os
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import luigi
from luigi.contrib.external_program import ExternalProgramTask

from superluigi.runs import context as runs
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


def note(folder: str, *words: object) -> None:
    """Add one line to the journal of `folder`; lines of many processes do not mix (one write, O_APPEND)."""
    descriptor = os.open(Path(folder) / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def journal(folder: str | Path) -> list[list[str]]:
    """The lines of the journal, each as its words."""
    path = Path(folder) / "journal"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class LoggedTask(luigi.Task):
    """Notes when it begins and ends, and writes a file."""

    folder = luigi.Parameter()
    name = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(Path(self.folder) / f"{self.name}.txt")

    def run(self) -> Any:
        note(self.folder, "begin", self.name, time.time(), os.getpid(), runs.current().id)
        self.work()
        with self.output().open("w") as stream:
            stream.write(self.name)
        note(self.folder, "end", self.name, time.time())

    def work(self) -> None:
        """What the task does; a subclass may fail, sleep, or die."""


class Sleeps(LoggedTask):
    seconds = luigi.FloatParameter(default=0.2)

    def work(self) -> None:
        time.sleep(self.seconds)


class Joins(LoggedTask):
    """Needs `width` tasks that sleep."""

    width = luigi.IntParameter()
    seconds = luigi.FloatParameter(default=0.0)

    def requires(self) -> list[luigi.Task]:
        return [Sleeps(folder=self.folder, name=f"leaf{i}", seconds=self.seconds) for i in range(self.width)]


class OddError(Exception):
    """Its constructor wants other arguments than it keeps, so that plain pickling loses it."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Fails(LoggedTask):
    """Raises: a ValueError, or an `OddError`."""

    odd = luigi.BoolParameter(default=False)

    def work(self) -> None:
        raise OddError("this", "that") if self.odd else ValueError("as asked")


class NeedsFailing(LoggedTask):
    """Requires one task that fails and one that does not."""

    def requires(self) -> list[luigi.Task]:
        return [Fails(folder=self.folder, name="bad"), LoggedTask(folder=self.folder, name="good")]


class FailsTwice(LoggedTask):
    """Fails twice, in whatever process; then succeeds."""

    retry_count = 5

    def work(self) -> None:
        if sum(line[:2] == ["begin", self.name] for line in journal(self.folder)) < 3:
            raise ValueError("not yet")


class Discovers(LoggedTask):
    """Asks for requirements while it runs, the second when it has the first."""

    def run(self) -> Generator[Any, Any, None]:
        note(self.folder, "begin", self.name, time.time(), os.getpid(), runs.current().id)
        first = yield LoggedTask(folder=self.folder, name="first")
        with first.open() as stream:
            second = yield [LoggedTask(folder=self.folder, name=f"after-{stream.read()}")]
        with self.output().open("w") as stream:
            stream.write(str(len(second)))


class Reports(LoggedTask):
    """Tells how far it is."""

    def work(self) -> None:
        task: Any = self  # Luigi lends the two methods while the task runs
        task.set_status_message("half way")
        task.set_progress_percentage(50)
        self.trigger_event("superluigi.testing.half", self, 50)


class Listens(LoggedTask):
    """Waits for a message of the scheduler, and answers it."""

    accepts_messages = True

    def work(self) -> None:
        task: Any = self
        message = task.scheduler_messages.get(timeout=60)
        message.respond(f"heard {message.content}")
        task.set_tracking_url(f"http://{message}")


class ListensTwice(LoggedTask):
    """Waits for a message, asks for a requirement, and waits for another one; writes what the last attempt heard."""

    accepts_messages = True

    def run(self) -> Iterator[luigi.Task]:
        task: Any = self
        heard = task.scheduler_messages.get(timeout=60).content
        yield Sleeps(folder=self.folder, name="asked-for", seconds=0.0)
        with self.output().open("w") as out:
            out.write(heard)


class Greedy(Sleeps):
    """Takes the only `gpu`."""

    resources = {"gpu": 1}


class AllGreedy(LoggedTask):
    width = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [Greedy(folder=self.folder, name=f"greedy{i}", seconds=0.05) for i in range(self.width)]


class Late(Sleeps):
    """Sleeps for longer than it may, and has a child process that does too."""

    worker_timeout = 4  # a crowded machine takes a second to start the child
    seconds = luigi.FloatParameter(default=60.0)

    def work(self) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "61"])
        note(self.folder, "child", child.pid)
        time.sleep(self.seconds)


def state_of_process() -> dict[str, object]:
    """What a task may have changed, as it is now."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "pid": os.getpid(),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": mask,
        "handlers": [repr(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)],
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "path": list(sys.path),
        "level": logging.getLogger().level,
        "handlers of loggers": len(logging.getLogger().handlers),
        "timeout": socket.getdefaulttimeout(),
        "closed": [stream.closed for stream in (sys.stdin, sys.stdout, sys.stderr) if stream is not None],
        "locale": locale.setlocale(locale.LC_ALL),
        "filters": len(warnings.filters),
        "arguments": list(sys.argv),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "recursion": sys.getrecursionlimit(),
    }


class Looks(LoggedTask):
    """Notes the state of the process that it runs in."""

    def work(self) -> None:
        (Path(self.folder) / f"{self.name}.json").write_text(json.dumps(state_of_process()))


class Changes(LoggedTask):
    """Changes all that it can."""

    def requires(self) -> luigi.Task:
        return Looks(folder=self.folder, name="before")

    def work(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for change in (
            lambda: os.chdir("/"),
            lambda: os.environ.update(LEAK="1"),
            lambda: os.environ.pop("PATH"),
            lambda: os.umask(0o027),
            lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
            lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
            lambda: signal.setitimer(signal.ITIMER_REAL, 3600),
            lambda: sys.path.insert(0, "/nowhere"),
            lambda: logging.getLogger().setLevel(1),
            lambda: logging.getLogger().addHandler(logging.StreamHandler()),
            lambda: socket.setdefaulttimeout(0.001),
            lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
            lambda: warnings.simplefilter("ignore"),
            lambda: sys.argv.append("--more"),
            lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard)),
            lambda: sys.setrecursionlimit(5000),
            lambda: setattr(sys, "stdout", io.StringIO()),
        ):
            with contextlib.suppress(ValueError, locale.Error):  # signals outside of main threads; no such locale
                change()


class LooksAfterwards(Looks):
    """Looks when another task has changed all that it can."""

    def requires(self) -> luigi.Task:
        return Changes(folder=self.folder, name="changes")


#: A module that starts a run when a worker imports it, and does not when the process `main` does.
UNGUARDED = """
import os
from superluigi.testing.executor_tasks import LoggedTask
from superluigi.engine.engine import run_graph

class {name}(LoggedTask):
    pass

if os.getpid() != {main}:
    run_graph(LoggedTask(folder=os.path.dirname(__file__), name="must not run"))
"""


class Forks(LoggedTask):
    """Forks processes and ends them by SIGTERM, as pools do; some have not run a line yet."""

    def work(self) -> None:
        import signal

        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            status = os.waitpid(child, 0)[1]
            if not os.WIFSIGNALED(status):
                raise RuntimeError(f"the forked process went on after SIGTERM: {status}")


class Dies(LoggedTask):
    """Ends the process it runs in."""

    def work(self) -> None:
        os._exit(7)


class SurvivesDying(LoggedTask):
    """Requires a task that dies and others that do not."""

    def requires(self) -> list[luigi.Task]:
        return [Dies(folder=self.folder, name="dies"), *(Sleeps(folder=self.folder, name=f"s{i}") for i in range(6))]


def external_programs(folder: str) -> list[luigi.Task]:
    """Luigi's `ExternalProgramTask`, which sets signal handlers while it runs; one of them is a task of ours, too."""
    kinds = (Touches, Touches, TouchesWithRecord)
    return [kind(folder=folder, name=f"program-{number}") for number, kind in enumerate(kinds)]


class Touches(ExternalProgramTask):
    folder = luigi.Parameter()
    name = luigi.Parameter()

    def program_args(self) -> list[str]:
        return ["touch", self.output().path]

    def output(self) -> Any:
        return luigi.LocalTarget(os.path.join(self.folder, self.name))


class TouchesWithRecord(Touches, AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget(os.path.join(self.folder, self.name))

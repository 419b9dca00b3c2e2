"""One suite over every executor."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from superluigi.testing.executor_suite import ExecutorSuite


@pytest.fixture(scope="module")
def process_pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


class TestThisProcess(ExecutorSuite):
    num_workers = 1
    other_processes = False
    survives_death = False

    @pytest.fixture
    def executor(self) -> Any:
        return None


class TestProcessesByDefault(ExecutorSuite):
    @pytest.fixture
    def executor(self) -> Any:
        return None


class TestThreads(ExecutorSuite):
    other_processes = False
    survives_death = False

    @pytest.fixture
    def executor(self) -> Any:
        return "threads"


class TestProcesses(ExecutorSuite):
    num_workers = 3

    @pytest.fixture
    def executor(self) -> Any:
        return "processes"


class TestThreadPoolExecutor(ExecutorSuite):
    other_processes = False
    survives_death = False

    @pytest.fixture
    def executor(self) -> Iterator[Any]:
        with ThreadPoolExecutor(2) as executor:
            yield executor


class TestProcessPoolExecutor(ExecutorSuite):
    survives_death = False

    @pytest.fixture
    def executor(self, process_pool: ProcessPoolExecutor) -> Any:
        return process_pool


class TestDaskCluster(ExecutorSuite):
    """A scheduler and two workers as separate processes, found by address."""

    @pytest.fixture
    def executor(self, dask_address: str) -> Any:
        return dask_address


class dask_cluster:  # noqa: N801 - used like a function
    """A Dask scheduler and two workers (with nannies) as processes on loopback ports."""

    def __init__(self, folder: Path, workers: int = 2, *options: str) -> None:
        self._folder = folder
        self._workers = workers
        self._options = options
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> str:
        file = self._folder / "scheduler.json"
        self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
            "--scheduler-file", str(file),
        )  # fmt: skip
        for _ in range(self._workers):
            self._start(
                "worker", "--scheduler-file", str(file), "--host", "127.0.0.1", "--nthreads", "1",
                "--dashboard-address", "127.0.0.1:0", "--local-directory", str(self._folder), "--no-dashboard",
                *self._options,
            )  # fmt: skip
        import json

        from distributed import Client

        with Client(scheduler_file=str(file), timeout=30, set_as_default=False) as client:
            client.wait_for_workers(self._workers, timeout=60)
        address: str = json.loads(file.read_text())["address"]
        return address

    def _start(self, role: str, *args: str) -> None:
        log = (self._folder / f"{role}.log").open("ab")
        with log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + role, *args],
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    start_new_session=True,
                    env={**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
                )
            )

    def __exit__(self, *exc_info: object) -> None:
        import signal

        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

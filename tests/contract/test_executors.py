"""One suite over every executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from dask_support import DaskCluster

from superluigi.testing.executor_suite import ExecutorSuite


@pytest.fixture(scope="module")
def process_pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("distributed")
    with DaskCluster(tmp_path_factory.mktemp("dask")) as address:
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

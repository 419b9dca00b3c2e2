"""What several acceptance tests need."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from browser_support import FLAGS


def _descriptors() -> dict[int, tuple[int, int]]:
    """What is open here, and what it is: a number is soon another thing's."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = _identity(int(name))
    return found


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _kept_from_forks(before: dict[int, tuple[int, int]]) -> Iterator[None]:
    """A forked process that lives on (Luigi's of mock files) would hold the pipe whose end tells the driver to go."""
    pipes = {
        number: what
        for number, what in _descriptors().items()
        if before.get(number) != what and stat.S_ISFIFO(os.fstat(number).st_mode)
    }

    def close() -> None:
        for number, what in pipes.items():
            with contextlib.suppress(OSError):
                if _identity(number) == what:
                    os.close(number)

    os.register_at_fork(after_in_child=close)
    yield
    pipes.clear()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless; the one that SUPERLUIGI_TEST_CHROMIUM names, or a usual one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [os.environ.get("SUPERLUIGI_TEST_CHROMIUM"), *map(shutil.which, names)]
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    before = _descriptors()
    with playwright.sync_playwright() as engine, _kept_from_forks(before):
        running = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()

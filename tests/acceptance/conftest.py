"""What several acceptance tests need."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from browser_support import FLAGS


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


@contextlib.contextmanager
def _kept_from_forks(descriptors: set[int]) -> Iterator[None]:
    """A forked process that lives on (Luigi's of mock files) would hold the pipe whose end tells the driver to go."""

    def close() -> None:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)
    yield
    descriptors.clear()


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
    with playwright.sync_playwright() as engine, _kept_from_forks(_descriptors() - before):
        running = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()

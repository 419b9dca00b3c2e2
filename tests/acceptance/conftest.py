"""What several acceptance tests need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from browser_support import FLAGS


@pytest.fixture(scope="session")
def browser(_s3_process: object) -> Iterator[Any]:
    """Chromium, headless; the one that SUPERLUIGI_TEST_CHROMIUM names, or a usual one.

    After the S3 server, which is a fork: a later one would hold the pipe whose end tells the driver to go, and the
    session would wait for that for ever.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [os.environ.get("SUPERLUIGI_TEST_CHROMIUM"), *map(shutil.which, names)]
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()

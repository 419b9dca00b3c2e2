"""Fixtures for pytest; installed with superluigi, imports next to nothing until one is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from superluigi.testing.sandbox import Sandbox


@pytest.fixture
def superluigi_place(tmp_path: Path) -> Iterator[Sandbox]:
    """A store, a workspace and an S3 for one test, gone after it: `superluigi.testing.run_in(tmp_path)`."""
    from superluigi.testing.sandbox import run_in

    with run_in(tmp_path) as place:
        yield place


@pytest.fixture
def superluigi_bucket(superluigi_place: Sandbox) -> str:
    """A fresh bucket on the S3 server of `superluigi_place`."""
    return superluigi_place.bucket()

"""Private folders for copies of inputs, gone after use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from superluigi import config
from superluigi.storage import atomic, copying, staging

_clones: dict[int, bool] = {}  # device number -> whether its file system can clone files


@contextlib.contextmanager
def scratch(near: Path) -> Iterator[Path]:
    """A private folder for copies; beside `near` where files can be cloned there, else in `local_data_dir`.

    Large data is expected in the latter, unlike in the system's temporary folder. Left-overs of dead
    processes are removed.
    """
    parent = near if _can_clone_in(near) else Path(config.get("local_data_dir"))
    with atomic.explained("make a temporary copy in", parent):
        for dead in staging.dead_staging(parent):
            with contextlib.suppress(PermissionError):  # of another user
                staging.drop_staging(dead)
        folder = staging.staging_folder(parent)
    try:
        yield folder
    finally:
        staging.drop_staging(folder)


def _can_clone_in(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    device = os.stat(folder).st_dev
    if device not in _clones:
        _clones[device] = _try_clone(folder)
    return _clones[device]


def _try_clone(parent: Path) -> bool:
    try:
        folder = staging.staging_folder(parent)
    except OSError:
        return False
    try:
        (folder / "a").write_bytes(bytes(4096))
        with open(folder / "a", "rb") as source, open(folder / "b", "wb") as target:
            return copying.clone(source.fileno(), target.fileno())
    finally:
        staging.drop_staging(folder)

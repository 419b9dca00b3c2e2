"""Names for what is being written, and finding what dead processes left under such names.

New content is written beside its destination, on the same file system, as
`.superluigi-<host>-<pid>-<start>-<random>.<final name>` (see `identity`), so that publishing is one rename and no
inode is made in vain: file systems such as ext4 keep away from freed inodes for seconds, which makes every
create-and-delete slow. Private folders for copies are `<parent>/.superluigi/<host>-<pid>-<start>-<random>/`.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from superluigi.storage import copying, identity
from superluigi.storage.steps import step

STAGING = ".superluigi"
_PREFIX = STAGING + "-"
_SWAP = STAGING + ".swap."
NAME_MAX = 255  # bytes; NAME_MAX of all common file systems
_SWEEP_SHARE = 20  # looking for left-overs may take a twentieth of the time

_active: set[str] = set()
_sweeps: dict[Path, tuple[float, float]] = {}


def is_ours(name: str) -> bool:
    """Whether a name is one of ours beside destinations: never part of anybody's data."""
    return name.startswith(STAGING)


def staged_path(final: Path) -> tuple[str, Path]:
    """A new token, and the path beside `final` where its replacement is written; the suffix is kept."""
    token = identity.token()
    prefix = f"{_PREFIX}{token}."
    room = NAME_MAX - len(prefix)
    name = (
        os.fsencode(final.name)[-room:].decode("utf-8", "ignore") if len(os.fsencode(final.name)) > room else final.name
    )
    _active.add(token)
    return token, final.with_name(prefix + name)


def forget(token: str) -> None:
    """What this token named is done with; whatever of it is still there may be swept."""
    _active.discard(token)


def swap_journal(final: Path) -> Path:
    """Where a swap of `final` by two renames is written down."""
    return final.with_name(_SWAP + final.name)


def sweep(parent: Path, *, always: bool = False) -> list[Path]:
    """What is left below `parent` by dead processes of this host, or by this one without need.

    Reads the folder, so it answers with nothing while the last look is too recent for its cost, unless `always`.
    """
    last = _sweeps.get(parent)
    began = time.perf_counter()
    if last is not None and not always and began - last[0] < _SWEEP_SHARE * last[1]:
        return []
    try:
        names = [name for name in os.listdir(parent) if name.startswith(_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    ended = time.perf_counter()
    if len(_sweeps) > 10_000:
        _sweeps.clear()
    _sweeps[parent] = ended, ended - began
    found = []
    for name in names:
        token = identity.token_in(name[len(_PREFIX) :])
        if token and (identity.is_dead(token) or (identity.is_own(token) and token not in _active)):
            found.append(parent / name)
    return found


# ---------------------------------------------------------------- staging folders


def staging_folder(parent: Path) -> Path:
    """A fresh private folder below `parent` (which is made if missing), named after this process."""
    shared = parent / STAGING
    folder = shared / identity.token()
    step("make staging folder")
    while True:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(shared)
            os.mkdir(folder)
            return folder
        except FileNotFoundError:  # no parent yet, or another process removed the empty `.superluigi`
            parent.mkdir(parents=True, exist_ok=True)


def drop_staging(folder: Path) -> None:
    """Remove a staging folder with all it holds, and `.superluigi` above it when that is empty."""
    step("remove staging folder")
    try:
        os.rmdir(folder)  # empty after a commit
    except OSError:
        copying.remove_tree(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)


def dead_staging(parent: Path) -> list[Path]:
    """Staging folders below `parent` whose process of this host no longer runs."""
    return [folder for folder in _staging_folders(parent) if identity.is_dead(folder.name)]


def living_staging(parent: Path) -> list[Path]:
    """Staging folders below `parent` whose process lives, as far as this host can know."""
    return [folder for folder in _staging_folders(parent) if not identity.is_dead(folder.name)]


def _staging_folders(parent: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [parent / STAGING / name for name in os.listdir(parent / STAGING) if identity.is_token(name)]
    return []


def missing_parents(folder: Path) -> list[Path]:
    """The folders that must be made for `folder` to exist, deepest first."""
    missing = []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` (deepest first) that are empty; stop at the first that is not."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()

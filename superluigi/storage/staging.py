"""Names for what is being written, and finding what dead processes left under such names.

New content is written beside its destination, on the same file system, as
`.superluigi-<host>-<pid>-<start>-<random>.<final name>` (see `owner_token`), so that publishing is one rename and no
inode is made in vain: file systems such as ext4 keep away from freed inodes for seconds, which makes every
create-and-delete slow. Private folders for copies are `<parent>/.superluigi/<host>-<pid>-<start>-<random>/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from superluigi.storage import copying, owner_token
from superluigi.storage.steps import step

STAGING = ".superluigi"
_PREFIX = STAGING + "-"
_SWAP = STAGING + ".swap."
NAME_MAX = 255  # bytes; NAME_MAX of all common file systems
_SWEEP_SHARE = 50  # looking for left-overs may take a fiftieth of the time

_active: set[str] = set()
_sweeps: dict[str, tuple[float, float]] = {}


def is_ours(name: str) -> bool:
    """Whether a name is one of ours beside destinations: never part of anybody's data."""
    return name.startswith(STAGING)


def staged_path(final: Path) -> tuple[str, Path]:
    """A new token, and the path beside `final` where its replacement is written; the suffix is kept."""
    token = new_token()
    return token, Path(beside(final, token))


def new_token() -> str:
    """A new token, whose things are not swept until it is forgotten."""
    token = owner_token.token()
    _active.add(token)
    return token


def beside(final: Path | str, token: str) -> str:
    """The path beside `final` where what replaces it is written; the suffix is kept."""
    folder, name = os.path.split(final)
    return os.path.join(folder, _shortened(f"{_PREFIX}{token}.", name))


def _shortened(prefix: str, name: str) -> str:
    """`prefix` and as much of the end of `name` as a file system takes."""
    room = NAME_MAX - len(prefix)
    encoded = os.fsencode(name)
    return prefix + (encoded[-room:].decode("utf-8", "ignore") if len(encoded) > room else name)


def forget(token: str) -> None:
    """What this token named is done with; whatever of it is still there may be swept."""
    _active.discard(token)


def swap_journal(final: Path) -> Path:
    """Where a swap of `final` by two renames is written down."""
    return final.with_name(_shortened(_SWAP, final.name))


def journal_text(final: Path, new: Path, old: Path) -> str:
    """What a swap's journal says."""
    return json.dumps({"final": final.name, "new": new.name, "old": old.name})


def journalled(journal: Path) -> dict[str, str]:
    """The names `final`, `new` and `old` of a swap; empty if its journal is not whole, since nothing has moved yet."""
    try:
        return dict(json.loads(journal.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def dead_swaps(parent: Path) -> list[tuple[Path, Path]]:
    """Journal and destination of the swaps by two renames below `parent` whose process no longer runs."""
    found = []
    for journal in parent.glob(_SWAP + "*"):
        names = journalled(journal)
        token = owner_token.token_in(names.get("new", "").removeprefix(_PREFIX))
        if token and owner_token.owner_is_gone(token):
            found.append((journal, parent / names["final"]))
    return found


def sweep(parent: str | Path, *, always: bool = False) -> list[Path]:
    """What is left below `parent` by dead processes of this host, or by this one without need.

    Reads the folder, so it answers with nothing while the last look is too recent for its cost, unless `always`.
    """
    parent = str(parent)
    last = _sweeps.get(parent)
    began = time.perf_counter()
    if last is not None and not always and began - last[0] < _SWEEP_SHARE * last[1]:
        return []
    try:
        names = [name for name in os.listdir(parent) if name.startswith(STAGING)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    journals = [Path(parent, name) for name in names if name.startswith(_SWAP)]
    needed = {
        name for journal in journals for name in journalled(journal).values()
    }  # a swap's recovery still wants these
    ended = time.perf_counter()
    if len(_sweeps) > 10_000:
        _sweeps.clear()
    _sweeps[parent] = ended, ended - began
    found = []
    for name in names:
        if not name.startswith(_PREFIX) or name in needed:
            continue
        token = owner_token.token_in(name[len(_PREFIX) :])
        if token and (owner_token.owner_is_gone(token) or (owner_token.is_own(token) and token not in _active)):
            found.append(Path(parent, name))
    return found


# ---------------------------------------------------------------- staging folders


def staging_folder(parent: Path) -> Path:
    """A fresh private folder below `parent` (which is made if missing), named after this process."""
    shared = parent / STAGING
    folder = shared / owner_token.token()
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
    return [folder for folder in _staging_folders(parent) if owner_token.owner_is_gone(folder.name)]


def living_staging(parent: Path) -> list[Path]:
    """Staging folders below `parent` whose process lives, as far as this host can know."""
    return [folder for folder in _staging_folders(parent) if not owner_token.owner_is_gone(folder.name)]


def _staging_folders(parent: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [parent / STAGING / name for name in os.listdir(parent / STAGING) if owner_token.is_token(name)]
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

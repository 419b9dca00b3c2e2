"""Names for what is being written, and finding what dead processes left under such names.

New content is written in a private folder beside its destination, on the same file system, under its final name:
`.superluigi-<token>/<final name>` (tokens: see `owner_token`). So writers that put their path into what they write (zip
members, gzip headers, layer names) put the right one there, what they leave beside it is found, and publishing is one
rename. Other things of the same commit are called `.superluigi-<token>.<what>`. Private folders for copies are
`<parent>/.superluigi/<token>/`.

A folder that is missing is made where it is needed, again if it has vanished, and never removed: what is in use cannot
be seen from outside (docs/decisions/foundation/).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from superluigi.storage import owner_token, small_files
from superluigi.storage.base import parsed
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import copy
from superluigi.storage.local.stages import spare_stages

STAGING = ".superluigi"
NOTE = "note.jsonl"  # in a staging folder: what may remain on a server
_PREFIX = STAGING + "-"
_SWAP = STAGING + ".swap."
NAME_MAX = 255  # bytes; NAME_MAX of all common file systems
_TRIES = 1000  # of making a folder that others remove again and again
#: Orphans are looked for so seldom for each name in the folder, and opening it counts as so many names: less than a
#: fiftieth of the time. It is not measured, for a process that was stopped meanwhile would wait a minute.
_SWEEP_SECONDS, _OPENING = 200e-6, 5


@dataclass
class _Abandoned:
    """What a token of this process named in a folder, and could not be removed at the time."""

    folder: str
    #: Whether a sweep came by since: the first one looks at once, later ones when it is their time.
    is_tried: bool = False


_abandoned: dict[str, _Abandoned] = {}  # by token
_sweeps: dict[str, float] = {}  # folder -> when it is looked through again, at the earliest


def is_ours(name: str) -> bool:
    """Whether a name is one of ours beside destinations: never part of data."""
    return name.startswith(STAGING)


def is_machinery(name: str) -> bool:
    """Whether a name of ours is one that we give: targets that are written inside of a folder leave such things."""
    given = name.startswith(f"{STAGING}.") or name == STAGING
    return given or owner_token.token_in(name.removeprefix(_PREFIX)) is not None


def beside(folder: Path | str, token: str, what: str = "") -> str:
    """The path in `folder` of a thing that `token` names."""
    return os.path.join(folder, f"{_PREFIX}{token}{what}")


def make_stage(stage: str, parent: str) -> list[Path]:
    """Make a private folder in `parent`; gives the folders above it that had to be made, topmost first.

    Raises:
        OSError: refused; its `filename` is the folder that refuses.
    """
    failpoint("make staging folder")
    copy.keep_reserve()
    try:
        return [] if spare_stages.take(stage, parent) else with_folders(lambda: os.mkdir(stage, 0o700), parent)
    except OSError as error:
        if error.filename == stage:
            error.filename = parent
        raise


def with_folders(work: Callable[[], object], folder: str) -> list[Path]:
    """Do `work`, which makes something in `folder`, and before it the folders that are missing; gives those.

    Others may remove empty folders at any time, so they are made again until the work is done.
    """
    made: list[Path] = []
    for _ in range(_TRIES):
        try:
            work()
            return made
        except FileNotFoundError:
            made += make_folders(Path(folder))
    work()
    return made


def ensure_folder(folder: Path) -> None:
    """Make a folder that is shared with others, who may just be removing it while it is empty.

    `Path.mkdir` with `parents` gives up when a folder above it goes in between.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


def make_folders(folder: Path) -> list[Path]:
    """Make `folder` and those above it where they are missing; gives what was made, topmost first."""
    missing, made = [], []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
            made.append(folder)
        except FileExistsError:  # others were faster
            continue
        except FileNotFoundError:  # others removed what was above it: the caller tries again
            break
        except OSError as error:
            error.filename = str(folder.parent)
            raise
    return made


def abandon(token: str, folder: Path | str) -> None:
    """Have the next sweep of `folder` remove what this token of this process names, once no swap needs it."""
    _abandoned[token] = _Abandoned(str(folder))


class abandoning:  # noqa: N801 - used like a function, on the way of every commit
    """Remove in this block what a token of this process names in `folder`; if that fails, the next sweep does it."""

    def __init__(self, token: str, folder: Path | str) -> None:
        self.token, self.folder = token, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            abandon(self.token, self.folder)


def swap_journal(final: Path) -> Path:
    """Where a swap of `final` by two renames is written down."""
    name = final.name
    if len(os.fsencode(name)) > NAME_MAX - len(_SWAP):  # its record is elsewhere: only then may a name be so long
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return final.with_name(_SWAP + name)


def journal_text(final: Path, new: Path, old: Path) -> str:
    """What a swap's journal says."""
    return json.dumps({"final": final.name, "new": new.name, "old": old.name})


def journalled(journal: Path) -> dict[str, str]:
    """The names `final`, `new` and `old` of a swap; empty if its journal is not whole, since nothing has moved yet."""
    try:
        names = parsed(small_files.read(journal))
        plain = {key: str(names[key]) for key in ("final", "new", "old")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
    # Others may write into a shared folder: what it says is believed only as far as we could have written it.
    swapped = (plain["new"], plain["old"])
    believed = all(name.startswith(_PREFIX) and "/" not in name for name in swapped) and "/" not in plain["final"]
    return plain if believed else {}


def dead_swaps(parent: Path) -> list[tuple[Path, Path]]:
    """Journal and destination of the swaps by two renames below `parent` whose process no longer runs."""
    found = []
    for journal in parent.glob(_SWAP + "*"):
        names = journalled(journal)
        token = owner_token.token_in(names.get("new", "").removeprefix(_PREFIX))
        if token and owner_token.owner_is_gone(token):
            found.append((journal, parent / names["final"]))
    return found


def remove_left(path: Path) -> None:
    """Remove an orphan, as far as this user made it."""
    failpoint("remove orphan")
    copy.remove_tree(path, owner=os.geteuid())


def _is_ours(path: Path | str) -> bool:
    """Whether this user made it: others may plant what looks like an orphan."""
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def sweep(parent: str | Path, *, always: bool = False, anyone: bool = False) -> list[Path]:
    """What this user's dead processes of this host (or `anyone`'s), or this one without need, left below `parent`.

    Reads the folder, so it answers with nothing while the last look is too recent for its cost, unless `always`.
    """
    parent = str(parent)
    now = time.perf_counter()
    mine = {own: left for own, left in _abandoned.copy().items() if left.folder == parent}
    is_new = any(not left.is_tried for left in mine.values())
    if not always and not is_new and now < _sweeps.get(parent, 0.0):
        return []
    try:
        listed = os.listdir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [name for name in listed if name.startswith(STAGING)]
    journals = [Path(parent, name) for name in names if name.startswith(_SWAP)]
    needed = {
        name for journal in journals for name in journalled(journal).values()
    }  # a swap's recovery still wants these
    if len(_sweeps) > 10_000:
        _sweeps.clear()
    _sweeps[parent] = now + _SWEEP_SECONDS * (_OPENING + len(listed))
    for own, left in mine.items():
        if not any(own in name for name in names):
            _abandoned.pop(own, None)
        elif not any(own in name for name in needed):
            left.is_tried = True
    found = []
    for name in names:
        if not name.startswith(_PREFIX) or name in needed:
            continue
        token = owner_token.token_in(name[len(_PREFIX) :])
        if token and (owner_token.owner_is_gone(token) or token in mine) and (anyone or _is_ours(f"{parent}/{name}")):
            found.append(Path(parent, name))
    return found


def drop_stage(stage: str, parent: str) -> None:
    """Remove a stage in `parent` with all it holds."""
    failpoint("remove staged data")
    try:
        if not spare_stages.put_away(stage, parent):
            os.rmdir(stage)  # empty after a commit
    except OSError:
        copy.remove_tree(Path(stage))


# ---------------------------------------------------------------- staging folders


def staging_folder(parent: Path) -> Path:
    """A fresh private folder below `parent` (which is made if missing), named after this process."""
    shared = parent / STAGING
    folder = shared / owner_token.token()
    failpoint("make staging folder")
    copy.keep_reserve()

    def make() -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(shared)
            mode = os.stat(parent).st_mode
            if mode & (stat.S_IWGRP | stat.S_IWOTH):  # others who may write here may copy here, too
                os.chmod(shared, stat.S_IMODE(mode) | stat.S_ISVTX)
        os.mkdir(folder, 0o700)

    with_folders(make, str(parent))
    return folder


def drop_staging(folder: Path) -> None:
    """Remove a staging folder with all it holds, and `.superluigi` above it when that is empty."""
    failpoint("remove staging folder")
    try:
        os.rmdir(folder)  # empty after a commit
    except OSError:
        copy.remove_tree(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)


def dead_staging(parent: Path) -> list[Path]:
    """Staging folders of this user below `parent` whose process of this host no longer runs."""
    return [
        folder for folder in _staging_folders(parent) if owner_token.owner_is_gone(folder.name) and _is_ours(folder)
    ]


def dead_copies(parent: Path) -> list[Path]:
    """Those of the dead that hold copies only: what was being sent elsewhere is taken back by those who can."""
    return [folder for folder in dead_staging(parent) if not (folder / NOTE).exists()]


def of_unknown_owners(parent: Path) -> list[tuple[str, Path]]:
    """Tokens and things below `parent` whose process cannot be known here: another boot, container, host or version."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(parent)):
            token = owner_token.token_in(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
            if token and not owner_token.is_of_this_world(token):
                found.append((token, parent / name))
    found += [
        (folder.name, folder) for folder in _staging_folders(parent) if not owner_token.is_of_this_world(folder.name)
    ]
    return found


def living_staging(parent: Path) -> list[Path]:
    """Staging folders below `parent` whose process lives, as far as this host can know."""
    return [folder for folder in _staging_folders(parent) if not owner_token.owner_is_gone(folder.name)]


def _staging_folders(parent: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [parent / STAGING / name for name in os.listdir(parent / STAGING) if owner_token.is_token(name)]
    return []

"""Locks and states of local copies: what the cache does to single files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from superluigi.storage import small_files
from superluigi.storage.base import parsed
from superluigi.storage.local import atomic, copy
from superluigi.storage.local.stages import staging

_LONGEST_TOLD = 3000


@contextlib.contextmanager
def lock(file: Path, shared: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold an flock(2) on `file`; False without waiting for it if another one holds it and `wait` is off."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            staging.ensure_folder(file.parent)
            continue
        try:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_at(descriptor, file):
                continue  # evicted while we waited: this lock guards nothing any more
            yield True
            return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def move(source: Path, destination: Path) -> bool:
    """Rename into a folder that is made if missing; False if a part of the way is a file."""
    for _ in range(100):
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(source, destination)
            return True
        except FileNotFoundError:  # another process removed the empty folder in between
            continue
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return False
    return False


#: The tag of a copy that is being put in place or removed: it is valid for no reader.
NOBODYS = ""


def save(file: Path, state: Mapping[str, object]) -> None:
    """Replace a state in one step."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(state))
    atomic.replace(new, file)


def remove_known(root: Path, file: Path) -> dict[str, Any] | None:
    """Remove the copy that the state in `file` speaks of, then the state, which is returned.

    Meanwhile it says that the copy has no owner: the next process, after a death in between, finds what is left.
    """
    if (state := load(file)) is not None:
        save(file, {**state, "tag": NOBODYS, "files": {}})
        _remove_copy(root, state)
    file.unlink(missing_ok=True)
    return state


def _remove_copy(root: Path, state: Mapping[str, Any]) -> None:
    path = root / state["path"]
    if path.is_dir() == bool(state["folder"]):  # else another entry has taken the place
        copy.remove_tree(path)
    with contextlib.suppress(OSError):  # the first folder that is not empty ends it
        for folder in path.parents:
            if folder == root:
                break
            folder.rmdir()


def load(file: Path) -> dict[str, Any] | None:
    """The state in a file of ours; None for anything else: others may write in a folder that is shared."""
    try:
        text, status = small_files.read_with_status(file)
        state = parsed(text) if is_trusted(status) else None
    except (OSError, ValueError):
        return None
    return state if _is_state(state) else None


_SHAPE: Mapping[str, type | tuple[type, ...]] = {
    "uri": str, "path": str, "tag": str, "size": int, "made": (int, float), "files": dict, "folder": bool,
}  # fmt: skip


def _is_state(state: object) -> bool:
    """Whether this has the shape of what is written here, and names nothing outside."""
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in _SHAPE.items()):
        return False
    if not _is_inside(state["path"]):
        return False
    return all(
        (not name or _is_inside(name))
        and isinstance(facts, dict)
        and all(isinstance(facts.get(key), int) for key in ("size", "mtime_ns", "inode"))
        for name, facts in state["files"].items()
    )


def _is_inside(path: str) -> bool:
    try:
        parts = os.fsencode(path).split(b"/")
    except UnicodeEncodeError:
        return False
    fits = sum(map(len, parts)) < _LONGEST_TOLD and all(len(part) <= staging.NAME_MAX for part in parts)
    return fits and "\0" not in path and all(part not in (b"", b"..") for part in parts)


def is_trusted(status: os.stat_result) -> bool:
    """Whether what has this status was made by this user, or by root."""
    return status.st_uid in (os.geteuid(), 0)


def validation_error(root: Path, state: Mapping[str, Any]) -> str:
    for name, facts in state.get("files", {}).items():
        file = root / state["path"] / name if name else root / state["path"]
        if not file.exists():
            return "missing"
        if not same(file, facts) or ("sha256" in facts and copy.sha256(file) != facts["sha256"]):
            return "changed"
    return ""


def facts_of(path: str | Path) -> dict[str, object]:
    status = os.stat(path)
    return {
        "size": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }  # fmt: skip


def same(path: str | Path, facts: Mapping[str, object]) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    found = (status.st_size, status.st_mtime_ns, status.st_ino)
    # The time of the last change of any kind: a file can be given back its size and mtime, but not that.
    unchanged = facts.get("ctime_ns") in (None, status.st_ctime_ns)
    return unchanged and is_trusted(status) and found == (facts["size"], facts["mtime_ns"], facts["inode"])


def size_of(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def free(root: Path) -> int:
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free


def files_in(folder: Path, suffix: str) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        yield from (Path(item.path) for item in found if item.name.endswith(suffix))

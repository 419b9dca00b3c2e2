"""Where rejected outputs are kept for a while: `<workspace>/quarantine/<family>/<task_hash>/<attempt>/`.

    findings.json    what the checks found, of which task
    record.json      the record that the outputs would have had
    output/0/<name>  what was written, one folder for each output

An entry is filled in a private folder and gets its name in one rename, so that a death leaves nothing that looks like
one. Nothing in it has the name of a record, and outputs are not read from here. Settings: `quarantine` (on or off),
`quarantine_limit_bytes`, `quarantine_days`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from superluigi import config
from superluigi.storage import owner_token, small_files
from superluigi.storage.base import Record, parsed
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import atomic, copy
from superluigi.storage.local.stages import staging
from superluigi.storage.local_names import safe_component

FINDINGS, RECORD, OUTPUT = "findings.json", "record.json", "output"
_DAY = 86_400.0
_TRIES = 1000


@dataclass(frozen=True)
class QuarantinedOutput:
    """One rejected set of outputs."""

    path: Path
    family: str
    task_hash: str
    attempt: str
    size: int
    #: Seconds since the epoch.
    kept: float
    #: What `findings.json` says; empty where it cannot be read.
    about: Mapping[str, object]

    def as_json(self) -> dict[str, object]:
        """Plain values, for scripts."""
        return {
            "path": str(self.path),
            "task_family": self.family,
            "task_hash": self.task_hash,
            "attempt": self.attempt,
            "size": self.size,
            "kept": self.kept,
            **{key: self.about.get(key) for key in ("task_id", "params", "checks", "outputs")},
        }


def root() -> Path:
    """The folder that holds all that was rejected, of this workspace."""
    workspace: Path = config.get("workspace")
    return workspace / "quarantine"


def put(record: Record, staged: Sequence[Path], attempt: str) -> Path | None:
    """Move what was staged at these paths into quarantine with the record it would have had; the new entry's folder.

    None where the setting `quarantine` is off. What is larger than the limit is not kept, but told of.

    Raises:
        OSError: the workspace takes no files; what has not been moved is where it was.
    """
    if not config.get("quarantine"):
        return None
    limit: int | None = config.get("quarantine_limit_bytes")
    parent = root() / safe_component(str(record["task_family"]).replace(os.sep, "%")) / str(record["task_hash"])
    failpoint("make quarantine")
    root().parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        root().mkdir(mode=0o700)
    _sweep_one(parent)
    made = Path(staging.beside(parent, owner_token.token()))
    staging.make_stage(str(made), str(made.parent))
    try:
        outputs, total = [], 0
        for position, path in enumerate(staged):
            size = _size(path)
            keep = os.path.lexists(path) and (limit is None or total + size <= limit)
            if keep:
                folder = made / OUTPUT / str(position)
                folder.mkdir(parents=True)
                _move(path, folder / path.name)
                total += size
            outputs.append(
                {"name": path.name, "size": size, "kept": f"{OUTPUT}/{position}/{path.name}" if keep else None}
            )
        failpoint("write findings")
        about = {key: record.get(key) for key in ("task_family", "task_id", "task_hash", "params", "checks")}
        _write(made / RECORD, record)
        _write(made / FINDINGS, {**about, "time": time.time(), "outputs": outputs, "size": total})
        found = _named(made, parent, attempt)
    except BaseException:
        with contextlib.suppress(OSError):
            copy.remove_tree(made)
        raise
    if _due.after(total, limit):
        with atomic.mended_later("What is too much or too old in quarantine could not be removed"):
            keep_within(limit, float(config.get("quarantine_days")), spared=found)
    return found


class _Due:
    """When to look through all that is kept, which takes longer the more it is: each minute, or share of the limit."""

    _SECONDS, _SHARE = 60.0, 50

    def __init__(self) -> None:
        self._looked = -self._SECONDS
        self._added = 0

    def after(self, size: int, limit: int | None) -> bool:
        """Whether to look, now that so many bytes have come."""
        self._added += _cost(size)
        now = time.monotonic()
        if now - self._looked < self._SECONDS and (limit is None or self._added * self._SHARE < limit):
            return False
        self._looked, self._added = now, 0
        return True


_due = _Due()


def _cost(size: int) -> int:
    """What an entry takes: its descriptions too."""
    return max(size, 4096)


def _named(made: Path, parent: Path, attempt: str) -> Path:
    """Give a filled folder its name; a second one of the same attempt has a number behind it."""
    for count in range(1, _TRIES):
        found = parent / (attempt if count == 1 else f"{attempt}.{count}")
        try:
            failpoint("name quarantine")
            os.rename(made, found)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return found
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(parent / attempt))


def _move(source: Path, destination: Path) -> None:
    """Into quarantine, by name where that is on the same disk."""
    try:
        atomic.move_folder(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        failpoint("copy to quarantine")
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True)
        else:
            shutil.copy2(source, destination)


def entries() -> list[QuarantinedOutput]:
    """All that is in quarantine, oldest first."""
    found = []
    for family, task_hash, name in _names():
        path = root() / family / task_hash / name
        try:
            status = path.lstat()
            about = _read(path / FINDINGS)
        except OSError:  # cleared meanwhile
            continue
        family, size = str(about.get("task_family", family)), about.get("size")
        known = size if isinstance(size, int) and not isinstance(size, bool) else _size(path)
        found.append(QuarantinedOutput(path, family, task_hash, name, known, status.st_mtime, about))
    return sorted(found, key=lambda one: (one.kept, str(one.path)))


def remove(found: Iterable[QuarantinedOutput]) -> list[QuarantinedOutput]:
    """Remove entries; gives those that are gone now."""
    gone = []
    for one in found:
        dropped = staging.beside(one.path.parent, owner_token.token())  # not half an entry at any time
        with contextlib.suppress(OSError):
            failpoint("drop quarantine")
            os.rename(one.path, dropped)
            copy.remove_tree(Path(dropped), owner=os.geteuid())
        if not os.path.lexists(one.path):
            gone.append(one)
        for above in (one.path.parent, one.path.parent.parent):
            with contextlib.suppress(OSError):
                above.rmdir()
    return gone


def keep_within(limit: int | None, days: float, *, spared: Path | None = None) -> list[QuarantinedOutput]:
    """Remove the oldest entries until the rest is at most `limit` bytes, and those older than `days` (0: any age)."""
    _sweep()
    now, total, gone = time.time(), 0, []
    for one in reversed(entries()):
        total += _cost(one.size)
        too_old = days > 0 and now - one.kept > days * _DAY
        if one.path != spared and (too_old or (limit is not None and total > limit)):
            gone.append(one)
    return remove(gone)


def _sweep() -> None:
    """Remove what dead processes left half filled or half removed."""
    for family in _folders(root()):
        for task_hash in _folders(root() / family):
            _sweep_one(root() / family / task_hash)


def _sweep_one(parent: Path) -> None:
    for left in staging.sweep(parent, always=True):
        with contextlib.suppress(OSError):
            staging.remove_left(left)


def _names() -> Iterable[tuple[str, str, str]]:
    for family in _folders(root()):
        for task_hash in _folders(root() / family):
            for name in _folders(root() / family / task_hash):
                if not staging.is_ours(name):
                    yield family, task_hash, name


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in copy.entries(str(folder)) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        with contextlib.suppress(OSError):
            return path.lstat().st_size
        return 0
    size = 0
    for _, found in copy.walk(path, tolerant=True):
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_size
    return size


def _write(path: Path, value: Mapping[str, object]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _read(path: Path) -> dict[str, object]:
    try:
        found = parsed(small_files.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

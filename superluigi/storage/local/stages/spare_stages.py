"""Empty stages of this process, kept out of sight and used again for the same folder.

To make and remove a folder for each commit would make each one slow on ext4: it keeps away from inodes that were freed
in the last minutes, and has to step over them all. So from the second commit into a folder on, its stage is put away
in `<local_data_dir>/.superluigi/spare/<token>/` instead of being removed, and comes back for the next one. It never
serves another folder: group, access-control lists and labels are what it got where it was made. Where that is another
file system stages are made and removed. Nothing depends on it, so every refusal of the system just means that.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import shutil
import stat
import sys
import threading
from pathlib import Path

from superluigi import config
from superluigi.storage import owner_token
from superluigi.storage.local import copy

_PARENTS = 64  # folders whose stages are kept
_EACH = 4  # stages for one of them: as many as are written at once


class _Spares:
    def __init__(self, root: Path) -> None:
        self.pid, self.root = os.getpid(), root
        self.lock = threading.Lock()
        self.used: dict[str, list[str]] = {}  # folder -> its stages at rest; folders in order of their first use
        self.numbers = itertools.count()
        self.rest = ""
        self.is_useless = False

    def put_away(self, stage: str, parent: str) -> bool:
        """Keep the empty folder `stage` of `parent`; False if it has to be removed."""
        with self.lock:
            if self.is_useless:
                return False
            if parent not in self.used:
                if len(self.used) >= _PARENTS:
                    _remove(self.used.pop(next(iter(self.used))))
                self.used[parent] = []
                return False
            if len(self.used[parent]) >= _EACH or not (rest := self._made_rest()):
                return False
        place = f"{rest}/{next(self.numbers)}"
        try:
            if os.listdir(stage):
                return False
            os.rename(stage, place)
        except OSError as error:
            self.is_useless = error.errno == errno.EXDEV  # another file system
            if not os.path.isdir(rest):
                self.rest = ""
            return False
        with self.lock:
            self.used.setdefault(parent, []).append(place)
        return True

    def take(self, stage: str, parent: str) -> bool:
        """Put a folder at `stage`, if one of its `parent` is at rest."""
        with self.lock:
            resting = self.used.get(parent)
            place = resting.pop() if resting else None
        if place is None:
            return False
        try:
            if not _fits(place, parent):
                raise OSError
            os.rename(place, stage)
        except OSError:  # the parent was removed, and it with it or not; or what one gets there has changed
            _remove([place])
            return False
        return True

    def _made_rest(self) -> str:
        """Where stages rest, made when it is not there, by one thread at a time; empty where that is refused."""
        if self.rest:  # as at nearly every commit
            return self.rest
        shared = self.root / ".superluigi" / "spare"
        with contextlib.suppress(OSError):
            shared.mkdir(parents=True, exist_ok=True)
            for name in os.listdir(shared):
                if owner_token.owner_is_gone(name):
                    shutil.rmtree(shared / name, ignore_errors=True)
            place = shared / owner_token.token()
            place.mkdir(mode=0o700, exist_ok=True)
            self.rest = str(place)
        return self.rest

    def remove(self) -> None:
        if self.pid == os.getpid() and self.rest:
            _remove([place for resting in self.used.values() for place in resting])
            _remove([self.rest, os.path.dirname(self.rest), os.path.dirname(os.path.dirname(self.rest))])
            self.rest, self.is_useless = "", True


def _fits(stage: str, folder: str) -> bool:
    """Whether what is made in `stage` gets the group and the access list that it gets in `folder`."""
    there, here = os.stat(folder), os.stat(stage)
    passes_on = bool(there.st_mode & stat.S_ISGID)
    group = there.st_gid if passes_on or sys.platform == "darwin" else os.getegid()
    same = (here.st_gid, bool(here.st_mode & stat.S_ISGID)) == (group, passes_on)
    return same and copy.access_list(stage, copy.ACL_OF_NEW) == copy.access_list(folder, copy.ACL_OF_NEW)


def _remove(folders: list[str]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


class _Current:
    spares: _Spares | None = None


def _spares() -> _Spares:
    """Those of this process, for the local data folder that is configured now."""
    root, found = config.get("local_data_dir"), _Current.spares
    if found is None or found.pid != os.getpid() or (found.root is not root and found.root != root):
        if found is not None:
            found.remove()
        found = _Current.spares = _Spares(root)
    return found


def put_away(stage: str, parent: str) -> bool:
    """Keep the empty folder `stage` for the next commit into `parent`; False if it has to be removed."""
    return _spares().put_away(stage, parent)


def take(stage: str, parent: str) -> bool:
    """Put an empty private folder at `stage` in `parent`, if one is at hand."""
    spares = _Current.spares
    return spares is not None and spares.pid == os.getpid() and spares.take(stage, parent)


@atexit.register
def remove() -> None:
    """Remove what is at rest: this process ends."""
    if _Current.spares is not None:
        _Current.spares.remove()

"""Log files for attempts that have no folder yet: one pair for each process, used again and again.

A process of the attempt's own needs files for its descriptors from the start, but most attempts print nothing, and to
make and remove a folder for them takes longer than a small task does. So the descriptors go to
`<workspace>/spare/<token>/`; once there is something to keep (a line, a failure, an attempt that takes a while), the
folder is made and the files move into it. `note` beside them says whose they are: when the process is killed before,
`recover_orphans` puts them where they belong.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from superluigi.execution.process.parent import parent
from superluigi.storage import owner_token
from superluigi.tasks.runtime.workspace import task_folder as folders

SPARE = "spare"
_NAMES = (folders.STDOUT, folders.STDERR)
_NOTE = "note"


class PooledLogs:
    """The files of this process. `descriptors` are where standard output and error go."""

    def __init__(self, root: Path) -> None:
        self.pid, self.root = os.getpid(), root
        self._folder = root / SPARE / owner_token.token()
        self._folder.mkdir(parents=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.descriptors = [os.open(self._folder / name, flags, 0o666) for name in _NAMES]
        self._note = os.open(self._folder / _NOTE, flags & ~os.O_APPEND, 0o666)

    def begin(self, about: Mapping[str, object]) -> None:
        """An attempt begins: `about` is what `folder.about` says of it."""
        note = json.dumps(about).encode()
        os.ftruncate(self._note, 0)
        os.pwrite(self._note, note, 0)

    def end(self) -> None:
        """The attempt has ended and leaves nothing."""
        os.ftruncate(self._note, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was printed."""
        return not any(os.fstat(descriptor).st_size for descriptor in self.descriptors)

    @property
    def is_gone(self) -> bool:
        """Whether the files were removed, perhaps with the whole workspace."""
        return os.fstat(self._note).st_nlink == 0

    def move_into(self, folder: Path) -> None:
        """Make the files those of a task folder; the next attempt gets others."""
        for name in _NAMES:
            os.rename(self._folder / name, folder / name)
        self.remove()

    def remove(self) -> None:
        """Forget the files; a thread that still writes to them may."""
        if _pool.current is self:
            _pool.current = None
        for descriptor in (*self.descriptors, self._note):
            os.close(descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)


class _Pool:
    """Holds the spare files of this process, if it has any."""

    def __init__(self) -> None:
        self.current: PooledLogs | None = None


_pool = _Pool()


def acquire() -> PooledLogs:
    """The spare files of this process in the workspace that is configured now.

    Raises:
        OSError: they cannot be made.
    """
    root, current = folders.workspace(), _pool.current
    if current is None or (current.pid, current.root) != (os.getpid(), root) or current.is_gone:
        with contextlib.suppress(OSError):
            recover_orphans(root)
        _pool.current = current = PooledLogs(root)
        parent.at_exit(_tidy)
    return current


def _tidy() -> None:
    if _pool.current is not None and _pool.current.pid == os.getpid():
        _pool.current.remove()


def recover_orphans(root: Path | None = None) -> None:
    """Put the logs of attempts whose process was killed into the folders of their tasks, as far as that can be done."""
    where = (root or folders.workspace()) / SPARE
    with contextlib.suppress(OSError):
        for name in os.listdir(where):
            first, _, adopter = name.partition("+")
            if owner_token.owner_is_gone(adopter or first):  # who adopted it may have been killed as well
                with contextlib.suppress(OSError, ValueError, KeyError):  # another one was faster, or has no space
                    taken = where / f"{first}+{owner_token.token()}"
                    os.rename(where / name, taken)
                    _settle(taken)


def _settle(taken: Path) -> None:
    try:
        note = (taken / _NOTE).read_text()
        if note:
            folder = folders.TaskFolder.again(json.loads(note))
            for name in _NAMES:
                os.rename(taken / name, folder.path / name)
            folder.end(success=False)
    finally:
        shutil.rmtree(taken, ignore_errors=True)

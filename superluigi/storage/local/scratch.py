"""Private folders for copies of inputs, gone after use."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from superluigi import config
from superluigi.errors import CommitError, StorageAccessError, TargetError
from superluigi.storage import owner_token
from superluigi.storage.local import atomic
from superluigi.storage.local import copy as copying
from superluigi.storage.local.stages import staging

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}  # another place may have what this one lacks

_clones: dict[int, bool] = {}  # device number -> whether its file system can clone files


@contextlib.contextmanager
def private_copy(near: Path, name: str, fill: Callable[[Path], None]) -> Iterator[Path]:
    """A copy called `name`, which `fill` makes, in a private folder for as long as the block lasts.

    Beside `near` where files can be cloned there, else in `local_data_dir`: large data is expected there, unlike in the
    system's temporary folder. Where one place refuses or is full, the next one is tried, `near` in any case.

    Raises:
        StorageAccessError: no place lets us write; names the setting.
        CommitError: there is no space anywhere; names the setting.
    """
    refusals: list[tuple[Path, OSError]] = []
    for parent in _places(near):
        with contextlib.ExitStack() as stack:
            try:
                copy = stack.enter_context(_folder(parent, is_data=parent == near)) / name
            except OSError as error:
                refusals.append((parent, error))
                continue
            try:
                fill(copy)
            except OSError as error:
                if error.errno not in _FULL:
                    with atomic.explained("copy", near / name):
                        raise
                refusals.append((parent, error))
                continue
            yield copy
            return
    raise _refused(name, refusals)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A private folder in `local_data_dir`.

    Raises:
        StorageAccessError: we may not write there; names the setting.
        CommitError: it is full; names the setting.
    """
    parent = Path(config.get("local_data_dir"))
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(_folder(parent, is_data=False))
        except OSError as error:
            raise _refused("an input", [(parent, error)]) from error
        yield folder


def _places(near: Path) -> list[Path]:
    data = Path(config.get("local_data_dir"))
    return [near, data] if _can_clone_in(near) else [data, near]


@contextlib.contextmanager
def _folder(parent: Path, *, is_data: bool) -> Iterator[Path]:
    """A private folder in `parent`; among data, it is one of its own, which needs nothing of another user's."""
    if is_data:
        for left in staging.sweep(parent):
            with contextlib.suppress(OSError):
                staging.remove_left(left)
        folder = Path(staging.beside(parent, owner_token.token()))
        staging.make_stage(str(folder), str(folder.parent))
    else:
        for dead in staging.dead_copies(parent):
            with contextlib.suppress(OSError):
                staging.drop_staging(dead)
        folder = staging.staging_folder(parent)
    try:
        yield folder
    finally:
        with atomic.mended_later(f"The temporary copy {folder} could not be removed"):
            copying.remove_tree(folder) if is_data else staging.drop_staging(folder)


def _refused(name: str, refusals: list[tuple[Path, OSError]]) -> TargetError:
    told = "; ".join(f"{parent}: {error.strerror or error}" for parent, error in refusals)
    is_right = any(isinstance(error, PermissionError) for _, error in refusals)
    advice = "Set SUPERLUIGI_LOCAL_DATA_DIR to a folder with space that you may write to, or free some."
    kind = StorageAccessError if is_right else CommitError
    found = kind(f"Cannot make a temporary copy of {name} ({told}). {advice}")
    found.errno = refusals[-1][1].errno
    found.__cause__ = refusals[-1][1]
    return found


def _can_clone_in(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    device = os.stat(folder).st_dev
    if device not in _clones:
        _clones[device] = _try_clone(folder)
    return _clones[device]


def _try_clone(parent: Path) -> bool:
    with contextlib.suppress(OSError), _folder(parent, is_data=True) as folder:
        (folder / "a").write_bytes(bytes(4096))
        with open(folder / "a", "rb") as source, open(folder / "b", "wb") as target:
            return copying.clone(source.fileno(), target.fileno())
    return False

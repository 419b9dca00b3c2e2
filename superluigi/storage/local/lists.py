"""Lists of inputs beside local records (`storage.input_lists`): written, read, and removed when no record names them.

Who writes or removes them holds the publishing lock of the output, as for the record itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from superluigi.errors import RecordError, StorageAccessError
from superluigi.storage import input_lists, owner_token, small_files
from superluigi.storage.base import PENDING_SUFFIX, Record, parsed
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import atomic
from superluigi.storage.local.stages import staging

_SHARED = stat.S_IRWXG | stat.S_IRWXO | stat.S_ISVTX


def home(record_uri: str) -> str:
    """The folder of a record's lists."""
    return record_uri + input_lists.SUFFIX


def bound(record: Record, record_uri: str, again: Callable[[], Record | None]) -> Record:
    """A record that was read, able to give its lists; `again` reads it once more."""
    folder = home(record_uri)

    def read(file: str) -> bytes | None:
        try:
            return small_files.read(f"{folder}/{file}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise StorageAccessError(
                f"Cannot read {folder}/{file}: {error.strerror}. Check its owner and mode."
            ) from error

    return input_lists.bound(record, lambda: input_lists.Home(folder, read, again))


def write(record_uri: str, lists: Mapping[str, bytes], *, durable: bool) -> None:
    """Write lists, which no record names yet."""
    if not lists:
        return
    folder = home(record_uri)
    made: list[Path] = []
    for file, content in lists.items():
        failpoint("write list of inputs")
        path = f"{folder}/{file}"

        def put(path: str = path, content: bytes = content) -> None:
            atomic.write_new(path, content, flush=durable)

        made += staging.with_folders(put, folder)
    if Path(folder) in made:  # who may replace the record may replace its lists
        shared = stat.S_IMODE(os.stat(os.path.dirname(folder)).st_mode) & _SHARED
        os.chmod(folder, stat.S_IRWXU | shared)
    for changed in {folder, *(str(new.parent) for new in made)} if durable else ():
        atomic.flush_folder(changed)


def tidy(record_uri: str) -> None:
    """Remove the lists that neither the record nor a pending one names; one system call where there are none."""
    folder = home(record_uri)
    if not os.path.lexists(folder):
        return
    with _opened(folder) as descriptor:
        if descriptor is None:
            return
        for file in _unnamed(record_uri, descriptor):
            failpoint("drop list of inputs")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file, dir_fd=descriptor)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def orphans(folder: str) -> list[str]:
    """The lists in a folder called like one of ours that no record names, of writers that are gone."""
    with _opened(folder) as descriptor:
        files = [] if descriptor is None else _unnamed(folder.removesuffix(input_lists.SUFFIX), descriptor)
    return [f"{folder}/{file}" for file in files if owner_token.owner_is_gone(input_lists.token_of(file) or "")]


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int | None]:
    """The folder itself, through no link; None if there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # none, or none of ours
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unnamed(record_uri: str, descriptor: int) -> list[str]:
    """Our lists in a folder that nothing names; none where what names them cannot be read."""
    named: set[str] = set()
    for path in (record_uri, record_uri + PENDING_SUFFIX):
        try:
            named |= input_lists.named(parsed(small_files.read(path)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, RecordError, ValueError):
            return []
    return [
        file for file in sorted(os.listdir(descriptor)) if file not in named and input_lists.token_of(file) is not None
    ]

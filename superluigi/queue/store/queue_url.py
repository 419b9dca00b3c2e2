"""Which database a queue's name means: a SQLite file on a local disk, or PostgreSQL; what another process calls it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from superluigi import config
from superluigi.errors import OptionError, QueueError
from superluigi.setting_texts import at_home, without_passwords

SUFFIX = ".sqlite"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
#: Kinds of file system on which SQLite's WAL cannot work: its index is memory shared by processes of one host.
_NETWORK = frozenset(
    """nfs nfs4 cifs smb3 smbfs afs afpfs ceph lustre gpfs beegfs panfs pvfs2 orangefs glusterfs ocfs2 gfs2 9p
    davfs webdav fuse.sshfs fuse.glusterfs fuse.cephfs fuse.ceph-fuse fuse.s3fs fuse.rclone
    fuse.gcsfuse""".split()  # noqa: SIM905 twenty quoted names read worse
)


def url_of(name: str) -> URL:
    """The database that `name` means: a plain name, a path of a SQLite file, or a database URL.

    Raises:
        OptionError: it is none of these.
    """
    if name.startswith(_BY_VARIABLE):
        name = os.environ.get(name.removeprefix(_BY_VARIABLE), "")
    if "://" in name:
        try:
            url = make_url(name)
        except (ArgumentError, ValueError):  # which have it with its password
            raise OptionError(f"{without_passwords(name)!r} is no database URL. {_EXPECTED}") from None
        if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return url.set(drivername="postgresql+psycopg")
        if url.drivername == "sqlite" and url.database and not url.query:  # which may say that it lives in memory
            return url.set(database=str(storable_path(Path(os.path.abspath(url.database)))))
        raise OptionError(f"A queue cannot live in {without_passwords(name)}. {_EXPECTED}")
    if "\0" in name:
        raise OptionError(f"{name!r} holds a NUL character, which no name of a queue or path can.")
    if name.endswith(SUFFIX) and name != SUFFIX:
        return URL.create("sqlite", database=str(storable_path(at_home(name).absolute())))
    return URL.create("sqlite", database=str(storable_path(_named(name))))


_EXPECTED = "Expected postgresql://host/database, or sqlite:////path/of/a/file (no options)."


def storable_path(path: Path) -> Path:
    """A path of a queue's, which its database keeps: as text, so it must be one.

    Raises:
        OptionError: it is no text.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"The queue's folder {str(path)!r} has a name that is no UTF-8, and no database can keep it. Rename it, "
            "or name another one: by the path of the queue, or in SUPERLUIGI_QUEUE_DIR."
        ) from error
    return path


def _named(name: str) -> Path:
    """The file of a queue by name: always inside the folder of queues.

    Raises:
        OptionError: it is no name.
    """
    parts = name.split("/")
    too_long = any(len(f"{part}{SUFFIX}-wal".encode(errors="replace")) > _LONGEST_NAME_BYTES for part in parts)
    if too_long or not _NAME.fullmatch(name) or any(part.startswith((".", "-")) for part in parts):
        shown = f"{name[:40]!r}…" if too_long else repr(without_passwords(name))
        raise OptionError(
            f"{shown} is no name of a queue. Use letters, digits, '_', '-', '.' (the first one a letter, a digit or "
            f"'_'), of at most some 200 bytes; or a path that ends in {SUFFIX}; or postgresql://host/database."
        )
    folder: Path = config.get("queue_dir")
    return folder / f"{name}{SUFFIX}"


#: What file systems take as one name.
_LONGEST_NAME_BYTES = 230


def refuse_namesake(file: Path) -> None:
    """Refuse to make a queue whose name differs from another's only in case: on some disks they would be one.

    Raises:
        OptionError: there is such a queue.
    """
    with contextlib.suppress(OSError):
        for other in os.listdir(file.parent):
            if other.casefold() == file.name.casefold() and other != file.name:
                raise OptionError(
                    f"There is a queue {other.removesuffix(SUFFIX)!r} already, which differs from "
                    f"{file.name.removesuffix(SUFFIX)!r} in upper and lower case only. Use that one, or another name."
                )


def passed_on(name: str) -> str:
    """The name under which another process opens this queue; a password travels in the environment instead.

    Command lines can be read by all users of the machine.
    """
    url = url_of(name)
    if url.drivername == "sqlite":
        file = str(url.database)
        return file if file.endswith(SUFFIX) else f"sqlite:///{file}"  # another suffix says no queue without it
    if name.startswith(_BY_VARIABLE) or without_passwords(name) == name:
        return name
    os.environ[_VARIABLE] = name
    return f"{_BY_VARIABLE}{_VARIABLE}"


_VARIABLE = "SUPERLUIGI_QUEUE_URL"
_BY_VARIABLE = "env:"


def filesystem_of(path: Path, mounts: str) -> str:
    """The kind of the file system that `path` is on, by a table in the format of /proc/mounts (fstab(5))."""
    best, kind = -1, ""
    for line in mounts.split("\n"):
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])  # spaces are \040 there
        inside = path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= best:  # later lines cover earlier ones
            best, kind = len(point), fields[2]
    return kind


def require_local(path: Path) -> None:
    """Refuse folders on which SQLite cannot keep its promises.

    Raises:
        QueueError: `path` is on a network file system.
    """
    try:
        mounts = os.fsdecode(Path("/proc/mounts").read_bytes())
    except OSError:  # no /proc: the probe for WAL in `Database` must do
        return
    kind = filesystem_of(path.resolve(), mounts)
    if kind in _NETWORK:
        raise QueueError(f"{path} is on a network file system ({kind}). {REMEDY}")


REMEDY = (
    "SQLite cannot share a database between hosts. Either give the queue a PostgreSQL database: "
    "Queue('postgresql://host/database'), with pip install 'superluigi[postgres]'; or, for workers of this "
    "host only, a folder on a local disk: SUPERLUIGI_QUEUE_DIR=/local/folder."
)

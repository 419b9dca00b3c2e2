"""What a local folder holds: one walk for its identity, its digests and its copies, so that these agree.

Links inside the folder that lead to what is inside too are links. What a link leads to outside is content: it is
walked, described and copied as if it stood there itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import NamedTuple

from superluigi import graph
from superluigi.errors import TargetKindError
from superluigi.storage.base import Record
from superluigi.storage.local import atomic
from superluigi.storage.local import copy as copying
from superluigi.storage.local.stages.staging import STAGING, is_ours

FILE, FOLDER, EMPTY, LINK, BROKEN = "file", "folder", "empty", "link", "broken"
Inode = tuple[int, int]
_NO_FILE = "is a pipe, socket or device; a folder holds files, folders and links."


class Member(NamedTuple):
    """One thing in a folder."""

    #: Below the folder, with `/`.
    name: str
    #: `FILE`; `FOLDER` with something in it; `EMPTY` folder; `LINK` to another member; `BROKEN` link.
    kind: str
    #: Where its bytes are: elsewhere for what a link outside leads to.
    path: str
    #: Of a link, where it leads, seen from its place; of a broken one, what it says.
    link: str = ""
    entry: os.DirEntry[str] | None = None

    def is_regular(self) -> bool:
        """Whether it is a file with bytes, and no pipe, socket or device: opening a pipe would wait for its writer."""
        return os.path.isfile(self.path) if self.entry is None else self.entry.is_file(follow_symlinks=False)

    def status(self) -> os.stat_result:
        """Of what it is or leads to."""
        return os.stat(self.path) if self.entry is None else self.entry.stat(follow_symlinks=False)


def walk(root: str, hidden: Container[str] = ()) -> Iterator[Member]:
    """All that is in a folder, each folder before what is in it; what is ours or called as in `hidden` is left out.

    A pipe, socket or device counts as a file here: it is refused when it is opened.
    """
    real = ""
    waiting: list[tuple[str, str, frozenset[Inode]]] = [(root, "", frozenset())]
    while waiting:
        folder, below, around = waiting.pop()
        found = copying.entries(folder)
        if below:
            yield Member(below[:-1], FOLDER if found else EMPTY, folder)
        for entry in found:
            name = below + entry.name
            if is_ours(entry.name) or name in hidden:
                continue
            if entry.is_symlink():
                real = real or os.path.realpath(root)
                member = _linked(entry, name, real)
                if member.kind != FOLDER:
                    yield member
                else:
                    waiting.append((member.path, f"{name}/", _around(around or {_inode(real)}, member, entry.path)))
            elif entry.is_dir(follow_symlinks=False):
                here = around and _around(around, Member(name, FOLDER, entry.path), entry.path)
                waiting.append((entry.path, f"{name}/", here))
            else:
                yield Member(name, FILE, entry.path, entry=entry)


def _linked(entry: os.DirEntry[str], name: str, root: str) -> Member:
    """What a link is: to another member, to a file or folder outside, or to nothing."""
    try:
        status = os.stat(entry.path)
    except OSError:  # nothing is there, or the link leads round in a circle
        return Member(name, BROKEN, entry.path, os.readlink(entry.path))
    leads = os.path.realpath(entry.path)
    if leads == root or leads.startswith(f"{root}/"):
        inner = leads[len(root) + 1 :]
        return Member(name, LINK, entry.path, os.path.relpath(f"/{inner}", os.path.dirname(f"/{name}")))
    return Member(name, FOLDER if stat.S_ISDIR(status.st_mode) else FILE, leads)


def _around(around: frozenset[Inode] | set[Inode], member: Member, shown: str) -> frozenset[Inode]:
    """The folders above what is in `member`, itself too."""
    here = _inode(member.path)
    if here in around:
        raise TargetKindError(f"{shown} is a link to a folder that holds it, so its files have no end. Remove it.")
    return frozenset({*around, here})


def _inode(path: str) -> Inode:
    status = os.stat(path)
    return status.st_dev, status.st_ino


# ---------------------------------------------------------------- identity and content


def identity(root: str, hidden: Container[str]) -> Record:
    """Cheap facts that tell these bytes from others; nothing is read but names and what the system knows of files."""
    facts = _Facts()
    for member in walk(root, hidden):
        facts.add(member, member.status() if member.kind == FILE else None)
    return facts.record(root)


def content(root: str, hidden: Container[str], limit: int) -> Record:
    """`identity` with digests of all that is there; reads every byte.

    Raises:
        TargetKindError: a link that leads nowhere, a pipe, socket or device.
    """
    facts, items = _Facts(), list[Record]()
    for member in walk(root, hidden):
        status = None
        if member.kind == FILE:
            item, status = _digested(member)
            items.append(item)
        elif member.kind == LINK:
            items.append({"path": member.name, "link": member.link})
        elif member.kind == EMPTY:
            items.append({"path": f"{member.name}/"})
        elif member.kind == BROKEN:
            raise _broken(f"{root}/{member.name}", member.link)
        facts.add(member, status)
    items.sort(key=lambda item: str(item["path"]))
    return {**facts.record(root), "digest": {"sha256": graph.digest(items)}, "contents": items[:limit]}


def _digested(member: Member) -> tuple[Record, os.stat_result]:
    if not member.is_regular():
        raise TargetKindError(f"{member.path} {_NO_FILE}")
    digest, status = copying.digested(member.path)
    return {"path": member.name, "size": status.st_size, "digest": {"sha256": digest}}, status


def _broken(path: str, link: str) -> TargetKindError:
    return TargetKindError(
        f"{path} is a link to {link}, which leads nowhere or round in a circle, so it has no content. Remove it, or "
        "make what it leads to."
    )


class _Facts:
    """Size, count, newest time, one digest of each member's name, size, time and inode, and one of the names."""

    def __init__(self) -> None:
        self.size = self.count = self.newest = 0
        self.lines: list[str] = []
        self.names: list[str] = []

    def add(self, member: Member, status: os.stat_result | None) -> None:
        if member.kind != FOLDER:
            self.count += 1
            self.names.append(member.name)
        if status is None:
            self.lines.append(f"{member.name}\0{member.kind}\0{member.link}")
            return
        self.size += status.st_size
        self.newest = max(self.newest, status.st_mtime_ns)
        self.lines.append(f"{member.name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}")

    def record(self, root: str) -> Record:
        self.lines.sort()
        members = hashlib.sha256("\0\0".join(self.lines).encode("utf-8", "surrogateescape"))
        return {
            "size": self.size,
            "count": self.count,
            "mtime_ns": self.newest,
            "inode": os.stat(root).st_ino,
            "members": members.hexdigest(),
            "names": _digest_of(self.names),
        }


def names_are_there(root: str, hidden: Container[str], output: Record) -> bool:
    """Whether all that a record names is there.

    A list that was cut has a count and a digest of the names: as many others, or fewer, are not whole.
    """
    named = [item for item in output.get("contents") or () if isinstance(item, dict) and "path" in item]
    if not all(_is_there(root, item) for item in named):
        return False
    count = output.get("count")
    if not isinstance(count, int) or count <= len(named):
        return True
    names = [member.name for member in walk(root, hidden) if member.kind != FOLDER]
    return len(names) > count or (len(names) == count and output.get("names") in (None, _digest_of(names)))


def _is_there(root: str, item: Record) -> bool:
    """Whether there is what an item of a list names; a folder in the place of a file is not."""
    try:
        mode = os.lstat(f"{root}/{item['path']}".rstrip("/")).st_mode
    except (OSError, ValueError):
        return False
    return "digest" not in item or not stat.S_ISDIR(mode)


def _digest_of(names: list[str]) -> str:
    return hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


# ---------------------------------------------------------------- copies


def copy(root: str, destination: Path, hidden: Container[str]) -> None:
    """Copy a folder: sub-folders, empty ones, modes; files are cloned where possible.

    No link of the copy leads out of it.

    Raises:
        TargetKindError: a link that leads nowhere, a pipe, socket or device.
    """
    os.mkdir(destination)
    folders = [(root, str(destination))]
    for member in walk(root, hidden):
        target = f"{destination}/{member.name}"
        if member.kind in (FOLDER, EMPTY):
            os.mkdir(target)
            folders.append((member.path, target))
        elif member.kind == LINK:
            os.symlink(member.link, target)
        elif member.kind == BROKEN:
            raise _broken(f"{root}/{member.name}", member.link)
        elif not member.is_regular():
            raise TargetKindError(f"{member.path} {_NO_FILE}")
        else:
            copying.copy_file(Path(member.path), Path(target))
    for folder, target in folders:
        os.chmod(target, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)


# ---------------------------------------------------------------- what was written


def own(root: str, final: str) -> None:
    """Make all that was written into a stage its own: it changes with nothing else, and leads nowhere else.

    A link to what was written too becomes relative, also one by its `final` name; what another link leads to is copied
    into its place, and so is a file that has names elsewhere (a hard link).

    Raises:
        TargetKindError: a link that leads nowhere, round in a circle or to a folder that holds it; what has no content.
    """
    root = os.path.realpath(root)
    several: dict[Inode, list[str]] = {}
    for _, found in copying.walk(root):
        for entry in found:
            if entry.is_symlink():
                _own_link(entry.path, root, final)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1:
                    several.setdefault((status.st_dev, status.st_ino), []).append(entry.path)
            elif not entry.is_dir(follow_symlinks=False):
                raise TargetKindError(f"{final}{entry.path[len(root) :]} {_NO_FILE}")
    for names in several.values():
        if os.stat(names[0]).st_nlink > len(names):
            own_file(names[0], f"{final}{names[0][len(root) :]}")
            for name in names[1:]:
                os.unlink(name)
                os.link(names[0], name)


def _own_link(path: str, root: str, final: str) -> None:
    says, here, shown = os.readlink(path), os.path.dirname(path), f"{final}{path[len(root) :]}"
    leads = os.path.realpath(path)
    if says.startswith(f"{final}/") and os.path.exists(root + says[len(final) :]):
        leads = os.path.realpath(root + says[len(final) :])
    if not os.path.exists(leads):
        raise _broken(shown, says)
    if f"{here}/".startswith(f"{leads.rstrip('/')}/"):
        raise TargetKindError(f"{shown} is a link to a folder that holds it, so its files have no end. Remove it.")
    if leads.startswith(f"{root}/"):
        if not _stays(says, here[len(root) :]):
            _replace(path, lambda new: os.symlink(os.path.relpath(leads, here), new))
    else:
        own_written(path, shown)


def _stays(says: str, below: str) -> bool:
    """Whether the words of a link that stands in the folder `below` do not lead out of the whole on their way."""
    depth = below.count("/")
    for word in says.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(word, 1)
        if depth < 0:
            return False
    return not os.path.isabs(says)


def own_written(path: str, shown: str) -> None:
    """Replace a link, written where a file or folder should be, by what it leads to; errors call it `shown`.

    Raises:
        TargetKindError: it leads nowhere, or to what has no content.
    """
    leads = os.path.realpath(path)
    if os.path.isdir(leads):
        _replace(path, lambda new: copy(leads, Path(new), ()))
    else:
        own_file(path, shown)


def own_file(path: str, shown: str) -> None:
    """Give a file bytes of its own, where it is a link to another or shares them with other names.

    Raises:
        TargetKindError: a link that leads nowhere, or to what has no content; it calls the file `shown`.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise _broken(shown, os.readlink(path))
    real = Path(os.path.realpath(path))
    if not real.is_file():
        raise TargetKindError(f"{shown} leads to {real}, a pipe, socket or device, which has no content. Remove it.")
    _replace(path, lambda new: copying.copy_file(real, Path(new)))


def _replace(path: str, make: Callable[[str], None]) -> None:
    """Put something new in the place of a file or link of a stage, which is not seen elsewhere."""
    new = os.path.join(os.path.dirname(path), f"{STAGING}-{secrets.token_hex(8)}")
    make(new)
    os.unlink(path)
    os.rename(new, path)


def as_downloaded(root: str) -> None:
    """Make a folder that was uploaded what a download of its keys gives: no links, no empty folders, usual modes."""
    mask = atomic.current_umask()
    folders, waiting = [], [root]
    while waiting:
        folders.append(folder := waiting.pop())
        for entry in copying.entries(folder):
            if entry.is_symlink():
                own_written(entry.path, entry.path)
            mode = os.lstat(entry.path).st_mode
            usual = (0o777 if stat.S_ISDIR(mode) else 0o666) & ~mask
            if stat.S_IMODE(mode) != usual:
                os.chmod(entry.path, usual)
            if stat.S_ISDIR(mode):
                waiting.append(entry.path)
    for folder in reversed(folders[1:]):
        with contextlib.suppress(OSError):  # there is something in it
            os.rmdir(folder)

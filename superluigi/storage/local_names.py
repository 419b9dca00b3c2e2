"""Keys, and names of tasks, as names of local files: the same ones wherever that is possible, unique always."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence

from superluigi.errors import TransferError
from superluigi.storage.local.stages import staging

LONGEST_NAME = 240  # ext4 and xfs allow 255 bytes; the rest is for our suffixes
_LONGEST_PATH = 1500  # bytes of a key; PATH_MAX is 4096, and the root and our own folders come before it
ODD = "%~"  # begins every name that is not the key's own


def safe_component(part: str) -> str:
    """One part of a key as a file name: itself wherever that is possible, unique always."""
    if (special := {"": "empty", ".": "dot", "..": "dotdot"}.get(part)) is not None:
        return ODD + special
    if len(os.fsencode(part)) > LONGEST_NAME or "\0" in part:
        digest = hashlib.sha256(os.fsencode(part)).hexdigest()[:16]
        suffix = re.search(r"(\.[A-Za-z0-9_-]{1,12}){0,3}$", part)  # it says the format
        return f"{ODD}{re.sub(r'[^A-Za-z0-9_.-]', '_', part[:100])}~{digest}{suffix[0] if suffix else ''}"
    return f"{ODD}is{part}" if part.startswith((ODD, staging.STAGING)) else part


def local_name(relative: str) -> str:
    """A key, the part of one after a prefix, or the name of a task's family, as a path that stays below its folder."""
    name = "/".join(map(safe_component, relative.split("/")))
    if len(os.fsencode(name)) <= _LONGEST_PATH:
        return name
    return f"{ODD}long~{hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]}"


def local_names(relatives: Sequence[str]) -> dict[str, str]:
    """All that is below a prefix as relative paths, another one for each key.

    A key that others take for their folder (`a` beside `a/b`) has a name of its own, `%~keya`.

    Raises:
        TransferError: two keys have been made to have one name here.
    """
    folders = {relative[: slash.start()] for relative in relatives for slash in re.finditer("/", relative)}
    names: dict[str, str] = {}
    for relative in relatives:
        name = local_name(relative)
        if relative in folders:
            folder, slash, last = name.rpartition("/")
            name = f"{folder}{slash}{ODD}key{last}"
        names[relative] = name
    if len(set(names.values())) < len(names):
        taken: dict[str, str] = {}
        for relative, name in names.items():
            if taken.setdefault(name, relative) != relative:
                raise _same_name(taken[name], relative)
    return names


def check_apart(root: str, names: Iterable[str]) -> None:
    """Refuse a copy whose file system took two names for one: for many, `A.txt` is `a.txt`.

    Raises:
        TransferError: names both.
    """
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name and os.path.samefile(f"{root}/{other}", f"{root}/{name}"):
            raise _same_name(other, name)


def _same_name(first: str, second: str) -> TransferError:
    return TransferError(
        f"{first!r} and {second!r} cannot lie beside each other on this disk, where they are one name. Read them one "
        "by one, or set SUPERLUIGI_LOCAL_DATA_DIR to a disk that tells them apart."
    )

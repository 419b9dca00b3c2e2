"""Disks that do not tell upper from lower case: there `case.txt` opens `Case.txt`, which may be another's output."""

from __future__ import annotations

import os
import unicodedata

#: Folder -> whether names in it that differ in case only are one; `exists()` looks here before it asks.
folding: dict[str, bool] = {}


def is_plain(folder: str) -> bool:
    """Whether names in `folder` are known to be told apart by case; False where nothing has been asked yet."""
    return folding.get(folder) is False


def folds(folder: str, name: str) -> bool:
    """Whether names in `folder` that differ in case only are one; asked once a folder, of a `name` that is there."""
    if (known := folding.get(folder)) is None:
        swapped = name.swapcase()
        if swapped == name:
            return False  # this name cannot tell
        # inodes do not tell: FUSE gives each spelling its own
        try:
            known = os.path.exists(f"{folder}/{swapped}") and not {name, swapped} <= set(os.listdir(folder))
        except OSError:  # a folder that may not be listed
            known = False
        if len(folding) > 4096:
            folding.clear()
        folding[folder] = known
    return known


def learn(path: str) -> None:
    """Ask now of the folder of `path`, which is there: later questions are then answered without the disk."""
    folder, _, name = path.rpartition("/")
    if folder not in folding:
        folds(folder, name)


def other_name(folder: str, name: str) -> str | None:
    """The entry that a folding disk takes for `name`, if it is called otherwise."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    if name in names:
        return None
    plain = unicodedata.normalize("NFC", name)
    alike = [one for one in names if unicodedata.normalize("NFC", one).casefold() == plain.casefold()]
    if any(unicodedata.normalize("NFC", one) == plain for one in alike):
        return None  # some disks keep the letters of a name in parts
    return next(iter(alike), None)

"""The identity of a task's code, as records keep it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi.lineage import git
from superluigi.lineage.reach import Reached, reached

#: Records stay small: beyond this many parts, those of one module are told together.
MAX_PARTS = 24
_SHORT = 8


def code_identity(task: Any) -> dict[str, Any]:
    """What a record says about the code of a task (an instance or a class).

    Keys: `digest` over the task's class and everything of the user's own code that it reaches, blind to
    comments, formatting and docstrings; `repo` (without credentials), `commit`, `branch`, `dirty`;
    `path` of the source file, relative to the repository; `parts`, a short digest for each function,
    class and constant, so that a later comparison can say which one changed.
    """
    found = _identified(_class_of(task))
    repository = git.state(found.folder) if found.folder is not None else git.NOTHING
    return {
        "digest": {"sha256": found.digest},
        "repo": repository["repo"],
        "commit": repository["commit"],
        "branch": repository["branch"],
        "dirty": repository["dirty"],
        "path": found.path,
        "parts": dict(found.parts),
    }


def code_digest(task: Any) -> str:
    """Only the digest, in hex; asks neither the disk nor git for a class it has seen."""
    return _identified(_class_of(task)).digest


def prime(classes: Iterable[type]) -> None:
    """Read the code of task classes now, so that edits made while they run are not mistaken for what ran."""
    for cls in classes:
        reached(cls)


def changed_parts(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Which functions differ between two `parts`, as words: `clean changed`, `helpers.fit added`."""
    before, after = _comparable(before, after), _comparable(after, before)
    words = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            words.append(f"{name} removed")
        elif name not in before:
            words.append(f"{name} added")
        elif before[name] != after[name]:
            words.append(f"{name} changed")
    return words


def _class_of(task: Any) -> type:
    return task if isinstance(task, type) else type(task)


def _whole(found: Reached) -> str:
    text = "\n".join(f"{name} {digest}" for name, digest in found.parts.items())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class _Identified:
    """What stays the same for a class until one of its modules is reloaded."""

    reached: Reached
    digest: str
    parts: Mapping[str, str]
    #: Of the source file: relative to the repository, if it is in one.
    path: str | None
    folder: str | None


_known: weakref.WeakKeyDictionary[type, _Identified] = weakref.WeakKeyDictionary()


def _identified(cls: type) -> _Identified:
    found = reached(cls)
    known = _known.get(cls)
    if known is None or known.reached is not found:
        file = None if found.file is None else Path(found.file).absolute()
        root = None if file is None else git.root_of(str(file.parent))
        path = None if file is None else str(file.relative_to(root) if root else file)
        folder = None if file is None else str(file.parent)
        known = _known[cls] = _Identified(found, _whole(found), _short_parts(found.parts), path, folder)
    return known


def _short_parts(parts: Mapping[str, str]) -> dict[str, str]:
    if len(parts) > MAX_PARTS:
        parts = _grouped(parts, keep=lambda group: group == "")
    if len(parts) > MAX_PARTS:
        parts = _grouped(parts, keep=lambda group: False)
    if len(parts) > MAX_PARTS:
        parts = {"*": _together(parts)}
    return {name: digest[:_SHORT] for name, digest in parts.items()}


def _grouped(parts: Mapping[str, str], keep: Any) -> dict[str, str]:
    groups: dict[str, dict[str, str]] = {}
    for name, digest in parts.items():
        groups.setdefault(name.rpartition(".")[0], {})[name] = digest
    result: dict[str, str] = {}
    for group, members in groups.items():
        if keep(group) or len(members) == 1:
            result.update(members)
        else:
            result[f"{group}.*" if group else "*"] = _together(members)
    return dict(sorted(result.items()))


def _together(parts: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {digest[:_SHORT]}\n" for name, digest in parts.items()).encode()).hexdigest()


def _comparable(parts: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Fold single parts into the groups that the other side has, so that only real changes differ."""
    folded = dict(parts)
    for group in (name for name in other if name.endswith("*") and name not in parts):
        prefix = group[:-1]
        members = {name: digest for name, digest in sorted(folded.items()) if name.startswith(prefix)}
        if members:
            folded = {name: digest for name, digest in folded.items() if name not in members}
            folded[group] = _together(members)
    return folded

"""The identity of a task's code, as records keep it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from superluigi.jsonable import Shared
from superluigi.lineage.code_fingerprint import git
from superluigi.lineage.code_fingerprint.code_parts import shortened
from superluigi.lineage.code_fingerprint.reach import CodeDependencies, reached, reached_by_checks


def code_identity(task: object) -> dict[str, object]:
    """What a record says about the code of a task (an instance or a class).

    Keys: `digest` over the task's class and everything of the user's own code that it reaches, blind to
    comments, formatting and docstrings; `repo` (without credentials), `commit`, `branch`, `dirty`;
    `path` of the source file, relative to the repository; `parts`, a short digest for each function,
    class and constant, so that a later comparison can say which one changed; `checks`, the digest over what its
    checks reach, if it has any: that is no part of the first.
    """
    found = _identified(_class_of(task))
    repository = git.state(found.folder) if found.folder is not None else git.NOTHING
    told = found.told
    if told is None or told[0] is not repository:
        told = found.told = (
            repository,
            Shared(
                digest={"sha256": found.digest},
                repo=repository["repo"],
                commit=repository["commit"],
                branch=repository["branch"],
                dirty=repository["dirty"],
                path=found.path,
                parts=dict(found.parts),
                **({} if found.by_checks is None else {"checks": {"sha256": _whole(found.by_checks)}}),
            ),
        )
    return told[1]


def code_digest(task: object) -> str:
    """Only the digest, in hex; asks neither the disk nor git for a class it has seen."""
    return _identified(_class_of(task)).digest


def checks_digest(task: object) -> str | None:
    """The digest over the checks of a task and all that they reach, in hex; None if it has no checks."""
    found = reached_by_checks(_class_of(task))
    return None if found is None else _whole(found)


def prime(classes: Iterable[type]) -> None:
    """Read the code of task classes now, so that edits made while they run are not mistaken for what ran."""
    for cls in classes:
        reached(cls)
        reached_by_checks(cls)


def code_parts(task: object) -> Mapping[str, str]:
    """The digest of every function, class and constant that is reached, in full."""
    return reached(_class_of(task)).parts


def _class_of(task: object) -> type:
    return task if isinstance(task, type) else type(task)


def _whole(found: CodeDependencies) -> str:
    text = "\n".join(f"{name} {digest}" for name, digest in found.parts.items())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class _Identified:
    """What stays the same for a class until one of its modules is reloaded."""

    reached: CodeDependencies
    digest: str
    parts: Mapping[str, str]
    #: Of the source file: relative to the repository, if it is in one.
    path: str | None
    folder: str | None
    by_checks: CodeDependencies | None = None
    #: What was said of it last, and of which state of the repository.
    told: tuple[Mapping[str, object], Shared] | None = None


_known: weakref.WeakKeyDictionary[type, _Identified] = weakref.WeakKeyDictionary()


def _identified(cls: type) -> _Identified:
    found, by_checks = reached(cls), reached_by_checks(cls)
    known = _known.get(cls)
    if known is None or known.reached is not found or known.by_checks is not by_checks:
        file = None if found.file is None else Path(found.file).absolute()
        root = None if file is None else git.root_of(str(file.parent))
        path = None if file is None else str(file.relative_to(root) if root else file)
        folder = None if file is None else str(file.parent)
        known = _known[cls] = _Identified(found, _whole(found), shortened(found.parts), path, folder, by_checks)
    return known

"""Which queues there are, and which tasks of one are meant."""

from __future__ import annotations

import fnmatch
import getpass
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import luigi

from superluigi import config
from superluigi.errors import OptionError
from superluigi.queue import models
from superluigi.queue.models import Submission, TaskRow
from superluigi.queue.store.queue_url import SUFFIX

Which = Any  # a task, its id, a row, a submission, or an iterable of these


def names(pattern: str = "*") -> Iterator[tuple[str, Path]]:
    """Named queues (SQLite files in the folder of queues) that match: `(name, file)`, sorted.

    `*` also matches across folders; `user/name` means the same as `name` for one's own.
    """
    folder: Path = config.get("queue_dir")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = str(os.getuid())
    for file in sorted(folder.rglob(f"*{SUFFIX}")):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f"{user}/{name}", pattern):
            yield name, file


def state_named(state: str | None) -> str | None:
    if state is not None and state not in models.SHOWN:
        raise OptionError(f"{state!r} is no state.{config.suggestion(state, models.SHOWN)} {', '.join(models.SHOWN)}.")
    return state


def ids_of(which: Sequence[Which]) -> list[str] | None:
    """The task ids that are meant; None for no condition."""
    if not which:
        return None
    found: list[str] = []
    for item in which:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, luigi.Task):
            found.append(item.task_id)
        elif isinstance(item, TaskRow):
            found.append(item.id)
        elif isinstance(item, Submission):
            found.extend(sorted(item.ids))
        elif isinstance(item, Iterable):
            found.extend(ids_of(list(item)) or ())
        else:
            raise OptionError(f"{item!r} is neither a task, its id, a row, nor several of these.")
    return list(dict.fromkeys(found))

"""What must be true of a stage when the work is done: one output in it, whole, and nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path

from superluigi.errors import OutputNotWrittenError, UnfinishedOutputError
from superluigi.storage.base import lost_stage
from superluigi.storage.local.stages import open_files

_SHOWN = 5
#: What the names that some libraries leave beside a file mean, by their ends.
_REMEDIES = {
    ("-wal", "-shm", "-journal", ".wal"): "Close the database (`connection.close()`) before `run` ends",
    (".shx", ".dbf", ".prj", ".cpg"): "A shapefile is several files: make the output a folder",
}
_USUAL_REMEDY = "Remove what is no output, or make the output a folder (or prefix) and write all into it"


def check_alone(path: Path, uri: str) -> None:
    """Refuse a stage that holds something beside the output `path`: it would be lost.

    Raises:
        UnfinishedOutputError: names what lies there, and what to do.
    """
    found = beside(path)
    if found:
        remedies = [text for ends, text in _REMEDIES.items() if any(name.endswith(ends) for name in found)]
        raise UnfinishedOutputError(
            f"Beside output_path for {uri} lies {_named(found)}, which would be lost. "
            f"{'. '.join(remedies or [_USUAL_REMEDY])}."
        )


def check_written(stage: Path | str, uri: str, only: Path | None = None) -> None:
    """Refuse a stage with a file that this process still has open for writing, and whose bytes are not all there.

    `only` is the one file in it, if there is just one.

    Raises:
        UnfinishedOutputError: names the files.
    """
    if only is not None and open_files.surely_closed(only):
        return
    names = open_files.unwritten(str(stage))
    if names:
        raise UnfinishedOutputError(
            f"This process still has {_named([name.removeprefix('output/') for name in names])} open for writing, and "
            f"not all bytes are written: the output {uri} would be a part. Close it before `run` ends, best by "
            "`with open(…) as file:` (or the like of the library that writes it)."
        )


def not_written(path: Path, uri: str) -> OutputNotWrittenError:
    """The error for a stage without an output."""
    if why := lost_stage(path, uri):
        return OutputNotWrittenError(why)
    found = beside(path)
    hint = f" Found {_named(found)} beside it: some writers add a suffix." if found else ""
    return OutputNotWrittenError(
        f"Nothing was written to output_path for {uri}.{hint} Write the result to output_path, or return a value."
    )


def beside(path: Path) -> list[str]:
    """The names of what else lies in a stage."""
    try:
        return sorted(name for name in os.listdir(os.path.dirname(path)) if name != path.name)
    except FileNotFoundError:
        return []


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more

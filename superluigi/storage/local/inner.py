"""Outputs of other tasks inside a folder or prefix: replacing or removing the whole leaves them alone.

They are known by their records, whose names end alike. A record inside may also be content: written by the task
through a target of ours into its stage, or copied there from elsewhere. One that was put there by `metadata_path`, of
data that may be anywhere, is called as its task likes: it is known by how it begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from superluigi.errors import OutputClashError
from superluigi.storage.base import PENDING_SUFFIX, RECORD_SUFFIX, record_in
from superluigi.storage.local.stages.staging import is_ours

_SHOWN = 5


def candidates(names: Iterable[str], own: Iterable[str] = ()) -> list[str]:
    """Those paths or keys that are called like records, or records of commits under way, and are not `own`."""
    passed = set(own)
    return [name for name in names if name.removesuffix(PENDING_SUFFIX).endswith(RECORD_SUFFIX) and name not in passed]


#: How `record_text` begins.
BEGINNING = b'{\n"schema": "superluigi.lineage/'


def refuse(
    action: str,
    uri: str,
    inside: Iterable[str],
    read: Callable[[str], bytes | None],
    is_member: Callable[[str], bool],
    strangers: Iterable[str] = (),
) -> None:
    """Refuse to replace or remove `uri` while records of other tasks are among `inside`.

    `inside` are addresses that `candidates` has chosen; `is_member` says whether one of them is content of the output
    as its own record describes it. `strangers` are others that are no content, and may be records kept there of data
    elsewhere.

    Raises:
        OutputClashError: names what is there. Nothing was touched.
    """
    found: list[str] = []
    for address in inside:
        text = read(address)
        record = None if text is None else _parsed(text)
        output = None if record is None else _output(record)
        if record is not None and output is not None and not _is_content(address, output, is_member):
            family = record.get("task_id") or record.get("task_family") or "a task without a name"
            found.append(f"{_described(address)} of {family}")
    for address in strangers:
        text = read(address)
        record = _parsed(text) if text is not None and text.startswith(BEGINNING) else None
        output = None if record is None else _output(record)
        if record is not None and output is not None and _is_the_only_one(str(output["path"]), uri, read):
            found.append(f"{address}, the record of {output['path']} of {record.get('task_id') or 'another task'}")
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise OutputClashError(
            f"Cannot {action} {uri}: outputs of other tasks, or their records, are inside it and would go with it: "
            f"{', '.join(found[:_SHOWN])}{more}. Nothing was changed. Give the tasks places beside each other, or "
            "remove those outputs first."
        )


def _parsed(text: bytes) -> Mapping[str, object] | None:
    try:
        record = record_in(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _output(record: Mapping[str, object]) -> Mapping[str, object] | None:
    output = record.get("output")
    return output if isinstance(output, dict) and isinstance(output.get("path"), str) else None


def _is_content(address: str, output: Mapping[str, object], is_member: Callable[[str], bool]) -> bool:
    """Whether a record is there because the owner of the whole put it there."""
    path = str(output["path"])
    if any(is_ours(part) for part in path.split("/")):
        return True  # it describes what was in a stage
    return plain_address(path) != plain_address(_described(address)) and is_member(address)


def _is_the_only_one(path: str, around: str, read: Callable[[str], bytes | None]) -> bool:
    """Whether what is at `path` would have no record without the one that was found in `around`."""
    if plain_address(path) == plain_address(around) or any(is_ours(part) for part in path.split("/")):
        return False  # it was its own, or it describes what was in a stage
    if "://" not in path and not os.path.lexists(path):
        return False  # what it describes is gone
    return read(path.rstrip("/") + RECORD_SUFFIX) is None


def plain_address(path: str) -> str:
    """One spelling of a path, links followed, or of a URI."""
    return path.rstrip("/") if "://" in path else os.path.realpath(path)


def _described(address: str) -> str:
    """The output that is beside a record, or around it."""
    return address.removesuffix(PENDING_SUFFIX).removesuffix(RECORD_SUFFIX).rstrip("/")

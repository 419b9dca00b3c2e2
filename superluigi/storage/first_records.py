"""Records of the first `super-luigi` package, told in our terms where they describe the data that is there.

They have no `schema`; a file is named by its MD5, a folder by those of its files, what is on S3 by ETags, and the
records of inputs stand in them whole. A prefix with many objects names none: what is there is taken as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from superluigi.storage.base import Record

SCHEMA = "super-luigi"


def is_first(record: Mapping[str, object]) -> bool:
    """Whether the first package has written `record`: ours say `digest` or `commit` of their output."""
    output = record.get("output")
    return isinstance(output, dict) and "type" in output and not {"digest", "commit"} & output.keys()


def is_foreign(record: Mapping[str, object]) -> bool:
    """Whether `record` describes no output in our terms, whatever program wrote it."""
    return not isinstance(record.get("output"), dict) or is_first(record)


def translated(record: Mapping[str, object], output: Mapping[str, object]) -> Record:
    """`record` with `output` as we describe it, and references in place of whole records of inputs."""
    kept = {key: value for key, value in record.items() if key not in ("schema", "input", "output")}
    return {"schema": SCHEMA, **kept, "input": _references(record.get("input")), "output": dict(output)}


def is_of_file(record: Mapping[str, Any], path: Path) -> bool:
    """Whether `record` describes the file at `path`; reads it whole."""
    return bool(_md5(path) == record["output"].get("md5_hash"))


def is_of_folder(record: Mapping[str, Any], path: Path, hidden: Set[str]) -> bool:
    """Whether `record` describes exactly the files in the folder at `path`, `hidden` aside; reads them whole."""
    contents = record["output"].get("contents")
    if not _is_list_of_dicts(contents):
        return False
    named = {item.get("path"): item.get("md5_hash") for item in contents}
    there = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    return named.keys() == there.keys() - hidden and all(_md5(there[name]) == named[name] for name in named)


def is_of_prefix(record: Mapping[str, Any], there: Iterable[tuple[str, int, str | None]]) -> bool:
    """Whether `record` describes exactly `there`: key below the prefix, size, ETag without quotes."""
    if (contents := record["output"].get("contents")) is None:
        return True
    if not _is_list_of_dicts(contents):
        return False
    return {(item.get("key"), item.get("size"), plain(item.get("etag"))) for item in contents} == set(there)


def plain(etag: object) -> str:
    """An ETag without the quotes that the first package kept."""
    return str(etag).strip('"')


def _md5(path: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _is_list_of_dicts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _references(structure: object) -> object:
    if isinstance(structure, dict):
        output = structure.get("output")
        if isinstance(output, dict) and "path" in output:
            named = {key: output[key] for key in ("type", "path", "size") if key in output}
            if "etag" in output:
                named["etag"] = plain(output["etag"])
            return {**named, **{key: structure[key] for key in ("task_id", "task_hash") if key in structure}}
        return {key: _references(value) for key, value in structure.items()}
    return [_references(value) for value in structure] if isinstance(structure, list) else structure

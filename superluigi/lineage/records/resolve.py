"""From what users and records call an output (a path, an `s3://` address, a target) to its location."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from superluigi.arguments import Takes, can_be_named
from superluigi.errors import OptionError, RecordError
from superluigi.lineage.records.record_io import read_json, validate
from superluigi.storage.base import PENDING_SUFFIX, RECORD_SUFFIX, Location
from superluigi.storage.input_lists import InputList, is_reference

Reference = Mapping[str, Any]
S3 = "s3://"


def _is_place(value: Any) -> bool:
    path = getattr(value, "path", value)
    is_target = isinstance(getattr(value, "location", None), Location)
    return is_target or (isinstance(path, (str, os.PathLike)) and bool(os.fspath(path)) and can_be_named(path))


Place = Annotated[Any, Takes("a path, an s3:// address or a target", _is_place)]


def is_s3(path: str) -> bool:
    return path.startswith(S3)


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` address."""
    from superluigi.storage.objects.s3.s3_errors import split

    bucket, key = split(uri)
    if not bucket:
        raise OptionError(f"{uri!r} names no bucket. Write s3://bucket/key.")
    return bucket, key or ""


def path_of(text: str) -> Path:
    """The absolute path that is meant, without `..` unless one follows a link: there the system goes another way."""
    path = Path(os.path.expanduser(text)).absolute()
    short = os.path.normpath(path)
    return path if ".." in path.parts and os.path.realpath(path) != os.path.realpath(short) else Path(short)


def location_of(place: Any) -> Location:
    """The location of a target, a path or an `s3://` address; the address of a record stands for its output.

    Without a record to tell, a local path is a file or folder as it is found; an S3 address with a slash
    at its end is a prefix, another one an object if there is one, else a prefix.

    Raises:
        RecordError: a record of data that cannot be.
    """
    location = getattr(place, "location", None)
    if isinstance(location, Location):
        return location
    text = os.fspath(getattr(place, "path", place))
    if not is_s3(text):
        return _local(path_of(text))
    return beside(text) if text.endswith(RECORD_SUFFIX) else _some_s3(text)


def beside(record: str) -> Location:
    """What is beside a record, or around it, whatever the record says; a folder or prefix if there is one."""
    if not is_s3(record):
        return _local_beside(Path(record))
    plain = record.removesuffix(RECORD_SUFFIX)
    return _s3(plain, "S3PrefixTarget", record) if plain.endswith("/") else _some_s3(plain)


def _local_beside(record: Path) -> Location:
    from superluigi.targets.local import LocalFileTarget, LocalFolderTarget

    if record.name == RECORD_SUFFIX:
        return LocalFolderTarget(record.parent, metadata_inside_folder=True).location
    path = record.with_name(record.name.removesuffix(RECORD_SUFFIX))
    return LocalFolderTarget(path).location if path.is_dir() else LocalFileTarget(path).location


def location_at(path: str, kind: str | None, record_path: str | None, like: Location | None = None) -> Location:
    """The location that a record's reference names: `path`, `type` and `metadata_path`.

    Records hold no credentials and endpoints: on S3 those of `like` are used, where it is on S3 too, else
    those of the AWS chain.
    """
    if kind is None or not _is_ours(kind):
        return location_of(path)
    from superluigi import targets

    if not is_s3(path):
        if kind == "LocalFolderTarget":
            return targets.LocalFolderTarget(path, metadata_path=record_path, external=record_path is None).location
        return targets.LocalFileTarget(path, metadata_path=record_path).location
    return _s3(path, kind, record_path, like)


def _is_ours(kind: str) -> bool:
    return kind in ("LocalFileTarget", "LocalFolderTarget", "S3ObjectTarget", "S3PrefixTarget")


def _local(path: Path) -> Location:
    from superluigi.targets.local import LocalFileTarget, LocalFolderTarget

    name = path.name.removesuffix(PENDING_SUFFIX)
    if name == RECORD_SUFFIX:
        return LocalFolderTarget(path.parent, metadata_inside_folder=True).location
    if name.endswith(RECORD_SUFFIX):
        return _described_by(path.with_name(name))
    if path.is_dir():
        beside = os.path.exists(f"{path}{RECORD_SUFFIX}")  # not `with_name`: "/" has none; Path's own may raise
        inside = not beside and os.path.exists(f"{path}/{RECORD_SUFFIX}")
        return LocalFolderTarget(path, metadata_inside_folder=inside, external=not (beside or inside)).location
    return LocalFileTarget(path).location


def _described_by(record_path: Path) -> Location:
    """The output of a record file: the one beside it, else where the record itself says."""
    name = record_path.name.removesuffix(RECORD_SUFFIX)
    if name in (".", ".."):
        raise RecordError(f"{record_path} is the record of nothing: no data can be called {name!r}. Remove it.")
    beside = record_path.with_name(name)
    try:
        output = validate(read_json(record_path) or {}).get("output") or {}
    except RecordError:
        output = {}  # reading the record through the location will say so
    if output and not beside.exists() and Path(str(output.get("path"))).name != beside.name:
        return location_at(str(output["path"]), output.get("type"), str(record_path))
    return location_at(str(beside), output.get("type") or ("LocalFolderTarget" if beside.is_dir() else None), None)


def _some_s3(uri: str) -> Location:
    found = [] if uri.endswith("/") else [_s3(uri, "S3ObjectTarget")]
    prefix = f"{uri.rstrip('/')}/"
    found += [_s3(prefix, "S3PrefixTarget"), _s3(prefix, "S3PrefixTarget", prefix + RECORD_SUFFIX)]
    return next((location for location in found if location.exists()), found[0])


def _s3(uri: str, kind: str, record_uri: str | None = None, like: Location | None = None) -> Location:
    from superluigi import targets

    bucket, key = split_s3(uri)
    options = _client_options(like)
    if record_uri is not None:
        options["metadata_bucket"], options["metadata_object_key"] = split_s3(record_uri)
    if kind == "S3PrefixTarget":
        return targets.S3PrefixTarget(bucket, key, **options).location
    return targets.S3ObjectTarget(bucket, key, **options).location


def _client_options(like: Location | None) -> dict[str, Any]:
    options = getattr(getattr(like, "place", None), "options", None)
    if options is None:
        return {}
    return {**dict(options.items), **({"role_arn": options.role_arn} if options.role_arn else {})}


def references(structure: Any) -> Iterator[Reference]:
    """All input references of a record's `input`, whatever its shape; of a list in a file of its own one by one.

    Raises:
        RecordError: such a list is gone.
    """
    if is_reference(structure):
        linked = isinstance(structure.get("metadata_path", ""), (str, type(None)))
        yield structure if linked else {key: value for key, value in structure.items() if key != "metadata_path"}
    elif isinstance(structure, InputList):
        for value in structure.parts():
            yield from references(value)
    elif isinstance(structure, Mapping):
        for value in structure.values():
            yield from references(value)
    elif isinstance(structure, (list, tuple)):
        for value in structure:
            yield from references(value)


class Moved:
    """Translates paths inside records when a whole tree of outputs lies elsewhere than it was made.

    Learned from one output: where its record says it is, and where it was found.
    """

    def __init__(self, recorded: str, found: str) -> None:
        old, new = recorded.rstrip("/").split("/"), found.rstrip("/").split("/")
        while old and new and old[-1] == new[-1]:
            old.pop()
            new.pop()
        self.old, self.new = "/".join(old), "/".join(new)

    def __call__(self, path: str) -> str:
        if self.old == self.new or not (path.startswith(self.old + "/") or not self.old):
            return path
        return self.new + path[len(self.old) :]

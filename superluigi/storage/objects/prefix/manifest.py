"""What is under an S3 prefix: members, their digest, the manifest that names them all; pure but for `read`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from superluigi import graph
from superluigi.errors import RecordError
from superluigi.storage.base import Record, parsed
from superluigi.storage.objects.store import ObjectStore

#: Between the record's key and the commit id in the key of a manifest.
MANIFEST = ".contents."


@dataclass(frozen=True)
class Manifest:
    """One object of a prefix as the record names it; `sha256` is None for data made by others."""

    key: str
    size: int
    etag: str | None = None
    sha256: str | None = None

    def as_json(self) -> Record:
        known: Record = {"key": self.key, "size": self.size}
        if self.sha256:
            known["digest"] = {"sha256": self.sha256}
        if self.etag:
            known["etag"] = self.etag
        return known

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Manifest:
        return cls(item["key"], item["size"], item.get("etag"), (item.get("digest") or {}).get("sha256"))


def output_of(kind: str, uri: str, contents: Sequence[Manifest], commit: str | None, limit: int) -> Record:
    """The `output` part of a record; digest and count cover all contents, `contents` the first `limit`."""
    ordered = sorted(contents, key=lambda item: item.key)
    return {
        "type": kind,
        "path": uri,
        "size": sum(item.size for item in ordered),
        "count": len(ordered),
        "digest": {"sha256": digest_of(ordered)},
        **({"commit": commit} if commit else {}),
        "contents": [item.as_json() for item in ordered[:limit]],
    }


def digest_of(contents: Iterable[Manifest]) -> str:
    """Hex SHA-256 of the list of key, size and SHA-256 (for data made by others: ETag), sorted by key."""
    ordered = sorted(contents, key=lambda item: item.key)
    return graph.digest(
        [{"key": item.key, "size": item.size, "digest": item.sha256 or f"etag {item.etag}"} for item in ordered]
    )


def manifest_key(record_key: str, commit: str) -> str:
    return f"{record_key}{MANIFEST}{commit}"


def is_cut(output: Mapping[str, Any]) -> bool:
    """Whether the record does not name all contents, so that there is a manifest which does."""
    return len(output.get("contents", ())) < int(output.get("count", 0))


def to_bytes(contents: Iterable[Manifest]) -> bytes:
    ordered = sorted(contents, key=lambda item: item.key)
    return b"".join(json.dumps(item.as_json(), ensure_ascii=False).encode() + b"\n" for item in ordered)


def read(
    s3: ObjectStore, bucket: str, record_key: str, output: Mapping[str, Any], options: Mapping[str, object]
) -> list[Manifest] | None:
    """All that a record's `output` names; None if its manifest is gone, because another commit replaced it.

    Raises:
        RecordError: the manifest cannot be read.
    """
    key = record_key
    try:
        if not is_cut(output):
            return [Manifest.from_json(item) for item in output.get("contents", ())]
        key = manifest_key(record_key, str(output.get("commit")))
        if (found := s3.get(bucket, key, options)) is None:
            return None
        return [Manifest.from_json(parsed(line)) for line in found[0].splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"s3://{bucket}/{key} is not readable ({error}). Make the output again.") from error

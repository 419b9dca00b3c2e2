"""S3 as an object store: each request of the contract by one of the functions of this package."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from superluigi.storage.objects.s3 import capabilities, client, download, transfer, upload
from superluigi.storage.objects.s3.client import S3Client
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.store import (
    ConditionalWrites,
    Head,
    ListedObject,
    ObjectEntry,
    ObjectStore,
    Options,
    PendingUpload,
    Progress,
    PutResult,
    WriteCondition,
)


def opened(options: S3Options) -> S3Store:
    """The store over the shared client for `options` and what is around this process now."""
    return S3Store(client.client(options))


@dataclass(frozen=True)
class S3Store(ObjectStore):
    """What one client reaches."""

    client: S3Client

    @property
    def pid(self) -> int:  # type: ignore[override]  # read only
        return self.client.pid

    @property
    def seen(self) -> dict[tuple[Hashable, ...], float]:  # type: ignore[override]  # read only
        return self.client.seen

    @property
    def namespace(self) -> str:
        return self.client.namespace

    @property
    def now(self) -> datetime | None:
        return self.client.now

    @property
    def in_order(self) -> bool:
        return self.client.in_order

    def saw_order(self) -> None:
        self.client.seen_in_order = True

    def is_renewed_by(self, other: ObjectStore) -> bool:
        return isinstance(other, S3Store) and self.client.is_renewed_by(other.client)

    def conditional_writes(self, bucket: str, key: str, root: Path) -> ConditionalWrites:
        return capabilities.conditional_writes(self.client, bucket, key, root)

    def head(self, bucket: str, key: str, options: Options) -> Head | None:
        return transfer.head(self.client, bucket, key, options)

    def get(self, bucket: str, key: str, options: Options) -> tuple[bytes, Head] | None:
        return transfer.get_bytes(self.client, bucket, key, options)

    def read(self, bucket: str, key: str, options: Options) -> Iterator[bytes]:
        return download.blocks(self.client, bucket, key, options)

    def put(self, bucket: str, key: str, body: bytes, condition: WriteCondition | None, options: Options) -> PutResult:
        return transfer.put_bytes(self.client, bucket, key, body, condition, options)

    def delete_if(self, bucket: str, key: str, etag: str, options: Options) -> None:
        transfer.delete_if(self.client, bucket, key, etag, options)

    def delete_versions(self, bucket: str, key: str) -> None:
        transfer.delete_versions(self.client, bucket, key)

    def list(
        self, bucket: str, prefix: str, options: Options, *, start_after: str = "", page_size: int | None = None,
        pages: int | None = None, names_only: bool = False,
    ) -> Iterator[ListedObject]:  # fmt: skip
        more: dict[str, object] = {"StartAfter": start_after} if start_after else {}
        if page_size is not None:
            more["MaxKeys"] = page_size
        return transfer.listing(self.client, bucket, prefix, options, pages=pages, names_only=names_only, **more)

    def delete(self, bucket: str, keys: Iterable[str], options: Options) -> None:
        transfer.delete_many(self.client, bucket, keys, options)

    def copy(
        self, bucket: str, pairs: Sequence[tuple[str, str, int]], options: Options, source_bucket: str | None = None
    ) -> dict[str, PutResult]:
        return transfer.copy_many(self.client, bucket, pairs, options, source_bucket)

    def copies_in_parts(self, size: int) -> bool:
        return size >= transfer.COPIED_AT_ONCE

    def part_size(self, size: int) -> int | None:
        return upload.part_size(size) if size > transfer.SINGLE_LIMIT else None

    def upload(
        self, bucket: str, entry: ObjectEntry, metadata: Mapping[str, str], options: Options, progress: Progress | None,
        pieces: Sequence[int] = (),
    ) -> upload.S3Upload:  # fmt: skip
        return upload.S3Upload(self.client, bucket, entry, metadata, options, progress, pieces)

    def upload_many(
        self, bucket: str, entries: Sequence[ObjectEntry], metadata: Mapping[str, str], options: Options,
        condition: WriteCondition | None = None, progress: Progress | None = None,
    ) -> dict[str, PutResult]:  # fmt: skip
        return upload.upload_many(self.client, bucket, entries, metadata, options, condition, progress)

    def download(self, bucket: str, entry: ObjectEntry, options: Options, progress: Progress | None) -> None:
        download.download(self.client, bucket, entry, options, progress)

    def download_many(
        self, bucket: str, entries: Sequence[ObjectEntry], options: Options, progress: Progress | None = None
    ) -> None:
        download.download_many(self.client, bucket, entries, options, progress)

    def uploads(self, bucket: str, prefix: str) -> Iterator[PendingUpload]:
        return transfer.uploads(self.client, bucket, prefix)

    def last_part(self, bucket: str, upload: PendingUpload) -> datetime:
        return transfer.last_part(self.client, bucket, upload)

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        transfer.abort_upload(self.client, bucket, key, upload_id)

"""Outputs on S3 and servers that speak its protocol: names and arguments only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import luigi.target

from superluigi import renamed
from superluigi.arguments import Bytes, NotNegative, guarded
from superluigi.errors import OptionError, StorageAccessError
from superluigi.storage.base import RECORD_SUFFIX
from superluigi.storage.objects.location import S3Address
from superluigi.storage.objects.object import ObjectLocation
from superluigi.storage.objects.prefix.prefix_location import PrefixLocation
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.s3.s3_errors import split
from superluigi.storage.objects.s3.store import opened
from superluigi.storage.objects.store import is_key
from superluigi.targets.addresses import hint_for_path, meant
from superluigi.targets.base import AtomicTarget, LuigiFormat, StreamTarget, contents_limit
from superluigi.targets.s3_system import S3System


class _S3Target(AtomicTarget):
    """What targets on S3 have besides the template: a local copy."""

    location: ObjectLocation | PrefixLocation

    def _set_paths(self) -> None:
        self.path, self.metadata_path = self.location.uri, self.location.record_uri
        if self.path == self.metadata_path:
            raise OptionError(f"The record's place is that of the data itself: {self.path}. Choose another one for it.")

    @property
    def local_path(self) -> Path:
        """Where the local copy is, or would be."""
        return self.location.local_path

    @property
    def local_root(self) -> Path:
        """The folder of all local copies."""
        return self.location.local_root

    @property
    def metadata_bucket(self) -> str:
        """The bucket of the record."""
        return self.location.place.record_bucket

    @property
    def metadata_object_key(self) -> str:
        """The record's key."""
        return self.location.place.record_key

    def download(self, force_local_download: bool = False) -> Path:
        """Make sure that the local copy is what the store holds now; its path.

        Raises:
            TargetMissingError: the target does not exist.
            StorageAccessError: no local copy can be kept; names the setting.
        """
        with self.location.local_copy(shared=True, refresh=force_local_download) as path:
            pass
        if not path.exists():
            root = self.location.local_root
            raise StorageAccessError(
                f"The local copy of {self.path} cannot be kept in {root}. Free some space there, or name another "
                "folder in SUPERLUIGI_LOCAL_DATA_DIR (or local_root); tmp_read_path() works without."
            )
        return path


@guarded(hint=hint_for_path)
class S3ObjectTarget(_S3Target, StreamTarget, luigi.target.FileSystemTarget):
    """One object; replaced by one request.

    Args:
        bucket, object_key: where the data is; the bucket may be the ARN of an access point.
        metadata_bucket, metadata_object_key: where its record is; beside it, as `<key>.metadata.json`, by default.
        local_root: where local copies go; setting `local_data_dir` by default.
        cache_limit_bytes, cache_min_free_bytes: what the copies there may take and must leave free when this target
            adds one; the settings of these names by default.
        external: the data is made by others: a prefix is then there without a record, too.
        format: Luigi's format for `open`.
        put_options, get_options: further arguments of PutObject (`ServerSideEncryption`, `SSEKMSKeyId`, `ACL`,
            `StorageClass`, `Tagging`, …) and GetObject (`RequestPayer`, `VersionId`, …).
        progress: called with numbers of bytes while they move, from several threads.
        client_options: keywords of `boto3.client("s3", …)` (`endpoint_url`, `region_name`, keys, `profile_name`,
            `config`, …), `role_arn` of a role to assume, `anonymous=True` to sign nothing (public buckets).
    """

    location: ObjectLocation

    def __init__(
        self,
        bucket: str,
        object_key: str = "",  # so that S3ObjectTarget("s3://…") hears what to write
        metadata_bucket: str | None = None,
        metadata_object_key: str | None = None,
        local_root: str | os.PathLike[str] | None = None,
        *,
        format: LuigiFormat = None,
        put_options: Mapping[str, object] | None = None,
        get_options: Mapping[str, object] | None = None,
        progress: Callable[[int], None] | None = None,
        cache_limit_bytes: Bytes | None = None,
        cache_min_free_bytes: Bytes | None = None,
        external: bool = False,
        **client_options: object,
    ) -> None:
        _check(bucket, object_key, "object_key")
        self.bucket, self.object_key = bucket, object_key
        address = S3Address(
            bucket, object_key, metadata_bucket or bucket, metadata_object_key or object_key + RECORD_SUFFIX,
            S3Options.of(client_options), opened, Path(local_root) if local_root else None,
            dict(put_options or {}), dict(get_options or {}), progress, cache_limit_bytes, cache_min_free_bytes,
        )  # fmt: skip
        self.location = ObjectLocation(address)
        self.location.external = external
        self._set_paths()
        self._set_format(format)

    @property
    def fs(self) -> S3System:
        """Luigi's file system interface."""
        return S3System(self.location.place)


@guarded(hint=hint_for_path)
class S3PrefixTarget(_S3Target):
    """All objects under one prefix; complete only when its commit record is there and names them.

    Args:
        bucket, prefix: where the data is; the slash at the end may be left out.
        metadata_bucket, metadata_object_key: where its record is; `<prefix without slash>.metadata.json` by default.
        metadata_inside_prefix: put the record under the prefix, as `.metadata.json`.
        metadata_contents_limit: how many objects the record lists, None for all of them; digest and count cover all.
        local_root, cache_limit_bytes, cache_min_free_bytes, external: as for `S3ObjectTarget`.
        put_options, get_options, progress, client_options: as for `S3ObjectTarget`.
    """

    is_folder = True
    location: PrefixLocation

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        metadata_bucket: str | None = None,
        metadata_object_key: str | None = None,
        metadata_inside_prefix: bool = False,
        metadata_contents_limit: NotNegative | None = 10,
        local_root: str | os.PathLike[str] | None = None,
        *,
        put_options: Mapping[str, object] | None = None,
        get_options: Mapping[str, object] | None = None,
        progress: Callable[[int], None] | None = None,
        cache_limit_bytes: Bytes | None = None,
        cache_min_free_bytes: Bytes | None = None,
        external: bool = False,
        **client_options: object,
    ) -> None:
        _check(bucket, prefix.strip("/"), "prefix")
        if metadata_inside_prefix and (metadata_object_key or metadata_bucket):
            raise OptionError("Give metadata_object_key (or metadata_bucket) or metadata_inside_prefix=True, not both.")
        self.bucket = bucket
        self.prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        beside = f"{self.prefix[:-1]}{RECORD_SUFFIX}"
        record_key = self.prefix + RECORD_SUFFIX if metadata_inside_prefix else metadata_object_key or beside
        address = S3Address(
            bucket, self.prefix, metadata_bucket or bucket, record_key,
            S3Options.of(client_options), opened, Path(local_root) if local_root else None,
            dict(put_options or {}), dict(get_options or {}), progress, cache_limit_bytes, cache_min_free_bytes,
        )  # fmt: skip
        self.location = PrefixLocation(address, contents_limit(metadata_contents_limit))
        self.location.external = external
        self._set_paths()


def _check(bucket: Any, key: Any, name: str) -> None:
    for text in (bucket, key):
        if (found := meant(text)) is not None and (text is bucket or "://" in text):
            there, rest = found
            raise OptionError(f"{text!r} is an address. Give its parts: bucket {there!r}, {name} {rest or key!r}.")
    address = next((text for text in (bucket, key) if "://" in text), None)
    if address is not None or bucket.startswith(("/", ".", "~")):
        kind = "LocalFileTarget" if name == "object_key" else "LocalFolderTarget"
        raise OptionError(f"{address or bucket!r} is no place on S3. For a local path use {kind}.")
    is_name = bool(bucket) and split(f"s3://{bucket}/k") == (bucket, "k")  # those of access points may have slashes
    if "/" in bucket and not is_name:
        there, _, rest = bucket.partition("/")
        whole = "/".join(filter(None, (rest, key)))
        raise OptionError(f"{bucket!r} is no bucket name. Give its parts: bucket {there!r}, {name} {whole!r}.")
    if not is_name:
        raise OptionError(f"{bucket!r} is no bucket name. Give the bucket without s3:// and the key as {name}.")
    if not key:
        raise OptionError(f"The {name} of a target in bucket {bucket!r} is empty.")
    if not is_key(key):
        raise OptionError(f"{key!r} can be no {name}: a key is text in UTF-8 without NUL. Choose another one.")


def __getattr__(name: str) -> NoReturn:
    renamed.refuse(__name__, name)

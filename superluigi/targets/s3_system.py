"""Luigi's file system interface (`target.fs`) over S3 locations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from luigi.target import FileSystem

from superluigi.errors import OptionError
from superluigi.storage.base import RECORD_SUFFIX, check_name
from superluigi.storage.input_lists import SUFFIX, named_in
from superluigi.storage.objects.location import S3Address
from superluigi.storage.objects.object import ObjectLocation
from superluigi.storage.objects.s3.s3_errors import split


class S3System(FileSystem):
    """Paths are `s3://bucket/key`; options are those of the target it came from."""

    def __init__(self, address: S3Address) -> None:
        self._address = address

    def _split(self, path: str) -> tuple[str, str]:
        bucket, key = split(str(path))
        if not bucket or key is None:
            raise OptionError(f"{path!r} is no S3 address. Write s3://bucket/key.")
        return bucket, key

    def exists(self, path: str) -> bool:
        """Whether an object is at `path`, or any below it."""
        bucket, key = self._split(path)
        s3 = self._address.open(self._address.options)
        if key and not key.endswith("/") and s3.head(bucket, key, self._address.get_options) is not None:
            return True
        return self.isdir(path)

    def isdir(self, path: str) -> bool:
        """Whether any object is below `path`."""
        return next(self._below(path, page_size=1), None) is not None

    def listdir(self, path: str) -> Iterator[str]:
        """The addresses of all objects below `path`."""
        bucket, _ = self._split(path)
        return (f"s3://{bucket}/{key}" for key in self._below(path))

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        """Nothing: S3 has no folders."""

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        """Remove the object at `path` with its record, and with `recursive` all below it."""
        bucket, key = self._split(path)
        address = dataclasses.replace(
            self._address, bucket=bucket, key=key, record_bucket=bucket, record_key=key + RECORD_SUFFIX
        )
        doomed = list(self._below(path)) if recursive else []
        if doomed:
            address.open(address.options).delete(bucket, doomed, address.get_options)
        if key and not key.endswith("/"):
            ObjectLocation(address).remove()

    def move(self, path: str, dest: str) -> None:
        """Copy the object and its record on the server, then remove them."""
        if self._split(path) != self._split(dest):
            self.copy(path, dest)
            self.remove(path, recursive=False)

    rename = move

    def copy(self, path: str, dest: str) -> None:
        """Copy one object, with its record if it has one, on the server; also into another bucket."""
        (bucket, key), (other, new) = self._split(path), self._split(dest)
        if (bucket, key) == (other, new):
            return
        check_name(dest)
        s3 = self._address.open(self._address.options)
        there = s3.head(bucket, key, self._address.get_options)
        record = s3.get(bucket, key + RECORD_SUFFIX, self._address.get_options)
        pairs = [(key + RECORD_SUFFIX, new + RECORD_SUFFIX, record[1].size)] if record else []
        lists = [f"{RECORD_SUFFIX}{SUFFIX}/{file}" for file in named_in(record[0])] if record else []
        if lists:  # before the record that names them
            s3.copy(other, [(key + name, new + name, 0) for name in lists], {}, source_bucket=bucket)
        s3.copy(other, [*pairs, (key, new, there.size if there else 0)], {}, source_bucket=bucket)

    def _below(self, path: str, page_size: int | None = None) -> Iterator[str]:
        bucket, key = self._split(path)
        prefix = f"{key.rstrip('/')}/" if key else ""
        found = self._address.open(self._address.options).list(
            bucket, prefix, self._address.get_options, page_size=page_size
        )
        return (item.key for item in found)

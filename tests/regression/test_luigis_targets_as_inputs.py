"""Inputs whose targets are Luigi's or others': the stored bytes, whatever decodes them, and never all at once."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import luigi
import luigi.format
import pytest
from luigi.contrib.s3 import S3Client, S3Target
from luigi.mock import MockTarget

from superluigi.tasks import inputs
from superluigi.testing.s3_server import S3Server

CONTENT = {
    "gzip": gzip.compress(b"a\n1\n", mtime=0),
    "bzip2": bz2.compress(b"a\n1\n"),
    "binary": bytes(range(256)),
    "dos": b"a\r\n1\r\n\r",
    "latin": "é\nü\n".encode("latin1"),
    "utf16": "é\n".encode("utf-16"),
    "bom": b"\xef\xbb\xbfa\n",
    "empty": b"",
}
FORMATS = {
    "none": None,
    "Gzip": luigi.format.Gzip,
    "Bzip2": luigi.format.Bzip2,
    "UTF8": luigi.format.UTF8,
    "Nop": luigi.format.Nop,
    "Mixed": luigi.format.MixedUnicodeBytes,
    "latin1": luigi.format.TextFormat(encoding="latin1"),
    "Gzip of UTF8": luigi.format.UTF8 >> luigi.format.Gzip,
    "SysNewLine": luigi.format.SysNewLine,
}
EVERY_FORMAT = pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)


def read(target: Any) -> bytes:
    with inputs.open_input(target, shared=False) as path:
        return path.read_bytes()


@EVERY_FORMAT
def test_local_and_mock_targets_give_what_is_stored(tmp_path: Path, format: Any) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
        assert read(luigi.LocalTarget(tmp_path / name, format=format)) == content, name
        mock = MockTarget(f"superluigi-{name}", format=format)
        mock.fs.get_all_data()[mock.path] = content
        assert read(mock) == content, name
        assert mock.format is (format or luigi.format.get_default_format())  # the target itself is as it was


def test_targets_on_s3_give_what_is_stored(s3_server: S3Server, s3_bucket: str) -> None:
    client = S3Client(**{k: v for k, v in s3_server.client_options.items() if k != "region_name"})
    for name, content in CONTENT.items():
        s3_server.client().put_object(Bucket=s3_bucket, Key=name, Body=content)
    for name, kind in (("gzip", "Gzip"), ("binary", "none"), ("dos", "UTF8"), ("latin", "latin1"), ("bom", "Mixed")):
        target = S3Target(f"s3://{s3_bucket}/{name}", client=client, format=FORMATS[kind])
        assert read(target) == CONTENT[name], name


class Fetching:
    """A file system as Luigi's for FTP, SSH and HDFS are."""

    def get(self, path: str, local_path: str) -> None:
        shutil.copyfile(path, local_path)


class Remote(luigi.Target):
    fs = Fetching()

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def exists(self) -> bool:
        return True

    def open(self, mode: str = "r") -> Any:
        raise AssertionError("its file system brings it")


class Opened(luigi.Target):
    """Only `open("r")`; `fs` is something else."""

    fs: Any = {}  # its `get` gives a default

    def __init__(self, opener: Any, path: str = "s3://far/away/x.bin") -> None:
        self.opener, self.path = opener, path

    def exists(self) -> bool:
        return True

    def open(self, mode: str = "r") -> Any:
        assert mode == "r"
        return self.opener()


class AtOnce:
    """A stream that reads all or nothing, and cannot be closed."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self) -> bytes:
        content, self.content = self.content, b""
        return content


def test_other_targets_give_what_is_stored(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert read(Remote(file)) == content
        openers = {
            "bytes": lambda content=content: io.BytesIO(content),
            "raw": lambda file=file: open(file, "rb", buffering=0),
            "text": lambda file=file: open(file, encoding="latin1"),
            "codecs": lambda file=file: codecs.open(str(file), encoding="latin1"),
            "at once": lambda content=content: AtOnce(content),
            "pieces": lambda content=content: iter([content[:3], content[3:]]),
        }
        for how, opener in openers.items():
            assert read(Opened(opener)) == content, (name, how)
    assert read(Opened(lambda: io.StringIO("é\n"))) == "é\n".encode()
    assert read(Opened(lambda: io.StringIO("1"), path="n" * 300)) == b"1"


def test_a_large_input_is_never_in_memory_as_a_whole() -> None:
    size = 40 << 20

    class Zeros(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            return count

    tracemalloc.start()
    try:
        with inputs.open_input(Opened(Zeros), shared=False) as path:
            assert path.stat().st_size == size
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


def test_a_copy_goes_with_its_use_and_lies_where_large_data_is_expected(local_root: Path) -> None:
    with inputs.open_input(Opened(lambda: io.BytesIO(b"1")), shared=False) as path:
        assert local_root in path.parents and path.name == "x.bin"
    assert not path.exists() and not [file for file in local_root.rglob("*") if file.is_file()]

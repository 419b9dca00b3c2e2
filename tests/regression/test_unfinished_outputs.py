"""What a writer leaves beside its output, or has not written yet, is refused by name: nothing is lost unseen."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import logging
import lzma
import mmap
import os
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from superluigi.errors import OutputNotWrittenError, UnfinishedOutputError
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget

KINDS = ["file", "folder", "object", "prefix"]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicTarget:
    name = "it.csv.zip"
    if request.param in ("object", "prefix"):
        server = request.getfixturevalue("s3_server")
        bucket = request.getfixturevalue("s3_bucket")
        kind: Any = S3ObjectTarget if request.param == "object" else S3PrefixTarget
        return kind(bucket, f"a/{name}", **server.client_options)
    return (LocalFileTarget if request.param == "file" else LocalFolderTarget)(tmp_path / "a" / name)


def member(path: Path) -> Path:
    return path / "it.csv.zip" if path.is_dir() else path


def test_what_a_writer_sees_is_the_final_name(target: AtomicTarget) -> None:
    with target.tmp_write_path() as path:
        assert path.name == "it.csv.zip"
        assert len(os.listdir(path.parent)) == path.is_dir(), "the stage is private and empty"
        pd.DataFrame({"a": [1]}).to_csv(member(path), index=False)
    with target.tmp_read_path() as path:
        assert zipfile.ZipFile(member(path)).namelist() == ["it.csv"]


def test_the_same_bytes_are_written_each_time(tmp_path: Path) -> None:
    digests = set()
    for _ in range(2):
        target = LocalFileTarget(tmp_path / "x.gz")
        with target.stage() as staged:
            with gzip.GzipFile(staged.path, "wb", mtime=0) as file:
                file.write(b"x")
            digests.add(str(staged.prepare()["digest"]))
            staged.commit(None)
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["n" * 229 + ".csv", "ü" * 114 + ".csv"])
def test_long_names_stay_whole(tmp_path: Path, name: str) -> None:
    for kind in (LocalFileTarget, LocalFolderTarget):
        with kind(tmp_path / kind.__name__ / name).tmp_write_path() as path:
            assert path.name == name
            member(path).write_text("x")
    elsewhere = LocalFileTarget(tmp_path / ("n" * 251 + ".csv"), tmp_path / "record.json")
    with elsewhere.stage() as staged:
        assert staged.path.name.endswith(".csv")
        staged.path.write_text("x")
        staged.commit({"text": "x"})
    assert elsewhere.read_metadata()["text"] == "x"  # type: ignore[index]


@pytest.mark.parametrize("length", [241, 255, 300])
def test_long_keys_keep_their_suffix(s3_server: Any, s3_bucket: str, length: int) -> None:
    name = "n" * (length - 7) + ".csv.gz"
    target = S3ObjectTarget(s3_bucket, f"a/{name}", **s3_server.client_options)
    with target.tmp_write_path() as path:
        assert path.name == name if length <= 255 else path.name.endswith(".csv.gz")
        path.write_text("x")
    with target.tmp_read_path() as path:
        assert path.name.endswith(".csv.gz") and path.read_text() == "x"


@pytest.mark.parametrize("target", ["file", "object"], indirect=True)
@pytest.mark.parametrize("left", ["it.csv.zip-wal", "it.csv.shx", "another.txt", "sub"])
def test_what_lies_beside_the_output_is_refused_by_name(target: AtomicTarget, left: str) -> None:
    with pytest.raises(UnfinishedOutputError, match=left), target.tmp_write_path() as path:
        path.write_text("x")
        (path.parent / left).mkdir() if left == "sub" else (path.parent / left).write_text("y")
    assert not target.exists()


def test_what_lies_beside_an_output_folder_is_refused_too(tmp_path: Path) -> None:
    with (
        pytest.raises(UnfinishedOutputError, match=r"d\.index"),
        LocalFolderTarget(tmp_path / "d").tmp_write_path() as path,
    ):
        (path / "x").write_text("x")
        path.with_suffix(".index").write_text("x")
    assert os.listdir(tmp_path) == []


def test_a_suffix_that_a_writer_added_is_still_told(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputNotWrittenError, match=r"Found 'x\.npy' beside it"),
        LocalFileTarget(tmp_path / "x").tmp_write_path() as path,
    ):
        np.save(path, np.zeros(1))


# ---- files that are still open


def text(path: Path) -> Any:
    file = open(path, "w")
    file.write("held back")
    return file


def binary(path: Path) -> Any:
    file = open(path, "wb")
    file.write(b"flushed")
    file.flush()
    file.write(b"held back")
    return file


def both_ways(path: Path) -> Any:
    path.write_bytes(bytes(20_000))
    file = open(path, "r+b")
    file.read(9_000)
    file.seek(10)
    file.write(b"held back")
    return file


def in_a_circle(path: Path) -> Any:
    circle: dict[str, Any] = {"file": text(path)}
    circle["self"] = circle
    return circle


def compressed(path: Path) -> Any:
    file = gzip.open(path, "wb")
    file.write(b"held back")
    return file


def compressed_differently(path: Path) -> Any:
    file = (bz2 if len(str(path)) % 2 else lzma).open(path, "wb")
    file.write(b"held back")
    return file


def zipped(path: Path) -> Any:
    file = zipfile.ZipFile(path, "w")
    file.writestr("x", "its list of members is written at the end")
    return file


def tarred(path: Path) -> Any:
    file = tarfile.open(path, "w")
    file.add("/etc/hostname")
    return file


def parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": [1]})
    file = pq.ParquetWriter(str(path), table.schema)
    file.write_table(table)
    return file


def sqlite_with_a_log(path: Path) -> Any:
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table t(i)")
    connection.commit()
    return connection


def sqlite_in_a_transaction(path: Path) -> Any:
    connection = sqlite3.connect(path)
    connection.execute("create table t(i)")
    connection.commit()
    connection.execute("insert into t values (1)")
    return connection


UNFINISHED = [
    text, binary, both_ways, in_a_circle, compressed, compressed_differently, zipped, tarred, parquet,
    sqlite_with_a_log, sqlite_in_a_transaction,
]  # fmt: skip


@contextlib.contextmanager
def closing(held: Any) -> Iterator[None]:
    try:
        yield
    finally:
        (held["file"] if isinstance(held, dict) else held).close()


@pytest.mark.parametrize("write", UNFINISHED)
def test_a_file_that_is_not_all_written_is_refused_by_name(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    target = LocalFileTarget(tmp_path / "x.bin")
    with pytest.raises(UnfinishedOutputError, match=r"x\.bin"), target.tmp_write_path() as path:
        held = write(path)
        stack = contextlib.ExitStack()
        stack.enter_context(closing(held))
    stack.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("target", KINDS, indirect=True)
def test_a_file_that_is_not_all_written_is_refused_whatever_the_target(target: AtomicTarget) -> None:
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(UnfinishedOutputError, match=r"it\.csv\.zip.*open for writing"),
        target.tmp_write_path() as path,
    ):
        stack.enter_context(closing(binary(member(path))))
    assert not target.exists()


def flushed(path: Path) -> Any:
    file = open(path, "w")
    file.write("all there")
    file.flush()
    return file


def raw(path: Path) -> Any:
    file = open(path, "wb", buffering=0)
    file.write(b"all there")
    return file


def reading(path: Path) -> Any:
    path.write_text("all there")
    return open(path)


def reading_both_ways(path: Path) -> Any:
    path.write_text("all there")
    file = open(path, "r+")
    file.read(3)
    return file


def sqlite_at_rest(path: Path) -> Any:
    connection = sqlite3.connect(path)
    connection.execute("create table t(i)")
    connection.commit()
    return connection


def memory(path: Path) -> Any:
    path.write_bytes(bytes(8192))
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[:3] = b"all"
    return mapped


def logged(path: Path) -> Any:
    handler = logging.FileHandler(path)
    handler.emit(logging.makeLogRecord({"msg": "all there"}))
    return handler


@pytest.mark.parametrize("write", [flushed, raw, reading, reading_both_ways, sqlite_at_rest, memory, logged])
def test_a_handle_that_was_forgotten_but_holds_nothing_back_is_no_fault(
    tmp_path: Path, write: Callable[[Path], Any]
) -> None:
    target = LocalFileTarget(tmp_path / "x.bin")
    with contextlib.ExitStack() as stack:
        with target.tmp_write_path() as path:
            stack.enter_context(closing(write(path)))
        assert target.exists()


def test_a_file_of_another_output_that_is_being_written_does_not_matter(tmp_path: Path) -> None:
    with LocalFileTarget(tmp_path / "a").stage() as slow, LocalFileTarget(tmp_path / "b").stage() as quick:
        held = text(slow.path)
        quick.path.write_text("x")
        quick.commit(None)
        held.close()
        slow.commit(None)
    assert (tmp_path / "a").read_text() == "held back"


@pytest.mark.parametrize("name", [".superluigi-notes", "inside/.superluigirc", ".superluigi-x/y"])
def test_a_member_whose_name_would_hide_it_is_refused_by_name(tmp_path: Path, name: str) -> None:
    target = LocalFolderTarget(tmp_path / "out")
    with pytest.raises(UnfinishedOutputError, match=r"\.superluigi.*would be lost"), target.tmp_write_path() as path:
        (path / "a").write_text("1")
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("1")
    assert not target.exists()
    with target.tmp_write_path() as path, LocalFileTarget(path / "inner").tmp_write_path() as inner:
        inner.write_text("1")
    assert target.exists(), "what our own targets leave is no member"

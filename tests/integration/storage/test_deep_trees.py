"""Folder trees that are deeper than Python recurses, or whose paths are longer than the system takes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from superluigi.errors import CommitError, TargetKindError
from superluigi.lineage import verify
from superluigi.storage.local import copy as copying
from superluigi.storage.local.cleanup import clean
from superluigi.targets import LocalFolderTarget, S3PrefixTarget
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server

DEPTH = 300  # with a thousand frames to go, as usual, it takes four times as much
TOO_LONG = 25, "d" * 200
_GROW = """
import os, sys
for _ in range(int(sys.argv[1])):
    os.mkdir(sys.argv[2])
    os.chdir(sys.argv[2])
open("end", "w")
"""


def grow(folder: Path, depth: int, name: str = "d") -> None:
    """Folders in folders, with a file at the bottom; from inside, where every path is short."""
    subprocess.run([sys.executable, "-c", _GROW, str(depth), name], cwd=folder, check=True)


def commit_grown(path: Path, depth: int, name: str = "d") -> None:
    with LocalFolderTarget(path).stage() as staged:
        grow(staged.path, depth, name)
        staged.commit({"run": {"id": "deep"}})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    copying.remove_tree(tmp_path)  # pytest's own way recurses


@pytest.fixture
def shallow_python() -> Iterator[None]:
    """Python that recurses half as deep as the trees here."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + DEPTH // 2)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("shallow_python")
def test_a_tree_deeper_than_python_recurses_is_an_output_like_any_other(place: Path) -> None:
    target = LocalFolderTarget(place / "tree")
    commit_grown(target.path, DEPTH)
    record = target.read_metadata()
    assert record is not None and record["output"]["contents"][0]["path"] == "d/" * DEPTH + "end"
    with target.tmp_read_path() as copy:
        assert Path(copy, *["d"] * DEPTH, "end").exists()
    assert [found.state for found in verify(place)] == ["ok"]
    target.metadata_path.unlink()
    assert [found.state for found in verify(place)] == ["without record"]
    assert clean(place) == []
    commit_grown(target.path, 1)
    assert sorted(os.listdir(place)) == ["tree", "tree.metadata.json"]


def test_a_tree_with_paths_that_are_too_long_is_refused_and_leaves_nothing(place: Path) -> None:
    (place / "other").mkdir()
    with pytest.raises(CommitError, match="too long"):
        commit_grown(place / "tree", *TOO_LONG)
    assert os.listdir(place) == ["other"]


def test_what_a_dead_writer_left_of_such_a_tree_is_cleaned(place: Path) -> None:
    assert (
        fault_injection.stopped_in_child(2, "death", commit_grown, place / "tree", *TOO_LONG) == fault_injection.DEATH
    )
    assert os.listdir(place) != []
    clean(place)
    assert os.listdir(place) == []


def test_a_prefix_refuses_links_without_end_and_what_is_no_file(s3_server: S3Server, s3_bucket: str) -> None:
    target = S3PrefixTarget(s3_bucket, "prefix/", **s3_server.client_options)
    for name, make in {
        "holds it": lambda path: (path / "sub" / "up").symlink_to(path),
        "no file": lambda path: os.mkfifo(path / "pipe"),
        "nor a link": lambda path: (path / "link").symlink_to("nowhere"),
        "link is no file": lambda path: (path / "link").symlink_to("link"),
        "UTF-8": lambda path: (path / os.fsdecode(b"n\xff")).touch(),
        "are ours": lambda path: (path / ".superluigi-x").touch(),
    }.items():
        with pytest.raises(TargetKindError, match=name), target.tmp_write_path() as path:
            (path / "sub").mkdir()
            (path / "sub" / "file").write_text("x")
            make(path)
        assert not target.exists()

"""A file that a format saves carries its final name, also where the format writes the name into the file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pandas
import pytest

from superluigi import formats
from superluigi.targets import LocalFileTarget


def header_name(path: Path) -> bytes:
    """The file name in a gzip header (RFC 1952: after ten bytes, ended by a zero byte), if its flag says so."""
    content = path.read_bytes()
    return content[10:].split(b"\0", 1)[0] if content[3] & 8 else b""


@pytest.mark.parametrize("again", [False, True], ids=["new", "over one that is there"])
def test_a_compressed_table_names_nothing_but_itself(again: bool, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    for _ in range(1 + again):
        formats.save(pandas.DataFrame({"a": [1, 2]}), path)
    assert header_name(path) in (b"", b"prices.csv")
    assert gzip.decompress(path.read_bytes()).decode().split() == ["a", "1", "2"]
    assert os.listdir(tmp_path) == ["prices.csv.gz"]


SEEN: list[str] = []


class Note(str):
    """A value for a format of its own."""


@formats.register("note", ".note", types=[Note])
class NoteFormat:
    def save(self, value: Note, path: Path) -> None:
        SEEN.append(path.name)
        path.write_text(value)

    def load(self, path: Path, as_type: object) -> Note:
        return Note(path.read_text())


@pytest.mark.parametrize("suffix", [".note", ".note.gz"])
@pytest.mark.parametrize("again", [False, True], ids=["new", "over one that is there"])
def test_every_format_is_given_the_final_name(suffix: str, again: bool, tmp_path: Path) -> None:
    SEEN.clear()
    target = LocalFileTarget(tmp_path / f"final{suffix}")
    for _ in range(1 + again):
        target.dump(Note("x"))
    formats.save(Note("y"), target.path)
    assert set(SEEN) == {"final.note"}
    assert formats.load(target.path) == "y"

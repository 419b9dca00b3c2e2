"""A CRC-32 put together from those of pieces is that of the whole."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from superluigi.storage.objects import crc32


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 700_003])
@pytest.mark.parametrize("piece", [1000, 300_000])
def test_pieces_make_the_whole(tmp_path: Path, size: int, piece: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    pieces = crc32.of_pieces(tmp_path / "file", piece)
    assert pieces == [zlib.crc32(data[start : start + piece]) for start in range(0, size, piece)]
    assert crc32.combined(pieces, size, piece) == zlib.crc32(data)

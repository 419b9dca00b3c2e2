"""CRC-32 of a whole from those of its pieces, so that pieces may be checked in any order and on any core.

A CRC is a polynomial over two elements, modulo P; zlib keeps its bits mirrored: x^0 is the highest. Appending `n`
bytes multiplies what came before by x^(8n), and the CRC of the piece is added.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

_P = 0xEDB88320
_ONE = 1 << 31
_X = _ONE >> 1
_BLOCK = 256 << 10


def _times(a: int, b: int) -> int:
    """The product modulo P."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (_P if b & 1 else 0)
    return product


@functools.lru_cache(maxsize=64)
def _x_to_the(power: int) -> int:
    result, square = _ONE, _X
    while power:
        if power & 1:
            result = _times(result, square)
        square = _times(square, square)
        power >>= 1
    return result


def combined(pieces: Iterable[int], size: int, piece: int) -> int:
    """The CRC-32 of `size` bytes from those of its pieces, `piece` bytes long but for the last."""
    whole = 0
    for start, crc in zip(range(0, size, piece), pieces, strict=True):
        whole = _times(whole, _x_to_the(8 * min(piece, size - start))) ^ crc
    return whole


def text(crc: int) -> str:
    """As it is written down."""
    return f"{crc:08x}"


def of_pieces(file: Path, piece: int) -> list[int]:
    """The CRC-32 of each piece of a file."""
    found = []
    with open(file, "rb", buffering=0) as stream:
        for _ in range(0, os.fstat(stream.fileno()).st_size, piece):
            crc, left = 0, piece
            while left and (block := stream.read(min(_BLOCK, left))):
                crc, left = zlib.crc32(block, crc), left - len(block)
            found.append(crc)
    return found

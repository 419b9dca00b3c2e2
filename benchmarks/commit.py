"""What a commit costs against a bare write to the same disk, flushed equally.

    python benchmarks/commit.py [--quick] [--folder DIR] [--only tiny|folder|large]

Each pair is measured in turn, several times, each first every other time; the median of the pairwise ratios counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from superluigi.storage.base import SCHEMA
from superluigi.storage.local import atomic
from superluigi.targets import LocalFileTarget, LocalFolderTarget

CHUNK = os.urandom(1 << 20)
RECORD = {"schema": SCHEMA, "run": {"id": "bench"}, "params": {f"p{i}": "v" * 20 for i in range(40)}}


def large(path: Path, mebibytes: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(CHUNK)


def small(folder: Path, count: int) -> None:
    for number in range(count):
        with open(folder / f"{number:05d}", "wb", buffering=0) as file:
            file.write(CHUNK[:1024])


def bare_file(root: Path, mebibytes: int) -> None:
    large(root / "bare.new", mebibytes)
    atomic.flush_file(root / "bare.new")
    os.replace(root / "bare.new", root / "bare")
    atomic.flush_folder(root)


def digest_of_file(root: Path) -> None:
    digest = hashlib.sha256()
    with open(root / "bare", "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)


def committed_file(root: Path, mebibytes: int) -> None:
    with LocalFileTarget(root / "committed").stage() as staged:
        large(staged.path, mebibytes)
        staged.commit(dict(RECORD))


def bare_folder(root: Path, count: int) -> None:
    (root / "bare-folder").mkdir()
    small(root / "bare-folder", count)
    atomic.flush_tree(root / "bare-folder")
    atomic.flush_folder(root)


def committed_folder(root: Path, count: int) -> None:
    with LocalFolderTarget(root / "committed-folder").stage() as staged:
        small(staged.path, count)
        staged.commit(dict(RECORD))


def seconds(function: Callable[..., None], *arguments: object) -> float:
    os.sync()
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def forget_pages(path: Path) -> None:
    """Give a file's memory back: the next writer finds the same pages free.

    A virtual machine gets untouched memory from its host at up to ten times the price of a write to a file; whoever
    wrote second paid that while the first one's pages stayed in the cache.
    """
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def in_turn(attempt: int, bare: Callable[..., float], ours: Callable[..., float], *arguments: object) -> list[float]:
    """Seconds of both, ours first every other time."""
    if attempt % 2:
        return [bare(*arguments), ours(*arguments)]
    return [ours(*arguments), bare(*arguments)][::-1]


def measure_tiny(root: Path, quick: bool) -> None:
    os.environ["SUPERLUIGI_DURABLE"] = "false"
    repeat = 500 if quick else 2000
    rows = []
    for attempt in range(5):
        folder = root / f"tiny-{attempt}"
        folder.mkdir()
        began = time.process_time()
        for number in range(repeat):
            with LocalFileTarget(folder / f"{number}.bin").stage() as staged:
                staged.path.write_bytes(CHUNK[:1024])
                staged.commit(dict(RECORD))
        rows.append(((time.process_time() - began) / repeat * 1e3,))
    os.environ["SUPERLUIGI_DURABLE"] = "true"
    report("a 1 KiB file with record, not flushed", ("CPU ms",), rows)


def measure_folder(root: Path, quick: bool) -> None:
    count = 1000 if quick else 10_000
    rows = []
    for attempt in range(5):  # nothing is removed in between: ext4 is slow for seconds after many removals
        place = root / f"round-{attempt}"
        place.mkdir()
        bare, ours = in_turn(attempt, partial(seconds, bare_folder), partial(seconds, committed_folder), place, count)
        rows.append((bare, ours, ours / bare))
    report(f"{count} files of 1 KiB in a folder", ("bare s", "commit s", "/ bare"), rows)


def measure_large(root: Path, quick: bool) -> None:
    mebibytes = 64 if quick else 1024
    digests = []

    def bare() -> float:
        taken = seconds(bare_file, root, mebibytes)
        digests.append(seconds(digest_of_file, root))
        forget_pages(root / "bare")
        return taken

    def committed() -> float:
        taken = seconds(committed_file, root, mebibytes)
        forget_pages(root / "committed")
        return taken

    bare(), committed()  # all others replace a file, and write to memory that was written before
    rows = []
    for attempt in range(7):
        plain, ours = in_turn(attempt, bare, committed)
        rows.append((plain, digests[-1], ours, ours / plain, ours / (plain + digests[-1])))
    report(f"one file of {mebibytes} MiB", ("bare s", "digest s", "commit s", "/ bare", "/ (bare + digest)"), rows)


MEASURES = {"tiny": measure_tiny, "folder": measure_folder, "large": measure_large}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--only", choices=MEASURES)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="superluigi-bench-", dir=args.folder))
    try:
        for name in [args.only] if args.only else MEASURES:
            MEASURES[name](root, args.quick)
    finally:
        shutil.rmtree(root)


def report(title: str, names: tuple[str, ...], rows: list[tuple[float, ...]]) -> None:
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    spread = [f"{min(column):.3f}-{max(column):.3f}" for column in zip(*rows, strict=True)]
    print(f"{title}: " + ", ".join(f"{n} {m:.3f} ({s})" for n, m, s in zip(names, medians, spread, strict=True)))


if __name__ == "__main__":
    main()

"""What a commit costs against a bare write to the same disk, flushed equally.

    python benchmarks/commit.py [--quick] [--folder DIR]

Each pair is measured in turn, several times; the median of the pairwise ratios counts.
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
from pathlib import Path

from superluigi.storage import atomic
from superluigi.storage.base import SCHEMA
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
    large(root / "bare", mebibytes)
    atomic.flush_file(root / "bare")
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


def clear(root: Path, *names: str) -> None:
    for name in names:
        (root / name).unlink()
    os.sync()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    mebibytes, count, rounds = (64, 1000, 3) if args.quick else (1024, 10_000, 5)
    root = Path(tempfile.mkdtemp(prefix="superluigi-bench-", dir=args.folder))
    try:
        os.environ["SUPERLUIGI_DURABLE"] = "false"
        repeat = 500 if args.quick else 2000
        rows = []
        for attempt in range(rounds):
            folder = root / f"small-{attempt}"
            folder.mkdir()
            began = time.process_time()
            for number in range(repeat):
                with LocalFileTarget(folder / f"{number}.bin").stage() as staged:
                    staged.path.write_bytes(CHUNK[:1024])
                    staged.commit(dict(RECORD))
            rows.append(((time.process_time() - began) / repeat * 1e3,))
        report("a 1 KiB file with record, not flushed", ("CPU ms",), rows)
        os.environ["SUPERLUIGI_DURABLE"] = "true"
        rows = []
        for attempt in range(rounds):  # nothing is removed in between: ext4 is slow for seconds after many removals
            place = root / f"round-{attempt}"
            place.mkdir()
            bare = seconds(bare_folder, place, count)
            ours = seconds(committed_folder, place, count)
            rows.append((bare, ours, ours / bare))
        report(f"{count} files of 1 KiB in a folder", ("bare s", "commit s", "/ bare"), rows)
        rows = []
        for _ in range(rounds):
            bare = seconds(bare_file, root, mebibytes)
            digest = seconds(digest_of_file, root)
            ours = seconds(committed_file, root, mebibytes)
            rows.append((bare, digest, ours, ours / bare, ours / (bare + digest)))
            clear(root, "bare", "committed", "committed.metadata.json")
        report(f"one file of {mebibytes} MiB", ("bare s", "digest s", "commit s", "/ bare", "/ (bare + digest)"), rows)
    finally:
        shutil.rmtree(root)


def report(title: str, names: tuple[str, ...], rows: list[tuple[float, ...]]) -> None:
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    spread = [f"{min(column):.3f}-{max(column):.3f}" for column in zip(*rows, strict=True)]
    print(f"{title}: " + ", ".join(f"{n} {m:.3f} ({s})" for n, m, s in zip(names, medians, spread, strict=True)))


if __name__ == "__main__":
    main()

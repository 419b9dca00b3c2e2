"""What checks cost: nothing where there are none, their own time and a little where there are.

    python benchmarks/checks.py [--quick]

Tasks are made in this process by their attempts alone (no scheduler), in turns; medians of the rounds' CPU times
count. "By hand" is what loading the value once and calling the same functions takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pandas as pd

from superluigi import formats
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

FRAME = pd.DataFrame({"x": range(200_000), "y": [float(one) for one in range(200_000)]})


def sums(value: pd.DataFrame) -> Any:
    """A check of some ten milliseconds."""
    return sorted(value["y"].tolist())[0] >= 0


def rows(value: pd.DataFrame) -> Any:
    """A check of rows."""
    return value["y"] >= 0


class Small(AtomicTaskWithMetadata):
    """One small file, no checks."""

    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "out.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


class SmallChecked(Small):
    """The same with a check that looks at nothing."""

    checks: ClassVar = [lambda metadata: None]


class Large(AtomicTaskWithMetadata):
    """A table of 200,000 rows, no checks."""

    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "out.parquet")

    def run(self) -> pd.DataFrame:
        return FRAME


class LargeChecked(Large):
    """The same with four checks of its value."""

    checks: ClassVar = [sums, rows, sums, rows]


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call: the machine may have other work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def by_hand(path: Path) -> None:
    """What the four checks take on a value that is loaded once."""
    value = formats.load(path)
    sums(value), rows(value).all(), sums(value), rows(value).all()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    rounds = 5 if parser.parse_args().quick else 25
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SUPERLUIGI_WORKSPACE"] = f"{folder}/workspace"
        tasks: dict[str, Any] = {kind.__name__: kind(folder) for kind in (Small, SmallChecked, Large, LargeChecked)}
        times: dict[str, list[float]] = {name: [] for name in [*tasks, "by hand"]}
        for _ in range(rounds):
            for name, task in tasks.items():
                count = 20 if "Small" in name else 1
                times[name].append(seconds(lambda task=task, count=count: [task.run() for _ in range(count)]))
            times["by hand"].append(seconds(lambda: by_hand(Path(folder) / "out.parquet")))
    found = {name: statistics.median(several) for name, several in times.items()}
    small = found["SmallChecked"] / 20 - found["Small"] / 20
    extra = found["LargeChecked"] - found["Large"]
    print(f"small task           {found['Small'] / 20 * 1e3:8.2f} ms")
    print(f"a check of nothing   {small * 1e6:8.0f} µs more")
    print(f"large task           {found['Large'] * 1e3:8.2f} ms")
    print(f"with four checks     {found['LargeChecked'] * 1e3:8.2f} ms, {extra * 1e3:.2f} ms more")
    print(f"the checks by hand   {found['by hand'] * 1e3:8.2f} ms, so {extra / found['by hand']:.3f} of their own time")


if __name__ == "__main__":
    main()

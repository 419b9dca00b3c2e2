"""What checks and leases cost: nothing where there are none, their own time and a little where there are.

    python benchmarks/checks.py [--quick]

Tasks are made in this process by their attempts alone (no scheduler), in turns; medians of the differences of CPU times
within a round count. "By hand" is what loading the value once and calling the same functions takes.
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
from superluigi.runs import context as runs
from superluigi.storage.local import leases
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.runtime import exclusive

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


def turn(task: Any) -> None:
    """All that a lease costs an attempt."""
    found = exclusive.begin(task, runs.current())
    exclusive.confirm(task)
    exclusive.end(found)


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
        turns: list[float] = []
        with leases.kept():
            for round in range(rounds):
                for name in sorted(tasks, reverse=bool(round % 2)):
                    count = 20 if "Small" in name else 1
                    work = [tasks[name].run] * count
                    times[name].append(seconds(lambda work=work: [one() for one in work]) / count)
                turns.append(seconds(lambda: [turn(tasks["Small"]) for _ in range(200)]) / 200)
                times["by hand"].append(seconds(lambda: by_hand(Path(folder) / "out.parquet")))
    found = {name: statistics.median(several) for name, several in times.items()}

    def more(name: str, than: str) -> float:
        return statistics.median(one - other for one, other in zip(times[name], times[than], strict=True))

    extra, lease = more("LargeChecked", "Large"), statistics.median(turns)
    print(f"small task           {found['Small'] * 1e3:8.2f} ms")
    print(f"a check of nothing   {more('SmallChecked', 'Small') * 1e6:8.0f} µs more")
    print(f"a lease              {lease * 1e6:8.0f} µs, {lease / found['Small']:.1%} of the small task")
    print(f"large task           {found['Large'] * 1e3:8.2f} ms")
    print(f"with four checks     {found['LargeChecked'] * 1e3:8.2f} ms, {extra * 1e3:.2f} ms more")
    print(f"the checks by hand   {found['by hand'] * 1e3:8.2f} ms, so {extra / found['by hand']:.3f} of their own time")


if __name__ == "__main__":
    main()

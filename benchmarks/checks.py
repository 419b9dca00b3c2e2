"""What checks and leases cost: nothing where there are none, their own time and a little where there are.

    python benchmarks/checks.py [--quick]

Tasks are made in this process by their attempts alone (no scheduler), in turns; medians of the differences of CPU times
within a round count. "By hand" is what loading the value once and calling the same functions takes. What is added
around checks is also taken directly: the CPU time of this thread in all that checking does, without that of the checks
and of loading the value, which no difference of larger numbers blurs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pandas as pd

from superluigi import check, formats
from superluigi.runs import context as runs
from superluigi.storage.local import leases
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.tasks.checking import of_outputs
from superluigi.tasks.runtime import exclusive

NAMES = [f"name {row % 977}" for row in range(100_000)]
ROWS = pd.DataFrame({"id": range(100_000), "price": [row * 0.5 for row in range(100_000)], "name": NAMES})
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


class Table(AtomicTaskWithMetadata):
    """A table of 100,000 rows, with one check of some milliseconds."""

    place = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(Path(self.place) / "table.parquet")

    def run(self) -> pd.DataFrame:
        return ROWS

    @check
    def each_name_has_a_price(self, value: pd.DataFrame) -> bool:
        with own.counted():
            return bool(value["id"].is_unique and value.groupby("name")["price"].mean().notna().all())


class TableChecked(Table):
    """The same, with three such checks."""

    @check
    def prices(self, value: pd.DataFrame) -> Any:
        with own.counted():
            value.groupby("name")["price"].max()
            return value["price"] >= 0

    @check
    def names(self, value: pd.DataFrame, previous: Any) -> bool:
        with own.counted():
            return bool(value["name"].nunique() > 900)


class Counter:
    """CPU seconds of this thread within its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - began

    def around(self, module: Any, name: str) -> None:
        """Count all calls of a function of `module` from now on."""
        real = getattr(module, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            with self.counted():
                return real(*args, **kwargs)

        setattr(module, name, counting)


#: What checks take themselves, what loading takes, and both with all that is around them.
own, loading, checking = Counter(), Counter(), Counter()


def added(task: Any, rounds: int) -> tuple[float, float, float]:
    """Medians of seconds: what checks take, what loading their value takes, what is added."""
    found = []
    for _ in range(rounds):
        for counter in (own, loading, checking):
            counter.seconds = 0.0
        task.run()
        found.append((own.seconds, loading.seconds, checking.seconds - own.seconds - loading.seconds))
    one, other, third = zip(*found, strict=True)
    return statistics.median(one), statistics.median(other), statistics.median(third)


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
        loading.around(formats, "load")
        checking.around(of_outputs, "of_staged")
        more_of = {kind.__name__: added(kind(folder), rounds) for kind in (Table, TableChecked)}
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
    for name, (alone, load, extra) in more_of.items():
        ms = f"{alone * 1e3:8.2f} ms in checks, {load * 1e3:.2f} to load, {extra * 1e6:.0f} µs more"
        print(f"{name:20} {ms}: {1 + extra / (alone + load):.3f}")


if __name__ == "__main__":
    main()

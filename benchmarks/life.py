"""What a task's working life costs: CPU time per task, against the same tasks without it.

Run as `python benchmarks/life.py [--quick]`. Prints one table; every row is a ratio to the first one of its kind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from superluigi import run_task
from superluigi.parameters import IntParameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task


class Bare(Task):
    """Does nothing, keeps nothing: what is left is what everybody pays."""

    x = IntParameter()

    def run(self) -> None:
        pass


class BareWithEnvironment(Bare):
    environment = {"OMP_NUM_THREADS": "1"}


class BarePrints(Bare):
    def run(self) -> None:
        print("one line")


class Silent(AtomicTaskWithMetadata):
    x = IntParameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{os.environ['OUT']}/{self.task_family}-{self.x}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


class Prints(Silent):
    def run(self, output_path: Path) -> None:
        print("one line")
        output_path.write_text("x")


class AsksForFolder(Silent):
    def run(self, output_path: Path, task_dir: Path) -> None:  # type: ignore[override]
        output_path.write_text("x")


def per_task(cls: Any, count: int, settings: dict[str, str]) -> float:
    """CPU microseconds per call of `run`, commits included."""
    os.environ.update(settings)
    tasks = [cls(x=x) for x in range(count)]
    before = time.process_time()
    for task in tasks:
        task.run()
    return (time.process_time() - before) / count * 1e6


def median(measure: Callable[[], float], times: int) -> float:
    measure()
    return statistics.median(measure() for _ in range(times))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, times = (50, 3) if quick else (300, 7)
    on = {"SUPERLUIGI_CAPTURE_LOGS": "true", "SUPERLUIGI_SEED_RANDOM": "true"}
    off = dict.fromkeys(on, "false")
    rows = []
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        os.environ.update(OUT=folder, SUPERLUIGI_WORKSPACE=f"{folder}/ws", SUPERLUIGI_STORE=folder)
        printing, sys.stdout = sys.stdout, nowhere
        for cls, settings in [
            (Bare, off), (Bare, on), (BareWithEnvironment, on), (BarePrints, on),
            (Silent, off), (Silent, on), (Prints, on), (AsksForFolder, on),
        ]:  # fmt: skip
            took = median(lambda cls=cls, settings=settings: per_task(cls, count, settings), times)  # type: ignore[misc]
            rows.append((cls.__name__, "on" if settings is on else "off", took))
        sys.stdout = printing
        for capture in ("false", "true"):
            os.environ["SUPERLUIGI_CAPTURE_LOGS"] = capture
            rows.append(("processes: Silent", capture, _in_processes(count)))
    print("| task | logs and seed | CPU µs per task | ratio |\n|---|---|---|---|")
    first = {"B": rows[0][2], "p": rows[-2][2]}
    atomic = rows[4][2]
    for name, state, took in rows:
        print(f"| {name} | {state} | {took:.0f} | {took / first.get(name[0], atomic):.2f} |")


def _in_processes(count: int) -> float:
    class All(Task):
        def requires(self) -> Any:
            return [Silent(x=x) for x in range(count)]

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        os.environ["OUT"] = folder
        printing, sys.stdout = sys.stdout, nowhere
        began = _all_cpu()
        run_task(All(), executor="processes", num_workers=2)
        sys.stdout = printing
        return (_all_cpu() - began) / count * 1e6


def _all_cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()

"""What values cost: making tasks, `@task` against a class, ids of a deep diamond, saving against writing by hand.

    python benchmarks/values.py [--quick]

Every figure is a ratio of medians measured in turns in this process; limits are those of the project's promises.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("SUPERLUIGI_WORKSPACE", tempfile.mkdtemp(prefix="superluigi-bench-"))

import luigi
import pandas as pd

from superluigi import formats, run_task, task
from superluigi.parameters import Param, Requires
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task


class Classic(luigi.Task):
    seed = luigi.IntParameter()
    size = luigi.IntParameter(default=10)
    kind = luigi.Parameter(default="a")


class Annotated(Task):
    seed: Param[int]
    size: Param[int] = 10
    kind: Param[str] = "a"


class Plain(AtomicTaskWithMetadata):
    seed: Param[int]
    size: Param[int] = 10

    def run(self, output_path: Path) -> None:
        output_path.write_text(str(self.seed * self.size))

    def output(self) -> Any:
        return LocalFileTarget(Path(os.environ["SUPERLUIGI_STORE"]) / f"{self.task_hash}.json")


@task
def function(seed: int, size: int = 10) -> int:
    return seed * size


class Layer(Task):
    left: Requires[Task]
    right: Requires[Task]


def medians(turns: int, clock: Callable[[], float] = time.perf_counter, **works: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each work, measured in turns so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            started = clock()
            work()
            taken[name].append(clock() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def constructing(turns: int, number: int) -> list[str]:
    """Making tasks: ours against Luigi's, new ones and ones that Luigi's instance cache knows."""
    counter = iter(range(10**9))

    def make(cls: Any, known: bool) -> Callable[[], None]:
        def work() -> None:
            for at in range(number):
                cls(seed=at if known else next(counter) + 10**6)

        return work

    found = medians(
        turns,
        luigi_new=make(Classic, False),
        ours_new=make(Annotated, False),
        function_new=make(function, False),
        luigi_known=make(Classic, True),
        ours_known=make(Annotated, True),
        function_known=make(function, True),
    )
    lines = []
    for kind in ("new", "known"):
        base = found[f"luigi_{kind}"]
        for name, what in (("ours", "annotated class"), ("function", "@task function")):
            ratio = found[f"{name}_{kind}"] / base
            lines.append(
                f"construct a {kind} task, {what}: {ratio:.2f} x Luigi's ({base / number * 1e6:.0f} us; limit 3)"
            )
    return lines


def running(turns: int, number: int) -> list[str]:
    """Running tasks: a function that returns its value against a class that writes its output."""
    counter = iter(range(10**9))

    def work(cls: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(number):
                made = cls(seed=next(counter) + 2 * 10**6)
                made.run()

        return run

    lines = []
    for what, clock in (("", time.perf_counter), (" in CPU time", time.process_time)):
        found = medians(turns, clock, plain=work(Plain), function=work(function))
        ratio = found["function"] / found["plain"]
        lines.append(
            f"@task over a plain AtomicTaskWithMetadata, run{what}: {ratio:.2f} x "
            f"({found['plain'] / number * 1e3:.2f} ms; limit 1.10)"
        )
    return lines


def whole_runs(turns: int, number: int) -> list[str]:
    """The same through run_task, scheduler and summary included."""
    counter = iter(range(10**9))

    class All(luigi.WrapperTask):
        kind = luigi.TaskParameter()
        first = luigi.IntParameter()

        def requires(self) -> Any:
            return [self.kind(seed=self.first + at) for at in range(number)]

    def work(cls: Any) -> Callable[[], None]:
        def run() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                run_task(All(kind=cls, first=next(counter) * number + 3 * 10**6), progress=False)

        return run

    found = medians(turns, plain=work(Plain), function=work(function))
    return [f"the same by run_task, {number} tasks: {found['function'] / found['plain']:.2f} x (limit 1.10)"]


def diamond() -> list[str]:
    """Size of what travels for a diamond of depth 30."""
    node: Any = function(seed=1)
    for _ in range(30):
        node = Layer(left=node, right=node)
    message = {"task_id": node.task_id, "params": node.to_str_params(), "family": node.task_family}
    message["deps"] = [dependency.task_id for dependency in node.deps()]
    return [
        f"a diamond of depth 30: id {len(node.task_id)} bytes, scheduler message {len(str(message))} bytes "
        f"(limit 4096); pickled with all that is behind it {len(pickle.dumps(node))} bytes"
    ]


def saving(turns: int, rows: int) -> list[str]:
    """Formats against the libraries called by hand; CSV is read back to keep its promise."""
    frame = pd.DataFrame({"n": range(rows), "x": [value / 7 for value in range(rows)], "t": ["word"] * rows})
    value = {"rows": [{"n": at, "x": at / 7, "t": "word"} for at in range(rows // 10)]}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        import json

        found = medians(
            turns,
            parquet_by_hand=lambda: frame.to_parquet(path / "a.parquet"),
            parquet=lambda: formats.save(frame, path / "b.parquet"),
            csv_by_hand=lambda: frame.to_csv(path / "a.csv", index=False),
            csv=lambda: formats.save(frame, path / "b.csv"),
            json_by_hand=lambda: (path / "a.json").write_text(json.dumps(value)),
            json=lambda: formats.save(value, path / "b.json"),
            pickle_by_hand=lambda: (path / "a.pickle").write_bytes(pickle.dumps(value)),
            pickle=lambda: formats.save(value, path / "b.pickle"),
        )
    for name in ("parquet", "csv", "json", "pickle"):
        by_hand = found[f"{name}_by_hand"]
        lines.append(f"save {name}, {rows} rows: {found[name] / by_hand:.2f} x by hand ({by_hand * 1e3:.1f} ms)")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds; rough figures")
    quick = parser.parse_args().quick
    turns = 5 if quick else 15
    with tempfile.TemporaryDirectory() as store:
        os.environ["SUPERLUIGI_STORE"] = store
        lines = constructing(turns, 200 if quick else 1000)
        lines += running(turns, 20 if quick else 100)
        lines += whole_runs(3 if quick else 7, 20 if quick else 100)
        lines += diamond()
        lines += saving(turns, 10_000 if quick else 100_000)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

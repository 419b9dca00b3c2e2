"""The engine against its peers: what a task costs beside its own work.

    python benchmarks/engine.py [--quick] [--markdown FILE] [--peers-python PYTHON] [--taskproc-python PYTHON]
                                [--only empty,cold,warm,workers,handover,luigi]

Graphs: wide (n leaves below a root), chain, grid (diamonds: each task needs two of the layer below) and mapreduce
(three levels). Every measurement is a process of its own, in turns; CPU is that of the process and its children,
from before the run is asked for to after it has ended, without start-up and imports. Peers that are not installed
are left out; --peers-python names an interpreter that has them (their pins do not agree with ours).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SHAPES = ("wide", "chain", "grid", "mapreduce")
CONTENT = "x" * 1024
Graph = list[list[int]]
Work = Callable[[], object]
#: What a contender measures beside CPU, wall time and memory.
extra: dict[str, float] = {}


def edges(shape: str, n: int) -> list[list[int]]:
    """Requirements of each of about `n` tasks; task i requires only smaller ones, the last is the root."""
    if shape == "wide":
        return [[] for _ in range(n - 1)] + [list(range(n - 1))]
    if shape == "chain":
        return [[i - 1] if i else [] for i in range(n)]
    if shape == "mapreduce":
        width = max(2, int(n**0.5))
        maps = n - width - 1
        reducers = [list(range(k, maps, width)) for k in range(width)]
        return [[] for _ in range(maps)] + reducers + [list(range(maps, maps + width))]
    side = max(2, int(n**0.5))
    grid: list[list[int]] = []
    for i in range(n - 1):
        row, column = divmod(i, side)
        below = [(row - 1) * side + column, (row - 1) * side + (column + 1) % side] if row else []
        grid.append(sorted(set(below)))
    needed = {dep for deps in grid for dep in deps}
    return [*grid, [i for i in range(n - 1) if i not in needed]]


def cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def resident_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1000


def measured(work: Callable[[], object], n: int) -> dict[str, float]:
    memory, cpu_before, wall = resident_kb(), cpu(), time.perf_counter()
    work()
    wall, used = time.perf_counter() - wall, cpu() - cpu_before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024
    return {"cpu_ms": used / n * 1e3, "wall_ms": wall / n * 1e3, "kb": max(0.0, peak - memory) / n, **extra}


# ---------------------------------------------------------------- contenders (each in a process of its own)


def luigi_tasks(base: Any, graph: list[list[int]], body: dict[str, Any]) -> Any:
    """The root of a graph of tasks of class `base` with these methods; all instances exist already."""
    import luigi

    task_class = type("Bench", (base,), {"i": luigi.IntParameter(), "made": False, **body})
    made = [task_class(i=i) for i in range(len(graph))]
    task_class.requires = lambda self: [made[dep] for dep in graph[self.i]]
    return made[-1]


def empty_body() -> dict[str, Any]:
    def run(self: Any) -> None:
        self.made = True

    return {"run": run, "complete": lambda self: self.made}


def file_body(folder: str, target: Any, sleep: float = 0.0, fresh_root: int | None = None) -> dict[str, Any]:
    def output(self: Any) -> Any:
        suffix = ".again" if self.i == fresh_root else ""
        return target(f"{folder}/{self.i}{suffix}.txt")

    def run(self: Any) -> None:
        time.sleep(sleep)
        with self.output().open("w") as stream:
            stream.write(CONTENT)

    return {"output": output, "run": run}


def our_body(folder: str, sleep: float = 0.0, fresh_root: int | None = None) -> dict[str, Any]:
    from superluigi.targets import LocalFileTarget

    def run(self: Any, output_path: Any) -> None:
        if sleep:
            time.sleep(sleep)
        output_path.write_text(CONTENT)

    return {**file_body(folder, LocalFileTarget, fresh_root=fresh_root), "run": run}


def ours(root: Any, workers: int, executor: Any = None) -> Callable[[], object]:
    from superluigi.engine.engine import run_graph

    def go() -> None:
        report = run_graph(root, num_workers=workers, executor=executor)
        if not report.success:
            raise SystemExit(report.describe() or report.summary)

    return go


def luigis(root: Any, workers: int) -> Callable[[], object]:
    import luigi

    def go() -> None:
        if not luigi.build([root], local_scheduler=True, workers=workers, log_level="ERROR"):
            raise SystemExit("luigi failed")

    return go


def contender_superluigi(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import luigi

    from superluigi.tasks import AtomicTaskWithMetadata

    if case == "empty":
        return ours(luigi_tasks(luigi.Task, graph, empty_body()), workers)
    os.environ["SUPERLUIGI_DURABLE"] = "false"
    fresh = len(graph) - 1 if case == "warm-again" else None
    return ours(luigi_tasks(AtomicTaskWithMetadata, graph, our_body(folder, sleep, fresh)), workers)


def importable(name: str, graph: Graph, folder: str, sleep: float) -> Any:
    """The root of a graph of as many tasks from a module that other processes import."""
    import engine_tasks

    os.environ["SUPERLUIGI_DURABLE"] = "false"
    return getattr(engine_tasks, name)(folder=folder, i=len(graph) - 1, seconds=sleep)


def contender_workers_superluigi(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    executor = "threads" if case == "threads" else None
    return ours(importable("Wide", graph, folder, sleep), workers, executor)


def contender_workers_luigi(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    return luigis(importable("LuigiWide", graph, folder, sleep), workers)


def contender_chain(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    """Prints how long after each task the next one began."""
    go = ours(importable("Link", graph, folder, sleep), workers, None if case == "here" else case)

    def measured_gaps() -> None:
        go()
        times = [Path(f"{folder}/{i}.txt").read_text().split() for i in range(len(graph))]
        gaps = sorted(float(later[0]) - float(earlier[1]) for earlier, later in itertools.pairwise(times))
        extra["gap_ms"] = statistics.median(gaps) * 1e3
        extra["gap_95_ms"] = gaps[int(len(gaps) * 0.95)] * 1e3

    return measured_gaps


def contender_superluigi_engine_only(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    """Luigi's own tasks and targets under our scheduler and worker: what the engine alone changes."""
    import luigi

    fresh = len(graph) - 1 if case == "warm-again" else None
    return ours(luigi_tasks(luigi.Task, graph, file_body(folder, luigi.LocalTarget, sleep, fresh)), workers)


def contender_luigi(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import luigi

    fresh = len(graph) - 1 if case == "warm-again" else None
    body = empty_body() if case == "empty" else file_body(folder, luigi.LocalTarget, sleep, fresh)
    return luigis(luigi_tasks(luigi.Task, graph, body), workers)


def contender_gokart(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import gokart
    import luigi

    def run(self: Any) -> None:
        time.sleep(sleep)
        self.dump(CONTENT)

    def output(self: Any) -> Any:
        return self.make_target(f"{self.i}.pkl")

    class Base(gokart.TaskOnKart):  # type: ignore[misc]
        workspace_directory = luigi.Parameter(default=folder)

    return luigis(luigi_tasks(Base, graph, {"run": run, "output": output}), workers)


def contender_law(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import law

    def run(self: Any) -> None:
        time.sleep(sleep)
        self.output().dump(CONTENT, formatter="text")

    def output(self: Any) -> Any:
        return law.LocalFileTarget(f"{folder}/{self.i}.txt")

    return luigis(luigi_tasks(law.Task, graph, {"run": run, "output": output}), workers)


def contender_joblib(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import joblib

    def step(i: int, inputs: list[str]) -> str:
        return CONTENT

    cached = joblib.Memory(folder, verbose=0).cache(step, ignore=["inputs"])

    def go() -> None:
        for i in range(len(graph)):
            cached(i, [])

    return go


def contender_redun(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import logging

    import redun

    logging.disable(logging.CRITICAL)

    @redun.task(namespace="bench", version="1")  # type: ignore[misc]
    def step(i: int, inputs: list[str]) -> str:
        return CONTENT

    def go() -> None:
        values: list[Any] = []
        for i, deps in enumerate(graph):
            values.append(step(i, [values[dep] for dep in deps]))
        redun.Scheduler().run(values[-1])

    return go


def contender_taskproc(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import taskproc

    module = "from taskproc import FutureList, Task\n\nclass Step(Task):\n"  # it reads the source of a class
    module += "    def __init__(self, i, inputs):\n        self.inputs = FutureList(inputs)\n\n"
    module += f"    def run_task(self):\n        return {CONTENT!r}\n"
    Path("taskproc_steps.py").write_text(module)
    sys.path.insert(0, "")
    from taskproc_steps import Step

    def go() -> None:
        with taskproc.Graph(folder):
            values: list[Any] = []
            for i, deps in enumerate(graph):
                values.append(Step(i, [values[dep] for dep in deps]))
        with contextlib.redirect_stdout(io.StringIO()):
            values[-1].run_graph(executor=ThreadPoolExecutor(1))

    return go


def contender_dask(case: str, graph: Graph, folder: str, workers: int, sleep: float) -> Work:
    import dask

    def step(i: int, inputs: list[Any]) -> int:
        if case != "empty":
            Path(f"{folder}/{i}.txt").write_text(CONTENT)
        return i

    def go() -> None:
        values: list[Any] = []
        for i, deps in enumerate(graph):
            values.append(dask.delayed(step, pure=False)(i, [values[dep] for dep in deps]))
        dask.compute(values[-1], scheduler="sync" if workers == 1 else "threads")

    return go


CONTENDERS: dict[str, Any] = {
    name.removeprefix("contender_").replace("_", "-"): function
    for name, function in list(globals().items())
    if name.startswith("contender_")
}
PEERS = ("gokart", "law", "joblib", "redun", "dask")


def child(name: str, case: str, shape: str, n: int, workers: int, sleep: float) -> None:
    """Measure one contender on one graph; print the result as JSON."""
    sys.setrecursionlimit(100_000)
    graph = edges(shape, n)
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    os.chdir(folder)
    try:
        if case in ("warm", "warm-again"):
            subprocess.run(
                [sys.executable, __file__, "--fill", name, shape, str(n), folder], check=True, stdout=subprocess.DEVNULL
            )
        work = CONTENDERS[name](case if case != "warm" else "warm-again", graph, folder, workers, sleep)
        print(json.dumps(measured(work, len(graph))))
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


def run_child(python: str, name: str, case: str, shape: str, n: int, workers: int = 1, sleep: float = 0.0) -> Any:
    command = [python, __file__, "--child", name, case, shape, str(n), str(workers), str(sleep)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600)
    except subprocess.TimeoutExpired:
        return None
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["?"])[-1][:150]
        print(f"  {name} {case} {shape} {n}: left out ({reason})", file=sys.stderr)
        return None


def median(python: str, repeats: int, *what: Any, **options: Any) -> dict[str, float] | None:
    results = [r for _ in range(repeats) if (r := run_child(python, *what, **options)) is not None]
    return {key: statistics.median(r[key] for r in results) for key in results[0]} if results else None


# ---------------------------------------------------------------- tables


class Tables:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def head(self, title: str, *columns: str) -> None:
        self._say("", f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns))

    def row(self, *cells: object) -> None:
        self._say("| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells) + " |")

    def _say(self, *lines: str) -> None:
        self.lines.extend(lines)
        print("\n".join(lines), flush=True)


def empty(tables: Tables, options: argparse.Namespace) -> None:
    tables.head("Empty tasks without outputs", "graph", "tasks", "engine", "CPU ms/task", "kB/task")
    sizes = (1_000, 10_000) if options.quick else (100, 1_000, 10_000, 100_000)
    for shape in ("wide", "chain") if options.quick else SHAPES:
        base = None
        for n in sizes:
            result = median(sys.executable, 1 if n > 10_000 else options.repeats, "superluigi", "empty", shape, n)
            if result:
                base = result["cpu_ms"] if n == 1_000 else base
                tables.row(shape, n, "superluigi", result["cpu_ms"], result["kb"])
                if n == sizes[-1] and base:
                    tables.row(shape, n, "→ against 1,000 tasks", f"{result['cpu_ms'] / base:.2f} ×", "")
    for n in (500, 1_000) if options.quick else (500, 1_000, 2_000):
        for name, python in (("luigi", sys.executable), ("dask", options.peers_python)):
            result = median(python, 1, name, "empty", "wide", n)
            if result:
                tables.row("wide", n, name, result["cpu_ms"], result["kb"])


def cold(tables: Tables, options: argparse.Namespace) -> None:
    tables.head(
        "Cold: an output of 1 KiB (with a record: ours)", "graph", "tasks", "engine", "CPU ms/task", "wall ms/task"
    )
    for shape, n in (("wide", 1_000),) if options.quick else (("wide", 1_000), ("grid", 1_000), ("wide", 10_000)):
        repeats = options.repeats if n <= 1_000 else 1
        names = ["superluigi", "superluigi-engine-only", *(["luigi"] if n <= 1_000 else [])]
        for name in names:
            result = median(sys.executable, repeats, name, "cold", shape, n)
            if result:
                tables.row(shape, n, name, result["cpu_ms"], result["wall_ms"])
        for name in PEERS if n <= 1_000 or options.patient else ("joblib", "dask"):
            if name == "redun" and shape == "grid":
                continue  # it walks every path of the grid: gigabytes, and no end within minutes
            result = median(options.peers_python, 1, name, "cold", shape, n)
            if result:
                tables.row(shape, n, name, result["cpu_ms"], result["wall_ms"])
    result = run_child(options.taskproc_python, "taskproc", "cold", "wide", 50)  # a process for each task
    if result:
        tables.row("wide", 50, "taskproc", result["cpu_ms"], result["wall_ms"])


def warm(tables: Tables, options: argparse.Namespace) -> None:
    tables.head("Warm: all complete but the root", "graph", "tasks", "engine", "CPU ms/task")
    for n in (1_000,) if options.quick else (1_000, 10_000):
        for name in ("superluigi", "superluigi-engine-only", *(["luigi"] if n <= 1_000 else [])):
            result = median(sys.executable, options.repeats, name, "warm", "wide", n)
            if result:
                tables.row("wide", n, name, result["cpu_ms"])


def workers(tables: Tables, options: argparse.Namespace) -> None:
    n = 300 if options.quick else 1_000
    tables.head(
        f"Two workers on {n:,} tasks of 10 ms", "engine", "workers", "wall s", "CPU s", "speed-up against one worker"
    )
    alone: dict[str, float] = {}
    for name, case, number in (
        ("superluigi", "here", 1),
        ("superluigi", "threads", 2),
        ("superluigi", "processes", 2),
        ("luigi", "here", 1),
        ("luigi", "processes", 2),
    ):
        result = median(sys.executable, min(2, options.repeats), f"workers-{name}", case, "wide", n, number, 0.01)
        if result:
            wall = result["wall_ms"] * n / 1e3
            alone.setdefault(name, wall)
            speed_up = f"{alone[name] / wall:.2f} ×"
            tables.row(name, f"{number}, {case}", wall, result["cpu_ms"] * n / 1e3, speed_up)


def handover(tables: Tables, options: argparse.Namespace) -> None:
    tables.head(
        "From the end of run() to the beginning of its dependant's (a chain; the commit of the output is in it)",
        "where",
        "workers",
        "median ms",
        "95 % within ms",
    )
    for case, number in (("here", 1), ("threads", 2), ("processes", 2)):
        result = median(sys.executable, min(2, options.repeats), "chain", case, "chain", 200, number, 0.01)
        if result:
            tables.row(case, number, result["gap_ms"], result["gap_95_ms"])


def against_luigi(tables: Tables, options: argparse.Namespace) -> None:
    """The slow one: Luigi needs minutes for 10,000 tasks."""
    n = 2_000 if options.quick else 10_000
    tables.head(f"{n:,} cold tasks (wide) against Luigi with LocalTarget", "engine", "CPU s", "wall s", "Luigi takes")
    ours_ = run_child(sys.executable, "superluigi", "cold", "wide", n)
    theirs = run_child(sys.executable, "luigi", "cold", "wide", n)
    for name, result in (("superluigi, with records", ours_), ("luigi", theirs)):
        if result:
            times = f"{result['cpu_ms'] / ours_['cpu_ms']:.1f} × CPU, {result['wall_ms'] / ours_['wall_ms']:.1f} × wall"
            tables.row(name, result["cpu_ms"] * n / 1e3, result["wall_ms"] * n / 1e3, times if ours_ else "")


SECTIONS = {
    "empty": empty,
    "cold": cold,
    "warm": warm,
    "workers": workers,
    "handover": handover,
    "luigi": against_luigi,
}


def fill(name: str, shape: str, n: int, folder: str) -> None:
    sys.setrecursionlimit(100_000)
    CONTENDERS["superluigi" if name == "superluigi" else "superluigi-engine-only"](
        "cold", edges(shape, n), folder, 1, 0.0
    )()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--patient", action="store_true", help="all peers at 10,000 tasks too (many minutes)")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--taskproc-python", default=sys.executable, help="it needs cloudpickle 2, dask cloudpickle 3")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--child", nargs=6)
    parser.add_argument("--fill", nargs=4)
    options = parser.parse_args()
    if options.child:
        name, case, shape, n, number, sleep = options.child
        return child(name, case, shape, int(n), int(number), float(sleep))
    if options.fill:
        name, shape, n, folder = options.fill
        return fill(name, shape, int(n), folder)
    if options.quick:
        options.repeats = 1
    tables = Tables()
    for section in options.only.split(","):
        SECTIONS[section](tables, options)
    if options.markdown:
        about = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}"
        head = ["# The engine", "", about, "", f"`python benchmarks/engine.py {' '.join(sys.argv[1:])}`"]
        options.markdown.write_text("\n".join([*head, *tables.lines, ""]))
    return None


if __name__ == "__main__":
    main()

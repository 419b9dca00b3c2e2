"""What lineage, staleness and the graph page cost: `python benchmarks/lineage.py [--quick]`.

Each figure stands beside a bare version of the same work in the same run, so that busy machines can be read:
tracing beside reading the record files, commands beside starting Python and importing Luigi, the page beside
an empty one. Medians of several runs; commands, S3 and the browser by the clock, the rest in processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PIPELINE = """
from pathlib import Path
import luigi
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.targets import LocalFileTarget
import os

ROOT = os.environ["BENCH_ROOT"]

def target(name):
    if ROOT.startswith("s3://"):
        from superluigi.targets import S3ObjectTarget
        return S3ObjectTarget(ROOT[5:], name)
    return LocalFileTarget(Path(ROOT) / name)

class Source(ExternalTask):
    n = luigi.IntParameter()
    def output(self):
        return target(f"source-{self.n}")

class Part(AtomicTaskWithMetadata):
    n = luigi.IntParameter()
    def requires(self):
        return Source(self.n)
    def output(self):
        return target(f"part-{self.n}")
    def run(self, output_path):
        output_path.write_text(str(self.n))

class Whole(AtomicTaskWithMetadata):
    count = luigi.IntParameter()
    def requires(self):
        return [Part(n) for n in range(self.count)]
    def output(self):
        return target(f"whole-{self.count}")
    def run(self, output_path):
        output_path.write_text("whole")
"""
ROWS: list[tuple[str, str, str, str]] = []


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, fewer repeats")
    args = parser.parse_args()
    scale, repeats = (10, 3) if args.quick else (1, 5)
    folder = Path(tempfile.mkdtemp(prefix="superluigi-bench-"))
    os.environ.update(SUPERLUIGI_WORKSPACE=str(folder / "w"), SUPERLUIGI_LOCAL_DATA_DIR=str(folder / "d"))
    os.environ["SUPERLUIGI_DURABLE"] = "false"
    # Commands are measured as on a user's machine, where Python keeps the bytecode of what it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    (folder / "bench_pipeline.py").write_text(PIPELINE)
    sys.path.insert(0, str(folder))
    try:
        start_up(repeats)
        local(folder, 500 // scale, repeats)
        on_s3(500 // scale, repeats)
        pages(folder, 2000 // scale, repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| what | measured | bare peer in the same run | ratio or budget |\n|---|---|---|---|")
    for row in ROWS:
        print(f"| {' | '.join(row)} |")


def seconds(work: Callable[[], Any], repeats: int, *, wall: bool = False) -> float:
    """The median time of one call: of the processors (child processes included), or by the clock with `wall`."""
    times = []
    work()  # imports, bytecode, the disk's cache
    for _ in range(repeats):
        began, spent = time.perf_counter(), processors()
        work()
        times.append(time.perf_counter() - began if wall else processors() - spent)
    return statistics.median(times)


def processors() -> float:
    """Seconds of processor time that this process and its ended children have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def note(what: str, measured: float, peer: str, bare: float, budget: str) -> None:
    """Keep a line of the table."""
    ROWS.append(
        (what, f"{measured * 1000:.1f} ms", f"{peer}: {bare * 1000:.1f} ms", f"{measured / bare:.2f} x; {budget}")
    )


def call(*words: str, cwd: Path | None = None) -> None:
    """Run Python with words, quietly."""
    subprocess.run([sys.executable, *words], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def start_up(repeats: int) -> None:
    """`superluigi --help` beside starting Python and beside importing Luigi."""
    bare = seconds(lambda: call("-c", "pass"), repeats, wall=True)
    measured = seconds(lambda: call("-m", "superluigi", "--help"), repeats, wall=True)
    note("`superluigi --help`", measured, "`python -c pass`", bare, "budget 350 ms")


def local(folder: Path, count: int, repeats: int) -> None:
    """A whole of `count` parts, each from a source: twice as many ancestors."""
    root = folder / "out"
    root.mkdir()
    os.environ["BENCH_ROOT"] = str(root)
    for number in range(count):
        (root / f"source-{number}").write_text(f"{number}")
    old = time.time() - 3600
    for path in root.iterdir():
        os.utime(path, (old, old))
    import bench_pipeline  # type: ignore[import-not-found]

    from superluigi import lineage
    from superluigi.lineage.code_fingerprint.code import code_identity
    from superluigi.lineage.code_fingerprint.environment import environment

    make(bench_pipeline.Whole(count))
    records = [path for path in root.iterdir() if path.name.endswith(".json")]
    bare = seconds(lambda: [json.loads(path.read_text()) for path in records], repeats)
    place = root / f"whole-{count}"
    measured = seconds(lambda: lineage.trace(place), repeats)
    note(
        f"`lineage.trace`, {2 * count} ancestors on local disk",
        measured,
        "reading the JSON files",
        bare,
        "budget 2 s for 1,000",
    )
    task = bench_pipeline.Whole(count)
    exists = seconds(lambda: [one.complete() for one in (task, *task.deps())], repeats)
    measured = seconds(lambda: lineage.why(task, refresh="all"), repeats)
    note(f"`lineage.why`, {2 * count + 1} tasks", measured, f"`complete()` of {count + 1}", exists, "")
    luigi_start = seconds(lambda: call("-c", "import luigi"), repeats, wall=True)
    for size, budget in ((count, f"budget 1.5 s for 1,000 ({2 * count + 1} tasks here)"), (50, "budget 0.5 s for 100")):
        if size != count:
            make(bench_pipeline.Whole(size))
        command = ("-m", "superluigi", "status", "bench_pipeline", "Whole", "--count", str(size))
        measured = seconds(lambda command=command: call(*command, cwd=folder), repeats, wall=True)  # type: ignore[misc]
        note(f"`superluigi status`, {2 * size + 1} tasks", measured, "`import luigi`", luigi_start, budget)
    part = bench_pipeline.Part(0)
    many = 2000
    code_identity(part), environment(part)
    measured = seconds(lambda: [code_identity(part) for _ in range(many)], repeats) / many
    wrote = seconds(lambda: [json.dumps({"a": "b"}) for _ in range(many)], repeats) / many
    ROWS.append(
        (
            "code identity of one more task",
            f"{measured * 1e6:.1f} us",
            f"a `json.dumps`: {wrote * 1e6:.1f} us",
            "budget 50 us",
        )
    )


def make(task: Any) -> None:
    """Make a task with all it needs, quietly."""
    import contextlib
    import io

    from superluigi import run_task

    with contextlib.redirect_stdout(io.StringIO()):
        run_task(task)


def on_s3(count: int, repeats: int) -> None:
    """The same on an S3 server in this machine, counting requests and how many are under way at once."""
    import importlib

    from superluigi import lineage
    from superluigi.testing.s3_server import s3_server

    with s3_server() as server:
        bucket = server.create_bucket()
        os.environ.update(
            AWS_ENDPOINT_URL=server.endpoint_url, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
            AWS_DEFAULT_REGION="us-east-1", BENCH_ROOT=f"s3://{bucket}",
        )  # fmt: skip
        client = server.client()
        for number in range(count):
            client.put_object(Bucket=bucket, Key=f"source-{number}", Body=b"x")
        import bench_pipeline

        importlib.reload(bench_pipeline)
        make(bench_pipeline.Whole(count))
        keys = [f"part-{number}" for number in range(count)]
        bare = seconds(lambda: [client.head_object(Bucket=bucket, Key=key) for key in keys], 1, wall=True)
        measured = seconds(lambda: lineage.trace(f"s3://{bucket}/whole-{count}"), max(1, repeats // 2), wall=True)
        with server.counted() as requests:
            lineage.trace(f"s3://{bucket}/whole-{count}")
        budget = f"{len(requests)} requests, at most 32 at once; budget 10 s for 1,000"
        note(f"`lineage.trace`, {2 * count} ancestors on S3", measured, f"{count} HEADs in a loop", bare, budget)
        measured = seconds(lambda: lineage.frame(f"s3://{bucket}/"), 1, wall=True)
        note(f"`lineage.frame`, {count + 1} records on S3", measured, f"{count} HEADs in a loop", bare, "")


def pages(folder: Path, count: int, repeats: int) -> None:
    """Making the page of a large graph, and opening it in Chromium."""
    from superluigi.visuals.figure import Figure
    from superluigi.visuals.model import Graph, Node

    record = {"task_id": "t", "params": {"a": 1}, "text": "x" * 1500}
    layers = [count // 2, count // 4, count // 8, count // 16]
    nodes, edges = [], []
    for depth, size in enumerate(layers):
        for number in range(size):
            nodes.append(Node(f"{depth}-{number}", f"Family{depth}", "complete", params={"n": number}, record=record))
            if depth:
                edges += [(f"{depth - 1}-{2 * number + side}", f"{depth}-{number}") for side in (0, 1)]
    graph = Graph("bench", nodes, edges)
    dumped = seconds(lambda: json.dumps([node.as_json() for node in nodes]), repeats)
    measured = seconds(lambda: Figure(graph, "tasks").html, repeats)
    note(f"making the page of {len(nodes)} tasks", measured, "`json.dumps` of its content", dumped, "")
    Figure(graph, "tasks").save(folder / "page.html")
    (folder / "empty.html").write_text("<!DOCTYPE html><p>empty")
    opened = in_browser([folder / "empty.html", folder / "page.html"], repeats)
    if opened is None:
        ROWS.append((f"opening the page of {len(nodes)} tasks", "not measured", "no Chromium or playwright here", ""))
        return
    note(
        f"opening the page of {len(nodes)} tasks, drawn", opened[1], "an empty page", opened[0], "budget 2 s for 2,000"
    )


def in_browser(files: list[Path], repeats: int) -> list[float] | None:
    """Median seconds until each page is loaded and its frame painted."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if path is None:
        return None
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])

        def open_page(file: Path) -> None:
            page = browser.new_page()
            page.goto(file.as_uri())
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            page.close()

        times = [seconds(lambda file=file: open_page(file), repeats, wall=True) for file in files]  # type: ignore[misc]
        browser.close()
    return times


if __name__ == "__main__":
    main()

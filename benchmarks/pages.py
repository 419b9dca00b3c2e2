"""Pages: making one of very many tasks, opening it in a browser, painting all tasks, finding one of them.

Seconds by the clock, and of processor time of the page's own thread (which other work on the machine does not lengthen
as much). Needs Chromium and playwright.

Run: python benchmarks/pages.py [--tasks 50000] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from superluigi.visuals.figure import Figure
from superluigi.visuals.model import Graph, Node

FAMILIES = 10
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def graph_of(count: int) -> Graph:
    """Chains through all families, with long edges to the last task."""
    nodes = [
        Node(f"F{n % FAMILIES}_{n}", f"F{n % FAMILIES}", "stale" if n % 7 == 0 else "complete",
             params={"n": n, "day": f"2026-01-{n % 28 + 1:02d}"}, size=n * 10, duration=n / 10, attempts=1 + n % 2)
        for n in range(count)
    ]  # fmt: skip
    edges = [(nodes[n].id, nodes[n + 1].id) for n in range(count - 1) if n % FAMILIES != FAMILIES - 1]
    edges += [(nodes[n].id, "End") for n in range(count) if n % FAMILIES == FAMILIES - 1 or n % 17 == 0]
    return Graph("End", [*nodes, Node("End", "End", "missing")], edges, "End")


class Clock:
    """Times steps of a page, by the clock and by what its thread has worked."""

    def __init__(self, page: Any) -> None:
        self._tools = page.context.new_cdp_session(page)
        self._tools.send("Performance.enable")
        self.times: dict[str, tuple[float, float]] = {}

    def _worked(self) -> float:
        return next(
            float(one["value"])
            for one in self._tools.send("Performance.getMetrics")["metrics"]
            if one["name"] == "TaskDuration"
        )

    def step(self, name: str, act: Callable[[], object]) -> None:
        worked, started = self._worked(), time.perf_counter()
        act()
        elapsed = time.perf_counter() - started
        now = self._worked()
        self.times[name] = (elapsed, now - worked if now >= worked else now)


def opened(browser: Any, file: Path, count: int) -> dict[str, tuple[float, float]]:
    """One visit of the page."""
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    clock = Clock(page)

    def found() -> None:
        page.fill("#search", f"f3 n={count - 7}")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#details h2')?.textContent === 'F3'")

    def painted() -> None:
        page.click('[data-view="tasks"]')
        page.wait_for_function(f"() => +document.querySelector('#canvas').dataset.painted > {min(4000, count // 2)}")

    def opens() -> None:
        page.goto(file.as_uri())
        page.wait_for_selector(".node", state="attached")

    clock.step("open, families drawn", opens)
    clock.step("all tasks painted", painted)
    clock.step("search, one found and shown", found)
    page.close()
    return clock.times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    args = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None or find_spec("playwright") is None:
        print("not measured: no Chromium or playwright here")
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        graph = graph_of(args.tasks)
        worked, started = time.process_time(), time.perf_counter()
        file = Path(Figure(graph).save(Path(folder) / "page.html"))
        made = time.perf_counter() - started, time.process_time() - worked
        print(f"{args.tasks:,} tasks, {file.stat().st_size / 1e6:.1f} MB")
        print(f"{'making the page':<30} {made[0]:6.2f} s by the clock, {made[1]:6.2f} s worked")
        browser = engine.chromium.launch(executable_path=path, args=FLAGS)
        rounds = [opened(browser, file, args.tasks) for _ in range(1 if args.quick else args.rounds)]
        browser.close()
        for name in rounds[0]:
            elapsed, worked_ = (statistics.median(one[name][at] for one in rounds) for at in (0, 1))
            best = min(one[name][0] for one in rounds)
            print(f"{name:<30} {elapsed:6.2f} s by the clock (best {best:.2f}), {worked_:6.2f} s worked")


if __name__ == "__main__":
    main()

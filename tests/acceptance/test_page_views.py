"""What the pages show, and how they are used: states, panel, table, timeline, small screens, very many tasks."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import luigi
import pytest
from browser_support import Opened

from superluigi import run_task
from superluigi.errors import TaskFailedError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.visuals import plot_dependency_graph
from superluigi.visuals.attempts import telling_lines
from superluigi.visuals.build import critical_path
from superluigi.visuals.figure import Figure
from superluigi.visuals.model import Family, Graph, Node, RunFacts

PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


class ViewedRows(AtomicTaskWithMetadata):
    """Count the rows of one city.

    Empty ones too.
    """

    root = luigi.Parameter(description="where everything lies")
    city = luigi.Parameter(description="of the measurements")

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/{self.city}.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        metadata["rows"] = 1412
        metadata["scores"] = {"rmse": 0.25, "bias": -1}
        metadata["steps"] = ["read", "count"]
        output_path.write_text(self.city * 100)


def helper(values: list[int]) -> int:
    return values[7]


class ViewedReport(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    fails = luigi.BoolParameter(default=False)

    def requires(self) -> Any:
        return [ViewedRows(self.root, city) for city in ("Oslo", "Riga")]

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/report.txt")

    def run(self, output_path: Path) -> None:
        if self.fails:
            print("\n".join(map(str, range(200))))
            helper([])
        output_path.write_text("report")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder in which everything has been made, with its page."""
    run_task(ViewedReport(str(tmp_path)))
    plot_dependency_graph(ViewedReport(str(tmp_path)), tmp_path / "graph.html")
    return tmp_path


def grid(count: int, families: int = 3) -> Graph:
    """Columns of tasks that go down through all families, with long edges across, and one task at the end."""
    nodes = [
        Node(f"F{n % families}_{n}", f"F{n % families}", "stale" if n % 7 == 0 else "complete",
             params={"n": n}, size=n * 10, duration=n / 10, attempts=1 + n % 2)
        for n in range(count)
    ]  # fmt: skip
    edges = [(nodes[n].id, nodes[n + 1].id) for n in range(count - 1) if n % families != families - 1]
    edges += [(nodes[n].id, "End") for n in range(count) if n % families == families - 1 or n % 17 == 0]
    return Graph("End", [*nodes, Node("End", "End", "missing")], edges, "End")


# ---- states


def test_a_second_click_shows_all_states_again_and_with_control_several_are_shown(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(grid(30), "tasks").save(tmp_path / "page.html"))
    page = opened.page
    stale, complete = (page.locator(".chips button", has_text=word) for word in ("stale", "complete"))
    stale.click()
    assert page.locator(".node:not(.filtered)").count() == page.locator(".node.stale").count()
    complete.click()
    assert page.locator(".node:not(.filtered)").count() == page.locator(".node.complete").count()
    stale.click(modifiers=["Control"])
    assert page.locator(".node.filtered").count() == 1
    assert stale.get_attribute("aria-pressed") == complete.get_attribute("aria-pressed") == "true"
    complete.click(modifiers=["Control"])
    stale.click()
    assert page.locator(".node.filtered").count() == 0
    opened.close()


# ---- the panel


def test_the_panel_begins_with_what_the_task_noted_then_what_it_is_then_how_it_ran(browser: Any, made: Path) -> None:
    opened = Opened(browser, made / "graph.html")
    page = opened.page
    page.locator(".node", has_text="ViewedRows").first.click()
    titles = [title.lower() for title in page.locator("#details h3").all_inner_texts()]
    wanted = ["noted by the task", "what it does", "parameters", "run", "record", "code"]
    assert [title for title in titles if title in wanted] == wanted
    assert titles[0] == wanted[0]
    noted = page.locator("#details table").first.all_inner_texts()[0].split()
    assert noted == ["rows", "1412", "scores.rmse", "0.25", "scores.bias", "-1", "steps", '["read",', '"count"]']
    shown = opened.text("#details")
    assert "Count the rows of one city.\n\nEmpty ones too." in shown
    assert "of the measurements" in shown and "where everything lies" in shown
    opened.close()


def test_a_class_without_a_docstring_of_its_own_is_not_described_by_ours(browser: Any, made: Path) -> None:
    opened = Opened(browser, made / "graph.html")
    opened.page.locator(".node", has_text="ViewedReport").click()
    assert "what it does" not in opened.text("#details").lower()
    opened.close()


def test_the_log_of_a_failure_opens_at_the_users_own_line(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    with pytest.raises(TaskFailedError):
        run_task(ViewedReport(str(tmp_path), fails=True), report_file=file)
    opened = Opened(browser, file)
    opened.page.locator(".node", has_text="ViewedReport").click()
    log, own = opened.page.locator("pre.log"), opened.page.locator("pre.log mark.own")
    assert "in helper" in own.inner_text()
    assert log.evaluate("pre => pre.scrollTop") > 500
    outside, inside = log.bounding_box(), own.bounding_box()
    assert outside["y"] <= inside["y"] <= outside["y"] + outside["height"]
    opened.close()


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (["/home/me/flow.py", "/usr/lib/site-packages/pandas/frame.py"], 0),
        (["/home/me/flow.py", "/home/me/more.py"], 1),
        (["/usr/lib/site-packages/pandas/frame.py"], 0),
        (["/tmp/ipykernel_7/1.py", json.__file__, json.decoder.__file__], 0),
    ],
)
def test_the_users_own_line_is_the_last_frame_that_is_not_of_a_package(frames: list[str], told: int) -> None:
    lines = [part for file in frames for part in (f'  File "{file}", line 3, in f', "    f()")]
    log = "\n".join(["before", "Traceback (most recent call last):", *lines, "ValueError: no", "  such column"])
    assert telling_lines(log) == (2 + 2 * told, 2 + 2 * len(frames))
    assert telling_lines("nothing went wrong") == ()


# ---- the table


def test_the_table_sorts_by_every_column_and_follows_search_and_states(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(grid(60), "table").save(tmp_path / "page.html"))
    page = opened.page

    def column(number: int) -> list[str]:
        return [text.strip() for text in page.locator(f"#table tbody td:nth-child({number})").all_inner_texts()]

    assert len(column(1)) == 61
    for title, number, largest in (("Duration", 3, "5.90 s"), ("Size", 4, "590 bytes"), ("Attempts", 5, "2")):
        head = page.locator("#table th", has_text=title)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert column(number)[0] == largest
        assert column(number)[-1] == "", "what has none stands last"
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(number)[0] != largest and column(number)[-1] == ""
    page.locator("#table th", has_text="Task").locator("button").click()
    assert column(1)[0].startswith("End") and column(1)[2].endswith("n=3"), "numbers in names count as numbers"
    page.fill("#search", "f2 n=5")
    assert len(column(1)) == 5
    page.fill("#search", "")
    page.locator(".chips button", has_text="stale").click()
    assert {" ".join(text.split()) for text in column(2)} == {"↻ stale"}
    page.locator("#table tbody tr").first.click()
    assert page.is_visible("#details")
    opened.close()


def test_a_long_table_is_written_as_it_is_scrolled(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(grid(900), "table").save(tmp_path / "page.html"))
    page = opened.page
    assert page.locator("#table tbody tr").count() < 900
    page.wait_for_function(
        "() => { const one = document.querySelector('#table'); one.scrollTop = one.scrollHeight;"
        " return one.querySelectorAll('tbody tr').length === 901; }"
    )
    opened.close()


# ---- edges

CROSSINGS = """() => {
  const boxes = [...document.querySelectorAll('.node')].map((node) => {
    const [x, y] = node.getAttribute('transform').match(/[-\\d.]+/g).map(Number);
    const box = node.querySelector('rect.box');
    return { id: node.dataset.id, x, y, w: +box.getAttribute('width'), h: +box.getAttribute('height') };
  });
  const bad = [], rows = new Map();
  for (const box of boxes) rows.set(box.y, [...(rows.get(box.y) || []), box]);
  for (const path of document.querySelectorAll('#edges path')) {
    const length = path.getTotalLength();
    for (let at = 0; at <= length; at += 6) {
      const p = path.getPointAtLength(at);
      for (const [y, row] of rows) {
        if (p.y < y + 0.5 || p.y > y + row[0].h - 0.5) continue;
        const over = row.find((b) => p.x > b.x + 0.5 && p.x < b.x + b.w - 0.5);
        if (over) { bad.push(`${path.dataset.from} -> ${path.dataset.to} behind ${over.id}`); at = length; }
      }
    }
  }
  return bad;
}"""


def layered(layers: list[int], step: int) -> Graph:
    """Layers of these sizes; each task needs some of every layer above it, near and far."""
    names = [[f"L{depth}_{n}" for n in range(size)] for depth, size in enumerate(layers)]
    edges = [
        (above, task)
        for depth, row in enumerate(names)
        for n, task in enumerate(row)
        for other in names[:depth]
        for above in other[n % step :: step]
    ]
    return Graph("layers", [Node(one, one.split("_")[0], "complete") for row in names for one in row], edges, "")


@pytest.mark.parametrize(
    "graph",
    [grid(20), grid(200), layered([3, 30, 2, 40, 1], 9), layered([20] * 5, 9), layered([5, 1, 5, 1, 5], 2)],
    ids=["small", "wrapped", "uneven", "wide", "narrow"],
)
def test_no_edge_runs_behind_a_box(browser: Any, tmp_path: Path, graph: Graph) -> None:
    opened = Opened(browser, Figure(graph, "tasks").save(tmp_path / "page.html"))
    assert opened.page.locator("#edges path").count() == len(graph.edges)
    assert opened.page.evaluate(CROSSINGS) == []
    opened.close()


# ---- the timeline


def at(second: float) -> str:
    moment = datetime.datetime(2026, 3, 5, 22, 30, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=second)
    return moment.isoformat()


#: As outputs name their writers: host, boot, namespace of processes, process.
NORTH, SOUTH = "north-0123456789ab.77-4711", "south-0123456789ab.78-4712"


def a_run() -> Graph:
    """Two workers, a failed attempt, a task of an earlier run."""
    run, earlier = "20260305T223000Z-0a1b2c3d", "20260301T120000Z-ffffffff"
    nodes = [
        Node("a", "Load", "ran", start=at(0), duration=10, worker=NORTH, run=run),
        Node("b", "Load", "ran", start=at(1), duration=20, worker=SOUTH, run=run),
        Node("c", "Fit", "ran", start=at(25), duration=5, worker=NORTH, run=run, failed_attempts=[
            {"error": "OSError: busy", "start": at(22), "duration": 2.0, "worker": NORTH, "run": run}]),
        Node("d", "Old", "complete", start="2026-03-01T12:00:00+00:00", duration=3, worker="x-1", run=earlier),
    ]  # fmt: skip
    facts = RunFacts(run, at(0), 31.5, ["b", "c"], 25.0)
    edges = [("a", "c"), ("b", "c"), ("d", "c")]
    return Graph("Run of Fit", nodes, edges, "c", run=facts, made=at(40), command="superluigi run flow Fit")


def test_the_timeline_names_runs_and_workers_in_words_and_tells_local_time(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(a_run(), "timeline").save(tmp_path / "page.html"), timezone_id="Asia/Tokyo")
    page = opened.page
    runs = page.locator("#timeline select option").all_inner_texts()
    assert runs[0] == "2026-03-06 07:30:00 · 4 attempts in 30.0 s"
    assert runs[1].startswith("2026-03-01 21:00:00")
    lanes = "\n".join(page.locator("#timeline .lane").all_text_contents())
    assert "worker 1 on north · process 4711" in lanes and "worker 2 on south · process 4712" in lanes
    assert "07:30:05" in page.locator("#timeline .time").all_text_contents()
    assert "Asia/Tokyo, UTC+9" in opened.text("#timeline")
    assert page.locator("#timeline .bar.s-failed").count() == 1
    assert page.locator("#timeline .bar.s-ran").count() == 3
    colours = page.evaluate(
        "() => ['failed', 'ran'].map((s) => getComputedStyle(document.querySelector(`.bar.s-${s} rect`)).fill)"
    )
    assert colours[0] != colours[1]
    opened.close()


# ---- the report of a run


def test_a_run_says_how_long_by_what_command_what_ran_and_its_critical_path(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(a_run(), "tasks").save(tmp_path / "page.html"), timezone_id="Europe/Oslo")
    page = opened.page
    facts = " ".join(opened.text("#facts").split())
    assert "31.5 s from 2026-03-05 23:30:00" in facts
    assert "3 ran, 1 complete before" in facts
    assert "page made 2026-03-05 23:30:40 (Europe/Oslo, UTC+1) by superluigi run flow Fit" in facts
    assert "critical path 25.0 s in 2 tasks" in facts
    assert page.locator(".node.critical").count() == 2 and page.locator("#edges path.critical").count() == 1
    signs = [page.locator(f".node.{state} .sign").first.text_content() for state in ("ran", "complete")]
    assert signs[0] != signs[1]
    page.click("#critical")
    assert page.get_attribute("#critical", "aria-pressed") == "true"
    dimmed = page.evaluate("() => getComputedStyle(document.querySelector('.node[data-id=\"a\"]')).opacity")
    assert float(dimmed) < 0.5
    opened.close()


def test_the_critical_path_is_the_chain_that_took_longest_of_what_ran() -> None:
    nodes = [
        Node("fast", "A", "ran", duration=1.0),
        Node("slow", "A", "ran", duration=5.0),
        Node("ages", "A", "complete", duration=100.0),  # of an earlier run
        Node("between", "W", "external"),
        Node("last", "B", "failed", duration=9.0, failed_attempts=[{"duration": 2.0}]),
    ]
    edges = [("fast", "last"), ("slow", "between"), ("between", "last"), ("ages", "last")]
    assert critical_path(nodes, edges) == (["slow", "last"], 7.0)
    assert critical_path([Node("x", "X", "complete", duration=3)], []) == ([], 0.0)


def test_the_report_of_a_real_run_has_its_seconds_and_command(browser: Any, tmp_path: Path) -> None:
    run_task(ViewedReport(str(tmp_path)), report_file=tmp_path / "run.html")
    opened = Opened(browser, tmp_path / "run.html")
    facts = " ".join(opened.text("#facts").split())
    assert re.search(r"[\d.]+ (m?s|min) from \d{4}-", facts) and "3 ran, 0 complete before" in facts
    assert "page made" in facts and " by " in facts
    opened.close()


def test_the_command_of_a_page_hides_passwords_and_private_parameters(tmp_path: Path) -> None:
    (tmp_path / "pipeline_of_secrets.py").write_text(
        "import luigi\nfrom luigi.parameter import ParameterVisibility\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\nfrom superluigi.targets import LocalFileTarget\n"
        "class Guarded(AtomicTaskWithMetadata):\n"
        "    api_key = luigi.Parameter(visibility=ParameterVisibility.PRIVATE, significant=False)\n"
        "    day = luigi.Parameter()\n"
        "    def output(self): return LocalFileTarget('out.txt')\n"
    )
    command = [sys.executable, "-m", "superluigi", "graph", "pipeline_of_secrets", "Guarded"]
    for secret in (["--api-key", "hunter2"], ["--api-key=hunter2"]):
        words = [*command, *secret, "--day", "postgresql://me:swordfish@host/db", "--html", "g.html"]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
        text = (tmp_path / "g.html").read_text()
        shown = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
        assert "hunter2" not in text
        assert "swordfish" not in shown["command"]
        assert shown["command"].startswith("superluigi graph pipeline_of_secrets Guarded --api-key")


# ---- small screens, frames, many tasks


@pytest.mark.parametrize("view", ["tasks", "families", "table", "timeline"])
def test_nothing_overflows_a_phone_and_the_words_are_those_of_touch(browser: Any, tmp_path: Path, view: str) -> None:
    graph = a_run()
    long = Node("e", "Load", "blocked", params={"path": "x" * 90}, size=123456789, attempts=3, reason="y" * 80)
    graph = Graph("A very long title " * 4, [*graph.nodes, long], graph.edges, "c", "z=" * 50, run=graph.run,
                  command="superluigi run " + "word-" * 40)  # fmt: skip
    opened = Opened(browser, Figure(graph).save(tmp_path / "page.html"), **PHONE)
    page = opened.page
    page.tap(f'[data-view="{view}"]')
    wide = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide == [390, 390]
    tabs = page.locator(".tabs button").last.bounding_box()
    assert tabs["x"] + tabs["width"] <= 390
    for name in ("#table", "#timeline"):
        assert page.evaluate(
            "(name) => { const e = document.querySelector(name); return e.scrollWidth <= e.clientWidth; }", name
        )
    if view == "tasks":
        assert opened.text("#hint") == "drag to move · pinch to zoom · tap a task"
        page.locator(".node.ran").first.tap()
        box = page.locator("#details").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    opened.close()


def test_a_phone_shows_names_before_anybody_zooms(browser: Any, tmp_path: Path) -> None:
    nodes = [Node(f"n{i}", f"Extract{i}", "failed" if i == 30 else "complete") for i in range(40)]
    edges = [(node.id, "root") for node in nodes]
    graph = Graph("Wide", [*nodes, Node("root", "Report", "missing")], edges, "root")
    opened = Opened(browser, Figure(graph).save(tmp_path / "page.html"), **PHONE)
    page = opened.page
    page.tap('[data-view="tasks"]')
    assert page.locator('.node[data-id="n30"] .name').is_visible(), "what failed is in sight, with its name"
    box = page.locator('.node[data-id="n30"] .box').bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 60
    page.locator('[data-zoom="fit"]').tap()
    whole = page.locator("#world").bounding_box()
    assert whole["width"] <= 390, "and the whole is one touch away"
    opened.close()


def test_a_page_without_records_says_how_to_get_them(browser: Any, tmp_path: Path) -> None:
    nodes = [
        Node(
            f"n{i}", "Extract", "complete", params={"n": str(i), "city_name": "La Paz"}, outputs=(f"out/it's {i}.csv",)
        )
        for i in range(4_001)
    ]
    classes = {"Extract": Family(module="flights")}
    graph = Graph("Many", [*nodes, Node("end", "End", "missing")], [("n0", "end")], "end", classes=classes)
    opened = Opened(browser, Figure(graph).save(tmp_path / "page.html"))
    page = opened.page
    page.fill("#search", "n=4000")
    page.keyboard.press("Enter")
    said = page.locator("#details pre.record").inner_text().splitlines()
    lineage, logs, show = map(shlex.split, said)
    assert lineage == ["superluigi", "lineage", "out/it's 4000.csv", "--json"]
    assert logs[:2] == ["superluigi", "logs"] and show[:2] == ["superluigi", "show"]
    assert logs[2:] == show[2:] == ["flights", "Extract", "--n", "4000", "--city-name", "La Paz"]
    opened.close()


def test_two_fingers_zoom(browser: Any, made: Path) -> None:
    opened = Opened(browser, made / "graph.html", **PHONE)
    page = opened.page
    before = page.get_attribute("#world", "transform")
    send = page.context.new_cdp_session(page).send

    def touch(kind: str, apart: int) -> None:
        points = (
            [] if kind == "touchEnd" else [{"x": 195 - apart, "y": 500, "id": 0}, {"x": 195 + apart, "y": 500, "id": 1}]
        )
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for apart in (30, 45, 60):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    scales = [
        float(re.search(r"scale\(([\d.]+)\)", one)[1]) for one in (before, page.get_attribute("#world", "transform"))
    ]
    assert scales[1] > 1.5 * scales[0]
    assert not page.is_visible("#details")
    opened.close()


def test_the_wheel_scrolls_the_notebook_until_the_graph_has_been_clicked(browser: Any, tmp_path: Path) -> None:
    picture = Figure(grid(20), "tasks")
    (tmp_path / "notebook.html").write_text(
        f"<!DOCTYPE html><body style='margin:0'>{picture._repr_html_()}<div style='height:4000px'>more</div></body>"
    )
    context = browser.new_context(viewport={"width": 900, "height": 700})
    page = context.new_page()
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".node").first.wait_for()
    scale = frame.locator("#world")
    before = scale.get_attribute("transform")
    page.mouse.move(400, 400)
    page.mouse.wheel(0, 200)
    page.wait_for_function("() => scrollY > 100")
    assert scale.get_attribute("transform") == before
    frame.locator("#hint").wait_for()
    for _ in range(30):  # a browser that is busy may still hand events to where the page was before it was scrolled
        page.evaluate("() => scrollTo(0, 0)")
        page.wait_for_function("() => scrollY === 0")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.mouse.click(30, 500)
        page.mouse.wheel(0, 200)
        page.wait_for_timeout(200)
        if scale.get_attribute("transform") != before:
            break
    assert scale.get_attribute("transform") != before
    assert page.evaluate("() => scrollY") == 0
    context.close()


@pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_very_many_tasks_open_as_families_and_are_painted_found_and_listed(
    browser: Any, tmp_path: Path, count: int
) -> None:
    graph = grid(count, families=10)
    opened = Opened(browser, Figure(graph).save(tmp_path / "page.html"))
    page = opened.page
    assert page.locator(".node").count() == 11, "one for each family"
    opened_after = page.evaluate("() => performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{count} tasks: loaded after {opened_after:.0f} ms")
    page.click('[data-view="tasks"]')
    page.wait_for_function("() => +document.querySelector('#canvas').dataset.painted > 4000")
    assert page.locator(".node").count() == 0, "no element for each task"
    page.fill("#search", f"f3 n={count - 7}")
    page.keyboard.press("Enter")
    assert opened.text("#details h2") == "F3"
    page.wait_for_function("() => +document.querySelector('#canvas').dataset.painted < 1000")
    page.locator("#canvas").press("ArrowDown")
    assert opened.text("#details h2") == "F4", "the keyboard goes along the data"
    box = page.locator("#canvas").bounding_box()
    page.keyboard.press("Escape")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.is_visible("#details"), "a click finds what is painted under it"
    page.locator(".chips button", has_text="stale").click()
    page.fill("#search", "")
    page.click('[data-view="table"]')
    assert page.locator("#table tbody tr").count() > 50
    opened.close()


@pytest.mark.parametrize(
    "name", ["W" * 40, "東京" * 20, "🎉" * 30, "il" * 40], ids=["broad", "wide", "signs", "narrow"]
)
@pytest.mark.parametrize("count", [3, 90])
def test_names_and_parameters_end_inside_their_boxes(browser: Any, tmp_path: Path, name: str, count: int) -> None:
    nodes = [Node(str(n), name, "complete", params={"text": f"{name}{n}"}) for n in range(count)]
    opened = Opened(browser, Figure(Graph("Wide", nodes, [])).save(tmp_path / "page.html"))
    opened.page.click('[data-view="tasks"]')
    beyond = """() => [...document.querySelectorAll('.node')].filter((node) => {
      const box = node.querySelector('.box').getBBox();
      return [...node.querySelectorAll('.name, .params')].some((text) => {
        const { x, width } = text.getBBox();
        return !text.textContent.endsWith('…') || x + width > box.x + box.width || width < box.width / 2;
      });
    }).length"""
    assert opened.page.evaluate(beyond) == 0
    opened.close()


def test_attempts_of_one_process_stand_in_one_lane_however_they_ended(browser: Any, tmp_path: Path) -> None:
    host, world = "a_machine.example", "0123456789ab.4026531836"
    failed = [{"error": "ValueError: \u202etxet", "start": at(3), "duration": 1.0, "worker": f"{host}-7", "run": "r"}]
    nodes = [
        Node("a", "Good", "ran", start=at(1), duration=1.0, worker=f"{host}-{world}-7", run="r"),
        Node("b", "Bad", "failed", failed_attempts=failed, worker=f"{host}-7", reason="ValueError: \u202etxet"),
        Node("c", "Other", "ran", start=at(1), duration=1.0, worker=f"{'long' * 6}-{world}-8", run="r"),
    ]
    opened = Opened(browser, Figure(Graph("Lanes", nodes, [])).save(tmp_path / "page.html"))
    page = opened.page
    page.click('[data-view="timeline"]')
    assert "on 2 workers" in opened.text("#timeline")
    lanes = page.locator("#timeline .lane").all_text_contents()
    assert f"worker 1 on {host} · process 7" in lanes[0]
    boxes = "(selector) => [...document.querySelectorAll(selector)].map((one) => one.getBBox())"
    ends = page.evaluate(f"() => Math.max(...({boxes})('.lane').map((box) => box.x + box.width))")
    assert ends < page.evaluate(f"() => Math.min(...({boxes})('.bar rect').map((box) => box.x))")
    page.locator('.bar[data-id="b"]').first.click()
    assert f"process 7 on {host}" in opened.text("#details")
    assert "ValueError: \\u202etxet" in opened.text("#details"), "what turns text around is written out"
    opened.close()


def test_what_a_class_says_is_told_of_its_family(browser: Any, tmp_path: Path) -> None:
    graph = grid(100)
    graph = Graph("End", graph.nodes, graph.edges, "End", classes={"F1": Family("Makes ones.", {"n": "how many"})})
    opened = Opened(browser, Figure(graph, "families").save(tmp_path / "page.html"))
    opened.page.locator(".node", has_text="F1").click()
    assert "Makes ones." in opened.text("#details") and "how many" in opened.text("#details")
    opened.close()

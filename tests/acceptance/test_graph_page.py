"""The graph page in a real browser: it opens without complaints, loads nothing, and shows what one looks for."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import luigi
import pytest
from browser_support import Opened

from superluigi import run_task
from superluigi.errors import OptionError, TaskFailedError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.visuals import plot_dependency_graph, plot_lineage
from superluigi.visuals.figure import Figure
from superluigi.visuals.layout import lay_out
from superluigi.visuals.model import Graph, Node

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)></script>"


class PagedSource(ExternalTask):
    root = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/source.txt")


class PagedClean(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    note = luigi.Parameter(default=EVIL)
    token = luigi.Parameter(
        default="hunter2", visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False
    )

    def requires(self) -> Any:
        return PagedSource(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/clean.txt")

    def run(self, input_path: Path, output_path: Path, metadata: dict[str, Any]) -> None:
        print(f"cleaning {EVIL}")
        output_path.write_text(input_path.read_text())
        metadata["comment"] = EVIL


class PagedReport(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    day = luigi.Parameter(default="2013-12-15")
    fails = luigi.BoolParameter(default=False)

    def requires(self) -> Any:
        return [PagedClean(self.root), PagedSource(self.root)]

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/report.txt")

    def run(self, output_path: Path) -> None:
        if self.fails:
            raise ValueError("no <b>such</b> column")
        output_path.write_text("report")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "source.txt").write_text("x")
    return tmp_path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_shows_parameters_record_log_code_and_lineage(browser: Any, root: Path, scheme: str) -> None:
    run_task(PagedReport(str(root)))
    file = root / "graph.html"
    folder = root / "pipeline"
    plot_dependency_graph(PagedReport(str(root)), file)
    assert not folder.exists()
    opened = Opened(browser, file, color_scheme=scheme)
    page = opened.page
    assert page.locator(".node").count() == 3
    assert page.locator("#edges path").count() == 3
    assert opened.text("h1") == "PagedReport"
    assert "2 complete" in " ".join(opened.text(".chips").split())
    page.locator(".node", has_text="PagedClean").click()
    shown = opened.text("#details")
    assert EVIL in shown, "markup in a parameter stays text"
    assert "PagedSource" in shown and "PagedReport" in shown, "what it was made from, and what uses it"
    assert "PagedClean.run" in shown, "the code it reaches"
    record = json.loads(opened.text("#details pre.record"))
    assert record == LocalFileTarget(root / "clean.txt").read_metadata()
    assert "hunter2" not in page.content()
    page.locator("#details .links button", has_text="PagedReport").click()
    assert opened.text("#details h2") == "PagedReport"
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    opened.close()


def test_search_finds_by_words_of_parameters_and_goes_to_the_task(browser: Any, tmp_path: Path) -> None:
    file = Figure(many(300)).save(tmp_path / "many.html")
    opened = Opened(browser, file)
    page = opened.page
    assert page.get_attribute('[data-view="families"]', "aria-selected") == "true", "many tasks open as families"
    assert page.locator(".node").count() == 4
    page.keyboard.press("/")
    page.fill("#search", "clean day=17")
    assert page.locator("#matches li").count() == 1
    page.keyboard.press("Enter")
    assert opened.text("#details h2") == "Clean"
    assert "17" in opened.text("#details table")
    box = page.locator(".node.at").bounding_box()
    assert box and 0 < box["x"] < 1300 and 0 < box["y"] < 800, "the task is in sight"
    page.fill("#search", "nothing like this")
    assert "nothing found" in opened.text("#matches")
    opened.close()


def test_the_keyboard_walks_along_the_data(browser: Any, root: Path) -> None:
    run_task(PagedReport(str(root)))
    opened = Opened(browser, plot_lineage(root / "report.txt").save(root / "walk.html"))
    page = opened.page
    page.locator(".node", has_text="PagedReport").focus()
    page.keyboard.press("Enter")
    assert opened.text("#details h2") == "PagedReport"
    page.keyboard.press("ArrowUp")
    above = opened.text("#details h2")
    assert above in ("PagedClean", "source.txt")
    page.keyboard.press("ArrowDown")
    assert opened.text("#details h2") in ("PagedReport", "PagedClean")
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    opened.close()


def test_a_click_on_a_state_shows_only_it_and_families_open(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, Figure(many(200)).save(tmp_path / "many.html"))
    page = opened.page
    page.locator(".node", has_text="Clean").click()
    assert "tasks" in opened.text("#details").lower()
    page.locator("#details .links button").first.click()
    assert page.locator(".node").count() == 201
    page.locator(".chips button", has_text="stale").click()
    assert page.locator(".node.stale.filtered").count() == 0 < page.locator(".node.stale").count()
    assert page.locator(".node.filtered").count() == page.locator(".node:not(.stale)").count() > 0
    opened.close()


def test_wheel_drag_and_buttons_move_the_graph_and_a_drag_is_no_click(browser: Any, root: Path) -> None:
    plot_dependency_graph(PagedReport(str(root)), root / "graph.html")
    opened = Opened(browser, root / "graph.html")
    page = opened.page

    def where() -> str:
        return str(page.get_attribute("#world", "transform"))

    start = where()
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -300)
    page.wait_for_function("before => document.querySelector('#world').getAttribute('transform') !== before", arg=start)
    zoomed = where()
    page.mouse.down()
    page.mouse.move(680, 440, steps=4)
    page.mouse.up()
    assert where() != zoomed
    assert not page.is_visible("#details")
    page.click("[data-zoom=fit]")
    assert where() == start
    opened.close()


def test_a_run_report_shows_the_failure_its_log_and_a_timeline(browser: Any, root: Path) -> None:
    file = root / "run.html"
    with pytest.raises(TaskFailedError):
        run_task(PagedReport(str(root), fails=True), report_file=file)
    opened = Opened(browser, file)
    page = opened.page
    assert "1 failed" in " ".join(opened.text(".chips").split())
    page.locator(".node", has_text="PagedReport").click()
    shown = opened.text("#details")
    assert "ValueError: no <b>such</b> column" in shown
    assert "Traceback" in opened.text("#details pre.log")
    page.locator(".node", has_text="PagedClean").click()
    assert f"cleaning {EVIL}" in opened.text("#details pre.log")
    page.click('[data-view="timeline"]')
    assert page.locator("#timeline .bar").count() == 2
    assert page.locator("#timeline .bar.s-failed").get_attribute("aria-label") == "PagedReport, failed"
    page.locator("#timeline .bar.s-ran").click()
    assert opened.text("#details h2") == "PagedClean"
    opened.close()


class PagedSecondTry(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    retry_count = 2

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/second-try.txt")

    def run(self, output_path: Path) -> None:
        mark = Path(self.root, "tried")
        if not mark.exists():
            mark.touch()
            raise OSError("the line was busy")
        output_path.write_text("x")


def test_an_attempt_that_failed_is_a_bar_although_the_next_one_went_well(browser: Any, root: Path) -> None:
    config = {"scheduler": {"retry_delay": 0}, "worker": {"keep_alive": True, "wait_interval": 0.1, "wait_jitter": 0}}
    run_task(PagedSecondTry(str(root)), config=config, report_file=root / "run.html")
    opened = Opened(browser, root / "run.html")
    opened.page.click('[data-view="timeline"]')
    assert opened.page.locator("#timeline .bar").count() == 2
    opened.page.locator("#timeline .bar.s-failed").click()
    assert "OSError: the line was busy" in opened.text("#details")
    opened.close()


def test_a_lineage_page_marks_what_has_changed(browser: Any, root: Path) -> None:
    run_task(PagedReport(str(root)))
    (root / "source.txt").write_text("other")
    plot_lineage(root / "report.txt", root / "lineage.html")
    opened = Opened(browser, root / "lineage.html")
    opened.page.locator(".node.changed").click()
    assert str(root / "source.txt") in opened.text("#details")
    opened.close()


def test_a_link_to_a_task_opens_it(browser: Any, root: Path) -> None:
    run_task(PagedReport(str(root)))
    plot_dependency_graph(PagedReport(str(root)), root / "graph.html")
    opened = Opened(browser, root / "graph.html")
    opened.page.locator(".node", has_text="PagedSource").click()
    address = opened.page.url
    opened.page.goto("about:blank")
    opened.page.goto(address)
    assert opened.text("#details h2") == "PagedSource"
    opened.close()


def test_a_picture_in_a_notebook_is_the_page_in_a_frame_of_its_own(browser: Any, root: Path) -> None:
    picture = PagedReport(str(root)).plot_dependency_graph()
    (root / "notebook.html").write_text(f"<!DOCTYPE html><body>{picture._repr_html_()}</body>")
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((root / "notebook.html").as_uri())
    page.frame_locator("iframe").locator(".node").first.click()
    assert page.frame_locator("iframe").locator("#details").is_visible()
    context.close()
    assert complaints == []


def many(count: int) -> Graph:
    """A graph of four families in layers."""
    names = ["Raw", "Clean", "Features"]
    nodes = []
    for number in range(count):
        name, state = names[number % 3], "stale" if number % 7 == 0 else "complete"
        nodes.append(Node(f"{name}_{number}", name, state, params={"day": number // 3}))
    edges = [(nodes[number].id, nodes[number + 1].id) for number in range(count - 1) if number % 3 != 2]
    edges += [(node.id, "Report") for node in nodes if node.name == "Features"]
    return Graph("Report", [*nodes, Node("Report", "Report", "missing")], edges, "Report")


# ---- without a browser


def test_places_go_down_with_the_data_and_do_not_overlap() -> None:
    for count in (5, 60, 500):
        graph = many(count)
        layout = lay_out(graph)
        assert all(layout.positions[one][1] < layout.positions[other][1] for one, other in graph.edges)
        rows: dict[float, list[float]] = {}
        for x, y in layout.positions.values():
            rows.setdefault(y, []).append(x)
        for row in rows.values():
            row.sort()
            assert all(b - a >= layout.sizes.width for a, b in pairwise(row))
        if count > 100:
            assert layout.width < 4 * layout.height, "wide layers are wrapped"


def test_mermaid_and_svg_keep_markup_as_text(root: Path) -> None:
    picture = plot_dependency_graph(PagedReport(str(root)))
    assert "<script" not in picture.mermaid and "<img" not in picture.mermaid
    assert "PagedReport" in picture.mermaid
    import xml.etree.ElementTree as ElementTree

    tree = ElementTree.fromstring(picture.svg)
    names = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"]
    assert sorted(filter(None, names)) == ["PagedClean", "PagedReport", "PagedSource"]
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))
    for text in (picture.html, picture.svg, picture.mermaid):
        assert "hunter2" not in text


def test_an_unknown_suffix_is_an_error_that_names_the_known_ones(root: Path) -> None:
    with pytest.raises(OptionError, match=r"\.html"):
        plot_dependency_graph(PagedReport(str(root)), root / "graph.png")
    plot_dependency_graph(PagedReport(str(root)), root / "graph.md")
    assert (root / "graph.md").read_text().startswith("```mermaid\nflowchart TD")


def test_the_command_writes_the_page_and_prints_where(tmp_path: Path) -> None:
    (tmp_path / "pipeline_of_page.py").write_text(
        "from superluigi.tasks import AtomicTaskWithMetadata\nfrom superluigi.targets import LocalFileTarget\n"
        "class PageTop(AtomicTaskWithMetadata):\n    def output(self): return LocalFileTarget('out.txt')\n"
        "    def run(self): return 'x'\n"
    )

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "superluigi", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert call("graph", "pipeline_of_page", "PageTop", "--html", "g.html").strip() == "g.html"
    assert "PageTop" in (tmp_path / "g.html").read_text()
    assert call("graph", "pipeline_of_page", "PageTop").startswith("flowchart TD")
    assert "○ missing" in call("status", "pipeline_of_page", "PageTop")
    call("run", "pipeline_of_page", "PageTop", "--report", "run.html")
    assert "Run of PageTop" in (tmp_path / "run.html").read_text()
    assert json.loads(call("status", "pipeline_of_page", "PageTop", "--json"))[0]["state"] == "complete"
    assert call("lineage", "out.txt", "--html", "l.html").strip() == "l.html"

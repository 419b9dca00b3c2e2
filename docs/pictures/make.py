"""Make the pictures of the README anew, from real runs: python docs/pictures/make.py

`terminal.svg` is what the README's own pipeline prints, `graph.png` the graph page of the tutorial's pipeline.
`notebook.png` is what a notebook shows of a run,
`demo.svg` what the demo prints, in fifteen seconds. Needs the extras `tutorial` and `test`, and chromium.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from superluigi.testing.s3_server import s3_server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMANDS = (
    "superluigi run pipeline Mean --date 2013-12-15",
    "superluigi run pipeline Mean --date 2013-12-15 --digits 3",
    "superluigi status pipeline Mean --date 2013-12-15 --digits 5",
    "superluigi lineage data/mean/2013-12-15-3.txt",
    "superluigi run pipeline Maen --date 2013-12-15",
)


def shell(command: str, folder: Path, **environment: str) -> str:
    """What the command prints, with its colours."""
    surroundings = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100", "HOME": str(folder), **environment}
    surroundings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{surroundings['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def terminal(folder: Path) -> None:
    """The README's pipeline, run in a fresh folder."""
    block = re.search(r"<!-- file: pipeline.py -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    if block is None:
        raise SystemExit("README.md has no pipeline.py any more")
    (folder / "pipeline.py").write_text(block[1])
    screen = Console(record=True, width=100, file=Path(os.devnull).open("w"))
    for command in COMMANDS:
        screen.print(Text(f"$ {command}", style="bold cyan"))
        printed = re.sub(r"\n{2,}", "\n", shell(command, folder)).strip("\n").replace(str(folder), "/home/you")
        kept = [line for line in printed.splitlines() if "====" not in line and "This progress" not in line]
        screen.print(Text.from_ansi("\n".join(kept)))
        screen.print()
    picture = screen.export_svg(title="superluigi")
    # Nothing is fetched by who looks at it: the reader's own monospace font will do.
    (HERE / "terminal.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S))


def graph(folder: Path) -> None:
    """The tutorial's graph page: the features of the day are there, its prediction is not."""
    shutil.copy(ROOT / "tutorials" / "flight_delays" / "pipeline.py", folder)  # the page shows its command
    task = "pipeline.py PredictionsTask --date 2013-12-15"
    with s3_server() as server:
        server.create_bucket("flights")
        options = server.client_options
        aws = {
            "AWS_ENDPOINT_URL": options["endpoint_url"],
            "AWS_ACCESS_KEY_ID": options["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": options["region_name"],
        }
        shell(f"superluigi run {task.replace('PredictionsTask', 'FeaturesTask')}", folder, **aws)
        shell(f"superluigi run {task.split()[0]} ModelTask", folder, **aws)
        shell(f"superluigi graph {task} --html graph.html", folder, **aws)
    photograph(f"{folder}/graph.html", "graph.png", "1280,760")


def photograph(page: str, name: str, size: str) -> None:
    """A picture of a page, by chromium."""
    browser = shutil.which("chromium") or "chromium"
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--window-size={size}", "--virtual-time-budget=3000", f"--screenshot={HERE}/{name}"),
            f"file://{page}",
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )


CELLS = (
    """class Model(AtomicTaskWithMetadata):
    day: Param[int]

    def run(self) -> float:
        for step in range(4):
            self.set_progress_percentage(25 * step)
            self.set_status_message(f"round {step + 1} of 4")
            time.sleep(0.5)
        return 0.5 + self.day

compute(collect([Model(day=day) for day in range(8)]), num_workers=3)""",
    """class Score(AtomicTaskWithMetadata):
    model: Requires[Model]

    def run(self, inputs) -> float:
        return inputs["model"]["rmse"]

compute(Score(model=Model(day=3)))""",
    """class Score(AtomicTaskWithMetadata):  # edited
    model: Requires[Model]

    def run(self, inputs) -> float:
        return 2 * inputs["model"]

compute(Score(model=Model(day=3)))""",
)
FIRST = """import time
from superluigi import collect, compute
from superluigi.parameters import Param, Requires
from superluigi.tasks import AtomicTaskWithMetadata"""
BEFORE = CELLS[2].replace("2 * ", "")


def notebook(folder: Path) -> None:
    """A run that goes on, a failure, and an edited class, as a notebook shows them."""
    import nbclient
    import nbformat

    class Client(nbclient.NotebookClient):
        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                seen.setdefault(cell_index, []).append(msg["content"]["data"]["text/html"])
            return super().process_message(msg, cell, cell_index)

    seen: dict[int, list[str]] = {}
    cells = [nbformat.v4.new_code_cell(cell) for cell in (FIRST, CELLS[0], CELLS[1], BEFORE, CELLS[2])]
    made = nbformat.v4.new_notebook(cells=cells)
    Client(made, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    parts = []
    for source, cell, index in zip(CELLS, [made.cells[1], made.cells[2], made.cells[4]], (1, 2, 4), strict=True):
        displays = seen[index]
        shown = [displays[len(displays) * 2 // 3] if index == 1 else displays[-1]]
        for one in cell.outputs:
            if one.output_type == "stream":
                shown.append(f"<pre>{html.escape(one.text)}</pre>")
            elif one.output_type == "error":
                shown.append(f"<pre class=error>{html.escape(chr(10).join(one.traceback))}</pre>")
            elif one.output_type == "execute_result" and index != 1:
                shown.append(f"<pre>{html.escape(one.data['text/plain'])}</pre>")
        text = "".join(shown).replace(str(folder), "/home/you/work").replace(str(Path.home()), "/home/you")
        parts.append(f"<pre class=cell>{html.escape(source)}</pre><div class=out>{text}</div>")
    style = (
        "body{font:14px sans-serif;margin:14px 18px;color:#222}pre{margin:4px 0;white-space:pre-wrap;"
        "font:12.5px/1.45 monospace}.cell{background:#f5f5f5;border:1px solid #ddd;padding:7px 10px}"
        ".out{margin:4px 0 16px 12px}.error{background:#fff0f0;padding:6px}td{padding:1px 14px 1px 0}"
        "table{font-size:12.5px}"
    )
    page = folder / "notebook.html"
    page.write_text(f"<!DOCTYPE html><meta charset=utf-8><style>{style}</style>{''.join(parts)}")
    photograph(str(page), "notebook.png", "820,880")


#: Of the recording: seconds, rows that are seen at once, pixels of a row and of a column.
SECONDS, ROWS, HIGH, WIDE = 15.0, 22, 17, 7.25


def recording(folder: Path) -> None:
    """The demo as a moving SVG of 15 seconds: what it says of its runs, of the first record, and in short."""
    demo = [sys.executable, str(ROOT / "tutorials" / "flight_delays" / "demo.py")]
    surroundings = {**os.environ, "HOME": str(folder), "COLUMNS": "100"}
    printed = subprocess.run(demo, cwd=folder, env=surroundings, capture_output=True, text=True, check=True).stdout
    (HERE / "demo.svg").write_text(moving(told_of(printed.replace(f"{ROOT}{os.sep}", ""))))


def told_of(printed: str) -> list[str]:
    """The lines that are worth fifteen seconds."""
    lines = ["$ make demo"]
    record = 0
    for line in printed.splitlines():
        record = record + 1 if record or line.startswith("== 6") else 0
        record = 0 if line.startswith("== In short") else record
        if line.startswith("== "):
            lines += ["", line[3:]]
        elif record:
            lines += [line] * (record < 14) + ["  \u2026"] * (record == 14)
        elif (
            lines[-1].startswith("In short")
            or "In short" in lines
            or line.startswith(("\u2713", "\u2715", "Outputs can"))
        ):
            lines.append(line)
    return lines


def moving(lines: list[str]) -> str:
    """Lines that appear one after the other, and go up when there are more than fit; then all begins again."""
    starts = [0.02 + 0.8 * number / len(lines) for number in range(len(lines))]
    steps = [(0.0, 0)] + [(starts[number], number - ROWS + 1) for number in range(ROWS, len(lines))]
    scroll = "".join(f"{100 * at:.2f}%{{transform:translateY({-HIGH * up}px)}}" for at, up in steps)
    rules = [f"@keyframes up{{{scroll}100%{{transform:translateY({-HIGH * steps[-1][1]}px)}}}}"]
    texts = []
    for number, (line, start) in enumerate(zip(lines, starts, strict=True)):
        rules.append(f"@keyframes l{number}{{0%{{opacity:0}}{100 * start:.2f}%{{opacity:1}}100%{{opacity:1}}}}")
        kind = {"$": "typed", "\u2713": "good"}.get(line[:1], "head" if re.match(r"\d\. |In short", line) else "")
        texts.append(
            f'<text class="{kind}" y="{(number + 1) * HIGH}" '
            f'style="animation:l{number} {SECONDS:g}s steps(1,end) infinite">'
            f"{html.escape(line[:104])}</text>"
        )
    width, height = round(104 * WIDE) + 32, ROWS * HIGH + 56
    style = (
        "text{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d6deeb;white-space:pre}"
        ".head{fill:#82aaff;font-weight:700}.good{fill:#7fdb8f}.typed{fill:#fff;font-weight:700}"
        f".all{{animation:up {SECONDS:g}s steps(1,end) infinite}}"
        "@media(prefers-reduced-motion:reduce){text,.all{animation:none!important}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="What make demo prints"><style>{style}{"".join(rules)}</style>'
        f'<rect width="{width}" height="{height}" rx="10" fill="#11151c"/>'
        '<circle cx="20" cy="18" r="5" fill="#f0716b"/><circle cx="38" cy="18" r="5" fill="#e0a93b"/>'
        '<circle cx="56" cy="18" r="5" fill="#66bb6a"/>'
        f'<svg x="16" y="32" width="{width - 32}" height="{ROWS * HIGH + 8}">'
        f'<g class="all">{"".join(texts)}</g></svg></svg>\n'
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        terminal(Path(made))
        graph(Path(made))
        notebook(Path(made))
        recording(Path(made))

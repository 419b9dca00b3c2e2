"""Make the pictures of the README anew, from real runs: python docs/pictures/make.py

`terminal.svg` is what the README's own pipeline prints, `graph.png` the graph page of the tutorial's pipeline.
Needs the extras `tutorial` and `test`, and chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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
    task = f"{ROOT}/tutorials/flight_delays/pipeline.py PredictionsTask --date 2013-12-15"
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
        shell(f"superluigi graph {task} --html {folder}/graph.html", folder, **aws)
    browser = shutil.which("chromium") or "chromium"
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--window-size=1280,760", "--virtual-time-budget=3000", f"--screenshot={HERE}/graph.png"),
            f"file://{folder}/graph.html",
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        terminal(Path(made))
        graph(Path(made))

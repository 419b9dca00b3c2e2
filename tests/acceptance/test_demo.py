"""`make demo`: real flights in, predictions out, each way of running with the counts it must have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(620)
def test_the_demo_runs_cold_warm_and_forced_in_three_ways_and_its_model_beats_the_baselines(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SUPERLUIGI_", "FLIGHTS_"))
    }
    environment |= {"SUPERLUIGI_LOCAL_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tutorials" / "flight_delays" / "demo.py")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    ran = re.findall(r"^ +(\d)\. .* (\d+) tasks? ran in", done.stdout, re.M)
    assert ran == [("1", "86"), ("2", "0"), ("3", "1"), ("4", "2"), ("5", "86")]
    found = re.findall(r"^ +(\d+\.\d+)  (model|baseline|as late as it left)", done.stdout, re.M)
    off = {name: float(minutes) for minutes, name in found}
    assert off["model"] < min(off["baseline"], off["as late as it left"])
    assert '"mean_absolute_error_minutes"' in done.stdout and '"superluigi.lineage/1"' in done.stdout
    (copy,) = re.findall(r"local copy: +(\S+)", done.stdout)
    assert len(Path(copy).read_text().splitlines()) == 820
    assert done.stdout.count("Luigi Execution Summary") == 10  # five runs, a heading above and below

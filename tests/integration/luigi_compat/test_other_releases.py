"""Other releases of what we stand on than those that are installed here. Needs PyPI.

The contract suites on the newest Luigi, also where our range of versions ends before it: what fails decides where the
range ends (setup.cfg), below the first version that was not tried. Queues and Luigi's own parts on SQLAlchemy 1.4.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[3]
QUEUES = ("test_queue_rows", "test_queue_database", "test_queue_pruning", "test_luigis_own_parts")
RELEASES = {
    "luigi": (
        "tests/unit/luigi_compat/test_luigi_compat.py",
        "tests/contract",
        "tests/integration/luigi_compat/test_luigi_stays_luigi.py",
    ),
    "SQLAlchemy<2": (
        *(f"tests/regression/{name}.py" for name in QUEUES),
        "tests/integration/queue/test_queue_runs.py",
        "tests/integration/queue/test_queue_failures.py",
    ),
}


@pytest.mark.parametrize("wanted", RELEASES)
def test_suites_pass_on_another_release(tmp_path: Path, wanted: str) -> None:
    other = tmp_path / "other"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*command, "--target", str(other), wanted], check=True, timeout=600)
    # What stands on PYTHONPATH comes before the packages of this environment, in child processes, too.
    env = {**os.environ, "PYTHONPATH": str(other)}
    env.pop("PYTEST_ADDOPTS", None)
    program = f"import {wanted.partition('<')[0].lower()} as it; print(it.__file__)"
    where = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(other))
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *RELEASES[wanted]], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-20_000:]

"""The contract suites on the newest Luigi that PyPI has, also where our range of versions ends before it.

What fails here decides where the range ends (setup.cfg): below the first version that was not tried. Needs PyPI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SUITES = ("tests/unit/test_luigi_compat.py", "tests/contract", "tests/integration/test_luigi_stays_luigi.py")


def test_the_contract_suites_pass_on_luigis_newest_release(tmp_path: Path) -> None:
    newest = tmp_path / "newest"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*command, "--target", str(newest), "luigi"], check=True, timeout=600)
    # What stands on PYTHONPATH comes before the Luigi of this environment, in child processes, too.
    env = {**os.environ, "PYTHONPATH": str(newest), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env.pop("PYTEST_ADDOPTS", None)
    program = "import luigi; print(luigi.__file__)"
    where = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(newest))
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *SUITES], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-20_000:]

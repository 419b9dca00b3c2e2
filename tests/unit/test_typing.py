"""Type checkers see plain types and a typed constructor: right calls pass, wrong calls are found."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
USER_CODE = ROOT / "tests" / "typing" / "user_code.py"
WRONG_LINES = [at for at, line in enumerate(USER_CODE.read_text().splitlines(), 1) if line.endswith("# E")]

#: Reading the stubs of all packages anew takes a minute of CPU: longer than a test may take on a busy machine.
PATIENCE_SECONDS = 500
pytestmark = pytest.mark.timeout(PATIENCE_SECONDS + 20)


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.mark.skipif(not has("mypy"), reason="needs mypy")
def test_mypy_finds_the_wrong_calls_and_only_those() -> None:
    # With the options of `make types`, which are strict: mypy has read all packages with them before.
    command = [sys.executable, "-m", "mypy", "--config-file=setup.cfg", str(USER_CODE)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
    own = [line for line in said.splitlines() if "user_code.py" in line and ": error:" in line]
    found = sorted({int(re.findall(r"user_code\.py:(\d+):", line)[0]) for line in own})
    assert found == WRONG_LINES, said


@pytest.mark.skipif(not has("pyright"), reason="needs pyright")
def test_pyright_finds_the_wrong_calls_and_only_those() -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(USER_CODE)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
    try:
        problems = json.loads(said[said.index("{") :])["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright cannot run here: {said[:200]}")
    found = sorted({each["range"]["start"]["line"] + 1 for each in problems if each["severity"] == "error"})
    assert found == WRONG_LINES, said

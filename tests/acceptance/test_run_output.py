"""What a run prints at its end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget


class Part(AtomicTaskWithMetadata):
    n = luigi.IntParameter()

    def output(self):
        return LocalFileTarget(f"part-{self.n}.txt")

    def run(self, output_path):
        if self.n == 13:
            raise ValueError("an unlucky number\\nand more words")
        output_path.write_text("x")


class Whole(AtomicTaskWithMetadata):
    count = luigi.IntParameter()

    def requires(self):
        return [Part(n) for n in range(self.count)]

    def output(self):
        return LocalFileTarget("whole.txt")

    def run(self, output_path):
        output_path.write_text("x")
"""


def run(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "superluigi", "run", "ending_of_test", "Whole", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if "14" in words else 0), done.stderr
    return done.stdout


@pytest.mark.parametrize("queue", [(), ("--queue", "q")], ids=["here", "queue"])
def test_a_short_table_says_what_ran_and_what_failed_why_and_where_its_log_is(
    tmp_path: Path, queue: tuple[str, ...]
) -> None:
    (tmp_path / "ending_of_test.py").write_text(PIPELINE)
    run(tmp_path, "--count", "3")
    said = run(tmp_path, "--count", "3")
    assert re.search(r"^complete +1$", said, re.MULTILINE)
    (tmp_path / "whole.txt").unlink()
    said = run(tmp_path, "--count", "14", *queue)
    table = said[said.rindex("Execution Summary") :]
    assert re.search(r"^ran +10$", table, re.MULTILINE)
    assert re.search(r"^complete +3$", table, re.MULTILINE)
    assert re.search(r"^blocked +1$", table, re.MULTILINE)
    failed = re.search(r"^failed +1\n    Part\(n=13\): \w+: (.*)\n        log: (.*)$", table, re.MULTILINE)
    assert failed, table
    assert "an unlucky number" in failed[1] or queue
    assert "ValueError: an unlucky number" in Path(failed[2]).read_text() or queue

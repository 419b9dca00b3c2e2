"""What bash inserts for a key press is what was meant, whatever files and tasks are called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

MODULE = """
from superluigi.tasks import AtomicTaskWithMetadata

class Alpha(AtomicTaskWithMetadata):
    task_namespace = "my space"
    suffix = ".txt"

class Beta(AtomicTaskWithMetadata):
    task_namespace = "x$(touch owned)"
    suffix = ".txt"
"""
LINES = {
    "run ''": ["$(touch owned)", "a b", "odd_module"],
    "run 'a\\ '": ["a b"],
    "run odd_module ''": ["my space.Alpha", "x$(touch owned).Beta"],
    "run odd_module 'my\\ s'": ["my space.Alpha"],
    "quarantine ''": ["clear", "list", "show"],
    "cache pr": ["prune"],
    "run '*'": [],
}


def test_bash_is_given_words_that_it_reads_as_they_are(tmp_path: Path) -> None:
    for name in ("odd_module", "a b", "$(touch owned)", "two\nlines"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "superluigi").write_text(f'#!/bin/sh\nexec {sys.executable} -m superluigi "$@"\n')
    (tmp_path / "superluigi").chmod(0o755)
    script = 'eval "$(superluigi completion bash)"\n' + "".join(
        f"COMP_WORDS=(superluigi {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _superluigi\n"
        'for word in "${COMPREPLY[@]}"; do echo "$word" >> inserted; done\n'
        for line in LINES
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    inserted = (tmp_path / "inserted").read_text().splitlines()
    assert [shlex.split(word) for word in inserted] == [[word] for words in LINES.values() for word in words]
    assert not (tmp_path / "owned").exists()

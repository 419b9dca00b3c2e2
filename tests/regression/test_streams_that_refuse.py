"""What cannot be said stops nothing: streams that are closed, full, or that nobody reads any more."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from superluigi import run_task, terminal
from superluigi.cli import main
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

PIPELINE = """
import subprocess
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Part(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget("out/part")
    def run(self, output_path):
        print("said")
        with open(output_path, "w") as stream:
            subprocess.run(["echo", "a child says so"], close_fds=False)
            stream.write("part")

class Whole(AtomicTaskWithMetadata):
    def requires(self):
        return Part()
    def output(self):
        return [LocalFileTarget("out/one"), LocalFileTarget("out/two")]
    def run(self, output_path):
        for path in output_path:
            print(path, flush=True)
            path.write_text("whole")
"""
#: How a shell gives a command its streams; the exit code of what is well done.
STREAMS = {
    "<&- >&- 2>&-": 0,
    ">/dev/full": 1,
    "2>&1 | true": 0,
}


@pytest.mark.parametrize("streams", STREAMS)
def test_a_command_does_its_work_whatever_its_streams_are(tmp_path: Path, streams: str) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    for words in ("run pipeline Whole --workers 2", "rm pipeline Whole --upstream --yes"):
        line = f"set -o pipefail; {sys.executable} -m superluigi {words} {streams}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        told = done.stdout + done.stderr
        assert done.returncode == STREAMS[streams] and "Traceback" not in told and "ignored" not in told, told
        if "full" in streams:
            assert "stdout: No space left on device" in done.stderr
        left = {path.name: path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
        assert left == ({"part": "part", "one": "whole", "two": "whole"} if words.startswith("run") else {})


class _Refusing(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error

    def flush(self) -> None:
        raise self._error


@pytest.mark.parametrize("error", [None, OSError(5, "broken"), BrokenPipeError(), ValueError("closed")], ids=repr)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_does_its_work_whatever_the_streams_of_the_process_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, workers: int
) -> None:
    class Talks(AtomicTaskWithMetadata):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "out")

        def run(self, output_path: Path) -> None:
            print("said", flush=True)
            print("said", file=sys.stderr)
            output_path.write_text("whole")

    stream = None if error is None else _Refusing(error)
    if isinstance(error, ValueError):
        assert stream is not None
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    run_task(Talks(), num_workers=workers, executor="threads" if workers > 1 else None)
    assert (tmp_path / "out").read_text() == "whole"


def test_why_a_stream_took_no_text_is_known_of_that_stream_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Refusing(OSError(28, "full")))
    terminal.say("lost")
    assert str(terminal.refusal()) == "[Errno 28] full" and terminal.refusal(err=True) is None
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.refusal() is None


def test_standard_descriptors_are_never_given_to_other_files() -> None:
    program = (
        "import os; from superluigi.terminal import hold_standard_descriptors as hold\n"
        "hold(); print(min(os.open('.', os.O_RDONLY) for _ in range(3)) > 2, file=open('found', 'w'))"
    )
    line = f'cd "$(mktemp -d)"; {sys.executable} -c "$PROGRAM" <&- >&- 2>&-; cat found'
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "PROGRAM": program}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("code", ["0", "7", "'over'", ""])
@pytest.mark.parametrize(
    "where", ["", "class T(luigi.Task):\n    def requires(self):\n        "], ids=["import", "task"]
)
def test_code_of_the_users_that_exits_is_told_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str, where: str
) -> None:
    module = f"leaving_{abs(hash((code, where)))}"
    (tmp_path / f"{module}.py").write_text(f"import sys, luigi\n{where}sys.exit({code})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["status", module, "T"]) == 1
    assert "SystemExit" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "--help"], ["help", "queue"], ["-h"]])
def test_help_returns_0_and_exits_nobody(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("usage: superluigi")

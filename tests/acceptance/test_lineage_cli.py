"""`lineage`, `why` and `status` at the command line: what they print, in tables and as JSON, and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import lineage, run_task
from superluigi.cli import main
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask

ME = "test_lineage_cli"


class AskedSource(ExternalTask):
    root = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/source.txt")


class AskedMiddle(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return AskedSource(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/middle.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text(input_path.read_text())


class AskedTop(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    version = luigi.IntParameter(default=1)
    password = luigi.Parameter(
        default="hunter2", visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False
    )

    def requires(self) -> Any:
        return [AskedMiddle(self.root), AskedSource(self.root)]

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/top-{self.version}.txt")

    def run(self, output_path: Path) -> None:
        if self.version == 13:
            raise RuntimeError("unlucky")
        output_path.write_text(f"top {self.version}")


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "source.txt").write_text("x")
    run_task(AskedTop(str(tmp_path)))
    capsys.readouterr()
    return tmp_path


class Said:
    """Exit code and what was printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(Path(__file__).parent)

    def run(*words: object) -> Said:
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


def test_lineage_prints_a_tree_with_states_and_names_what_was_shown_before(call: Any, made: Path) -> None:
    (made / "source.txt").write_text("y")
    said = call("lineage", made / "top-1.txt")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0].startswith(f"AskedTop(root={made}, version=1)  {made}/top-1.txt  ok")
    assert lines[1].startswith("├── AskedMiddle")
    assert lines[2].startswith(f"│   └── {made}/source.txt  changed: ")
    assert lines[3].startswith(f"└── {made}/source.txt  changed")
    assert "\x1b[" not in said.out, "no colours off a terminal"
    assert "hunter2" not in said.out


def test_lineage_answers_scripts(call: Any, made: Path) -> None:
    told = call("lineage", made / "top-1.txt", "--json").json
    assert set(told) >= {"root", "nodes", "edges"}
    assert told["root"] in told["nodes"]
    assert [told["root"], f"{made}/middle.txt"] in told["edges"]
    assert call("lineage", made / "top-1.txt", "--mermaid").out.startswith("flowchart TD")
    events = [json.loads(line) for line in call("lineage", made / "top-1.txt", "--openlineage").out.splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 2


@pytest.mark.parametrize("odd", [True, "x", -1, [1], [], {"a": [1]}, None], ids=str)
def test_a_record_spoilt_by_hand_hides_only_what_is_spoilt(call: Any, made: Path, odd: Any) -> None:
    file = made / "middle.txt.metadata.json"
    record = json.loads(file.read_text())
    keys = [(key,) for key in record] + [
        ("environment", "packages"),
        ("code", "parts"),
        ("code", "repo"),
        ("run", "id"),
    ]
    keys += [("input", "metadata_path"), ("input", "digest"), ("output", "digest")]
    commands = [["lineage", made / "top-1.txt", form] for form in ("--json", "--mermaid", "--openlineage")]
    commands += [["lineage", made / "top-1.txt"], ["lineage", "--diff", made / "top-1.txt", made / "middle.txt"]]
    commands += [["verify", made], *([word, ME, "AskedTop", "--root", made, "--json"] for word in ("why", "status"))]
    for *outer, last in keys:
        spoilt = json.loads(json.dumps(record))
        (spoilt[outer[0]] if outer else spoilt)[last] = odd
        file.write_text(json.dumps(spoilt))
        for command in commands:
            said = call(*command)
            assert said.code in (0, 1) and "Traceback" not in said.err
        assert len(lineage.frame(made)) in (1, 2)


def test_lineage_compares_two_outputs(call: Any, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_task(AskedTop(str(made), 2))
    capsys.readouterr()
    said = call("lineage", "--diff", made / "top-1.txt", made / "top-2.txt")
    assert "AskedTop: parameter version: 1 -> 2" in said.out
    told = call("lineage", "--json", "--diff", made / "top-1.txt", made / "top-2.txt").json
    assert {one["kind"] for one in told} == {"parameter", "content"}
    assert "no difference" in call("lineage", "--diff", made / "top-1.txt", made / "top-1.txt").out


def test_a_place_where_nothing_is_is_advice_and_exit_code_1_and_no_place_is_2(call: Any, tmp_path: Path) -> None:
    words: tuple[object, ...]
    for words, code in (
        (("lineage", tmp_path / "none"), 1),
        (("lineage",), 2),
        (("verify", tmp_path / "none"), 1),
    ):
        said = call(*words)
        assert said.code == code
        assert said.err and "Traceback" not in said.err


def test_why_gives_reasons_and_exits_0_unless_it_checks(call: Any, made: Path) -> None:
    task = (ME, "AskedTop", "--root", made)
    said = call("why", *task)
    assert (said.code, said.out.count("up to date")) == (0, 3)
    assert call("why", *task, "--check").code == 0
    (made / "source.txt").write_text("y")
    assert call("why", *task, "--check").code == 0, "without refresh nothing would run"
    said = call("why", *task, "--check", "--refresh", "inputs", "--stale")
    assert said.code == 1
    assert f"AskedMiddle(root={made}): input changed: {made}/source.txt has other content" in said.out
    assert said.out.splitlines()[-1] == "2 of 3 tasks would run"
    told = call("why", *task, "--refresh", "inputs", "--json").json
    assert [(one["task_family"], one["reason"], one["runs"]) for one in told] == [
        ("AskedSource", "up to date", False), ("AskedMiddle", "input changed", True),
        ("AskedTop", "input changed", True),
    ]  # fmt: skip
    assert "hunter2" not in json.dumps(told)


def test_why_says_how_to_make_what_is_stale_again(call: Any, made: Path) -> None:
    (made / "source.txt").write_text("y")
    said = call("why", ME, "AskedTop", "--root", made)
    assert said.out.splitlines()[-2:] == [
        "0 of 3 tasks would run",
        "2 are stale: with --refresh a run makes what is stale again",
    ]
    assert "--refresh" not in call("why", ME, "AskedTop", "--root", made, "--refresh", "all").out


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False)],
    ids=["terminal", "NO_COLOR", "dumb terminal", "both"],
)
def test_colours_are_for_terminals(made: Path, environment: dict[str, str], coloured: bool) -> None:
    words = [sys.executable, "-m", "superluigi", "status", ME, "AskedTop", "--root", str(made)]
    reader, writer = os.openpty()
    surroundings = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    surroundings = {**surroundings, "TERM": "xterm-256color", **environment}
    subprocess.run(words, stdout=writer, cwd=Path(__file__).parent, env=surroundings, check=True, timeout=60)
    os.close(writer)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal, on Linux
        while block := os.read(reader, 4096):
            shown += block
    os.close(reader)
    assert b"complete" in shown
    assert (b"\x1b[" in shown) == coloured


def test_control_characters_of_a_parameter_are_shown_and_not_obeyed(call: Any, tmp_path: Path) -> None:
    said = call("status", ME, "AskedTop", "--root", f"{tmp_path}/a\x1b[2Jb\nc")
    assert "\x1b" not in said.out and "a\\x1b[2Jb\\nc" in said.out


def test_why_tells_what_is_missing(call: Any, tmp_path: Path) -> None:
    said = call("why", ME, "AskedTop", "--root", tmp_path, "--check")
    assert said.code == 1
    assert said.out.count("output missing") == 3
    assert said.out.splitlines()[-1] == "2 of 3 tasks would run", "nobody makes external data"


def test_status_shows_the_tree_with_the_last_failure(call: Any, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="unlucky"):
        run_task(AskedTop(str(made), 13))
    capsys.readouterr()
    said = call("status", ME, "AskedTop", "--root", made, "--version", 13)
    assert said.code == 0
    assert said.out.splitlines()[0].startswith("✕ failed   AskedTop")
    assert "RuntimeError: unlucky" in said.out.splitlines()[0]
    assert "├── ✓ complete AskedMiddle" in said.out
    assert "└── ◇ external AskedSource" in said.out
    told = call("status", ME, "AskedTop", "--root", made, "--version", 13, "--json").json
    assert {one["task_family"]: one["state"] for one in told} == {
        "AskedSource": "external", "AskedMiddle": "complete", "AskedTop": "failed",
    }  # fmt: skip
    (made / "source.txt").write_text("y")
    assert "↻ stale    AskedMiddle" in call("status", ME, "AskedTop", "--root", made).out


@pytest.mark.parametrize("command", ["lineage", "why", "status", "graph", "verify"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "example:" in said and f"superluigi {command}" in said.split("example:")[1]

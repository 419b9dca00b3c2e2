"""What `status`, `why`, `ls`, `verify`, `config`, `show` and `queue tasks` look like on a screen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi import cli, terminal
from superluigi.cli import _output
from superluigi.testing.s3_server import S3Server
from superluigi.visuals import tree

PIPELINE = """
import time

import pandas as pd
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask


class Extract(AtomicTaskWithMetadata):
    n: Param[int]

    def run(self):
        if self.n in (7, 9):
            raise ValueError("no such column")
        if self.n == 5:
            raise KeyboardInterrupt
        return self.n


class Twice(AtomicTaskWithMetadata):
    n: Param[int]

    def requires(self):
        return [Extract(n=self.n), Extract(n=self.n)]

    def run(self):
        return 1


class Sum(AtomicTaskWithMetadata):
    def requires(self):
        return [Twice(n=n) for n in range(40)]

    def run(self):
        return 1


class Table(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget("a folder with a long name/" * 3 + "table.csv")

    def run(self, metadata):
        metadata["score"] = 0.75
        return pd.DataFrame({"town": ["Bern", "Köln", "東京"] * 20, "people": range(60)})


class Folder(AtomicTaskWithMetadata):
    def output(self):
        return LocalFolderTarget("folder")

    def run(self, output_path):
        for name in "abcd":
            (output_path / name).write_text(name)


class Words(AtomicTaskWithMetadata):
    text: Param[str] = "語 " * 100

    def run(self):
        raise ValueError("this\\x1b[2J and that\\nthe end")


class Long(AtomicTaskWithMetadata):
    def requires(self):
        return Words()

    def run(self):
        return 1


class Texts(AtomicTaskWithMetadata):
    def run(self):
        return [f"text {n}" for n in range(100)]


class Cancels(AtomicTaskWithMetadata):
    def run(self):
        self.cancel()
        time.sleep(60)


class FarFolder(AtomicTaskWithMetadata):
    bucket: Param[str]

    def output(self):
        return S3PrefixTarget(self.bucket, "parts", metadata_contents_limit=3)

    def run(self, output_path):
        for n in range(12):
            (output_path / f"{n}.dat").write_text("x")


class FarText(AtomicTaskWithMetadata):
    bucket: Param[str]

    def output(self):
        return S3ObjectTarget(self.bucket, "far.json")

    def run(self, output_path):
        output_path.write_text("no JSON")


class Explains(AtomicTaskWithMetadata):
    def run(self):
        try:
            {}["column"]
        except KeyError as error:
            raise ValueError("the table has no column") from error
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    (tmp_path / "told_in_tables.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "copies"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.syspath_prepend(str(tmp_path))

    def called(*words: str, code: int = 0, err: bool = False) -> str:
        capsys.readouterr()
        assert cli.main(words) == code, capsys.readouterr()
        said = capsys.readouterr()
        return said.err if err else said.out

    return called


M = "told_in_tables"


def test_large_graphs_are_told_by_families(call: Callable[..., str]) -> None:
    for n, code in ((1, 0), (5, 130), (7, 1), (9, 1)):
        call("run", M, "Twice", "--n", str(n), code=code)
    said = call("status", M, "Sum").splitlines()
    assert said[0].split(None, 1) == ["Sum", "1 missing"]
    assert said[1].split(None, 1) == ["Twice", "1 complete, 39 missing"]
    assert said[2].split(None, 1) == ["Extract", "1 complete, 37 missing, 2 failed"]
    assert said[3:5] == [f"✕ failed   Extract(n={n})  ValueError: no such column" for n in (7, 9)]
    assert "--all" in said[5] and said[6] == "2 complete, 77 missing, 2 failed" and len(said) == 7
    every = call("status", M, "Sum", "--all")
    assert every.count("Extract(n=") == 40 == every.count("Twice(n=")
    stale = call("status", M, "Sum", "--stale")
    assert stale.count("Extract(n=") == 39 and "Extract(n=1)" not in stale and "79 of 81 tasks" in stale
    reasons = call("why", M, "Sum").splitlines()
    assert reasons[0].split(None, 1) == ["Extract", "1 up to date, 39 run: output missing"]
    assert "79 of 81 tasks would run" in reasons
    assert call("why", M, "Sum", "--all").count("Extract(n=") == 40
    assert call("why", M, "Sum", "--stale").count("Extract(n=") == 39
    assert len(json.loads(call("status", M, "Sum", "--json"))) == 81 == len(json.loads(call("why", M, "Sum", "--json")))


def test_lists_of_tasks_and_values_of_parameters_leave_a_screen_readable(
    call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_output, tree):
        monkeypatch.setattr(module, "LISTED", 30)
    for command in ("status", "why"):
        said = call(command, M, "Sum", "--stale").splitlines()
        assert len([one for one in said if "(n=" in one]) == 30 and "and 51 more: --all lists them" in said
        assert call(command, M, "Sum", "--stale", "--all").count("(n=") == 80
        assert len(json.loads(call(command, M, "Sum", "--stale", "--json"))) == 81
    dry = call("run", M, "Sum", "--dry-run").splitlines()
    assert len(dry) == 32 and "--all" in dry[30] and dry[31] == "81 tasks: 81 would run"
    text = f"the beginning {'x' * 9000} the end"
    words = (M, "Words", "--text", text)
    failed = call("run", *words, code=1) + call("run", *words, code=1, err=True)
    for said in (failed, call("status", *words), call("why", *words), call("run", *words, "--dry-run")):
        assert "the beginning xxx" in said and "xxx the end" in said and max(map(len, said.splitlines())) < 1000
    assert text in call("status", *words, "--json") and text in call("why", *words, "--json")


def test_a_requirement_that_is_listed_twice_is_drawn_once(call: Callable[..., str]) -> None:
    for words in (("status", M, "Twice", "--n", "3"), ("run", M, "Twice", "--n", "3", "--dry-run")):
        said = call(*words)
        assert said.count("Extract(n=3)") == 1 and "see above" not in said


def test_an_interrupted_task_is_not_failed(call: Callable[..., str]) -> None:
    call("run", M, "Twice", "--n", "5", code=130)
    assert "failed" not in call("status", M, "Twice", "--n", "5")


def test_a_cancelled_task_is_not_failed(call: Callable[..., str]) -> None:
    assert "was cancelled" in call("run", M, "Cancels", code=1)
    assert call("status", M, "Cancels") == "○ missing  Cancels()\n1 missing\n"


def test_of_an_error_raised_from_another_the_last_is_told(call: Callable[..., str]) -> None:
    call("run", M, "Explains", code=1)
    assert call("status", M, "Explains").splitlines()[0] == "✕ failed   Explains()  ValueError: the table has no column"


@pytest.mark.parametrize("width", ["80", "60"])
def test_tables_have_headers_and_fit(call: Callable[..., str], monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    for task in ("Table", "Folder", "Texts"):
        call("run", M, task)
    call("queue", "submit", "q.sqlite", M, "Twice", "--n", "7")
    call("queue", "spawn", "q.sqlite", "--workers", "1", code=1)
    monkeypatch.setenv("COLUMNS", width)
    for words, header in (
        (("ls",), "state    bytes  task"),
        (("ls", "--in", "."), "state    bytes  task"),
        (("verify", "a folder with a long name"), "state  output"),
        (("config",), "setting"),
        (("queue", "tasks", "q.sqlite"), "state"),
        (("queue", "list", "q.sqlite"), "queue"),
        (("show", M, "Table"), "Table()"),
    ):
        said = call(*words).splitlines()
        assert said[0].startswith(header), said
        assert max(map(len, said)) <= int(width), said
    flat = call("verify", "a folder with a long name").replace(" ", "").replace("\n", "")
    assert "afolderwithalongname/" * 3 + "table.csv" in flat and str(Path.cwd()) not in flat


def test_what_is_too_long_goes_on_below_where_it_began(
    call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("run", M, "Long", code=1)
    monkeypatch.setenv("COLUMNS", "50")
    for words, begins, goes_on in (
        (("status", M, "Long"), ["○ missing  Long()", "└── ✕ failed   Words("], " " * 15),
        (("status", M, "Long", "--stale"), ["✕ failed   Words("], " " * 11),
        (("why", M, "Long"), ["runs  Words("], " " * 6),
    ):
        said = call(*words).splitlines()
        assert [line[: len(begin)] for line, begin in zip(said, begins, strict=False)] == begins
        rest = said[len(begins) : len(begins) + 3]
        assert [line[: len(goes_on) + 1].rstrip() for line in rest] == [f"{goes_on}語"] * 3
        assert max(map(terminal.cells, said[: len(begins) + 3])) <= 50
        assert "ValueError: this\\x1b[2J and that" in " ".join(map(str.strip, said)) or words[0] == "why"


def test_a_queue_tells_the_first_line_of_an_error(call: Callable[..., str]) -> None:
    call("queue", "submit", "q.sqlite", M, "Long")
    call("queue", "spawn", "q.sqlite", "--workers", "1", code=1)
    for words in (("queue", "tasks", "q.sqlite", "--state", "FAILED"), ("queue", "top", "q.sqlite", "--once")):
        said = call(*words)
        assert "ValueError: this\\x1b[2J and that" in said and "the end" not in said


def test_elsewhere_each_row_is_one_line(call: Callable[..., str]) -> None:
    call("run", M, "Table")
    rows = call("ls", M, "Table").splitlines()
    assert len(rows) == 2 and rows[1].endswith("a folder with a long name/" * 3 + "table.csv")


def test_paths_in_the_store_are_relative_to_it(
    call: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    call("run", M, "Texts")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    header, row = call("ls").splitlines()
    assert header.endswith(f"output (in {tmp_path}/store/)") and re.search(r"Texts +Texts/\w+\.\w+$", row)


def test_no_hit_is_said(call: Callable[..., str], tmp_path: Path) -> None:
    assert "no output" in call("ls", err=True)
    assert "no output with these tags" in call("ls", "--tag", "a=b", err=True)
    for verb in ("list", "verify"):
        assert "no local copies" in call("cache", verb, err=True)
    (tmp_path / "empty").mkdir()
    assert "no outputs in empty" in call("verify", "empty")
    call("queue", "submit", "q.sqlite", M, "Twice", "--n", "7")
    assert "no task in the queue q.sqlite is so" in call("queue", "tasks", "q.sqlite", "--state", "FAILED", err=True)
    assert "no task of the queue q.sqlite has ended" in call("queue", "time", "q.sqlite", err=True)


def test_every_command_looks_into_the_store_that_a_run_was_given(call: Callable[..., str]) -> None:
    call("run", M, "Sum", "--store", "elsewhere", "--dry-run")
    call("run", M, "Texts", "--store", "elsewhere")
    there = ("--store", "elsewhere")
    assert call("status", M, "Texts", *there).splitlines()[-1] == "1 complete"
    assert "up to date" in call("why", M, "Texts", *there) and "complete" in call("graph", M, "Texts", *there)
    assert "100 rows" in call("show", M, "Texts", *there) and call("check", M, "Texts", *there)
    assert "has a record" in call("adopt", M, "Texts", *there, code=1, err=True)
    assert "up to date" in call("accept", M, "Texts", "--why", "x", *there)
    assert call("ls", *there).count("present") == 1 == call("ls", M, "Texts", *there).count("present")
    assert call("rm", M, "Texts", "--yes", *there).startswith("removed ")
    assert "1 missing" in call("status", M, "Texts", *there) and not call("ls", *there)


def test_show_tells_of_outputs_on_s3_as_much_as_of_local_ones(
    call: Callable[..., str], s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    for task in ("FarFolder", "FarText"):
        call("run", M, task, "--bucket", s3_bucket)
    said = call("show", M, "FarFolder", "--bucket", s3_bucket).rstrip()
    assert said.endswith("value (folder, 12 files in all)\nparts/0.dat\nparts/1.dat\nparts/10.dat")  # the limit is 3
    said = call("show", M, "FarText", "--bucket", s3_bucket).rstrip()
    assert said.endswith(f"value (file)\ns3://{s3_bucket}/far.json: no value that its format can read")


def test_show_tells_the_value_the_parameters_the_record_and_what_was_noted(call: Callable[..., str]) -> None:
    assert "is not there" in call("show", M, "Table", code=1, err=True)
    for task in ("Table", "Folder", "Texts"):
        call("run", M, task)
    said = call("show", M, "Table", "--rows", "2")
    assert "value (DataFrame, 60 rows in all)" in said and "Köln" in said and "東京" not in said
    assert re.search(r"^score +0\.75$", said, re.MULTILINE) and re.search(r"^made +20", said, re.MULTILINE)
    said = call("show", M, "Folder")
    assert said.rstrip().endswith("value (folder, 4 files in all)\na\nb\nc\nd")
    said = call("show", M, "Texts", "--rows", "3")
    assert "'text 2'" in said and "text 3" not in said and "100 rows in all" in said
    told = json.loads(call("show", M, "Table", "--json"))
    assert told["metadata"] == {"score": 0.75} and told["value"]["rows"] == 60
    assert told["record"]["task_family"] == "Table" and told["outputs"][0]["size"] > 0

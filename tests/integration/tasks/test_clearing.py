"""Outputs are listed and removed with their records: of a task, of what it needs, of what was made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PIPELINE = """
from superluigi.parameters import Param, Requires
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, task

class Raw(ExternalTask):
    def output(self):
        return LocalFileTarget("raw.csv")

class Clean(AtomicTaskWithMetadata):
    year: Param[int] = 2013
    def requires(self):
        return Raw()
    def output(self):
        return LocalFolderTarget(f"clean/{self.year}", metadata_path=f"records/{self.year}.json")
    def run(self, output_path):
        (output_path / "part.json").write_text(str(self.year))

@task
def model(clean: int) -> int:
    return clean + 1

@task
def report(model: int, title: str = "x") -> str:
    return title * model

class Report(AtomicTaskWithMetadata):
    def requires(self):
        return report(model(Clean()["part.json"]), "r")
    def output(self):
        return LocalFileTarget("report.txt")
    def run(self, inputs):
        return inputs[:3]
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_STORE", "store")
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "raw.csv").write_text("a")
    assert superluigi("run", "pipeline", "Report").returncode == 0
    return tmp_path


def superluigi(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superluigi", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, input=stdin or "")


def files(folder: Path) -> set[str]:
    kept = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.parts[0] if path.parts[0] != "store" else path.parts[1] for path in kept} - {
        "__pycache__",
        "pipeline.py",
    }


def listed(*words: str) -> dict[str, Any]:
    done = superluigi(*words, "--json")
    assert done.returncode == 0, done.stderr
    return {
        Path(each["path"]).name if "store" not in each["path"] else each["task_family"]: each
        for each in json.loads(done.stdout)
    }


def test_ls_shows_what_is_there_and_rm_removes_it_with_its_record(pipeline: Path) -> None:
    assert set(listed("ls", "pipeline", "Report")) == {"report.txt"}
    assert set(listed("ls", "pipeline", "Report", "--upstream")) == {"report.txt", "2013", "model", "report"}
    assert listed("ls", "pipeline", "Clean", "--year", "1999")["1999"]["present"] is False
    shown = superluigi("ls", "pipeline", "Report").stdout
    assert shown.splitlines()[1].split() == ["present", "3", "Report", "report.txt"]

    dry = superluigi("rm", "pipeline", "Report", "--dry-run")
    assert dry.returncode == 0 and (pipeline / "report.txt").exists()
    asked = superluigi("rm", "pipeline", "Report")
    assert asked.returncode == 1 and "--yes" in asked.stderr and (pipeline / "report.txt").exists()
    done = superluigi("rm", "pipeline", "Report", "--yes")
    assert done.returncode == 0 and done.stdout == f"removed {pipeline / 'report.txt'}\n"
    assert files(pipeline) == {"raw.csv", "clean", "records", "model", "report"}
    again = superluigi("rm", "pipeline", "Report", "--yes")
    assert again.returncode == 0 and "nothing to remove" in again.stdout


def test_rm_upstream_removes_all_but_external_data(pipeline: Path) -> None:
    assert superluigi("rm", "pipeline", "Report", "--upstream", "--yes").returncode == 0
    assert files(pipeline) == {"raw.csv"}


def test_rm_downstream_follows_the_records_from_a_part_to_the_last_output(pipeline: Path) -> None:
    found = listed("ls", "pipeline", "Clean", "--downstream", "--in", ".")
    assert set(found) == {"2013", "model", "report", "report.txt"}
    assert superluigi("rm", "pipeline", "Clean", "--downstream", "--in", ".", "--yes").returncode == 0
    assert files(pipeline) == {"raw.csv"}


@pytest.mark.parametrize("command", ["ls", "rm"])
def test_downstream_says_where_it_has_looked(command: str, pipeline: Path) -> None:
    done = superluigi(command, "pipeline", "Clean", "--downstream", *(["--dry-run"] if command == "rm" else []))
    assert "looked for in clean, store; --in names other places" in done.stderr
    assert "looked for in" not in superluigi("ls", "pipeline", "Clean", "--upstream").stderr


def test_clear_all_finds_what_other_processes_stored(pipeline: Path) -> None:
    script = "import pipeline; print(len(pipeline.report.clear_all()), len(pipeline.report.clear_all()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1 0\n", done.stderr
    assert "report" not in files(pipeline) and "model" in files(pipeline)


def test_clear_all_works_in_an_s3_store(s3_bucket: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from superluigi import compute, task

    @task
    def stored(n: int) -> int:
        return n

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.client_options["endpoint_url"])
    monkeypatch.setenv("SUPERLUIGI_STORE", f"s3://{s3_bucket}/store")
    assert compute([stored(1), stored(2)]) == [1, 2]
    assert len(stored.clear_all()) == 2
    assert not stored(1).complete()

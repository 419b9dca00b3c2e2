"""A complete output that was made with other parameters stays complete, and the run says so, one line a family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing.s3_server import S3Server


class Train(AtomicTaskWithMetadata):
    rate = luigi.FloatParameter()
    n = luigi.IntParameter(default=0)
    kind = luigi.Parameter(default="file", significant=False)

    def output(self) -> Any:
        return LocalFolderTarget(f"folder-{self.n}") if self.kind == "folder" else LocalFileTarget(f"{self.n}.txt")

    def run(self, output_path: Path) -> None:
        (output_path / "x" if self.kind == "folder" else output_path).write_text(str(self.rate))


class Sure(Train):
    """Has all its parameters in its path."""

    def output(self) -> Any:
        return LocalFileTarget(f"sure-{self.n}-{self.rate}.txt")


class All(luigi.WrapperTask):
    rate = luigi.FloatParameter()

    def requires(self) -> Any:
        return [kind(rate=self.rate, n=n) for kind in (Train, Sure) for n in range(10)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")


def _said(capsys: pytest.CaptureFixture[str], task: luigi.Task, **options: Any) -> list[str]:
    capsys.readouterr()
    run_task(task, **options)
    return [line for line in capsys.readouterr().out.splitlines() if "other parameters" in line]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_run_names_what_differs_and_the_remedy(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, Train(rate=0.1, kind=kind)) == []
    assert _said(capsys, Train(rate=0.1, kind=kind)) == []
    [line] = _said(capsys, Train(rate=0.2, kind=kind))
    assert "Train" in line and "rate was 0.1, is 0.2" in line and 'refresh="inputs"' in line
    assert _said(capsys, Train(rate=0.2, kind=kind), refresh="inputs") == []
    assert _said(capsys, Train(rate=0.2, kind=kind)) == []


def test_one_line_a_family_however_many_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, All(rate=0.1)) == []
    for options in ({}, {"num_workers": 2, "executor": "threads"}):
        run_task(All(rate=0.2), **options)
        assert len(_said(capsys, All(rate=0.2), **options)) == 1


def test_on_s3_too_where_something_ran(s3_server: S3Server, s3_bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = s3_server.client_options

    class Far(AtomicTaskWithMetadata):
        rate = luigi.FloatParameter()

        def output(self) -> Any:
            return S3ObjectTarget(s3_bucket, "far.txt", **options)

        def run(self, output_path: Path) -> None:
            output_path.write_text("x")

    class Near(Train):
        def requires(self) -> Any:
            return Far(rate=self.rate)

    assert _said(capsys, Far(rate=0.1)) == []
    [line] = _said(capsys, Near(rate=0.2))
    assert "Far" in line

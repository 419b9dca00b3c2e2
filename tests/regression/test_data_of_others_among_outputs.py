"""`verify` of a folder or prefix in which the inputs of others lie as well."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from superluigi import cli, lineage, run_task
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask
from superluigi.testing.s3_server import S3Server


class _Source(ExternalTask):
    where = Parameter()
    is_folder = Parameter(default="")

    def output(self) -> Any:
        if self.where.startswith("s3://"):
            bucket, _, key = self.where.removeprefix("s3://").partition("/")
            return S3ObjectTarget(bucket, f"{key}/source")
        kind = LocalFolderTarget if self.is_folder else LocalFileTarget
        return kind(f"{self.where}/in/source")


class _Made(AtomicTaskWithMetadata):
    where = Parameter()
    is_folder = Parameter(default="")

    def requires(self) -> _Source:
        return _Source(where=self.where, is_folder=self.is_folder)

    def output(self) -> Any:
        if self.where.startswith("s3://"):
            bucket, _, key = self.where.removeprefix("s3://").partition("/")
            return S3ObjectTarget(bucket, f"{key}/made")
        return LocalFileTarget(f"{self.where}/made")

    def run(self, output_path: Path) -> None:
        output_path.write_text("made")


def _states(place: Any) -> dict[str, str]:
    return {one.path.rpartition("/")[2]: one.state for one in lineage.verify(place)}


@pytest.fixture(params=["", "folder"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """The folder, and the file of others in it."""
    place = tmp_path / "place"
    source = place / "in" / "source" / "member" if request.param else place / "in" / "source"
    source.parent.mkdir(parents=True)
    source.write_text("theirs")
    run_task(_Made(where=str(place), is_folder=request.param))
    return place, source


def test_what_an_output_has_read_is_no_fault_of_a_folder(made: tuple[Path, Path]) -> None:
    place, source = made
    assert _states(place) == {"made": "ok", source.name: "external"}
    assert cli.main(["verify", str(place)]) == 0


def test_what_has_changed_since_it_was_read_is_one(made: tuple[Path, Path]) -> None:
    place, source = made
    source.write_text("THEIRS")
    assert _states(place) == {"made": "ok", source.name: "changed"}
    assert cli.main(["verify", str(place), "--allow-without-record"]) == 1


def test_what_no_output_has_read_stays_without_a_record(made: tuple[Path, Path]) -> None:
    place, source = made
    (place / "in" / "stray").write_text("x")
    assert _states(place) == {"made": "ok", source.name: "external", "stray": "without record"}
    assert cli.main(["verify", str(place)]) == 1


def test_a_folder_may_have_been_moved(made: tuple[Path, Path], tmp_path: Path) -> None:
    place, source = made
    shutil.move(place, tmp_path / "elsewhere")
    assert _states(tmp_path / "elsewhere") == {"made": "ok", source.name: "external"}


@pytest.mark.parametrize("spoil", ["{", "[]", '{"schema": "superluigi.lineage/1", "input": [{"path": 5}]}'])
def test_a_record_that_is_none_vouches_for_nothing(made: tuple[Path, Path], spoil: str) -> None:
    place, source = made
    (place / "made.metadata.json").write_text(spoil)
    assert _states(place)[source.name] == "without record"


def test_it_is_so_below_a_prefix_too(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    where, client = f"s3://{s3_bucket}/others", s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="others/source", Body=b"theirs")
    run_task(_Made(where=where))
    assert _states(f"{where}/") == {"made": "ok", "source": "external"}
    client.put_object(Bucket=s3_bucket, Key="others/source", Body=b"others")
    assert _states(f"{where}/") == {"made": "ok", "source": "changed"}

"""Histories of outputs, read from their records: on local disks, on S3, moved elsewhere, damaged."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import luigi
import pandas as pd
import pytest

from superluigi import lineage, run_task
from superluigi.errors import RecordError, TargetMissingError
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task
from superluigi.testing.s3_server import S3Server


class TracedSource(ExternalTask):
    root = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/source.csv")


class TracedClean(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return TracedSource(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/clean.csv")

    def run(self, input_path: Path, output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text(input_path.read_text().upper())
        metadata["rows"] = 2


class TracedParts(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    version = luigi.IntParameter(default=1)
    password = luigi.Parameter(
        default="hunter2", visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False
    )

    def requires(self) -> Any:
        return {"clean": TracedClean(self.root)}

    def output(self) -> Any:
        return LocalFolderTarget(f"{self.root}/parts-v{self.version}")

    def run(self, input_path: dict[str, Path], output_path: Path) -> None:
        for number in range(self.version):
            (output_path / f"{number}.txt").write_text(input_path["clean"].read_text() * (number + 1))


class TracedReport(AtomicTaskWithMetadata):
    root = luigi.Parameter()
    version = luigi.IntParameter(default=1)

    def requires(self) -> Any:
        return [TracedParts(self.root, self.version), TracedClean(self.root)]

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/report-v{self.version}.txt")

    def run(self, input_path: list[Path], output_path: Path, metadata: dict[str, Any]) -> None:
        output_path.write_text(f"{len(list(input_path[0].iterdir()))} parts")
        metadata["score"] = 0.5


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A report with its whole history, below a fresh folder."""
    root = tmp_path / "store"
    root.mkdir()
    (root / "source.csv").write_text("a,b\n")
    run_task(TracedReport(str(root)))
    return root


def names(found: Any) -> dict[str, str]:
    return {Path(path).name: state for path, state in found.states.items()}


def test_a_trace_holds_every_ancestor_once_and_every_link(made: Path) -> None:
    found = lineage.trace(made / "report-v1.txt")
    assert names(found) == {
        "report-v1.txt": "ok", "parts-v1": "ok", "clean.csv": "ok", "source.csv": "external",
    }  # fmt: skip
    links = {(Path(one).name, Path(other).name) for one, other in found.edges}
    assert links == {
        ("report-v1.txt", "parts-v1"), ("report-v1.txt", "clean.csv"), ("parts-v1", "clean.csv"),
        ("clean.csv", "source.csv"),
    }  # fmt: skip
    assert len(found.edges) == 4
    told = json.loads(json.dumps(found.as_json()))
    assert told["root"] == str(made / "report-v1.txt")
    assert told["nodes"][str(made / "clean.csv")] == LocalFileTarget(made / "clean.csv").read_metadata()
    assert "hunter2" not in json.dumps(told)


def test_places_may_be_paths_targets_and_addresses_of_records(made: Path) -> None:
    root = made / "report-v1.txt"
    for place in (str(root), root, LocalFileTarget(root), f"{root}.metadata.json"):
        assert lineage.trace(place).root == str(root)
        assert lineage.read(place) == LocalFileTarget(root).read_metadata()


def test_a_source_that_was_replaced_is_shown_as_changed(made: Path) -> None:
    (made / "source.csv").write_text("c,d\n")
    found = lineage.trace(made / "report-v1.txt")
    assert names(found)["source.csv"] == "changed"
    assert found.notes[str(made / "source.csv")]


def test_an_ancestor_made_again_with_other_bytes_is_shown_as_changed_since(made: Path) -> None:
    (made / "source.csv").write_text("c,d\n")
    run_task(TracedClean(str(made)), force=True)
    found = lineage.trace(made / "report-v1.txt")
    assert names(found) == {
        "report-v1.txt": "ok", "parts-v1": "ok", "clean.csv": "changed", "source.csv": "external",
    }  # fmt: skip
    assert "made again by run" in found.notes[str(made / "clean.csv")]


def test_a_missing_ancestor_is_shown_with_what_its_consumer_knew(made: Path) -> None:
    LocalFileTarget(made / "clean.csv").remove()
    found = lineage.trace(made / "report-v1.txt")
    assert names(found)["clean.csv"] == "missing"
    assert found.nodes[str(made / "clean.csv")]["task_id"].startswith("TracedClean")


def test_an_unreadable_record_of_an_ancestor_does_not_hide_the_others(made: Path) -> None:
    (made / "clean.csv.metadata.json").write_text("{")
    found = lineage.trace(made / "report-v1.txt")
    assert names(found)["clean.csv"] == "unreadable"
    assert names(found)["parts-v1"] == "ok"
    with pytest.raises(RecordError, match=r"clean\.csv\.metadata\.json"):
        lineage.trace(made / "clean.csv")


def test_a_tree_of_outputs_can_be_read_where_it_was_copied_to(made: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another machine" / "data"
    shutil.copytree(made, elsewhere)
    shutil.rmtree(made)
    found = lineage.trace(elsewhere / "report-v1.txt")
    assert {str(Path(path).parent) for path in found.nodes} == {str(elsewhere)}
    assert set(names(found).values()) == {"ok", "external"}


def test_nothing_there_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(TargetMissingError, match="nothing-here"):
        lineage.trace(tmp_path / "nothing-here")
    with pytest.raises(TargetMissingError, match="nothing-here"):
        lineage.read(tmp_path / "nothing-here")


def test_data_without_a_record_has_a_history_of_itself_only(tmp_path: Path) -> None:
    (tmp_path / "stray.txt").write_text("x")
    found = lineage.trace(tmp_path / "stray.txt")
    assert names(found) == {"stray.txt": "external"}
    assert lineage.read(tmp_path / "stray.txt") is None


class Bomb:
    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", [0, 4], ids=["as text", "binary"])
def test_a_pickle_where_a_record_should_be_is_never_loaded(made: Path, protocol: int) -> None:
    bomb = pickle.dumps(Bomb(str(made / "boom")), protocol)
    (made / "clean.csv.metadata.json").write_bytes(bomb)
    found = lineage.trace(made / "report-v1.txt")
    assert found.states[str(made / "clean.csv")] == "unreadable"
    with pytest.raises(RecordError, match="not valid JSON"):
        lineage.trace(made / "clean.csv")
    lineage.verify(made)
    with pytest.warns(UserWarning, match="left out"):
        lineage.frame(made)
    assert not (made / "boom").exists()


def test_a_difference_names_parameters_and_content_and_nothing_that_always_differs(made: Path) -> None:
    run_task(TracedReport(str(made), 2))
    found = lineage.diff(made / "report-v1.txt", made / "report-v2.txt")
    told = {(one.subject, one.kind, one.name) for one in found}
    assert told == {
        ("TracedReport", "parameter", "version"), ("TracedReport", "content", "of the output"),
        ("TracedParts", "parameter", "version"), ("TracedParts", "content", "of the output"),
    }  # fmt: skip
    assert lineage.diff(made / "report-v1.txt", made / "report-v1.txt") == []


def test_a_difference_in_a_source_and_in_code_is_told(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "before")
    (made / "source.csv").write_text("c,d\n")
    run_task(TracedReport(str(made)), refresh="inputs")
    record_file = made / "report-v1.txt.metadata.json"
    record = json.loads(record_file.read_text())
    record["code"]["digest"]["sha256"] = "0" * 64
    record["code"]["parts"]["TracedReport.run"] = "0" * 8
    record["environment"]["packages"]["luigi"] = "2.0"
    record_file.write_text(json.dumps(record))
    told = {
        (one.subject, one.kind, one.name)
        for one in lineage.diff(tmp_path / "before/report-v1.txt", made / "report-v1.txt")
    }
    assert ("TracedReport", "code", "TracedReport.run changed") in told
    assert ("TracedReport", "package", "luigi") in told
    assert ("TracedClean", "content", "of the output") in told
    assert any(kind == "input" and subject.endswith("source.csv") for subject, kind, _ in told)


def test_a_frame_has_a_row_for_each_record_below_a_folder(made: Path) -> None:
    table = lineage.frame(made)
    assert list(table["task_family"]) == ["TracedClean", "TracedParts", "TracedReport"]
    assert table["start_time"].dt.tz is not None
    row = table.set_index("task_family").loc["TracedReport"]
    assert (row["version"], row["score"], row["size"]) == (1, 0.5, len("1 parts"))
    assert pd.isna(table.set_index("task_family").loc["TracedClean", "score"])
    assert table.set_index("task_family").loc["TracedClean", "rows"] == 2
    assert lineage.frame(made / "parts-v1").empty


# ---- S3


class TracedObject(AtomicTaskWithMetadata):
    bucket = luigi.Parameter()
    options = luigi.DictParameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False)

    def output(self) -> Any:
        return S3ObjectTarget(self.bucket, "raw/a b.txt", **self.options)

    def run(self, output_path: Path) -> None:
        output_path.write_text("object")


class TracedPrefix(AtomicTaskWithMetadata):
    bucket = luigi.Parameter()
    options = luigi.DictParameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False)

    def requires(self) -> Any:
        return TracedObject(self.bucket, self.options)

    def output(self) -> Any:
        return S3PrefixTarget(self.bucket, "parts", **self.options)

    def run(self, input_path: Path, output_path: Path) -> None:
        for number in range(12):
            (output_path / f"{number}.txt").write_text(input_path.read_text())


class TracedFinal(AtomicTaskWithMetadata):
    bucket = luigi.Parameter()
    options = luigi.DictParameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, significant=False)

    def requires(self) -> Any:
        return TracedPrefix(self.bucket, self.options)

    def output(self) -> Any:
        return S3ObjectTarget(self.bucket, "final.txt", **self.options)

    def run(self, output_path: Path) -> None:
        output_path.write_text("final")


@pytest.fixture
def on_s3(s3_server: S3Server, s3_bucket: str) -> TracedFinal:
    """A history of three outputs on S3."""
    task = TracedFinal(s3_bucket, s3_server.client_options)
    run_task(task)
    return task


def test_a_history_on_s3_is_followed_with_the_credentials_of_the_target(on_s3: TracedFinal) -> None:
    found = lineage.trace(on_s3.output())
    bucket = on_s3.bucket
    assert found.states == dict.fromkeys(
        [f"s3://{bucket}/final.txt", f"s3://{bucket}/parts/", f"s3://{bucket}/raw/a b.txt"], "ok"
    )
    assert "superluigi-secret" not in json.dumps(found.as_json())


def test_a_history_on_s3_is_followed_by_address_with_the_aws_chain(
    on_s3: TracedFinal, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    found = lineage.trace(f"s3://{on_s3.bucket}/final.txt")
    assert list(found.states.values()) == ["ok"] * 3
    assert lineage.trace(f"s3://{on_s3.bucket}/parts").root == f"s3://{on_s3.bucket}/parts/"
    table = lineage.frame(f"s3://{on_s3.bucket}/")
    assert sorted(table["task_family"]) == ["TracedFinal", "TracedObject", "TracedPrefix"]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("address", ["parts", "parts/", "record"])
def test_a_prefix_is_found_by_its_address_wherever_its_record_is(
    inside: bool, address: str, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    target = S3PrefixTarget(s3_bucket, "parts", metadata_inside_prefix=inside)
    with target.tmp_write_path() as path:
        (path / "a.txt").write_text("a")
    place = str(target.metadata_path) if address == "record" else f"s3://{s3_bucket}/{address}"
    assert lineage.trace(place).states == {f"s3://{s3_bucket}/parts/": "ok"}
    assert lineage.read(place) == target.read_metadata()
    assert [found.state for found in lineage.verify(place)] == ["ok"]


def test_a_history_on_s3_costs_a_few_requests_for_each_ancestor(on_s3: TracedFinal, s3_server: S3Server) -> None:
    with s3_server.counted() as requests:
        lineage.trace(on_s3.output())
    assert len(requests) <= 3 * 4


class TracedPlain(Task):
    """A task that keeps no record."""

    root = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.root}/plain.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("plain")


class TracedAfterPlain(AtomicTaskWithMetadata):
    root = luigi.Parameter()

    def requires(self) -> Any:
        return TracedPlain(self.root)

    def output(self) -> Any:
        return LocalFileTarget(f"{self.root}/after.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        output_path.write_text(input_path.read_text())


def test_outputs_of_tasks_without_records_are_external_data_in_a_history(tmp_path: Path) -> None:
    run_task(TracedAfterPlain(str(tmp_path)))
    assert names(lineage.trace(tmp_path / "after.txt")) == {"after.txt": "ok", "plain.txt": "external"}
    (tmp_path / "plain.txt").write_text("other")
    assert names(lineage.trace(tmp_path / "after.txt"))["plain.txt"] == "changed"

"""What users of the first `super-luigi` package call works, or says what replaced it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import config, run_task, targets, visuals
from superluigi.errors import OptionError, ParameterError, RenamedError, TaskFailedError
from superluigi.tasks import base
from superluigi.testing import run_in


class Numbers(base.TaskWithMetadata):
    place = luigi.Parameter()

    def output(self) -> targets.LocalFileTarget:
        return targets.LocalFileTarget(f"{self.place}/numbers.txt")

    def run(self, metadata: dict[str, Any]) -> None:
        path = self.output().path
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("1 2 3")
        metadata["row_count"] = 3


class Sums(base.AtomicTaskWithMetadata):
    place = luigi.Parameter()

    def requires(self) -> dict[str, luigi.Task]:
        return {"numbers": Numbers(place=self.place)}

    def output(self) -> targets.LocalFileTarget:
        return targets.LocalFileTarget(f"{self.place}/sum.txt")

    def run(self, input_path: Any, output_path: Any, metadata: dict[str, Any]) -> None:
        known = metadata["input"]["numbers"]
        output_path.write_text(f"{known['row_count']} {known.get('row_count')} {known.get('nothing')}")
        metadata["rows"] = known["row_count"]
        metadata["copy"] = known


class Report(base.AtomicTaskWithMetadata):
    place = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        return [Sums(place=self.place)]

    def output(self) -> targets.LocalFileTarget:
        return targets.LocalFileTarget(f"{self.place}/report.txt")

    def run(self, output_path: Any, metadata: dict[str, Any]) -> None:
        sums = metadata["input"][0]
        above = sums["input"]["numbers"]
        output_path.write_text(f"{sums['rows']} {above['row_count']} {above['params']['place'] == self.place}")


class Plain(base.BaseTask):
    def requires(self) -> None:
        return None


def test_a_task_finds_what_its_inputs_noted_in_its_metadata_however_far_above(tmp_path: Path) -> None:
    run_task(Report(place=str(tmp_path)))
    assert (tmp_path / "sum.txt").read_text() == "3 3 None"
    assert (tmp_path / "report.txt").read_text() == "3 3 True"


def test_the_stored_record_holds_references_only(tmp_path: Path) -> None:
    run_task(Report(place=str(tmp_path)))
    for name in ("sum", "report"):
        stored = json.loads((tmp_path / f"{name}.txt.metadata.json").read_text())
        assert "row_count" not in json.dumps(stored["input"])
    assert "row_count" not in json.dumps(json.loads((tmp_path / "sum.txt.metadata.json").read_text())["copy"])


def test_a_reference_names_the_keys_of_the_record_and_travels_as_itself(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Looks(base.AtomicTaskWithMetadata):
        def requires(self) -> luigi.Task:
            return Numbers(place=str(tmp_path))

        def output(self) -> targets.LocalFileTarget:
            return targets.LocalFileTarget(tmp_path / "looks.txt")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            known = metadata["input"]
            seen.append(("row_count" in known, "nothing" in known, {"path", "row_count"} <= set(known)))
            seen.append(
                "row_count" in json.loads(json.dumps(known)) or "row_count" in pickle.loads(pickle.dumps(known))
            )
            with pytest.raises(KeyError):
                known["nothing"]
            output_path.write_text("")

    run_task(Looks())
    assert seen == [(True, False, True), False]


def test_an_input_that_was_replaced_since_does_not_lend_its_record(tmp_path: Path) -> None:
    class Late(base.AtomicTaskWithMetadata):
        def requires(self) -> luigi.Task:
            return Numbers(place=str(tmp_path))

        def output(self) -> targets.LocalFileTarget:
            return targets.LocalFileTarget(tmp_path / "late.txt")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            Numbers(place=str(tmp_path)).output().path.write_text("others")
            output_path.write_text(str(metadata["input"].get("row_count")))

    run_task(Late())
    assert (tmp_path / "late.txt").read_text() == "None"


def test_a_changed_reference_is_refused_as_any_of_our_keys(tmp_path: Path) -> None:
    class Changes(base.AtomicTaskWithMetadata):
        def requires(self) -> luigi.Task:
            return Numbers(place=str(tmp_path))

        def output(self) -> targets.LocalFileTarget:
            return targets.LocalFileTarget(tmp_path / "changes.txt")

        def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
            output_path.write_text("")
            metadata["input"]["mine"] = 1

    with pytest.raises(TaskFailedError, match="metadata\\['input'\\] was changed"):
        run_task(Changes())


def test_inputs_on_s3_lend_their_records_too(s3_server: Any) -> None:
    s3_server.create_bucket("lent")

    class Above(base.AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [
                targets.S3ObjectTarget("lent", "a.txt", **s3_server.client_options),
                targets.S3PrefixTarget("lent", "b", **s3_server.client_options),
            ]

        def run(self, output_path: Any, metadata: dict[str, Any]) -> None:
            output_path[0].write_text("a")
            (output_path[1] / "b").write_text("b")
            metadata["score"] = 0.5

    class Below(base.AtomicTaskWithMetadata):
        def requires(self) -> luigi.Task:
            return Above()

        def output(self) -> Any:
            return targets.S3ObjectTarget("lent", "c.txt", **s3_server.client_options)

        def run(self, output_path: Any, metadata: dict[str, Any]) -> None:
            output_path.write_text(" ".join(str(known["score"]) for known in metadata["input"]))

    run_task(Below())
    with Below().output().tmp_read_path(force_local_download=True) as path:
        assert path.read_text() == "0.5 0.5"


def test_a_task_class_of_the_old_base_is_one_of_ours() -> None:
    assert base.BaseTask is base.Task
    assert isinstance(Plain(), base.Task)


def test_build_and_apply_to_target_do_what_they_did(tmp_path: Path) -> None:
    assert base.build(Sums(place=str(tmp_path)))
    shown = base.apply_to_target({"a": [Sums(place=str(tmp_path)).output()]}, lambda one, word: word, word="x")
    assert shown == {"a": ["x"]}


@pytest.mark.parametrize("option", ["force", "raise_exception"])
def test_options_of_the_run_are_no_parameters_of_tasks_any_more(option: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=rf"run_task\(task, {option}=True\)"):
        Sums(place=str(tmp_path), **{option: True})
    with pytest.raises(OptionError, match=rf"run_task\(task, {option}=True\)"):
        setattr(Sums(place=str(tmp_path)), option, True)


def test_a_class_may_have_a_parameter_called_force_of_its_own(tmp_path: Path) -> None:
    class Physics(base.AtomicTaskWithMetadata):
        force = luigi.FloatParameter(default=9.81)
        raise_exception = luigi.BoolParameter()

        def output(self) -> targets.LocalFileTarget:
            return targets.LocalFileTarget(tmp_path / "physics.txt")

        def run(self, output_path: Path) -> None:
            output_path.write_text(f"{self.force} {self.raise_exception}")

    assert run_task(Physics(force=1.5)).read_text() == "1.5 False"


def test_force_of_a_task_tells_whether_the_run_under_way_makes_it_again(tmp_path: Path) -> None:
    class Tells(base.AtomicTaskWithMetadata):
        def output(self) -> targets.LocalFileTarget:
            return targets.LocalFileTarget(tmp_path / "tells.txt")

        def run(self, output_path: Path) -> None:
            output_path.write_text(str(self.force))

    assert run_task(Tells()).read_text() == "False"
    assert run_task(Tells(), force=True).read_text() == "True"
    assert Tells().force is False


def test_settings_have_the_names_of_their_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "data"))
    assert tmp_path / "data" == config.SUPERLUIGI_LOCAL_DATA_DIR
    assert config.SUPERLUIGI_DEFAULT_TASK_CONFIG.name == "superluigi.cfg"
    with pytest.raises(AttributeError):
        config.SUPERLUIGI_NOTHING


@pytest.mark.parametrize(
    "line",
    [
        "from superluigi.targets.s3 import get_s3_client",
        "from superluigi.targets.local import file_md5_hash",
        "from superluigi.task_runner import force_upstream_fn",
        "import superluigi.task_runner as r; r.get_task_cls",
    ],
)
def test_a_name_that_is_gone_says_what_to_write(line: str) -> None:
    with pytest.raises(RenamedError, match="is no more"):
        exec(line)


def test_a_name_that_never_was_is_an_ordinary_error() -> None:
    with pytest.raises(ImportError, match="cannot import name"):
        exec("from superluigi.targets.s3 import get_s3_cliennt")


def test_members_that_targets_had_say_what_to_write(tmp_path: Path) -> None:
    target = targets.LocalFileTarget(tmp_path / "a.txt")
    with pytest.raises(AttributeError, match="metadata_path is where"):
        target.default_metadata_path()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        target.nothing  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="tmp_write_path"):
        targets.S3PrefixTarget("bucket", "prefix").upload_prefix()  # type: ignore[attr-defined]


#: What the first package's targets had in public.
MEMBERS = {
    "any": "path metadata_path exists write_metadata read_metadata tmp_read_path tmp_write_path",
    "s3": "bucket metadata_bucket metadata_object_key local_root local_path region default_metadata_bucket "
    "default_metadata_object_key download local_same_as_remote",
    "object": "object_key download_object upload_object",
    "prefix": "prefix list_local_objects list_remote_objects download_prefix upload_prefix put_object "
    "delete_remote_prefix",
    "local": "default_metadata_path",
}
TARGETS = {
    "any s3 object": targets.S3ObjectTarget("bucket", "a/key.txt", local_root="copies"),
    "any s3 prefix": targets.S3PrefixTarget("bucket", "a", "records", "of/a.json", local_root="copies"),
    "any local": targets.LocalFolderTarget("folder"),
}


@pytest.mark.parametrize("kinds", TARGETS)
def test_each_member_that_targets_had_is_there_or_says_what_replaced_it(kinds: str) -> None:
    for member in " ".join(MEMBERS[kind] for kind in kinds.split()).split():
        try:
            getattr(TARGETS[kinds], member)
        except AttributeError as error:
            assert "any more." in str(error), member


def test_targets_on_s3_say_where_records_and_copies_are(tmp_path: Path) -> None:
    alone, together = TARGETS["any s3 object"], TARGETS["any s3 prefix"]
    assert isinstance(alone, targets.S3ObjectTarget) and isinstance(together, targets.S3PrefixTarget)
    assert (alone.metadata_bucket, alone.metadata_object_key) == ("bucket", "a/key.txt.metadata.json")
    assert (together.metadata_bucket, together.metadata_object_key) == ("records", "of/a.json")
    assert alone.local_root == together.local_root == Path("copies").absolute()


def test_contents_without_a_limit_name_every_file(tmp_path: Path) -> None:
    target = targets.LocalFolderTarget(tmp_path / "many", metadata_contents_limit=None)
    with target.tmp_write_path() as folder:
        for number in range(30):
            (folder / f"{number}.txt").write_text("")
    target.write_metadata({})
    assert len((target.read_metadata() or {})["output"]["contents"]) == 30


def test_the_old_command_line_runs_a_task_with_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(
        "import luigi\n"
        "from superluigi.tasks.base import AtomicTaskWithMetadata\n"
        "from superluigi.targets import LocalFileTarget\n"
        "class T(AtomicTaskWithMetadata):\n"
        "    n = luigi.IntParameter()\n"
        "    def output(self): return LocalFileTarget(f'{self.n}.txt')\n"
        "    def run(self, output_path): output_path.write_text('x')\n"
    )
    (tmp_path / "my.cfg").write_text("[T]\nn = 7\n")
    command = [sys.executable, "-m", "superluigi.task_runner", "--config-file", "my.cfg", "--task"]
    done = subprocess.run([*command, "old.T"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "7.txt").exists()) == (0, True), done.stderr
    wrong = subprocess.run([*command, "old.Nothing"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "there is no task old.Nothing" in wrong.stderr
    for words, code, advice in (
        (["old.T", "--config-file", "none.cfg"], 1, "The config file none.cfg does not exist"),
        (["old.T", "--config-file", "empty.cfg"], 1, "the parameter 'n' was not given"),
        (["T"], 2, "write --task MODULE.T"),
    ):
        (tmp_path / "empty.cfg").touch()
        told = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (told.returncode, "Traceback" in told.stderr) == (code, False), told.stderr
        assert advice in told.stderr


def test_configuration_that_is_set_for_the_process_fills_parameters(tmp_path: Path) -> None:
    from superluigi.task_runner import set_config, set_config_file

    (tmp_path / "set.cfg").write_text("[Configured]\nb = 2\n")

    class Configured(base.BaseTask):
        a = luigi.IntParameter()
        b = luigi.IntParameter()

    parser = luigi.configuration.get_config()
    try:
        set_config({"Configured": {"a": "1"}})
        set_config_file(tmp_path / "set.cfg")
        assert (Configured().a, Configured().b) == (1, 2)
    finally:
        parser.remove_section("Configured")


def test_the_graph_for_networkx_and_the_picture_stop_where_they_are_told(tmp_path: Path) -> None:
    root = Report(place=str(tmp_path))
    whole = visuals.dependency_graph(root)
    assert [data["task_family"] for _, data in whole.nodes(data=True)] == ["Numbers", "Sums", "Report"]
    assert sorted(whole.edges) == [(0, 1), (1, 2)]
    cut = visuals.dependency_graph(root, ignore_beyond=Sums)
    assert [data["task_hash"] for _, data in cut.nodes(data=True)] == [
        Sums(place=str(tmp_path)).task_hash,
        root.task_hash,
    ]
    page = tmp_path / "tmp.html"
    picture = root.plot_dependency_graph(ignore_beyond=[Sums], hierarchical=True, height="9px", output_path=page)
    assert page.exists()
    assert "Numbers" not in picture.mermaid
    assert "Sums" in picture.mermaid
    with pytest.raises(OptionError, match="colour"):
        visuals.plot_dependency_graph(root, colour="red")


def test_everything_runs_in_a_place_of_its_own(tmp_path: Path) -> None:
    with run_in(tmp_path):
        run_task(Sums(place=str(tmp_path)), raise_exception=True)

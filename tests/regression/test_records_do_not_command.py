"""A record describes, it does not command: nothing is removed, moved or unpickled because a file says so."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from superluigi import cli, run_task
from superluigi.errors import FormatError
from superluigi.storage import owner_token
from superluigi.storage.base import RECORD_SUFFIX, SCHEMA
from superluigi.storage.local.cleanup import clean
from superluigi.storage.local.stages import staging
from superluigi.storage.objects import intent_log
from superluigi.storage.objects.prefix.prefix_steps import CLAIM
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, deletion
from superluigi.testing.s3_server import S3Server


class Source(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFileTarget("store/source.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


class Made(AtomicTaskWithMetadata):
    """Goes to the store by itself."""

    suffix = ".txt"

    def requires(self) -> Any:
        return Source()

    def run(self, output_path: Path) -> None:
        output_path.write_text("y")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two outputs, and beside it a folder of mine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/years.txt").write_text("years of work")
    run_task(Made())
    return tmp_path / "store"


def _hostile(store: Path, name: str, path: Path | str, **more: Any) -> None:
    """A record in the store that says it describes `path`, truly or not."""
    record = json.loads((store / "source.txt.metadata.json").read_text())
    record |= {"task_family": "Made", "input": {"type": "LocalFileTarget", "path": str(store / "source.txt")}}
    record["output"] = {"type": "LocalFolderTarget", "path": str(path), "size": 13, "count": 1, **more}
    (store / "Made" / (name + RECORD_SUFFIX)).write_text(json.dumps(record))


def _true_facts(path: Path) -> dict[str, Any]:
    return LocalFolderTarget(path).location.content(path)


@pytest.mark.parametrize("true", [False, True], ids=["invented", "true"])
@pytest.mark.parametrize("how", ["elsewhere", "dots", "link", "relative"])
def test_clearing_leaves_alone_what_only_a_record_names(store: Path, how: str, true: bool) -> None:
    mine = store.parent / "mine"
    facts = _true_facts(mine) if true else {}
    path: Path | str = {"dots": store / "Made/../../mine", "relative": "mine"}.get(how, mine)
    if how == "link":
        (store / "Made/mine").symlink_to(mine)
    _hostile(store, "mine" if how == "link" else "whatever", path, **facts)
    found = deletion.downstream_of(Source())
    for output in found:
        if not output.kept:
            output.remove()
    Made.clear_all()
    assert (mine / "years.txt").read_text() == "years of work"
    assert not Made().complete() and not Source().complete()


def test_data_beside_a_record_that_describes_other_bytes_is_left_alone(store: Path) -> None:
    other = store / "Made/other"
    other.mkdir()
    (other / "notes.txt").write_text("not made by a task")
    _hostile(store, "other", other)
    assert [output.kept != "" for output in deletion.downstream_of(Source()) if output.path == str(other)] == [True]
    Made.clear_all()
    assert (other / "notes.txt").exists()


def test_rm_says_what_it_leaves_alone(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _hostile(store, "whatever", store.parent / "mine")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    code = cli.main(["rm", __name__.rpartition(".")[2], "Source", "--downstream", "--yes"])
    said = capsys.readouterr()
    assert code == 1 and f"left alone {store.parent / 'mine'}" in said.err
    assert str(Made().output().path) in said.out and (store.parent / "mine/years.txt").exists()


def test_outputs_whose_records_lie_elsewhere_are_still_removed_by_their_tasks(tmp_path: Path, store: Path) -> None:
    found = {output.path for output in deletion.downstream_of(Source()) if not output.kept}
    assert found == {str(Made().output().path), str(store / "source.txt")}


def test_cleaning_moves_nothing_elsewhere(store: Path) -> None:
    mine = store.parent / "mine"
    dead = owner_token.token()
    dead = dead.replace(f"-{os.getpid()}-", "-999999999-")
    # a record that waits, and names my folder, in which another user has put a journal
    record = {"schema": SCHEMA, "output": {"type": "LocalFolderTarget", "path": str(mine), "commit": dead}}
    (store / f"whatever{RECORD_SUFFIX}.pending").write_text(json.dumps(record))
    # journals that lead out of their folder
    for name, new in (("a", f"{staging.STAGING}-{dead}.a/../../../mine/years.txt"), ("b", "../mine/years.txt")):
        text = json.dumps({"final": name, "new": new, "old": "../mine/years.txt"})
        staging.swap_journal(store / name).write_text(text)
    outside = json.dumps({"final": "../mine/other", "new": f"{staging.STAGING}-{dead}.x", "old": "x"})
    staging.swap_journal(store / "c").write_text(outside)
    for name in "ab":
        assert not LocalFolderTarget(store / name).exists()
    clean(store)
    assert os.listdir(mine) == ["years.txt"]
    assert not (store / f"whatever{RECORD_SUFFIX}.pending").exists()


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("format", ["pickle", "joblib", "pickle+gz"])
def test_a_file_is_unpickled_by_its_name_never_by_its_record(store: Path, format: str) -> None:
    (store / "data.json").write_bytes(pickle.dumps(Bomb()))
    target = LocalFileTarget(store / "data.json")
    target.write_metadata({})
    record = json.loads(target.metadata_path.read_text())
    record["output"]["format"] = format
    target.metadata_path.write_text(json.dumps(record))
    with pytest.raises(FormatError, match="not called like a pickle"):
        target.load()
    assert not Path("exploded").exists()
    LocalFileTarget(store / "value.pkl").dump({"a": Path("x")})
    assert LocalFileTarget(store / "value.pkl").load() == {"a": Path("x")}


def test_a_note_removes_only_what_carries_its_own_token(
    s3_server: S3Server, s3_bucket: str, local_root: Path, tmp_path: Path
) -> None:
    target = S3ObjectTarget(s3_bucket, "mine.txt", **s3_server.client_options)
    target.dump("years of work")
    s3 = target.location.s3
    folder = staging.staging_folder(local_root)
    note = intent_log.IntentLog(folder, s3.namespace)
    note.add("delete", bucket=s3_bucket, key="mine.txt")
    note.add(
        "prefix", bucket=s3_bucket, prefix="", record_bucket=s3_bucket, record_key="none",
        commit=target.location.head().commit,
    )  # fmt: skip
    intent_log.replay(s3, folder, local_root)
    assert target.exists() and not folder.exists()


def test_a_claims_plan_removes_nothing_beside_its_prefix(s3_server: S3Server, s3_bucket: str) -> None:
    mine = S3ObjectTarget(s3_bucket, "mine.txt", **s3_server.client_options)
    mine.dump("years of work")
    prefix = S3PrefixTarget(s3_bucket, "out", **s3_server.client_options)
    with prefix.tmp_write_path() as path:
        (path / "x").write_text("x")
    client = s3_server.client()
    record = json.loads(client.get_object(Bucket=s3_bucket, Key="out.metadata.json")["Body"].read())
    plan = {
        "record": record, "contents": record["output"]["contents"], "copies": [], "gone": ["mine.txt", "out/y"],
        "limit": 10, "old_manifest": "mine.txt", "copy_options": {},
    }  # fmt: skip
    claim = {"commit": record["output"]["commit"], "holder": "", "folder": "", "state": "switching", "plan": plan}
    client.delete_object(Bucket=s3_bucket, Key="out.metadata.json")
    client.put_object(Bucket=s3_bucket, Key="out.metadata.json" + CLAIM, Body=json.dumps(claim).encode())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("superluigi.storage.objects.prefix.prefix_recovery.Claim.is_abandoned", lambda self: True)
        assert prefix.exists()
    assert mine.exists()

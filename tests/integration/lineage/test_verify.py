"""`verify` re-reads outputs against their records and says what it finds, on local disks and on S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from superluigi import lineage
from superluigi.errors import TargetMissingError
from superluigi.storage.base import SCHEMA
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import S3Server

RECORD = {"schema": SCHEMA, "run": {"id": "r"}, "task_id": "T", "task_family": "T"}


def commit(target: Any, **files: str) -> Any:
    """Commit one file's text, or several files, with a record."""
    with target.stage() as staged:
        if target.is_folder:
            for name, text in files.items():
                (staged.path / name).write_text(text)
        else:
            staged.path.write_text(files["text"])
        staged.commit(RECORD)
    return target


def states(place: Any) -> dict[str, str]:
    return {Path(one.path).name: one.state for one in lineage.verify(place)}


def test_each_kind_of_finding_is_told_apart_in_a_folder(tmp_path: Path) -> None:
    for name in ("fine", "edited", "gone"):
        commit(LocalFileTarget(tmp_path / "sub" / f"{name}.txt"), text=name)
    commit(LocalFolderTarget(tmp_path / "folder"), a="1", b="2")
    commit(LocalFolderTarget(tmp_path / "spoilt"), a="1", b="2")
    (tmp_path / "sub" / "edited.txt").write_text("edhted")
    (tmp_path / "sub" / "gone.txt").unlink()
    (tmp_path / "sub" / "stray.txt").write_text("stray")
    (tmp_path / "spoilt" / "b").write_text("3")
    assert states(tmp_path) == {
        "fine.txt": "ok", "edited.txt": "changed", "gone.txt": "missing", "stray.txt": "without record",
        "folder": "ok", "spoilt": "changed",
    }  # fmt: skip
    details = {Path(one.path).name: one.detail for one in lineage.verify(tmp_path)}
    assert details["edited.txt"] == "same size, other content"
    assert details["spoilt"] == "b has other content"


def test_same_bytes_with_another_time_are_the_same(tmp_path: Path) -> None:
    target = commit(LocalFileTarget(tmp_path / "a.txt"), text="a")
    os.utime(target.path, (1, 1))
    assert states(target) == {"a.txt": "ok"}


def test_one_output_may_be_asked_for_by_path_target_or_record(tmp_path: Path) -> None:
    target = commit(LocalFolderTarget(tmp_path / "folder", metadata_inside_folder=True), a="1")
    for place in (target, target.path, str(target.path), target.metadata_path):
        assert states(place) == {"folder": "ok"}
    elsewhere = commit(LocalFileTarget(tmp_path / "data.txt", metadata_path=tmp_path / "records" / "r.json"), text="x")
    assert states(elsewhere) == {"data.txt": "ok"}


def test_records_in_a_folder_of_their_own_lead_to_their_data(tmp_path: Path) -> None:
    target = LocalFileTarget(tmp_path / "data" / "a.txt", metadata_path=tmp_path / "records" / "r.metadata.json")
    commit(target, text="x")
    assert states(tmp_path / "records") == {"a.txt": "ok"}
    target.path.write_text("y")
    assert states(tmp_path / "records") == {"a.txt": "changed"}


def test_a_place_where_nothing_is_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TargetMissingError, match="no-such"):
        lineage.verify(tmp_path / "no-such.txt")


CRASH = """
import os, sys
from pathlib import Path
from superluigi.storage.local import atomic
from superluigi.targets import LocalFileTarget
real = atomic.replace
count = 0
def replace(source, destination):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os._exit(1)
    return real(source, destination)
atomic.replace = replace
with LocalFileTarget(sys.argv[1]).stage() as staged:
    staged.path.write_text("new")
    staged.commit({record!r})
"""


@pytest.mark.parametrize(("step", "found"), [(1, "ok"), (2, "ok"), (3, "half-committed")])
def test_what_a_dead_writer_left_is_told_and_not_touched(tmp_path: Path, step: int, found: str) -> None:
    target = commit(LocalFileTarget(tmp_path / "out.txt"), text="old")
    script = CRASH.replace("{record!r}", repr(RECORD))
    subprocess.run([sys.executable, "-c", script, str(target.path), str(step)], check=False)
    before = sorted(path.name for path in tmp_path.iterdir())
    told = {one.path: one.state for one in lineage.verify(tmp_path)}
    assert told.pop(str(target.path)) == found
    assert set(told.values()) <= {"half-committed"}, "left-overs are told as such"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert target.read_metadata() is not None, "reading repairs"
    if found == "half-committed":
        assert states(target) == {"out.txt": "ok"}


def test_a_record_that_is_no_json_is_told_as_changed(tmp_path: Path) -> None:
    target = commit(LocalFileTarget(tmp_path / "a.txt"), text="a")
    target.metadata_path.write_text("{")
    assert states(tmp_path) == {"a.txt": "changed"}


def verify_in_another_process(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "superluigi", "verify", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_exit_code_says_whether_anything_is_wrong(tmp_path: Path) -> None:
    commit(LocalFileTarget(tmp_path / "a.txt"), text="a")
    code, text = verify_in_another_process(str(tmp_path))
    assert (code, text.splitlines()[-1]) == (0, "1 ok")
    (tmp_path / "stray.txt").write_text("b")
    assert verify_in_another_process(str(tmp_path))[0] == 1
    assert verify_in_another_process(str(tmp_path), "--allow-without-record")[0] == 0
    (tmp_path / "a.txt").write_text("b")
    code, text = verify_in_another_process(str(tmp_path), "--json", "--quiet", "--allow-without-record")
    assert code == 1
    assert {Path(one["path"]).name: one["state"] for one in json.loads(text)} == {
        "a.txt": "changed", "stray.txt": "without record",
    }  # fmt: skip
    code, text = verify_in_another_process(str(tmp_path / "none"))
    assert code == 1
    assert "TargetMissingError" in text


# ---- S3


@pytest.fixture
def chain(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that the AWS chain reaches."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    return s3_bucket


def test_each_kind_of_finding_is_told_apart_in_a_bucket(chain: str, s3_server: S3Server) -> None:
    client = s3_server.client()
    for name in ("fine", "edited", "gone"):
        commit(S3ObjectTarget(chain, f"a/{name}.txt"), text=name)
    many = {f"{number}": str(number) for number in range(15)}
    for name in ("whole", "spoilt", "short", "more", "empty"):
        commit(S3PrefixTarget(chain, f"a/{name}"), **many)
    client.put_object(Bucket=chain, Key="a/edited.txt", Body=b"edhted")
    client.delete_object(Bucket=chain, Key="a/gone.txt")
    client.put_object(Bucket=chain, Key="a/stray.txt", Body=b"x")
    client.put_object(Bucket=chain, Key="a/spoilt/12", Body=b"xx")
    client.delete_object(Bucket=chain, Key="a/short/14")
    client.put_object(Bucket=chain, Key="a/more/new", Body=b"x")
    for number in range(15):
        client.delete_object(Bucket=chain, Key=f"a/empty/{number}")
    found = {one.path.removeprefix(f"s3://{chain}/a/"): one for one in lineage.verify(f"s3://{chain}/a/")}
    assert {path: one.state for path, one in found.items()} == {
        "fine.txt": "ok", "edited.txt": "changed", "gone.txt": "missing", "stray.txt": "without record",
        "whole/": "ok", "spoilt/": "changed", "short/": "changed", "more/": "changed", "empty/": "missing",
    }  # fmt: skip
    assert "a/short/14 is gone" in found["short/"].detail
    assert "a/more/new is new" in found["more/"].detail


def test_one_output_on_s3_may_be_asked_for_by_address_or_target(chain: str) -> None:
    single = commit(S3ObjectTarget(chain, "b/one.txt"), text="x")
    several = commit(S3PrefixTarget(chain, "b/several"), a="1")
    inside = commit(S3PrefixTarget(chain, "b/inside", metadata_inside_prefix=True), a="1")
    for place, path in (
        (single, "b/one.txt"), (f"s3://{chain}/b/one.txt", "b/one.txt"), (several, "b/several/"),
        (f"s3://{chain}/b/several", "b/several/"), (f"s3://{chain}/b/several/", "b/several/"), (inside, "b/inside/"),
    ):  # fmt: skip
        assert [(one.path, one.state) for one in lineage.verify(place)] == [(f"s3://{chain}/{path}", "ok")]
    everything = lineage.verify(f"s3://{chain}/")
    assert sorted(one.path for one in everything) == sorted(
        f"s3://{chain}/{path}" for path in ("b/one.txt", "b/several/", "b/inside/")
    )
    assert {one.state for one in everything} == {"ok"}


def test_bytes_that_rotted_under_the_same_etag_are_found(chain: str, s3_server: S3Server) -> None:
    target = commit(S3ObjectTarget(chain, "c/rot.txt"), text="x")
    register = json.loads(s3_server.client().get_object(Bucket=chain, Key="c/rot.txt.metadata.json")["Body"].read())
    register["output"]["digest"] = {"sha256": "0" * 64}
    body = json.dumps(register).encode()
    s3_server.client().put_object(Bucket=chain, Key="c/rot.txt.metadata.json", Body=body)
    assert [one.state for one in lineage.verify(target)] == ["changed"]


def test_nothing_on_s3_is_an_error(chain: str) -> None:
    with pytest.raises(TargetMissingError, match="no-such"):
        lineage.verify(f"s3://{chain}/no-such")


def test_commits_that_stopped_on_their_way_on_s3_are_half_committed(
    chain: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superluigi.storage.objects.record import Register

    target = commit(S3ObjectTarget(chain, "d/one.txt"), text="old")
    prefix = commit(S3PrefixTarget(chain, "d/several"), a="1")
    s3_server.client().put_object(Bucket=chain, Key="d/several.metadata.json.pending", Body=b"{}")
    s3_server.client().put_object(Bucket=chain, Key="d/never.metadata.json.pending", Body=b"{}")
    with monkeypatch.context() as patch:
        patch.setattr(Register, "commit", lambda *_: None)  # the writer dies before its last step
        commit(target, text="new")
    told = {one.path.removeprefix(f"s3://{chain}/d/"): one.state for one in lineage.verify(f"s3://{chain}/d/")}
    assert told == {"one.txt": "half-committed", "several/": "half-committed", "never/": "half-committed"}
    assert [one.state for one in lineage.verify(prefix)] == ["half-committed"]
    assert target.read_metadata() is not None


def overwrite(path: str, folder: bool) -> None:
    """Commit again, in a process that may die on the way."""
    if folder:
        commit(LocalFolderTarget(path), a="new", b="new")
    else:
        commit(LocalFileTarget(path), text="new")


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_writer_that_dies_anywhere_never_leaves_what_looks_changed(tmp_path: Path, folder: bool) -> None:
    from superluigi.testing.fault_injection import DEATH, stopped_in_child

    told: set[str] = set()
    for step in range(1, 100):
        place = tmp_path / str(step)
        target = LocalFolderTarget(place / "out") if folder else LocalFileTarget(place / "out")
        commit(target, a="old", text="old")
        died = stopped_in_child(step, "death", overwrite, str(target.path), folder) == DEATH
        found = {one.path: one.state for one in lineage.verify(place)}
        told.add(found.pop(str(target.path)))
        assert set(found.values()) <= {"half-committed"}, "what is left beside it is told as such"
        if not died:
            break
    assert step > 3
    assert told == {"ok", "half-committed"}

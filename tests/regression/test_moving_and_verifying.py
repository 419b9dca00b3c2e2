"""What is moved or copied takes its record along; targets of the wrong kind and absent places are errors with advice;
everybody has the same copy of a prefix."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superluigi import cli, lineage
from superluigi.errors import OptionError, TargetKindError
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import S3Server

Target = LocalFileTarget


def _made(path: Path, **options: Any) -> LocalFileTarget:
    target = LocalFileTarget(path, **options)
    with target.stage() as staged:
        staged.path.write_text("x")
        staged.commit({"task_id": "T"})
    return target


@pytest.mark.parametrize(
    ("how", "stays"),
    [
        (lambda target, new: target.move(new), False),
        (lambda target, new: target.rename(str(new)), False),
        (lambda target, new: target.move_dir(new), False),
        (lambda target, new: target.fs.move(target.path, new), False),
        (lambda target, new: target.fs.rename(str(target.path), str(new)), False),
        (lambda target, new: target.fs.rename_dont_move(target.path, new), False),
        (lambda target, new: target.copy(new), True),
        (lambda target, new: target.fs.copy(str(target.path), str(new)), True),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_record_goes_with_the_file(
    how: Callable[[Target, Path], None], stays: bool, elsewhere: bool, tmp_path: Path
) -> None:
    record = tmp_path / "records/r.json"
    target = _made(tmp_path / "old.txt", **({"metadata_path": record} if elsewhere else {}))
    new = LocalFileTarget(tmp_path / "deeper/new.txt")
    how(target, new.path)
    assert target.exists() is stays
    by_path = elsewhere and new.read_metadata() is None  # a path alone does not say where a record is kept
    if not by_path:
        found = new.read_metadata()
        assert found is not None and found["task_id"] == "T" and found["output"]["path"] == str(new.path)
        assert target.metadata_path.exists() is stays
    assert by_path is (elsewhere and "fs" in how.__code__.co_names)
    leftovers = [path.name for path in tmp_path.rglob("*") if "pending" in path.name or path.name.startswith(".")]
    assert leftovers == []


@pytest.mark.parametrize(
    ("what", "where"), [("a", "a.metadata.json"), ("a", "folder"), ("folder", "a"), ("a", ".superluigi-x"), ("a", "a")]
)
def test_what_is_moved_where_it_cannot_be_stays_with_its_record(tmp_path: Path, what: str, where: str) -> None:
    targets = {"a": _made(tmp_path / "a"), "folder": LocalFolderTarget(tmp_path / "folder")}
    with targets["folder"].stage() as staged:
        (staged.path / "x").write_text("x")
        staged.commit({"task_id": "T"})
    before = sorted(path.name for path in tmp_path.iterdir())
    with contextlib.nullcontext() if what == where else pytest.raises(TargetKindError):
        targets["a"].fs.move(str(tmp_path / what), str(tmp_path / where))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert all(target.exists() and target.read_metadata() for target in targets.values())


@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_an_output_whose_record_cannot_be_removed_stays(tmp_path: Path, kind: type[LocalFileTarget]) -> None:
    target = kind(tmp_path / "x")
    with target.stage() as staged:
        (staged.path / "x" if staged.path.is_dir() else staged.path).write_text("x")
        staged.commit({"task_id": "T"})
    target.metadata_path.unlink()
    target.metadata_path.mkdir()
    with pytest.raises(TargetKindError, match=r"x\.metadata\.json is a folder.*Remove it"):
        target.remove()
    assert (tmp_path / "x").exists()


def test_removing_by_path_takes_the_record(tmp_path: Path) -> None:
    target = _made(tmp_path / "x.txt")
    target.fs.remove(str(target.path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("where", "is_refused"), [("x", False), ("x.metadata.json", True)])
def test_an_object_that_is_moved_to_itself_or_onto_its_record_stays(
    s3_server: S3Server, s3_bucket: str, where: str, is_refused: bool
) -> None:
    target = S3ObjectTarget(s3_bucket, "x", **s3_server.client_options)
    with target.stage() as staged:
        staged.path.write_text("x")
        staged.commit({"task_id": "T"})
    for work in (target.fs.move, target.fs.copy):
        with pytest.raises(TargetKindError) if is_refused else contextlib.nullcontext():
            work(f"s3://{s3_bucket}/x", f"s3://{s3_bucket}/{where}")
        assert target.exists() and target.read_metadata() is not None


def test_an_object_that_is_moved_takes_its_record_along(s3_server: S3Server, s3_bucket: str) -> None:
    options = s3_server.client_options
    target = S3ObjectTarget(s3_bucket, "a/x.txt", **options)
    with target.stage() as staged:
        staged.path.write_text("x")
        staged.commit({"task_id": "T"})
    target.fs.move(f"s3://{s3_bucket}/a/x.txt", f"s3://{s3_bucket}/b/y.txt")
    moved = S3ObjectTarget(s3_bucket, "b/y.txt", **options)
    assert moved.read_metadata()["task_id"] == "T" and not target.exists()
    assert target.read_metadata() is None


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (lambda: LocalFileTarget("s3://b/k.txt"), r"S3ObjectTarget\('b', 'k.txt'\)"),
        (lambda: LocalFileTarget(Path("s3://b/k.txt")), r"S3ObjectTarget\('b', 'k.txt'\)"),
        (lambda: LocalFileTarget("x", metadata_path="s3://b/k"), "S3ObjectTarget"),
        (lambda: LocalFolderTarget("S3A://b/k/"), "S3PrefixTarget"),
        (lambda: LocalFileTarget("file:///tmp/x"), "'/tmp/x'"),
        (lambda: LocalFolderTarget("hdfs://n/x"), "hdfs"),
        (lambda: S3ObjectTarget("s3://b", "k"), "bucket 'b'"),
        (lambda: S3ObjectTarget("b", "s3://b/k"), "object_key 'k'"),
        (lambda: S3PrefixTarget("s3://b/p/", ""), "prefix 'p/'"),
        (lambda: S3PrefixTarget("/tmp/x", "y"), "LocalFolderTarget"),
        (lambda: S3ObjectTarget("b", "file:///x"), "LocalFileTarget"),
    ],
)
def test_an_address_of_another_kind_is_an_error_that_names_the_right_class(make: Any, right: str) -> None:
    with pytest.raises(OptionError, match=right):
        make()


@pytest.mark.parametrize("place", ["no/such/file", "no/such/folder/", "here.txt/below"])
def test_verifying_nothing_says_so(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("x")
    assert cli.main(["verify", place]) != 0
    said = capsys.readouterr()
    assert "TargetMissingError" in said.err and "Traceback" not in said.err


def test_the_maker_of_a_prefix_has_the_copy_that_others_download(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    def seen(root: Path) -> dict[str, tuple[int, str]]:
        target = S3PrefixTarget(s3_bucket, "out", local_root=root, **s3_server.client_options)
        with target.tmp_read_path() as path:
            return {
                file.relative_to(path).as_posix(): (
                    stat.S_IMODE(file.lstat().st_mode),
                    file.read_text() if file.is_file() and not file.is_symlink() else str(file.is_symlink()),
                )
                for file in path.rglob("*")
            }

    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/y").write_text("y")
    maker = S3PrefixTarget(s3_bucket, "out", local_root=tmp_path / "maker", **s3_server.client_options)
    with maker.tmp_write_path() as path:
        (path / "empty/deeper").mkdir(parents=True)
        (path / "sub").mkdir(mode=0o700)
        (path / "sub/tool").write_text("x")
        (path / "sub/tool").chmod(0o500)
        os.symlink("sub/tool", path / "link")
        os.symlink(tmp_path / "outside", path / "tree")
    assert seen(tmp_path / "maker") == seen(tmp_path / "other")
    assert (tmp_path / "outside/y").read_text() == "y"


@pytest.mark.parametrize("length", [255, 241])
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_name_that_leaves_no_room_for_that_of_a_record_has_none_and_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int, is_folder: bool
) -> None:
    _made(tmp_path / "other")
    long = tmp_path / ("n" * length)
    if is_folder:
        long.mkdir()
        (long / "x").write_text("x")
    else:
        long.write_text("x")
    states = {Path(found.path).name: found.state for found in lineage.verify(tmp_path)}
    assert states == {"other": "ok", "x" if is_folder else long.name: "without record"}
    assert cli.main(["verify", str(long)]) == 1 and "1 without record" in capsys.readouterr().out


def test_an_output_whose_path_goes_back_over_a_link_is_found_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to("../other/deep")
    monkeypatch.chdir(tmp_path)
    for path in ("here/link/../made.txt", "here/../plain.txt"):
        with LocalFileTarget(path).tmp_write_path() as place:
            place.write_text("made")
        LocalFileTarget(path).write_metadata({})
        assert [one.state for one in lineage.verify(path)] == ["ok"]
        assert lineage.trace(path).root in (f"{tmp_path}/here/link/../made.txt", f"{tmp_path}/plain.txt")
    assert [one.state for one in lineage.verify("here/link/..")] == ["ok"]
    assert sorted(one.state for one in lineage.verify("here/..")) == ["ok", "ok", "without record"]

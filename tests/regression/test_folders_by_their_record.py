"""A folder exists by its record, and its record is that of exactly these files, links included."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import run_task
from superluigi.errors import OutputNotWrittenError, TargetKindError, TaskFailedError
from superluigi.lineage import verify
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")


class Folder(AtomicTaskWithMetadata):
    inside = luigi.BoolParameter()

    def output(self) -> Any:
        return LocalFolderTarget("out", metadata_inside_folder=self.inside)

    def run(self, output_path: Path) -> None:
        (output_path / "sub").mkdir()
        (output_path / "a.txt").write_text("new content")
        (output_path / "sub/b.txt").write_text("b")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("before", ["empty", "half", "a stranger's record"])
def test_a_folder_without_its_record_is_made(before: str, inside: bool) -> None:
    Path("out").mkdir()
    if before != "empty":
        Path("out/a.txt").write_text("half")
    if before == "a stranger's record":
        task = Folder(inside=inside)
        task.output().metadata_path.write_text('{"note": "no record of ours"}')
    assert not Folder(inside=inside).complete()
    run_task(Folder(inside=inside))
    assert Folder(inside=inside).complete() and Path("out/a.txt").read_text() == "new content"


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", ["a.txt", "sub/b.txt"])
@pytest.mark.parametrize("full", [False, True])
def test_a_folder_in_the_place_of_a_file_is_not_that_file(name: str, inside: bool, full: bool) -> None:
    run_task(Folder(inside=inside))
    Path("out", name).unlink()
    Path("out", name).mkdir()
    if full:
        Path("out", name, "inner").write_text("x")
    assert not Folder(inside=inside).complete()
    run_task(Folder(inside=inside))
    assert Folder(inside=inside).complete() and Path("out", name).is_file()


class WithoutContent(AtomicTaskWithMetadata):
    kind: Param[str]
    folder: Param[bool]

    def output(self) -> Any:
        return LocalFolderTarget("strange") if self.folder else LocalFileTarget("strange")

    def run(self, output_path: Path) -> None:
        path = output_path / "sub/strange" if self.folder else output_path
        path.parent.mkdir(exist_ok=True)
        if self.kind == "pipe":
            os.mkfifo(path)
        elif self.kind == "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.path.relpath(path))
        else:
            path.symlink_to("/dev/null" if self.kind == "link to a device" else "nowhere")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device", "link to nowhere"])
def test_what_has_no_content_is_called_by_the_name_that_it_would_have_had(kind: str, folder: bool) -> None:
    with pytest.raises(TaskFailedError) as caught:
        run_task(WithoutContent(kind=kind, folder=folder))
    told = str(caught.value)
    assert str(Path("strange/sub/strange" if folder else "strange").absolute()) in told and ".superluigi-" not in told


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("lost", ["a.txt", "sub/b.txt", "sub"])
def test_a_folder_that_lost_a_member_is_made_again(lost: str, inside: bool) -> None:
    run_task(Folder(inside=inside))
    path = Path("out", lost)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not Folder(inside=inside).complete()
    run_task(Folder(inside=inside))
    assert path.exists() and Folder(inside=inside).output().read_metadata() is not None


def test_a_moved_folder_keeps_its_record() -> None:
    run_task(Folder())
    shutil.copytree("out", "copied")
    shutil.copy("out.metadata.json", "copied.metadata.json")
    Path("out").rename("moved")
    Path("out.metadata.json").rename("moved.metadata.json")
    for name in ("copied", "moved"):
        target = LocalFolderTarget(name)
        assert target.exists() and target.read_metadata()["task_family"] == "Folder"


class External(ExternalTask):
    def output(self) -> Any:
        return LocalFolderTarget("raw")


class External2(External):
    """Says it at the target."""

    def output(self) -> Any:
        return LocalFolderTarget("raw", external=True)


class Reading(AtomicTaskWithMetadata):
    def requires(self) -> Any:
        return [External(), External2()]

    def output(self) -> Any:
        return LocalFileTarget("read.txt")

    def run(self, input_path: list[Path], output_path: Path) -> None:
        output_path.write_text("".join((path / "x").read_text() for path in input_path))


def test_strangers_folders_are_read_without_a_record() -> None:
    Path("raw").mkdir()
    Path("raw/x").write_text("x")
    run_task(Reading())
    assert Path("read.txt").read_text() == "xx"


def _fill(task: Any) -> None:
    Path("hand").mkdir(exist_ok=True)
    Path("hand/x").write_text("x")


class ByHand(TaskWithMetadata):
    def output(self) -> Any:
        return LocalFolderTarget("hand")

    def run(self) -> None:
        _fill(self)


class Plain(Task):
    output = ByHand.output
    run = _fill


class Stock(luigi.Task):
    output = ByHand.output
    run = _fill


class Careful(Task):
    output = ByHand.output

    def run(self) -> None:
        with self.output().tmp_write_path() as path:
            (path / "x").write_text("x")


class Theirs(Task):
    run = _fill

    def output(self) -> Any:
        return LocalFolderTarget("hand", external=True)


@pytest.mark.parametrize("task", [ByHand, Careful, Theirs])
def test_ways_to_fill_a_folder_that_leave_it_complete(task: Any) -> None:
    run_task(task())
    assert task().complete()


@pytest.mark.parametrize("task", [Plain, Stock])
def test_a_folder_filled_by_its_path_alone_fails_with_advice(task: Any) -> None:
    with pytest.raises(TaskFailedError, match="tmp_write_path") as raised:
        run_task(task())
    assert isinstance(raised.value.__cause__, OutputNotWrittenError)


# ---------------------------------------------------------------- the record is that of these bytes


@pytest.mark.parametrize("kind", ["file", "folder", "nested"])
def test_other_bytes_of_the_same_size_with_an_older_time_have_no_record(kind: str) -> None:
    Path("backup").write_text("OLD CONTENT")
    os.utime("backup", (1e9, 1e9))
    target: Any = LocalFileTarget("f.txt") if kind == "file" else LocalFolderTarget("f")
    with target.stage() as staged:
        paths = [staged.path] if kind == "file" else [staged.path / "n/a", staged.path / "n/b", staged.path / "c"]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.write_text("new content")
        staged.commit({"text": "x"})
    changed = {"file": "f.txt", "folder": "f/c", "nested": "f/n/a"}[kind]
    assert target.read_metadata() is not None
    subprocess.run(["cp", "-p", "backup", changed], check=True)
    assert Path(changed).read_text() == "OLD CONTENT" and target.read_metadata() is None
    assert [one.state for one in verify(target)] == ["changed"]


def test_members_that_change_places_or_names_are_noticed() -> None:
    target = LocalFolderTarget("f")
    with target.tmp_write_path() as path:
        for name in "ab":
            (path / name).write_text(name)
            os.utime(path / name, ns=(5, 5))
    for change in (("a", "c"), ("c", "a")):
        Path("f", change[0]).rename(Path("f", change[1]))
        assert (target.read_metadata() is None) == (change[1] == "c")
    for one, other in (("a", "x"), ("b", "a"), ("x", "b")):
        Path("f", one).rename(Path("f", other))
    assert target.read_metadata() is None


# ---------------------------------------------------------------- links


class Hub(ExternalTask):
    """The layout of a store of models: names that lead to shared bytes outside."""

    def output(self) -> Any:
        return LocalFolderTarget("hub/snapshots/rev")


class Scribbles(AtomicTaskWithMetadata):
    name = luigi.Parameter()

    def requires(self) -> Any:
        return Hub()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.name.replace('/', '-')}.txt")

    def run(self, input_path: Path, output_path: Path) -> None:
        file = input_path / self.name
        text = file.read_text()
        file.write_text("scribble")
        output_path.write_text(text)


@pytest.mark.parametrize("name", ["relative", "absolute", "chain", "folder/blob", "inner", "inner-folder/real"])
def test_readers_copies_hold_what_links_lead_to_and_lead_nowhere(name: str) -> None:
    root = Path("hub/snapshots/rev")
    (root / "sub").mkdir(parents=True)
    Path("hub/blobs").mkdir()
    Path("hub/blobs/blob").write_text("weights")
    (root / "sub/real").write_text("weights")
    (root / "relative").symlink_to("../../blobs/blob")
    (root / "absolute").symlink_to(Path("hub/blobs/blob").absolute())
    (root / "chain").symlink_to("relative")
    (root / "folder").symlink_to("../../blobs")
    (root / "inner").symlink_to((root / "sub/real").absolute())
    (root / "inner-folder").symlink_to("sub")
    run_task(Scribbles(name))
    assert Scribbles(name).output().path.read_text() == "weights"
    assert Path("hub/blobs/blob").read_text() == (root / "sub/real").read_text() == "weights"
    before = Scribbles(name).output().read_metadata()["input"]
    Path("hub/blobs/blob").write_text("WEIGHTS")
    assert Hub().output().location.describe()["digest"] != before["digest"]


def _write_links(path: Path, final: Path) -> None:
    (path / "r1").mkdir()
    (path / "r1/x").write_text("x")
    (path / "latest").symlink_to(path / "r1")
    (path / "by-final-name").symlink_to(final / "r1")
    (path / "r1/up").symlink_to("../r1/x")
    (path / "around").symlink_to(f"../{path.name}/r1/x")


def test_links_to_what_was_written_too_are_links_that_can_move(tmp_path: Path) -> None:
    target = LocalFolderTarget("run")
    with target.tmp_write_path() as path:
        _write_links(path, tmp_path / "run")
    for name in ("run", "moved"):
        root = Path(name) if name == "run" else Path("run").rename(name)
        links = [one for one in root.rglob("*") if one.is_symlink()]
        assert len(links) == 4 and not any(os.path.isabs(os.readlink(one)) for one in links)
        assert {one.resolve().relative_to(root.resolve()).parts[0] for one in links} == {"r1"}


def test_links_to_the_outside_become_what_they_lead_to() -> None:
    Path("source/deep").mkdir(parents=True)
    Path("source/deep/y").write_text("y")
    Path("source/deep/tool").write_text("tool")
    Path("source/deep/tool").chmod(0o755)
    target = LocalFolderTarget("run")
    with target.tmp_write_path() as path:
        (path / "tree").symlink_to(Path("source").absolute())
        (path / "file").symlink_to(Path("source/deep/tool").absolute())
        os.link("source/deep/y", path / "hard")
        (path / "one").write_text("both")
        os.link(path / "one", path / "other")
    shutil.rmtree("source")
    assert Path("run/tree/deep/y").read_text() == Path("run/hard").read_text() == "y"
    assert os.access("run/file", os.X_OK) and not any(one.is_symlink() for one in Path("run").rglob("*"))
    assert os.path.samefile("run/one", "run/other")


@pytest.mark.parametrize("leads", ["nowhere", "loop", ".", "..", "/", "the final folder"])
def test_links_that_lead_nowhere_or_have_no_end_are_refused_by_name(leads: str, tmp_path: Path) -> None:
    with pytest.raises(TargetKindError, match="loop"), LocalFolderTarget("run").tmp_write_path() as path:
        (path / "x").write_text("x")
        (path / "loop").symlink_to(tmp_path / "run" / "gone" if leads == "the final folder" else leads)
    assert os.listdir(tmp_path) == []


def test_a_link_written_as_a_folder_becomes_the_folder(tmp_path: Path) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/x").write_text("x")
    target = LocalFolderTarget("d")
    with target.tmp_write_path() as path:
        path.rmdir()
        path.symlink_to(tmp_path / "elsewhere")
    shutil.rmtree("elsewhere")
    assert Path("d/x").read_text() == "x" and not Path("d").is_symlink()
    with pytest.raises(TargetKindError, match="nowhere"), LocalFileTarget("f").tmp_write_path() as path:
        path.symlink_to("nowhere")


def test_an_external_folder_with_a_broken_link_is_refused_by_name_when_it_is_read() -> None:
    Path("raw").mkdir()
    Path("raw/x").symlink_to("nowhere")
    target = LocalFolderTarget("raw", external=True)
    assert target.exists()
    with pytest.raises(TargetKindError, match="raw/x"), target.tmp_read_path():
        pass

"""Commits where files are odd, names are odd, and processes cannot be seen."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi.format
import pytest

from superluigi.errors import CommitError, OptionError, OutputNotWrittenError, RecordError, TargetKindError
from superluigi.storage import owner_token
from superluigi.storage.local import atomic
from superluigi.storage.local.cleanup import clean
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, look, publish

HERE = f"{owner_token.host()}-{owner_token.world()}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


SYSTEM = Path("/proc/version")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_what_is_no_file_of_its_own_is_refused_as_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    rig = LocalFileRig(tmp_path)
    publish(rig, "old")
    with (
        pytest.raises(TargetKindError, match="pipe"),
        rig.target().tmp_write_path() as p,
    ):
        make(p)
    assert look(rig) == ("old", "old") and rig.leftovers() == []


def by_open(target: Any, goes: Callable[[], object]) -> None:
    with target.tmp_write_path() as path:
        goes()
        (path / "x" if target.is_folder else path).write_text("new")


def by_a_library_that_tells_the_path_in_words(target: Any, goes: Callable[[], object]) -> None:
    with target.tmp_write_path() as path:
        goes()
        if not path.parent.exists():
            raise RuntimeError(f"{path}: cannot create")


def by_a_stream(target: Any, goes: Callable[[], object]) -> None:
    if target.is_folder:
        pytest.skip("a folder is no stream")
    with target.open("w") as file:
        goes()
        file.write("new")


def by_a_task(target: Any, goes: Callable[[], object]) -> None:
    class Written(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return target

        def run(self, output_path: Path) -> None:  # type: ignore[override]
            goes()
            (output_path / "x" if target.is_folder else output_path).write_text("new")

    Written().run()  # type: ignore[call-arg]


@pytest.mark.parametrize("write", [by_open, by_a_library_that_tells_the_path_in_words, by_a_stream, by_a_task])
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_folder_that_goes_while_an_output_is_written_in_it_is_named(
    tmp_path: Path, how: str, kind: Any, write: Callable[[Any, Callable[[], object]], None]
) -> None:
    folder, away = tmp_path / "here", tmp_path / "away"

    def goes() -> None:
        folder.rename(away) if how == "moved" else shutil.rmtree(folder)

    by_open(kind(folder / "output"), lambda: None)
    with pytest.raises(OutputNotWrittenError, match="moved or removed"):
        write(kind(folder / "output"), goes)
    assert not folder.exists()
    if how == "moved":
        with kind(away / "output").tmp_read_path() as path:
            assert (path / "x" if path.is_dir() else path).read_text() == "new"


@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_pipes_and_sockets_in_a_folder_are_refused_and_nobody_waits_for_them(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    rig = LocalFolderRig(tmp_path)
    publish(rig, "old")
    with pytest.raises(TargetKindError, match="pipe"), rig.target().tmp_write_path() as path:
        rig.write(path, "new")
        make(path / "sub/odd")
    assert look(rig) == ("old", "old") and rig.leftovers() == []
    make(tmp_path / "output/odd")
    with pytest.raises(TargetKindError, match="pipe"), rig.target().tmp_read_path():
        pass


@pytest.mark.skipif(not SYSTEM.exists(), reason="there is no /proc")
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget])
def test_files_that_say_they_are_empty_and_are_not_come_back_whole(
    tmp_path: Path, s3_server: S3Server, s3_bucket: str, kind: Any
) -> None:
    local = kind in (LocalFileTarget, LocalFolderTarget)
    target = kind(tmp_path / "out") if local else kind(s3_bucket, "out", **s3_server.client_options)
    with target.stage() as staged:
        (staged.path / "x" if target.is_folder else staged.path).symlink_to(SYSTEM)
        record = staged.commit({"text": "x"})
    assert record["output"]["size"] == len(SYSTEM.read_bytes()) > 0 == SYSTEM.stat().st_size
    for path in (LocalFileTarget(SYSTEM), target):
        with path.tmp_read_path() as copy:
            assert (copy / "x" if path.is_folder else copy).read_bytes() == SYSTEM.read_bytes()
    if not local:
        assert not target.download().is_symlink()


def test_a_pipe_at_the_destination_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "output.txt")
    with pytest.raises(TargetKindError, match="pipe"):
        publish(LocalFileRig(tmp_path), "new")
    assert stat.S_ISFIFO(os.stat(tmp_path / "output.txt").st_mode)


def test_names_that_are_no_text_can_be_committed(tmp_path: Path) -> None:
    odd = os.fsdecode(b"n\xff")
    for rig in (
        LocalFileRig(tmp_path),
        LocalFolderRig(tmp_path),
        LocalFolderRig(tmp_path, metadata_inside_folder=True),
    ):
        publish(rig, "one", odd)
        assert look(rig, odd) == ("one", "one")
        rig.target(odd).remove()
    with LocalFolderTarget(tmp_path / "d").stage() as staged:
        (staged.path / odd).write_text("x")
        staged.commit({"text": "x"})
    record = LocalFolderTarget(tmp_path / "d").read_metadata()
    assert record is not None and record["output"]["contents"][0]["path"] == odd


@pytest.mark.parametrize("path", ["/", "..", "a/..", "x\0y", "~nobody-of-this-name/x"])
@pytest.mark.parametrize("kind", [LocalFileTarget, LocalFolderTarget])
def test_a_path_that_names_nothing_is_an_error_of_the_constructor(kind: type, path: str) -> None:
    with pytest.raises(OptionError):
        kind(path)


def test_a_record_inside_a_file_is_an_error_of_the_constructor(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="one file"):
        LocalFileTarget(tmp_path / "f", tmp_path / "f/record.json")


def test_a_format_in_the_place_of_the_records_path_is_an_error_that_says_how(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="format=…"):
        LocalFileTarget(tmp_path / "f", luigi.format.Gzip)  # type: ignore[arg-type]


def test_a_folder_where_the_record_goes_is_found_before_the_work(tmp_path: Path) -> None:
    rig = LocalFileRig(tmp_path)
    (tmp_path / "output.txt.metadata.json").mkdir()
    with pytest.raises(TargetKindError, match="record"), rig.target().tmp_write_path():
        pytest.fail("the work began")
    assert os.listdir(tmp_path) == ["output.txt.metadata.json"]


def test_a_file_in_the_place_of_the_record_inside_is_not_overwritten_silently(tmp_path: Path) -> None:
    rig = LocalFolderRig(tmp_path, metadata_inside_folder=True)
    publish(rig, "old")
    with pytest.raises(RecordError, match=r"\.metadata\.json"), rig.target().stage() as staged:
        rig.write(staged.path, "new")
        (staged.path / ".metadata.json").write_text("the task's own")
        staged.commit({"text": "new"})
    assert look(rig) == ("old", "old") and rig.leftovers() == []


@pytest.mark.parametrize("rig_of", [LocalFileRig, LocalFolderRig])
def test_a_folder_where_a_record_waits_is_named_and_the_old_output_stands(tmp_path: Path, rig_of: Any) -> None:
    rig = rig_of(tmp_path)
    publish(rig, "old")
    pending = Path(f"{rig.target().metadata_path}.pending")
    pending.mkdir()
    with pytest.raises(TargetKindError, match=rf"{pending.name} is a folder.*Remove it"):
        publish(rig, "new")
    pending.rmdir()
    assert look(rig) == ("old", "old") and rig.leftovers() == []


@pytest.mark.parametrize("text", ["", '{"output": {'])
def test_a_part_of_a_waiting_record_stops_nobody(tmp_path: Path, text: str) -> None:
    rig = LocalFileRig(tmp_path)
    publish(rig, "old")
    pending = tmp_path / "output.txt.metadata.json.pending"
    pending.write_text(text)
    assert look(rig) == ("old", "old")
    publish(rig, "new")
    assert look(rig) == ("new", "new") and rig.leftovers() == []


def test_an_older_file_of_the_same_size_moved_into_a_sub_folder_is_a_strangers(tmp_path: Path) -> None:
    rig = LocalFolderRig(tmp_path)
    publish(rig, "old")
    (tmp_path / "b").write_text("xyz")
    os.utime(tmp_path / "b", (1, 1))
    os.replace(tmp_path / "b", tmp_path / "output/sub/b.txt")
    assert rig.target().read_metadata() is None


# ---- where names cannot be exchanged


def publish_without_exchange(rig: LocalFolderRig, text: str, name: str = "output") -> None:
    atomic._exchange_function = lambda: None  # type: ignore[assignment]
    publish(rig, text, name)


@pytest.mark.parametrize("next_one", ["a commit beside it", "clean"])
def test_a_reader_after_a_death_between_two_renames_leaves_what_its_recovery_needs(
    tmp_path: Path, next_one: str
) -> None:
    rig = LocalFolderRig(tmp_path)
    n, ended = 0, None
    while ended != 0:
        n += 1
        rig.target().remove()
        publish(rig, "old")
        ended = fault_injection.stopped_in_child(n, "death", publish_without_exchange, rig, "new")
        if next_one == "clean":
            clean(tmp_path)
            assert rig.leftovers() == [], f"died at step {n}"
        else:
            publish(rig, "x", "beside")
        assert look(rig) in (("old", "old"), ("new", "new")), f"died at step {n}"
    assert n > 10


@pytest.mark.parametrize("text", ["", '{"final'])
def test_a_part_of_a_swaps_journal_stops_nobody(tmp_path: Path, text: str) -> None:
    rig = LocalFolderRig(tmp_path)
    publish(rig, "old")
    (tmp_path / ".superluigi.swap.output").write_text(text)
    assert look(rig) == ("old", "old")
    publish(rig, "new")
    assert look(rig) == ("new", "new") and rig.leftovers() == []


def test_long_names_can_be_swapped_by_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange_function", lambda: None)
    rig, name = LocalFolderRig(tmp_path), "n" * 233
    publish(rig, "old", name)
    publish(rig, "new", name)
    assert look(rig, name) == ("new", "new") and rig.leftovers() == []


def test_removing_stopped_half_way_leaves_no_data_without_its_record(tmp_path: Path) -> None:
    for rig in (LocalFileRig(tmp_path), LocalFolderRig(tmp_path)):
        n = 0
        while True:
            n += 1
            publish(rig, "old")
            ended = fault_injection.stopped_in_child(n, "death", remove, rig)
            assert look(rig) in (("old", "old"), (None, None)), f"died at step {n}"
            if ended == 0:
                break
        assert n > 1


def remove(rig: LocalFileRig) -> None:
    rig.target().remove()


# ---- what others run


@needs_root
def test_a_place_that_is_mounted_read_only_is_called_so(tmp_path: Path) -> None:
    rig = LocalFileRig(tmp_path)
    publish(rig, "old")
    if subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)
        assert look(rig) == ("old", "old")
        with pytest.raises(CommitError, match=r"read-only: .* choose another place"):
            publish(rig, "new")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


IS_DEAD = """
import os, sys
from superluigi.storage import owner_token
os.setuid(int(sys.argv[2]))
print(owner_token.owner_is_gone(sys.argv[1]))
"""


def seen_from(*world: str, token: str, user: int = 0) -> str:
    """What `owner_token.owner_is_gone` says in another world."""
    command = [*world, sys.executable, "-c", IS_DEAD, token, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"this machine does not let us: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_root
def test_a_living_process_of_another_pid_namespace_is_not_taken_for_dead() -> None:
    assert seen_from("unshare", "--pid", "--fork", "--mount-proc", token=owner_token.token()) == "False"


@needs_root
def test_a_living_process_that_proc_hides_is_not_taken_for_dead() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as living:
        token = f"{HERE}-{living.pid}-{owner_token.start_time(living.pid)}-0123456789ab"
        hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        assert seen_from("unshare", "--mount", "sh", "-c", hidden, "sh", token=token, user=65534) == "False"
    assert owner_token.owner_is_gone(token)


def test_a_pid_that_was_given_to_another_process_is_dead() -> None:
    assert owner_token.owner_is_gone(f"{HERE}-{os.getppid()}-1-0123456789ab")


def test_an_error_without_a_text_leaves_no_stage_behind(tmp_path: Path) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(MuteError), LocalFileTarget(tmp_path / "x.txt").tmp_write_path() as path:
        path.write_text("half")
        raise MuteError
    assert os.listdir(tmp_path) == []

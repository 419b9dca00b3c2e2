"""Folders are made where they are needed, again if they vanish, and never taken away under others who use them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi.errors import CommitError, StorageAccessError
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.testing import fault_injection

KINDS = {"file": LocalFileTarget, "folder": LocalFolderTarget}


def commit(kind: str, path: Path, metadata_path: Path | None = None) -> None:
    with KINDS[kind](path, metadata_path).stage() as staged:
        (staged.path / "x" if staged.path.is_dir() else staged.path).write_text("x")
        staged.commit({"text": "x"})


def at_once(works: list[Callable[[], None]]) -> list[BaseException]:
    """Do all of it in threads that begin together; what they raised."""
    barrier, errors = threading.Barrier(len(works)), []

    def begin(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("records", ["beside", "elsewhere"])
def test_several_threads_make_the_first_outputs_of_a_new_folder(
    tmp_path: Path, kind: str, records: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    for n in range(40):
        root = tmp_path / str(n)

        def work(name: str, root: Path = root) -> None:
            elsewhere = root / "records/of" / f"{name}.json" if records == "elsewhere" else None
            commit(kind, root / "a/b" / name, elsewhere)

        assert at_once([lambda name=name: work(name) for name in "pqrs"]) == []  # type: ignore[misc]
        assert all((root / "a/b" / name).exists() for name in "pqrs")


IN_PROCESS = """
import sys, time
from pathlib import Path
from superluigi.targets import LocalFileTarget
print("ready", flush=True)
for n in sys.stdin:
    with LocalFileTarget(Path(sys.argv[1], n.strip(), "a", sys.argv[2])).tmp_write_path() as path:
        path.write_text("x")
    print("done", flush=True)
"""


def test_several_processes_make_the_first_outputs_of_a_new_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "SUPERLUIGI_DURABLE": "false"}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", IN_PROCESS, tmp_path, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for name in "pqr"
    ]  # fmt: skip
    try:
        assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 3
        for n in range(50):
            for writer in writers:
                assert writer.stdin
                writer.stdin.write(f"{n}\n")
                writer.stdin.flush()
            assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["done\n"] * 3
    finally:
        for writer in writers:
            writer.communicate()


def test_a_folder_that_vanishes_again_and_again_is_made_again(tmp_path: Path) -> None:
    stop = threading.Event()

    def remover() -> None:
        while not stop.is_set():
            for name in ("f/a", "f", "r"):
                try:
                    os.rmdir(tmp_path / name)
                except OSError:
                    continue

    thread = threading.Thread(target=remover)
    thread.start()
    try:
        for n in range(100):
            commit("file", tmp_path / "f/a/x", tmp_path / "r/x.json")
            assert (tmp_path / "f/a/x").read_text() == "x", n
            shutil.rmtree(tmp_path / "f", ignore_errors=True)
            (tmp_path / "r/x.json").unlink()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_that_fails_leaves_the_folder_to_those_who_use_it(tmp_path: Path, kind: str) -> None:
    new = tmp_path / "new/sub"
    failing = KINDS[kind](new / "fails").stage()  # makes the folder
    other = KINDS[kind](new / "succeeds").stage()
    new.mkdir(parents=True, exist_ok=True)  # a program that writes there without us
    failing.discard()
    (new / "by-hand").write_text("x")
    (other.path / "x" if other.path.is_dir() else other.path).write_text("x")
    other.commit(None)
    record = ["succeeds.metadata.json"] if kind == "folder" else []  # a folder exists by its record
    assert sorted(os.listdir(new)) == ["by-hand", "succeeds", *record]


def test_a_folder_that_a_failed_writer_made_is_left_to_what_may_be_using_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), LocalFileTarget(tmp_path / "new/x").tmp_write_path():
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "new") == []


def refused(path: Path) -> tuple[str, str]:
    """What a user without rights is told."""
    os.setuid(65534)
    try:
        with LocalFileTarget(path).tmp_write_path():
            pass
    except (StorageAccessError, CommitError) as error:
        return type(error).__name__, str(error)
    return "", ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("name", ["x.txt", "new/deeper/x.txt"])
def test_a_folder_that_may_not_be_written_is_named(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.chmod(root, 0o755)
        (Path(root) / "mine").mkdir(mode=0o755)
        kind, message = fault_injection.in_child(refused, Path(root, "mine", name))
    assert kind == "StorageAccessError"
    assert f"owner and mode of {root}/mine and" in message


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CommitError, match="is a file, not a folder"):
        commit("file", tmp_path / "file/x")
    with pytest.raises(CommitError, match="is a file, not a folder"):
        commit("file", tmp_path / "file/deeper/x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommitError, match="No such file"):
        commit("file", tmp_path / "link/x")


SIBLINGS = """
import time, luigi
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

def until(name):
    while not Path(name).exists():
        time.sleep(0.01)

class Part(AtomicTaskWithMetadata):
    n: Param[int]
    def output(self):
        return LocalFileTarget(f"fresh/{self.n}.txt")
    def run(self, output_path):
        if self.n == 0:  # made the folder, perhaps
            until("begun-1")
            raise ValueError("a bug in one of them")
        Path("begun-1").touch()
        until("failed")
        output_path.write_text("hours of work")

@Part.event_handler(luigi.Event.FAILURE)
def tell(task, error):
    Path("failed").touch()

class All(luigi.WrapperTask):
    def requires(self):
        return [Part(n=0), Part(n=1)]

if __name__ == "__main__":
    try:
        run_task(All(), num_workers=2)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_siblings_of_a_task_that_fails_keep_the_folder_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "siblings.py").write_text(SIBLINGS)
    done = subprocess.run(
        [sys.executable, "siblings.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (tmp_path / "fresh/1.txt").exists(), done.stdout + done.stderr
    assert "a bug in one of them" in done.stdout

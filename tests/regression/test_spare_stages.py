"""Stages are used again for the same folder, out of sight, and gone when the process ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from superluigi.storage.local.stages import spare_stages
from superluigi.targets import LocalFileTarget


def commit(path: Path) -> int:
    """Write a file; the inode of its stage."""
    with LocalFileTarget(path).tmp_write_path() as staged:
        staged.write_text("x")
        return os.stat(staged.parent).st_ino


@pytest.fixture(autouse=True)
def same_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_from_the_second_commit_into_a_folder_on_its_stage_serves_again(tmp_path: Path) -> None:
    stages = [commit(tmp_path / f"a/{n}") for n in range(5)]
    assert len(set(stages[1:])) == 1
    assert commit(tmp_path / "b/1") not in stages, "another folder may have another group and other rights"
    assert not [name for name in os.listdir(tmp_path / "a") if name.startswith(".")]
    spare_stages.remove()


def test_a_stage_that_is_not_empty_is_not_kept(tmp_path: Path) -> None:
    for n in range(4):
        with LocalFileTarget(tmp_path / f"a/{n}").stage() as staged:
            staged.path.write_text("x")
            staged.prepare()
            (staged.path.parent / "late").write_text("after the check")
            staged.commit(None)
    assert sorted(os.listdir(tmp_path / "a")) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("gone", ["data", "a"])
def test_what_others_remove_meanwhile_is_made_again(tmp_path: Path, gone: str) -> None:
    import shutil

    for _ in range(3):
        for n in range(3):
            commit(tmp_path / f"a/{n}")
        shutil.rmtree(tmp_path / gone)
    commit(tmp_path / "a/last")
    assert (tmp_path / "a/last").exists()


PROCESS = """
import os, sys
from superluigi.targets import LocalFileTarget
for n in range(4):
    with LocalFileTarget(f"{sys.argv[1]}/a/{n}").tmp_write_path() as path:
        path.write_text("x")
if sys.argv[2] == "dies":
    os._exit(0)
"""


def test_nothing_is_left_when_the_process_ends_and_what_one_that_died_left_is_removed(
    tmp_path: Path, same_file_system: Path
) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    subprocess.run([*command, "ends"], check=True)
    assert not list(same_file_system.rglob("*"))
    subprocess.run([*command, "dies"], check=True)
    assert len(list((same_file_system / ".superluigi/spare").iterdir())) == 1
    subprocess.run([*command, "ends"], check=True)
    assert not list(same_file_system.rglob("*"))


@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_workers_leave_nothing_either(tmp_path: Path, same_file_system: Path, executor: str) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import luigi, sys\n"
        "from superluigi import run_task\nfrom superluigi.parameters import Param\n"
        "from superluigi.targets import LocalFileTarget\nfrom superluigi.tasks import AtomicTaskWithMetadata\n"
        "class Part(AtomicTaskWithMetadata):\n    n: Param[int]\n"
        "    def output(self): return LocalFileTarget(f'out/{self.n}')\n"
        "    def run(self, output_path): output_path.write_text('x')\n"
        "class All(luigi.WrapperTask):\n    def requires(self): return [Part(n=n) for n in range(6)]\n"
        "if __name__ == '__main__': run_task(All(), num_workers=2, executor=sys.argv[1], raise_exception=True)\n"
    )
    subprocess.run([sys.executable, "pipeline.py", executor], cwd=tmp_path, check=True, capture_output=True)
    assert len(os.listdir(tmp_path / "out")) == 12
    assert not list(same_file_system.rglob("*"))


def test_threads_that_put_their_first_stages_away_at_once_have_one_place_for_them(
    tmp_path: Path, same_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path / "a/0")  # from the second on they are kept
    made, both, moved = Path.mkdir, threading.Barrier(2), list[str]()

    def mkdir(path: Path, *args: Any, **options: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            try:
                made(path, *args, **options)
            finally:
                if path.parent.name == "spare":
                    both.wait(0.5)

    def rename(old: str, new: str) -> None:
        moved.append(new)
        assert new.startswith(str(tmp_path)), new
        os.replace(old, new)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(spare_stages, "os", SimpleNamespace(**{**vars(os), "rename": rename}))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(commit, [tmp_path / "a/1", tmp_path / "a/2"]))
    away = [place for place in moved if Path(place).parent.parent.name == "spare"]  # a later one may be taken again
    assert len({os.path.dirname(place) for place in away}) == 1
    spare_stages.remove()
    assert not list(same_file_system.rglob("*"))

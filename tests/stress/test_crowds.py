"""Crowds at one store: runs in threads and processes, workers of one queue, readers of one cache, new folders."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from superluigi.queue import Pool, Queue
from superluigi.storage.cache.cache import Cache
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, look

pytestmark = [pytest.mark.long, pytest.mark.stress, pytest.mark.timeout(900)]

PIPELINE = """
import sys, threading, time
from pathlib import Path
from superluigi import run_task
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata

class Part(AtomicTaskWithMetadata):
    n: Param[int]
    def output(self):
        return LocalFileTarget(f"store/parts/{self.n}/part.txt")
    def run(self, output_path):
        output_path.write_text(str(self.n) * 1000)
        with open("ran", "a") as file:
            file.write(f"{self.n}\\n")

class Whole(AtomicTaskWithMetadata):
    parts: Param[int] = 4
    def requires(self):
        return [Part(n=n) for n in range(self.parts)]
    def output(self):
        return LocalFolderTarget("store/whole/of/all")
    def run(self, output_path):
        for part in self.input():
            (output_path / part.path.parent.name).write_text(part.path.read_text())

def crowd(threads):
    errors = []
    def run():
        try:
            run_task(Whole())
        except BaseException as error:
            errors.append(f"{type(error).__name__}: {error}")
    runs = [threading.Thread(target=run) for _ in range(threads)]
    for one in runs: one.start()
    for one in runs: one.join()
    assert not errors, errors
    assert Whole().complete() and all(part.complete() for part in Whole().requires())

if __name__ == "__main__":
    crowd(int(sys.argv[1]))
"""


def _check_store(place: Path) -> None:
    store = place / "store"
    assert sorted(path.name for path in (store / "whole/of/all").iterdir()) == ["0", "1", "2", "3"]
    for n in range(4):
        assert (store / "whole/of/all" / str(n)).read_text() == str(n) * 1000
        assert (store / "parts" / str(n) / "part.txt").read_text() == str(n) * 1000
    left = [path for path in store.rglob("*") if path.name.startswith(".superluigi") or path.suffix == ".pending"]
    assert not left


@pytest.mark.parametrize("processes, threads", [(1, 2), (1, 16), (2, 1), (4, 2), (8, 1), (4, 4)])
def test_runs_of_one_pipeline_at_the_same_time_all_succeed(tmp_path: Path, processes: int, threads: int) -> None:
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(PIPELINE))
    runs = [
        subprocess.Popen(
            [sys.executable, "pipeline.py", str(threads)], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(processes)
    ]  # fmt: skip
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * processes, "\n".join(told)[-4000:]
    _check_store(tmp_path)


def test_eight_workers_of_one_queue_run_each_task_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crowd_tasks.py").write_text(textwrap.dedent(PIPELINE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import crowd_tasks  # type: ignore[import-not-found]

    with Queue(str(tmp_path / "q.sqlite"), pools={"default": Pool(8)}) as queue:
        queue.submit(crowd_tasks.Whole(parts=60))
        queue.spawn(workers=8)
        assert {row.state for row in queue.tasks()} == {"SUCCEEDED"}
    assert Counter((tmp_path / "ran").read_text().split()) == {str(n): 1 for n in range(60)}


def test_readers_of_one_cache_get_what_they_asked_for(tmp_path: Path) -> None:
    wrong: list[str] = []

    def fetch(tag: str, path: Path, _: object) -> dict[str, dict[str, str]]:
        path.write_text(tag * 10_000)
        return {"": {"etag": tag}}

    def read(number: int) -> None:
        for turn in range(40):
            tag, key = f"v{(number + turn) % 3}", f"key{turn % 2}"
            entry = Cache(tmp_path, 30_000, 0).entry("", "b", key)
            try:
                with entry.open(tag, partial(fetch, tag), size=20_000, shared=turn % 2 == 0) as path:
                    if path.read_text() != tag * 10_000:
                        wrong.append(f"{number} wanted {tag}")
            except Exception as error:  # noqa: BLE001
                wrong.append(f"{number}: {type(error).__name__}: {error}")

    readers = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not wrong


FIRST = """
import sys
from pathlib import Path
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, publish
kind = {"file": LocalFileRig, "folder": LocalFolderRig}[sys.argv[1]]
print("ready", flush=True)
sys.stdin.readline()
for n in range(10):
    rig = kind(Path(f"new-{n}/deep/er"))
    publish(rig, f"by{sys.argv[2]}", f"own-{sys.argv[2]}")
    publish(rig, f"by{sys.argv[2]}", "shared")
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_first_outputs_of_new_folders_are_all_there(tmp_path: Path, kind: str) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST, kind, str(n)], cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for n in range(8)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    told = [writer.communicate("go\n")[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8, "\n".join(told)[-4000:]
    for n in range(10):
        rig = {"file": LocalFileRig, "folder": LocalFolderRig}[kind](tmp_path / f"new-{n}/deep/er")
        for by in range(8):
            assert look(rig, f"own-{by}") == (f"by{by}", f"by{by}")
        text, record = look(rig, "shared")
        assert text == record and text in [f"by{by}" for by in range(8)]
        assert rig.leftovers() == []

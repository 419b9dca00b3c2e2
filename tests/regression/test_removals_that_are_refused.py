"""What cannot be removed keeps nothing else from being removed, and is named; a missing place to stand on is advice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from superluigi import config, run_task
from superluigi.cli import main as command
from superluigi.errors import CommitError, ConfigError
from superluigi.parameters import Param
from superluigi.storage import owner_token
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata

DEAD = f".superluigi-{owner_token.host()}-{owner_token.world()}-4194999-1-0123456789ab"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Make the folder `closed` read-only, also for root."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "closed"
    folder.mkdir()
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")

    def close() -> None:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)

    try:
        yield close
    finally:
        subprocess.run(["umount", folder], check=True)


def said(*words: str) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        return command(words), out.getvalue()


def orphan(folder: Path, suffix: str) -> Path:
    """What a dead process left in `folder`."""
    left = folder / f"{DEAD}{suffix}"
    left.mkdir(parents=True)
    (left / "x").touch()
    return left


def test_clean_removes_what_it_can_and_says_why_the_rest_stays(tmp_path: Path, closed: Callable[[], None]) -> None:
    removed = [orphan(tmp_path / name, suffix) for name, suffix in (("a", ".old"), ("b", ""), ("z", ".new"))]
    stays = [orphan(tmp_path / "closed", suffix) for suffix in ("", ".new")]
    closed()

    code, told = said("clean", str(tmp_path), "--dry-run")
    assert code == 0 and told.count("would remove") == 5

    code, told = said("clean", str(tmp_path))
    assert code == 1
    lines = told.splitlines()
    assert {line.split()[-3] for line in lines if line.startswith("removed ")} == set(map(str, removed))
    kept = [line for line in lines if line.startswith("kept ")]
    assert len(kept) == 2 and all(any(f"{path} " in line for line in kept) for path in stays)
    assert all("Read-only file system" in line for line in kept)
    assert not any(path.exists() for path in removed) and all((path / "x").exists() for path in stays)

    code, told = said("clean", str(tmp_path), "--json")
    assert code == 1 and [Path(one["path"]) for one in json.loads(told) if "Read-only" in one["kept"]] == sorted(stays)


class Kept(AtomicTaskWithMetadata):
    root: Param[str]
    where: Param[str]
    folder: Param[bool] = False

    def output(self) -> Any:
        target = LocalFolderTarget if self.folder else LocalFileTarget
        return [target(f"{self.root}/{name}/{self.where}") for name in ("first", "closed", "last")]

    def run(self, output_path: list[Path]) -> None:
        for path in output_path:
            (path / "x" if self.folder else path).write_text("x")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("how", ["clear", "clear_all", "rm"])
def test_outputs_after_one_that_cannot_be_removed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: Callable[[], None], folder: bool, how: str
) -> None:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    task = Kept(root=str(tmp_path), where="out", folder=folder)
    run_task(task)
    closed()

    if how == "rm":
        words = (__file__, "Kept", "--root", task.root, "--where", "out", *(["--folder"] if folder else []))
        code, told = said("rm", *words, "--yes")
        assert code == 1 and told.count("\nremoved ") == 2
    else:
        with pytest.raises(CommitError) as caught:
            getattr(task, how)()
        told = str(caught.value)
    assert f"Cannot remove {tmp_path}/closed/out" in told and "mounted writable" in told
    assert [target.exists() for target in task.output()] == [False, True, False]
    assert task.output()[1].read_metadata() is not None


def test_a_command_in_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from superluigi.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    with LocalFileTarget(tmp_path / "out").tmp_write_path() as path:
        path.write_text("x")
    LocalFileTarget(tmp_path / "out").write_metadata({"a": 1})
    for words in (["verify", str(tmp_path / "out")], ["run", __file__, "Kept"], ["clean", "here"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr, (words, done.stderr)
        assert "removed" in done.stderr or "nothing at here" in done.stderr, (words, done.stderr)


def test_where_there_is_no_home_the_setting_and_a_way_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("SUPERLUIGI_WORKSPACE", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    with pytest.raises(ConfigError, match=r"workspace = .* no home folder; set HOME"):
        config.lookup("workspace")

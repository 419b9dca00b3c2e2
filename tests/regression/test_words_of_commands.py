"""What is written after a command: places where a task is meant, modules of many kinds, homes that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi import cli, config
from superluigi.errors import ConfigError, OptionError
from superluigi.storage import owner_token
from superluigi.targets import LocalFileTarget, S3ObjectTarget

TASK = """
import luigi

class OddlyKept(luigi.Task):
    def output(self):
        return luigi.LocalTarget("made")
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # which a command adds to
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("name", ["json.py", "luigi.py", "sys.py", "it.em.py"])
def test_a_file_whose_name_means_another_module_is_not_taken_for_that(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / name).write_text(TASK)
    assert cli.main(["why", f"jobs/{name}", "OddlyKept"]) == 1
    assert f"jobs/{name} cannot be imported" in (told := capsys.readouterr().err)
    assert "Rename" in told


@pytest.mark.parametrize("name", ["a file.py", "class.py", "ünï.py"])
def test_a_file_of_any_other_name_is_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(TASK)
    os.symlink(name, tmp_path / "linked_to_it.py")
    for file in (name, "./linked_to_it.py"):
        monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
        assert cli.main(["status", file, "OddlyKept"]) == 0
    assert "OddlyKept()" in capsys.readouterr().out


RAISED = ["GeneratorExit", "type('Odd', (BaseException,), {'__str__': lambda self: 1 / 0})", "ZeroDivisionError('a')"]


@pytest.mark.parametrize("raised", RAISED)
def test_whatever_a_module_raises_is_told_with_its_place(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raising_at_import.py").write_text(f"\nraise {raised}\n")
    assert cli.main(["why", "raising_at_import", "Any"]) == 1
    told = capsys.readouterr().err
    assert "Importing 'raising_at_import' failed" in told and "raising_at_import.py, line 2)" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("word", ["made", "./made", ".", "s3://bucket/key"])
def test_a_place_where_a_task_is_meant_is_answered_with_what_takes_places(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    assert cli.main(["ls", word]) == 1
    assert "ls --in" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-", "-1"])
def test_a_word_that_ls_cannot_use_is_not_dropped(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ls", word]) == 2
    assert word in capsys.readouterr().err


HOMES: list[Callable[[str], object]] = [
    LocalFileTarget,
    lambda path: LocalFileTarget("data", metadata_path=path),
    lambda path: S3ObjectTarget("bucket", "key", local_root=path, endpoint_url="http://127.0.0.1:9").local_path,
    config.read_file,
]


@pytest.mark.parametrize("use", HOMES)
def test_the_home_of_nobody_is_refused_with_advice(use: Callable[[str], object]) -> None:
    with pytest.raises(OptionError, match=r"no user 'nobody-of-here' has a home here; write \./~"):
        use("~nobody-of-here/place")


def test_the_home_of_nobody_is_refused_by_settings_and_commands_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", "~nobody-of-here")
    with pytest.raises(ConfigError, match="no user 'nobody-of-here'"):
        config.get("workspace")
    for words in (["clean", "~nobody-of-here/place"], ["queue", "status", "--queue", "~nobody-of-here/a.sqlite"]):
        assert cli.main(words) in (1, 2)
        assert "Traceback" not in capsys.readouterr().err


def test_what_clean_has_removed_is_told_though_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = "from superluigi.storage.owner_token import token; print(token())"
    for name in "abc":
        token = subprocess.run([sys.executable, "-c", tell], check=True, capture_output=True, text=True).stdout.strip()
        assert owner_token.is_token(token)
        (tmp_path / name / f".superluigi-{token}").mkdir(parents=True)
    removed: list[object] = []

    def only_once(path: object, *_: object) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)

    monkeypatch.setattr("superluigi.storage.local.copy.remove_tree", only_once)
    assert cli.main(["clean", "."]) == 130
    assert f"removed unfinished output {removed[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "wanted", "other"),
    [
        (["run", "kept_oddly", "OddlyKept", "--"], "--workers", "OddlyKept"),
        (["queue", "list", "--"], "--json", "list"),
        (["verify", "--", "--"], "--json", "verify"),
        (["cache", ""], "prune", "--json"),
        (["run", ""], "kept_oddly", "it.em"),
        ([], "run", "--json"),
        ([""], "run", "--json"),
    ],
)
def test_what_may_follow_is_told_for_the_last_word_though_it_is_two_dashes(
    words: list[str], wanted: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("kept_oddly", "it.em"):
        (tmp_path / f"{name}.py").write_text(TASK)
    assert cli.main(["completion", "words", "--", *words]) == 0
    told = capsys.readouterr().out.splitlines()
    assert wanted in told and other not in told

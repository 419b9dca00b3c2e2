"""`superluigi config` and `superluigi completion`: what is in force, and what may come next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from superluigi.config import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


def superluigi(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("SUPERLUIGI_", "COLUMNS"))}
    return subprocess.run(
        [sys.executable, "-m", "superluigi", *words],
        cwd=folder, env={**settings, "HOME": str(folder), **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_config_lists_every_setting_with_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text("[superluigi]\nkeep_attempts = 3\nstore = s3://b/p\n")
    done = superluigi(tmp_path, "config", "--json", "--config", "my.cfg", SUPERLUIGI_STORE="elsewhere")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(SETTINGS)
    assert (rows["store"]["value"], rows["store"]["from"]) == ("elsewhere", "environment SUPERLUIGI_STORE")
    assert rows["keep_attempts"]["value"] == 3 and "config" in rows["keep_attempts"]["from"]
    assert rows["durable"]["value"] is True and rows["durable"]["from"] == "default"
    table = superluigi(tmp_path, "config")
    assert table.returncode == 0
    for setting in SETTINGS.values():
        assert setting.name in table.stdout and setting.help in table.stdout
    assert "\x1b" not in table.stdout


def test_the_file_in_the_current_folder_is_read_as_run_task_reads_it(tmp_path: Path) -> None:
    (tmp_path / "superluigi.cfg").write_text("[superluigi]\nkeep_attempts = 4\n")
    done = superluigi(tmp_path, "config", "--json", "keep_attempts")
    assert json.loads(done.stdout)[0]["value"] == 4


@pytest.mark.parametrize(
    ("words", "file", "environment", "reply"),
    [
        (("config", "stor"), "", {}, "Did you mean 'store'?"),
        (("config",), "[superluigi]\nstroe = x\n", {}, "Did you mean 'store'?"),
        (("config",), "", {"SUPERLUIGI_STROE": "x"}, "Did you mean 'SUPERLUIGI_STORE'?"),
        (("config",), "[superluigi]\ncache_limit_bytes = lots\n", {}, "cache_limit_bytes = 'lots'"),
        (("config", "--config", "none.cfg"), "", {}, "none.cfg"),
    ],
)
def test_an_unknown_or_unreadable_setting_is_an_error_with_a_suggestion(
    words: tuple[str, ...], file: str, environment: dict[str, str], reply: str, tmp_path: Path
) -> None:
    (tmp_path / "superluigi.cfg").write_text(file)
    done = superluigi(tmp_path, *words, **environment)
    assert done.returncode == 1
    assert reply in done.stderr and "Traceback" not in done.stderr


def test_the_docs_table_has_every_setting_its_variable_default_and_meaning() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [
        f"| `{setting.name}` | `{setting.variable}` | `{setting.default}` | {setting.help} |"
        for setting in SETTINGS.values()
    ]
    missing = [row for row in rows if row not in page]
    assert missing == [], "these rows are not in docs/settings.md"
    assert page.count("| `SUPERLUIGI_") == len(rows), "docs/settings.md has rows for settings that are gone"


def completions(folder: Path, *words: str) -> list[str]:
    done = superluigi(folder, "completion", "words", "--", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_shell_completes_commands_modules_tasks_options_parameters_and_choices(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import luigi\nprint('noise')\nclass Train(luigi.Task):\n    epochs = luigi.IntParameter()\n"
        "class Tune(luigi.Task):\n    pass\n"
    )
    assert "run" in completions(tmp_path, "ru")
    assert completions(tmp_path, "run", "pip") in (["pipeline"], [])
    assert completions(tmp_path, "run", "") == ["pipeline"]
    assert completions(tmp_path, "run", "pipeline", "T") == ["Train", "Tune"]
    assert completions(tmp_path, "run", "pipeline", "Train", "--ep") == ["--epochs"]
    assert "--force-upstream" in completions(tmp_path, "run", "pipeline", "Train", "--fo")
    assert completions(tmp_path, "run", "pipeline", "Train", "--refresh", "") == ["all", "code", "inputs"]
    assert completions(tmp_path, "run", "nowhere", "T") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_with_the_printed_script(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: apt-get install {shell}")
    (tmp_path / "superluigi").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m superluigi "$@"\n')
    (tmp_path / "superluigi").chmod(0o755)
    script = {
        "zsh": (
            "compdef() { }\n_files() { print FILES }\ncompadd() { print -l -- ${(P)2} }\n"
            'eval "$(superluigi completion zsh)"\nwords=(superluigi run --force-up); CURRENT=3; _superluigi\n'
        ),
        "fish": 'superluigi completion fish | source; complete -C "superluigi run --force-up"\n',
    }[shell]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    plain = {"zsh": "-f", "fish": "-N"}[shell]
    done = subprocess.run(
        [shell, plain, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.stdout.split() == ["--force-upstream", "--force-upstream-to"], done.stderr


def test_bash_completes_with_the_printed_script(tmp_path: Path) -> None:
    script = (
        f'superluigi() {{ "{sys.executable}" -m superluigi "$@"; }}\n'
        'eval "$(superluigi completion bash)"\n'
        "COMP_WORDS=(superluigi run --force-up); COMP_CWORD=2; _superluigi; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.split() == ["--force-upstream", "--force-upstream-to"], done.stderr


@pytest.mark.parametrize("parser", ["cfg", "toml"])
def test_a_file_of_luigis_that_cannot_be_read_is_said_without_a_traceback(tmp_path: Path, parser: str) -> None:
    (tmp_path / f"luigi.{parser}").write_text("no section\n")
    done = superluigi(
        tmp_path, "config", LUIGI_CONFIG_PARSER=parser, LUIGI_CONFIG_PATH=str(tmp_path / f"luigi.{parser}")
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("ConfigError: Luigi's configuration cannot be read (")

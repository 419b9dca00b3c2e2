"""What Luigi's configuration says of logging is obeyed, whoever runs the tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINES = ["mypipe INFO hello from the task", "luigi-interface INFO hello from the interface"]

PIPELINE = """
import logging
import luigi
from superluigi.tasks import AtomicTaskWithMetadata

class Plain(luigi.Task):
    def output(self):
        return luigi.LocalTarget("plain.txt")

    def run(self):
        logging.getLogger("mypipe").info("hello from the task")
        logging.getLogger("luigi-interface").info("hello from the interface")
        with self.output().open("w") as file:
            file.write("x")

class Ours(AtomicTaskWithMetadata):
    def run(self) -> int:
        logging.getLogger("mypipe").info("hello from the task")
        logging.getLogger("luigi-interface").info("hello from the interface")
        return 1
"""

INI = """
[loggers]
keys=root
[handlers]
keys=f
[formatters]
keys=s
[logger_root]
level=INFO
handlers=f
[handler_f]
class=FileHandler
level=INFO
formatter=s
args=("pipe.log", "a")
[formatter_s]
format=%(name)s %(levelname)s %(message)s
"""

TOML = """
[logging]
version = 1
disable_existing_loggers = false
[logging.formatters.s]
format = "%(name)s %(levelname)s %(message)s"
[logging.handlers.f]
class = "logging.FileHandler"
filename = "pipe.log"
formatter = "s"
[logging.root]
level = "INFO"
handlers = ["f"]
"""

RUN = "import pipeline, luigi; from superluigi import run_task; "
CALLS = {
    "one worker": RUN + "run_task(pipeline.{task}())",
    "threads": RUN + "run_task(pipeline.{task}(), num_workers=2, executor='threads')",
    "processes": RUN + "run_task(pipeline.{task}(), num_workers=2)",
    "Luigi's build": RUN + "assert luigi.build([pipeline.{task}()], local_scheduler=True)",
    "queue": RUN + "run_task(pipeline.{task}(), queue='q')",
}


def call(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "pipeline.py").write_text(PIPELINE)
    command = [sys.executable, *(arguments or ("-c", code))]
    full = {**os.environ, "PYTHONPATH": str(folder), "SUPERLUIGI_STORE": str(folder / "store"), **environment}
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True)


def logged(folder: Path) -> list[str]:
    path = folder / "pipe.log"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("how", "task"),
    [
        ("one worker", "Plain"),
        ("one worker", "Ours"),
        ("threads", "Ours"),
        ("processes", "Plain"),
        ("Luigi's build", "Ours"),
        ("queue", "Plain"),
    ],
)
def test_the_file_that_the_configuration_names_is_obeyed(how: str, task: str, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[core]\nlogging_conf_file = logging.ini\n")
    (tmp_path / "logging.ini").write_text(INI)
    done = call(tmp_path, CALLS[how].format(task=task))
    assert done.returncode == 0, done.stderr
    assert [logged(tmp_path).count(line) for line in LINES] == [1, 1], logged(tmp_path)


def test_so_it_is_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[core]\nlogging_conf_file = logging.ini\n")
    (tmp_path / "logging.ini").write_text(INI)
    done = call(tmp_path, "", "-m", "superluigi", "run", "pipeline", "Ours")
    assert done.returncode == 0, done.stderr
    assert [logged(tmp_path).count(line) for line in LINES] == [1, 1]


def test_so_it_is_of_a_table_in_toml(tmp_path: Path) -> None:
    pytest.importorskip("toml", reason="Luigi reads TOML by a package of this name")
    (tmp_path / "luigi.toml").write_text(TOML)
    done = call(tmp_path, CALLS["processes"].format(task="Ours"), LUIGI_CONFIG_PARSER="toml")
    assert done.returncode == 0, done.stderr
    assert [logged(tmp_path).count(line) for line in LINES] == [1, 1]


def test_two_runs_of_a_process_write_each_line_once_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[core]\nlogging_conf_file = logging.ini\n")
    (tmp_path / "logging.ini").write_text(INI)
    code = (
        "import pipeline, luigi, logging\nfrom superluigi import run_task\n"
        "class Fails(luigi.Task):\n"
        "    def output(self): return luigi.LocalTarget('never')\n"
        "    def run(self):\n"
        "        logging.getLogger('mypipe').info('nearly')\n"
        "        raise ValueError('boom')\n"
        "run_task(pipeline.Ours())\n"
        "try: run_task(Fails())\n"
        "except Exception as error: print('SAID', error)\n"
        "run_task(pipeline.Plain())\n"
    )
    done = call(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert [logged(tmp_path).count(line) for line in LINES] == [2, 2]
    assert "INFO mypipe: nearly" in done.stdout.partition("SAID")[2]


def test_a_level_is_shown_on_stderr_and_goes_with_the_run_that_brought_it(tmp_path: Path) -> None:
    code = (
        RUN + "run_task(pipeline.Ours(), config={'core': {'log_level': 'INFO'}}); "
        "import logging; print('AFTER', logging.getLogger('luigi-interface').handlers); run_task(pipeline.Plain())"
    )
    done = call(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("INFO: hello from the interface") == 1
    assert "AFTER []" in done.stdout


def test_logging_is_left_alone_where_the_configuration_asks_for_that(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[core]\nno_configure_logging = true\nlogging_conf_file = logging.ini\n")
    (tmp_path / "logging.ini").write_text(INI)
    code = (
        "import logging; logging.basicConfig(format='MINE %(message)s', level='INFO'); "
        + RUN
        + "run_task(pipeline.Ours())"
    )
    done = call(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert "MINE hello from the interface" in done.stderr
    assert logged(tmp_path) == []


def test_where_nothing_is_said_an_unconfigured_logger_stays_quiet(tmp_path: Path) -> None:
    done = call(tmp_path, CALLS["one worker"].format(task="Ours"))
    assert done.returncode == 0, done.stderr
    assert "hello" not in done.stderr + done.stdout


@pytest.mark.parametrize("content", [None, "no configuration", "[loggers]\nkeys=root\n"])
def test_a_file_that_is_missing_or_unreadable_is_named(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[core]\nlogging_conf_file = odd.ini\n")
    if content is not None:
        (tmp_path / "odd.ini").write_text(content)
    done = call(tmp_path, CALLS["one worker"].format(task="Ours"))
    assert done.returncode != 0
    assert "ConfigError" in done.stderr
    assert "odd.ini" in done.stderr
    assert not (tmp_path / "store").exists()

"""What is wrong in a file of Luigi's configuration is told with the file, the line and what to do, whoever reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from superluigi import cli
from superluigi.config import applied, put_back, raw_sections

UNREADABLE = {  # text of the file → what is told of its place
    "no section": "'luigi.cfg', line: 1",
    "[a]\nb = 1\n  c\nneither\n": "[line  4]: 'neither",
    "[a]\nb=1\nb=2": "'luigi.cfg' [line  3]",
    "[a]\n[b]\n[a]": "'luigi.cfg' [line  3]",
    "[a]\nb = \udcff": "luigi.cfg: Unicode",
    "[core]\n\nautoload_range = perhaps": "[core] autoload_range (luigi.cfg, line 3): Not a boolean",
    "[core]\nautoload-range : %(x)s": "[core] autoload_range (luigi.cfg, line 2): Bad value",
}
UNUSABLE = {
    "[core]\nno_configure_logging = maybe": "[core] no_configure_logging (luigi.cfg, line 2): Not a boolean",
    "[DEFAULT]\nlog_level = 5%\n[core]": "[core] log_level (luigi.cfg, line 2): '%'",
    "[core]\nlogging_conf_file = ${NOWHERE}/x": "[core] logging_conf_file (luigi.cfg, line 2): ",
    "[core]\nworkers = %(x)s": "[core] workers (luigi.cfg, line 2): ",
    "[worker]\n# seconds\ntimeout = soon": "[worker] timeout (luigi.cfg, line 3): invalid",
    "[scheduler]\nretry-delay = %(x)s": "[scheduler] retry_delay (luigi.cfg, line 2): Bad value",
    "[resources]\ngpu = %(x)s": "[resources] gpu (luigi.cfg, line 2): Bad value",
    "[superluigi]\nkeep-days = ${NOWHERE}": "[superluigi] keep_days (luigi.cfg, line 2): Config refers",
}
PROGRAM = """
import json, sys, warnings
from pathlib import Path

def told(text, act):
    Path("luigi.cfg").write_bytes(text.encode(errors="surrogateescape"))
    try:
        act()
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"

def imports():
    from superluigi import run_task

def runs(**options):
    from luigi.configuration import LuigiConfigParser
    from superluigi import run_task
    from superluigi.tasks import AtomicTaskWithMetadata

    LuigiConfigParser._instance = None
    run_task(type("Nothing", (AtomicTaskWithMetadata,), {"run": lambda self: 1})(), **options)

warnings.simplefilter("ignore")
unreadable, unusable = json.loads(sys.argv[1])
found = {text: told(text, imports) for text in unreadable}
assert told("[a]\\nb = 1", imports) is None  # it is corrected, and read as a whole
found |= {text: told(text, runs) for text in unusable}
print(json.dumps(found))
"""


def test_a_file_of_luigis_that_is_wrong_is_told_with_its_line_until_it_is_corrected(tmp_path: Path) -> None:
    files = json.dumps([list(UNREADABLE), list(UNUSABLE)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, files], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for text, place in {**UNREADABLE, **UNUSABLE}.items():
        assert told[text].startswith("superluigi.errors.ConfigError: Luigi's configuration cannot be "), (
            text,
            told[text],
        )
        assert place in told[text] and "Correct it" in told[text].replace("Correct its", "Correct it"), told[text]


@pytest.mark.parametrize("where", ["luigi.cfg", "--config"])
def test_exit_codes_of_luigis_command_are_not_obeyed_which_is_said_once(
    project: Callable[[str], ModuleType], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = project(
        """
        class Fails(luigi.Task):
            def run(self):
                raise ValueError("no")

        class Works(Fails):
            def complete(self):
                return True
        """
    )
    Path("codes.cfg").write_text("[retcode]\ntask_failed = 30\nalready_running = 10\n")
    before = raw_sections()
    codes = {"retcode": {"task_failed": "30"}} if where == "luigi.cfg" else {}
    words = [] if codes else ["--config", "codes.cfg"]
    for name, code in (("Works", 0), ("Fails", 1)):
        with applied(codes):
            assert cli.main(["run", module.__name__, name, *words]) == code
        assert capsys.readouterr().err.count("[retcode] of Luigi's configuration is for Luigi's own command") == 1
    put_back(before)
    assert cli.main(["run", module.__name__, "Works"]) == 0
    assert "retcode" not in capsys.readouterr().err

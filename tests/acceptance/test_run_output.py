"""What a run prints at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget


class Part(AtomicTaskWithMetadata):
    n = luigi.IntParameter()

    def output(self):
        return LocalFileTarget(f"part-{self.n}.txt")

    def run(self, output_path):
        if self.n == 13:
            unlucky(self.n)
        output_path.write_text("x")


def unlucky(n):
    raise ValueError("an unlucky number\\nand more words")


class Whole(AtomicTaskWithMetadata):
    count = luigi.IntParameter()

    def requires(self):
        return [Part(n) for n in range(self.count)]

    def output(self):
        return LocalFileTarget("whole.txt")

    def run(self, output_path):
        output_path.write_text("x")
"""


def superluigi(folder: Path, *words: str, code: int = 0, together: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superluigi", *words]
    err = subprocess.STDOUT if together else subprocess.PIPE
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=err, text=True, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ending_of_test.py").write_text(PIPELINE)
    return tmp_path


def whole(folder: Path, count: int, *words: str, **options: bool) -> subprocess.CompletedProcess[str]:
    code = 1 if count > 13 else 0
    return superluigi(folder, "run", "ending_of_test", "Whole", "--count", str(count), *words, code=code, **options)


@pytest.mark.parametrize("queue", [(), ("--queue", "q")], ids=["here", "queue"])
def test_one_ending_follows_luigis_summary(folder: Path, queue: tuple[str, ...]) -> None:
    whole(folder, 3)
    assert re.search(r"^✓ 1 complete in \d", whole(folder, 3).stdout, re.MULTILINE)
    (folder / "whole.txt").unlink()
    said = whole(folder, 14, *queue).stdout
    assert said.count("===== Luigi Execution Summary =====") == 2
    ending = said[said.rindex("Execution Summary") :].splitlines()[2:]
    assert re.match(r"✕ Part\(n=13\) failed.*: \w+: ", ending[0])
    assert "an unlucky number" in ending[0] or queue
    assert Path(ending[1].removeprefix("  log     ")).is_file()
    assert ending[2].startswith("  blocks  Whole")
    assert re.match(r"✕ 10 ran, 3 complete, 1 failed, 1 blocked in \d.* s$", ending[3])
    assert len(ending) == 4


def test_a_failure_is_told_once_where_it_happens_and_once_in_the_ending(folder: Path) -> None:
    said = whole(folder, 14, together=True).stdout
    assert said.count("ValueError: an unlucky number") == 2
    first, ending = said.split("===== Luigi Execution Summary =====")[::2]
    told = first.splitlines()
    assert told[0] == "Part(n=13) failed: ValueError: an unlucky number"
    assert "ending_of_test.py:15 in run: unlucky(self.n)" in first
    assert re.search(r'ending_of_test\.py:\d+ in unlucky: raise ValueError\("an unlucky', first)
    assert "superluigi/" not in first.partition("    log: ")[0]
    assert "Traceback" not in said
    log = first.partition("    log: ")[2].strip()
    assert log in ending and "ValueError: an unlucky number" in Path(log).read_text()


SCRIPT = """
import sys
from ending_of_test import Part, Whole
from superluigi import compute, run_task

def main():
    {call}

if __name__ == "__main__":
    {main}
"""


def script(folder: Path, call: str, main: str = "main()", together: bool = True, **env: str) -> str:
    """What a script says that ends with exit code 1: to one terminal, or to stderr alone."""
    (folder / "script.py").write_text(SCRIPT.format(call=call, main=main))
    err = subprocess.STDOUT if together else subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, stdout=subprocess.PIPE, stderr=err, text=True, check=False,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 1
    return done.stdout if together else done.stderr


def test_a_script_that_does_not_catch_the_failure_ends_with_one_line_more(folder: Path) -> None:
    said = script(folder, "run_task(Whole(count=14))")
    assert said.count("ValueError: an unlucky number") == 2 and "Traceback" not in said
    last = said.splitlines()[-1]
    assert last == f"{folder / 'script.py'}:7: TaskFailedError: a task failed, as told above"


@pytest.mark.parametrize("call", ["run_task(Whole(count=14), quiet=True)", "compute(Part(n=13))"])
def test_a_script_whose_ending_was_not_shown_says_what_failed(folder: Path, call: str) -> None:
    for together in (True, False):
        lines = script(folder, call, together=together).splitlines()
        place = lines.index(f"{folder / 'script.py'}:7: {call}")
        assert lines[place + 1] == "TaskFailedError: Part(n=13) failed: ValueError: an unlucky number"
        assert "Traceback" not in lines and lines[0] == "Part(n=13) failed: ValueError: an unlucky number"


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ("try:\n        main()\n    except Exception:\n        1 / 0", ["ZeroDivisionError", "Traceback", "in main"]),
        ("sys.excepthook = lambda *_: print('mine')\n    main()", ["mine"]),
        ("try:\n        main()\n    except Exception:\n        sys.exit(sys.excepthook is not sys.__excepthook__)",
         []),
        ("try:\n        main()\n    except Exception:\n        pass\n    "
         "sys.exit(1 if sys.excepthook is sys.__excepthook__ else 5)", []),
    ],
    ids=["another-error", "own-hook", "while-caught", "after"],
)  # fmt: skip
def test_only_the_uncaught_failure_itself_is_shortened(folder: Path, main: str, words: list[str]) -> None:
    said = script(folder, "run_task(Part(n=13))", main)
    assert [word for word in words if word not in said] == [] and "as told above" not in said


def test_the_whole_traceback_is_shown_where_it_is_asked_for(folder: Path) -> None:
    said = script(folder, "run_task(Part(n=13))", SUPERLUIGI_FULL_TRACEBACKS="1")
    assert "Traceback (most recent call last)" in said and "direct cause" in said


def test_where_stdout_is_read_elsewhere_stderr_says_what_failed(folder: Path) -> None:
    done = whole(folder, 14)
    assert re.search(r"^TaskFailedError: Part\(n=13\) failed: ValueError: an unlucky", done.stderr, re.MULTILINE)
    assert "    log: " in done.stderr.partition("TaskFailedError")[2]


def test_quiet_runs_print_nothing_but_problems(folder: Path) -> None:
    done = whole(folder, 3, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    (folder / "whole.txt").unlink()
    done = whole(folder, 14, "--quiet")
    assert done.stdout == "" and "Part(n=13) failed: ValueError" in done.stderr
    code = "from ending_of_test import Part\nfrom superluigi import compute\ncompute([Part(n=20), Part(n=21)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_of_many_failures_alike_a_few_are_told_in_full(folder: Path) -> None:
    (folder / "many.py").write_text(
        "from superluigi.parameters import Param\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\n"
        "import luigi\n"
        "class Row(AtomicTaskWithMetadata):\n"
        "    n: Param[int]\n"
        "    def run(self):\n"
        "        raise ValueError('no ' + 'very ' * 1000 + f'good row {self.n}')\n"
        "class Rows(luigi.WrapperTask):\n"
        "    def requires(self):\n"
        "        return [Row(n=n) for n in range(30)]\n"
    )
    done = superluigi(folder, "run", "many", "Rows", code=1, together=True)
    first, ending = done.stdout.split("===== Luigi Execution Summary =====")[::2]
    assert all(f"Row(n={n}) failed" in first and f"good row {n}\n" in first for n in range(30))
    assert first.count("many.py:7 in run") == 3
    assert ending.count("✕ Row(") == 3 and "and 27 more Row with ValueError" in ending
    assert max(map(len, done.stdout.splitlines())) < 800


def test_the_frames_that_are_told_are_the_users(folder: Path) -> None:
    (folder / "deep.py").write_text(
        "import json\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\n"
        "class Deep(AtomicTaskWithMetadata):\n"
        "    def run(self):\n"
        "        try:\n"
        "            json.loads('{')\n"
        "        except ValueError as error:\n"
        "            raise KeyError('x') from error\n"
        "class Library(AtomicTaskWithMetadata):\n"
        "    def run(self):\n"
        "        json.loads('{')\n"
    )
    for task, frame in ("Deep", "deep.py:8 in run: raise KeyError"), ("Library", "deep.py:11 in run: json.loads('{')"):
        for words in (), ("--workers", "2"):
            said = superluigi(folder, "run", "deep", task, *words, code=1).stderr.partition("TaskFailedError:")[0]
            told = [line for line in said.splitlines() if line.startswith("    ") and ".py:" in line]
            assert len(told) == 1 and frame in told[0]

"""What a run looks like in a notebook: one display that is replaced, a failure in ten lines, edited cells."""

from __future__ import annotations

import re
from typing import Any

import pytest

TASKS = """
import time, luigi
from superluigi import compute, run_task
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget

class Part(AtomicTaskWithMetadata):
    n = luigi.IntParameter()
    def output(self): return LocalFileTarget(f"part-{self.n}.txt")
    def run(self): return "part"

class All(AtomicTaskWithMetadata):
    wrong = luigi.BoolParameter(default=False, significant=False)
    def requires(self): return [Part(n) for n in range(5)]
    def output(self): return LocalFileTarget("all.txt")
    def run(self):
        time.sleep(1)
        if self.wrong:
            return helper([])
        return "all"

def helper(values):
    return values[7]
"""
EDITED = TASKS.replace('return "all"', 'return "all of it"')
PART_EDITED = EDITED.replace('return "part"', 'return "a part"')
CAUGHT = """
try:
    compute(All(wrong=True), force=True)
except Exception as error:
    print("caught", str(error).partition("failed: ")[2])
"""
LOGGED = """
import logging, sys
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("logged %(message)s"))
logging.getLogger().addHandler(handler)
run_task(All(wrong=True), force=True)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each cell of one notebook shows."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    folder = tmp_path_factory.mktemp("notebook")
    cells = [
        TASKS,
        "run_task(All(wrong=True))",
        "run_task(All())",
        "run_task(All())",
        EDITED,
        "run_task(All())",
        "run_task(All(), refresh='code')",
        "compute(All(), force=True)",
        "run_task(All(wrong=True), force=True)",
        "compute(All(wrong=True), force=True)",
        CAUGHT,
        LOGGED,
        PART_EDITED,
        "run_task(All())",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell.outputs for cell in notebook.cells]


def text_of(shown: list[Any], name: str = "stdout") -> str:
    return "".join(one.text for one in shown if one.output_type == "stream" and one.name == name)


def displays(shown: list[Any]) -> list[str]:
    return [one.data["text/html"] for one in shown if one.output_type == "display_data"]


def test_progress_is_one_display_that_ends_with_what_came_of_the_run(outputs: list[list[Any]]) -> None:
    (shown,) = displays(outputs[2])
    assert "superluigi-progress" in shown and "1 of 1 done" in shown and "All" not in shown
    (quiet,) = displays(outputs[7])
    assert "1 of 1 done" in quiet, "compute prints nothing, and shows how far it is"
    assert text_of(outputs[7]) == ""


def test_a_failure_is_told_in_ten_lines_with_the_users_frame(outputs: list[list[Any]]) -> None:
    (error,) = [one for one in outputs[1] if one.output_type == "error"]
    assert error.ename == "TaskFailedError"
    lines = "\n".join(error.traceback).splitlines()
    assert len(lines) <= 10
    text = "\n".join(lines)
    assert "All(" in text and "IndexError: list index out of range" in text
    assert "in helper: return values[7]" in text and "stderr.log" in text
    assert len(re.findall(r":\d+ in ", text)) == 2, "run and helper, and no frame of ours"


def test_a_failure_is_told_once(outputs: list[list[Any]]) -> None:
    for number in (1, 8, 9):
        (error,) = [one for one in outputs[number] if one.output_type == "error"]
        shown = [text_of(outputs[number]), text_of(outputs[number], "stderr"), *error.traceback]
        assert "\n".join(shown).count("IndexError") == 1, "in the error that ends the cell"
    assert "1 failed" in text_of(outputs[8]).splitlines()[-1]


def test_a_failure_that_the_cell_catches_is_in_the_error_and_set_up_logs_have_it(outputs: list[list[Any]]) -> None:
    assert "caught IndexError: list index out of range" in text_of(outputs[10])
    assert text_of(outputs[11]).count("logged All() failed: IndexError") == 1


def test_an_edited_class_whose_output_is_complete_is_named_with_the_remedy(outputs: list[list[Any]]) -> None:
    assert "its code has changed" not in text_of(outputs[3])
    said = "All is complete, but its code has changed (All.run changed): refresh='code' makes it again."
    assert said in text_of(outputs[5])
    assert "1 ran" in text_of(outputs[6]), "and it does"


def test_an_edited_class_below_what_is_complete_is_named_too(outputs: list[list[Any]]) -> None:
    said = "Part is complete, but its code has changed (Part.run changed): refresh='code' makes it again."
    assert text_of(outputs[13]).count(said) == 1 and text_of(outputs[13]).count("its code has changed") == 1


def test_outside_of_notebooks_a_failure_has_its_traceback_and_nothing_is_displayed() -> None:
    from superluigi.errors import TaskFailedError
    from superluigi.terminal import in_notebook

    assert not in_notebook()
    assert TaskFailedError("All failed")._render_traceback_() == ["TaskFailedError: All failed"]

"""Executors that a user names or lends: refused before anything is looked at, and never ended by us."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from superluigi import cli, run_task
from superluigi.errors import OptionError

Project = Callable[[str], ModuleType]

TASKS = """
    from superluigi.targets import LocalFileTarget
    from superluigi.tasks import AtomicTaskWithMetadata

    class Makes(AtomicTaskWithMetadata):
        def output(self):
            return LocalFileTarget("made.txt")
        def run(self, output_path):
            output_path.write_text("x")
"""


@pytest.mark.parametrize("executor", ["nosuch", "", "Threads", 4, int, object()])
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_no_executor_is_refused_even_where_nothing_would_run(
    project: Project, executor: Any, complete: bool, dry_run: bool
) -> None:
    module = project(TASKS)
    if complete:
        run_task(module.Makes(), quiet=True)
    with pytest.raises(OptionError, match="executor="):
        run_task(module.Makes(), executor=executor, dry_run=dry_run)
    assert module.Makes().complete() == complete


def test_a_command_line_that_names_no_executor_ends_with_an_error_even_where_all_is_complete(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    module = project(TASKS)
    line = ["run", module.__name__, "Makes"]
    assert cli.main(line) == 0
    assert cli.main([*line, "--executor", "nosuch"]) != 0
    assert "'nosuch' is unknown" in capsys.readouterr().err

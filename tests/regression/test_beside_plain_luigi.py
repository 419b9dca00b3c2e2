"""What a user of plain Luigi meets who mixes Luigi's classes and commands with ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import luigi
import pytest

from superluigi import cli
from superluigi.errors import ParameterError
from superluigi.tasks import Task

ODD_DEFAULTS = """
import luigi
from superluigi.tasks import AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget

class Words(luigi.Parameter):
    def parse(self, text):
        return tuple(text.split())

    def serialize(self, words):
        return " ".join(words)

class Say(AtomicTaskWithMetadata):
    words = Words(default=None)
    of = luigi.TaskParameter(default=None)

    def output(self):
        return LocalFileTarget("said.txt")

    def run(self, output_path):
        output_path.write_text(f"{'-'.join(self.words)} {self.of.__name__}")
"""


def test_a_default_that_has_no_text_keeps_no_command_from_running(
    project: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = project(ODD_DEFAULTS).__name__
    assert cli.main(["run", module, "Say", "--help"]) == 0
    assert "(default: None)" in capsys.readouterr().out
    assert cli.main(["run", module, "Say", "--words", "a b", "--of", "Say"]) == 0
    assert Path("said.txt").read_text() == "a-b Say"


def test_what_json_cannot_hold_is_named_in_the_refusal() -> None:
    class Holds(Task):
        options = luigi.DictParameter(default={})

    with pytest.raises(ParameterError, match="what JSON can hold"):
        Holds(options={"a": {1, 2}})

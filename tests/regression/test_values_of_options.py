"""What an option is given: dashes, nothing at all, numbers that are none."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from luigi.configuration import get_config

from superluigi import cli
from superluigi.errors import OptionError
from superluigi.targets import LocalFileTarget

PIPELINE = """
from superluigi.parameters import Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

class WordBelow(AtomicTaskWithMetadata):
    word = Parameter(default="none")
    def output(self):
        return LocalFileTarget("out")
    def run(self):
        ...

class WordAbove(WordBelow):
    def requires(self):
        return WordBelow()
"""


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "options_pipeline.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "options_pipeline", raising=False)
    yield
    get_config().remove_section("WordBelow")  # where a command keeps what it is given for other tasks


@pytest.mark.parametrize("value", ["--", "-", "", "-1e3", "--word", "a=b", " "])
def test_any_text_is_a_value_of_a_parameter(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["why", "options_pipeline", "WordAbove", f"--word={value}", f"--WordBelow-word={value}", "--json"])
        == 0
    )
    assert capsys.readouterr().out.count(f'"word": "{value}"') == 2


OPTIONS = [
    ["quarantine", "clear", "--yes", ""],
    ["quarantine", "clear", "--older-than"],
    ["clean"],
    ["clean", ".", "--older-than"],
    ["verify"],
    ["lineage"],
    ["lineage", "--diff", "a", ""],
    ["config"],
    ["cache", "prune", "--to"],
    ["ls", "--in"],
    ["ls", "--store"],
    ["ls", "--tag"],
    *(
        [command, "options_pipeline", "WordAbove", option]
        for command, options in {
            "graph": ("--html", "--svg"),
            "run": ("--workers", "--limit", "--store", "--report", "--queue", "--executor", "--force-upstream-to"),
            "show": ("--rows",),
            "logs": ("--attempt",),
            "rm": ("--in",),
        }.items()
        for option in options
    ),
    ["queue", "submit", "", "options_pipeline", "WordAbove"],
    ["queue", "tasks"],
]


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_a_shells_variable_that_is_not_set_is_no_value(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = words if "" in words else [*words[:-1], f"{words[-1]}="] if words[-1][:2] == "--" else [*words, ""]
    assert cli.main(given) == 2
    told = capsys.readouterr().err
    assert "is empty" in told and "Traceback" not in told


@pytest.mark.parametrize("value", ["--", "nan", "inf", "-1", "1e999", "-1e3", "9" * 5000])
@pytest.mark.parametrize(
    "words",
    [
        ["quarantine", "clear", "--older-than"],
        ["clean", ".", "--older-than"],
        ["cache", "prune", "--unused-for"],
        ["show", "options_pipeline", "WordAbove", "--rows"],
        ["logs", "options_pipeline", "WordAbove", "--attempt"],
        ["run", "options_pipeline", "WordAbove", "--workers"],
        ["ui", "--port"],
    ],
    ids=" ".join,
)
def test_what_is_no_number_is_refused_before_anything_is_done(
    words: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words[:-1], f"{words[-1]}={value}"]) == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "dest", "expected"),
    [
        (["quarantine", "clear", "--yes", "Family", "--json", "Other"], "which", ["Family", "Other"]),
        (["quarantine", "--json", "list", "-1", "--older-than", "2"], "which", ["-1"]),
        (["config", "store", "--json", "workspace"], "names", ["store", "workspace"]),
        (["ls", "options_pipeline", "--upstream", "WordAbove", "--word", "Other"], "task", "WordAbove"),
        (["lineage", "--json", "--diff", "a", "b"], "address", None),
        (["lineage", "--html", "page.html", "there"], "address", "there"),
        (["completion", "words", "--", "ls", "--json"], "words", ["ls", "--json"]),
    ],
)
def test_options_may_stand_anywhere(words: list[str], dest: str, expected: object) -> None:
    args = cli.command_parser(words[0]).parse_args(words[1:])
    assert getattr(args, dest) == expected


def test_text_that_python_does_not_read_here_is_said_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")  # as with PYTHONUTF8=0 and LC_ALL=C
    misread = "größe".encode().decode("ascii", "surrogateescape")
    assert cli.main(["run", "options_pipeline", "WordBelow", f"--word={misread}"]) == 2
    assert re.search(r"'--word=größe' cannot be read in ascii, .* Set PYTHONUTF8=1", capsys.readouterr().err)
    with pytest.raises(OptionError, match=r"no name can hold in ascii, .* set PYTHONUTF8=1"):
        LocalFileTarget("\ud800")

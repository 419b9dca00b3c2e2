"""What the docs name is there: files, modules, options, variables, tests; and the reference has every public name."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from superluigi.tasks.reserved_names import MACHINERY

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("superluigi", "tests", "docs", "benchmarks", "tutorials")
#: The changelog is history: it may name what is gone.
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "tutorials/**/*.md", "tests/*.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
FENCED = re.compile(r"^( *)```.*?^\1```", re.S | re.M)
TICKED = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(?<![\w/.<~:-])\w[\w.-]*(?:/[\w.-]+)+\.(?:py|md|sh|yml|cfg|toml)\b")
DOTTED = re.compile(r"(?<![\w./-])superluigi(?:\.[A-Za-z_]\w*)+")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")
VARIABLE = re.compile(r"\bSUPERLUIGI_[A-Z_]*[A-Z]\b")
TEST = re.compile(r"\btest_\w+[a-z0-9]\b(?!…)")
#: Options of other programs, and parameters of tasks that stand for any.
ELSEWHERE = {
    *("--batch", "--cpus-per-task", "--date", "--local-scheduler", "--mem", "--module", "--print-deps", "--quiet"),
    *("--print-status", "--pythonpath", "--remove-output", "--resources", "--show-output", "--strict", "--test"),
    *("--version", "--workflow", "--OtherTask-parameter", "--Family-name", "--Family-parameter", "--Cleaned-limit"),
}
LUIGIS_TESTS = "luigis-own-tests-are-the-oracle-and-these-of-them-fail.md"


@functools.cache
def files() -> tuple[str, ...]:
    return tuple(
        f"/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.*")
        if "__pycache__" not in path.parts
    )


@functools.cache
def source(*folders: str) -> str:
    return "\n".join(
        path.read_text(encoding="utf-8")
        for name in folders
        for path in (ROOT / name).rglob("*.py")
        if path != Path(__file__)
    )


def is_there(name: str) -> bool:
    """Whether a dotted name can be imported, or is one of the names that the code gives (a group of entry points)."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return f'"{name}"' in source("superluigi")
            found = getattr(found, part)
        return True
    return False


def gone(text: str, page: str = "") -> Iterator[str]:
    """Names in a page that nothing has."""
    for ticked in TICKED.findall(FENCED.sub("", text)):
        yield from (path for path in PATH.findall(ticked) if not any(one.endswith(f"/{path}") for one in files()))
        dotted = (name for name in DOTTED.findall(ticked) if name.rpartition(".")[2] not in ("cfg", "sqlite"))
        yield from (name for name in dotted if not is_there(name))
        options = (name for name in OPTION.findall(ticked) if name not in ELSEWHERE)
        yield from (name for name in options if f'"{name}"' not in source("superluigi", "benchmarks", "tutorials"))
        code = source("superluigi", "tests")
        yield from (
            name for name in VARIABLE.findall(ticked)
            if name not in code and f'"{name.removeprefix("SUPERLUIGI_").lower()}"' not in code
        )  # fmt: skip
        if page != LUIGIS_TESTS:
            tests = (name for name in TEST.findall(ticked) if f"def {name}" not in code)
            yield from (name for name in tests if not any(one.endswith(f"/{name}.py") for one in files()))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_names_nothing_that_is_gone(page: Path) -> None:
    assert list(gone((ROOT / page).read_text(encoding="utf-8"), page.name)) == []


@pytest.mark.parametrize(
    "planted",
    [
        "tests/unit/gone.py", "scheduling/terms.py", "superluigi.testing.gone", "superluigi.run_tusk",
        "--forse", "SUPERLUIGI_STOER", "test_what_is_gone",
    ],
)  # fmt: skip
def test_a_name_that_is_gone_is_found(planted: str) -> None:
    assert list(gone(f"Words, `{planted}`, words.\n")) == [planted]


def test_the_reference_hides_what_only_holds_tasks_together() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (hidden,) = re.findall(r'"!\^\((.*?)\)\$"', config)
    assert set(hidden.split("|")) == {name for name, what in MACHINERY.items() if "(Luigi)" not in what.meaning}


def test_every_public_name_has_an_entry_in_the_reference_and_every_entry_is_there() -> None:
    shown: set[str] = set()
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name, options in re.findall(r"^::: (\S+)\n((?:    .*\n)*)", page.read_text(encoding="utf-8"), re.M):
            members = (yaml.safe_load(options) or {}).get("options", {}).get("members") if options else None
            shown |= {name} | {f"{name}.{member}" for member in members or ()}
    assert [name for name in sorted(shown) if not is_there(name)] == []
    shortcuts = {name.rpartition(".")[2] for name in shown}  # `superluigi.task` is `superluigi.tasks.task`
    for module in ("superluigi", "superluigi.tasks", "superluigi.targets", "superluigi.lineage"):
        public = set(importlib.import_module(module).__all__)
        if module == "superluigi":
            public -= {"Queue"}  # all of superluigi.queue is shown
        else:
            public -= {"FunctionTask", "ShellTask"}  # what functions become
        assert public <= shortcuts, module

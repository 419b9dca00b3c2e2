"""The shape of the package: no circle of imports, not even for types, and figures to look at."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import superluigi
from superluigi import graph

grimp = pytest.importorskip("grimp")  # of the extra [dev]

SOURCE = Path(superluigi.__file__).parent
ROOT = SOURCE.parent


@pytest.fixture(scope="module")
def imports() -> Any:
    """Every import, also those under TYPE_CHECKING and inside functions."""
    return grimp.build_graph("superluigi", cache_dir=None)


def test_modules_that_import_each_other_are_none(imports: Any) -> None:
    late = set(_imported_in_functions())

    def imported(module: str) -> list[str]:
        found = imports.find_modules_directly_imported_by(module)
        return sorted(one for one in found if (module, one) not in late)

    list(graph.walk(sorted(imports.modules), imported))  # raises an error that names the circle


def test_every_package_says_what_lives_there() -> None:
    for init in SOURCE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init
    for folder in SOURCE.rglob("*"):
        if folder.is_dir() and any(folder.glob("*.py")):
            assert (folder / "__init__.py").exists(), f"{folder} has no __init__.py, so that no layer holds for it"


def test_the_figures_of_the_package_are_what_the_documentation_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name, value in _figures().items():
        said = re.search(rf"^\| {re.escape(name)} \| at most ([\d,]+) \|", text, re.M)
        assert said, f"docs/architecture.md has no row for {name}, which is {value}"
        assert value <= int(said[1].replace(",", "")), f"{name} is {value}: look why, then mend it or the row"


def _figures() -> dict[str, int]:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    lines = sum(text.count("\n") for text in texts.values())
    return {
        "lines of Python": lines,
        "uses of `Any` per 1,000 lines": 1000
        * sum(len(re.findall(r"\bAny\b", text)) for text in texts.values())
        // lines,
        "`global` statements": sum(len(re.findall(r"^\s+global \w", text, re.M)) for text in texts.values()),
        "`type: ignore` comments": sum(text.count("type: ignore") for text in texts.values()),
        "lines of the longest module": max(text.count("\n") for text in texts.values()),
        "modules of the largest package": max(len(list(folder.glob("*.py"))) for folder in {p.parent for p in texts}),
    }


def _imported_in_functions() -> Iterator[tuple[str, str]]:
    """Pairs of modules of which the first imports the second only when it is used."""
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = set(_modules_in(tree.body))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from ((name, one) for one in set(_modules_in(node.body)) - top)


def _modules_in(body: list[ast.stmt]) -> Iterator[str]:
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))

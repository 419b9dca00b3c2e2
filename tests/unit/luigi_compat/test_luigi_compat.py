"""Luigi's private names: each that we use is declared with its reason, and still there."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import superluigi
from superluigi.luigi_compat import engine, names, parameters

ROOT = Path(superluigi.__file__).parent

#: Names of our own that happen to be names of Luigi's, too, in modules that do not define them themselves: `self._x`
#: of a mix-in or base class of ours. `_reason` is one of Tornado's.
OURS = {"_reason", "_add", "_options", "_session", "_run", "_task", "_stream", "_process", "_s3", "_key", "_instance"}
#: `_data` is one of `os.environ`'s, `_get_value` one of argparse's parsers.
OURS |= {"_data", "_get_value"}
PRIVATE = re.compile(r"_[A-Za-z]\w*[A-Za-z0-9]")
#: What Python makes of a private name of a class that begins with two underscores.
MANGLED = re.compile(r"_[A-Z][A-Za-z]*(?=__)")
#: Methods of these that classes of ours replace: the only private names outside `luigi_compat`.
REPLACED = frozenset(
    {
        "_add_task",
        "_get_work",
        "_handle_next_task",
        "_remove_workers_from_tasks",
        "_requires",
        "_reset_orphaned_batch_running_tasks",
        "_run_task",
    }
)


def gone() -> list[str]:
    """Names of the table that the installed Luigi has no more, as `where.name: why it is used`."""
    lacking = []
    for where, reasons in names.PRIVATE.items():
        module, _, owner = where.partition(":")
        there = set(_defined(module, owner))
        lacking += [f"{where}.{name}: {why}" for name, why in reasons.items() if name not in there]
    return lacking


def of_luigi() -> frozenset[str]:
    """Every private name that Luigi's own modules define (those of `contrib` aside)."""
    spec = importlib.util.find_spec("luigi")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    sources = [path for path in root.rglob("*.py") if "contrib" not in path.parts]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    return frozenset(name for tree in trees for name in _names(tree) if name.startswith("_") and name.strip("_"))


def _defined(module: str, owner: str) -> Iterator[str]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return
    tree: ast.AST = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    if not owner:
        yield from _names(tree)
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            yield from _names(node)


def _names(tree: ast.AST) -> Iterator[str]:
    """What is defined or assigned somewhere below `tree`: functions, classes, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each private attribute that a module reads, names in a text or imports without defining it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = set(_names(tree))
    own |= {node.target.id for node in ast.walk(tree) if _declares(node)}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in own:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PRIVATE.fullmatch(node.value):
            yield from [(node.lineno, node.value)] if node.value not in own else ()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "luigi":
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("_"))


def _declares(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


def test_every_private_name_of_luigi_that_is_used_is_still_there() -> None:
    lacking = gone()
    assert not lacking, "the installed Luigi lacks:\n" + "\n".join(lacking)


def test_a_name_that_is_gone_is_listed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"luigi.worker:Worker": {"_no_such_name": "for this test"}, "luigi.no_such_module": {"_x": "nor this"}}
    monkeypatch.setattr(names, "PRIVATE", table)
    assert gone() == ["luigi.worker:Worker._no_such_name: for this test", "luigi.no_such_module._x: nor this"]


def test_no_private_name_of_luigi_is_used_elsewhere_but_for_methods_that_ours_replace() -> None:
    luigis = of_luigi()
    used = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(ROOT.rglob("*.py"))
        if "luigi_compat" not in path.parts and path.name != "luigi_stubs.py"
        for line, name in uses(path)
        if not name.endswith("__") and MANGLED.sub("", name) in luigis and name not in REPLACED and name not in OURS
    ]
    assert not used, "move these to superluigi/luigi_compat:\n" + "\n".join(used)


def test_luigi_compat_uses_no_private_name_of_luigi_that_is_not_declared() -> None:
    undeclared = [
        f"{path.name}:{line}: {name}"
        for path in sorted(ROOT.glob("luigi_compat/*.py"))
        for line, name in uses(path)
        if not name.endswith("__") and MANGLED.sub("", name) not in names.declared()
    ]
    assert not undeclared, undeclared


def test_what_has_no_declared_reason_gets_no_public_name() -> None:
    with pytest.raises(LookupError, match="_no_such_name is not declared"):
        names.public("_no_such_name")


def test_methods_that_are_replaced_are_declared_and_replaced() -> None:
    assert names.declared() >= REPLACED
    defined = {
        node.name
        for path in ROOT.rglob("*.py")
        if "luigi_compat" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert defined >= REPLACED


def test_private_names_are_imported_from_luigi_in_one_package_only() -> None:
    elsewhere = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(ROOT.rglob("*.py"))
        if "luigi_compat" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == "luigi"
        and any(alias.name.startswith("_") for alias in node.names)
    ]
    assert not elsewhere, elsewhere


def test_every_declared_name_has_a_reason_and_is_used() -> None:
    texts = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py") if path.name != "names.py"]
    for where, entries in names.PRIVATE.items():
        for name, why in entries.items():
            assert why, (where, name)
            assert any(name in text for text in texts), f"{where}.{name} is not used any more: take it out"


def test_every_method_that_luigis_page_and_workers_ask_for_is_still_one() -> None:
    from luigi.scheduler import RPC_METHODS

    from superluigi.scheduler.scheduler import ReadyScheduler

    assert [name for name in RPC_METHODS if not callable(getattr(ReadyScheduler, name))] == []


def test_no_public_name_given_here_hides_one_of_luigis() -> None:
    ours = [engine.WorkerBase, engine.SchedulerBase, engine.StateBase, parameters.ParameterBase, parameters.ChoiceBase]
    hidden = [
        f"{kind.__name__}.{name}"
        for kind in ours
        for name in vars(kind)
        if not name.startswith("_") and any(hasattr(base, name) for base in kind.__bases__)
    ]
    assert not hidden, hidden

"""What a piece of user code reaches, read from source files: nothing is imported or executed.

A *unit* is one named thing of a module: a function, a class, or the statements that assign a name.
Names used in a unit lead to further units through the scopes and imports of its module, as far as the
user's own files go; names that lead outside are reported as packages. Only syntax trees are compared,
so comments, formatting and docstrings do not count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from superluigi.storage.fork_lock import ForkLock

Bindings = dict[str, list[ast.stmt]]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NOT_MEANING = {"ctx", "type_comment", "kind", "type_ignores"}


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    name: str
    #: What messages call it: the module's name, or the file's stem for `__main__`.
    label: str
    file: str
    is_package: bool
    bindings: Bindings = field(repr=False)
    stars: tuple[ast.ImportFrom, ...] = field(repr=False)

    def import_source(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module that a `from … import` in this file reads."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        package = package[: len(package) - node.level + (1 if self.is_package else 0)]
        return ".".join([*package, node.module] if node.module else package)


@dataclass(frozen=True)
class Unit:
    """A named thing in a module, with the scopes (innermost first) in which its names are looked up."""

    module: Module
    qualname: str
    nodes: tuple[ast.stmt, ...] = field(repr=False)
    scopes: tuple[Bindings, ...] = field(repr=False)

    @property
    def key(self) -> tuple[str, str, int]:
        return self.module.name, self.qualname, id(self.nodes[0])


def bindings_of(body: Iterable[ast.stmt]) -> Bindings:
    """Which statements of a body bind which name, looking into `if`, `try`, `with` and loops."""
    found: Bindings = {}
    for statement in body:
        for name, node in _bound(statement):
            found.setdefault(name, []).append(node)
    return found


def _bound(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        yield statement.name, statement
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        for alias in statement.names:
            yield alias.asname or alias.name.split(".")[0], statement
    elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
        if isinstance(statement, (ast.With, ast.For)):
            yield from ((name, statement) for name in _stored(statement, deep=False))
        for inner in _bodies(statement):
            yield from _bound(inner)
    else:
        yield from ((name, statement) for name in _stored(statement))


def _bodies(statement: ast.stmt) -> Iterator[ast.stmt]:
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(statement, name, ())
    for handler in getattr(statement, "handlers", ()):
        yield from handler.body


def _stored(node: ast.AST, *, deep: bool = True) -> set[str]:
    """Names that a statement assigns; `deep=False` leaves out what its body assigns."""
    parts = [node] if deep else [getattr(node, "target", node), *getattr(node, "items", ())]
    names: set[str] = set()
    for part in parts:
        if part is node and not deep:
            continue
        for child in ast.walk(part):
            if isinstance(child, ast.Name) and isinstance(child.ctx, (ast.Store, ast.Del)):
                names.add(child.id)
    return names


def digest(nodes: Iterable[ast.AST]) -> str:
    """SHA-256 of syntax trees, the same on every Python version for the same code; docstrings left out."""
    pieces: list[str] = []
    for node in nodes:
        _write(node, pieces)
    return hashlib.sha256("".join(pieces).encode("utf-8", "surrogatepass")).hexdigest()


def _write(value: object, pieces: list[str]) -> None:
    if isinstance(value, ast.AST):
        pieces.append(type(value).__name__ + "(")
        for name in value._fields:
            child = getattr(value, name, None)
            if isinstance(value, ast.JoinedStr):  # Python 3.12.0 ends a nested format with an empty text
                child = [one for one in value.values if not isinstance(one, ast.Constant) or one.value]
            if name in _NOT_MEANING or child is None or child == []:
                continue  # newer Pythons add fields that are empty for older syntax
            pieces.append(name + "=")
            _write(_without_docstring(value, child) if name == "body" else child, pieces)
        pieces.append(")")
    elif isinstance(value, list):
        pieces.append("[")
        for child in value:
            _write(child, pieces)
        pieces.append("]")
    else:
        pieces.append(repr(value) + ",")


def _without_docstring(owner: ast.AST, body: object) -> object:
    if not isinstance(owner, (*_FUNCTIONS, ast.ClassDef, ast.Module)) or not isinstance(body, list) or not body:
        return body
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if documented and isinstance(first.value.value, str) else body


class References(ast.NodeVisitor):
    """Collects the dotted names that code uses and does not bind itself.

    `names` holds tuples such as `("helpers", "clean")`; `imports` the import statements met inside
    functions with the dotted rest that was used of them.
    """

    def __init__(self) -> None:
        self.names: dict[tuple[str, ...], None] = {}
        self.imports: dict[tuple[ast.Import | ast.ImportFrom, tuple[str, ...]], None] = {}
        self._locals: list[dict[str, ast.Import | ast.ImportFrom | None]] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            chain.append(at.attr)
            at = at.value
        if isinstance(at, ast.Name):
            self._use((at.id, *reversed(chain)))
        else:
            self.visit(at)

    def _use(self, chain: tuple[str, ...]) -> None:
        for scope in reversed(self._locals):
            if chain[0] in scope:
                statement = scope[chain[0]]
                if statement is not None:
                    self.imports[statement, chain] = None
                return
        self.names[chain] = None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = node.args
        for outer in (*getattr(node, "decorator_list", ()), *arguments.defaults, *arguments.kw_defaults):
            if outer is not None:
                self.visit(outer)
        everyone = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        everyone += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        for one in everyone:
            if one.annotation is not None:
                self.visit(one.annotation)
        if getattr(node, "returns", None) is not None:
            self.visit(node.returns)  # type: ignore[union-attr, arg-type]
        body: Sequence[ast.AST] = node.body if isinstance(node.body, list) else [node.body]
        self._locals.append(_local_names(body, {one.arg for one in everyone}))
        for statement in body:
            self.visit(statement)
        self._locals.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815 - names of ast


def _local_names(body: Sequence[ast.AST], arguments: set[str]) -> dict[str, ast.Import | ast.ImportFrom | None]:
    names: dict[str, ast.Import | ast.ImportFrom | None] = dict.fromkeys(arguments)
    shared: set[str] = set()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Global):
                shared.update(node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.setdefault(node.id, None)
            elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                names.setdefault(node.name, None)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    names[alias.asname or alias.name.split(".")[0]] = node
    return {name: node for name, node in names.items() if name not in shared}


@functools.lru_cache(maxsize=1)
def _foreign_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if paths.get(key)}
    here = str(Path(__file__).parent.parent)
    return tuple(str(Path(one).resolve()) + "/" for one in (*found, here))


def is_own_file(file: str | None, module_name: str, home: str) -> bool:
    """Whether a file is the user's: not installed, not Python's, not Luigi's or ours.

    `home` is the top-level package of the task: its files count wherever they are installed.
    """
    top = module_name.split(".")[0]
    if file is None or not file.endswith(".py") or top in ("luigi", "superluigi"):
        return False
    if top == home:
        return True
    resolved = str(Path(file).resolve())
    return not resolved.startswith(_foreign_folders()) and "/site-packages/" not in resolved


_parsed: dict[str, tuple[object, tuple[int, int], Module | None]] = {}


def load(name: str) -> Module | None:
    """The parsed source of a module, as it was when this process loaded it; None if there is none.

    It is read once per import: a file that is edited while the process runs keeps the identity of the
    code that is in memory, until the module is reloaded.
    """
    spec, file = _find(name)
    known = _parsed.get(name)
    if known is not None and known[0] is spec:
        return known[2]
    if file is None:
        return None
    try:
        status = Path(file).stat()
        signature = (status.st_mtime_ns, status.st_size)
        unchanged = known is not None and known[1] == signature
        parsed = known[2] if known is not None and unchanged else _parse(name, file)
    except OSError:
        signature, parsed = (0, 0), None
    _parsed[name] = (spec, signature, parsed)
    return parsed


_parsing = ForkLock()


def syntax_tree(source: str | bytes, file: str = "<unknown>") -> ast.Module:
    """`ast.parse`, for several threads: up to Python 3.12 they share the counter of its depth (cpython issue 106905).

    Raises:
        SyntaxError, ValueError: the source is not of this Python.
    """
    with _parsing:
        for _ in range(100):
            try:
                return ast.parse(source, filename=file)
            except SystemError:  # a thread that parses elsewhere has counted, too
                time.sleep(0.001)
        return ast.parse(source, filename=file)


def _parse(name: str, file: str) -> Module | None:
    try:
        tree = syntax_tree(Path(file).read_bytes(), file)
    except (SyntaxError, ValueError):
        return None  # a template, or a file for another Python: there is nothing to compare
    stars = tuple(
        node for node in tree.body if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
    )
    stem = Path(file).stem
    label = stem if name == "__main__" else name
    return Module(name, label, file, stem == "__init__", bindings_of(tree.body), stars)


def module_token(name: str) -> object:
    """Changes when a module is imported or reloaded."""
    module = sys.modules.get(name)
    return None if module is None else getattr(module, "__spec__", None) or module


def file_of(name: str) -> str | None:
    """The file of a module, imported or not; None if there is none."""
    return _find(name)[1]


def _find(name: str) -> tuple[object, str | None]:
    module = sys.modules.get(name)
    if module is not None:
        return module_token(name), getattr(module, "__file__", None)
    path: Sequence[str] | None = None
    spec = None
    for depth in range(1, name.count(".") + 2):
        spec = importlib.machinery.PathFinder.find_spec(".".join(name.split(".")[:depth]), path)
        if spec is None:
            return None, None
        path = spec.submodule_search_locations
    return None, spec.origin if spec is not None else None

"""The code of a task: its own class and what that reaches of the user's functions, classes and constants.

References to other *tasks* are not followed: what they make arrives as input, and is compared as input. Its checks,
and what only they reach, are no part of it: they decide whether an output is seen, not what is in it.
"""

from __future__ import annotations

import ast
import operator
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from superluigi.lineage.code_fingerprint import dynamic, source
from superluigi.lineage.code_fingerprint.dynamic import CHECKS
from superluigi.lineage.code_fingerprint.source import Bindings, Module, Unit

_SIMPLE = (str, bytes, int, float, complex, bool, type(None))
_TASK_MAKERS = {"task", "shell_task"}


@dataclass(frozen=True)
class CodeDependencies:
    """Everything that decides what a task class computes."""

    #: Name as shown -> SHA-256 of its syntax tree. Names of the task's own module are bare.
    parts: dict[str, str]
    #: Top-level names of the packages outside the user's code that are used directly.
    packages: frozenset[str]
    #: The file of the class, if it has one.
    file: str | None
    #: Names of the modules read, and what tells a reload of each.
    modules: tuple[str, ...] = field(repr=False)
    tokens: tuple[object, ...] = field(repr=False)

    def is_current(self) -> bool:
        return all(map(operator.is_, map(source.module_token, self.modules), self.tokens))  # asked for every task


_known: weakref.WeakKeyDictionary[type, CodeDependencies] = weakref.WeakKeyDictionary()
_known_checks: weakref.WeakKeyDictionary[type, CodeDependencies] = weakref.WeakKeyDictionary()
#: Where a task class keeps the names of its methods that are checks.
CHECK_METHODS = "_superluigi_checks"


def reached(cls: type) -> CodeDependencies:
    """What a task class reaches; computed once per class and import of its modules."""
    found = _known.get(cls)
    if found is None or not found.is_current():
        found = _known[cls] = _Walk(cls).result()
    return found


def reached_by_checks(cls: type) -> CodeDependencies | None:
    """What the checks of a task class reach; None if it has none."""
    methods = getattr(cls, CHECK_METHODS, None)
    if methods is None or not (methods or getattr(cls, CHECKS, None)):
        return None
    found = _known_checks.get(cls)
    if found is None or not found.is_current():
        found = _known_checks[cls] = _Walk(cls, of_checks=True).result()
    return found


class _Walk:
    def __init__(self, cls: type, *, of_checks: bool = False) -> None:
        self.cls = cls
        self.of_checks = of_checks
        methods = getattr(cls, CHECK_METHODS, None)
        self.checks = set() if methods is None else {CHECKS, *methods}
        self.home = cls.__module__.split(".")[0]
        self.parts: dict[str, str] = {}
        self.packages: set[str] = set()
        self.modules: dict[str, Module | None] = {}
        self.waiting: list[Unit] = []
        self.seen: set[tuple[str, str, int]] = set()

    def result(self) -> CodeDependencies:
        for base in self.cls.__mro__[:-1]:  # the last one is `object`
            if self._is_own(base.__module__):
                self._start(base)
            else:
                self._package(base.__module__)
        while self.waiting:
            self._read(self.waiting.pop())
        own = self.modules.get(self.cls.__module__)
        names = tuple(self.modules)
        return CodeDependencies(
            dict(sorted(self.parts.items())),
            frozenset(self.packages),
            own.file if own else None,
            names,
            tuple(map(source.module_token, names)),
        )

    # -- where to begin

    def _start(self, cls: type) -> None:
        module = self._module(cls.__module__)
        unit = _locate(module, cls.__qualname__) if module is not None else None
        if unit is None:
            self._add_dynamic(cls)
            return
        self._add(self._side(unit))
        if "<locals>" in cls.__qualname__:  # what the enclosing call passed in is not in the source
            inside = {key: value for key, value in _plain_values(cls).items() if self._is_wanted(key.partition(".")[0])}
            values = {key: repr(value) for key, value in sorted(inside.items())}
            self._part(unit.module, f"{unit.qualname} (values)", source.digest([ast.Constant(repr(values))]))

    def _add_dynamic(self, cls: type) -> None:
        """A class without a source file (a notebook, `exec`): its bytecode, and what that names."""
        for name, value in dynamic.parts(cls, self._is_wanted):
            self.parts.setdefault(name, value)
        for reference, names in dynamic.references(cls, self._is_wanted):
            if isinstance(reference, types.ModuleType):
                self._follow_named(reference, names)
                continue
            if not self._is_own(reference.__module__):
                self._package(reference.__module__)
            elif not dynamic.is_task(reference):
                module = self._module(reference.__module__)
                unit = _locate(module, reference.__qualname__) if module is not None else None
                if unit is not None:
                    self._add(unit)

    def _follow_named(self, module: types.ModuleType, names: set[str]) -> None:
        """What bytecode that names a module and these attributes may use of it."""
        if not self._is_own(module.__name__):
            self._package(module.__name__)
            return
        for name in sorted(names & vars(module).keys()):
            value = vars(module)[name]
            if isinstance(value, types.ModuleType):
                self._follow_named(value, names - {name})
            else:
                self._follow_member(module.__name__, (name,))

    def _is_wanted(self, name: str) -> bool:
        """Whether a member of the class is on the side that is asked about: its checks, or all else."""
        return (name in self.checks) == self.of_checks

    def _side(self, unit: Unit) -> Unit:
        """The class, or the function that became one, without its checks, or these alone."""
        nodes = tuple(part for node in unit.nodes for part in self._side_of(node))
        return unit if nodes == unit.nodes else Unit(unit.module, unit.qualname, nodes, unit.scopes)

    def _side_of(self, node: ast.stmt) -> Iterator[ast.stmt]:
        if isinstance(node, ast.ClassDef):
            body = [one for one in node.body if self._is_wanted(_bound_name(one))]
            if self.of_checks:
                yield from (ast.ClassDef(name=node.name, bases=[], keywords=[], body=body, decorator_list=[]),)
            elif body == node.body:
                yield node
            else:
                told = {name: getattr(node, name) for name in node._fields}
                yield ast.ClassDef(**{**told, "body": body})
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [word for one in node.decorator_list if isinstance(one, ast.Call) for word in one.keywords]
            found = [word for word in given if word.arg == CHECKS]
            if self.of_checks:
                yield from (ast.Expr(value=word.value) for word in found)
            elif not found:
                yield node
            else:
                told = {name: getattr(node, name) for name in node._fields}
                decorators = [_without(one, CHECKS) for one in node.decorator_list]
                yield type(node)(**{**told, "decorator_list": decorators})
        elif not self.of_checks:
            yield node

    # -- one unit

    def _read(self, unit: Unit) -> None:
        references = source.References()
        for node in unit.nodes:
            for name, piece in _pieces(unit.qualname, node):
                self._part(unit.module, name, source.digest(piece))
            references.visit(node)
        for chain in references.names:
            self._follow(unit.module, unit.scopes, chain)
        for statement, chain in references.imports:
            self._follow_import(unit.module, statement, chain)

    def _part(self, module: Module, name: str, digest: str) -> None:
        label = name if module.name == self.cls.__module__ else f"{module.label}.{name}"
        if label in self.parts:  # defined twice (if/else, overloads): both count
            digest = source.digest([ast.Constant(self.parts[label] + digest)])
        self.parts[label] = digest

    def _add(self, unit: Unit) -> None:
        if unit.key not in self.seen:
            self.seen.add(unit.key)
            self.waiting.append(unit)

    # -- names to units

    def _follow(self, module: Module, scopes: tuple[Bindings, ...], chain: tuple[str, ...]) -> None:
        for depth, scope in enumerate(scopes):
            statements = scope.get(chain[0])
            if statements:
                prefix = "" if scope is module.bindings else "<locals>."
                self._follow_bound(module, scopes[depth:], statements, chain, prefix)
                return
        for star in module.stars:
            self._follow_member(module.import_source(star), chain)

    def _follow_bound(
        self,
        module: Module,
        scopes: tuple[Bindings, ...],
        statements: list[ast.stmt],
        chain: tuple[str, ...],
        prefix: str = "",
    ) -> None:
        own: list[ast.stmt] = []
        for statement in statements:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self._follow_import(module, statement, chain)
            elif not self._is_task(module, statement):
                own.append(statement)
            elif len(chain) > 1 and isinstance(statement, ast.ClassDef):
                self._follow_task_member(module, scopes, statement, chain)
        if own:
            self._add(Unit(module, prefix + chain[0], tuple(own), scopes))

    def _follow_task_member(
        self, module: Module, scopes: tuple[Bindings, ...], cls: ast.ClassDef, chain: tuple[str, ...]
    ) -> None:
        """`OtherTask.helper`: that function or constant only; parameters and Luigi's methods are its own affair."""
        members = source.bindings_of(cls.body).get(chain[1], [])
        if members and chain[1] not in ("run", "requires", "output", "input"):
            self._add(Unit(module, f"{chain[0]}.{chain[1]}", tuple(members), scopes))

    def _follow_import(self, module: Module, statement: ast.Import | ast.ImportFrom, chain: tuple[str, ...]) -> None:
        for alias in statement.names:
            if (alias.asname or alias.name.split(".")[0]) != chain[0]:
                continue
            if isinstance(statement, ast.ImportFrom):
                self._follow_member(module.import_source(statement), (alias.name, *chain[1:]))
            elif alias.asname:
                self._follow_module(alias.name, chain[1:])
            else:
                self._follow_module(chain[0], chain[1:])

    def _follow_module(self, name: str, rest: tuple[str, ...]) -> None:
        if rest:
            self._follow_member(name, rest)
        elif not self._is_own(name):
            self._package(name)
        else:  # the module itself is handed on: all of it counts
            whole = self._module(name)
            for bound in whole.bindings if whole is not None else ():
                self._follow_member(name, (bound,))

    def _follow_member(self, module_name: str, chain: tuple[str, ...]) -> None:
        if not self._is_own(module_name):
            self._package(module_name)
            return
        module = self._module(module_name)
        if module is None:
            return
        statements = module.bindings.get(chain[0])
        if statements:
            key = (module.name, "import " + ".".join(chain), 0)
            if key not in self.seen:  # modules may import from each other in a circle
                self.seen.add(key)
                self._follow_bound(module, (module.bindings,), statements, chain)
        elif self._module(f"{module_name}.{chain[0]}") is not None:
            self._follow_module(f"{module_name}.{chain[0]}", chain[1:])
        else:
            for star in module.stars:
                self._follow_member(module.import_source(star), chain)

    # -- judgements

    def _module(self, name: str) -> Module | None:
        if name not in self.modules:
            own = bool(name) and source.is_own_file(source.file_of(name), name, self.home)
            self.modules[name] = source.load(name) if own else None
        return self.modules[name]

    def _is_own(self, module_name: str) -> bool:
        if module_name == "__main__" or self._module(module_name) is not None:
            return True
        module = sys.modules.get(module_name)  # a module made in memory has no file: exec, notebooks
        return module_name == self.cls.__module__ and getattr(module, "__file__", None) is None

    def _package(self, module_name: str) -> None:
        top = module_name.split(".")[0]
        if top and top not in sys.stdlib_module_names and top != "__main__":
            self.packages.add(top)

    def _is_task(self, module: Module, statement: ast.stmt, depth: int = 0) -> bool:
        """Whether a statement defines a task, judged without importing anything."""
        if isinstance(statement, ast.ClassDef):
            return any(self._names_a_task(module, base, depth) for base in statement.bases)
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return any(_called_name(one) in _TASK_MAKERS for one in statement.decorator_list)
        value = getattr(statement, "value", None)
        return isinstance(value, ast.Call) and _called_name(value) in _TASK_MAKERS

    def _names_a_task(self, module: Module, base: ast.expr, depth: int) -> bool:
        if isinstance(base, ast.Subscript):
            base = base.value
        name = _called_name(base)
        if depth > 50 or not name:
            return False
        if isinstance(base, ast.Name):
            found = [one for one in module.bindings.get(name, ()) if not isinstance(one, (ast.Import, ast.ImportFrom))]
            if found:
                return any(self._is_task(module, one, depth + 1) for one in found)
        return "Task" in name or self._imported_task(module, base, depth)

    def _imported_task(self, module: Module, base: ast.expr, depth: int) -> bool:
        """A base class that another of the user's modules defines under a name that does not say "Task"."""
        references = source.References()
        references.visit(base)
        for chain in references.names:
            for statement in module.bindings.get(chain[0], ()):
                if isinstance(statement, ast.ImportFrom):
                    other = self._module(module.import_source(statement))
                    if other is not None:
                        return any(self._is_task(other, one, depth + 1) for one in other.bindings.get(chain[-1], ()))
        return False


def _bound_name(statement: ast.stmt) -> str:
    """The name that a statement of a class body binds, if it is one."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        return target.id if isinstance(target, ast.Name) else ""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return str(getattr(statement, "name", ""))


def _without(decorator: ast.expr, keyword: str) -> ast.expr:
    if not isinstance(decorator, ast.Call):
        return decorator
    kept = [word for word in decorator.keywords if word.arg != keyword]
    return ast.Call(func=decorator.func, args=decorator.args, keywords=kept)


def _called_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _pieces(qualname: str, node: ast.stmt) -> Iterator[tuple[str, list[ast.AST]]]:
    """A class comes apart into its methods and the rest, so that `why` can name the one that changed."""
    if not isinstance(node, ast.ClassDef):
        yield qualname, [node]
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    methods = [one for one in node.body if isinstance(one, functions)]
    rest = [one for one in node.body if not isinstance(one, functions)]
    shell = ast.ClassDef(
        name=node.name, bases=node.bases, keywords=node.keywords, body=rest, decorator_list=node.decorator_list
    )
    yield qualname, [shell]
    for method in methods:
        yield f"{qualname}.{method.name}", [method]


def _locate(module: Module, qualname: str) -> Unit | None:
    """The unit of a (possibly nested) class or function, with the scopes that surround it."""
    scopes: tuple[Bindings, ...] = (module.bindings,)
    inside = module.bindings
    found: list[ast.stmt] = []
    for name in qualname.split("."):
        if name == "<locals>":
            scopes = (inside, *scopes)
            continue
        found = [one for one in inside.get(name, ()) if not isinstance(one, (ast.Import, ast.ImportFrom))]
        if not found:
            return None
        bodies: Iterable[ast.stmt] = [s for one in found for s in getattr(one, "body", ())]
        inside = source.bindings_of(bodies)
    return Unit(module, qualname.replace("<locals>.", ""), tuple(found), scopes) if found else None


def _plain_values(cls: type) -> dict[str, Any]:
    """Simple class attributes and closure values: what a function that makes classes filled in."""
    values = {
        key: value for key, value in vars(cls).copy().items() if isinstance(value, _SIMPLE) and not key.startswith("_")
    }
    for function in list(vars(cls).values()):
        function = getattr(function, "__wrapped__", function)
        if isinstance(function, types.FunctionType):
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
                try:
                    value = cell.cell_contents
                except ValueError:
                    continue  # not assigned yet
                if isinstance(value, _SIMPLE):
                    values[f"{function.__name__}.{name}"] = value
    return values

"""What goes wrong in `run` when a task is written wrongly, in words that say what to write."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import USERS_CODE, DefinitionError, TargetKindError
from superluigi.lineage.code_fingerprint.source import syntax_tree
from superluigi.runs import tracebacks


@contextlib.contextmanager
def explained(task: Any, stages: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Errors that come of a task in the place of its data, or of a file in the place of a folder, say so.

    Raises:
        DefinitionError: `run` has used a task as if it were the task's output.
        TargetKindError: it wrote a file where a folder is expected, or the reverse.
    """
    try:
        yield
    except (TypeError, AttributeError) as error:
        advice = None if isinstance(error, DefinitionError) else _task_as_data(task, error) or _not_called(task, error)
        if advice is None:
            raise
        raise DefinitionError(advice) from error
    except (IsADirectoryError, NotADirectoryError, FileNotFoundError) as error:
        advice = _other_kind(task, error, stages())
        if advice is None:
            raise
        raise TargetKindError(advice) from error


def _task_as_data(task: luigi.Task, error: BaseException) -> str | None:
    words = set(re.findall(r"\w+", str(error)))
    for name, found in _tasks_in_frames(error.__traceback__):
        kind = found if isinstance(found, type) else type(found)
        if found is not task and kind.__name__ in words and not isinstance(task, kind):
            what = f"{name}, the task {found!r}," if not isinstance(found, type) else f"a task {kind.__name__}"
            return (
                f"run() of {task} uses {what} as if it were the task's data ({error}). Ask for it: "
                f"`path = yield {kind.__name__}(…)` gives the path of its output; or let requires() return it, and "
                "take `input_path` or `inputs`."
            )
    return None


_METHODS = re.compile(r"\bself\.(input|output|requires|complete)\b(?!\s*\()")


def _not_called(task: luigi.Task, error: BaseException) -> str | None:
    """A method that was used without its parentheses, or a target in the place of its path."""
    frame = next(iter(tracebacks.users_frames(tracebacks.text_of(error))[-1:]), None)
    if frame is None:
        return None
    found = _METHODS.search(frame.code)
    if found and re.search(r"\b(method|function)\b", str(error)):
        name = found[1]
        return f"run() of {task} uses self.{name}, a method, without calling it ({error}). Write self.{name}()."
    if re.search(r"os\.PathLike|path should be|expected str", str(error)):
        words, targets = set(re.findall(r"\w+", str(error))), []
        with USERS_CODE:
            targets = graph.flatten([task.output(), task.input()])
        kinds = {type(one).__name__ for one in targets if isinstance(one, luigi.Target)}
        if kinds & words:
            return (
                f"run() of {task} uses a target as if it were a path ({error}). Take `input_path` or `output_path` in "
                "run(), or write target.path."
            )
    return None


def _tasks_in_frames(trace: TracebackType | None) -> Iterator[tuple[str, object]]:
    """Tasks and task classes that the user's frames name."""
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if tracebacks.is_of_library(frame.f_code.co_filename):
            continue
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, luigi.Task):
                yield name, value
        for name in frame.f_code.co_names:
            if _is_task_class(frame.f_globals.get(name)):
                yield name, frame.f_globals[name]


def _other_kind(task: luigi.Task, error: OSError, stages: Iterable[Path]) -> str | None:
    if not isinstance(error.filename, (str, os.PathLike)):
        return None
    path = Path(os.fspath(error.filename))
    for stage in stages:
        if path == stage and stage.is_dir():
            return (
                f"run() of {task} writes a file where its output is a folder ({stage.name}). Write files in it, as in "
                "output_path / 'part.csv'; or let output() give a target of one file or object."
            )
        if stage in path.parents and not stage.is_dir():
            return (
                f"run() of {task} writes {path.relative_to(stage)} into its output {stage.name}, which is to be one "
                "file. Write output_path itself; or let output() give a LocalFolderTarget or S3PrefixTarget."
            )
    return None


@functools.lru_cache(maxsize=4096)
def refuse_dropped(run: Any, requires: Any) -> None:
    """Refuse a statement that makes a task and nothing of it (a `yield` or `return` is missing), or asks a method.

    Raises:
        DefinitionError: names the method, the class and the line.
    """
    for name, method in (("run", run), ("requires", requires)):
        found = _dropped(inspect.unwrap(method)) if callable(method) else None
        if found is not None:
            made, place = found
            instead = f"`path = yield {made}(…)`" if name == "run" else f"`return {made}(…)`"
            raise DefinitionError(
                f"{method.__qualname__} makes a task {made} and does nothing with it ({place}): that runs nothing. "
                f"Write {instead}."
            )
        untested = _untested(inspect.unwrap(method)) if callable(method) else None
        if untested is not None:
            asked, place = untested
            raise DefinitionError(
                f"{method.__qualname__} asks whether {asked} is true ({place}): a method always is. Write {asked}()."
            )


def _untested(method: Any) -> tuple[str, str] | None:
    """A method of a target or a task that is asked for its truth and not called: that is always true."""
    code = getattr(method, "__code__", None)
    if code is None or not _ASKED & set(code.co_names):
        return None
    nodes, lines_above = _nodes_of(method)
    for node in nodes:
        tests: list[ast.expr] = []
        if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
            tests = [node.test]
        elif isinstance(node, ast.BoolOp):
            tests = node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            tests = [node.operand]
        for test in tests:
            if isinstance(test, ast.Attribute) and test.attr in _ASKED and _is_targets(test.value):
                return ast.unparse(test), f"{code.co_filename}:{lines_above + test.lineno}"
    return None


def _nodes_of(method: Any) -> tuple[list[ast.AST], int]:
    """The syntax of a method and how many lines of its file stand above it; none where there is no source to read."""
    try:
        lines, first = inspect.getsourcelines(method)
        return list(ast.walk(syntax_tree(textwrap.dedent("".join(lines))))), first - 1
    except (OSError, TypeError, SyntaxError):
        return [], 0


_ASKED = {"exists", "complete"}


def _is_targets(node: ast.expr) -> bool:
    """`self.output()`, `self.input()[0]` and the like."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    return node.func.attr in ("output", "input", "requires") and isinstance(owner, ast.Name) and owner.id == "self"


def _dropped(method: Any) -> tuple[str, str] | None:
    code = getattr(method, "__code__", None)
    if code is None:
        return None
    cells = zip(code.co_freevars, getattr(method, "__closure__", None) or (), strict=False)
    known = {**{name: method.__globals__.get(name) for name in code.co_names}, **_contents(cells)}
    classes = {name for name, value in known.items() if _is_task_class(value)}
    if not classes:
        return None
    nodes, lines_above = _nodes_of(method)
    for node in nodes:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in classes:
            return call.func.id, f"{code.co_filename}:{lines_above + call.lineno}"
    return None


def _contents(cells: Iterable[tuple[str, Any]]) -> dict[str, object]:
    found = {}
    for name, cell in cells:
        with contextlib.suppress(ValueError):  # empty
            found[name] = cell.cell_contents
    return found


def _is_task_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, luigi.Task)

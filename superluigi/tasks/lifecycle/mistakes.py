"""What goes wrong in `run` when a task is written wrongly, in words that say what to write."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import USERS_CODE, DefinitionError, SuperLuigiError, TargetKindError
from superluigi.lineage.code_fingerprint.source import syntax_tree
from superluigi.runs import tracebacks
from superluigi.tasks.values import LazyDict, LazyList


@contextlib.contextmanager
def explained(task: Any, stages: Callable[[], Iterable[Path]], offered: Mapping[str, object]) -> Iterator[None]:
    """Errors that come of a task in the place of its data, of what `run` was `offered` in the place of something of
    another shape, or of a file in the place of a folder, say so.

    Raises:
        DefinitionError: `run` has used a task as if it were the task's output, or a list of paths as if it were one.
        TargetKindError: it has taken a file for a folder, or the reverse.
    """
    try:
        yield
    except (TypeError, AttributeError, ValueError) as error:
        advice = None if isinstance(error, SuperLuigiError) else _advice(task, error, offered)
        if advice is None:
            raise
        raise DefinitionError(advice) from error
    except (IsADirectoryError, NotADirectoryError, FileNotFoundError) as error:
        advice = _other_kind(task, error, stages()) or _other_kind_of_input(task, error, offered)
        if advice is None:
            raise
        raise TargetKindError(advice) from error


def _advice(task: luigi.Task, error: Exception, offered: Mapping[str, object]) -> str | None:
    if "only works in main thread" in str(error):
        return (
            f"run() of {task} sets signal handlers ({error}), and an executor runs it in a thread. Write "
            "executor = 'processes' in the class; in the place of luigi.build(), run_task() sets none."
        )
    if isinstance(error, ValueError):  # what pandas raises for a list of paths
        return _other_shape(task, error, offered) if "<class '" in str(error) else None
    return _task_as_data(task, error) or _not_called(task, error) or _other_shape(task, error, offered)


#: What `run` is offered, and which method of the task gives it its shape.
_SHAPED_BY = {"input_path": "requires()", "inputs": "requires()", "output_path": "output()"}


def _other_shape(task: luigi.Task, error: Exception, offered: Mapping[str, object]) -> str | None:
    """What `run` was offered, used as if it were something else: a list of paths as a path, a path as a text."""
    if "output_path" in offered and offered["output_path"] is None and "NoneType" in str(error):
        return (
            f"run() of {task} uses output_path, which is None, since output() of {task} gave None ({error}). "
            "Does output() end with `return` and a target?"
        )
    code = "".join(frame.code for frame in tracebacks.users_frames(tracebacks.text_of(error))[-1:])
    for name, value in offered.items():
        if isinstance(error, AttributeError) and error.obj is not None:
            used = error.obj is value
        else:  # of a dict there may be others in the line
            used = bool(re.search(rf"\b{type(value).__name__}\b", str(error)))
            used = used and (name != "metadata" or isinstance(error, AttributeError))
        what = _shape_of(name, value) if used and re.search(rf"\b{name}\b", code) else None
        if what is not None:
            return f"run() of {task} uses {name} as what it is not ({error}). It is {what}."
    return None


def _shape_of(name: str, value: object) -> str | None:
    """What a value is and how it is used, if that follows from how the task is written."""
    giver = _SHAPED_BY.get(name)
    if name == "metadata":
        return "a dict: write metadata['rows'] = …"
    if giver is None:
        return None
    if isinstance(value, Path):
        return f"a path: write open({name}) or str({name}){', or take `inputs`, the value' if 'in' in name else ''}"
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes)):
        if name == "inputs" and not isinstance(value, (LazyDict, LazyList)):
            return None  # a value of the user's
        if not value:
            return f"empty, since {giver} gives nothing"
        if isinstance(value, Mapping):
            keys = ", ".join(map(repr, list(value)[:5]))
            return f"a dict with {keys}, as {giver} gives it: write {name}[{next(iter(value))!r}]"
        return f"a list of {len(value)}, as {giver} gives it: write {name}[0]"
    return None


def _task_as_data(task: luigi.Task, error: BaseException) -> str | None:
    words = set(re.findall(r"\w+", str(error)))
    for name, found in _tasks_in_frames(task, error.__traceback__):
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
    if isinstance(getattr(error, "obj", None), luigi.Target) or re.search(
        r"os\.PathLike|path should be|expected str", str(error)
    ):
        words, targets = set(re.findall(r"\w+", str(error))), []
        with USERS_CODE:
            targets = graph.flatten([task.output(), task.input()])
        kinds = {type(one).__name__ for one in targets if isinstance(one, luigi.Target)}
        if kinds & words:
            return (
                f"run() of {task} uses a target as if it were a path or a file ({error}). Take `input_path`, `inputs` "
                "or `output_path` in run(), or write target.path."
            )
    return None


def _tasks_in_frames(task: luigi.Task, trace: TracebackType | None) -> Iterator[tuple[str, object]]:
    """Tasks and task classes that the user's frames name."""
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if tracebacks.is_of_library(frame.f_code.co_filename):
            continue
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, luigi.Task):
                yield name, value
        if "requires" in frame.f_code.co_names:
            yield from (("self.requires()", one) for one in graph.flatten(task.requires()))
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
        if stage in path.parents and not stage.is_dir() and stage.parent.is_dir():
            return (
                f"run() of {task} writes {path.relative_to(stage)} into its output {stage.name}, which is to be one "
                "file. Write output_path itself; or let output() give a LocalFolderTarget or S3PrefixTarget."
            )
    return None


def _other_kind_of_input(task: luigi.Task, error: OSError, offered: Mapping[str, object]) -> str | None:
    if not isinstance(error.filename, (str, os.PathLike)):
        return None
    path = Path(os.fspath(error.filename))
    for one in graph.flatten(offered.get("input_path")):
        if path == one and one.is_dir():
            return (
                f"run() of {task} reads its input {one.name} as a file, but it is a folder. Read files in it, as in "
                "input_path / 'part.csv'."
            )
        if isinstance(one, Path) and one in path.parents and one.is_file():
            return (
                f"run() of {task} looks for {path.relative_to(one)} in its input {one.name}, but that is one file. "
                "Read input_path itself; or let the required task make a folder."
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

"""Rule: what one Python stored, another reads or refuses with advice; nothing crashes, and code does not change."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from superluigi.errors import ExecutionError
from superluigi.execution import pickling
from superluigi.lineage.code_fingerprint.source import digest
from superluigi.queue import Queue
from superluigi.tasks import Task


def made_here() -> type:
    class Local:
        def told(self) -> str:
            return "by value"

    return Local


@pytest.mark.parametrize(
    "value",
    [lambda: 1, made_here(), made_here()(), [{"a": functools.partial(lambda x: x, 1)}]],
    ids=["function", "class", "instance", "inside"],
)
def test_code_of_another_python_is_refused_with_what_to_do(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    same = pickling.by_value(value)
    with monkeypatch.context() as patch:
        patch.setattr(pickling, "_PYTHON", "3.9")
        other = pickling.by_value(value)
    pickling.loads(same)
    with pytest.raises(ExecutionError, match=r"by Python 3\.9, and this is Python 3\..*submit again"):
        pickling.loads(other)


def test_a_queued_task_whose_code_another_python_pickled_fails_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class InMain(Task):
        def run(self) -> None:
            Path("made").touch()

    with Queue("./by_value.sqlite") as queue:
        with monkeypatch.context() as patch:
            patch.setattr(pickling, "_PYTHON", "3.9")
            queue.submit(InMain(), by_value=True)
        queue.spawn(workers=1)
        (row,) = queue.tasks()
        assert row.state == "FAILED" and "by Python 3.9" in str(row.error)
    assert not Path("made").exists()


def with_empty_texts(tree: ast.AST) -> ast.AST:
    """As Python 3.12.0 reads it: what a nested format ends with is an empty text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))
    return tree


@pytest.mark.parametrize("text", ["f'{x:>{width}}'", "f'{x!r:{width}.{places}f}'", "f''", "f'a{x}'", "f'{x:%Y}' 'b'"])
@pytest.mark.parametrize("around", [str, "def f(x):\n    return {}\n".format, "class A:\n    b = [{}]\n".format])
def test_the_digest_of_a_format_in_a_format_is_that_of_every_python(text: str, around: Callable[[str], str]) -> None:
    code = around(text)
    assert digest([ast.parse(code)]) == digest([with_empty_texts(ast.parse(code))])
    assert digest([ast.parse(code)]) != digest([ast.parse(around("''"))])

"""What data says is shown on a terminal, never obeyed; JSON stays exact."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import superluigi
from superluigi import cli, terminal
from superluigi.cli import _output
from superluigi.runs import logs as _logs  # noqa: F401 -- puts the filter on Luigi's logger

OBEYED = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\x7f\u202eevil\u2066\u200f\u2028\ud800\0"


@given(st.text() | st.text(alphabet=OBEYED + "ab\n\t[31m;"))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for shown in (terminal.visible(text), terminal.visible(text, one_line=True)):
        assert not any(character in shown for character in OBEYED if not character.isalnum() and character not in "];[")
    assert "\n" not in terminal.visible(text, one_line=True)
    rest = terminal._LOOKS.sub("", terminal.visible_but_looks(text))
    assert "\x1b" not in rest and "\r" not in rest


@given(
    st.recursive(
        st.none() | st.text() | st.text(alphabet=OBEYED), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_is_exact_and_can_be_seen(value: object) -> None:
    shown = terminal.visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    assert terminal.visible(shown) == shown


def test_what_can_be_seen_stays_as_it_is() -> None:
    text = "ä 漢字 🦆 a\tb\nc \\x1b 'quoted'"
    assert terminal.visible(text) == text
    assert terminal.visible_but_looks("\x1b[1;31mred\x1b[0m 10%\r20%\r\nend") == "\x1b[1;31mred\x1b[0m 10%\n20%\nend"


WIDE = "日本🎉e\u0301\u200d\ufe0f ab/-"


@given(
    st.lists(st.tuples(st.text(alphabet=WIDE), st.sampled_from(["", "red"]))), st.integers(20, 60), st.integers(0, 30)
)
@example([("aaaaaaaaa 日日日日", ""), ("aaaaaaaaa日日日日日日", "")], 20, 18)
def test_long_lines_are_broken_between_words_by_the_columns_they_take(
    parts: list[terminal.Part], width: int, indent: int
) -> None:
    whole = "".join(text for text, _ in parts)
    lines = list(terminal.wrapped_parts(parts, width, " " * indent))
    texts = ["".join(part if isinstance(part, str) else part[0] for part in line) for line in lines]
    assert " ".join(texts).split() == whole.split() or len(lines) > 1  # a line may end between two parts
    assert "".join(texts).replace(" ", "") == whole.replace(" ", "")
    for text in texts:
        assert terminal.cells(text) <= max(width, indent + 20) or len(text.split()) <= 1
    assert all(text.startswith(" " * indent) for text in texts[1:])
    assert list(terminal.wrapped_parts(parts, None)) == [[(text, style) for text, style in parts]]


@given(st.text(alphabet=WIDE), st.integers(1, 40))
def test_what_is_cut_in_the_middle_takes_no_more_columns_than_it_may(text: str, width: int) -> None:
    cut = terminal.cut_middle(text, width)
    assert terminal.cells(cut) <= width
    assert cut == text or (cut.count("…") == 1 and text.startswith(cut.partition("…")[0]))


def test_characters_take_as_many_columns_as_a_terminal_gives_them() -> None:
    assert [terminal.cells(text) for text in ("ab", "日本", "e\u0301", "🎉", "a\u200db")] == [2, 4, 1, 2, 2]


def test_lists_to_be_confirmed_cannot_be_rewritten_by_what_they_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _output.confirmed("remove it", yes=True, items=[f"a{OBEYED}\n  b"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and terminal.visible(said) == said
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert _output.confirmed(f"remove {OBEYED}", yes=False)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [("run", OBEYED), (OBEYED,), ("config", OBEYED), ("queue", "tasks", OBEYED)])
def test_no_error_of_a_command_reaches_a_terminal_raw(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) in (1, 2)
    said = capsys.readouterr()
    assert terminal.visible(said.err) == said.err and terminal.visible(said.out) == said.out and said.err


def test_an_error_of_no_kind_of_ours_ends_a_command_as_python_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise ZeroDivisionError(OBEYED)

    monkeypatch.setattr(cli, "_dispatch", fails)
    assert cli.main(["run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "ZeroDivisionError" in said and terminal.visible(said) == said


def test_lines_of_luigis_log_are_shown_not_obeyed() -> None:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    logger, handler = logging.getLogger("luigi-interface"), Handler()
    logger.addHandler(handler)
    try:
        logger.warning("%s failed", OBEYED)
        try:
            raise ValueError(OBEYED)
        except ValueError:
            logger.exception("task %d of %d", 1, 2)
    finally:
        logger.removeHandler(handler)
    assert len(lines) == 2 and "task 1 of 2" in lines[1] and "ValueError" in lines[1]
    assert all(terminal.visible(line) == line for line in lines)


def test_one_place_prints() -> None:
    root = Path(str(superluigi.__file__)).parent
    for file in [*(root / "cli").glob("*.py"), root / "task_runner.py", root / "worker_process" / "main.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            called = getattr(node, "func", None) if isinstance(node, ast.Call) else None
            printing = isinstance(called, ast.Name) and called.id == "print"
            writing = (
                isinstance(called, ast.Attribute)
                and called.attr in ("write", "writelines")
                and "std" in ast.dump(called)
            )
            assert not printing and not writing, (file, getattr(node, "lineno", 0))


def test_a_command_line_that_cannot_be_read_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nosuch"], ["run"], ["queue"], ["queue", "tasks"], ["queue", "nosuch"], ["ui", "--nosuch"]):
        assert cli.main(words) == 2, words
        assert capsys.readouterr().err

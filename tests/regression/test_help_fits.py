"""Help fits the terminal, whatever command it is of; examples can be copied, so their lines stay whole."""

from __future__ import annotations

import pytest

from superluigi import cli


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", "queue submit", *cli.command_lines()])
def test_no_line_of_help_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main([*command.split(), "--help"]) == 0
    text, _, example = capsys.readouterr().out.partition("\nexample:\n")
    words = text.partition("\n\n")[2]  # behind the usage, which argparse wraps
    assert not [line for line in words.splitlines() if len(line) > columns]
    shown = getattr(cli.load_command(command), "EXAMPLE", "") if command in cli.command_lines() else ""
    assert all(line in example for line in shown.splitlines())

"""Every command's `--json` is one document that its schema describes, also when the command cannot answer."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from superluigi import cli, errors
from superluigi.cli import _output
from superluigi.cli._parser import Parser

PIPELINE = """
from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


class One(AtomicTaskWithMetadata):
    n: Param[int] = 1

    def output(self):
        return LocalFileTarget(f"one-{self.n}.txt")

    def run(self, output_path, metadata):
        metadata["note"] = ["a"]
        if self.n == 9:
            raise ValueError("no")
        output_path.write_text(str(self.n))


class Two(AtomicTaskWithMetadata):
    def requires(self):
        return [One(n=1), One(n=9)]

    def run(self):
        return 1
"""
M = "json_of_test"
SCHEMAS = {
    file.name.removesuffix(".json"): json.loads(file.read_text())
    for file in (resources.files("superluigi.cli") / "schemas").iterdir()
}
#: Command lines after a run, and whether they can answer (their exit code is 0 or 1 then).
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "status": [("status", M, "Two"), ("status", M, "Two", "--stale")],
    "why": [("why", M, "Two"), ("why", M, "Two", "--refresh", "code", "--stale")],
    "ls": [("ls",), ("ls", M, "Two", "--upstream")],
    "rm": [("rm", M, "One", "--n", "3", "--dry-run"), ("rm", M, "One", "--n", "3", "--yes")],
    "verify": [("verify", ".")],
    "config": [("config",), ("config", "store")],
    "clean": [("clean", ".")],
    "ui": [("ui", "--list")],
    "check": [("check", M, "Two", "--upstream")],
    "show": [("show", M, "One")],
    "accept": [("accept", M, "One", "--why", "a test", "--yes")],
    "adopt": [("adopt", M, "One", "--n", "5", "--yes")],
    "lineage": [("lineage", "one-1.txt")],
    "lineage-diff": [("lineage", "--diff", "one-1.txt", "one-2.txt")],
    "cache-info": [("cache", "info")],
    "cache-list": [("cache", "list")],
    "cache-verify": [("cache", "verify")],
    "cache-prune": [("cache", "prune", "--to", "1GB")],
    "cache-clear": [("cache", "clear", "--yes")],
    "quarantine-list": [("quarantine", "list")],
    "quarantine-show": [("quarantine", "show")],
    "quarantine-clear": [("quarantine", "clear", "--yes")],
    "queue-list": [("queue", "list", "q.sqlite")],
    "queue-tasks": [("queue", "tasks", "q.sqlite")],
    "queue-time": [("queue", "time", "q.sqlite")],
}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    (tmp_path / f"{M}.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("SUPERLUIGI_LOCAL_DATA_DIR", str(tmp_path / "copies"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")

    def called(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = cli.main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return called


def described(name: str, document: Any) -> None:
    jsonschema.validate(document, SCHEMAS[name], cls=jsonschema.Draft202012Validator)


def test_every_command_with_json_has_a_schema_and_a_test() -> None:
    def named(parser: Parser, name: str) -> list[str]:
        below = [one for group in parser.subcommands for one in group.items()]
        if below:
            return [found for verb, part in below for found in named(part, f"{name}-{verb}")]
        if "--json" not in parser.flags:
            return []
        actions = [one for one in parser._actions if one.dest == "action" and one.choices]
        return [f"{name}-{choice}" for one in actions for choice in one.choices or ()] or [name]

    found = {name for command in cli.command_lines() for name in named(cli.command_parser(command), command)}
    assert found | {"lineage-diff", "error"} == set(SCHEMAS)
    assert set(COMMANDS) == set(SCHEMAS) - {"error"}
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_commands_print_is_what_their_schemas_say(call: Callable[..., Any]) -> None:
    for n in ("1", "2", "3"):
        assert cli.main(["run", M, "One", "--n", n]) == 0
    assert cli.main(["run", M, "Two"]) == 1
    assert cli.main(["queue", "submit", "q.sqlite", M, "One", "--n", "4"]) == 0
    assert cli.main(["queue", "spawn", "q.sqlite", "--workers", "1"]) == 0
    Path("one-5.txt").write_text("made by hand")
    for name, lines in COMMANDS.items():
        for words in lines:
            code, document = call(*words)
            assert code in (0, 1), words
            assert not (isinstance(document, dict) and "error" in document), document
            described(name, document)
            if name in ("status", "why", "ls", "verify", "config", "queue-list", "queue-tasks", "queue-time"):
                assert document or words != lines[-1], words  # else nothing was compared


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (("show", M, "Two"), 1, "target_missing"),
        (("status", M, "Nothing"), 1, "parameter"),
        (("status", "no_such_module", "One"), 1, "parameter"),
        (("status", M, "One", "--m", "3"), 2, "usage"),
        (("status", M, "One", "--n", "three"), 2, "usage"),
        (("cache", "prune", "--to", "much"), 2, "usage"),
        (("config", "no_such_setting"), 1, "config"),
        (("lineage", "nowhere.txt"), 1, "target_missing"),
        (("queue", "tasks", "nowhere.sqlite"), 1, "queue_gone"),
        (("status",), 2, "usage"),
        (("nosuch",), 2, "usage"),
        (("rm", M, "One", "--n", "3"), 1, "option"),
    ],
)
def test_an_error_is_json_with_a_stable_code(
    call: Callable[..., Any], words: tuple[str, ...], exit_code: int, code: str
) -> None:
    if words[0] == "rm":
        assert cli.main(["run", M, "One", "--n", "3"]) == 0
    found, document = call(*words)
    described("error", document)
    assert (found, document["error"]["code"]) == (exit_code, code), document
    assert document["error"]["message"]


def test_every_error_class_has_a_code_of_its_own() -> None:
    kinds = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SuperLuigiError)
    ]
    codes = {kind: _output.error_code(kind) for kind in kinds if kind is not errors.SuperLuigiError}
    assert len(set(codes.values())) == len(codes)
    assert codes[errors.TaskFailedError] == "task_failed" and codes[errors.GracefulTimeout] == "graceful_timeout"

    class Special(errors.TaskFailedError):
        pass

    assert _output.error_code(Special) == "task_failed"
    assert _output.error_code(ZeroDivisionError) == "unexpected"
    assert _output.error_code(KeyboardInterrupt) == "interrupted"

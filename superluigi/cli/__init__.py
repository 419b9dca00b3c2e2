"""The command line: `superluigi COMMAND …`; one file a command, found by its name.

How to add the command `superluigi hello`: write `superluigi/cli/hello.py`, nothing else.

    \"\"\"Greet a user.                                   <- first line of the file: the line in --help

    What the command does and promises.                   <- the rest: shown by `superluigi hello --help`
    \"\"\"
    EXAMPLE = "superluigi hello --name Ada"                <- shown at the end of its help; several lines are fine

    def configure(parser: Parser) -> None:                 <- adds arguments; imports nothing heavy
        parser.add_argument("--name", default="you")

    def main(args: argparse.Namespace) -> int:             <- does it, returns the exit code
        say(f"hello {args.name}")
        return 0

Rules that all commands keep:

- Importing a command's file is cheap; luigi, boto3, pandas and rich are imported inside functions.
- A user's mistake is an error of `superluigi.errors`, raised; `main` below prints it as advice. An `OptionError` that
  no code of the user's raised is a mistake of the command line, as `UsageError` is.
- What is wanted goes to stdout, everything else (errors, questions, progress) to stderr.
- `MODULE TASK --param value …` comes from `_tasks.task_arguments(parser)` and `_tasks.task_of(args)`.
- `_output.json_option(parser)` adds `--json`, `_output.print_json(value)` answers it: one JSON document, whose schema
  is `schemas/COMMAND.json` (or `COMMAND-ACTION.json`); an error is `{"error": {"code", "message"}}`.
- Tables come from `_output.table(headers, rows)`, paths in them from `_output.shortened(paths)`.
- Lines with colours come from `_output.line()`: only on a terminal, and not with NO_COLOR.
- What destroys lists first and asks: `_output.confirmed("remove 3 outputs", yes=args.yes)`.
- Exit codes: 0 done; 1 something failed, is wrong or does not exist; 2 the command line cannot be read; 130
  interrupted.
- Nothing prints but `superluigi.terminal.say`, `_output.line` and `_output.print_json`: what data says is shown there,
  never obeyed.

Files whose names begin with an underscore are shared helpers.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from superluigi import terminal
from superluigi.arguments import refuse_removed_folder
from superluigi.cli import _output
from superluigi.cli._parser import Ended, Parser, UsageError, similar
from superluigi.errors import (
    OptionError,
    StorageAccessError,
    SuperLuigiError,
    TargetError,
    message_of,
    met_users_code,
    traceback_of,
)
from superluigi.luigi_compat import configuration, lean_import
from superluigi.terminal import cut_middle, room, same_place, say, visible_record, wrapped

#: The order in which help shows commands: as one meets them. Others follow by name.
ORDER = (
    "run",
    "status",
    "why",
    "graph",
    "ls",
    "logs",
    "lineage",
    "verify",
    "check",
    "quarantine",
    "rm",
    "clean",
    "cache",
)
EXIT_CODES = (
    "exit codes: 0 done · 1 something failed, is wrong or does not exist · 2 the command line cannot be read · "
    "130 interrupted"
)


def command_lines() -> dict[str, str]:
    """Every command with its line of help, read from the first lines of their files: nothing is imported."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        with file.open(encoding="utf-8") as stream:
            found[file.stem.replace("_", "-")] = stream.readline().strip().strip('"')
    return {name: found[name] for name in (*ORDER, *sorted(found.keys() - set(ORDER)))}


def load_command(name: str) -> Any:
    """The module of one command.

    Raises:
        UsageError: there is no such command; the message suggests the nearest one.
    """
    known = command_lines()
    if name not in known:
        raise UsageError(f"superluigi: there is no command {name!r}{similar(name, known) or '.'} {_ALL}")
    return importlib.import_module(f"superluigi.cli.{name.replace('-', '_')}")


_ALL = "`superluigi --help` lists all."
_SHOWN = 200  # characters of a path


def command_parser(name: str) -> Parser:
    """The parser of one command, with its help and example."""
    module = load_command(name)
    parser = Parser(prog=f"superluigi {name}", description=module.__doc__)
    example = getattr(module, "EXAMPLE", "")
    indented = "".join(f"  {line}\n" for line in example.strip().splitlines())
    parser.epilog = (f"example:\n{indented}\n" if indented else "") + EXIT_CODES
    module.configure(parser)
    return parser


def _help() -> str:
    commands = command_lines()
    width = max(map(len, commands)) + 2
    indent = " " * (width + 2)
    told = (wrapped(f"  {name:<{width}}{line}", room(), indent) for name, line in commands.items())
    lines = "\n".join(line for several in told for line in several)
    return (
        "usage: superluigi COMMAND …\n\n"
        "Luigi pipelines whose outputs are whole or not there, carry their lineage,\n"
        "and are made again exactly when you ask.\n\n"
        f"commands:\n{lines}\n\n"
        "`superluigi COMMAND --help` explains one, with an example.\n\n" + "\n".join(wrapped(EXIT_CODES, room()))
    )


def _version() -> str:
    from importlib.metadata import version

    return f"superluigi {version('superluigi')} (luigi {version('luigi')}, Python {sys.version.split()[0]})"


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        raise UsageError(f"superluigi: which command? {', '.join(command_lines())}. {_ALL}")
    name, *rest = argv
    if name in ("-h", "--help", "help"):
        if name == "help" and rest:
            return _dispatch([rest[0], "--help"])
        say(_help())
        return 0
    if name in ("-V", "--version"):
        say(_version())
        return 0
    parser = command_parser(name)
    args = parser.parse_args(rest)
    if getattr(args, "home", None) is None:
        return int(load_command(name).main(args))
    from superluigi.runs import context as runs

    with runs.entered(runs.RunContext(store=args.home)):
        return int(load_command(name).main(args))


def program() -> NoReturn:
    """The `superluigi` command: run its command line and exit."""
    lean_import.install()
    code = main()
    # Python would look through all modules twice more while it ends: a fifth of the time of a short command.
    gc.collect()
    gc.freeze()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; our errors become advice on stderr."""
    if logging.lastResort is not None:  # what is logged reaches this terminal, unless Luigi's config says otherwise
        logging.lastResort.addFilter(visible_record)
    words = sys.argv[1:] if argv is None else argv
    terminal.hold_standard_descriptors()
    try:
        return _said(_dispatched(words))
    except Ended as end:
        return _said(end.code)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 each ends as its kind does; a terminal obeys nothing
        if type(error) is OptionError and not met_users_code(error):  # those below it are about what is there
            error = UsageError(message_of(error))
        elif isinstance(error, OSError) and isinstance(error.filename, (str, bytes)) and not met_users_code(error):
            error = _refused(error, os.fsdecode(error.filename))
        else:
            error = configuration.told_at_import(error) or error
        if "--json" in words:
            _output.print_error_json(error)
        return _said(_tell(error))


def _dispatched(words: Sequence[str]) -> int:
    _refuse_misread(words)
    try:
        return _dispatch(words)
    except FileNotFoundError as error:
        refuse_removed_folder(error)
        raise


def _refuse_misread(words: Sequence[str]) -> None:
    """Refuse text in an encoding that Python does not read here: it would be the name of no class and no file."""
    coding = sys.getfilesystemencoding()
    for word in words if coding != "utf-8" else ():
        if any("\udc80" <= letter <= "\udcff" for letter in word):
            raise UsageError(
                f"superluigi: {os.fsencode(word).decode(errors='replace')!r} cannot be read in {coding}, in which "
                "Python has arguments and names of files here. Set PYTHONUTF8=1, or a locale as LC_ALL=C.UTF-8."
            )


def _said(code: int) -> int:
    """The exit code, `code` unless what was wanted could not be written: a full disk is told, a reader that has gone
    (`| head`) has read what it wanted.
    """
    for err in (False, True):
        terminal.flush(err=err)
        error = terminal.refusal(err=err)
        if not isinstance(error, OSError):
            continue
        if not err and not isinstance(error, BrokenPipeError):
            say(f"stdout: {error.strerror}: what `superluigi` prints is not whole there.", err=True)
            code = code or 1
        # without this Python complains again when it flushes at exit
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), (sys.stderr if err else sys.stdout).fileno())
    return code


def _refused(error: OSError, path: str) -> SuperLuigiError:
    """What the system says of a path that a command was given, or came to, as advice."""
    kind = StorageAccessError if isinstance(error, PermissionError) else TargetError
    return kind(f"{cut_middle(path, _SHOWN)}: {error.strerror or message_of(error)}. Check the path and its rights.")


def _tell(error: BaseException) -> int:
    """Say on stderr why a command ends, and give the exit code."""
    if isinstance(error, UsageError):
        say(error, err=True)
        return 2
    if isinstance(error, SuperLuigiError):
        if not (error.told and same_place(sys.stdout, sys.stderr)):
            say(f"{type(error).__name__}: {error}", err=True)
        return 1
    if isinstance(error, KeyboardInterrupt):
        if not getattr(error, "told", False):
            say("interrupted", err=True)
        return 130
    say(traceback_of(error), err=True, end="")
    return 1

"""How commands speak: JSON for scripts, colour for terminals, questions before anything is destroyed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from superluigi.errors import OptionError
from superluigi.terminal import line as line
from superluigi.terminal import say, visible, visible_but_looks, visible_json, write

if TYPE_CHECKING:
    from rich.console import Console


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document for scripts")


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print one JSON document on stdout; paths, dates and other odd values as strings."""
    write(f"{visible_json(json.dumps(value, indent=indent, ensure_ascii=False, default=str))}\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console: colours and the terminal's width on a terminal, plain unwrapped text elsewhere."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Off a terminal rich would break lines at 80 columns, in the middle of paths that scripts read.
    return Console(file=stream, highlight=False, soft_wrap=True, width=None if stream.isatty() else 10_000)


def printed(text: str) -> str:
    """What a task printed, for a terminal: colours stay, unless NO_COLOR; what else it would obey is shown."""
    return visible(text) if os.environ.get("NO_COLOR") else visible_but_looks(text)


def yes_option(parser: argparse.ArgumentParser) -> None:
    """Add `--yes`, for commands that destroy."""
    parser.add_argument("--yes", action="store_true", help="do not ask (for scripts)")


def confirmed(what: str, *, yes: bool, items: Iterable[object] = ()) -> bool:
    """List `items` on stderr and ask `what?`; True when the user says yes, or `yes` is given.

    Raises:
        OptionError: nobody can be asked, since stdin is not a terminal.
    """
    for item in items:
        say(f"  {visible(item, one_line=True)}", err=True)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise OptionError(f"cannot ask whether to {what}: stdin is no terminal. Add --yes if that is meant.")
    say(f"{what}? [y/N] ", end="", err=True, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")

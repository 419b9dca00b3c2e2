"""How commands speak: JSON for scripts, colour for terminals, questions before anything is destroyed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from superluigi.errors import OptionError, SuperLuigiError, message_of
from superluigi.jsonable import document
from superluigi.terminal import (
    Part,
    cells,
    cut,
    cut_middle,
    from_here,
    here,
    is_terminal,
    room,
    say,
    visible,
    visible_but_looks,
    visible_json,
    write,
)
from superluigi.terminal import line as line

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document for scripts")


def print_json(value: object, indent: int | None = 2) -> None:
    """Print one JSON document on stdout; paths, dates and other odd values as strings."""
    write(f"{visible_json(document(value, indent=indent))}\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console: colours and the terminal's width on a terminal, plain unwrapped text elsewhere."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Off a terminal rich would break lines at 80 columns, in the middle of paths that scripts read.
    return Console(file=stream, highlight=False, soft_wrap=True, width=None if is_terminal(stream) else 10_000)


def printed(text: str) -> str:
    """What a task printed, for a terminal: colours stay, unless NO_COLOR; what else it would obey is shown."""
    return visible(text) if os.environ.get("NO_COLOR") else visible_but_looks(text)


def print_error_json(error: BaseException) -> None:
    """Print `{"error": {"code": …, "message": …}}`: what `--json` gives where a command cannot answer."""
    print_json({"error": {"code": error_code(type(error)), "message": message_of(error)}})


#: Codes of what is no error of ours.
_OTHER_CODES = {"UsageError": "usage", "KeyboardInterrupt": "interrupted"}


def error_code(kind: type[BaseException]) -> str:
    """The stable code of an error: the name of its class in `superluigi.errors`, or of the nearest base there, in small
    letters and without `Error` (`target_missing`); `usage`, `interrupted`, else `unexpected`.
    """
    for base in kind.__mro__:
        if base.__module__ == SuperLuigiError.__module__ and base is not SuperLuigiError:
            return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", base.__name__.removesuffix("Error")).lower()
        if base.__name__ in _OTHER_CODES:
            return _OTHER_CODES[base.__name__]
    return "unexpected"


class NotAskedError(OptionError):
    """There is no terminal to ask on, and `--yes` is not said: the command line can be read, and nothing is done."""


def yes_option(parser: argparse.ArgumentParser) -> None:
    """Add `--yes`, for commands that destroy."""
    parser.add_argument("--yes", action="store_true", help="do not ask (for scripts)")


def confirmed(what: str, *, yes: bool, items: Iterable[object] = ()) -> bool:
    """List `items` on stderr and ask `what?`; True when the user says yes, or `yes` is given.

    Raises:
        NotAskedError: stdin is no terminal to ask on.
    """
    for item in items:
        say(f"  {visible(item, one_line=True)}", err=True)
    if yes:
        return True
    if not is_terminal(sys.stdin):
        raise NotAskedError(f"cannot ask whether to {what}: stdin is no terminal. Add --yes if that is meant.")
    say(f"{what}? [y/N] ", end="", err=True, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Part]], *, right: Collection[int] = (), err: bool = False
) -> None:
    """Print aligned columns below their headers; on a terminal, long values are wrapped so that lines fit.

    Where the output is no terminal each row is one line (unless COLUMNS says how wide it may be), for `grep`.
    """
    rows = [list(row) for row in rows]
    texts = [[visible(_text(cell), one_line=True) for cell in row] for row in rows]
    styles = [[cell[1] if isinstance(cell, tuple) else "" for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(headers, *texts, strict=True)]
    space = room(err=err)
    if space is not None:
        widths = _fitted(widths, [cells(one) for one in headers], space - 2 * (len(widths) - 1))
    line(("  ".join(_aligned(headers, widths, right)), "bold"), err=err)
    for row, looks in zip(texts, styles, strict=True):
        parts = [_broken(text, width) for text, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts))):
            shown = [part[number] if number < len(part) else "" for part in parts]
            pieces: list[Part] = []
            for text, look in zip(_aligned(shown, widths, right), looks, strict=True):
                pieces += [(text, look), "  "]
            line(*pieces[:-1], err=err)


def _aligned(texts: Sequence[str], widths: Sequence[int], right: Collection[int]) -> list[str]:
    padded = [_padded(text, width, at in right) for at, (text, width) in enumerate(zip(texts, widths, strict=True))]
    return [*padded[:-1], padded[-1].rstrip()]


def families(states: Iterable[tuple[str, str]], styles: Mapping[str, str]) -> None:
    """Print a line for each family: how many of its tasks are in which state. `states`: (family, state) of each."""
    counted: dict[str, dict[str, int]] = {}
    for family, state in states:
        counts = counted.setdefault(family, {})
        counts[state] = counts.get(state, 0) + 1
    width = max(map(cells, counted), default=0)
    for family, counts in counted.items():
        parts: list[Part] = []
        for state in [*(one for one in styles if one in counts), *(one for one in counts if one not in styles)]:
            parts += [(f"{counts[state]:,} {state}", styles.get(state, "")), ", "]
        line(f"{_padded(visible(family, one_line=True), width, False)}  ", *parts[:-1])


#: A graph of more tasks is told by families, unless each task is asked for.
MANY = 50
#: So many tasks of such a graph are named that are not as they should be.
NAMED = 20

#: So many tasks are listed, unless all are asked for.
LISTED = 100


def first_of(tasks: Sequence[Item], every: bool) -> Iterator[Item]:
    """Those that a list shows, and then a line that says how many more there are and what lists them."""
    yield from tasks if every else tasks[:LISTED]
    if len(tasks) > LISTED and not every:
        line((f"and {len(tasks) - LISTED:,} more: --all lists them", "grey"))


def all_option(parser: argparse.ArgumentParser) -> None:
    """Add `--all`, for commands that tell large graphs by families."""
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"each task, also of graphs of more than {MANY} tasks and of lists of more than {LISTED}",
    )


def _text(cell: Part) -> str:
    return cell[0] if isinstance(cell, tuple) else cell


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * max(0, width - cells(text))
    return blanks + text if right else text + blanks


def _fitted(widths: list[int], least: list[int], space: int) -> list[int]:
    """Narrower columns, the widest first, until all fit; none narrower than its header or 8."""
    widths, least = list(widths), [max(one, 8) for one in least]
    while sum(widths) > space:
        able = [at for at, width in enumerate(widths) if width > least[at]]
        if not able:
            break
        widest = max(able, key=lambda at: widths[at])
        second = max((widths[at] for at in able if at != widest), default=0)
        widths[widest] = max(least[widest], widths[widest] - (sum(widths) - space), min(second, widths[widest] - 1))
    return widths


def _broken(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells: broken at blanks, else behind a slash, else where they must be."""
    found = []
    while cells(text) > width:
        at = len(cut(text, width))
        blank, slash = text.rfind(" ", 1, at + 1), text.rfind("/", 1, at)
        at = blank if blank > width // 3 else slash + 1 if slash > width // 3 else max(1, at)
        found.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*found, text]


def shortened(paths: Sequence[str]) -> tuple[str, list[str]]:
    """A header, and paths as one reads them best: relative to here, or all of them to the store."""
    from superluigi import config

    store = str(config.get("store"))
    there = f"{store.rstrip('/')}/" if "://" in store else os.path.join(os.path.abspath(store), "")
    if paths and not (here() and there.startswith(here())) and all(path.startswith(there) for path in paths):
        return f"output (in {there})", [path.removeprefix(there) for path in paths]
    return "output", [from_here(path) for path in paths]


#: Longer values of parameters are cut on a screen; `--json` has them whole.
_LONGEST_VALUE = 200


def named(told: Mapping[str, Any]) -> str:
    """`Family(name=value, …)` with public parameters only."""
    params = (f"{name}={cut_middle(str(value), _LONGEST_VALUE)}" for name, value in (told["params"] or {}).items())
    return f"{told['task_family']}({', '.join(params)})"

"""The one place where text reaches a terminal: what data says is shown there, never obeyed.

Names, parameters, errors and records come from outside. A control character in them could move the cursor, rewrite a
list that is to be confirmed, or the title of the window; a mark of direction could turn a name around.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from superluigi.errors import traceback_of

#: C0 without tab and newline, DEL, C1; marks of direction, separators of lines, lone surrogates.
_UNSEEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_UNSEEN}]")
_IN_LINE = re.compile(f"[{_UNSEEN}\t\n]")
#: Select Graphic Rendition (ECMA-48, 8.3.117): colours, bold and the like, which change nothing but looks.
_LOOKS = re.compile(r"\x1b\[[0-9;:]*m")


def visible(text: object, *, one_line: bool = False) -> str:
    """`text` with what a terminal would obey written out (`\\x1b`); in `one_line`, tabs and newlines too."""
    return (_IN_LINE if one_line else _IN_TEXT).sub(lambda found: ascii(found[0])[1:-1], str(text))


def visible_but_looks(text: str) -> str:
    """As `visible`, but colours stay: for what a program printed. A return to the line's start is a new line."""
    text = re.sub(r"\r+\n?", "\n", text)
    parts = _LOOKS.split(text)
    looks = [*_LOOKS.findall(text), ""]
    return "".join(f"{visible(part)}{look}" for part, look in zip(parts, looks, strict=True))


def visible_json(text: str) -> str:
    """A JSON document with the same value whose characters can all be seen: JSON has escapes of its own."""
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def visible_record(record: logging.LogRecord) -> bool:
    """A filter for loggers and handlers: lines of a log that hold what a terminal would obey say it visibly."""
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = visible(traceback_of(record.exc_info[1]).rstrip("\n"))
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - a value of the user's that cannot be printed: the handler says so
        return True
    if _IN_TEXT.search(message):
        record.msg, record.args = visible(message), ()
    return True


def say(text: object = "", *, err: bool = False, end: str = "\n", flush: bool = False) -> None:
    """Print `text`, which may hold data of others, to stdout or stderr."""
    write(f"{visible(text)}{end}", err=err, flush=flush)


def write(text: str, *, err: bool = False, flush: bool = False) -> None:
    """Write text that is visible already; what the stream's encoding has not is written out.

    What cannot be said stops nothing: where a stream is closed, full, or has no reader any more, text is lost, and
    `refusal` tells why.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        if flush:
            stream.flush()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        if refusal(err=err) is None:
            _refused[err] = (stream, error)


#: Of stderr (True) and stdout (False): the stream that did not take a text, and why not.
_refused: dict[bool, tuple[TextIO, Exception]] = {}


def refusal(*, err: bool = False) -> Exception | None:
    """Why stdout, or stderr, did not take a text; None if it took all."""
    stream, error = _refused.get(err, (None, None))
    return error if stream is (sys.stderr if err else sys.stdout) else None


def flush(*, err: bool = False) -> None:
    """Hand on what a stream still keeps."""
    write("", err=err, flush=True)


def hold_standard_descriptors() -> None:
    """Have the numbers 0, 1 and 2 mean something: where one is closed, the next file that is opened, an output perhaps,
    would get it, and with it all that children print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; one that is closed is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


#: A text, or a text with a style.
Part = str | tuple[str, str]
_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36, "grey": 90}


def line(*parts: Part, err: bool = False, indent: str | None = None) -> None:
    """Print a line of texts, some with a style: `line("3 of 5 ", ("failed", "red"))`.

    With `indent`, what a line has no room for goes on in the next one, behind it.

    Colours only on a terminal that knows them (or with FORCE_COLOR), never with NO_COLOR; control characters (of a
    parameter, a path, an error) are shown, not obeyed. Rich would do this too, but takes a tenth of a second to
    import and nearly a millisecond a line.
    """
    if indent is not None and (width := room(err=err)) is not None:
        for found in wrapped_parts(parts, width, indent):
            line(*found, err=err)
        return
    coloured = _coloured(sys.stderr if err else sys.stdout)
    texts = (part if isinstance(part, tuple) else (part, "") for part in parts)
    write("".join([*(_painted(visible(text, one_line=True), style, coloured) for text, style in texts), "\n"]), err=err)


def _painted(text: str, style: str, coloured: bool) -> str:
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and text and coloured else text


def _coloured(stream: TextIO | None) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (is_terminal(stream) and os.environ.get("TERM") != "dumb")


def same_place(one: TextIO | None, other: TextIO | None) -> bool:
    """Whether what goes to one stream is read beside what goes to the other: one terminal, one log."""
    if one is None or other is None:
        return False
    try:
        if is_terminal(one) and is_terminal(other):
            return True
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):
        return False


def columns(*, err: bool = False) -> int | None:
    """The width of the terminal; None where the stream is none, and lines may be as long as they like."""
    stream = sys.stderr if err else sys.stdout
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if is_terminal(stream) else None
    except (OSError, ValueError):
        return None


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(0 if category(one) in ("Mn", "Me", "Cf") else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def room(*, err: bool = False) -> int | None:
    """How wide lines of a command may be: as the terminal is; elsewhere as COLUMNS says, else as they like."""
    given = os.environ.get("COLUMNS", "")
    return columns(err=err) or (int(given) if given.isdecimal() else None)


_WORD = re.compile(r"\s*\S+|\s+$")


def wrapped(text: str, width: int | None, indent: str = "") -> Iterator[str]:
    """`text` as lines of at most `width`, all but the first behind `indent`; paths and other words stay whole."""
    for parts in wrapped_parts([text], width, indent):
        yield "".join(part if isinstance(part, str) else part[0] for part in parts)


def wrapped_parts(parts: Iterable[Part], width: int | None, indent: str = "") -> Iterator[list[Part]]:
    """As `wrapped`, of texts with styles; a line may end between two of them."""
    shown: list[Part] = []
    used, least, blank = 0, cells(indent), 0  # the first line has no indent
    for part in parts:
        text, style = part if isinstance(part, tuple) else (part, "")
        for word in _WORD.findall(visible(text, one_line=True)) if width is not None else [text]:
            if shown and width is not None and used > blank and used + cells(word) > max(width, least + 20):
                if not word.strip():
                    continue
                yield shown
                shown, used, blank, word = [indent], least, least, word.lstrip()
            shown.append((word, style))
            used += cells(word)
    yield shown


def below_branch(prefix: str) -> str:
    """What stands below a branch of a tree, before what belongs to it."""
    return prefix.replace("├── ", "│   ").replace("└── ", "    ")


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` columns: its beginning and its end, which tell more than its middle."""
    if cells(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{cut(text, head)}…{cut(text[::-1], width - 1 - head)[::-1]}"


def cut(text: str, width: int) -> str:
    """The beginning of `text` that takes at most `width` columns."""
    text = text[: max(0, width)]
    while cells(text) > width:
        text = text[:-1]
    return text


def from_here(path: str) -> str:
    """A path as one reads it best, and can give it to commands: relative to the current folder, if it is in there."""
    return path.removeprefix(here())


def here() -> str:
    """What paths in the current folder begin with; empty if that has been removed."""
    try:
        return os.path.join(os.getcwd(), "")
    except FileNotFoundError:
        return ""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: what it displays stands below a cell, and can be replaced."""
    module = sys.modules.get("IPython")  # never imported for this question
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")

"""The one place where text reaches a terminal: what data says is shown there, never obeyed.

Names, parameters, errors and records are other people's. A control character in them could move the cursor, rewrite a
list that is to be confirmed, or the title of the window; a mark of direction could turn a name around.
"""

from __future__ import annotations

import logging
import re
import sys

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
    if record.exc_info and not record.exc_text:
        record.exc_text = visible(logging.Formatter().formatException(record.exc_info))
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
    """Write text that is visible already; what the stream's encoding has not is written out."""
    stream = sys.stderr if err else sys.stdout
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
    if flush:
        stream.flush()

"""Tracebacks begin at the user's first line: the frames of Luigi and Super Luigi above it help to find no fault."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import re
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

import luigi

from superluigi import config
from superluigi.errors import USERS_CODE, SuperLuigiError, traceback_of

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TESTING = os.path.join(_PACKAGE, "testing", "")
_RUNNERS = tuple(
    os.path.join(os.path.dirname(os.path.abspath(file)), "")
    for file in (os.path.join(_PACKAGE, "errors.py"), luigi.__file__, concurrent.futures.__file__)
)
_FILES = {module.__file__ for module in (contextlib, functools, threading)}


def text_of(error: BaseException) -> str:
    """The traceback as text, trimmed; `error` itself is trimmed too."""
    with USERS_CODE:
        trim(error)
    return traceback_of(error)


def let_go(error: BaseException) -> None:
    """Forget what the lines of an error had at hand: a file, say, that is removed when nobody has it any more."""
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)


def trim(error: BaseException) -> None:
    """Drop the frames before the first of the user's, in `error` and in what it was raised from.

    An error of ours that no line of the user's has raised keeps no frame, since its text says all; any other keeps
    every one. The setting `full_tracebacks` switches this off.
    """
    if config.get("full_tracebacks"):
        return
    for one in _chain(error):
        first = _from_users(one)
        if first is not None or isinstance(one, SuperLuigiError):
            one.__traceback__ = first


def users_cause(error: BaseException) -> BaseException | None:
    """What to raise an advice from: `error`, or what in it was raised by code that is not ours, trimmed.

    None if all of it is ours and Luigi's, whose words the advice has already. The setting `full_tracebacks` keeps all.
    """
    if config.get("full_tracebacks"):
        return error
    for one in _chain(error):
        first = _from_users(one)
        if first is not None:
            one.__traceback__ = first
            return one
    return None


def _from_users(error: BaseException) -> TracebackType | None:
    found = error.__traceback__
    while found is not None and not _is_users(found):
        found = found.tb_next
    return found


def _is_users(found: TracebackType) -> bool:
    name = found.tb_frame.f_code.co_filename
    return name.startswith(_TESTING) or not (name in _FILES or name.startswith(_RUNNERS))


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += (one.__cause__, one.__context__)
            waiting += getattr(one, "exceptions", ())  # of a group


class Frame(NamedTuple):
    """A place that a traceback names."""

    file: str
    line: int
    function: str
    code: str


#: A frame of a formatted traceback; in those of groups a margin stands before it. Its code, if there is a source to be
#: read, is indented deeper than frames are.
_FRAME = re.compile(
    r'^[ |+-]*File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.+)\n'
    r"(?:(?:[ |]*\|)? {4,}(?P<code>[^ |\n].*)\n)?",
    re.MULTILINE,
)
_BLOCK = re.compile(r"^[ |+-]*(?:Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE)
_LIBRARIES = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")})


def users_frames(text: str) -> list[Frame]:
    """The frames of a formatted traceback that are neither a library's nor ours, outermost first.

    Of an error that was raised from another its own; the other's, where it has none.
    """
    for block in reversed(_BLOCK.split(text)):
        found = [
            Frame(one["file"], int(one["line"]), one["function"], (one["code"] or "").strip())
            for one in _FRAME.finditer(block)
        ]
        own = [frame for frame in found if not is_of_library(frame.file)]
        if own:
            return own
    return []


#: What Python writes between an error and the one that was raised from it.
_LINK = re.compile(
    r"^[ |]*(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n[ |]*\n",
    re.MULTILINE,
)
#: What Python draws below a line of code.
_MARKS = re.compile(r"[ |~^]*\n")


def end_of_frames(text: str) -> int:
    """Where the error itself begins in a formatted traceback; 0 in other texts."""
    end = 0
    for one in _FRAME.finditer(text):
        end = one.end()
    for link in _LINK.finditer(text, end):  # an error without frames of its own, raised from one that has some
        end = link.end()
    while end and (marks := _MARKS.match(text, end)) and marks.end() > end:
        end = marks.end()
    return end


def is_of_library(file: str) -> bool:
    """Whether a frame of this file is Python's, an installed package's or ours."""
    if "site-packages" in file or "dist-packages" in file:  # of the interpreter of another process
        return True
    return file.startswith((_PACKAGE + os.sep, *_LIBRARIES, "<frozen")) and not file.startswith(_TESTING)

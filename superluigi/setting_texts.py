"""From the texts of settings, as files and variables have them, to their values; `ValueError` says what is expected."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from superluigi.errors import OptionError

#: What a run does about a task that another process makes just now.
EXCLUSIVE = ("auto", "wait", "fail", "off")
Number = TypeVar("Number", int, float)


def flag(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected true or false")


def size(text: str) -> int | None:
    """`10GB`, `500 MiB`, `1000`; empty or `none` is no limit."""
    word = text.strip().lower()
    if word in ("", "none"):
        return None
    number = word.rstrip("ibkmgt").strip()
    unit = word[len(number) :].strip()
    base = 1024 if "i" in unit else 1000
    power = "bkmgt".find(unit[:1] or "b")
    try:
        if power < 0 or unit not in ("", "b", *(u + s for u in "kmgt" for s in ("", "b", "i", "ib"))):
            raise ValueError(unit)
        return int(amount(number) * base**power)
    except ValueError:
        raise ValueError("expected a size such as 10GB or 500MiB, or none") from None


def amount(text: str) -> float:
    return _at_least_nothing(float, text, "a number of 0 or more")


def count(text: str) -> int:
    return _at_least_nothing(int, text, "a whole number of 0 or more")


def _at_least_nothing(kind: Callable[[str], Number], text: str, expected: str) -> Number:
    try:
        value = kind(text)
        if 0 <= value < math.inf:
            return value
    except ValueError:
        pass
    raise ValueError(f"expected {expected}")


def exclusive(text: str) -> str:
    word = text.strip().lower()
    if word not in EXCLUSIVE:
        raise ValueError(f"expected one of {', '.join(EXCLUSIVE)}")
    return word


def address(text: str) -> str:
    """A folder, or where else outputs may live, as it is written: who makes targets of it judges addresses."""
    if not SCHEME.match(text):
        folder(text)
    return text


#: How addresses begin that are no paths; `C:` alone is a drive.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def folder(text: str) -> Path:
    if text.strip() in ("", "None") or "\0" in text:
        raise ValueError(f"expected a folder, which {text!r} does not name (without the setting there is a default)")
    if SCHEME.match(text):
        raise ValueError("expected a folder of this machine, and no address")
    try:
        return at_home(text).absolute()
    except FileNotFoundError:
        raise ValueError(
            "expected a folder (the one that this process works in has been removed; change to another, or write a "
            "path that begins with /)"
        ) from None
    except OptionError as error:
        raise ValueError(f"expected a folder ({str(error).rstrip('.')})") from None


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder that a `~` or `~user` at its beginning means.

    Raises:
        OptionError: that home is not known.
    """
    try:
        plain = path if isinstance(path, Path) else Path(path)
        return plain.expanduser() if os.fspath(path).startswith("~") else plain
    except RuntimeError:
        user = plain.parts[0][1:]
        why = f"no user {user!r} has a home here; " if user else "this user has no home folder; set HOME, or "
        advice = "write ./~… for a name that begins so" if user else "write a path that does not begin with ~"
        raise OptionError(f"{os.fspath(path)!r}: {why}{advice}.") from None


#: Where a URL, or what was meant as one, may have a password: before the host, and among its options.
_PASSWORDS = (re.compile(r"(:/+[^:/@]*:).*(?=@)"), re.compile(r"([?&][^=&]*(?:password|secret)\w*=)[^&]*"))


def without_passwords(text: str, instead: str = "***") -> str:
    """A text as it may be shown: URLs in it say no password."""
    for password in _PASSWORDS:
        text = password.sub(rf"\g<1>{instead}", text)
    return text
